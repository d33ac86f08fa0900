"""The JSON of the status, of which each job's part is made again only when the job has changed.

A thousand jobs take a tenth of a second otherwise, most of it to look for secrets in every text.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from msgspec import Struct
from msgspec.structs import replace

from syncd.redaction import redact_json
from syncd.status import JobSnapshot, StatusSnapshot, job_json, pause_reason, rfc3339, status_json

KEEP_SECONDS = 60.0  # then every part is made again: a secret may be known that was not before
PLACE = "syncd-jobs-are-put-in-here"


class _Part(Struct, frozen=True):
    """One job's part, and what it was made of. The time matters only for the last two."""

    job: JobSnapshot
    since: str | None
    paused: str | None
    text: str


class StatusText:
    """Makes the JSON of snapshots. Safe to use from many threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic, self._guard = monotonic, Lock()
        self._parts: dict[str, _Part] = {}
        self._kept_since = monotonic()

    def of(self, snapshot: StatusSnapshot) -> str:
        """Return the object of `/api/v1/status` as text, with the secrets in it masked."""
        frame = status_json(replace(snapshot, jobs=())) | {"jobs": PLACE}
        before, _, after = redact_json(frame).partition(f'"{PLACE}"')
        with self._guard:
            if self._monotonic() - self._kept_since > KEEP_SECONDS:
                self._parts, self._kept_since = {}, self._monotonic()
            self._parts = {one.job.name: self._part(one, snapshot) for one in snapshot.jobs}
            texts = [part.text for part in self._parts.values()]
        return f"{before}[{', '.join(texts)}]{after}"

    def _part(self, one: JobSnapshot, snapshot: StatusSnapshot) -> _Part:
        now, known = snapshot.at, self._parts.get(one.job.name)
        since, paused = rfc3339(one.state.condition_since(now)), pause_reason(one.state, now)
        if known is not None and (known.since, known.paused, known.job) == (since, paused, one):
            return known
        return _Part(one, since, paused, redact_json(job_json(one, now)))


__all__ = ["StatusText"]
