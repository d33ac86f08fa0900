"""What makes changes come late and fails no run: a repository's new name, deliveries that miss."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "staleness",
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("since", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    raise RuntimeError(
        "an older syncd can't read this store: stop syncd, move syncd.db away, and start the older "
        "version; it begins a new store and adopts the files that are equal, without writing them "
        "again"
    )
