"""A job's state and since when it has it; the id and remedy of its last error and of a run's."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

COLUMNS = {
    "job": ("state", "state_since", "last_error_id", "last_error_hint"),
    "run": ("error_id", "error_hint"),
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
