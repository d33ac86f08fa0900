"""Values to rows and back: the ledger's, the states', the intents', the sets'.

What does not read back whole is damage, not data.

A row is a tuple in the order of its table's columns (schema.py).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import DecodeError, Struct, ValidationError, convert, to_builtins
from msgspec.json import Decoder, Encoder

from syncd.models import (
    Action,
    ActionKind,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    Stat,
    TreeEntry,
    WantedFile,
)
from syncd.ports import Intent, JobState
from syncd.store.checksum import checksum
from syncd.store.schema import FILE, INTENT, INTENT_ACTION, JOB

T = TypeVar("T")

ENCODE = Encoder().encode
ENTRY, LOCAL, RECORDED, TEXTS = (
    Decoder(WantedFile),
    Decoder(LocalFile),
    Decoder(LedgerRow),
    Decoder(tuple[str, ...]),
)
FILES, LISTING = Decoder(dict[str, WantedFile]), Decoder(list[tuple[str, int, str, int | None]])
KINDS = {kind.value: kind for kind in Kind}
OWNERSHIPS = {one.value: one for one in Ownership}
TOO_LARGE = 1 << 63  # of what SQLite's signed 64-bit integers can't hold

# --- the ledger ----------------------------------------------------------------------------------

LEDGER = [
    FILE.c[name]
    for name in (
        "path",
        "source",
        "blob_sha",
        "kind",
        "mode",
        "uid",
        "gid",
        "owner",
        "size_bytes",
        "executable",
        "lfs_pointer",
        "root",
        "dir_mode",
        "ownership",
        "wanted",
        "real_path",
        "mount_point",
        "stat_device",
        "stat_inode",
        "stat_size",
        "stat_mtime_ns",
        "stat_ctime_ns",
    )
]


def ledger_values(path: str, row: LedgerRow) -> tuple[Any, ...]:
    """The values of a ledger row, in the order of LEDGER."""
    entry = row.entry
    return (
        path,
        entry.source,
        entry.blob,
        entry.kind.value,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.owner,
        entry.size,
        None if entry.executable is None else int(entry.executable),
        entry.pointer,
        entry.root,
        entry.dir_mode,
        row.ownership.value,
        None if row.wanted is None else ENCODE(row.wanted).decode(),
        row.real or path,
        row.mount,
        *_stat_values(row.stat),
    )


def recorded(values: Sequence[Any]) -> LedgerRow:
    """The ledger row of these values, in the order of LEDGER.

    Raises ValueError, KeyError for what no version of syncd wrote.
    """
    (
        _,
        source,
        blob,
        kind,
        mode,
        uid,
        gid,
        owner,
        size,
        executable,
        pointer,
        root,
        dir_mode,
        ownership,
        wanted,
        real,
        mount,
        device,
        inode,
        stat_size,
        mtime_ns,
        ctime_ns,
    ) = values
    return LedgerRow(
        WantedFile(
            blob,
            mode,
            KINDS[kind],
            uid,
            gid,
            source,
            size,
            root,
            dir_mode,
            pointer,
            None if executable is None else bool(executable),
            owner,
        ),
        None
        if device is None
        else Stat(_unsigned(device), _unsigned(inode), stat_size, mtime_ns, ctime_ns),
        OWNERSHIPS[ownership],
        None if wanted is None else ENTRY.decode(wanted),
        real,
        mount,
    )


def ledger(job: str, found: Iterable[Sequence[Any]]) -> dict[str, LedgerRow]:
    """Path -> row, of rows of the columns LEDGER and the checksum. Damaged ones are left out."""
    rows: dict[str, LedgerRow] = {}
    for *values, mark in found:
        try:
            if mark == checksum(job, *values):
                rows[values[0]] = recorded(values)
        except (ValueError, TypeError, KeyError):
            continue
    return rows


def _stat_values(stat: Stat | None) -> tuple[int | None, ...]:
    """What lstat said; nothing where a time is after 2262, which needs more than 64 bits: then the
    file is read at each run.
    """
    if stat is None or not all(
        -TOO_LARGE <= one < TOO_LARGE for one in (stat.size, stat.mtime_ns, stat.ctime_ns)
    ):
        return (None,) * 5
    return _signed(stat.device), _signed(stat.inode), stat.size, stat.mtime_ns, stat.ctime_ns


def _signed(number: int) -> int:
    return number - 2 * TOO_LARGE if number >= TOO_LARGE else number


def _unsigned(number: int) -> int:
    return number + 2 * TOO_LARGE if number < 0 else number


# --- sets and listings --------------------------------------------------------------------------


def set_to_bytes(rows: Mapping[str, LedgerRow]) -> bytes:
    """The set that the ledger's rows are: what upstream has for each, but for what `prune: off`
    left.
    """
    kept = {
        path: row.upstream for path, row in rows.items() if row.ownership is not Ownership.UNLISTED
    }
    return zlib.compress(ENCODE(kept), 1)


def files_from_bytes(body: bytes) -> dict[str, WantedFile]:
    return FILES.decode(zlib.decompress(body))


def listing_to_bytes(entries: Mapping[str, TreeEntry]) -> bytes:
    rows = [(path, entry.mode, entry.id, entry.size) for path, entry in entries.items()]
    return zlib.compress(_written(rows), 1)


def listing_from_bytes(body: bytes) -> dict[str, TreeEntry]:
    rows = _read(LISTING, zlib.decompress(body))
    return {path: TreeEntry(mode, identity, size) for path, mode, identity, size in rows}


def _written(value: Any) -> bytes:
    """JSON.

    A server may send a name with lone surrogates, which is no UTF-8: it is never written to disk,
    but remembered.
    """
    try:
        return ENCODE(value)
    except UnicodeEncodeError:
        return json.dumps(to_builtins(value), separators=(",", ":")).encode(
            "ascii"
        )  # which escapes them


def _read(decoder: Decoder[T], text: str | bytes) -> T:
    """What `_written` was given. Raises ValueError for what it never gave."""
    try:
        return decoder.decode(text)
    except ValidationError:
        raise
    except DecodeError:  # lone surrogates, or damage
        try:
            return convert(json.loads(text), decoder.type)
        except RecursionError as error:
            raise ValueError("this is nested too deep") from error


# --- states -------------------------------------------------------------------------------------

COLUMN_OF = {"drifted": "drifted_files", "undo": "undo_blob"}
FLAGS = {"rejected_by_policy", "reload_pending", "undo_begun", "held", "consistent"}
TIMES = {"reload_tried_at", "reload_since", "paused_until", "last_change_at"}
LISTS = {"undo_blobs", "directories_to_fix"}
UNCHECKED = ("last_run_at", "last_success_at")
FIELD_OF = {column: field for field, column in COLUMN_OF.items()}
STATE = [column for column in JOB.columns if column.name not in ("name", "checksum", *UNCHECKED)]
STATE_FIELDS = [FIELD_OF.get(column.name, column.name) for column in STATE]
WHOLE_STATE = [JOB.c.name, *STATE, JOB.c.checksum, *(JOB.c[name] for name in UNCHECKED)]


def state_row(job: str, state: JobState) -> dict[str, Any]:
    """The row of a job's state, by column."""
    values = [_state_value(name, getattr(state, name)) for name in STATE_FIELDS]
    row = dict(zip((column.name for column in STATE), values, strict=True))
    times = {name: _time_text(getattr(state, name)) for name in UNCHECKED}
    return {"name": job, **row, "checksum": checksum(job, *values), **times}


