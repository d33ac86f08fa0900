"""The fleet's tables, in the schema `syncd` of a PostgreSQL database.

migrations/fleet brings a database here, and sql/policies.sql says which login reads what. Commits
and blobs are git ids in lower-case hex, modes are git's, sizes are bytes. Every time is the
server's. Nothing in these tables names a command or a destination.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA = "syncd"
VERSION = "0004"  # of migrations/fleet
CONTROLLERS, AGENTS = "syncd_controller", "syncd_agent"  # the roles that a login is a member of
CHANNEL = "syncd"  # of NOTIFY; the payload is the name of a job

METADATA = MetaData(schema=SCHEMA)


def _id() -> Column[int]:
    return Column("id", BigInteger, Identity(always=True), primary_key=True)


def _job_id(**options: bool) -> Column[int]:
    job = ForeignKey(f"{SCHEMA}.job.id", ondelete="CASCADE")
    return Column("job_id", BigInteger, job, nullable=False, **options)  # type: ignore[arg-type]


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


JOB = Table(
    "job",
    METADATA,
    _id(),
    Column("name", Text, nullable=False, unique=True),
    Column("repo", Text, nullable=False),
    Column("ref", Text),  # NULL: the repository's default branch
    # the labels that an agent needs to get the job without a grant; {}: it needs a grant
    Column("selector", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    # the lease: who polls the job, until when, and how often it was claimed
    _now("next_at"),
    Column("worker", Text),
    Column("lease_until", DateTime(timezone=True)),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    # what the ref named when GitHub was last asked, and of what kind of question
    Column("polled_at", DateTime(timezone=True)),
    Column("head_commit", Text),
    Column("head_etag", Text),
    Column("head_form", Text),
    Column("head_checked_at", Float),
    # the last revision, and the settings of the job that it was made with
    Column("sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("settings", Text),
    # the failures in a row of polls, and the last one
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("error_id", Text),
    Column("error", Text),
    Index("job_next_at", "next_at"),
    # a halted job is neither polled nor released further, until an operator resumes it
    Column("halted_at", DateTime(timezone=True)),
    Column("halted_by", Text),
    Column("halted_reason", Text),
)

REVISION = Table(
    "revision",
    METADATA,
    _id(),
    _job_id(),
    Column("sequence", BigInteger, nullable=False),
    Column("repo", Text, nullable=False),
    Column("ref", Text),
    Column("commit_sha", Text, nullable=False),
    Column("roots", JSONB, nullable=False),  # the listed paths, a folder with a slash at its end
    Column("manifest_sha256", Text, nullable=False),
    Column("signature", LargeBinary, nullable=False),  # Ed25519 over manifest.signed_text
    Column("epoch", BigInteger, nullable=False),
    Column("worker", Text, nullable=False),
    _now("created_at"),
    Column("released_at", DateTime(timezone=True)),  # NULL: for the agents of its waves alone
    Column("rollout", JSONB),  # the job's `rollout:` as it was published; NULL: none
    Column("wave", Integer, nullable=False, server_default=text("0")),
    Column("wave_at", DateTime(timezone=True)),
    Column("stopped", Text),  # why no further wave follows by itself
    UniqueConstraint("job_id", "sequence"),
)

BLOB = Table(
    "blob",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    _now("created_at"),
)

MANIFEST = Table(
    "manifest",
    METADATA,
    Column(
        "revision_id",
        BigInteger,
        ForeignKey(f"{SCHEMA}.revision.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("path", Text, primary_key=True),
    Column("mode", Integer, nullable=False),
    Column("blob_id", Text, ForeignKey(f"{SCHEMA}.blob.id"), nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Index("manifest_blob", "blob_id"),
)

AGENT = Table(
    "agent",
    METADATA,
    Column("name", Text, primary_key=True),  # its login
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    _now("created_at"),
    Column("created_by", Text, nullable=False, server_default=text("SESSION_USER")),
)

GRANT = Table(
    "job_grant",
    METADATA,
    Column(
        "agent",
        Text,
        ForeignKey(f"{SCHEMA}.agent.name", ondelete="CASCADE"),
        primary_key=True,
    ),
    _job_id(primary_key=True),
    _now("created_at"),
    Column("created_by", Text, nullable=False, server_default=text("SESSION_USER")),
)

REPORT = Table(
    "report",
    METADATA,
    Column("agent", Text, primary_key=True, server_default=text("SESSION_USER")),
    _job_id(primary_key=True),
    _now("reported_at"),
    _now("since"),  # of the first report in a row that says the same
    Column("status", Text, nullable=False),  # as `sync --json` has it
    Column("commit_sha", Text),
    Column("sequence", BigInteger),  # of the revision; NULL: none, or an older agent
    Column("changes", Integer, nullable=False),
    Column("drifted", Integer, nullable=False),
    Column("reload_pending", Boolean, nullable=False),
    Column("error_id", Text),
    Column("error", Text),
    Column("checking", Boolean, nullable=False, server_default=text("false")),
)

WAVE_AGENT = Table(
    "wave_agent",
    METADATA,
    Column(
        "revision_id",
        BigInteger,
        ForeignKey(f"{SCHEMA}.revision.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("agent", Text, primary_key=True),
    Column("wave", Integer, nullable=False),
)

DECISION = Table(
    "decision",
    METADATA,
    _id(),
    _now("at"),
    Column("login", Text, nullable=False, server_default=text("SESSION_USER")),
    Column("who", Text, nullable=False),  # the user and host of the command, or a controller
    Column("job_id", BigInteger, ForeignKey(f"{SCHEMA}.job.id", ondelete="SET NULL")),
    Column("job", Text),  # its name, also when the fleet has forgotten it; NULL: of no single job
    Column("action", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

# One row for each boot of an agent's machine: two whose times overlap are two machines of one name.
PRESENCE = Table(
    "presence",
    METADATA,
    Column("agent", Text, primary_key=True, server_default=text("SESSION_USER")),
    Column("session", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    _now("since"),
    _now("seen_at"),
    # what its own configuration asks for: it gives nothing, `agent.labels` do
    Column("labels", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
)

CONTROLLER = Table(
    "controller",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("jobs", JSONB, nullable=False),  # name -> digest of what it lists
    _now("seen_at"),
)

__all__ = [
    "AGENT",
    "AGENTS",
    "BLOB",
    "CHANNEL",
    "CONTROLLER",
    "CONTROLLERS",
    "DECISION",
    "GRANT",
    "JOB",
    "MANIFEST",
    "METADATA",
    "PRESENCE",
    "REPORT",
    "REVISION",
    "SCHEMA",
    "VERSION",
    "WAVE_AGENT",
]
