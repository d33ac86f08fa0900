"""The first schema of the fleet's database."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

EMPTY = sa.text("'{}'::jsonb")
ZERO = sa.text("0")
USER = sa.text("SESSION_USER")


def now(name):
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())


def ident():
    return sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True)


def job_id(**options):
    job = sa.ForeignKey("syncd.job.id", ondelete="CASCADE")
    return sa.Column("job_id", sa.BigInteger, job, nullable=False, **options)


def upgrade():
    op.create_table(
        "job",
        ident(),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("repo", sa.Text, nullable=False),
        sa.Column("ref", sa.Text),
        sa.Column("selector", JSONB, nullable=False, server_default=EMPTY),
        now("next_at"),
        sa.Column("worker", sa.Text),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("epoch", sa.BigInteger, nullable=False, server_default=ZERO),
        sa.Column("polled_at", sa.DateTime(timezone=True)),
        sa.Column("head_commit", sa.Text),
        sa.Column("head_etag", sa.Text),
        sa.Column("head_form", sa.Text),
        sa.Column("head_checked_at", sa.Float),
        sa.Column("sequence", sa.BigInteger, nullable=False, server_default=ZERO),
        sa.Column("settings", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False, server_default=ZERO),
        sa.Column("error_id", sa.Text),
        sa.Column("error", sa.Text),
        schema="syncd",
    )
    op.create_index("job_next_at", "job", ["next_at"], schema="syncd")
    op.create_table(
        "revision",
        ident(),
        job_id(),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("repo", sa.Text, nullable=False),
        sa.Column("ref", sa.Text),
        sa.Column("commit_sha", sa.Text, nullable=False),
        sa.Column("roots", JSONB, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        now("created_at"),
        sa.Column("released_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("job_id", "sequence"),
        schema="syncd",
    )
    op.create_table(
        "blob",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        now("created_at"),
        schema="syncd",
    )
    revision_key = sa.ForeignKey("syncd.revision.id", ondelete="CASCADE")
    op.create_table(
        "manifest",
        sa.Column("revision_id", sa.BigInteger, revision_key, primary_key=True),
        sa.Column("path", sa.Text, primary_key=True),
        sa.Column("mode", sa.Integer, nullable=False),
        sa.Column("blob_id", sa.Text, sa.ForeignKey("syncd.blob.id"), nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        schema="syncd",
    )
    op.create_index("manifest_blob", "manifest", ["blob_id"], schema="syncd")
    op.create_table(
        "agent",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("labels", JSONB, nullable=False, server_default=EMPTY),
        now("created_at"),
        sa.Column("created_by", sa.Text, nullable=False, server_default=USER),
        schema="syncd",
    )
    agent = sa.ForeignKey("syncd.agent.name", ondelete="CASCADE")
    op.create_table(
        "job_grant",
        sa.Column("agent", sa.Text, agent, primary_key=True),
        job_id(primary_key=True),
        now("created_at"),
        sa.Column("created_by", sa.Text, nullable=False, server_default=USER),
        schema="syncd",
    )
    op.create_table(
        "report",
        sa.Column("agent", sa.Text, primary_key=True, server_default=USER),
        job_id(primary_key=True),
        now("reported_at"),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("commit_sha", sa.Text),
        sa.Column("changes", sa.Integer, nullable=False),
        sa.Column("drifted", sa.Integer, nullable=False),
        sa.Column("reload_pending", sa.Boolean, nullable=False),
        sa.Column("error_id", sa.Text),
        sa.Column("error", sa.Text),
        schema="syncd",
    )
    op.create_table(
        "presence",
        sa.Column("agent", sa.Text, primary_key=True, server_default=USER),
        sa.Column("session", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        now("since"),
        now("seen_at"),
        schema="syncd",
    )
