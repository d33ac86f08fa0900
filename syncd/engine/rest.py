"""A run that would do nothing, recognised without doing it: what the last one looked at is looked at again, and is as it was.

Promises: `still` says unchanged only where `run_job` would: the same configuration, the same state in the store, the same head, and at
every destination what stood there when the engine itself decided that nothing is to be done. Anything else is left to the run. Nothing
is written; the caller remembers that the job was looked after.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from syncd.clock import Patience
from syncd.engine import folders
from syncd.engine.owners import owners_of
from syncd.engine.ports import Head, JobState, Source, Target
from syncd.engine.run import House, Options, decide
from syncd.errors import SyncdError
from syncd.models import Job, Local, Publish, RunReport, RunStatus, Trigger
from syncd.objects import is_object_id
from syncd.owners import Ids
from syncd.refs import check_due

FEW = 500  # destinations: looking at so many takes no longer than a thread is worth
A_MOMENT_SECONDS = 1.0  # a look that is older, because GitHub or a limit took its time, is taken again


class Rest(Struct, frozen=True):
    """What stood when there was nothing to do."""

    job: Job
    scope: str
    state: JobState
    head: Head
    targets: Mapping[str, Target]
    local: Mapping[str, Local | None]
    owners: Mapping[str, Ids]


class _Told(Source):
    """A Source that knows one head and nothing else: whoever needs more of GitHub is not at rest."""

    def __init__(self, head: Head) -> None:
        self._head = head

    def resolve(self, repo: str, ref: str | None, known: Head | None, patience: Patience) -> Head:
        return replace(self._head, unchanged=True)

    def _refuse(self, *_: object, **__: object) -> object:
        raise SyncdError("GitHub would be asked")

    listing = fetch = verification = descends = fetch_large = _refuse  # type: ignore[assignment]


def rest_of(job: Job, house: House, patience: Patience, at_most: int) -> Rest | None:
    """What to look at from now on; None for a job that is not wholly at rest, or has more destinations than `at_most`.

    The job's lock is held by the caller.
    """
    try:
        state, head = house.store.state(job.name), house.store.head(house.scope, job.repo, job.ref)
        if head is None or state.files > at_most or job.publish is not Publish.FILES or _restless(state, house) or house.store.intent(job.name) is not None:
            return None
        recorded, owners = house.store.recorded(job.name), owners_of(job, house.resolve_owner)
        made = folders.wished(folders.set_of(recorded), house.store.folders(job.name))
        targets = {path: Target(row.entry.root, row) for path, row in recorded.items()} | folders.targets(made)
        local = house.mirror.scan(targets)
        decision = decide(job, replace(house, source=_Told(head)), patience, Options(), state)  # looks at the disk after that
    except SyncdError:
        return None  # whatever it is, the next run meets it and says it
    if decision.plan.actions or decision.recorded.keys() != recorded.keys() or decision.remote.keys() != recorded.keys():
        return None
    return Rest(job, house.scope, state, head, targets, local, owners)


def _restless(state: JobState, house: House) -> bool:
    return bool(state.failures or state.last_error_kind or state.hook_owed or state.drifted) or not state.settled or state.paused(house.clock.now())


def still(rest: Rest, job: Job, house: House, patience: Patience, trigger: Trigger) -> RunReport | None:
    """The report of a run that found nothing to do; None where there may be something, and a run has to say what.

    One request, answered 304 while the head holds; none for a commit id, whose meaning never changes.
    """
    began, started_at = time.perf_counter(), house.clock.now()
    if rest.job != job or rest.scope != house.scope or not same_state(house.store.state(job.name), rest.state):
        return None
    if check_due(job.ref, rest.head.checked_at, started_at.timestamp()):
        return None
    try:
        with _Look(rest, house, patience.check) as look:
            pinned = job.ref is not None and is_object_id(job.ref)
            if not pinned and house.source.resolve(job.repo, job.ref, rest.head, patience).commit != rest.head.commit:
                return None
            if look.found() != rest.local or owners_of(job, house.resolve_owner) != rest.owners:
                return None
    except SyncdError:
        return None  # the run meets the same, and says it
    commit = rest.state.applied_commit
    return RunReport(
        job.name, RunStatus.UNCHANGED, job.repo, job.ref, commit, commit, seconds=time.perf_counter() - began, trigger=trigger, started_at=started_at, files=rest.state.files
    )


class _Look:
    """A context: what stands at the targets, looked at by another thread while the block waits for GitHub, where they are many."""

    def __init__(self, rest: Rest, house: House, check: Callable[[], None]) -> None:
        self._rest, self._house, self._check = rest, house, check
        self._thread = threading.Thread(target=self._look, name="syncd-look") if len(rest.targets) > FEW else None
        self._found: Mapping[str, Local | None] | None = None
        self._ended = 0.0

    def __enter__(self) -> _Look:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._thread.join()

    def found(self) -> Mapping[str, Local | None]:
        """As it was a moment ago. Raises MirrorError."""
        if self._thread is not None:
            self._thread.join()
            if self._found is not None and time.monotonic() - self._ended < A_MOMENT_SECONDS:
                return self._found
        return self._house.mirror.scan(self._rest.targets, self._check)

    def _look(self) -> None:
        with suppress(SyncdError):  # whoever asks for it looks again, and meets the same
            self._found = self._house.mirror.scan(self._rest.targets, self._check)
        self._ended = time.monotonic()


def same_state(one: JobState, other: JobState) -> bool:
    """Equal in all but when the job was last looked after."""
    return replace(one, last_run_at=None, last_success_at=None) == replace(other, last_run_at=None, last_success_at=None)


__all__ = ["Rest", "rest_of", "same_state", "still"]
