"""Writes what the nothing-to-do check (check.py) relies on: the unchanged jobs, and the requests
about their refs.

A job is in the snapshot only where the engine decides that nothing is to be done
(engine/unchanged.py); or without its files, where only its requests begin early. The snapshot is
tied to the configuration's bytes and to the store's write counter, so it is worthless, and never
wrong, as soon as anything else has happened. Losing it costs one full run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from syncd.cache_file import cache_key, config_digest, remove_cache, write_cache
from syncd.engine.unchanged import applied_head, unchanged_state
from syncd.fastpath.check import NAME
from syncd.github.auth.app import AppCredentials
from syncd.github.listing import first_listings
from syncd.github.protocol import Request
from syncd.github.proxies import proxies_of
from syncd.github.refs import head_request
from syncd.github.tree_reader import tree_request
from syncd.github.urls import default_ca_file
from syncd.identities import AnonymousIdentity, AppIdentity, Identity, TokenIdentity
from syncd.models import Job
from syncd.policies import Require
from syncd.ports import Head
from syncd.ref_names import check_due_at
from syncd.store.lock import lock_file
from syncd.wiring import AppContext

MAX_AGE_SECONDS = 86_400.0  # a full run at least once a day, for what only it does
MAX_REQUESTS = 450  # two runs within a minute stay within GitHub's 900 points
MAX_LISTING_REQUESTS = 4  # of one job, that begin early


def write_snapshot(app: AppContext, environ: Mapping[str, str], with_files: bool = True) -> None:
    """Write the snapshot of all jobs that are unchanged now; remove it where there is none.

    Without their files, the check decides nothing: its requests go on while the full run is loaded.
    """
    config, store = app.config, app.store
    file, path = f"{config.state}/{NAME}", str(config.path)
    try:
        content = config.path.read_bytes()
    except OSError:
        return remove_cache(file)  # a directory of files, or removed since
    counter, requests = store.counter(), SnapshotRequests(app)
    jobs = _unchanged_jobs(app, requests, with_files)
    is_usable = (
        bool(jobs)
        and config_digest(path, content) == config.digest
        and len(requests.heads) <= MAX_REQUESTS
        and not proxies_of(environ).by_scheme
        and store.counter() == counter
    )
    if not is_usable:
        return remove_cache(file)
    store_file, written_at = os.stat(store.file), app.clock.now().timestamp()
    return write_cache(
        file,
        {
            "made_for": cache_key(path, content, environ, str(config.state)),
            "written_at": written_at,
            "ends_at": min(written_at + MAX_AGE_SECONDS, requests.check_due_at),
            "store": str(store.file),
            "store_file": [store_file.st_dev, store_file.st_ino],
            "counter": counter,
            "requests_at_once": config.requests_at_once,
            "all": list(config.jobs),
            "jobs": jobs,
            "heads": list(requests.heads.values()),
            "credentials": list(requests.credentials.values()),
        },
    )


def _unchanged_jobs(
    app: AppContext, requests: SnapshotRequests, with_files: bool
) -> dict[str, dict[str, Any]]:
    """Return what the check needs of each job that is unchanged and simple enough."""
    jobs = {}
    for name, job in app.config.jobs.items():
        found, ctx = None, app.run_context(job)
        if with_files:
            known = unchanged_state(job, ctx, app.deadline(job))
            if known is not None and (found := _job(app, requests, job, known.head)) is not None:
                found["seen"] = known.seen
        elif (head := applied_head(job, ctx)) is not None:
            found = _job(app, requests, job, head)
        if found is not None:
            jobs[name] = found
    listings = {(one["head"], each["url"]) for one in jobs.values() for each in one["listing"]}
    if len(requests.heads) + len(listings) > MAX_REQUESTS:
        for one in jobs.values():
            one["listing"] = []
    return jobs


def remove_snapshot(app: AppContext) -> None:
    """Remove the snapshot: the next check has no opinion."""
    remove_cache(f"{app.config.state}/{NAME}")


def _job(
    app: AppContext, requests: SnapshotRequests, job: Job, head: Head
) -> dict[str, Any] | None:
    """Return what the check needs of one job; None where its credentials or its address are not
    simple enough.
    """
    index = requests.add(job, head)
    if index is None:
        return None
    lock = str(lock_file(app.config.state, job.name))
    return {
        "name": job.name,
        "repo": job.repo,
        "ref": job.ref,
        "commit": head.commit,
        "head": index,
        "lock": lock,
        "seen": None,
        "listing": requests.listing(job),
    }


class SnapshotRequests:
    """The requests about the refs, the same as those of the full run, each once however many jobs
    share it.
    """

    def __init__(self, app: AppContext) -> None:
        self._app = app
        self.heads: dict[tuple[str, str], dict[str, Any]] = {}
        self.credentials: dict[tuple[str, str], dict[str, Any]] = {}
        # Unix seconds: when a full run has to check the first of the short ref names.
        self.check_due_at = float("inf")

    def add(self, job: Job, head: Head) -> int | None:
        """Return the index of the request about the job's ref; None where it is not simple
        enough.
        """
        identity = self._app.config.identities[job.identity]
        request = head_request(identity.api, job.repo, job.ref, head.form or "", head)
        if (
            head.form is None
            or "If-None-Match" not in request.headers
            or identity.ca_file is not None
            or not request.url.isascii()
        ):
            return None
        credential = self._credential(identity, job.repo)
        if credential is None:
            return None
        token_request = credential["token_request"]
        installation = token_request["installation"] if token_request is not None else None
        self.check_due_at = min(self.check_due_at, check_due_at(job.ref, head.checked_at))
        key = identity.name, request.url
        index = list(self.credentials.values()).index(credential)
        self.heads[key] = {
            **_encode_request(request, identity),
            "credential": index,
            "installation": installation,
        }
        return list(self.heads).index(key)

    def listing(self, job: Job) -> list[dict[str, Any]]:
        """Return the requests that follow a new head; none where the commit may be refused."""
        identity = self._app.config.identities[job.identity]
        listings = first_listings(identity.api, job.repo, job.paths)
        if job.require != Require() or len(listings) > MAX_LISTING_REQUESTS:
            return []
        start, suffix = tree_request(identity.api, job.repo)
        tree = {**_encode_request(start, identity), "suffix": suffix}
        return [
            {
                **_encode_request(listing.request, identity),
                "suffix": "",
                "folders": list(listing.folders),
                "tree": tree,
            }
            for listing in listings
        ]

    def _credential(self, identity: Identity, repo: str) -> dict[str, Any] | None:
        """Return where the secret is and, for an App, the request for its token."""
        if type(identity) is AnonymousIdentity:
            found: dict[str, Any] = {"secret": None, "token_request": None}
        elif type(identity) is TokenIdentity:
            found = {"secret": [identity.token.kind, identity.token.value], "token_request": None}
        elif type(identity) is AppIdentity:
            app = self._app.connection(identity).credentials
            request = app.token_request_if_known(repo) if isinstance(app, AppCredentials) else None
            if request is None:
                return None
            worded = {
                **_encode_request(request, identity),
                "issuer": identity.issuer,
                "installation": request.installation,
            }
            found = {
                "secret": [identity.private_key.kind, identity.private_key.value],
                "token_request": worded,
            }
        else:
            return None
        key = identity.name, str(found["token_request"])
        return self.credentials.setdefault(key, found)


def _encode_request(request: Request, identity: Identity) -> dict[str, Any]:
    parts = urlsplit(request.url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return {
        "identity": identity.name,
        "method": request.method,
        "url": request.url,
        "headers": dict(request.headers),
        "body": request.body.decode() if request.body is not None else None,
        "to": [
            parts.scheme,
            parts.hostname,
            port,
            default_ca_file() if parts.scheme == "https" else None,
        ],
        "target": request.url.removeprefix(f"{parts.scheme}://{parts.netloc}"),
    }
