"""The link of `publish: symlink`, the directory that holds it, and the trees beside it."""

from __future__ import annotations

import os
import posixpath
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from syncd.errors import MirrorError, UnsafePathError
from syncd.folder_sync import sync_folder
from syncd.mirror.dirfd import OPEN_DIR_NOFOLLOW, TREE_NAME, changed_error, opened_below
from syncd.mirror.published_trees import is_directory, remove_tree
from syncd.mirror.temp_names import TEMP_PREFIX, temp_name
from syncd.mirror.tree_copy import list_names
from syncd.safe_open import open_folder


class PublishedLink:
    """One link, in the directory `parent` under `name`; public paths lead through it.

    The live tree is the one that the link names. The disk is reached through the tree, not
    through the link.
    """

    def __init__(self, path: str, keep: int) -> None:
        self.path, self.keep = path, keep
        self.parent, self.name = posixpath.split(path)

    def contains(self, path: str) -> bool:
        """Return whether the public path is the link or leads through it."""
        return path == self.path or path.startswith(self.path + "/")

    def in_tree(self, tree: str, path: str) -> str:
        """Return where a public path is in this tree. The link's own path is the tree's top."""
        return f"{self.parent}/{tree}{path[len(self.path) :]}"

    def real(self, path: str, live: str | None) -> str:
        """Return where a public path is on disk: in the live tree, or in one that is not there."""
        return self.in_tree(live or TEMP_PREFIX + "none", path) if self.contains(path) else path

    def shown(self, tree: str, text: str) -> str:
        """Return the text with public paths in place of those of this tree."""
        return text.replace(f"{self.parent}/{tree}", self.path)

    @contextmanager
    def opened_parent(self) -> Iterator[int]:
        """Open the directory of the link for the block. Raises OSError, UnsafePathError."""
        parent = open_folder(self.parent)
        try:
            yield parent
        finally:
            os.close(parent)

    @contextmanager
    def opened_parent_of(self, parent: int, live: str | None, path: str) -> Iterator[int]:
        """Open the directory of a public path in the live tree, for the block. Raises OSError."""
        tree = os.open(live or self.name, OPEN_DIR_NOFOLLOW, dir_fd=parent)
        try:
            inside = posixpath.dirname(path[len(self.path) :]).strip("/")
            with opened_below(tree, inside.split("/") if inside else ()) as folder:
                yield folder
        finally:
            os.close(tree)

    def live(self) -> str | None:
        """Return the name of the live tree, or None where there is no link or no tree.

        Raises UnsafePathError for a link that syncd did not make.
        """
        try:
            with self.opened_parent() as parent:
                found = os.stat(self.name, dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISLNK(found.st_mode):
                    raise self._in_the_way(f"{self.path} is not a link")
                target = os.readlink(self.name, dir_fd=parent)
                if not TREE_NAME.match(target):
                    text = f"{self.path} is a link to {target}, which syncd did not make"
                    raise self._in_the_way(text)
                return target if is_directory(parent, target) else None
        except FileNotFoundError:
            return None

    def _in_the_way(self, what: str) -> UnsafePathError:
        # Beside our own directory: inside it, it would be in the way again.
        aside = f"{self.parent}.{self.name}.before"
        return UnsafePathError(
            f"{what}; with publish: symlink it has to be syncd's own link",
            id="mirror/foreign-link",
            path=self.path,
            hint=f"move it away (mv {shlex.quote(self.path)} {shlex.quote(aside)}) "
            "and sync again; syncd replaces nothing it did not make",
        )

    def switch(self, parent: int, tree: str, live: str | None, intent: str) -> None:
        """Make the link name the new tree, in one rename, and sync that to disk.

        Raises ChangedUnderneathError where the link no longer names `live`, OSError.
        """
        temporary = temp_name(intent)
        os.symlink(tree, temporary, dir_fd=parent)
        try:
            if self.live() != live:
                text = f"{self.path} was changed while syncd was working; nothing was switched"
                raise changed_error(self.path, text)
            os.rename(temporary, self.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=parent)
            raise
        sync_folder(parent)

    def remove_if_not_live(self, parent: int, tree: str) -> None:
        """Remove the new tree unless the link names it already.

        Then only the last sync failed, and what readers have must stay. A tree that can't be
        removed now is removed with its intent.
        """
        with suppress(OSError, MirrorError):
            if self.live() != tree:
                remove_tree(parent, tree)

    def remove_old_trees(self, parent: int, before: str | None = None) -> list[MirrorError]:
        """Remove the trees past the last `keep`; return an error for each that stays.

        `before`, which readers had until now, counts as the newest after the live one.
        """
        live, errors = self.live(), []
        trees = [
            name
            for name in list_names(parent)
            if TREE_NAME.match(name) and name != live and is_directory(parent, name)
        ]
        trees.sort(reverse=True)
        trees.sort(key=lambda name: name != before)
        old = trees[max(0, self.keep - 1) :]
        for name in old:
            try:
                remove_tree(parent, name)
            except OSError as error:
                errors.append(self._not_removed(name, error))
        try:
            if old:  # else a power cut brings them back until the next switch
                sync_folder(parent)
        except OSError as error:
            errors.append(self._not_removed(old[0], error))
        return errors

    def _not_removed(self, name: str, error: OSError) -> MirrorError:
        place = f"{self.parent}/{name}"
        return MirrorError(
            f"the old tree {place} can't be removed: {error.strerror or error}",
            id="mirror/old-tree-not-removed",
            path=place,
            hint="the next run tries again; or remove it by hand",
        )

    def remove_leftovers(self, parent: int, intent: str) -> int:
        """Remove the tree of the interrupted intent unless it is live, and its temporary links.

        Returns how many. Raises OSError, MirrorError.
        """
        count, live = 0, self.live()
        for name in list_names(parent):
            is_tree = TREE_NAME.match(name) is not None and name.endswith(f"-{intent}")
            if is_tree and name != live and is_directory(parent, name):
                remove_tree(parent, name)
                count += 1
            elif name.startswith(f"{TEMP_PREFIX}{intent}-") and _is_link(parent, name):
                os.unlink(name, dir_fd=parent)
                count += 1
        return count


def _is_link(parent: int, name: str) -> bool:
    return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
