"""`publish: symlink`: the whole set changes at once, by one rename of a link.

A change makes a complete new tree beside the live one and then renames a new link over the old: a reader that resolves the link
meets one set or the other, and one that holds a folder open keeps the set it has. Nothing is ever written into a tree that a link
has named; how files that stay come into the new one is in `tree_copy.py`.

The folder that holds the link and the trees is syncd's own; anything else in it is refused.
"""

from __future__ import annotations

import os
import posixpath
import secrets
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import BinaryIO

from msgspec.structs import replace

from syncd.clock import Clock
from syncd.deadline import no_limit
from syncd.errors import ChangedUnderneathError, MirrorError, UnsafePathError
from syncd.mirror.attributes import LostAttributes, copy_attributes, open_replaced
from syncd.mirror.cleanup import TEMP_PREFIX
from syncd.mirror.dirfd import OPEN_DIR_NOFOLLOW, TREE_NAME, translated_errors
from syncd.mirror.disk_mirror import DiskMirror, missing_parents
from syncd.mirror.emptied_directories import check_replaceable_directories
from syncd.mirror.expected_state import local_after_write
from syncd.mirror.free_space import check_free_space
from syncd.mirror.make_directories import make_parents
from syncd.mirror.metadata import check_folder
from syncd.mirror.permissions import refuse_lockout, set_mode
from syncd.mirror.published_trees import (
    check_only_own_entries,
    directory_at,
    is_directory,
    is_gone,
    remove_tree,
    stamp_of_new_tree,
    stat_at_path,
)
from syncd.mirror.racy import has_same_bytes
from syncd.mirror.scan import stat_of
from syncd.mirror.syscalls import sync_folder, syncfs
from syncd.mirror.trash import KeptContent
from syncd.mirror.tree_copy import (
    Changes,
    TreeCopy,
    copied_sizes,
    copy_owner,
    list_names,
    shares_blocks,
)
from syncd.mirror.write import PlanWriter
from syncd.models import Action, ActionKind, Job, Kind, LocalFile, Publish, RealFolder, WantedFile
from syncd.ports import NO_INODES, ActionOutcome, ApplyOutcome, Blobs, Inodes, Mirror, Target
from syncd.safe_open import open_folder

MAX_CATCH_UP_PASSES = 3  # passes for what others write into the live tree while a new one is made


def mirror_for(job: Job, disk: DiskMirror, clock: Clock) -> Mirror:
    """The disk as this job writes it."""
    mine = disk.of(job)
    return mine if job.publish is Publish.FILES else SymlinkMirror(mine, job, clock)


