"""Decides where an entry of the trash may be restored to, restores it, and says what follows.

The job that writes the file is locked meanwhile. Its ledger stays as it is: the restored bytes are
an edit for its next run, which treats them as the job's `drift` policy says.
"""

from __future__ import annotations

import logging
import os
import posixpath
import shlex
from collections.abc import Mapping
from contextlib import ExitStack

from msgspec import Struct

from syncd.cli.trash_entries import short_ids
from syncd.clock import SystemClock
from syncd.config.model import Config
from syncd.config.protected import protected_paths
from syncd.engine.hook_result import shown_command
from syncd.engine.protection import find_protected
from syncd.errors import MirrorError, UnsafePathError
from syncd.mirror.dirfd import TREE_NAME
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.restore import Place, Restored, restore
from syncd.mirror.trash import TrashEntry
from syncd.models import PERMISSIONS, Job, Kind, Ownership, PathRule
from syncd.owners import owner_name
from syncd.patterns import path_filter
from syncd.policies import Drift, Publish
from syncd.ports import JobState, OwnedRow
from syncd.protected_paths import with_parents
from syncd.store.lock import job_lock
from syncd.store.store import SqliteStore
from syncd.stored_jobs import open_store, real_path_of, row_of
from syncd.text import one_line
from syncd.wiring.app_context import trash_limits_of

LOG = logging.getLogger("syncd")


class Destination(Struct, frozen=True):
    """A path, with who writes it.

    `owned` is its ledger row; `rules` are the jobs whose paths reach it. `is_elsewhere`: it was
    given with --to.
    """

    path: str
    owned: OwnedRow | None
    rules: tuple[tuple[Job, PathRule], ...]
    is_elsewhere: bool

    @property
    def jobs(self) -> list[str]:
        """The names of the jobs that may write it, for their locks."""
        names = {job.name for job, _ in self.rules}
        return sorted(names | ({self.owned.job} if self.owned is not None else set()))

    @property
    def root(self) -> str:
        """The folder down to which links are followed."""
        if self.owned is not None:
            return self.owned.recorded.entry.root
        if self.rules:
            highest = min((rule for _, rule in self.rules), key=lambda rule: len(rule.to))
            return posixpath.dirname(highest.to) or "/"
        return posixpath.dirname(self.path) if self.is_elsewhere else "/"

    @property
    def dir_mode(self) -> int:
        """The mode of folders that are missing."""
        if self.owned is not None:
            return self.owned.recorded.entry.dir_mode
        modes = (rule.dir_mode or job.dir_mode for job, rule in self.rules)
        return next(modes, 0o755)

    @property
    def dir_owner(self) -> tuple[int | None, int | None]:
        """The user and group of folders that are missing: those that the job's last run wrote."""
        if self.owned is None:
            return None, None
        entry = self.owned.recorded.entry
        return entry.uid, entry.gid


def restore_entry(
    config: Config, environ: Mapping[str, str], entry: TrashEntry, to: str | None
) -> list[str]:
    """Restore the entry to its path, or to the file `to`; return the lines that say what was done
    and what the next run does.

    Raises MirrorError, and LockedError while a job that may write the file runs.
    """
    store = open_store(config, read_only=True)
    try:
        place = _destination(config, store, entry, to)
        disk = DiskMirror(
            config.state / "trash", SystemClock(), trash_limits=trash_limits_of(config)
        )
        _refuse_protected(config, environ, disk, entry, place)
        disk.trash.job = place.jobs[0] if place.jobs else ""
        with ExitStack() as locks:
            for job in place.jobs:
                locks.enter_context(job_lock(config.state, job))
            done = _restore(disk, entry, place)
        _prune(disk)
        names = short_ids(disk.trash.ids())
        state = store.state(place.owned.job) if place.owned is not None else JobState()
    finally:
        store.close()
    said = [*_said(entry, place, done, names), *_next_run(config, entry, place, state)]
    return [*said, *_reload_hint(config, place)] if done.is_changed else said


