"""Messages that wait to be sent, and what became of those that were."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "notice",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("job", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
    )
    op.create_table(
        "delivery",
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("host", sa.Text),
        sa.Column("sent", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("dropped", sa.Integer, nullable=False),
        sa.Column("last_sent_at", sa.Float),
        sa.Column("last_failed_at", sa.Float),
        sa.Column("error", sa.Text),
    )
