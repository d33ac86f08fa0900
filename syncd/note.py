"""The note that a `sync` with everything in sync leaves for the quick check (quick.py): what it may rely on, and how to ask the heads.

Promises: a job is in the note only when the engine itself, given the known head again, decides that nothing is to be done, and nothing
of the job is owed, paused, failing or unusual. The note is tied to the configuration's bytes and to the store's count of writes, so it
is worthless, and never wrong, as soon as anything else has happened. Losing it costs one full run.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from syncd import quick
from syncd.clock import Patience
from syncd.engine.folders import set_of, wished
from syncd.engine.owners import owners_of
from syncd.engine.ports import Head, JobState
from syncd.engine.run import Options, decide
from syncd.errors import SyncdError
from syncd.github.addresses import authorities
from syncd.github.heads import question
from syncd.github.protocol import Known, Request, Response
from syncd.github.proxies import proxies_of
from syncd.github.source import GitHubSource
from syncd.models import AnonymousIdentity, Identity, Job, Publish, Recorded, Require, TokenIdentity
from syncd.refs import check_due_at
from syncd.store.lock import lock_file
from syncd.wiring import Workshop

# what a state remembers of the past, without anything that is to be done about it
MEMORY = (
    "files", "applied_files", "last_run_at", "last_success_at", "last_change_at", "hook_commit",
    "trusted_commit", "trusted_for",
)  # fmt: skip
HEADS_AT_MOST = 450  # two runs within a minute stay within GitHub's 900 points


class NotModified:
    """A Transport where every head is as it was and nothing else can be asked: what the engine decides over it is what a 304 leads to."""

    def send(self, request: Request, patience: Patience) -> Response:
        if "If-None-Match" not in request.headers:
            raise NotPlainError(f"{request.subject} would be asked for")
        return Known(304, {}, request.url, b"")


class NotPlainError(SyncdError):
    """The job is left out of the note."""


def leave(workshop: Workshop, environ: Mapping[str, str]) -> None:
    """The note says what stands now; there is none when nothing of it is plain."""
    file, config = f"{workshop.config.state}/{quick.NAME}", workshop.config
    try:
        content = config.path.read_bytes()
    except OSError:
        return quick.remove(file)  # a folder of files, or gone by now
    counter, heads, jobs = workshop.store.counter(), Heads(), {}
    for name, job in config.jobs.items():
        with suppress(NotPlainError):
            jobs[name] = _job(workshop, job, heads)
    edited = quick.content_digest(str(config.path), content) != config.digest
    if edited or not jobs or len(heads.all) > HEADS_AT_MOST or proxies_of(environ).by_scheme or workshop.store.counter() != counter:
        return quick.remove(file)
    store, written_at = os.stat(workshop.store.file), workshop.clock.now().timestamp()
    note = {
        "written_by": quick.written_by(), "written_at": written_at, "ends_at": min(written_at + quick.A_DAY, heads.check_due_at),
        "configuration": {**quick.configuration(str(config.path), content), "environment": quick.environment(environ)},
        "state": [str(config.state), os.path.realpath(config.state)],
        "store": str(workshop.store.file), "store_file": [store.st_dev, store.st_ino], "counter": counter,
        "requests_at_once": config.requests_at_once, "all": list(config.jobs), "jobs": jobs, "heads": list(heads.all.values()),
    }  # fmt: skip
    return quick.write(file, note)


def withdraw(workshop: Workshop) -> None:
    """There is no note."""
    quick.remove(f"{workshop.config.state}/{quick.NAME}")


def _job(workshop: Workshop, job: Job, heads: Heads) -> dict[str, Any]:
    """What the check needs of one job. Raises NotPlainError."""
    identity, store, house = workshop.config.identities[job.identity], workshop.store, workshop.house(job)
    state, head = store.state(job.name), store.head(house.scope, job.repo, job.ref)
    if head is None or job.publish is not Publish.FILES or job.require != Require() or not _at_rest(state, job, head) or store.intent(job.name) is not None:
        raise NotPlainError(f"{job.name} is not at rest")
    index, recorded = heads.index_of(identity, job, head), store.recorded(job.name)
    places = _places(recorded, wished(set_of(recorded), store.folders(job.name)))
    try:
        standing, owners = quick.standing(places), owners_of(job, house.resolve_owner)
        decision = decide(job, replace(house, source=GitHubSource(NotModified(), identity.api, 1)), workshop.patience(job), Options(), state)  # looks at the disk after that
    except (SyncdError, OSError) as error:
        raise NotPlainError(f"{job.name} is not in sync: {error}") from error
    if decision.plan.actions or decision.recorded != recorded or decision.remote.keys() != recorded.keys():
        raise NotPlainError(f"{job.name} has something to do")
    lock = str(lock_file(workshop.config.state, job.name))
    seen = {"places": places, "standing": standing, "owners": owners}
    return {"head": index, "repo": job.repo, "ref": job.ref, "commit": head.commit, "lock": lock, **seen}


def _at_rest(state: JobState, job: Job, head: Head) -> bool:
    """Nothing is owed, held, failing or unfinished: the set of this head and configuration was applied, and whatever else a state may
    come to hold, only its default is plain. A new field keeps every job out of the note until it is listed in `MEMORY` or unset."""
    memory = {name: getattr(state, name) for name in MEMORY}
    return state == JobState(applied_commit=head.commit, applied_digest=job.digest, **memory) and state.last_success_at is not None


def _places(recorded: Mapping[str, Recorded], folders: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Every folder below a root on the way to a destination, with the destinations in it; those right in a root stand under "".

    And the `folders` that syncd made, also above a root: their modes and owners are looked after too.
    """
    places: dict[str, list[str]] = {folder: [] for folder in folders}
    for path, row in recorded.items():
        root, folder = row.entry.root, posixpath.dirname(path)
        if folder == root:
            places.setdefault("", []).append(path)
            continue
        places.setdefault(folder, []).append(posixpath.basename(path))
        while (folder := posixpath.dirname(folder)) != root and len(folder) > 1:
            places.setdefault(folder, [])
    return sorted(places.items())


class Heads:
    """The head requests of the note, each once however many jobs share it: as heads.py words them, and where they go."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], dict[str, Any]] = {}
        self.check_due_at = float("inf")  # when the first of their names has to be checked by a full run

    def index_of(self, identity: Identity, job: Job, head: Head) -> int:
        """Raises NotPlainError where a credential or an address is not plain."""
        request = question(identity.api, job.repo, job.ref, head.form or "", head)
        parts = urlsplit(request.url)
        host = parts.hostname or ""
        if head.form is None or "If-None-Match" not in request.headers or identity.ca_file is not None or not host.isascii() or not request.url.isascii():
            raise NotPlainError(f"{job.repo} is not asked for plainly")
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        self.check_due_at = min(self.check_due_at, check_due_at(job.ref, head.checked_at))
        key = (identity.name, request.url)
        self.all[key] = {
            "identity": identity.name, "token": _token(identity), "url": request.url, "headers": dict(request.headers),
            "to": [parts.scheme, host, port], "host": parts.netloc, "target": request.url.removeprefix(f"{parts.scheme}://{parts.netloc}"),
            "trust": authorities() if parts.scheme == "https" else None,
        }  # fmt: skip
        return list(self.all).index(key)


def _token(identity: Identity) -> list[str] | None:
    if type(identity) is AnonymousIdentity:
        return None
    if type(identity) is TokenIdentity:
        return [identity.token.kind, identity.token.value]
    raise NotPlainError(f"{identity.name} needs more than a token")
