"""What the last runs changed, as values for a page: files, and their lines where they may be shown.

Promises: bounded in runs, files and lines; only lines of files whose destination everybody may read (contract section 1, "Diffs").
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from syncd.engine.lines import LARGEST, changed_lines, readable_by_all
from syncd.models import Recorded
from syncd.store.blobs import BlobCache
from syncd.store.rows import PastChange
from syncd.store.store import SqliteStore

RUNS = 10
FILES_OF_A_RUN = 50
LINES_OF_ALL = 2000


class RecentChange(Struct, frozen=True):
    """`lines` are a unified diff's; `why_none` says why there are none, and is None too where nobody asked for them."""

    action: str
    path: str
    lines: tuple[str, ...] = ()
    why_none: str | None = None


class RecentRun(Struct, frozen=True):
    """`more` counts the changes that are not shown."""

    job: str
    at: datetime | None
    status: str
    commit: str | None
    previous: str | None
    error: str | None
    changes: tuple[RecentChange, ...]
    more: int = 0


def recent(store: SqliteStore, blobs: BlobCache, show_diffs: bool) -> tuple[RecentRun, ...]:
    """The last runs that changed something or failed, the newest first. Raises StoreError."""
    runs = store.history(limit=RUNS)
    ledger = {name: store.recorded(name) for name in {run.job for run in runs}} if show_diffs else {}
    found, left = [], LINES_OF_ALL
    for run in runs:
        changes = []
        for change in run.changes[:FILES_OF_A_RUN]:
            one = _change(change, ledger.get(run.job, {}), blobs, left) if show_diffs else RecentChange(change.action, change.path)
            left -= len(one.lines)
            changes.append(one)
        found.append(RecentRun(run.job, time_of(run.started_at), run.status, run.commit, run.previous, run.error, tuple(changes), len(run.changes) - len(changes)))
    return tuple(found)


def _change(change: PastChange, recorded: Mapping[str, Recorded], blobs: BlobCache, left: int) -> RecentChange:
    row = recorded.get(change.path)
    if change.before == change.after:
        return RecentChange(change.action, change.path)
    if row is None:
        return RecentChange(change.action, change.path, why_none="it is not mirrored any more, and so nothing tells who may read it")
    if not readable_by_all(row.entry.mode):
        return RecentChange(change.action, change.path, why_none="not everybody may read it")
    lines = changed_lines(blobs.start(change.before, LARGEST + 1), blobs.start(change.after, LARGEST + 1))
    if isinstance(lines, str):
        return RecentChange(change.action, change.path, why_none=lines)
    if len(lines) > left:
        return RecentChange(change.action, change.path, why_none=f"{len(lines)} lines, too many for this page")
    return RecentChange(change.action, change.path, tuple(lines))


def time_of(text: str) -> datetime | None:
    """A run's time as the store has it; None for what is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
