"""Values to rows and back: the ledger's, the states', the intents', the sets'. Whatever does not read back whole is damage, not data."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from json.scanner import make_scanner
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from syncd.engine.ports import Intent, JobState
from syncd.models import Action, Entry, Kind, Local, Recorded, Standing, Stat, TreeEntry, Verb


class _ByValue(dict[str, Any]):
    """A member by its value. A look-up costs a tenth of a call of the class, and a ledger has thousands. Raises ValueError as that does."""

    def __missing__(self, value: str) -> Any:
        raise ValueError(f"{value!r} is not known")


# json.loads without its preliminaries, which cost more than a row's content; the type that is asked for is no one's but the scanner's own
SCAN: Callable[[str, int], tuple[Any, int]] = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]

ENCODE = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps makes one for each row

KINDS, STANDINGS = _ByValue({one.value: one for one in Kind}), _ByValue({one.value: one for one in Standing})


def recorded_to_text(row: Recorded) -> str:
    stat = row.stat
    entry = row.entry
    seen = None if stat is None else [stat.device, stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns]
    return ENCODE([_entry(entry), seen, row.standing.value, row.wanted and _entry(row.wanted)])


def recorded_from_text(text: str) -> Recorded:
    entry, stat, standing, wanted = _scanned(text)
    return Recorded(_read_entry(entry), None if stat is None else Stat(*stat), STANDINGS[standing], _read_entry(wanted) if wanted else None)


def upstream_of(text: str) -> list[Any] | None:
    """What upstream has for the row, as `files_to_bytes` writes it; None for a path that is no part of the set. Thousands are read at once."""
    entry, _, standing, wanted = _scanned(text)
    if STANDINGS[standing] is Standing.DROPPED:
        return None
    found: list[Any] = wanted or entry
    return found


def _scanned(text: str) -> Any:
    """The one value that the text is, as `recorded_to_text` wrote it. Raises ValueError for any other text."""
    try:
        value, end = SCAN(text, 0)
    except StopIteration as error:
        raise ValueError("this is no JSON") from error
    if end != len(text):
        raise ValueError("there is something after the value")
    return value


def _entry(entry: Entry) -> list[Any]:
    return [entry.blob, entry.mode, entry.kind.value, entry.uid, entry.gid, entry.source, entry.size, entry.root, entry.dir_mode, entry.pointer, entry.executable]


def _read_entry(values: list[Any]) -> Entry:
    """In the order of Entry's fields. A row from an older version ends sooner, and the fields it never knew are as they are by default."""
    blob, mode, kind, *rest = values
    return Entry(blob, mode, KINDS[kind], *rest)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("this is no mapping")
    return value


def files_to_bytes(files: Mapping[str, list[Any]]) -> bytes:
    """A set from what `upstream_of` gave of its rows."""
    return zlib.compress(json.dumps(files, separators=(",", ":")).encode("ascii"), 1)


def files_from_bytes(body: bytes) -> dict[str, Entry]:
    return {path: _read_entry(values) for path, values in _mapping(json.loads(zlib.decompress(body))).items()}


def listing_to_bytes(entries: Mapping[str, TreeEntry]) -> bytes:
    return zlib.compress(json.dumps([[path, entry.mode, entry.id, entry.size] for path, entry in entries.items()], separators=(",", ":")).encode("ascii"), 1)


def listing_from_bytes(body: bytes) -> dict[str, TreeEntry]:
    return {path: TreeEntry(mode, identity, size) for path, mode, identity, size in json.loads(zlib.decompress(body))}


def state_to_text(state: JobState) -> str:
    values = asdict(state)
    return json.dumps({name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}, separators=(",", ":"), sort_keys=True)


def state_from_text(text: str) -> JobState:
    values = _mapping(json.loads(text))
    times = {"paused_until", "last_run_at", "last_success_at", "last_change_at", "hook_tried_at", "hook_since"}
    known = set(JobState.__struct_fields__)
    read: dict[str, Any] = {name: datetime.fromisoformat(value) if name in times and value else value for name, value in values.items() if name in known}
    return JobState(**{**read, **{name: tuple(read.get(name, ())) for name in ("undo_keeps", "folders_waiting")}})


def intent_to_text(intent: Intent) -> str:
    actions = [
        [action.verb.value, action.path, action.want and _entry(action.want), action.had and recorded_to_text(action.had), action.expect and _local(action.expect), action.reason, action.takes_over]
        for action in intent.actions
    ]
    head = [intent.id, intent.job, intent.commit, intent.digest, list(intent.folders), intent.owes_hook, intent.started_at.isoformat(), intent.owed_before]
    return json.dumps([head, actions], separators=(",", ":"))


def intent_from_text(text: str) -> Intent:
    (identity, job, commit, digest, folders, owes, started, owed_before), actions = json.loads(text)
    read = tuple(
        Action(
            Verb(verb), path, _read_entry(want) if want else None, recorded_from_text(had) if had else None, _read_local(expect) if expect else None, reason, takes_over=takes_over
        )
        for verb, path, want, had, expect, reason, takes_over in actions
    )  # fmt: skip
    return Intent(identity, job, commit, digest, read, tuple(folders), owes, datetime.fromisoformat(started), owed_before)


def _local(local: Local) -> list[Any]:
    stat = local.stat
    return [local.kind.value, local.blob, local.mode, local.uid, local.gid, [stat.device, stat.inode, stat.size, stat.mtime_ns, stat.ctime_ns]]


def _read_local(values: list[Any]) -> Local:
    kind, blob, mode, uid, gid, stat = values
    return Local(Kind(kind), blob, mode, uid, gid, Stat(*stat))


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


class BudgetRow(Struct, frozen=True):
    identity: str
    limit: int | None
    remaining: int | None
    reset_at: str | None


def budget_from_row(identity: Any, limit: Any, remaining: Any, reset_at: Any) -> BudgetRow | None:
    """The row, or None when damage has made it something else than an identity's numbers and a time."""
    try:
        if reset_at is not None:
            datetime.fromisoformat(reset_at)
    except (ValueError, TypeError):
        return None
    fits = isinstance(identity, str) and all(value is None or isinstance(value, int) for value in (limit, remaining))
    return BudgetRow(identity, limit, remaining, reset_at) if fits else None


def past_change(action: Any, path: Any, source: Any, before: Any, after: Any) -> PastChange | None:
    """The row, or None when damage has made it something else than texts."""
    fits = isinstance(action, str) and isinstance(path, str) and all(value is None or isinstance(value, str) for value in (source, before, after))
    return PastChange(action, path, source, before, after) if fits else None


def past_run(row: Sequence[Any], changes: tuple[PastChange, ...], went_back: bool) -> PastRun | None:
    """The row, of PastRun's own fields in their order, or None when damage has made it something else than a run."""
    identity, job, started_at, trigger, status, commit, previous, seconds, size, error_kind, error = row
    fits = all(isinstance(value, str) for value in (job, started_at, trigger, status)) and all(value is None or isinstance(value, str) for value in (commit, previous, error_kind, error))
    if not fits or not isinstance(seconds, (int, float)) or not isinstance(size, int):
        return None
    return PastRun(identity, job, started_at, trigger, status, commit, previous, seconds, size, error_kind, error, changes, went_back)
