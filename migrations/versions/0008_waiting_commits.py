"""The commit that waits to be applied, the one whose application has begun, and what `--now`
overrode.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

COLUMNS = {
    "job": (
        "waiting_commit",
        "waiting_until",
        "waiting_reason",
        "waiting_config_digest",
        "applying_commit",
    ),
    "run": ("overrode",),
}


def upgrade() -> None:
    for table, names in COLUMNS.items():
        for name in names:
            op.add_column(table, sa.Column(name, sa.Text))


def downgrade() -> None:
    raise RuntimeError(
        "an older syncd can't read this store: stop syncd, move syncd.db away, and start the older "
        "version; it begins a new store and adopts the files that are equal, without writing them "
        "again"
    )
