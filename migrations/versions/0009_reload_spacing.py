"""When a command of `on_change` last began, and until when a pending reload is put off."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "reload_start",
        sa.Column("command", sa.Text, primary_key=True),
        sa.Column("started_at", sa.Text, nullable=False),
    )
    op.add_column("job", sa.Column("reload_deferred_until", sa.Text))


def downgrade() -> None:
    raise RuntimeError(
        "an older syncd can't read this store: stop syncd, move syncd.db away, and start the older "
        "version; it begins a new store and adopts the files that are equal, without writing them "
        "again"
    )
