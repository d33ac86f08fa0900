"""`publish: symlink`: the whole set changes at once, by one rename of a link.

A change makes a complete new tree beside the live one and then renames a new link over the old: a reader that resolves the link
meets one set or the other, and one that holds a folder open keeps the set it has. Nothing is ever written into a tree that a link
has named. Files that stay are copied with their times, not linked: a hard link would let an edit in one tree change all of them,
and the kernel shares the blocks by itself where the file system can (copy_file_range on XFS and btrfs).

The folder that holds the link and the trees is syncd's own; anything else in it is refused.
"""

from __future__ import annotations

import os
import posixpath
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

from syncd.clock import Clock
from syncd.engine.ports import Applied, Blobs, Mirror, Outcome, Target
from syncd.errors import ChangedUnderneathError, MirrorError, UnsafePathError
from syncd.mirror.disk import DiskMirror
from syncd.mirror.folders import OPEN_BELOW, OPEN_FOLDER, translated
from syncd.mirror.kernel import syncfs
from syncd.mirror.leftovers import PREFIX
from syncd.mirror.room import check_room
from syncd.mirror.scan import stat_of
from syncd.mirror.write import Batch
from syncd.models import Action, Job, Kind, Local, Publish, Stat, Verb

TREE = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{12}\Z")  # when it was made, and the intent that made it
STAMP = "%Y%m%dT%H%M%S"
COPY_BYTES = 1 << 30
SHOWN = 3


def mirror_of(job: Job, disk: DiskMirror, clock: Clock) -> Mirror:
    """The disk as this job writes it."""
    return disk if job.publish is Publish.FILES else SwitchedMirror(disk, job, clock)


@dataclass
class Made:
    """A new tree on its way: what was put into it, and what already stands under each public path."""

    name: str
    carried: dict[str, Stat]


