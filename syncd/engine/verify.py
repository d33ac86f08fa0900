"""PURE: what differs between the ledger and a disk that was read byte by byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from syncd.models import Drift, Job, Kind, Local, Recorded, Standing


@dataclass(frozen=True)
class Finding:
    """One destination that is not as the applied set has it. `problem` is `missing`, `content`, `mode`, `owner`, `kind` or `unreadable`."""

    path: str
    problem: str
    expected: str | None
    found: str | None
    tolerated: bool = False  # `drift: keep` leaves it so


def compare(job: Job, recorded: Mapping[str, Recorded], local: Mapping[str, Local | None]) -> list[Finding]:
    """Every destination of the applied set that holds something else, in path order."""
    found = []
    for path, row in sorted(recorded.items()):
        if row.standing is not Standing.DROPPED:
            finding = _compare(job, path, row, local.get(path))
            if finding is not None:
                found.append(finding)
    return found


def _compare(job: Job, path: str, row: Recorded, have: Local | None) -> Finding | None:
    want, tolerated = row.upstream, job.drift is Drift.KEEP
    if have is None:
        return Finding(path, "missing", want.blob, None, tolerated)
    if have.problem is not None or (have.kind is Kind.FILE and have.blob is None):
        return Finding(path, "unreadable", want.blob, have.problem)
    if have.kind is not want.kind:
        return Finding(path, "kind", want.kind.value, have.kind.value, tolerated)
    if have.blob != want.blob:
        return Finding(path, "content", want.blob, have.blob, tolerated)
    if want.same_looks(have):
        return None
    if want.kind is Kind.FILE and want.mode != have.mode:
        return Finding(path, "mode", f"{want.mode:04o}", f"{have.mode:04o}", tolerated)
    return Finding(path, "owner", f"{want.uid}:{want.gid}", f"{have.uid}:{have.gid}", tolerated)
