"""Changes of the last runs, as values for a page: files, and their lines where they may be shown.

Runs, files, lines, characters and work are bounded. Only lines of files that every user may read at
the destination are shown (contract section 1, "Diffs"). Comparisons are cached. web/views.py limits
how many pages are made at a time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from syncd.diff import MAX_BYTES, DiffBudget, DiffBudgetExhausted, changed_lines, readable_by_all
from syncd.mirror.read_file import NOT_PUBLIC, read_public_file
from syncd.models import (
    ActionKind,
    CommitSummary,
    Kind,
    LedgerRow,
    Ownership,
    RunStatus,
    Trigger,
)
from syncd.store.actions import OperatorAction
from syncd.store.blobs import BlobCache
from syncd.store.history import PastChange, PastRun
from syncd.store.store import SqliteStore

MAX_RUNS = 10
MAX_FILES_PER_RUN = 50
MAX_FILES_OF_ONE_RUN = 500
MAX_JOB_RUNS = 50
MAX_JOB_ACTIONS = 50
MAX_LINES = 2000
MAX_CHARS = 256 << 10
MAX_DIFF_STEPS = 5_000_000  # less than a second
MAX_CACHE_CHARS = 2 << 20


class RecentChange(Struct, frozen=True):
    """One changed file.

    `lines` are those of a unified diff; `why_none` says why there are none, and is None where none
    were asked for.
    """

    action: str
    path: str
    lines: tuple[str, ...] = ()
    why_none: str | None = None


class RecentRun(Struct, frozen=True):
    """One run. `more` counts the changes that are not shown."""

    job: str
    at: datetime | None
    status: str
    commit: str | None
    previous: str | None
    error: str | None
    changes: tuple[RecentChange, ...]
    more: int = 0


class LedgerSummary(Struct, frozen=True):
    """What the ledger has of a job: so many files, links, bytes, and files that are not syncd's.

    `met` were there before and stayed by policy; `dropped` are gone upstream and stayed.
    """

    files: int = 0
    links: int = 0
    size_bytes: int = 0
    met: int = 0
    dropped: int = 0


class RunSummary(Struct, frozen=True):
    """One run of a job without its changes; `changes` counts them.

    `first_at` is the start of the first of several runs in a row with this result. `lag_seconds` is
    the time from when syncd first saw the commit until its files were on disk; None for a run that
    brought no new commit.
    """

    id: int
    at: datetime | None
    trigger: str
    status: str
    commit: str | None
    previous: str | None
    seconds: float
    changes: int
    error: str | None
    first_at: datetime | None = None
    lag_seconds: float | None = None


class DiffCache:
    """Cache of diffs by the ids of the two versions. Safe to use from many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._made: OrderedDict[tuple[str | None, str | None], tuple[str, ...] | str] = (
            OrderedDict()
        )
        self._chars = 0

    def get(self, before: str | None, after: str | None) -> tuple[str, ...] | str | None:
        """Return the cached lines, or why there are none; None when the diff is not cached."""
        with self._guard:
            if (before, after) in self._made:
                self._made.move_to_end((before, after))
            return self._made.get((before, after))

    def put(self, before: str | None, after: str | None, lines: tuple[str, ...] | str) -> None:
        """Add a diff to the cache."""
        with self._guard:
            if (before, after) in self._made:
                self._chars -= _size(self._made.pop((before, after)))
            self._made[before, after] = lines
            self._chars += _size(lines)
            while self._chars > MAX_CACHE_CHARS:
                self._chars -= _size(self._made.popitem(last=False)[1])