def _prune(disk: DiskMirror) -> None:
    """Keep the trash within its limits; what fails is tried again after the next run."""
    try:
        disk.trash.prune()
    except (MirrorError, OSError) as error:
        LOG.warning("syncd can't remove old trash in %s: %s", disk.trash.directory, error)


def _destination(
    config: Config, store: SqliteStore, entry: TrashEntry, to: str | None
) -> Destination:
    """Return where the entry goes. Raises MirrorError for a place that can't be one."""
    path = entry.path if to is None else os.path.abspath(to)
    if to is not None and not os.path.isdir(posixpath.dirname(path)):
        folder = posixpath.dirname(path)
        raise MirrorError(
            f"{path} can't be restored: there is no folder {folder}",
            id="mirror/restore-without-folder",
            path=path,
            hint=f"make it: mkdir -p {shlex.quote(folder)}",
        )
    real = real_path_of(path)
    owned = row_of(config, store, path) if _is_utf8(path + real) else None
    rules = tuple(
        (job, rule)
        for job in config.jobs.values()
        for rule in job.paths
        if _reaches(rule, real, path) or _is_in_tree(job, rule, real)
    )
    for job, rule in rules:
        if job.publish is Publish.SYMLINK:
            raise _behind_link(path, entry, job, rule)
    return Destination(path if owned is None else owned.path, owned, rules, to is not None)


def _is_utf8(path: str) -> bool:
    """Return whether a mirrored file can have the name."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def _reaches(rule: PathRule, real: str, path: str) -> bool:
    """Return whether the rule writes the path, if the repository has it."""
    for place, to in ((path, rule.to), (real, real_path_of(rule.to))):
        if place == to:
            return True
        if rule.directory and place.startswith(f"{to}/"):
            return path_filter(rule)(place[len(to) + 1 :])
    return False


def _is_in_tree(job: Job, rule: PathRule, real: str) -> bool:
    """Return whether the real path is in a tree that the job publishes, or has published."""
    if job.publish is not Publish.SYMLINK:
        return False
    parent = posixpath.dirname(real_path_of(rule.to)).rstrip("/") + "/"
    name = real.removeprefix(parent).partition("/")[0]
    return real.startswith(parent) and TREE_NAME.match(name) is not None


def _behind_link(path: str, entry: TrashEntry, job: Job, rule: PathRule) -> MirrorError:
    return MirrorError(
        f"{path} is behind the link {rule.to}, which {job.name} switches as a whole; "
        "nothing is restored into its trees",
        id="mirror/restore-behind-link",
        path=path,
        hint=f"take it from elsewhere: syncd trash restore {entry.id} --to FILE",
    )


def _refuse_protected(
    config: Config,
    environ: Mapping[str, str],
    disk: DiskMirror,
    entry: TrashEntry,
    place: Destination,
) -> None:
    """Raise MirrorError where the place is syncd's own configuration, key, state or program."""
    real = real_path_of(place.path)
    above = with_parents({posixpath.dirname(real) or "/"})
    found = find_protected(
        protected_paths(config, environ), {place.path: real}, disk.identities(above)
    )
    for hit in found.values():
        raise MirrorError(
            f"{place.path} is {hit.place.what}: nothing is restored there",
            id="mirror/restore-protected",
            path=place.path,
            hint=f"write it elsewhere, and put it there yourself: syncd trash restore {entry.id}"
            " --to FILE",
        )


def _restore(disk: DiskMirror, entry: TrashEntry, place: Destination) -> Restored:
    mode, is_root = entry.mode, os.geteuid() == 0
    if place.is_elsewhere:  # a program that runs as its owner stays at its own place
        mode &= PERMISSIONS
    if not is_root:
        _refuse_foreign_owner(entry, place)
    gives_away = is_root or not place.is_elsewhere
    dir_uid, dir_gid = place.dir_owner
    target = Place(
        place.path,
        place.root,
        mode,
        entry.uid if gives_away else None,
        entry.gid if gives_away else None,
        place.dir_mode,
        dir_uid,
        dir_gid,
    )
    try:
        return restore(disk, entry, target)
    except UnsafePathError as error:
        raise UnsafePathError(
            f"{error.message}; nothing was restored",
            id="mirror/restore-through-link",
            path=place.path,
            hint=f"see where it leads, and name that: syncd trash restore {entry.id} --to FILE",
        ) from error


