"""What differs between the ledger and a disk that was read byte by byte.

The directories that syncd made are compared too. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from syncd.models import Job, Kind, LedgerRow, LocalFile, Ownership, WantedFile
from syncd.policies import Drift


class Finding(Struct, frozen=True):
    """One destination that is not as the applied set has it.

    `problem` is `missing`, `content`, `mode`, `owner`, `kind` or `unreadable`. `unseen`: lstat says
    what the ledger has, so that a run would not find it.
    """

    path: str
    problem: str
    expected: str | None
    found: str | None
    tolerated: bool = False  # `drift: keep` leaves it so
    unseen: bool = False


def compare(
    job: Job,
    recorded: Mapping[str, LedgerRow],
    folders: Mapping[str, WantedFile],
    local: Mapping[str, LocalFile | None],
) -> list[Finding]:
    """Return a finding for each destination that is not as the applied set has it, in path order.

    `folders` are directories with what the set asks of them; they are compared too.
    """
    found = [
        _compare(job, path, row, local.get(path))
        for path, row in recorded.items()
        if row.ownership is not Ownership.UNLISTED
    ]
    for path, want in folders.items():
        have = local.get(path)
        if have is not None and have.problem is not None:
            found.append(Finding(path, "unreadable", f"{want.mode:04o}", have.problem))
        elif have is not None and not want.same_permissions(have):
            found.append(_permissions(path, want, have, job.drift is Drift.KEEP))
    return sorted(
        (finding for finding in found if finding is not None), key=lambda finding: finding.path
    )


def _compare(job: Job, path: str, row: LedgerRow, have: LocalFile | None) -> Finding | None:
    want, tolerated = row.upstream, job.drift is Drift.KEEP
    if have is None:
        return Finding(path, "missing", want.blob, None, tolerated)
    if have.problem is not None:
        return Finding(path, "unreadable", want.blob, have.problem)
    if have.kind is not want.kind:
        return Finding(path, "kind", want.kind.value, have.kind.value, tolerated)
    if have.blob != want.blob:
        return Finding(
            path,
            "content",
            want.blob,
            have.blob or f"{have.stat.size} bytes",
            tolerated,
            row.stat == have.stat,
        )
    return None if want.same_permissions(have) else _permissions(path, want, have, tolerated)


def _permissions(path: str, want: WantedFile, have: LocalFile, tolerated: bool) -> Finding:
    if want.kind is not Kind.LINK and not replace(want, uid=None, gid=None).same_permissions(have):
        return Finding(path, "mode", f"{want.mode:04o}", f"{have.mode:04o}", tolerated)
    return Finding(path, "owner", f"{want.uid}:{want.gid}", f"{have.uid}:{have.gid}", tolerated)


def repair_hint(job: Job, findings: Sequence[Finding], marked: bool = False) -> str | None:
    """Return what the operator can do about the findings; None where nothing has to be done."""
    wrong = [finding for finding in findings if not finding.tolerated]
    if not wrong:
        return None
    them = "it" if len(wrong) == 1 else "them"
    unseen = any(finding.unseen for finding in wrong) and not marked
    repair = f"syncd verify --repair {job.name}, then " if unseen else ""
    if job.drift is Drift.REPORT:
        left = f"drift: report leaves {them} until upstream changes {them}"
        return f"{left}; to see {them} in `status`: {repair}syncd sync {job.name}"
    return f"to put {them} back: {repair}syncd sync {job.name}"