class PageDiffs:
    """Diffs of one page, within its bounds of work, lines and characters."""

    def __init__(self, diffs: DiffCache, blobs: BlobCache) -> None:
        self._diffs, self._blobs, self._work = diffs, blobs, DiffBudget(MAX_DIFF_STEPS)
        self._lines, self._chars = MAX_LINES, MAX_CHARS

    def of(self, change: PastChange) -> tuple[str, ...] | str:
        """Return the lines that differ, or a text that says why there are none."""
        lines = self._diffs.get(change.before, change.after)
        if lines is None:
            lines = self._compared(change)
        return lines if isinstance(lines, str) else self._within(lines)

    def _within(self, lines: tuple[str, ...]) -> tuple[str, ...] | str:
        """Return the lines, or why they are too many for what is left of the page."""
        if len(lines) > self._lines or _size(lines) > self._chars:
            return f"{len(lines):,} lines, too many for this page"
        self._lines -= len(lines)
        self._chars -= _size(lines)
        return lines

    def between(self, old: bytes | None, new: bytes | None) -> tuple[str, ...] | str:
        """Return the lines that differ between two contents, which are not cached."""
        if self._work.steps <= 0:
            return "not compared: this page had too much to compare"
        try:
            found = changed_lines(old, new, self._work)
        except DiffBudgetExhausted:
            self._work.steps = 0
            return "not compared: this page had too much to compare"
        return found if isinstance(found, str) else self._within(tuple(found))

    def content(self, blob: str | None) -> bytes | None:
        """Return the first bytes of a cached content; None where it is not cached."""
        return self._blobs.read_prefix(blob, MAX_BYTES + 1)

    def _compared(self, change: PastChange) -> tuple[str, ...] | str:
        if self._work.steps <= 0:
            return "not compared yet: this page had too much to compare; reload it"
        old, new = (
            self._blobs.read_prefix(change.before, MAX_BYTES + 1),
            self._blobs.read_prefix(change.after, MAX_BYTES + 1),
        )
        try:
            found = changed_lines(old, new, self._work)
        except DiffBudgetExhausted:
            self._work.steps = 0
            return "not compared yet: this page had too much to compare; reload it"
        lines = found if isinstance(found, str) else tuple(found)
        if old is not None and new is not None:
            self._diffs.put(change.before, change.after, lines)
        return lines


def _size(lines: tuple[str, ...] | str) -> int:
    """Return roughly what the lines take in memory; an entry takes some even without a line."""
    return 200 + (len(lines) if isinstance(lines, str) else sum(60 + len(line) for line in lines))


def read_recent_runs(
    store: SqliteStore, blobs: BlobCache, show_diffs: bool, diffs: DiffCache | None = None
) -> tuple[RecentRun, ...]:
    """Return the last runs that changed something or failed, the newest first. Raises
    StoreError.
    """
    runs = store.history(limit=MAX_RUNS)
    ledger = (
        {name: store.load_ledger(name) for name in {run.job for run in runs}} if show_diffs else {}
    )
    return _runs(runs, ledger, PageDiffs(diffs or DiffCache(), blobs) if show_diffs else None)


class RunHistory:
    """Reader of past runs, for the pages of a job and of a run. Every method raises StoreError."""

    def __init__(self, store: SqliteStore, blobs: BlobCache, diffs: DiffCache) -> None:
        self._store, self._blobs, self._diffs = store, blobs, diffs

    def of_job(self, job: str) -> tuple[RunSummary, ...]:
        """Return the last runs of the job that changed something or failed, newest first."""
        found = self._store.runs_of(job, MAX_JOB_RUNS)
        runs = [run for run, _ in found]
        return tuple(
            RunSummary(
                run.id,
                parse_time(run.started_at),
                run.trigger,
                run.status,
                run.commit,
                run.previous,
                run.seconds,
                count,
                run.error,
                parse_time(run.first_started_at or run.started_at),
                lag_of(run, runs[place + 1 :]),
            )
            for place, (run, count) in enumerate(found)
        )

    def ledger_of(self, job: str) -> LedgerSummary:
        """Return what the ledger has of the job."""
        rows = list(self._store.load_ledger(job).values())
        return LedgerSummary(
            len(rows),
            sum(row.entry.kind is Kind.LINK for row in rows),
            sum(row.entry.size or 0 for row in rows),
            sum(row.ownership is Ownership.FOREIGN for row in rows),
            sum(row.ownership is Ownership.UNLISTED for row in rows),
        )

    def drift_of(self, job: str, show_diffs: bool) -> tuple[RecentChange, ...]:
        """Return what the job's last runs left as it was, with what differs on disk now."""
        kept = self._last_kept(job)
        ledger = self._store.load_ledger(job) if kept and show_diffs else {}
        page = PageDiffs(self._diffs, self._blobs)
        return tuple(
            _drifted(change, ledger.get(change.path), page) if show_diffs else _bare(change)
            for change in kept[:MAX_FILES_PER_RUN]
        )

    def _last_kept(self, job: str) -> list[PastChange]:
        """Return the files that the last run with such files has left alone."""
        for newest, count in self._store.runs_of(job, MAX_RUNS):
            run = self._store.run_of(newest.id) if count else None
            kept = [one for one in run.changes if one.action == ActionKind.KEEP] if run else []
            if kept:
                return kept
        return []

    def commits(self, commits: Collection[str]) -> dict[str, CommitSummary]:
        """Return who made these commits, as far as the store knows."""
        return self._store.facts.commit_summaries(commits)

    def actions_of(self, job: str) -> tuple[OperatorAction, ...]:
        """Return what people last did with the job on the page, newest first."""
        return tuple(self._store.actions_of(job, MAX_JOB_ACTIONS))

    def run(self, number: int, show_diffs: bool) -> RecentRun | None:
        """Return one run; None where there is none with this id."""
        run = self._store.run_of(number)
        if run is None:
            return None
        ledger = {run.job: self._store.load_ledger(run.job)} if show_diffs else {}
        page = PageDiffs(self._diffs, self._blobs) if show_diffs else None
        return _runs([run], ledger, page, MAX_FILES_OF_ONE_RUN)[0]


