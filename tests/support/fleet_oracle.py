"""Judges what controllers of a fleet did, from what the database and the simulator noted.

Each function returns what is wrong, in words; an empty list is a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

LEASE_SECONDS = 15.0  # docs/fleet.md
SLOW_SECONDS = 3.0  # between two looks at the clock in one statement, on a busy machine
IN_FLIGHT_SECONDS = 0.5  # of a request that was on its way when the lease ended
MAX_IN_FLIGHT = 2  # contents are asked for side by side: a freeze may catch these half sent


@dataclass(frozen=True)
class LeaseEvent:
    """A claim, a renewal or a release, as it was committed."""

    at: float
    controller: str  # whose connection it was
    action: str
    job: str
    epoch: int
    seconds: float | None
    seconds_before: float | None


@dataclass(frozen=True)
class Published:
    """A revision, as it was committed."""

    controller: str
    job: str
    sequence: int
    epoch: int
    commit: str


@dataclass(frozen=True)
class Asked:
    """A request of a controller about the repository of a job."""

    at: float
    controller: str
    job: str
    of_contents: bool


def wrong_leases(events: Iterable[LeaseEvent]) -> Iterator[str]:
    """Each lease lasts 15 s by the server's clock, and only its holder changes it."""
    last: dict[str, LeaseEvent] = {}  # job -> its last claim
    for event in events:
        claimed = last.get(event.job)
        if event.action == "claim":
            if event.seconds_before is not None and event.seconds_before > 0:
                yield f"{event}: the lease before had not ended"
            if claimed is not None and event.epoch != claimed.epoch + 1:
                yield f"{event}: the epoch before was {claimed.epoch}"
            last[event.job] = event
        elif claimed is None or claimed.controller != event.controller:
            yield f"{event}: the job is not this controller's"
        shortest = LEASE_SECONDS - SLOW_SECONDS
        if event.seconds is not None and not shortest <= event.seconds <= LEASE_SECONDS:
            yield f"{event}: the lease lasts {event.seconds:.1f} s"


def wrong_revisions(
    published: Iterable[Published],
    events: Iterable[LeaseEvent],
    branches: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Each job's commits are published in their order, once, by the holder of the job's lease.

    `branches` has the commits of each job's branch, the oldest first.
    """
    claims = {(one.job, one.epoch): one.controller for one in events if one.action == "claim"}
    before: dict[str, Published] = {}
    position = dict.fromkeys(branches, -1)
    for one in published:
        found = branches[one.job].index(one.commit)
        if found <= position[one.job]:
            yield f"{one}: published again, or after a later commit"
        position[one.job] = max(found, position[one.job])
        earlier = before.get(one.job)
        if earlier is not None and (one.sequence <= earlier.sequence or one.epoch < earlier.epoch):
            yield f"{one}: older than {earlier}"
        if claims.get((one.job, one.epoch)) != one.controller:
            yield f"{one}: the job was {claims.get((one.job, one.epoch))}'s"
        before[one.job] = one
    for job, commits in branches.items():
        if position[job] != len(commits) - 1:
            yield f"{job}: the last commit {commits[-1]} was not published"


def wrong_pollers(
    requests: Iterable[Asked], events: Iterable[LeaseEvent], mended: Iterable[tuple[str, float]]
) -> Iterator[str]:
    """A controller asks about a job only while its claim is the last one.

    `mended` has the controllers that go on after a fault, and when: a frozen one sends what it had
    begun to send.
    """
    claims: dict[str, list[LeaseEvent]] = {}
    for event in events:
        if event.action == "claim":
            claims.setdefault(event.job, []).append(event)
    in_flight = Counter[tuple[str, float, str]]()
    times = list(mended)
    for one in requests:
        holders = _holders(claims.get(one.job, []), one.at)
        if one.controller in holders:
            continue
        for controller, at in times:
            if controller == one.controller and at <= one.at <= at + IN_FLIGHT_SECONDS:
                in_flight[controller, at, one.job] += one.of_contents
                if one.of_contents and in_flight[controller, at, one.job] <= MAX_IN_FLIGHT:
                    break
        else:
            yield f"{one}: the job is that of {holders or 'none'}"


def _holders(claims: Sequence[LeaseEvent], at: float) -> set[str]:
    """Return who may ask at a time: the holder, and for a moment the one before."""
    return {
        claim.controller
        for claim, following in _with_next(claims)
        if claim.at <= at and (following is None or at <= following.at + IN_FLIGHT_SECONDS)
    }


def _with_next(claims: Sequence[LeaseEvent]) -> Iterator[tuple[LeaseEvent, LeaseEvent | None]]:
    for number, claim in enumerate(claims):
        yield claim, claims[number + 1] if number + 1 < len(claims) else None


def wrong_notices(
    notices: Iterable[tuple[str, int]], published: Iterable[Published]
) -> Iterator[str]:
    """Each revision has one notice, which arrives when the revision can be read."""
    heard: Counter[str] = Counter()
    for job, readable in notices:
        heard[job] += 1
        if readable < heard[job]:
            yield f"{job}: notice {heard[job]} came when {readable} revisions could be read"
    made = Counter(one.job for one in published)
    for job in made | heard:
        if made[job] != heard[job]:
            yield f"{job}: {heard[job]} notices of {made[job]} revisions"


def wrong_arrivals(
    job: str, lines: Sequence[str], branch: Sequence[str], published: Iterable[Published]
) -> Iterator[str]:
    """An agent has whole commits alone, each that was published at most once, the last one last.

    A line is what the agent's files said after a run that changed them: one number for each text
    that the files have, the place of a commit on the branch.
    """
    known = {branch.index(one.commit) for one in published if one.job == job}
    before = -1
    for line in lines:
        numbers = [int(one) for one in line.split()]
        if len(numbers) != 1:
            yield f"{job}: the agent's files are of the commits {numbers}"
        elif numbers[0] not in known:
            yield f"{job}: the agent has commit {numbers[0]}, which was not published"
        elif numbers[0] <= before:
            yield f"{job}: the agent has commit {numbers[0]} after {before}"
        before = max([before, *numbers])
    if before != len(branch) - 1:
        yield f"{job}: the agent has commit {before} at last, not {len(branch) - 1}"


__all__ = [
    "Asked",
    "LeaseEvent",
    "Published",
    "wrong_arrivals",
    "wrong_leases",
    "wrong_notices",
    "wrong_pollers",
    "wrong_revisions",
]
