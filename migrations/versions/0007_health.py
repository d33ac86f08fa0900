"""A change whose health is not known yet."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

COLUMNS = (
    ("health_commit", sa.Text),
    ("health_config_digest", sa.Text),
    ("health_since", sa.Text),
    ("health_checked_at", sa.Text),
    ("health_seconds", sa.Float),
    ("health_passed", sa.Integer),
    ("health_failed", sa.Integer),
    ("health_last", sa.Text),
    ("health_reason", sa.Text),
)


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column("job", sa.Column(name, kind))


def downgrade() -> None:
    raise RuntimeError(
        "an older syncd can't read this store: stop syncd, move syncd.db away, and start the older "
        "version; it begins a new store and adopts the files that are equal, without writing them "
        "again"
    )
