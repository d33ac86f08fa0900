"""The ledger knows each destination's real path, a head when its name was last checked, an endpoint its
pause, and a budget its installation.

Two spellings of one file (through a link above a destination) are one file.
"""

import hashlib
import json
import os

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BATCH = 1000
ROOT = 7  # where the entry of a ledger row holds the folder above the configured destination
DEFAULTS = [None, None, "ours", None]


def upgrade() -> None:
    op.add_column("file", sa.Column("real_path", sa.Text))
    op.create_index("file_real_path", "file", ["real_path"])
    op.add_column("head", sa.Column("checked_at", sa.Float))
    split_budgets()
    op.drop_column("notice", "next_at")
    op.add_column("delivery", sa.Column("paused_until", sa.Float))
    failures = sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0"))
    op.add_column("delivery", failures)
    connection = op.get_bind()
    roots: dict[str, str] = {}
    query = "SELECT path, job, row, seal FROM file WHERE path > :after ORDER BY path LIMIT :batch"
    after = ""
    while found := connection.execute(sa.text(query), {"after": after, "batch": BATCH}).all():
        after = found[-1][0]
        rows = [_with_real_path(*row, roots) for row in found]
        changed = [row for row in rows if row is not None]
        if changed:
            update = "UPDATE file SET row = :row, seal = :seal, real_path = :real_path"
            connection.execute(sa.text(f"{update} WHERE path = :path"), changed)


def split_budgets() -> None:
    """One budget for each installation; 0 is a token's. What was known of an App is learnt anew."""
    op.rename_table("budget", "old_budget")
    op.create_table(
        "budget",
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("installation", sa.Integer, primary_key=True),
        sa.Column("account", sa.Text),
        sa.Column("limit", sa.Integer),
        sa.Column("remaining", sa.Integer),
        sa.Column("reset_at", sa.Text),
    )
    columns = '"limit", remaining, reset_at'
    op.execute(
        f"INSERT INTO budget (identity, installation, {columns})"
        f" SELECT identity, 0, {columns} FROM old_budget"
    )
    op.drop_table("old_budget")


def _with_real_path(
    path: str, job: str, row: str, mark: str, roots: dict[str, str]
) -> dict[str, str] | None:
    """The row with its real path; None for a damaged one, which stays as it is."""
    try:
        if mark != seal(job, path, row):
            return None
        values = json.loads(row)
        root = values[0][ROOT] if len(values[0]) > ROOT else "/"
        if root not in roots:
            roots[root] = os.path.realpath(root)
    except (ValueError, TypeError, AttributeError, LookupError):
        return None
    real = f"{roots[root].rstrip('/')}/{path[len(root.rstrip('/')) + 1 :]}"
    padded = (values + DEFAULTS[len(values) :])[: len(DEFAULTS)] + [real]
    text = json.dumps(padded, separators=(",", ":"), ensure_ascii=False)
    return {"path": path, "row": text, "seal": seal(job, path, text), "real_path": real}


def seal(*values: str) -> str:
    """As it was when this was written: a migration keeps its own copy."""
    hasher = hashlib.blake2b(digest_size=8)
    for value in values:
        hasher.update(value.encode("utf-8", "surrogatepass") + b"\0")
    return hasher.hexdigest()
