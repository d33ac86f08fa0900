"""Since when an agent's job is as it is."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    now = sa.func.now()
    since = sa.Column("since", sa.DateTime(timezone=True), nullable=False, server_default=now)
    op.add_column("report", since, schema="syncd")
