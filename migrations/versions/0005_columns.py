"""Rows have columns: ledger, states, intents; standard names; what a run cost; one copy of each row's old checksum.

Rows are taken over in batches, so that memory stays bounded. A damaged row (its seal does not match) is left out, as it was
before; where that is a state or an intent, the job is marked so that its next run looks at everything.
"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

BATCH = 1000
TEXT, INTEGER, FLOAT, BLOB = sa.Text, sa.Integer, sa.Float, sa.LargeBinary

FILE_COLUMNS = (
    "path", "source", "blob_sha", "kind", "mode", "uid", "gid", "owner", "size_bytes", "executable", "lfs_pointer", "root",
    "dir_mode", "ownership", "wanted", "real_path", "mount_point", "stat_device", "stat_inode", "stat_size", "stat_mtime_ns",
    "stat_ctime_ns",
)  # fmt: skip
STATE_COLUMNS = (  # (column, the old field, its default)
    ("applied_commit", "applied_commit", None),
    ("applied_config_digest", "applied_digest", None),
    ("rejected_commit", "rejected_commit", None),
    ("rejected_config_digest", "rejected_digest", None),
    ("rejected_reason", "rejected_reason", None),
    ("rejected_by_policy", "rejected_untrusted", 0),
    ("accepted_commit", "trusted_commit", None),
    ("accepted_history", "trusted_for", None),
    ("reload_pending", "hook_owed", 0),
    ("reload_commit", "hook_commit", None),
    ("reload_attempts", "hook_attempts", 0),
    ("reload_tried_at", "hook_tried_at", None),
    ("undo_blob", "undo", None),
    ("undo_blobs", "undo_keeps", "[]"),
    ("undo_begun", "undoing", 0),
    ("reloaded_commit", "hook_previous", None),
    ("reload_since", "hook_since", None),
    ("paused_until", "paused_until", None),
    ("paused_reason", "paused_reason", None),
    ("held", "held", 0),
    ("failures", "failures", 0),
    ("consistent", "settled", 1),
    ("drifted_files", "drifted", 0),
    ("directories_to_fix", "folders_waiting", "[]"),
    ("files", "files", 0),
    ("applied_files_digest", "applied_files", None),
    ("last_change_at", "last_change_at", None),
    ("last_error_kind", "last_error_kind", None),
    ("last_error", "last_error", None),
    ("notified_as", "told", None),
)
STATE_ORDER = (
    "applied_commit", "applied_config_digest", "applied_files_digest", "files", "drifted_files", "consistent",
    "rejected_commit", "rejected_config_digest", "rejected_reason", "rejected_by_policy", "accepted_commit",
    "accepted_history", "reload_pending", "reload_commit", "reload_attempts", "reload_tried_at", "reload_since",
    "reloaded_commit", "undo_blob", "undo_blobs", "undo_begun", "paused_until", "paused_reason", "held", "failures",
    "directories_to_fix", "last_change_at", "last_error_kind", "last_error", "notified_as",
)  # fmt: skip
ENTRY_DEFAULTS = [None, None, "file", None, None, "", None, "/", 0o755, None, None, None]
ROW_DEFAULTS = [None, None, "ours", None, None, None]


def upgrade() -> None:
    connection = op.get_bind()
    for table in ("file", "folder", "job", "intent", "applied_set", "run", "change", "head", "listing"):
        op.rename_table(table, f"old_{table}")
    for index in ("file_job", "file_real_path", "applied_set_job", "run_job", "change_run", "change_path"):
        op.drop_index(index)
    make_tables()
    take_over_files(connection)
    take_over_directories(connection)
    take_over_states(connection)
    take_over_intents(connection)
    take_over_sets_and_listings(connection)
    take_over_history()
    op.rename_table("budget", "rate_limit")
    op.rename_table("notice", "notification")
    for table in ("file", "folder", "job", "intent", "applied_set", "change", "run", "head", "listing"):
        op.drop_table(f"old_{table}")
    make_indexes()


def downgrade() -> None:
    raise RuntimeError(
        "an older syncd can't read this store: stop syncd, move syncd.db away, and start the older version;"
        " it begins a new store and adopts the files that are equal, without writing them again"
    )


def table(name: str, *columns: sa.Column) -> None:
    op.create_table(name, *columns)


def column(name: str, kind: type, *more: object, null: bool = True, key: bool = False) -> sa.Column:
    return sa.Column(name, kind, *more, primary_key=True) if key else sa.Column(name, kind, *more, nullable=null)


def make_tables() -> None:
    table(
        "file", column("path", TEXT, key=True), column("job", TEXT, null=False), column("repo", TEXT),
        column("commit_sha", TEXT), column("source", TEXT, null=False), column("blob_sha", TEXT, null=False),
        column("kind", TEXT, null=False), column("mode", INTEGER, null=False), column("uid", INTEGER), column("gid", INTEGER),
        column("owner", TEXT), column("size_bytes", INTEGER), column("executable", INTEGER), column("lfs_pointer", TEXT),
        column("root", TEXT, null=False), column("dir_mode", INTEGER, null=False), column("ownership", TEXT, null=False),
        column("wanted", TEXT), column("real_path", TEXT), column("mount_point", TEXT), column("stat_device", INTEGER),
        column("stat_inode", INTEGER), column("stat_size", INTEGER), column("stat_mtime_ns", INTEGER),
        column("stat_ctime_ns", INTEGER), column("checksum", TEXT, null=False),
    )  # fmt: skip
    table(
        "directory", column("path", TEXT, key=True), column("job", TEXT, null=False), column("checksum", TEXT, null=False)
    )
    flags = {"files", "drifted_files", "consistent", "rejected_by_policy", "reload_pending", "reload_attempts", "undo_begun"}
    flags |= {"held", "failures"}
    required = flags | {"undo_blobs", "directories_to_fix"}
    table(
        "job", column("name", TEXT, key=True),
        *(column(name, INTEGER if name in flags else TEXT, null=name not in required) for name in STATE_ORDER),
        column("checksum", TEXT, null=False), column("last_run_at", TEXT), column("last_success_at", TEXT),
    )  # fmt: skip
    table(
        "intent", column("job", TEXT, key=True), column("id", TEXT, null=False), column("commit_sha", TEXT, null=False),
        column("config_digest", TEXT, null=False), column("started_at", TEXT, null=False),
        column("needs_reload", INTEGER, null=False), column("reload_was_pending", INTEGER, null=False),
        column("directories", TEXT, null=False), column("checksum", TEXT, null=False),
    )  # fmt: skip
    table(
        "intent_action",
        column("job", TEXT, sa.ForeignKey("intent.job", ondelete="CASCADE", onupdate="CASCADE"), key=True),
        column("number", INTEGER, key=True), column("action", TEXT, null=False), column("path", TEXT, null=False),
        column("reason", TEXT, null=False), column("replaces_foreign", INTEGER, null=False), column("wanted", TEXT),
        column("ledger", TEXT), column("expected", TEXT),
    )  # fmt: skip
    table(
        "applied_set", column("id", INTEGER, key=True), column("job", TEXT, null=False), column("commit_sha", TEXT, null=False),
        column("config_digest", TEXT, null=False), column("applied_at", TEXT, null=False),
        column("pinned", INTEGER, null=False), column("files", BLOB, null=False), column("checksum", TEXT, null=False),
    )  # fmt: skip
    table(
        "run", column("id", INTEGER, key=True), column("job", TEXT, null=False), column("repo", TEXT), column("ref", TEXT),
        column("started_at", TEXT, null=False), column("trigger", TEXT, null=False), column("status", TEXT, null=False),
        column("commit_sha", TEXT), column("previous_commit_sha", TEXT), column("seconds", FLOAT, null=False),
        column("bytes_written", INTEGER, null=False), column("requests", INTEGER), column("error_kind", TEXT),
        column("error", TEXT),
    )  # fmt: skip
    table(
        "change", column("id", INTEGER, key=True),
        column("run", INTEGER, sa.ForeignKey("run.id", ondelete="CASCADE"), null=False),
        column("action", TEXT, null=False), column("path", TEXT, null=False), column("source", TEXT),
        column("before_sha", TEXT), column("after_sha", TEXT),
    )  # fmt: skip
    table(
        "head", column("scope", TEXT, key=True), column("repo", TEXT, key=True), column("ref", TEXT, key=True),
        column("commit_sha", TEXT, null=False), column("etag", TEXT), column("form", TEXT), column("checked_at", FLOAT),
        column("checksum", TEXT, null=False),
    )  # fmt: skip
    table(
        "listing", column("tree_sha", TEXT, key=True), column("entries", BLOB, null=False), column("checksum", TEXT, null=False)
    )
    table(
        "request_usage", column("identity", TEXT, key=True), column("installation", INTEGER, key=True),
        column("repo", TEXT, key=True), column("requests", INTEGER, null=False), column("hour_ends_at", TEXT, null=False),
    )  # fmt: skip
    table("token_expiry", column("identity", TEXT, key=True), column("expires_at", TEXT, null=False))
    table(
        "unavailable_repository", column("identity", TEXT, key=True), column("installation", INTEGER, key=True),
        column("repo", TEXT, key=True),
    )  # fmt: skip
    table("backoff", column("job", TEXT, key=True), column("until", TEXT, null=False))
    table(
        "webhook", column("id", INTEGER, key=True), column("last_at", TEXT), column("last_what", TEXT),
        column("refused_at", TEXT), column("refused_why", TEXT),
    )  # fmt: skip
    table(
        "heartbeat", column("name", TEXT, key=True), column("host", TEXT), column("pid", INTEGER),
        column("started_at", TEXT, null=False), column("beat_at", TEXT, null=False),
    )  # fmt: skip
    table(
        "installation", column("identity", TEXT, key=True), column("covers", TEXT, key=True),
        column("installation_id", INTEGER, null=False), column("account", TEXT),
    )  # fmt: skip


def make_indexes() -> None:
    op.create_index("file_job", "file", ["job"])
    op.create_index("file_real_path", "file", ["real_path"])
    op.create_index("applied_set_job", "applied_set", ["job"])
    op.create_index("run_job", "run", ["job", "id"])
    op.create_index("change_run", "change", ["run"])
    op.create_index("change_path", "change", ["path"])


def batches(connection: sa.Connection, old: str, columns: str):
    """The rows of the old table, some at once, in the order of their row ids."""
    query = sa.text(f"SELECT rowid, {columns} FROM {old} WHERE rowid > :after ORDER BY rowid LIMIT {BATCH}")
    after = -(1 << 63)
    while found := connection.execute(query, {"after": after}).all():
        after = found[-1][0]
        yield [row[1:] for row in found]


def put(connection: sa.Connection, name: str, rows: list[dict]) -> None:
    if rows:
        names = ", ".join(f'"{one}"' for one in rows[0])
        places = ", ".join(f":{one}" for one in rows[0])
        connection.execute(sa.text(f"INSERT INTO {name} ({names}) VALUES ({places})"), rows)


def take_over_files(connection: sa.Connection) -> None:
    for batch in batches(connection, "old_file", "path, job, row, seal"):
        rows = []
        for path, job, row, mark in batch:
            try:
                if mark == seal(job, path, row):
                    rows.append(file_row(job, path, json.loads(row)))
            except (ValueError, TypeError, AttributeError, LookupError):
                continue
        put(connection, "file", rows)


def file_row(job: str, path: str, old: list) -> dict:
    entry, stat, ownership, wanted, real, mount = old + ROW_DEFAULTS[len(old) :]
    blob, mode, kind, uid, gid, source, size, root, dir_mode, pointer, executable, owner = (
        entry + ENTRY_DEFAULTS[len(entry) :]
    )
    if stat is None or not all(-(1 << 63) <= one < 1 << 63 for one in stat[2:]):  # a time after 2262
        stat = [None] * 5
    device, inode, *rest = stat
    values = (
        path, source, blob, kind, mode, uid, gid, owner, size, None if executable is None else int(executable), pointer,
        root, dir_mode, ownership, None if wanted is None else compact(wanted), real or path, mount,
        signed(device), signed(inode), *rest,
    )  # fmt: skip
    return {"job": job, **dict(zip(FILE_COLUMNS, values, strict=True)), "checksum": checksum(job, *values)}


def take_over_directories(connection: sa.Connection) -> None:
    for batch in batches(connection, "old_folder", "path, job, seal"):
        whole = [(path, job) for path, job, mark in batch if is_whole(mark, job, path)]
        put(
            connection,
            "directory",
            [{"path": path, "job": job, "checksum": checksum(job, path)} for path, job in whole],
        )


def take_over_states(connection: sa.Connection) -> None:
    for batch in batches(connection, "old_job", "name, state, seal"):
        rows = []
        for name, text, mark in batch:
            if not isinstance(name, str):
                continue
            old = {"settled": False}
            try:
                if is_whole(mark, name, text):
                    old = json.loads(text)
            except ValueError:
                pass
            rows.append(state_row(name, old))
        put(connection, "job", rows)


def state_row(name: str, old: dict) -> dict:
    row = {}
    for new, field, default in STATE_COLUMNS:
        value = old.get(field, default)
        if isinstance(value, bool):
            value = int(value)
        row[new] = compact(value) if isinstance(value, list) else value
    return {
        "name": name,
        **row,
        "checksum": checksum(name, *(row[one] for one in STATE_ORDER)),
        "last_run_at": old.get("last_run_at"),
        "last_success_at": old.get("last_success_at"),
    }


def take_over_intents(connection: sa.Connection) -> None:
    """One at a time: an intent has every action of its run. A damaged one marks its job."""
    for (job,) in connection.execute(sa.text("SELECT job FROM old_intent")).all():
        if not isinstance(job, str):
            continue
        query = sa.text("SELECT body, seal FROM old_intent WHERE job = :job")
        body, mark = connection.execute(query, {"job": job}).one()
        try:
            if not is_whole(mark, job, body):
                raise ValueError("damaged")
            head, steps = json.loads(body)
            row, actions = intent_rows(job, head, steps)
        except (ValueError, TypeError, LookupError):
            mark_inconsistent(connection, job)
            continue
        put(connection, "intent", [row])
        put(connection, "intent_action", actions)


def intent_rows(job: str, head: list, steps: list) -> tuple[dict, list[dict]]:
    identity, of_job, commit, digest, directories, needs_reload, started_at, was_pending = head
    actions = []
    for number, (verb, path, want, had, expect, reason, replaces_foreign) in enumerate(steps):
        had = None if had is None else compact(json.loads(had))
        texts = [None if value is None else compact(value) for value in (want, expect)]
        actions.append((number, verb, path, reason, int(replaces_foreign), texts[0], had, texts[1]))
    values = (
        of_job, identity, commit, digest, started_at, int(needs_reload), int(was_pending), compact(directories),
    )  # fmt: skip
    names = (
        "job", "id", "commit_sha", "config_digest", "started_at", "needs_reload", "reload_was_pending", "directories", "checksum",
    )  # fmt: skip
    columns = ("number", "action", "path", "reason", "replaces_foreign", "wanted", "ledger", "expected")
    row = dict(zip(names, (*values, checksum(*values, actions)), strict=True))
    return row, [{"job": job, **dict(zip(columns, one, strict=True))} for one in actions]


def mark_inconsistent(connection: sa.Connection, job: str) -> None:
    names = STATE_ORDER
    query = sa.text(f"SELECT {', '.join(names)}, last_run_at, last_success_at FROM job WHERE name = :name")
    found = connection.execute(query, {"name": job}).first()
    row = dict(zip([*names, "last_run_at", "last_success_at"], found, strict=True)) if found else state_row(job, {})
    row = {"name": job, **row, "consistent": 0}
    row["checksum"] = checksum(job, *(row[name] for name in names))
    connection.execute(sa.text("DELETE FROM job WHERE name = :name"), {"name": job})
    put(connection, "job", [row])


def take_over_sets_and_listings(connection: sa.Connection) -> None:
    chosen = 'job, "commit", digest, applied_at, pinned, files, seal, id'
    for batch in batches(connection, "old_applied_set", chosen):
        for job, commit, digest, applied_at, pinned, files, mark, number in batch:
            if is_whole(mark, job, commit, body=files):
                row = {
                    "id": number, "job": job, "commit_sha": commit, "config_digest": digest, "applied_at": applied_at,
                    "pinned": pinned, "files": files, "checksum": checksum(job, commit, body=files),
                }  # fmt: skip
                put(connection, "applied_set", [row])
    for batch in batches(connection, "old_listing", "tree, body, seal"):
        for tree, body, mark in batch:
            if is_whole(mark, tree, body=body):
                put(
                    connection,
                    "listing",
                    [{"tree_sha": tree, "entries": body, "checksum": checksum(tree, body=body)}],
                )
    for batch in batches(connection, "old_head", 'scope, repo, ref, "commit", etag, form, checked_at, seal'):
        rows = []
        for scope, repo, ref, commit, etag, form, checked_at, mark in batch:
            told = ["-" if value is None else f"={value}" for value in (etag, form)]
            if is_whole(mark, scope, repo, ref, commit, *told):
                rows.append(
                    {
                        "scope": scope, "repo": repo, "ref": ref, "commit_sha": commit, "etag": etag, "form": form,
                        "checked_at": checked_at, "checksum": checksum(scope, repo, ref, commit, etag, form),
                    }
                )  # fmt: skip
        put(connection, "head", rows)


def take_over_history() -> None:
    op.execute(
        'INSERT INTO run (id, job, started_at, "trigger", status, commit_sha, previous_commit_sha, seconds, bytes_written,'
        ' error_kind, error) SELECT id, job, started_at, "trigger", status, "commit", previous, seconds, bytes, error_kind, error'
        " FROM old_run"
    )
    op.execute(
        "INSERT INTO change (id, run, action, path, source, before_sha, after_sha)"
        " SELECT id, run, action, path, source, before, after FROM old_change WHERE run IN (SELECT id FROM run)"
    )


def signed(number: int | None) -> int | None:
    return number - (1 << 64) if number is not None and number >= 1 << 63 else number


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def is_whole(mark: object, *texts: object, body: object = b"") -> bool:
    try:
        return mark == seal(*texts, body=body)
    except (TypeError, AttributeError):
        return False


def seal(*texts: str, body: bytes = b"") -> str:
    """The checksum of before, as it was: a migration keeps its own copy."""
    whole = "\0".join((*texts, "")).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole + body + b"\0" if body else whole, digest_size=8).hexdigest()


def checksum(*values: object, body: bytes = b"") -> str:
    """The checksum of this version, as it was when this was written."""
    hasher = hashlib.blake2b(compact(values).encode(), digest_size=8)
    hasher.update(body)
    return hasher.hexdigest()