def _refuse_foreign_owner(entry: TrashEntry, place: Destination) -> None:
    """Raise MirrorError where only root may give the file back to its owner."""
    ours = entry.uid == os.geteuid() and entry.gid in {os.getegid(), *os.getgroups()}
    if place.is_elsewhere or ours:
        return
    raise MirrorError(
        f"{entry.path} belonged to {owner_name(entry.uid)} (group {entry.gid}), and only root may "
        "give files away",
        id="mirror/restore-needs-root",
        path=entry.path,
        hint=f"write a file of your own: syncd trash restore {entry.id} --to FILE",
    )


def _said(
    entry: TrashEntry, place: Destination, done: Restored, names: Mapping[str, str]
) -> list[str]:
    """Return what was done, and where what was replaced is now."""
    path = one_line(place.path)
    if not done.is_changed:
        return [f"✓ {path} is already as it was kept; nothing was written"]
    kept_at = f"{entry.at:%Y-%m-%d %H:%M:%S}Z"
    what = "" if entry.kind is Kind.LINK else f", mode {entry.mode & 0o7777:04o}"
    lines = [f"✓ {path} is restored", f"  as it was until {kept_at}{what}"]
    if done.kept is not None:
        lines.append(f"  what was there → syncd trash restore {names.get(done.kept, done.kept)}")
    return [*lines, *(f"  {one_line(note)}" for note in done.notes)]


def _next_run(config: Config, entry: TrashEntry, place: Destination, state: JobState) -> list[str]:
    """Return what the next run of the job does with the file, and what to type for another end."""
    if place.owned is None:
        return _without_row(place)
    name, row = place.owned.job, place.owned.recorded
    job = config.jobs.get(name)
    if job is None:
        return [f"  It stays: the job {name} is not configured any more."]
    if row.ownership is Ownership.UNLISTED:
        return ["  It stays: the repository does not have the file any more."]
    if row.upstream.blob == entry.content and row.upstream.kind is entry.kind:
        return [f"  It has the bytes that {name} has applied."]
    if state.paused(SystemClock().now()):
        after = {
            Drift.RESTORE: "the run after that puts the repository's version back",
            Drift.REPORT: "the run after that leaves it and reports it as drift",
            Drift.KEEP: "the run after that leaves it, too",
        }[job.drift]
        return [
            f"  {name} is paused and leaves it until: syncd resume {name}",
            f"  ({after}: drift: {job.drift.value})",
        ]
    return _by_policy(name, job.drift)


def _reload_hint(config: Config, place: Destination) -> list[str]:
    """Return the command that a run would have run after such a change."""
    job = config.jobs.get(place.owned.job) if place.owned is not None else None
    if job is None or job.on_change is None:
        return []
    return [f"  on_change of {job.name} is not run: {shown_command(job.on_change)}"]


def _without_row(place: Destination) -> list[str]:
    """Return what follows where no job has written the file yet."""
    if not place.rules:
        return [] if place.is_elsewhere else ["  It stays: no job mirrors this path."]
    job = place.rules[0][0]
    lines = [f"  If {job.repo} has this file, its next run decides:"]
    return [*lines, *_by_policy(job.name, job.drift)]


def _by_policy(name: str, drift: Drift) -> list[str]:
    if drift is Drift.RESTORE:
        return [
            f"  The next run of {name} puts the repository's version back (drift: restore).",
            f"  → to keep yours: syncd pause {name}",
        ]
    if drift is Drift.REPORT:
        return [
            f"  The next run of {name} leaves it and reports it as drift (drift: report),",
            "  until the repository changes the file.",
        ]
    return [f"  The next run of {name} leaves it (drift: keep)."]


__all__ = ["restore_entry"]
