"""Where a failing call does not make a run fail, and why that is right. A place that is not listed here is a finding."""

from __future__ import annotations

from tests.fault.points import Tally

WHY: dict[str, str] = {
    "blobs.has": "a cached blob that can't be looked at counts as absent and is fetched again",
    "blobs.open": "a cached blob that can't be read counts as absent and is fetched again",
    "blobs._folder": "asked whether a folder stands that is made next anyway",
    "place.refuse_network": "whether the state lies on a network file system is a warning's question; not knowing is no reason to stop",
    "place.make_private": "asked whether the folder stands; making it answers too",
    "lock.job_lock": "asked whether the folder stands; making it answers too",
    "store.open": "asked whether the folder stands; making it answers too",
    "room.existing": "a folder that can't be looked at is judged by the one above it; the writes themselves find out the rest",
    "write._reach": "asked whether the root stands; opening it answers too",
    "scan.look": "at a removal: the file counts as changed underneath, and the run plans anew",
    "carry.shares_blocks": "whether copies can share their blocks is asked by trying; not knowing means that room for them is asked for",
    "carry._copy_bytes": "where the kernel does not copy by itself, the bytes are read and written",
    "open in write._fsync_file": "what we may not read back is synced with its whole file system",
    "folders.step_down": "in tidying up: an empty folder too many stays ours and goes at the next run",
}


def unexplained(tally: Tally) -> list[str]:
    """The points at which a run reported success in spite of a fault, and nobody has said why."""
    return sorted(where for where in tally.passed_by if not _why(where))


def _why(where: str) -> str:
    """The reason for `CALL ERROR in PLACE`: of the place, of the call there, or of the error whatever was called."""
    left, _, place = where.rpartition(" in ")
    call, _, error = left.partition(" ")
    return next((WHY[key] for key in (place, f"{call} in {place}", f"{error} in {place}", error) if key in WHY), "")
