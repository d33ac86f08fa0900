"""The store's tables. docs/store.md describes them for users; migrations/ brings older databases
here.

Commits and blobs are git ids in lower-case hex, modes are permission bits, times are RFC 3339 in
UTC (`*_at`), sizes are bytes, flags are 0 or 1. Rows that decide about files carry a `checksum`
(checksum.py): a damaged row is left out, never used.

Not columns, because no query needs them: the files of an applied set and the entries of a listing
(compressed JSON, read only whole), and the values of an intent's actions (JSON, read for crash
recovery).
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.schema import CreateIndex, CreateTable

VERSION = "0012"

METADATA = MetaData()

FILE = Table(
    "file",
    METADATA,
    Column("path", Text, primary_key=True),  # the destination, absolute
    Column("job", Text, nullable=False),
    Column("repo", Text),  # OWNER/NAME that the bytes came from; null for rows of before 0005
    Column("commit_sha", Text),  # the commit of the run that recorded this row last
    Column("source", Text, nullable=False),  # the path in the repository
    Column("blob_sha", Text, nullable=False),
    Column("kind", Text, nullable=False),  # file or link
    Column("mode", Integer, nullable=False),
    Column("uid", Integer),
    Column("gid", Integer),
    Column("owner", Text),  # the configured owner that uid and gid were looked up from
    Column("size_bytes", Integer),
    Column("executable", Integer),
    Column("lfs_pointer", Text),  # the blob id of the pointer, where Git LFS holds the content
    Column("root", Text, nullable=False),  # the operator's folder above the listed `to`
    Column("dir_mode", Integer, nullable=False),
    # ours, met (left alone by policy), dropped (upstream, left by prune: off)
    Column("ownership", Text, nullable=False),
    Column("wanted", Text),  # JSON: what upstream has, where a policy left another file
    Column("real_path", Text),
    Column("mount_point", Text),
    Column("stat_device", Integer),
    Column("stat_inode", Integer),
    Column("stat_size", Integer),
    Column("stat_mtime_ns", Integer),
    Column("stat_ctime_ns", Integer),
    Column("checksum", Text, nullable=False),
)

DIRECTORY = Table(
    "directory",
    METADATA,
    Column("path", Text, primary_key=True),  # one that syncd made
    Column("job", Text, nullable=False),
    Column("checksum", Text, nullable=False),
)

JOB = Table(
    "job",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("applied_commit", Text),
    Column("applied_config_digest", Text),
    Column("applied_files_digest", Text),
    Column("files", Integer, nullable=False),
    Column("drifted_files", Integer, nullable=False),
    Column("consistent", Integer, nullable=False),  # the last run finished whole
    Column("rejected_commit", Text),
    Column("rejected_config_digest", Text),
    Column("rejected_reason", Text),
    Column("rejected_by_policy", Integer, nullable=False),  # by `require`, not by a hook
    Column("accepted_commit", Text),  # what the next head has to follow (`require: fast_forward`)
    Column("accepted_history", Text),  # of which repository and ref
    Column("reload_pending", Integer, nullable=False),
    Column("reload_commit", Text),
    Column("reload_attempts", Integer, nullable=False),
    Column("reload_tried_at", Text),
    Column("reload_since", Text),
    Column("reloaded_commit", Text),  # the commit of the last successful reload
    Column("undo_blob", Text),  # the cached description of the files before
    Column("undo_blobs", Text, nullable=False),  # JSON: the contents that it needs
    Column("undo_begun", Integer, nullable=False),
    Column("paused_until", Text),
    Column("paused_reason", Text),
    Column("held", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    # JSON: whose mode or owner is still to be set
    Column("directories_to_fix", Text, nullable=False),
    Column("last_change_at", Text),
    Column("last_error_kind", Text),
    Column("last_error", Text),
    Column("notified_as", Text),
    Column("checksum", Text, nullable=False),
    # these are outside the checksum: they decide nothing about files
    Column("last_run_at", Text),
    Column("last_success_at", Text),
    Column("state", Text),  # as of the last run or command: a pause may have ended since
    Column("state_since", Text),
    Column("last_error_id", Text),
    Column("last_error_hint", Text),
    # Since 0007, within the checksum where they are set: a change whose health is not known yet.
    Column("health_commit", Text),
    Column("health_config_digest", Text),
    Column("health_since", Text),  # the window is open from then on
    Column("health_checked_at", Text),
    Column("health_seconds", Float),  # of the window, that were watched
    Column("health_passed", Integer),
    Column("health_failed", Integer),  # in a row
    Column("health_last", Text),  # passed, failed, not_run
    Column("health_reason", Text),
    # Since 0008, within the checksum where they are set: `apply:`.
    Column("waiting_commit", Text),  # not applied yet, outside the windows of `apply:`
    Column("waiting_until", Text),
    Column("waiting_reason", Text),
    Column("waiting_config_digest", Text),  # of the hooks that judged it
    Column("applying_commit", Text),  # whose application has begun and has not been finished
    Column("reload_deferred_until", Text),  # since 0009: put off by `reload:`
)

INTENT = Table(
    "intent",
    METADATA,
    Column("job", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("commit_sha", Text, nullable=False),
    Column("config_digest", Text, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("needs_reload", Integer, nullable=False),
    Column("reload_was_pending", Integer, nullable=False),
    Column("directories", Text, nullable=False),  # JSON: those that will be made
    Column("checksum", Text, nullable=False),  # over its actions too
)

INTENT_ACTION = Table(
    "intent_action",
    METADATA,
    Column(
        "job",
        Text,
        ForeignKey("intent.job", ondelete="CASCADE", onupdate="CASCADE"),
        primary_key=True,
    ),
    Column("number", Integer, primary_key=True),
    Column("action", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("replaces_foreign", Integer, nullable=False),
    Column("wanted", Text),
    Column("ledger", Text),
    Column("expected", Text),
)

APPLIED_SET = Table(
    "applied_set",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("commit_sha", Text, nullable=False),
    Column("config_digest", Text, nullable=False),
    Column("applied_at", Text, nullable=False),
    Column("pinned", Integer, nullable=False),  # always 0: nothing uses it
    Column("files", LargeBinary, nullable=False),
    Column("checksum", Text, nullable=False),
)

RUN = Table(
    "run",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("repo", Text),
    Column("ref", Text),
    Column("started_at", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("commit_sha", Text),
    Column("previous_commit_sha", Text),
    Column("seconds", Float, nullable=False),
    Column("bytes_written", Integer, nullable=False),
    # HTTP exchanges of this run, without those that it shared with another
    Column("requests", Integer),
    Column("error_kind", Text),
    Column("error", Text),
    Column("error_id", Text),
    Column("error_hint", Text),
    Column("overrode", Text),  # what of `apply:` would have kept the commit, but for `--now`
    # runs in a row with one result share a row: when the first began; null before 0012
    Column("first_started_at", Text),
)

CHANGE = Table(
    "change",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("run", Integer, ForeignKey("run.id", ondelete="CASCADE"), nullable=False),
    Column("action", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("source", Text),
    Column("before_sha", Text),
    Column("after_sha", Text),
)

# Who made a commit, where something else that syncd reads says so.
COMMIT_SUMMARY = Table(
    "commit_summary",
    METADATA,
    Column("commit_sha", Text, primary_key=True),
    Column("subject", Text, nullable=False),  # the first line of its message
    Column("author", Text, nullable=False),
    Column("noted_at", Text, nullable=False),
)

# What a person did on the status page.
ACTION = Table(
    "action",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job", Text, nullable=False),
    Column("action", Text, nullable=False),  # sync, pause or resume
    Column("at", Text, nullable=False),
    Column("user_name", Text),  # of `web.users`; null for `web.password`
    Column("client", Text, nullable=False),  # its address, or `this machine`
    Column("reason", Text),
    Column("until", Text),  # of a pause
)

HEAD = Table(
    "head",
    METADATA,
    Column("scope", Text, primary_key=True),  # API address and identity
    Column("repo", Text, primary_key=True),
    Column("ref", Text, primary_key=True),  # "" for the default branch
    Column("commit_sha", Text, nullable=False),
    Column("etag", Text),
    Column("form", Text),  # how the ref was asked for
    # Unix seconds: when a short name was last compared with its namesakes
    Column("checked_at", Float),
    Column("checksum", Text, nullable=False),
)

LISTING = Table(
    "listing",
    METADATA,
    Column("tree_sha", Text, primary_key=True),
    Column("entries", LargeBinary, nullable=False),
    Column("checksum", Text, nullable=False),
)

RATE_LIMIT = Table(
    "rate_limit",
    METADATA,
    Column("identity", Text, primary_key=True),
    Column("installation", Integer, primary_key=True),  # 0 for a token
    Column("account", Text),
    Column("limit", Integer),
    Column("remaining", Integer),
    Column("reset_at", Text),
)

NOTIFICATION = Table(
    "notification",
    METADATA,
    # where its address is read from: the address itself is a secret
    Column("endpoint", Text, primary_key=True),
    Column("job", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("body", Text, nullable=False),
    # Unix seconds, as the other times of these two tables
    Column("created_at", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
)

DELIVERY = Table(
    "delivery",
    METADATA,
    Column("endpoint", Text, primary_key=True),
    Column("host", Text),
    Column("sent", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("dropped", Integer, nullable=False),
    Column("last_sent_at", Float),
    Column("last_failed_at", Float),
    Column("error", Text),
    Column("paused_until", Float),
    Column("failures", Integer, nullable=False, server_default=text("0")),
)

# Facts that decide nothing about files (facts.py).

REQUEST_USAGE = Table(
    "request_usage",
    METADATA,
    Column("identity", Text, primary_key=True),
    Column("installation", Integer, primary_key=True),  # 0 for a token
    Column("repo", Text, primary_key=True),
    Column("requests", Integer, nullable=False),  # that the hourly limit was charged for
    Column("hour_ends_at", Text, nullable=False),
)

TOKEN_EXPIRY = Table(
    "token_expiry",
    METADATA,
    Column("identity", Text, primary_key=True),
    Column("expires_at", Text, nullable=False),
)

UNAVAILABLE_REPOSITORY = Table(
    "unavailable_repository",
    METADATA,
    Column("identity", Text, primary_key=True),
    Column("installation", Integer, primary_key=True),
    Column("repo", Text, primary_key=True),  # in lower case; an App's token is refused for it
)

RELOAD_START = Table(
    "reload_start",
    METADATA,
    Column("command", Text, primary_key=True),  # a digest of the command of `on_change`
    Column("started_at", Text, nullable=False),
)

BACKOFF = Table(
    "backoff",
    METADATA,
    Column("job", Text, primary_key=True),
    Column("until", Text, nullable=False),
)

WEBHOOK = Table(
    "webhook",
    METADATA,
    Column("id", Integer, primary_key=True),  # there is one row
    Column("last_at", Text),
    Column("last_what", Text),
    Column("refused_at", Text),
    Column("refused_why", Text),
)

HEARTBEAT = Table(
    "heartbeat",
    METADATA,
    Column("name", Text, primary_key=True),  # daemon
    Column("host", Text),
    Column("pid", Integer),
    Column("started_at", Text, nullable=False),
    Column("beat_at", Text, nullable=False),
)

# What makes changes come late, and fails no run. `subject` is what `reason` is about.
STALENESS = Table(
    "staleness",
    METADATA,
    Column("reason", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("detail", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("count", Integer, nullable=False),
)

INSTALLATION = Table(
    "installation",
    METADATA,
    Column("identity", Text, primary_key=True),
    # an owner, or OWNER/NAME of a repository that has moved; in lower case
    Column("covers", Text, primary_key=True),
    Column("installation_id", Integer, nullable=False),
    Column("account", Text),  # as GitHub spells it
)

ALEMBIC_VERSION = Table(
    "alembic_version",
    METADATA,
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

INDEXES = (
    Index("file_job", FILE.c.job),
    Index("file_real_path", FILE.c.real_path),
    Index("applied_set_job", APPLIED_SET.c.job),
    Index("run_job", RUN.c.job, RUN.c.id),
    Index("change_run", CHANGE.c.run),
    Index("change_path", CHANGE.c.path),
    Index("action_job", ACTION.c.job, ACTION.c.id),
)


@cache
def statements() -> tuple[str, ...]:
    """Return the SQL that creates every table and index of this version."""
    tables = [str(CreateTable(table)) for table in METADATA.sorted_tables]
    return (*tables, *(str(CreateIndex(index)) for index in INDEXES))
