"""What people do on the status page: who, from where, when and why."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "action",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("user_name", sa.Text),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("until", sa.Text),
    )
    op.create_index("action_job", "action", ["job", "id"])


def downgrade() -> None:
    raise RuntimeError(
        "an older syncd can't read this store: stop syncd, move syncd.db away, and start the older "
        "version; it begins a new store and adopts the files that are equal, without writing them "
        "again"
    )
