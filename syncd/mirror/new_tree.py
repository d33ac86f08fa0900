"""Build the new tree of `publish: symlink` from the live tree and the plan."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.mirror.attributes import LostAttributes, copy_attributes, open_replaced
from syncd.mirror.dirfd import OPEN_DIR_NOFOLLOW
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.expected_state import local_after_write
from syncd.mirror.metadata import check_folder
from syncd.mirror.permissions import set_mode
from syncd.mirror.published_link import PublishedLink
from syncd.mirror.published_trees import directory_at
from syncd.mirror.scan import stat_of
from syncd.mirror.syscalls import syncfs
from syncd.mirror.tree_copy import Changes, TreeCopy, copy_owner
from syncd.mirror.write import PlanWriter
from syncd.models import Action, ActionKind, Kind, WantedFile
from syncd.ports import ActionOutcome, ApplyOutcome, Blobs, CopiedFile

MAX_CATCH_UP_PASSES = 3  # for what others write into the live tree while a new one is made


class NewTree(Struct):
    """One new tree, `name` in the open directory `parent`, beside the `live` one.

    `owned_dirs` are those that syncd made before, by public path; `dir_entries` has mode and owner
    of those that it makes now. Nothing is written into a tree that a link has named.
    """

    link: PublishedLink
    disk: DiskMirror
    parent: int
    name: str
    live: str | None
    intent: str
    actions: Sequence[Action]
    owned_dirs: frozenset[str]
    dir_entries: Mapping[str, WantedFile]
    lost: LostAttributes = field(default_factory=LostAttributes)

    def build(self, blobs: Blobs, now: datetime) -> ApplyOutcome:
        """Fill the tree with what the live one holds, except for the actions, and sync it to disk.

        Raises MirrorError, OSError.
        """
        with self._tree_copy() as tree_copy:
            if tree_copy is not None:
                self._copy_top_attributes(tree_copy)
                tree_copy.copy_changes()
            written = self._write(blobs, now)
            self._finish_top()
            for _ in range(MAX_CATCH_UP_PASSES):
                if tree_copy is None or not tree_copy.copy_changes():
                    break
                syncfs(self.parent)
        copied = tree_copy.files if tree_copy is not None else {}
        outcomes = self._outcomes(written, copied)
        for outcome in outcomes.values():
            if outcome.error is not None:
                outcome.error.message = self.link.shown(self.name, outcome.error.message)
        return ApplyOutcome(
            outcomes,
            written.bytes_written,
            tuple(self.link.shown(self.name, path) for path in written.directories_created),
            notes=tuple(self.link.shown(self.name, note) for note in self.lost.notes()),
            copied=copied,
        )

    def failure_of_all(self, failed: Mapping[str, ActionOutcome]) -> ApplyOutcome:
        """Return the outcome where some actions failed, and so none was published."""
        first = next(iter(failed.values())).error
        words = first.message if first is not None else ""
        outcomes = dict[str, ActionOutcome]()
        for action in self.actions:
            error = MirrorError(f"the tree was not published: {words}", path=action.path)
            outcome = ActionOutcome(action.expected, error)
            outcomes[action.path] = failed.get(action.path, outcome)
        return ApplyOutcome(outcomes)

    @contextmanager
    def _tree_copy(self) -> Iterator[TreeCopy | None]:
        if self.live is None:
            yield None
            return
        source = os.open(self.live, OPEN_DIR_NOFOLLOW, dir_fd=self.parent)
        try:
            target = os.open(self.name, OPEN_DIR_NOFOLLOW, dir_fd=self.parent)
            try:
                changes, clock = Changes.of(self.actions), self.disk.kernel_clock
                yield TreeCopy(source, target, self.link.path, changes, clock, self.lost)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _copy_top_attributes(self, tree_copy: TreeCopy) -> None:
        inherited = os.fstat(tree_copy.target).st_mode & stat.S_ISGID
        mode = 0o700 | inherited
        copy_attributes(tree_copy.source, tree_copy.target, mode, self.link.path, self.lost)

    def _write(self, blobs: Blobs, now: datetime) -> ApplyOutcome:
        """Write the files of the plan into the new tree."""
        by_new_path = {self.link.in_tree(self.name, one.path): one for one in self.actions}
        writes = [
            replace(action, path=path, expected=None, replaces_foreign=False)
            for path, action in by_new_path.items()
            if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
        ]
        entries = {
            self.link.in_tree(self.name, path): entry
            for path, entry in self.dir_entries.items()
            if self.link.contains(path)
        }
        writer = PlanWriter(
            self.intent,
            blobs,
            self.disk.trash,
            lambda: now,
            frozenset(),
            entries,
            clock=self.disk.kernel_clock,
            progress=self.disk.progress,
            open_replaced=partial(self._open_replaced, by_new_path),
            lost=self.lost,
        )
        return writer.run(writes)

    def _open_replaced(
        self, actions: Mapping[str, Action], _folder: int, written: Action
    ) -> int | None:
        """Open the file of the live tree that the one in the new tree replaces."""
        action = actions[written.path]
        if self.live is None or action.expected is None or action.expected.kind is not Kind.FILE:
            return None
        with self.link.opened_parent_of(self.parent, self.live, action.path) as folder:
            return open_replaced(folder, action)

    def _finish_top(self) -> None:
        """Give the tree's top its mode and owner, and sync the whole tree to disk.

        They are those of the job's directories, or those of the tree before. Where syncd owns the
        top, the plan says whether they change; else they are copied.
        """
        wanted = self._wanted_top()
        before = None
        if self.live is not None:
            before = os.stat(self.live, dir_fd=self.parent, follow_symlinks=False)
        tree = os.open(self.name, OPEN_DIR_NOFOLLOW, dir_fd=self.parent)
        try:
            if wanted is not None and (wanted.uid is not None or wanted.gid is not None):
                os.fchown(tree, *copy_owner(os.fstat(tree), wanted))
            elif before is not None and os.geteuid() == 0:
                os.fchown(tree, before.st_uid, before.st_gid)
            inherited = os.fstat(tree).st_mode & stat.S_ISGID
            if wanted is not None:
                mode = wanted.dir_mode | inherited
            elif before is not None:
                mode = stat.S_IMODE(before.st_mode)
            else:
                mode = 0o755 | inherited
            set_mode(f"/proc/self/fd/{tree}", mode)
            ids = (wanted.uid, wanted.gid) if wanted is not None else ()
            check_folder(self.link.path, mode, os.fstat(tree), *ids)
        finally:
            os.close(tree)
        # `parent` has been open since before the tree was begun: the kernel reports a write that
        # failed meanwhile to those who had something open there.
        syncfs(self.parent)

    def _wanted_top(self) -> WantedFile | None:
        is_new = self.link.path not in self.owned_dirs or self.live is None
        for action in self.actions:
            if action.wanted is not None and (is_new or action.path == self.link.path):
                return action.wanted
        return None

    def _outcomes(
        self, written: ApplyOutcome, copied: Mapping[str, CopiedFile]
    ) -> dict[str, ActionOutcome]:
        outcomes = dict[str, ActionOutcome]()
        for action in self.actions:
            place = self.link.in_tree(self.name, action.path)
            if action.kind in (ActionKind.WRITE, ActionKind.RESTORE):
                outcomes[action.path] = written.outcomes[place]
            elif action.kind is ActionKind.REMOVE:
                outcomes[action.path] = ActionOutcome(None)
            elif action.is_directory:
                outcomes[action.path] = ActionOutcome(directory_at(place))
            elif (
                action.kind is ActionKind.MODE
                and action.wanted is not None
                and action.path in copied
            ):
                found, copy = os.lstat(place), copied[action.path]
                racy = copy.racy or stat_of(found) != copy.after
                outcomes[action.path] = ActionOutcome(local_after_write(action.wanted, found, racy))
        return outcomes
