"""Labels that agents ask for, which controllers list which jobs, reports that name their revision,
and decisions that outlive their job.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

EMPTY = sa.text("'{}'::jsonb")


def upgrade():
    labels = sa.Column("labels", JSONB, nullable=False, server_default=EMPTY)
    op.add_column("presence", labels, schema="syncd")
    op.add_column("report", sa.Column("sequence", sa.BigInteger), schema="syncd")
    op.create_table(
        "controller",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("jobs", JSONB, nullable=False),
        sa.Column(
            "seen_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
        ),
        schema="syncd",
    )
    op.add_column("decision", sa.Column("job", sa.Text), schema="syncd")
    op.alter_column("decision", "job_id", nullable=True, schema="syncd")
    op.drop_constraint("decision_job_id_fkey", "decision", schema="syncd")
    op.create_foreign_key(
        "decision_job_id_fkey",
        "decision",
        "job",
        ["job_id"],
        ["id"],
        source_schema="syncd",
        referent_schema="syncd",
        ondelete="SET NULL",
    )
    op.execute(
        "UPDATE syncd.decision SET job = job.name FROM syncd.job WHERE job.id = decision.job_id"
    )
