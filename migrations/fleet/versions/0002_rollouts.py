"""Waves of a rollout, jobs that are halted, and who decided what."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"

TIME = sa.DateTime(timezone=True)


def upgrade():
    for name, kind in (("halted_at", TIME), ("halted_by", sa.Text), ("halted_reason", sa.Text)):
        op.add_column("job", sa.Column(name, kind), schema="syncd")
    for column in (
        sa.Column("rollout", JSONB),
        sa.Column("wave", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("wave_at", TIME),
        sa.Column("stopped", sa.Text),
    ):
        op.add_column("revision", column, schema="syncd")
    checking = sa.Column("checking", sa.Boolean, nullable=False, server_default=sa.text("false"))
    op.add_column("report", checking, schema="syncd")
    op.create_table(
        "wave_agent",
        sa.Column(
            "revision_id",
            sa.BigInteger,
            sa.ForeignKey("syncd.revision.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("wave", sa.Integer, nullable=False),
        schema="syncd",
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("at", TIME, nullable=False, server_default=sa.func.now()),
        sa.Column("login", sa.Text, nullable=False, server_default=sa.text("SESSION_USER")),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column(
            "job_id",
            sa.BigInteger,
            sa.ForeignKey("syncd.job.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        schema="syncd",
    )
