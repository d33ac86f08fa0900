"""`publish: symlink`: the whole set changes at once, by one rename of a link.

A change makes a complete new tree beside the live one and then renames a new link over the old one.
A reader that resolves the link meets one set or the other, and one that holds a directory open
keeps the set it has. Nothing is ever written into a tree that a link has named. `new_tree.py` makes
a tree, `tree_copy.py` copies what stays, and `published_link.py` has the link and the old trees.

The directory that holds the link and the trees is syncd's own; anything else in it is refused.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO

from msgspec.structs import replace

from syncd.clock import Clock
from syncd.deadline import no_limit
from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.folder_sync import sync_folder
from syncd.mirror.dirfd import OPEN_DIR_NOFOLLOW, changed_error, translated_errors
from syncd.mirror.disk_mirror import DiskMirror, missing_parents
from syncd.mirror.emptied_directories import check_replaceable_directories
from syncd.mirror.free_space import check_free_space
from syncd.mirror.make_directories import make_parents
from syncd.mirror.new_tree import NewTree
from syncd.mirror.permissions import refuse_lockout
from syncd.mirror.published_link import PublishedLink
from syncd.mirror.published_trees import (
    check_only_own_entries,
    directory_at,
    is_directory_gone,
    remove_tree,
    stamp_of_new_tree,
    stat_at_path,
)
from syncd.mirror.racy import has_same_bytes
from syncd.mirror.trash import KeptContent
from syncd.mirror.tree_copy import Changes, copied_sizes, shares_blocks
from syncd.models import Action, ActionKind, Job, Kind, LocalFile, RealFolder, WantedFile
from syncd.policies import Publish
from syncd.ports import NO_INODES, ApplyOutcome, Blobs, Inodes, Mirror, Target
from syncd.progress import SILENT, ProgressListener


def mirror_for(
    job: Job, disk: DiskMirror, clock: Clock, progress: ProgressListener = SILENT
) -> Mirror:
    """Return the disk as this job writes it; `progress` hears what is written."""
    own = disk.for_job(job, progress)
    return own if job.publish is Publish.FILES else SymlinkMirror(own, job, clock)


class SymlinkMirror:
    """The engine's Mirror for one job whose `to` is a link.

    Public paths lead through the link; the disk is reached through the live tree.
    """

    def __init__(self, disk: DiskMirror, job: Job, clock: Clock) -> None:
        self._disk, self._clock = disk, clock
        self._link = PublishedLink(job.paths[0].to, job.keep)

    # --- reading ----------------------------------------------------------------------------------

    def scan(
        self, targets: Mapping[str, Target], check: Callable[[], None] = no_limit
    ) -> dict[str, LocalFile | None]:
        """Return what is at each destination in the live tree (see `ports.Mirror`)."""
        with translated_errors("inspect"):
            live = self._link.live()
        real = {path: self._link.real(path, live) for path in targets}
        found = self._disk.scan({real[path]: target for path, target in targets.items()}, check)
        return {path: found[place] for path, place in real.items()}

    def identities(self, folders: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return device and inode of those of the directories that exist."""
        return self._disk.identities(folders)

    def open(self, path: str, root: str) -> BinaryIO:
        """Open the bytes of the file, or the text of the link, in the live tree."""
        with translated_errors("read"):
            live = self._link.live()
        return self._disk.open(self._link.real(path, live), root)

    def resolve(self, folders: Iterable[str]) -> dict[str, RealFolder]:
        """Return where each directory really is."""
        return self._disk.resolve(folders)

    def mount_points(self, folders: Iterable[str]) -> dict[str, str]:
        """Return the mount point of each directory, without those below `/`."""
        return self._disk.mount_points(folders)

    def is_same_file(self, one: str, other: str) -> bool:
        """Return whether two destinations are one entry of one directory of the live tree."""
        with translated_errors("inspect"):
            live = self._link.live()
        return self._disk.is_same_file(self._link.real(one, live), self._link.real(other, live))

    def other_spellings(self, paths: Iterable[str]) -> dict[str, str]:
        """Return how the live tree spells those that exist under another spelling."""
        with translated_errors("inspect"):
            live = self._link.live()
        real = {self._link.real(path, live): path for path in paths}
        spelled = self._disk.other_spellings(real)
        return {
            real[place]: posixpath.join(posixpath.dirname(real[place]), posixpath.basename(name))
            for place, name in spelled.items()
        }

    def distinguishes_names(
        self, folder: str, names: Sequence[str], root: str, intent: str | None = None
    ) -> bool | None:
        """Return whether the disk keeps the names apart; None where that needs a trial.

        A new tree is made beside the link, so the directory of the link is asked.
        """
        asked = self._link.parent if self._link.contains(folder) else folder
        return self._disk.distinguishes_names(asked, names, root, intent)

    # --- before a change --------------------------------------------------------------------------

    def check_replaceable_directories(
        self, actions: Iterable[Action], owned_dirs: frozenset[str]
    ) -> None:
        """Raise MirrorError where a directory that becomes a file holds what the actions leave."""
        with translated_errors("look into"):
            live = self._link.live()
            check_replaceable_directories(
                actions, owned_dirs, lambda path: self._link.real(path, live)
            )

    def prepare(self, job: Job, actions: Sequence[Action]) -> tuple[str, ...]:
        """Check that the actions can be carried out; return the directories that will be made.

        Raises MirrorError; nothing was touched.
        """
        with translated_errors("prepare"):
            self._check_space(job, actions)
            made = missing_parents(
                action
                for action in actions
                if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
            )
        refuse_lockout(actions, made)
        return made

    def _check_space(self, job: Job, actions: Sequence[Action]) -> None:
        try:
            with self._link.opened_parent() as parent:
                check_only_own_entries(parent, self._link.path, job.name)
                live = self._link.live()
                # Without an action behind the link no new tree is made.
                behind = [action for action in actions if self._link.contains(action.path)]
                sizes = self._copied_sizes(parent, live, behind) if behind else ()
                copies = [(self._link.parent, size) for size in sizes]
                check_free_space(behind, [*copies, *self._disk.trash_copies(actions)])
        except FileNotFoundError:
            check_free_space(actions, self._disk.trash_copies(actions))

    def _copied_sizes(
        self, parent: int, live: str | None, actions: Sequence[Action]
    ) -> Iterator[int]:
        """Yield the sizes of what will be copied; 0 bytes each where copies share their blocks."""
        if live is None:
            return
        shared = shares_blocks(parent)
        tree = os.open(live, OPEN_DIR_NOFOLLOW, dir_fd=parent)
        try:
            for size in copied_sizes(tree, self._link.path, Changes.of(actions)):
                yield 0 if shared else size
        finally:
            os.close(tree)

    # --- the switch -------------------------------------------------------------------------------

    def apply(
        self,
        intent: str,
        actions: Sequence[Action],
        blobs: Blobs,
        owned_dirs: frozenset[str],
        dir_entries: Mapping[str, WantedFile],
        kept: Inodes = NO_INODES,
    ) -> ApplyOutcome:
        """Make a complete new tree live, or leave everything and say for each action why.

        Only the directories above the link are changed by themselves. The six parameters are those
        of `ports.Mirror`.
        """
        above = [action for action in actions if not self._link.contains(action.path)]
        done = ApplyOutcome({})
        if above:
            done = self._disk.apply(intent, above, blobs, frozenset(), {})
        behind = [action for action in actions if self._link.contains(action.path)]
        if not behind:
            return done
        applied = self._publish(intent, behind, blobs, owned_dirs, dir_entries)
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
        owned_dirs: frozenset[str],
        dir_entries: Mapping[str, WantedFile],
    ) -> ApplyOutcome:
        with translated_errors("publish at"):
            above = self._make_parent(actions, dir_entries)
            live = self._link.live()
            with self._link.opened_parent() as parent:
                name = f"{stamp_of_new_tree(parent, self._clock.now())}-{intent}"
                tree = NewTree(
                    self._link,
                    self._disk,
                    parent,
                    name,
                    live,
                    intent,
                    actions,
                    owned_dirs,
                    dir_entries,
                )
                os.mkdir(name, 0o700, dir_fd=parent)
                applied = self._build_and_switch(tree, blobs)
                return replace(
                    applied,
                    directories_created=(*above, *applied.directories_created),
                )

    def _make_parent(
        self, actions: Sequence[Action], dir_entries: Mapping[str, WantedFile]
    ) -> tuple[str, ...]:
        """Make the directory of the link; return those that had to be made for it."""
        modes = (action.wanted.dir_mode for action in actions if action.wanted is not None)
        made = list[str]()
        make_parents(self._link.parent, dir_entries, next(modes, 0o755), made)
        return tuple(reversed(made))

    def _build_and_switch(self, tree: NewTree, blobs: Blobs) -> ApplyOutcome:
        """Build the tree and make it live; remove it again where anything fails."""
        try:
            applied = tree.build(blobs, self._clock.now())
            failed = {path: one for path, one in applied.outcomes.items() if one.error is not None}
            if failed:
                remove_tree(tree.parent, tree.name)
                return tree.failure_of_all(failed)
            self._check_unchanged(tree.live, tree.actions)
            with self._foreign_files_kept(tree) as before:
                self._link.switch(tree.parent, tree.name, tree.live, tree.intent)
        except BaseException:
            self._link.remove_if_not_live(tree.parent, tree.name)
            raise
        return self._after_switch(tree, applied, before)

    def _after_switch(
        self, tree: NewTree, applied: ApplyOutcome, before: Mapping[str, str | None]
    ) -> ApplyOutcome:
        """Remove old trees, and complete the outcome: `before` are the ids of what was replaced."""
        for action in tree.actions:
            self._disk.progress.acted(action.kind.value, action.path)
        top = () if self._link.path in tree.owned_dirs else (self._link.path,)
        gone = tuple(
            path
            for path in sorted(tree.owned_dirs)
            if self._link.contains(path) and is_directory_gone(self._link.in_tree(tree.name, path))
        )
        old_trees = self._link.remove_old_trees(tree.parent, tree.live)
        return replace(
            applied,
            outcomes={
                path: replace(one, before=before.get(path))
                for path, one in applied.outcomes.items()
            },
            directories_created=(*top, *applied.directories_created),
            directories_removed=gone,
            other_errors=(*applied.other_errors, *old_trees),
        )

    @contextmanager
    def _foreign_files_kept(self, tree: NewTree) -> Iterator[Mapping[str, str | None]]:
        """Put what the new tree replaces and is not syncd's into the trash, for the switch.

        Yields the ids of what was kept, by path. The copies are removed again where the block
        fails and the new tree is not live.
        """
        kept = list[KeptContent]()
        foreign = [one for one in tree.actions if one.replaces_foreign and one.expected is not None]
        try:
            for action in foreign:
                with (
                    translated_errors("keep"),
                    self._link.opened_parent_of(tree.parent, tree.live, action.path) as folder,
                ):
                    name, now = posixpath.basename(action.path), self._clock.now()
                    kept.append(self._disk.trash.keep(folder, name, action, now))
            if foreign:
                self._check_unchanged(tree.live, tree.actions)
            yield {action.path: one.content for action, one in zip(foreign, kept, strict=True)}
        except BaseException:
            if self._link.live() != tree.name:
                self._disk.trash.undo_keep(kept)
            raise

    def _check_unchanged(self, live: str | None, actions: Sequence[Action]) -> None:
        """Raise ChangedUnderneathError where what the plan replaces is not what it saw."""
        for action in actions:
            if not _is_as_expected(action, self._link.real(action.path, live)):
                raise self._changed(action.path)
        self._check_racy([action for action in actions if action.expected and action.expected.racy])

    def _check_racy(self, actions: Sequence[Action]) -> None:
        """Compare the bytes with those that the plan saw, where the stat alone proves nothing."""
        found = self.scan(
            {
                action.path: Target(
                    self._link.parent,
                    None,
                    size=action.expected.stat.size if action.expected else None,
                )
                for action in actions
            }
        )
        for action in actions:
            if not has_same_bytes(found[action.path], action.expected):
                raise self._changed(action.path)

    def _changed(self, path: str) -> ChangedUnderneathError:
        return changed_error(
            path, f"{path} was changed while syncd was working; nothing was switched"
        )

    # --- after a crash ----------------------------------------------------------------------------

    def remove_temp_files(self, intent: str, folders: Iterable[tuple[str, str]]) -> int:
        """Remove the tree that the interrupted intent made unless it is live; return how many.

        Its temporary link and the trees past the last `keep` are removed too.
        """
        count = 0
        with (
            translated_errors("clean up in"),
            suppress(FileNotFoundError),
            self._link.opened_parent() as parent,
        ):
            count = self._link.remove_leftovers(parent, intent)
            self._link.remove_old_trees(parent)
            sync_folder(parent)
        outside = {pair for pair in folders if not self._link.contains(pair[1])}
        outside.add((self._link.parent, self._link.parent))
        return count + self._disk.remove_temp_files(intent, outside)

    def remove_empty_directories(self, folders: Iterable[tuple[str, str]]) -> tuple[str, ...]:
        """Remove old trees that could not be removed before; return the directories that are gone.

        A directory of a tree is never removed alone; one that the live tree lacks is gone.
        """
        pairs, gone = list(folders), []
        with suppress(OSError, MirrorError), self._link.opened_parent() as parent:
            self._link.remove_old_trees(parent)
            live = self._link.live()
            gone = [
                path
                for _, path in pairs
                if self._link.contains(path)
                and live is not None
                and is_directory_gone(self._link.real(path, live))
            ]
        outside = [pair for pair in pairs if not self._link.contains(pair[1])]
        return (*gone, *self._disk.remove_empty_directories(outside))


def _is_as_expected(action: Action, place: str) -> bool:
    """Return whether what is at `place` has the stat, or is the directory, that the plan saw."""
    now, expected = stat_at_path(place), action.expected
    if now == (expected.stat if expected is not None else None):
        return True
    if action.is_directory:
        return directory_at(place) == expected
    return expected is not None and expected.kind is Kind.DIRECTORY and now is not None