def state_from_row(row: Sequence[Any]) -> JobState:
    """The state of a row of WHOLE_STATE.

    For a damaged row: nothing is known, and the next run looks at everything.
    """
    job, *values, mark, run_at, success_at = row
    try:
        if mark == checksum(job, *values):
            found = {
                name: _state_field(name, value)
                for name, value in zip(STATE_FIELDS, values, strict=True)
            }
            return JobState(**found, last_run_at=aware(run_at), last_success_at=aware(success_at))
    except (ValueError, TypeError):
        pass
    return JobState(consistent=False)


def _state_value(name: str, value: Any) -> Any:
    if name in FLAGS:
        return int(value)
    if name in LISTS:
        return ENCODE(value).decode()
    return _time_text(value) if name in TIMES else value


def _state_field(name: str, value: Any) -> Any:
    if name in FLAGS:
        return bool(value)
    if name in LISTS:
        return TEXTS.decode(value)
    return datetime.fromisoformat(value) if name in TIMES and value is not None else value


def _time_text(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def aware(value: Any) -> datetime | None:
    """The time of a value that no checksum covers; None where it is none."""
    try:
        found = datetime.fromisoformat(value)
    except (ValueError, TypeError):
        return None
    return found if found.tzinfo is not None else None


# --- intents ------------------------------------------------------------------------------------

WHOLE_INTENT = [
    INTENT.c[name]
    for name in (
        "job",
        "id",
        "commit_sha",
        "config_digest",
        "started_at",
        "needs_reload",
        "reload_was_pending",
        "directories",
        "checksum",
    )
]
INTENT_ACTIONS = [
    INTENT_ACTION.c[name]
    for name in (
        "number",
        "action",
        "path",
        "reason",
        "replaces_foreign",
        "wanted",
        "ledger",
        "expected",
    )
]


def intent_rows(intent: Intent) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The row of an intent and those of its actions, by column."""
    values = (
        intent.job,
        intent.id,
        intent.commit,
        intent.digest,
        intent.started_at.isoformat(),
        int(intent.reload_after),
        int(intent.reload_was_pending),
        ENCODE(intent.folders).decode(),
    )
    actions = [_action_values(number, action) for number, action in enumerate(intent.actions)]
    row = dict(
        zip(
            (column.name for column in WHOLE_INTENT),
            (*values, checksum(*values, actions)),
            strict=True,
        )
    )
    names = [column.name for column in INTENT_ACTIONS]
    return row, [{"job": intent.job, **dict(zip(names, one, strict=True))} for one in actions]


def intent_from_rows(row: Sequence[Any], actions: Sequence[Sequence[Any]]) -> Intent | None:
    """The intent of rows of WHOLE_INTENT and INTENT_ACTIONS; None for a damaged one."""
    *values, mark = row
    try:
        if mark != checksum(*values, [tuple(one) for one in actions]):
            return None
        job, identity, commit, digest, started_at, needs_reload, was_pending, directories = values
        return Intent(
            identity,
            job,
            commit,
            digest,
            tuple(_action(one) for one in actions),
            TEXTS.decode(directories),
            bool(needs_reload),
            datetime.fromisoformat(started_at),
            bool(was_pending),
        )
    except (ValueError, TypeError):
        return None


def _action_values(number: int, action: Action) -> tuple[Any, ...]:
    return (
        number,
        action.kind.value,
        action.path,
        action.reason,
        int(action.replaces_foreign),
        _json(action.wanted),
        _json(action.recorded),
        None if action.expected is None else _json(_without_words(action.expected)),
    )


def _action(values: Sequence[Any]) -> Action:
    _, verb, path, reason, replaces_foreign, wanted, row, expected = values
    return Action(
        ActionKind(verb),
        path,
        None if wanted is None else ENTRY.decode(wanted),
        None if row is None else RECORDED.decode(row),
        None if expected is None else LOCAL.decode(expected),
        reason,
        replaces_foreign=bool(replaces_foreign),
    )


def _json(value: Any) -> str | None:
    return None if value is None else ENCODE(value).decode()


def _without_words(local: LocalFile) -> tuple[Any, ...]:
    """What stood there, without what only a person reads."""
    return local.kind, local.blob, local.mode, local.uid, local.gid, local.stat


# --- history and limits -------------------------------------------------------------------------


class PastChange(Struct, frozen=True):
    action: str
    path: str
    source: str | None
    before: str | None
    after: str | None


class PastRun(Struct, frozen=True):
    id: int
    job: str
    started_at: str
    trigger: str
    status: str
    commit: str | None
    previous: str | None
    seconds: float
    bytes: int
    error_kind: str | None
    error: str | None
    changes: tuple[PastChange, ...] = ()
    went_back: bool = False  # it brought a commit that the job had had before, and left


def past_change(row: Sequence[Any]) -> PastChange | None:
    """The row, or None when damage has made it something else than texts."""
    action, path, *rest = row
    fits = isinstance(action, str) and isinstance(path, str)
    fits = fits and all(value is None or isinstance(value, str) for value in rest)
    return PastChange(action, path, *rest) if fits else None


def past_run(
    row: Sequence[Any], changes: tuple[PastChange, ...], went_back: bool
) -> PastRun | None:
    """The row, of PastRun's own fields in their order, or None when damage has made it something
    else than a run.
    """
    (
        identity,
        job,
        started_at,
        trigger,
        status,
        commit,
        previous,
        seconds,
        size,
        error_kind,
        error,
    ) = row
    fits = all(isinstance(value, str) for value in (job, started_at, trigger, status))
    fits = fits and all(
        value is None or isinstance(value, str) for value in (commit, previous, error_kind, error)
    )
    if not fits or not isinstance(seconds, (int, float)) or not isinstance(size, int):
        return None
    return PastRun(
        identity,
        job,
        started_at,
        trigger,
        status,
        commit,
        previous,
        seconds,
        size,
        error_kind,
        error,
        changes,
        went_back,
    )
