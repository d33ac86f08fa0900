"""Finds entries of the trash by what a person types, and names them as short as is unambiguous."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from syncd.cli.common import Settings, emit
from syncd.cli.folding import terminal_columns
from syncd.clock import SystemClock
from syncd.config.model import Config
from syncd.errors import MirrorError
from syncd.mirror.trash import Trash, TrashEntry, TrashLimits
from syncd.models import RunReport
from syncd.store.history import PastChange
from syncd.stored_jobs import real_path_of
from syncd.text import closest, did_you_mean, in_quotes, one_line
from syncd.trash_ids import ID_LENGTH, trash_id

SHORTEST_ID = 6  # digits that are shown at least
AN_ID = re.compile(rf"[0-9a-fA-F]{{4,{ID_LENGTH}}}\Z")
MAX_NAMED = 5  # ids in one message, and entries after one run
WHY = {
    "takes over": "was there before the job",
    "changed upstream": "edited here, changed upstream",
    "edited here; put back": "edited here",
    "another file is here; put back": "was there before the job",
}


def trash_of(config: Config) -> Trash:
    """Return the trash of the configuration's state."""
    limits = TrashLimits(config.trash.keep_seconds, config.trash.size_bytes)
    return Trash(config.state / "trash", limits, SystemClock().monotonic)


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return for each id the shortest beginning that no other one has, and that is long enough."""
    ordered = sorted(set(ids))
    return {
        one: _shortest(one, [*ordered[max(place - 1, 0) : place], *ordered[place + 1 : place + 2]])
        for place, one in enumerate(ordered)
    }


def _shortest(id: str, neighbours: Sequence[str]) -> str:
    length = SHORTEST_ID
    while length < len(id) and any(other.startswith(id[:length]) for other in neighbours):
        length += 1
    return id[:length]


def short_ids_in(state: Path) -> Mapping[str, str]:
    """Return the short id of each entry; none where this user may not look into the trash."""
    try:
        return short_ids(Trash(state / "trash").ids())
    except PermissionError:
        return {}


def entry_of(change: PastChange, names: Mapping[str, str]) -> str | None:
    """Return the id of the entry that holds what the change replaced, if it is one of `names`."""
    if change.before is None or change.before == change.after:
        return None
    id = trash_id(change.path, change.before)
    return id if id in names else None


def show_replaced(settings: Settings, state: Path, report: RunReport) -> None:
    """Print how to have back what the run replaced and never wrote."""
    changes = [change for change in report.changes if change.trash is not None]
    names, columns = short_ids_in(state) if changes else {}, terminal_columns()
    for change in changes[:MAX_NAMED]:
        id = change.trash or ""
        path, command = one_line(change.path), f"→ syncd trash restore {names.get(id, id)}"
        line = f"    {path} was replaced {command}"
        fits = columns is None or len(line) <= columns
        emit(settings, line if fits else f"    {path} was replaced\n    {command}")
    if len(changes) > MAX_NAMED:
        emit(settings, f"    and {len(changes) - MAX_NAMED} more → syncd trash list")


def why(entry: TrashEntry) -> str:
    """Return why the entry's file was replaced."""
    return WHY.get(entry.reason, entry.reason)


def find_entry(entries: Sequence[TrashEntry], word: str) -> tuple[TrashEntry, int]:
    """Return the entry that an id, its beginning or a path names, and how many others the path
    has. Of several entries of one path it is the newest.

    Raises MirrorError.
    """
    found = entry_by_id(entries, word)
    if found is not None:
        return found, 0
    of_path = of_file(entries, word)
    if of_path:
        return of_path[-1], len(of_path) - 1
    raise _unknown(entries, word)


def find_by_id(entries: Sequence[TrashEntry], word: str) -> TrashEntry:
    """Return the entry that an id or its beginning names. Raises MirrorError."""
    found = entry_by_id(entries, word)
    if found is None:
        raise _unknown(entries, word)
    return found


def entry_by_id(entries: Sequence[TrashEntry], word: str) -> TrashEntry | None:
    """Return the entry whose id begins so, or None. Raises MirrorError where there are several."""
    if not AN_ID.match(word):
        return None
    found = [entry for entry in entries if entry.id.startswith(word.lower())]
    if len(found) > 1:
        named = ", ".join(sorted(entry.id for entry in found)[:MAX_NAMED])
        raise MirrorError(
            f"{len(found)} entries of the trash have ids that begin with {word}: {named}",
            id="mirror/ambiguous-trash-id",
            hint="write one more digit",
        )
    return found[0] if found else None


def of_file(entries: Sequence[TrashEntry], path: str) -> list[TrashEntry]:
    """Return the entries of a path, the oldest first, by any spelling through links above it."""
    place = posixpath.normpath(os.path.abspath(path))
    exact = [entry for entry in entries if entry.path == place]
    if exact:
        return exact
    real = real_path_of(place)
    return [entry for entry in entries if real_path_of(entry.path) == real]


def below(entries: Sequence[TrashEntry], path: str) -> list[TrashEntry]:
    """Return the entries of a path and of everything below it."""
    place = posixpath.normpath(os.path.abspath(path))
    starts = {one.rstrip("/") + "/" for one in (place, real_path_of(place))}
    inside = [entry for entry in entries if entry.path.startswith(tuple(starts))]
    return inside or of_file(entries, path)


def _unknown(entries: Sequence[TrashEntry], word: str) -> MirrorError:
    if not entries:
        return MirrorError(
            f"there is nothing of {in_quotes(word)}: the trash is empty",
            id="mirror/no-such-trash-entry",
            hint="it keeps what syncd replaces and never wrote, as long as trash: says",
        )
    near = did_you_mean(word, [name for entry in entries for name in (entry.id, entry.path)])
    paths = {posixpath.basename(entry.path): entry.path for entry in entries}
    name = closest(posixpath.basename(word), paths)
    if not near and name is not None:
        near = f"; did you mean '{paths[name]}'?"
    return MirrorError(
        f"the trash has no entry {in_quotes(word)}{near}",
        id="mirror/no-such-trash-entry",
        hint="what there is: syncd trash list",
    )


__all__ = [
    "below",
    "entry_by_id",
    "entry_of",
    "find_by_id",
    "find_entry",
    "of_file",
    "short_ids",
    "short_ids_in",
    "show_replaced",
    "trash_of",
    "why",
]