class SwitchedMirror:
    """The engine's Mirror for one job whose `to` is a link. Public paths lead through the link; the disk is reached through the live tree."""

    def __init__(self, disk: DiskMirror, job: Job, clock: Clock) -> None:
        self._disk, self._clock, self._keep = disk, clock, job.keep
        self._link = job.paths[0].to
        self._parent, self._name = posixpath.split(self._link)

    # --- looking ------------------------------------------------------------------------------------------------------

    def scan(self, targets: Mapping[str, Target]) -> dict[str, Local | None]:
        with translated("look at"):
            live = self._live()
        real = {path: self._real(path, live) for path in targets}
        found = self._disk.scan({real[path]: target for path, target in targets.items()})
        return {path: found[place] for path, place in real.items()}

    def open(self, path: str, root: str) -> BinaryIO:
        with translated("read"):
            live = self._live()
        return self._disk.open(self._real(path, live), root)

    def _real(self, path: str, live: str | None) -> str:
        """Where a public path is on disk: in the live tree, or in one that is not there."""
        if not path.startswith(self._link + "/"):
            return path
        return f"{self._parent}/{live or PREFIX + 'none'}{path[len(self._link) :]}"

    def _live(self) -> str | None:
        """The tree that the link names; None where there is no link or no tree. Raises UnsafePathError for what is not ours."""
        try:
            with self._opened() as parent:
                found = os.stat(self._name, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISLNK(found.st_mode):
                    raise self._in_the_way(f"{self._link} is not a link")
                target = os.readlink(self._name, dir_fd=parent)
                if not TREE.match(target):
                    raise self._in_the_way(f"{self._link} is a link to {target}, which syncd did not make")
                return target if _is_folder(parent, target) else None
        except FileNotFoundError:
            return None

    def _in_the_way(self, what: str) -> UnsafePathError:
        return UnsafePathError(
            f"{what}; with publish: symlink it has to be syncd's own link", path=self._link,
            hint=f"move it away (mv {self._link} {self._link}.before) and sync again; syncd replaces nothing it did not make",
        )  # fmt: skip

    @contextmanager
    def _opened(self) -> Iterator[int]:
        parent = os.open(self._parent, OPEN_FOLDER)
        try:
            yield parent
        finally:
            os.close(parent)

    # --- before -------------------------------------------------------------------------------------------------------

    def prepare(self, job: Job, actions: Sequence[Action]) -> tuple[str, ...]:
        with translated("prepare"):
            live = self._live()
            if not os.path.isdir(self._parent):
                check_room(actions)
                return ()
            with self._opened() as parent:
                others = [name for name in os.listdir(parent) if name != self._name and not TREE.match(name) and not name.startswith(PREFIX)]
                if others:
                    shown = ", ".join(sorted(others)[:SHOWN]) + (f" and {len(others) - SHOWN} more" if len(others) > SHOWN else "")
                    raise UnsafePathError(
                        f"{self._parent} holds {shown}; with publish: symlink the folder above the link is syncd's own", path=self._parent,
                        hint=f"give the link a folder of its own, like to: {self._parent}/{job.name}/current/, or move the rest away",
                    )  # fmt: skip
            check_room([*actions, *self._copies(actions, live)])
        return ()

    def _copies(self, actions: Sequence[Action], live: str | None) -> Iterator[Action]:
        """What will be carried over, as writes that need room."""
        if live is None:
            return
        like = next((action for action in actions if action.want is not None), None)
        written = {self._real(action.path, live) for action in actions}
        for place, _, names in os.walk(f"{self._parent}/{live}"):
            for name in names:
                path = f"{place}/{name}"
                if path not in written and like is not None and like.want is not None:
                    yield replace(like, verb=Verb.WRITE, path=path, want=replace(like.want, kind=Kind.FILE, size=os.lstat(path).st_size))

    # --- the switch ---------------------------------------------------------------------------------------------------

    def apply(self, intent: str, actions: Sequence[Action], blobs: Blobs, folders: frozenset[str]) -> Applied:
        """A complete new tree is live, or everything is as it was and each action says why: half a switch there is none."""
        with translated("publish at"):
            self._make_parent(actions)
            live = self._live()
            name = f"{self._clock.now().strftime(STAMP)}-{intent}"
            with self._opened() as parent:
                os.mkdir(name, 0o700, dir_fd=parent)
                try:
                    applied = self._build(parent, name, live, intent, actions, blobs)
                    failed = {path: one for path, one in applied.outcomes.items() if one.error is not None}
                    if failed:
                        return self._given_up(parent, name, actions, failed)
                    self._check_unchanged(live, actions)
                    self._switch(parent, name, live, intent)
                except BaseException:
                    _remove_tree(parent, name)
                    raise
                return replace(applied, troubles=(*applied.troubles, *self._evict(parent, name)))

    def _make_parent(self, actions: Sequence[Action]) -> None:
        mode = next((action.want.dir_mode for action in actions if action.want is not None), 0o755)
        missing = []
        path = self._parent
        while not os.path.isdir(path):
            missing.append(path)
            path = posixpath.dirname(path) or "/"
        for path in reversed(missing):
            os.mkdir(path, mode)
            os.chmod(path, mode)
            _sync_folder(posixpath.dirname(path) or "/")

    def _build(self, parent: int, name: str, live: str | None, intent: str, actions: Sequence[Action], blobs: Blobs) -> Applied:
        """The new tree holds what the live one holds, but for the actions; every byte of it is on disk."""
        for action in actions:
            if action.takes_over and action.expect is not None:
                with translated("keep"), self._folder_of(parent, live, action.path) as folder:
                    self._disk.trash.keep(folder, posixpath.basename(action.path), action.path, action.expect, self._clock.now(), intent)
        made = Made(name, {})
        gone = {action.path for action in actions if action.verb is not Verb.MODE}
        looks = {action.path: action for action in actions if action.verb is Verb.MODE}
        if live is not None:
            self._carry(parent, live, made, gone, looks)
        writes = [action for action in actions if action.verb in (Verb.WRITE, Verb.RESTORE) and action.want is not None]
        there = [replace(action, path=f"{self._parent}/{name}{action.path[len(self._link) :]}", expect=None, takes_over=False) for action in writes]
        batch = Batch(intent, blobs, self._disk.trash, self._clock.now, frozenset()).run(there)
        outcomes = {public.path: batch.outcomes[inner.path] for public, inner in zip(writes, there, strict=True)}
        for action in actions:
            if action.verb is Verb.REMOVE:
                outcomes[action.path] = Outcome(None)
            elif action.verb is Verb.MODE and action.want is not None and action.path in made.carried:
                want = action.want
                found = os.lstat(f"{self._parent}/{name}{action.path[len(self._link) :]}")
                outcomes[action.path] = Outcome(Local(want.kind, want.blob, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, made.carried[action.path]))
        top = next((action.want for action in actions if action.want is not None), None)
        tree = os.open(name, OPEN_BELOW, dir_fd=parent)
        try:
            os.fchmod(tree, top.dir_mode if top is not None else _mode_of(parent, live))
            syncfs(tree)
        finally:
            os.close(tree)
        return Applied(outcomes, batch.bytes_written, carried=made.carried)

    def _carry(self, parent: int, live: str, made: Made, gone: set[str], looks: Mapping[str, Action]) -> None:
        """Files, links and times of the live tree, but for `gone`; folders only where something is in them."""
        source, target = os.open(live, OPEN_BELOW, dir_fd=parent), os.open(made.name, OPEN_BELOW, dir_fd=parent)
        try:
            self._carry_folder(source, target, self._link, made, gone, looks)
        finally:
            os.close(source)
            os.close(target)

    def _carry_folder(self, source: int, target: int, public: str, made: Made, gone: set[str], looks: Mapping[str, Action]) -> None:
        for name in sorted(os.listdir(source)):
            path = f"{public}/{name}"
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                if path not in gone:
                    self._carry_down(source, target, name, path, found, made, gone, looks)
            elif path in gone or name.startswith(PREFIX):
                continue
            elif stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
                _own_link(target, name, found, looks.get(path))
                made.carried[path] = stat_of(os.stat(name, dir_fd=target, follow_symlinks=False))
            elif stat.S_ISREG(found.st_mode):
                made.carried[path] = _copy(source, target, name, found, looks.get(path))
            else:
                raise MirrorError(f"{path} is no file, folder or link; a tree with it can't be published anew", path=path, hint="remove it")

    def _carry_down(self, source: int, target: int, name: str, path: str, found: os.stat_result, made: Made, gone: set[str], looks: Mapping[str, Action]) -> None:
        before = len(made.carried)
        inner = os.open(name, OPEN_BELOW, dir_fd=source)
        try:
            os.mkdir(name, 0o700, dir_fd=target)
            outer = os.open(name, OPEN_BELOW, dir_fd=target)
            try:
                self._carry_folder(inner, outer, path, made, gone, looks)
                if os.geteuid() == 0:
                    os.fchown(outer, found.st_uid, found.st_gid)
                os.fchmod(outer, stat.S_IMODE(found.st_mode))
            finally:
                os.close(outer)
        finally:
            os.close(inner)
        if len(made.carried) == before:
            os.rmdir(name, dir_fd=target)

    def _given_up(self, parent: int, name: str, actions: Sequence[Action], failed: Mapping[str, Outcome]) -> Applied:
        _remove_tree(parent, name)
        first = next(iter(failed.values())).error
        words = first.message if first is not None else ""
        return Applied({action.path: failed.get(action.path, Outcome(action.expect, MirrorError(f"not published: {words}", path=action.path))) for action in actions})

    def _check_unchanged(self, live: str | None, actions: Sequence[Action]) -> None:
        """What the plan replaces is still what it saw. Raises ChangedUnderneathError."""
        for action in actions:
            now, expect = _lstat(self._real(action.path, live)), action.expect
            folder = expect is not None and expect.kind is Kind.DIRECTORY
            if now != (expect.stat if expect is not None else None) and not (folder and now is not None):
                raise ChangedUnderneathError(f"{action.path} was changed while syncd was at work; nothing was switched", path=action.path, hint="the next run looks again")

    def _switch(self, parent: int, name: str, live: str | None, intent: str) -> None:
        """The one instant: the link names the new tree, and the disk knows."""
        temporary = f"{PREFIX}{intent}-{secrets.token_hex(8)}"
        os.symlink(name, temporary, dir_fd=parent)
        try:
            if self._live() != live:
                raise ChangedUnderneathError(f"{self._link} was changed while syncd was at work; nothing was switched", path=self._link, hint="the next run looks again")
            os.rename(temporary, self._name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=parent)
            raise
        os.fsync(parent)

    def _evict(self, parent: int, live: str) -> list[MirrorError]:
        """Trees past the last `keep` are gone; what can't be removed is named and tried again with the next switch."""
        troubles = []
        trees = sorted((name for name in os.listdir(parent) if TREE.match(name) and name != live), reverse=True)
        for name in trees[max(0, self._keep - 1) :]:
            if _is_folder(parent, name):
                try:
                    _remove_tree(parent, name)
                except OSError as error:
                    troubles.append(MirrorError(f"can't remove the old tree {self._parent}/{name}: {error.strerror or error}", path=f"{self._parent}/{name}", hint="remove it by hand"))
        return troubles

    # --- after a crash ------------------------------------------------------------------------------------------------

    def sweep(self, intent: str, folders: Iterable[tuple[str, str]]) -> int:
        """The tree that the interrupted intent made is gone unless it is live, and so is its temporary link."""
        count = 0
        with suppress(FileNotFoundError), translated("sweep"), self._opened() as parent:
            live = self._live()
            for name in os.listdir(parent):
                if TREE.match(name) and name.endswith(f"-{intent}") and name != live and _is_folder(parent, name):
                    _remove_tree(parent, name)
                    count += 1
                elif name.startswith(f"{PREFIX}{intent}-"):
                    os.unlink(name, dir_fd=parent)
                    count += 1
            os.fsync(parent)
        return count

    def tidy(self, folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        return self._disk.tidy(folders)

    @contextmanager
    def _folder_of(self, parent: int, live: str | None, path: str) -> Iterator[int]:
        current = os.open(live or self._name, OPEN_BELOW, dir_fd=parent)
        try:
            for name in posixpath.dirname(path[len(self._link) :]).strip("/").split("/"):
                if name:
                    below = os.open(name, OPEN_BELOW, dir_fd=current)
                    os.close(current)
                    current = below
            yield current
        finally:
            os.close(current)


def _copy(source: int, target: int, name: str, found: os.stat_result, looks: Action | None) -> Stat:
    """The file with its owner, mode and times, or with the wanted mode and owner; blocks are shared where the file system can."""
    reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        writing = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            _copy_bytes(reading, writing)
            if os.geteuid() == 0 or looks is not None:
                os.fchown(writing, *_owner(found, looks))
            os.fchmod(writing, looks.want.mode if looks is not None and looks.want is not None else stat.S_IMODE(found.st_mode))
            os.utime(writing, ns=(found.st_atime_ns, found.st_mtime_ns))
            return stat_of(os.fstat(writing))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_bytes(reading: int, writing: int) -> None:
    try:
        while os.copy_file_range(reading, writing, COPY_BYTES):
            pass
    except OSError:  # not on this kernel, or across file systems: by hand, from where it came to
        with open(reading, "rb", closefd=False) as one, open(writing, "wb", closefd=False) as other:
            one.seek(0)
            other.seek(0)
            shutil.copyfileobj(one, other)


def _own_link(target: int, name: str, found: os.stat_result, looks: Action | None) -> None:
    uid, gid = _owner(found, looks)
    if os.geteuid() == 0 or looks is not None:
        os.chown(name, uid, gid, dir_fd=target, follow_symlinks=False)


def _owner(found: os.stat_result, looks: Action | None) -> tuple[int, int]:
    """Who a copy belongs to: whoever the original does, but for what is asked anew."""
    want = looks.want if looks is not None else None
    if want is None:
        return found.st_uid, found.st_gid
    return found.st_uid if want.uid is None else want.uid, found.st_gid if want.gid is None else want.gid


def _remove_tree(parent: int, name: str) -> None:
    """Through descriptors, following no link. Raises OSError."""
    with suppress(FileNotFoundError):
        shutil.rmtree(name, dir_fd=parent)


def _is_folder(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _mode_of(parent: int, live: str | None) -> int:
    return 0o755 if live is None else stat.S_IMODE(os.stat(live, dir_fd=parent, follow_symlinks=False).st_mode)


def _lstat(path: str) -> Stat | None:
    try:
        return stat_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, OPEN_FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
