"""Values to rows and back: the ledger's, the states', the intents', the sets'. Whatever does not read back whole is damage, not data."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from msgspec import DecodeError, Struct, ValidationError, convert, to_builtins
from msgspec.json import Decoder, Encoder
from msgspec.structs import asdict

from syncd.engine.ports import Intent, JobState
from syncd.models import Action, Entry, Local, Recorded, Standing, TreeEntry, Verb

T = TypeVar("T")


class _Head(Struct, array_like=True, forbid_unknown_fields=True):
    """An intent without its actions."""

    id: str
    job: str
    commit: str
    digest: str
    folders: tuple[str, ...]
    owes_hook: bool
    started_at: str
    owed_before: bool


class _Step(Struct, array_like=True, forbid_unknown_fields=True):
    """An action of an intent. `had` is the ledger row's own text."""

    verb: Verb
    path: str
    want: Entry | None
    had: str | None
    expect: Local | None
    reason: str
    takes_over: bool


ENCODE = Encoder().encode
RECORDED, FILES, LISTING = Decoder(Recorded), Decoder(dict[str, Entry]), Decoder(list[tuple[str, int, str, int | None]])


def recorded_to_text(row: Recorded) -> str:
    return ENCODE(row).decode()


def recorded_from_text(text: str) -> Recorded:
    """In the order of the values' fields. A row from an older version ends sooner, and the fields it never knew are as they are by default."""
    return RECORDED.decode(text)


def ledger(texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, Recorded]]:
    """The rows by path, without those that a version wrote which meant something else by them."""
    for path, text in texts:
        try:
            yield path, RECORDED.decode(text)
        except ValueError:
            continue


def set_to_bytes(texts: Iterable[tuple[str, str]]) -> bytes:
    """The set that the ledger's rows are: what upstream has for each, but for what `prune: off` left."""
    return zlib.compress(ENCODE({path: row.upstream for path, row in ledger(texts) if row.standing is not Standing.DROPPED}), 1)


def files_from_bytes(body: bytes) -> dict[str, Entry]:
    return FILES.decode(zlib.decompress(body))


def listing_to_bytes(entries: Mapping[str, TreeEntry]) -> bytes:
    return zlib.compress(_written([(path, entry.mode, entry.id, entry.size) for path, entry in entries.items()]), 1)


def listing_from_bytes(body: bytes) -> dict[str, TreeEntry]:
    return {path: TreeEntry(mode, identity, size) for path, mode, identity, size in _read(LISTING, zlib.decompress(body))}


def _written(value: Any) -> bytes:
    """As JSON. A server may tell a name that is no UTF-8 with lone surrogates: such a name is never written to disk, but it is remembered."""
    try:
        return ENCODE(value)
    except UnicodeEncodeError:
        return json.dumps(to_builtins(value), separators=(",", ":")).encode("ascii")  # which escapes them


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


def state_to_text(state: JobState) -> str:
    values = asdict(state)
    return json.dumps({name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}, separators=(",", ":"), sort_keys=True)


def state_from_text(text: str) -> JobState:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError("this is no mapping")
    times = {"paused_until", "last_run_at", "last_success_at", "last_change_at", "hook_tried_at", "hook_since"}
    known = set(JobState.__struct_fields__)
    read: dict[str, Any] = {name: datetime.fromisoformat(value) if name in times and value else value for name, value in values.items() if name in known}
    return JobState(**{**read, **{name: tuple(read.get(name, ())) for name in ("undo_keeps", "folders_waiting")}})


def intent_to_text(intent: Intent) -> str:
    actions = [
        (action.verb, action.path, action.want, action.had and recorded_to_text(action.had), action.expect and _expected(action.expect), action.reason, action.takes_over)
        for action in intent.actions
    ]
    head = (intent.id, intent.job, intent.commit, intent.digest, intent.folders, intent.owes_hook, intent.started_at.isoformat(), intent.owed_before)
    return _written((head, actions)).decode()


def intent_from_text(text: str) -> Intent:
    head, steps = _read(Decoder(tuple[_Head, tuple[_Step, ...]]), text)  # made here: a run seldom finds one
    actions = (Action(step.verb, step.path, step.want, recorded_from_text(step.had) if step.had else None, step.expect, step.reason, takes_over=step.takes_over) for step in steps)
    return Intent(head.id, head.job, head.commit, head.digest, tuple(actions), head.folders, head.owes_hook, datetime.fromisoformat(head.started_at), head.owed_before)


def _expected(local: Local) -> tuple[Any, ...]:
    """Without what only a person reads, which no version ever wrote."""
    return local.kind, local.blob, local.mode, local.uid, local.gid, local.stat


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
    installation: int | None
    account: str | None
    limit: int | None
    remaining: int | None
    reset_at: str | None


def budget_from_row(identity: Any, installation: Any, account: Any, limit: Any, remaining: Any, reset_at: Any) -> BudgetRow | None:
    """The row, or None when damage has made it something else than an identity's numbers and a time."""
    try:
        if reset_at is not None and datetime.fromisoformat(reset_at).tzinfo is None:
            return None
    except (ValueError, TypeError):
        return None
    fits = isinstance(identity, str) and all(value is None or isinstance(value, int) for value in (limit, remaining))
    fits = fits and isinstance(installation, int) and (account is None or isinstance(account, str))
    return BudgetRow(identity, installation or None, account, limit, remaining, reset_at) if fits else None


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