def _runs(
    runs: Sequence[PastRun],
    ledger: Mapping[str, Mapping[str, LedgerRow]],
    page: PageDiffs | None,
    max_files: int = MAX_FILES_PER_RUN,
) -> tuple[RecentRun, ...]:
    found = []
    for run in runs:
        changes = [
            _change(change, ledger.get(run.job, {}), page) for change in run.changes[:max_files]
        ]
        found.append(
            RecentRun(
                run.job,
                parse_time(run.started_at),
                run.status,
                run.commit,
                run.previous,
                run.error,
                tuple(changes),
                len(run.changes) - len(changes),
            )
        )
    return tuple(found)


def _change(
    change: PastChange, recorded: Mapping[str, LedgerRow], page: PageDiffs | None
) -> RecentChange:
    row = recorded.get(change.path)
    if page is None or change.before == change.after:
        return RecentChange(change.action, change.path)
    if row is None:
        return RecentChange(
            change.action,
            change.path,
            why_none="it is not mirrored any more, and so nothing tells who may read it",
        )
    if not readable_by_all(row.entry.mode):
        return RecentChange(change.action, change.path, why_none="not every user may read it")
    lines = page.of(change)
    if isinstance(lines, str):
        return RecentChange(change.action, change.path, why_none=lines)
    return RecentChange(change.action, change.path, lines)


def _bare(change: PastChange) -> RecentChange:
    return RecentChange(change.action, change.path)


def _drifted(change: PastChange, row: LedgerRow | None, page: PageDiffs) -> RecentChange:
    """Return the file with the lines by which it differs from what the repository has.

    Only where every user may read both: by the recorded mode, and by that on disk.
    """
    if row is None or row.upstream.kind is not Kind.FILE:
        return _bare(change)
    here = read_public_file(change.path, row.upstream.root, MAX_BYTES + 1)
    if here is None:
        return RecentChange(change.action, change.path, why_none="it can't be read now")
    if not readable_by_all(row.upstream.mode) or here is NOT_PUBLIC:
        return RecentChange(change.action, change.path, why_none="not every user may read it")
    lines = page.between(page.content(row.upstream.blob), here)
    if isinstance(lines, str):
        return RecentChange(change.action, change.path, why_none=lines)
    return RecentChange(change.action, change.path, lines)


def lag_of(run: PastRun, before: Sequence[PastRun]) -> float | None:
    """Return the seconds from when syncd first saw the run's commit until its files were on disk.

    `before` are the older runs, newest first. None for a run that brought no new commit.
    """
    is_new = run.status == RunStatus.CHANGED and run.commit not in (None, run.previous)
    if not is_new or run.trigger == Trigger.ROLLBACK:
        return None
    first, applied = run, parse_time(run.started_at)
    for one in before:
        if one.commit != run.commit or one.status == RunStatus.CHANGED:
            break
        first = one
    seen = parse_time(first.first_started_at or first.started_at)
    if seen is None or applied is None:
        return None
    return max(0.0, (applied - seen).total_seconds()) + run.seconds


def parse_time(text: str) -> datetime | None:
    """Return a run's time as the store has it; None for a text that is no time."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None