class SymlinkMirror:
    """The engine's Mirror for one job whose `to` is a link. Public paths lead through the link; the disk is reached through the live tree."""

    def __init__(self, disk: DiskMirror, job: Job, clock: Clock) -> None:
        self._disk, self._clock, self._keep = disk, clock, job.keep
        self._link = job.paths[0].to
        self._parent, self._name = posixpath.split(self._link)

    # --- looking ------------------------------------------------------------------------------------------------------

    def scan(
        self, targets: Mapping[str, Target], check: Callable[[], None] = no_limit
    ) -> dict[str, LocalFile | None]:
        with translated_errors("look at"):
            live = self._live()
        real = {path: self._real(path, live) for path in targets}
        found = self._disk.scan({real[path]: target for path, target in targets.items()}, check)
        return {path: found[place] for path, place in real.items()}

    def identities(self, folders: Iterable[str]) -> dict[str, tuple[int, int]]:
        return self._disk.identities(folders)

    def open(self, path: str, root: str) -> BinaryIO:
        with translated_errors("read"):
            live = self._live()
        return self._disk.open(self._real(path, live), root)

    def resolve(self, folders: Iterable[str]) -> dict[str, RealFolder]:
        return self._disk.resolve(folders)

    def mount_points(self, folders: Iterable[str]) -> dict[str, str]:
        return self._disk.mount_points(folders)

    def is_same_file(self, one: str, other: str) -> bool:
        with translated_errors("look at"):
            live = self._live()
        return self._disk.is_same_file(self._real(one, live), self._real(other, live))

    def other_spellings(self, paths: Iterable[str]) -> dict[str, str]:
        with translated_errors("look at"):
            live = self._live()
        real = {self._real(path, live): path for path in paths}
        spelled = self._disk.other_spellings(real)
        return {
            real[place]: posixpath.join(posixpath.dirname(real[place]), posixpath.basename(name))
            for place, name in spelled.items()
        }

    def distinguishes_names(
        self, folder: str, names: Sequence[str], root: str, intent: str | None = None
    ) -> bool | None:
        """A new tree is made beside the link, so the folder of the link tells."""
        return self._disk.distinguishes_names(
            self._parent if self._is_inside(folder) else folder, names, root, intent
        )

    def _real(self, path: str, live: str | None) -> str:
        """Where a public path is on disk: in the live tree, or in one that is not there. The link's own path is the top of the tree."""
        if not self._is_inside(path):
            return path
        return f"{self._parent}/{live or TEMP_PREFIX + 'none'}{path[len(self._link) :]}"

    def _is_inside(self, path: str) -> bool:
        return path == self._link or path.startswith(self._link + "/")

    def _live(self) -> str | None:
        """The tree that the link names; None where there is no link or no tree. Raises UnsafePathError for what is not ours."""
        try:
            with self._opened() as parent:
                found = os.stat(self._name, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISLNK(found.st_mode):
                    raise self._in_the_way(f"{self._link} is not a link")
                target = os.readlink(self._name, dir_fd=parent)
                if not TREE_NAME.match(target):
                    raise self._in_the_way(
                        f"{self._link} is a link to {target}, which syncd did not make"
                    )
                return target if is_directory(parent, target) else None
        except FileNotFoundError:
            return None

    def _in_the_way(self, what: str) -> UnsafePathError:
        aside = f"{self._parent}.{self._name}.before"  # beside our own folder: inside it would be in the way again
        return UnsafePathError(
            f"{what}; with publish: symlink it has to be syncd's own link",
            path=self._link,
            hint=f"move it away (mv {shlex.quote(self._link)} {shlex.quote(aside)}) and sync again; syncd replaces nothing it did not make",
        )

    @contextmanager
    def _opened(self) -> Iterator[int]:
        parent = open_folder(self._parent)
        try:
            yield parent
        finally:
            os.close(parent)

    # --- before -------------------------------------------------------------------------------------------------------

    def check_replaceable_directories(
        self, actions: Iterable[Action], folders: frozenset[str]
    ) -> None:
        with translated_errors("look into"):
            live = self._live()
            check_replaceable_directories(actions, folders, lambda path: self._real(path, live))

    def prepare(self, job: Job, actions: Sequence[Action]) -> tuple[str, ...]:
        with translated_errors("prepare"):
            try:
                with self._opened() as parent:
                    check_only_own_entries(parent, self._link, job.name)
                    live = self._live()
                    behind = [
                        action for action in actions if self._is_inside(action.path)
                    ]  # else no new tree is made
                    copied_sizes = self._copies(parent, live, behind) if behind else ()
                    trash = self._disk.room_for_trash(actions)
                    check_free_space(
                        behind, (*((self._parent, size) for size in copied_sizes), *trash)
                    )
            except FileNotFoundError:
                check_free_space(actions, self._disk.room_for_trash(actions))
            made = missing_parents(
                action
                for action in actions
                if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
            )
        refuse_lockout(actions, made)
        return made

    def _copies(self, parent: int, live: str | None, actions: Sequence[Action]) -> Iterator[int]:
        """The sizes of what will be carried over; 0 bytes each where copies share their blocks."""
        if live is None:
            return
        shared = shares_blocks(parent)
        tree = os.open(live, OPEN_DIR_NOFOLLOW, dir_fd=parent)
        try:
            for size in copied_sizes(tree, self._link, Changes.of(actions)):
                yield 0 if shared else size
        finally:
            os.close(tree)

    # --- the switch ---------------------------------------------------------------------------------------------------

    def apply(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        folders: frozenset[str],
        looks: Mapping[str, WantedFile],
        kept: Inodes = NO_INODES,
    ) -> ApplyOutcome:
        """A complete new tree is live, or everything is as it was and each action says why: half a switch there is none.

        Only the folders above the link stand by themselves.
        """
        above = [action for action in actions if not self._is_inside(action.path)]
        done = (
            self._disk.apply(intent, above, blobs, frozenset(), {}) if above else ApplyOutcome({})
        )
        behind = [action for action in actions if self._is_inside(action.path)]
        if not behind:
            return done
        applied = self._publish(intent, behind, blobs, folders, looks)
        return replace(
            applied,
            outcomes={**done.outcomes, **applied.outcomes},
            other_errors=(*done.other_errors, *applied.other_errors),
        )

    def _publish(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        folders: frozenset[str],
        looks: Mapping[str, WantedFile],
    ) -> ApplyOutcome:
        with translated_errors("publish at"):
            outer = self._make_parent(actions, looks)
            live = self._live()
            with self._opened() as parent:
                name = f"{stamp_of_new_tree(parent, self._clock.now())}-{intent}"
                os.mkdir(name, 0o700, dir_fd=parent)
                try:
                    applied = self._build(
                        parent, name, live, intent, actions, blobs, folders, looks
                    )
                    failed = {
                        path: one for path, one in applied.outcomes.items() if one.error is not None
                    }
                    if failed:
                        return replace(
                            self._failure_of_all(parent, name, actions, failed),
                            directories_created=outer,
                        )
                    self._check_unchanged(live, actions)
                    with self._foreign_files_kept(parent, name, live, actions) as before:
                        self._switch(parent, name, live, intent)
                except BaseException:
                    self._take_back(parent, name)
                    raise
                top = () if self._link in folders else (self._link,)
                gone = tuple(
                    folder
                    for folder in sorted(folders)
                    if self._is_inside(folder) and is_gone(self._inside(name, folder))
                )
                made = (*outer, *top, *applied.directories_created)
                outcomes = {
                    path: replace(one, before=before.get(path))
                    for path, one in applied.outcomes.items()
                }
                return replace(
                    applied,
                    outcomes=outcomes,
                    directories_created=made,
                    directories_removed=gone,
                    other_errors=(*applied.other_errors, *self._remove_old_trees(parent, live)),
                )

    def _make_parent(
        self, actions: Sequence[Action], looks: Mapping[str, WantedFile]
    ) -> tuple[str, ...]:
        """The folder of the link stands; those that had to be made for it."""
        usual = next(
            (action.wanted.dir_mode for action in actions if action.wanted is not None), 0o755
        )
        made = list[str]()
        make_parents(self._parent, looks, usual, made)
        return tuple(reversed(made))

    def _build(
        self,
        parent: int,
        name: str,
        live: str | None,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        folders: frozenset[str],
        looks: Mapping[str, WantedFile],
    ) -> ApplyOutcome:
        """The new tree holds what the live one holds, but for the actions; every byte of it is on disk."""
        lost, by_new_path = (
            LostAttributes(),
            {self._inside(name, action.path): action for action in actions},
        )
        with self._tree_copy(parent, name, live, actions, lost) as carrying:
            if carrying is not None:
                copy_attributes(
                    carrying.source,
                    carrying.target,
                    0o700 | os.fstat(carrying.target).st_mode & stat.S_ISGID,
                    self._link,
                    lost,
                )
                carrying.once()
            batch = self._write(
                name,
                intent,
                actions,
                blobs,
                looks,
                partial(self._open_replaced, parent, live, by_new_path),
                lost,
            )
            self._finish_top(parent, name, live, actions, self._link in folders)
            for _ in range(MAX_CATCH_UP_PASSES):
                if carrying is None or not carrying.once():
                    break
                syncfs(parent)
        carried = carrying.files if carrying is not None else {}
        outcomes = {
            action.path: batch.outcomes[self._inside(name, action.path)]
            for action in actions
            if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
        }
        for action in actions:
            if action.kind is ActionKind.REMOVE:
                outcomes[action.path] = ActionOutcome(None)
            elif action.is_directory:
                outcomes[action.path] = ActionOutcome(directory_at(self._inside(name, action.path)))
            elif (
                action.kind is ActionKind.MODE
                and action.wanted is not None
                and action.path in carried
            ):
                found, copy = os.lstat(self._inside(name, action.path)), carried[action.path]
                racy = copy.racy or stat_of(found) != copy.after
                outcomes[action.path] = ActionOutcome(local_after_write(action.wanted, found, racy))
        made = tuple(
            self._link + path.removeprefix(f"{self._parent}/{name}")
            for path in batch.directories_created
        )
        notes = tuple(self._shown(name, note) for note in lost.notes())
        for outcome in outcomes.values():
            if outcome.error is not None:
                outcome.error.message = self._shown(name, outcome.error.message)
        return ApplyOutcome(outcomes, batch.bytes_written, made, notes=notes, copied=carried)

    def _shown(self, name: str, text: str) -> str:
        """What is said of the new tree, by the paths that it will have."""
        return text.replace(f"{self._parent}/{name}", self._link)

    @contextmanager
    def _foreign_files_kept(
        self, parent: int, name: str, live: str | None, actions: Sequence[Action]
    ) -> Iterator[Mapping[str, str | None]]:
        """A context for the switch: what the new tree replaces and is not ours is in the trash, under these ids.

        The copies go again where the block fails and the new tree is not live.
        """
        kept = list[KeptContent]()
        foreign = [
            action for action in actions if action.replaces_foreign and action.expected is not None
        ]
        try:
            for action in foreign:
                file = posixpath.basename(action.path)
                with (
                    translated_errors("keep"),
                    self._folder_of(parent, live, action.path) as folder,
                ):
                    now = self._clock.now()
                    kept.append(self._disk.trash.keep(folder, file, action, now))
            if foreign:
                self._check_unchanged(live, actions)
            yield {action.path: one.content for action, one in zip(foreign, kept, strict=True)}
        except BaseException:
            if self._live() != name:
                self._disk.trash.undo_keep(kept)
            raise

    def _inside(self, tree: str, path: str) -> str:
        return f"{self._parent}/{tree}{path[len(self._link) :]}"

    @contextmanager
    def _tree_copy(
        self,
        parent: int,
        name: str,
        live: str | None,
        actions: Sequence[Action],
        lost: LostAttributes,
    ) -> Iterator[TreeCopy | None]:
        if live is None:
            yield None
            return
        source = os.open(live, OPEN_DIR_NOFOLLOW, dir_fd=parent)
        try:
            target = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=parent)
            try:
                kernel_clock = self._disk.kernel_clock
                yield TreeCopy(source, target, self._link, Changes.of(actions), kernel_clock, lost)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _open_replaced(
        self,
        parent: int,
        live: str | None,
        actions: Mapping[str, Action],
        _folder: int,
        step: Action,
    ) -> int | None:
        """The file of the live tree that the step in the new tree replaces."""
        action = actions[step.path]
        if live is None or action.expected is None or action.expected.kind is not Kind.FILE:
            return None
        with self._folder_of(parent, live, action.path) as folder:
            return open_replaced(folder, action)

    def _write(
        self,
        name: str,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        looks: Mapping[str, WantedFile],
        opens: Callable[[int, Action], int | None],
        lost: LostAttributes,
    ) -> ApplyOutcome:
        writes = [
            action for action in actions if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
        ]
        there = [
            replace(
                action, path=self._inside(name, action.path), expected=None, replaces_foreign=False
            )
            for action in writes
        ]
        inside = {
            self._inside(name, path): entry
            for path, entry in looks.items()
            if self._is_inside(path)
        }
        batch = PlanWriter(
            intent,
            blobs,
            self._disk.trash,
            self._clock.now,
            frozenset(),
            inside,
            clock=self._disk.kernel_clock,
            open_replaced=opens,
            lost=lost,
        )
        return batch.run(there)

    def _finish_top(
        self, parent: int, name: str, live: str | None, actions: Sequence[Action], known: bool
    ) -> None:
        """The top of the tree has the mode and owner of a folder of the job's, or those of the tree before, and everything is on disk.

        Where the top is `known`, the plan has said whether it is to be another: else it is carried over as it is.
        """
        want = next(
            (
                action.wanted
                for action in actions
                if action.wanted is not None
                and (action.path == self._link or not known or live is None)
            ),
            None,
        )
        before = os.stat(live, dir_fd=parent, follow_symlinks=False) if live is not None else None
        tree = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=parent)
        try:
            if want is not None and (want.uid is not None or want.gid is not None):
                os.fchown(tree, *copy_owner(os.fstat(tree), want))
            elif before is not None and os.geteuid() == 0:
                os.fchown(tree, before.st_uid, before.st_gid)
            inherited = os.fstat(tree).st_mode & stat.S_ISGID
            mode = (
                want.dir_mode | inherited
                if want is not None
                else stat.S_IMODE(before.st_mode)
                if before is not None
                else 0o755 | inherited
            )
            set_mode(f"/proc/self/fd/{tree}", mode)
            check_folder(
                self._link,
                mode,
                os.fstat(tree),
                *((want.uid, want.gid) if want is not None else ()),
            )
        finally:
            os.close(tree)
        syncfs(
            parent
        )  # open since before the tree was begun: a write to it that failed meanwhile is told to whoever was there

    def _take_back(self, parent: int, name: str) -> None:
        """The new tree is gone, unless the link names it already: then only the last sync failed, and what readers have must stay."""
        with suppress(OSError, MirrorError):  # what stays is swept with its intent
            if self._live() != name:
                remove_tree(parent, name)

    def _failure_of_all(
        self, parent: int, name: str, actions: Sequence[Action], failed: Mapping[str, ActionOutcome]
    ) -> ApplyOutcome:
        remove_tree(parent, name)
        first = next(iter(failed.values())).error
        words = first.message if first is not None else ""
        return ApplyOutcome(
            {
                action.path: failed.get(
                    action.path,
                    ActionOutcome(
                        action.expected, MirrorError(f"not published: {words}", path=action.path)
                    ),
                )
                for action in actions
            }
        )

    def _check_unchanged(self, live: str | None, actions: Sequence[Action]) -> None:
        """What the plan replaces is still what it saw. Raises ChangedUnderneathError."""
        for action in actions:
            now, expect = stat_at_path(self._real(action.path, live)), action.expected
            folder = expect is not None and expect.kind is Kind.DIRECTORY
            as_seen = (
                directory_at(self._real(action.path, live)) == expect
                if action.is_directory
                else folder and now is not None
            )
            if now != (expect.stat if expect is not None else None) and not as_seen:
                raise self._changed(action.path)
        self._check_racy([action for action in actions if action.expected and action.expected.racy])

    def _check_racy(self, actions: Sequence[Action]) -> None:
        """The bytes are still those that the plan saw, where the stat alone does not prove it."""
        found = self.scan(
            {
                action.path: Target(
                    self._parent, None, size=action.expected.stat.size if action.expected else None
                )
                for action in actions
            }
        )
        for action in actions:
            if not has_same_bytes(found[action.path], action.expected):
                raise self._changed(action.path)

    def _changed(self, path: str) -> ChangedUnderneathError:
        return ChangedUnderneathError(
            f"{path} was changed while syncd was at work; nothing was switched",
            path=path,
            hint="the next run looks again",
        )

    def _switch(self, parent: int, name: str, live: str | None, intent: str) -> None:
        """The one instant: the link names the new tree, and the disk knows."""
        temporary = f"{TEMP_PREFIX}{intent}-{secrets.token_hex(8)}"
        os.symlink(name, temporary, dir_fd=parent)
        try:
            if self._live() != live:
                raise ChangedUnderneathError(
                    f"{self._link} was changed while syncd was at work; nothing was switched",
                    path=self._link,
                    hint="the next run looks again",
                )
            os.rename(temporary, self._name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=parent)
            raise
        sync_folder(parent)

    def _remove_old_trees(self, parent: int, before: str | None = None) -> list[MirrorError]:
        """Trees past the last `keep` are gone; `before`, which readers had until now, counts as the newest after the live one. What can't be removed is named."""
        live, troubles = self._live(), []
        trees = sorted(
            (
                name
                for name in list_names(parent)
                if TREE_NAME.match(name) and name != live and is_directory(parent, name)
            ),
            reverse=True,
        )
        trees.sort(key=lambda name: name != before)
        old = trees[max(0, self._keep - 1) :]
        for name in old:
            try:
                remove_tree(parent, name)
            except OSError as error:
                troubles.append(self._not_removed(name, error))
        try:
            if old:
                sync_folder(
                    parent
                )  # else a power cut brings them back, and nobody would look before the next switch
        except OSError as error:
            troubles.append(self._not_removed(old[0], error))
        return troubles

    def _not_removed(self, name: str, error: OSError) -> MirrorError:
        place = f"{self._parent}/{name}"
        return MirrorError(
            f"can't remove the old tree {place}: {error.strerror or error}",
            path=place,
            hint="the next run tries again; or remove it by hand",
        )

    # --- after a crash ------------------------------------------------------------------------------------------------

    def remove_temp_files(self, intent: str, folders: Iterable[tuple[str, str]]) -> int:
        """The tree that the interrupted intent made is gone unless it is live, and so are its temporary link and trees past the last `keep`."""
        count = 0
        with translated_errors("sweep"), suppress(FileNotFoundError), self._opened() as parent:
            live = self._live()
            for name in list_names(parent):
                if (
                    TREE_NAME.match(name)
                    and name.endswith(f"-{intent}")
                    and name != live
                    and is_directory(parent, name)
                ):
                    remove_tree(parent, name)
                    count += 1
                elif name.startswith(f"{TEMP_PREFIX}{intent}-") and stat.S_ISLNK(
                    os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
                ):
                    os.unlink(name, dir_fd=parent)
                    count += 1
            self._remove_old_trees(parent)
            sync_folder(parent)
        outside = {pair for pair in folders if not self._is_inside(pair[1])} | {
            (self._parent, self._parent)
        }
        return count + self._disk.remove_temp_files(intent, outside)

    def remove_empty_directories(self, folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Also after a run that could not remove an old tree: it is tried again. A folder of a tree never goes alone; one that the live tree lacks is gone."""
        pairs, gone = list(folders), []
        with suppress(FileNotFoundError, OSError, MirrorError), self._opened() as parent:
            self._remove_old_trees(parent)
            live = self._live()
            gone = [
                path
                for _, path in pairs
                if self._is_inside(path) and live is not None and is_gone(self._real(path, live))
            ]
        return (
            *gone,
            *self._disk.remove_empty_directories(
                pair for pair in pairs if not self._is_inside(pair[1])
            ),
        )

    @contextmanager
    def _folder_of(self, parent: int, live: str | None, path: str) -> Iterator[int]:
        current = os.open(live or self._name, OPEN_DIR_NOFOLLOW, dir_fd=parent)
        try:
            for name in posixpath.dirname(path[len(self._link) :]).strip("/").split("/"):
                if name:
                    below = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=current)
                    os.close(current)
                    current = below
            yield current
        finally:
            os.close(current)
