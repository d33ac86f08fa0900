"""The first schema: ledger, job states, intents, applied sets, runs, heads, listings, folders, budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "file",
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("row", sa.Text, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
    )
    op.create_index("file_job", "file", ["job"])
    op.create_table("folder", sa.Column("path", sa.Text, primary_key=True), sa.Column("job", sa.Text, nullable=False))
    op.create_table("job", sa.Column("name", sa.Text, primary_key=True), sa.Column("state", sa.Text, nullable=False), sa.Column("seal", sa.Text, nullable=False))
    op.create_table("intent", sa.Column("job", sa.Text, primary_key=True), sa.Column("body", sa.Text, nullable=False), sa.Column("seal", sa.Text, nullable=False))
    op.create_table(
        "applied_set",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("applied_at", sa.Text, nullable=False),
        sa.Column("pinned", sa.Integer, nullable=False),
        sa.Column("files", sa.LargeBinary, nullable=False),
        sa.Column("seal", sa.Text, nullable=False),
    )
    op.create_index("applied_set_job", "applied_set", ["job"])
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("started_at", sa.Text, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("commit", sa.Text),
        sa.Column("previous", sa.Text),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("error_kind", sa.Text),
        sa.Column("error", sa.Text),
    )
    op.create_index("run_job", "run", ["job", "id"])
    op.create_table(
        "change",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("run", sa.Integer, sa.ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("source", sa.Text),
        sa.Column("before", sa.Text),
        sa.Column("after", sa.Text),
    )
    op.create_index("change_run", "change", ["run"])
    op.create_index("change_path", "change", ["path"])
    op.create_table(
        "head",
        sa.Column("scope", sa.Text, primary_key=True),
        sa.Column("repo", sa.Text, primary_key=True),
        sa.Column("ref", sa.Text, primary_key=True),
        sa.Column("commit", sa.Text, nullable=False),
        sa.Column("etag", sa.Text),
        sa.Column("form", sa.Text),
    )
    op.create_table("listing", sa.Column("tree", sa.Text, primary_key=True), sa.Column("body", sa.LargeBinary, nullable=False), sa.Column("seal", sa.Text, nullable=False))
    op.create_table(
        "budget",
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("limit", sa.Integer),
        sa.Column("remaining", sa.Integer),
        sa.Column("reset_at", sa.Text),
    )
