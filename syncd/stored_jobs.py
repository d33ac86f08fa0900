"""Opens the store for a configuration, and matches its jobs and paths with what is stored.

A renamed job is found by its new name, and a destination by each of its spellings.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from contextlib import suppress

from syncd.config.model import Config
from syncd.engine import rejection
from syncd.engine.coverage import coverage_of, renamed_jobs
from syncd.errors import MirrorError
from syncd.mirror.spelling import is_same_file, other_spellings, resolve
from syncd.models import Job, Ownership, RealFolder
from syncd.policies import Publish
from syncd.ports import JobState, OwnedRow
from syncd.store.store import SqliteStore


def open_store(config: Config, read_only: bool = False) -> SqliteStore:
    """Open the configuration's store, and use what is stored of renamed jobs under their new
    names.
    """
    store = (
        SqliteStore.open_readonly(config.state)
        if read_only
        else SqliteStore.open(config.state, config.state_group)
    )
    with suppress(MirrorError):  # asked again, and said, before a job without a past runs
        follow_renames(config.jobs, store)
    return store


def follow_renames(jobs: Mapping[str, Job], store: SqliteStore) -> None:
    """Use for each renamed job what is stored under its former name.

    Raises MirrorError where a destination can't be resolved now.
    """

    def under_new_name(job: str, old: str, state: JobState) -> JobState:
        return rejection.under_new_name(jobs[job], old, state)

    store.follow_renames(find_renames(jobs, store), under_new_name)


def find_renames(jobs: Mapping[str, Job], store: SqliteStore) -> dict[str, str]:
    """Return the former name of each configured job that was renamed.

    Such a job has no stored rows, and covers the files of a job that is no longer configured.
    Raises MirrorError where a destination can't be resolved now.
    """
    stored = set(store.jobs())
    removed, new = stored - jobs.keys(), jobs.keys() - stored
    if not removed or not new:
        return {}
    destinations = {name: _destinations(store, name) for name in removed}
    known = {name: paths for name, paths in destinations.items() if paths}
    return renamed_jobs({name: coverage_of(jobs[name], resolve) for name in new}, known)


def _destinations(store: SqliteStore, job: str) -> list[str]:
    """Return the real paths of the job's files: of those that it applied, or of all that are
    stored.
    """
    rows = store.load_ledger(job)
    applied = {path: row for path, row in rows.items() if row.ownership is Ownership.OWNED}
    return [row.real or path for path, row in (applied or rows).items()]


def row_of(config: Config, store: SqliteStore, path: str) -> OwnedRow | None:
    """Return the ledger row of the file at `path`, under each of its spellings."""
    for spelling in (path, *other_spellings([path]).values()):
        rows = store.owners([destination_of(config, spelling)]).values()
        found = next((row for group in rows for row in group), None)
        if found is not None:
            return found
    return None


def spellings_in_history(store: SqliteStore, path: str) -> list[str]:
    """Return `path` and each other spelling of the same file that past runs have changed."""
    recorded = store.changed_paths(posixpath.basename(path))
    folder = posixpath.dirname(path)
    same_folder = resolve({posixpath.dirname(one) for one in recorded} | {folder})
    found = [one for one in recorded if _is_spelling(one, path, same_folder)]
    return list(dict.fromkeys([path, *found]))


def destination_of(config: Config, path: str) -> str:
    """Return the real path that the ledger has for `path`: a published link is not followed."""
    real = real_path_of(path)
    for job in config.jobs.values():
        if job.publish is Publish.SYMLINK:
            link = real_path_of(job.paths[0].to)
            tree = resolve([link])[link].path
            if f"{real}/".startswith(f"{tree}/"):
                return link + real[len(tree) :]
    return real


def real_path_of(path: str) -> str:
    """Return the path with each link above it resolved; the last name is not followed."""
    folder, name = posixpath.split(path)
    return resolve([folder])[folder].join(f"/{name}")


def _is_spelling(one: str, path: str, resolved: Mapping[str, RealFolder]) -> bool:
    same_folder = resolved[posixpath.dirname(one)] == resolved[posixpath.dirname(path)]
    same_name = posixpath.basename(one) == posixpath.basename(path)
    return (same_folder and same_name) or is_same_file(one, path)
