"""Carries out a plan on disk: write all, sync all, rename all, each folder synced once; then removals, as carefully.

A reader meets the old file or the new one, whole. Whatever dies, at whatever line, what stands is of the old or the new set and
every leftover carries the intent's id. One bad file does not stop the others. Nothing is decided here: `expect` is checked again
at the moment of acting, and a file that is no longer what the plan saw is left alone.
"""

from __future__ import annotations

import os
import posixpath
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from msgspec import Struct, field

from syncd.errors import ChangedUnderneathError, MirrorError
from syncd.git_objects import size_of
from syncd.mirror.attributes import LostAttributes, copy_attributes, open_replaced
from syncd.mirror.cleanup import TEMP_PREFIX, remove_if_empty, with_parents
from syncd.mirror.dirfd import (
    UNREACHABLE_ERRORS,
    DirectoryMissingError,
    mirror_error,
    open_directory,
    open_subdirectory,
    opened_directory,
)
from syncd.mirror.expected_state import check_expected, inodes_written, is_kept, local_after_write
from syncd.mirror.file_ops import (
    OtherBytesError,
    chown_id,
    identity_of,
    read_cached,
    stat_at,
    unlink_if_there,
    write_new,
)
from syncd.mirror.filesystem_sync import FilesystemSync
from syncd.mirror.free_space import nearest_existing_dir
from syncd.mirror.hard_links import replace_linked
from syncd.mirror.make_directories import make_folder, make_parents
from syncd.mirror.metadata import check_file
from syncd.mirror.ordering import by_directory, entry_of, is_below_any, split_removals
from syncd.mirror.paths import names_below
from syncd.mirror.permissions import change_folder
from syncd.mirror.racy import FINE_STEP_SECONDS, KernelClock, is_racy_after
from syncd.mirror.scan import scan_entry, stat_of
from syncd.mirror.syscalls import rename_noreplace, sync_folder
from syncd.mirror.temp_file import TempFile
from syncd.mirror.trash import Trash, replacing
from syncd.models import Action, ActionKind, Kind, WantedFile
from syncd.ports import NO_INODES, UNKNOWN_SIZE, ActionOutcome, ApplyOutcome, Blobs, Inodes, Target

MAX_SINGLE_SYNCS = 8  # past this many files one syncfs is cheaper than an fsync each (docs/promises.md has the figures)


class PlanWriter(Struct):
    """One application of one plan. `folders` are those syncd made before and may remove when they become empty; `looks` is for those it makes now."""

    intent: str
    blobs: Blobs
    trash: Trash
    now: Callable[[], datetime]
    folders: frozenset[str]
    looks: Mapping[str, WantedFile] = field(default_factory=dict)
    devices: Mapping[str, int] = field(
        default_factory=dict
    )  # of each folder when it was looked at, or of the one above it that stood
    kept: Inodes = NO_INODES  # (device, inode) -> destination of the set that no action touches
    outcomes: dict[str, ActionOutcome] = field(default_factory=dict)
    staged: list[TempFile] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    grown: dict[str, str] = field(
        default_factory=dict
    )  # folders with new folders in them whose names may not be on disk yet -> their root
    removed: list[str] = field(default_factory=list)
    other_errors: list[MirrorError] = field(default_factory=list)
    systems: FilesystemSync = field(default_factory=FilesystemSync)
    bytes_written: int = 0
    clock: KernelClock = field(default_factory=KernelClock)
    open_replaced: Callable[[int, Action], int | None] = open_replaced
    lost: LostAttributes = field(default_factory=LostAttributes)
    aged_at: float = (
        0.0  # by the monotonic clock: when no write gets the mtime of a staged file any more
    )

    def run(self, actions: Sequence[Action]) -> ApplyOutcome:
        writes = [
            action for action in actions if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
        ]
        removals = [action for action in actions if action.kind is ActionKind.REMOVE]
        early, late = split_removals(removals, writes)
        blocked = {action.path for action in early}
        modes = [action for action in actions if action.kind is ActionKind.MODE]
        try:
            self._change_modes(
                [action for action in modes if action.is_directory]
            )  # first: one that is shut would keep out what is written to it
            self._stage([action for action in writes if not is_below_any(action.path, blocked)])
            self._sync_staged()
            self._remove(early)
            self._remove_empty_directories(
                {posixpath.dirname(action.path) for action in early},
                {action.path: entry_of(action).root for action in early},
            )
            self._stage([action for action in writes if is_below_any(action.path, blocked)])
            self._sync_staged()
            self._wait_for_mtimes()
            self._publish()
            self._change_modes([action for action in modes if not action.is_directory])
            self._remove(late)
            self._remove_empty_directories(
                {posixpath.dirname(action.path) for action in late},
                {action.path: entry_of(action).root for action in late},
            )
        finally:
            try:
                self._remove_leftovers()
            finally:
                self.systems.close()
        return ApplyOutcome(
            self.outcomes,
            self.bytes_written,
            tuple(self.made),
            tuple(self.removed),
            tuple(self.other_errors),
            notes=self.lost.notes(),
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    def _stage(self, actions: Iterable[Action]) -> None:
        """Each action has a complete temporary file in its own folder, or an outcome that says why not."""
        for (root, parent), group in by_directory(actions).items():
            try:
                folder = self._open_or_make(root, parent, entry_of(group[0]))
            except MirrorError as error:
                self.outcomes.update(
                    {action.path: ActionOutcome(action.expected, error) for action in group}
                )
                continue
            try:
                for action in group:
                    self._attempt(action, partial(self._write_temporary, folder))
            finally:
                os.close(folder)

    def _attempt(self, action: Action, act: Callable[[Action], None]) -> None:
        try:
            act(action)
        except MirrorError as error:
            self.outcomes[action.path] = ActionOutcome(action.expected, error)
        except DirectoryMissingError as error:
            self.outcomes[action.path] = ActionOutcome(
                action.expected, ChangedUnderneathError(f"{error} is gone", path=action.path)
            )
        except OSError as error:
            self.outcomes[action.path] = ActionOutcome(
                action.expected,
                mirror_error(
                    f"{action.kind.value} to" if action.kind is not ActionKind.REMOVE else "remove",
                    action.path,
                    error,
                ),
            )

    def _open_or_make(self, root: str, parent: str, entry: WantedFile) -> int:
        """A descriptor of `parent`, its missing folders made on the way, on the file system that was looked at."""
        self._check_same_filesystem(parent)
        if not os.path.isdir(root):
            make_parents(root, self.looks, entry.dir_mode, self.made)
        names = names_below(parent, root) if parent != root else ()
        try:
            current, path = (
                self._tracked(open_directory(root, ()), root),
                root.rstrip("/"),
            )  # the root first: it is not removed under us, as a folder below it may be
        except DirectoryMissingError as error:
            raise ChangedUnderneathError(f"{root} is gone", path=root) from error
        for name in names:
            path = f"{path}/{name}"
            try:
                below_it = self._step_or_make(current, name, path, entry)
            finally:
                os.close(current)
            current = below_it
        try:
            self._check_same_filesystem(parent, current)
        except MirrorError:
            os.close(current)
            raise
        return self._tracked(current, parent)

    def _tracked(self, folder: int, parent: str) -> int:
        """The open folder, its file system held; closed where that fails."""
        try:
            self.systems.hold(folder)
        except OSError as error:
            os.close(folder)
            raise mirror_error("write to", parent, error) from error
        return folder

    def _check_same_filesystem(self, parent: str, folder: int | None = None) -> None:
        """Raises ChangedUnderneathError when `parent` (open as `folder`, where it is) is on another file system than when it was looked at.

        A mount came or went meanwhile. Nothing may be put into what was below it, and nothing that is missing there is gone.
        """
        seen = self.devices.get(parent)
        if seen is None:
            return
        try:
            found = os.stat(nearest_existing_dir(parent)) if folder is None else os.fstat(folder)
        except OSError as error:
            raise mirror_error("look at", parent, error) from error
        if found.st_dev != seen:
            raise ChangedUnderneathError(
                f"{parent} is on another file system than when it was looked at",
                path=parent,
                hint="the next run looks again",
            )

    def _step_or_make(self, folder: int, name: str, path: str, entry: WantedFile) -> int:
        if (
            path in self.looks and path not in self.folders
        ):  # it did not stand when the plan was made: whoever makes it, its name may not be on disk
            self.grown[posixpath.dirname(path)] = entry.root
        try:
            return open_subdirectory(folder, name, path)
        except DirectoryMissingError:
            pass
        made = make_folder(
            folder,
            name,
            path,
            self.looks.get(path, entry),
            partial(self._record_created, entry.root),
        )
        return (
            open_subdirectory(folder, name, path) if made is None else made
        )  # None: another job has made it just now, and it is that one's to remove

    def _record_created(self, root: str, path: str) -> None:
        self.made.append(path)
        self.grown[posixpath.dirname(path)] = root

    def _write_temporary(self, folder: int, action: Action) -> None:
        want = entry_of(action)
        temporary = f"{TEMP_PREFIX}{self.intent}-{secrets.token_hex(8)}"
        staged = TempFile(action, temporary, 0)
        self.staged.append(staged)  # noted first: whatever happens now, it is cleared up
        try:
            if want.kind is Kind.LINK:
                with self.blobs.open(want.blob) as content:
                    os.symlink(content.read(), os.fsencode(temporary), dir_fd=folder)
                if want.uid is not None or want.gid is not None:
                    os.chown(
                        temporary,
                        chown_id(want.uid),
                        chown_id(want.gid),
                        dir_fd=folder,
                        follow_symlinks=False,
                    )
                    check_file(
                        action.path, want, os.stat(temporary, dir_fd=folder, follow_symlinks=False)
                    )
                staged.synced = True  # its text lives in the inode and the folder, which is synced after the rename
            else:
                with (
                    self.blobs.open_unverified(want.blob) as content
                ):  # proven as it is written: to read fifty megabytes twice took a twentieth of their run
                    staged.size = size_of(content)
                    staged.descriptor = write_new(
                        folder, temporary, partial(read_cached, content, want), want, staged.size
                    )
                self._carry_attributes(folder, staged)
                check_file(action.path, want, os.fstat(staged.descriptor))
                self.systems.sync_if_errors_hidden(folder, staged.descriptor)
            if staged.record_mtime(folder):
                self.aged_at = self.clock.monotonic() + FINE_STEP_SECONDS
            if len(self.staged) > MAX_SINGLE_SYNCS:
                staged.close()
        except KeyError as error:
            raise MirrorError(
                f"the content of {action.path} is not in the cache",
                path=action.path,
                hint="run it again; it will be fetched",
            ) from error
        except OtherBytesError:
            self.blobs.discard(want.blob)
            raise

    def _carry_attributes(self, folder: int, staged: TempFile) -> None:
        """The new file has the ACL, `user.*` attributes and label of the file that it replaces, which the rename finds unchanged since."""
        old = self.open_replaced(folder, staged.action)
        if old is None or staged.descriptor is None:
            return
        try:
            copy_attributes(
                old, staged.descriptor, entry_of(staged.action).mode, staged.action.path, self.lost
            )
        finally:
            os.close(old)

    def _wait_for_mtimes(self) -> None:
        """Wait until whoever writes to a file of this batch changes its mtime: see racy.py."""
        wait = self.aged_at - self.clock.monotonic()
        if wait > 0:
            self.clock.sleep(wait)

    def _sync_new_directories(self) -> None:
        """The names of new folders are on disk; what is staged below one whose name is not has an outcome that says so."""
        grown, self.grown = self.grown, {}
        for parent, root in grown.items():
            start = parent.rstrip("/") + "/"
            self._within(
                root,
                parent,
                (staged.action for staged in self.staged if staged.action.path.startswith(start)),
                sync_folder,
            )

    def _sync_staged(self) -> None:
        """Every staged byte is on disk. A file system that reports an error fails all that was staged on it: which file it was is not known."""
        self._sync_new_directories()
        waiting = [
            staged
            for staged in self.staged
            if not staged.synced and staged.action.path not in self.outcomes
        ]
        if all(staged.descriptor is not None for staged in waiting):
            for staged in waiting:
                self._attempt(staged.action, staged.sync)
        if self.systems.lost or not all(
            staged.synced for staged in waiting
        ):  # too many to be synced each; or one was lost, and whoever lost one may have lost more
            self._sync_systems(
                staged.action for staged in waiting if staged.action.path not in self.outcomes
            )
        for staged in waiting:
            if staged.action.path not in self.outcomes:
                self._attempt(staged.action, staged.settle)

    def _sync_systems(self, actions: Iterable[Action]) -> None:
        """The file systems of these actions are synced, or each action on one that was not has an outcome that says why."""
        sync = self.systems.once_per_filesystem()
        for (root, parent), group in by_directory(actions).items():
            self._within(root, parent, group, sync)

    def _publish(self) -> None:
        """Every staged file has its name, and the names are on disk."""
        by_path = {
            staged.action.path: staged
            for staged in self.staged
            if staged.action.path not in self.outcomes
        }
        groups = by_directory(staged.action for staged in by_path.values())
        sync_system = self.systems.once_per_filesystem()
        named: dict[str, tuple[int, int]] = {}

        def name(group: Sequence[Action], folder: int) -> None:
            named[group[0].path] = identity_of(folder)
            for action in group:
                self._attempt(action, partial(self._rename, folder, by_path[action.path]))

        def sync(group: Sequence[Action], folder: int) -> None:
            if named[group[0].path] != identity_of(folder):
                raise ChangedUnderneathError(
                    f"the folder of {group[0].path} was replaced while syncd was at work",
                    path=group[0].path,
                    hint="the next run looks again",
                )
            if len(groups) > MAX_SINGLE_SYNCS:
                sync_system(
                    folder
                )  # so that the syncs of the folders, which say whose names are safe, find little left to wait for
            sync_folder(folder)
            for action in group:
                by_path[action.path].named = self.outcomes[action.path].error is None

        for (root, parent), group in groups.items():
            self._within(root, parent, group, partial(name, group))
        for (root, parent), group in groups.items():
            if group[0].path in named:
                self._within(root, parent, group, partial(sync, group))

    def _within(
        self, root: str, parent: str, group: Iterable[Action], act: Callable[[int], None]
    ) -> None:
        """`act` was done in the open folder, or everything of the group has an outcome that says why not."""
        try:
            with opened_directory(
                root, names_below(parent, root) if parent != root else ()
            ) as folder:
                act(folder)
        except DirectoryMissingError as error:
            gone = ChangedUnderneathError(f"the folder {error} is gone", path=parent)
            self.outcomes.update(
                {action.path: ActionOutcome(action.expected, gone) for action in group}
            )
        except (MirrorError, OSError) as error:
            failure = (
                error if isinstance(error, MirrorError) else mirror_error("write to", parent, error)
            )
            self.outcomes.update(
                {action.path: ActionOutcome(action.expected, failure) for action in group}
            )

    def _rename(self, folder: int, staged: TempFile, action: Action) -> None:
        want = entry_of(action)
        name = posixpath.basename(action.path)
        self._remove_directory_in_the_way(folder, name, action)
        with replacing(self.trash, folder, name, action, self.now, self.clock.now_ns) as (
            present,
            before,
        ):
            if present:
                os.rename(staged.temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                try:
                    rename_noreplace(folder, staged.temporary, name)
                except FileExistsError as error:
                    raise ChangedUnderneathError(
                        f"{action.path} has appeared while syncd was at work",
                        path=action.path,
                        hint="the next run looks again",
                    ) from error
        self.bytes_written += staged.size
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        racy = is_racy_after(stat_of(found), staged.mtime_ns)
        self.outcomes[action.path] = ActionOutcome(
            local_after_write(want, found, racy), before=before
        )

    def _remove_directory_in_the_way(self, folder: int, name: str, action: Action) -> None:
        """A folder of ours that has become empty goes, so that a file can have its name."""
        if action.expected is None or action.expected.kind is not Kind.DIRECTORY:
            return
        try:
            if action.path not in self.folders:
                raise MirrorError(
                    f"a folder stands at {action.path}, where a file belongs",
                    path=action.path,
                    hint="move it away; syncd replaces no folder it did not make",
                )
            os.rmdir(name, dir_fd=folder)
            self.removed.append(action.path)
        except FileNotFoundError:
            pass  # gone with its last file, just before
        except OSError as error:
            raise MirrorError(
                f"the folder {action.path} is in the way of a file and not empty",
                path=action.path,
                hint="move what is in it away; syncd did not write it",
            ) from error

    # --- looks and removals -------------------------------------------------------------------------------------------

    def _change_modes(self, actions: Sequence[Action]) -> None:
        """Modes and owners are as wanted, on disk too: one sync for each file system."""
        for action in actions:
            self._attempt(action, self._change_folder if action.is_directory else self._change_mode)
        self._sync_systems(action for action in actions if self.outcomes[action.path].error is None)

    def _change_mode(self, action: Action) -> None:
        """Mode and owner are as wanted; the bytes and their mtime are not touched."""
        want, name = entry_of(action), posixpath.basename(action.path)
        parent = posixpath.dirname(action.path)
        with opened_directory(
            want.root, names_below(parent, want.root) if parent != want.root else ()
        ) as folder:
            self.systems.hold(folder)
            check_expected(folder, name, action, self.clock.now_ns)
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                found = os.fstat(descriptor)
                if action.expected is None or stat_of(found) != action.expected.stat:
                    raise ChangedUnderneathError(
                        f"{action.path} has changed since it was looked at", path=action.path
                    )
                before = action.expected
                linked = found.st_nlink > 1
                if linked:  # another name of it may be anybody's
                    replace_linked(
                        folder,
                        name,
                        f"{TEMP_PREFIX}{self.intent}-{secrets.token_hex(8)}",
                        action,
                        found,
                        self.lost,
                    )
                elif want.kind is Kind.LINK:
                    os.chown(
                        name,
                        chown_id(want.uid),
                        chown_id(want.gid),
                        dir_fd=folder,
                        follow_symlinks=False,
                    )
                else:
                    handle = f"/proc/self/fd/{descriptor}"  # the one way to change what an O_PATH descriptor names, whatever its mode
                    if want.uid is not None or want.gid is not None:
                        os.chown(handle, chown_id(want.uid), chown_id(want.gid))
                    os.chmod(handle, want.mode)
                by_name = linked or want.kind is Kind.LINK
                found = (
                    os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if by_name
                    else os.fstat(descriptor)
                )
                check_file(action.path, want, found)
            finally:
                os.close(descriptor)
        racy = before.racy or is_racy_after(stat_of(found), before.stat.mtime_ns)
        self.outcomes[action.path] = ActionOutcome(local_after_write(want, found, racy))

    def _change_folder(self, action: Action) -> None:
        want, (parent, name) = entry_of(action), posixpath.split(action.path)
        with opened_directory(
            want.root, names_below(parent, want.root) if parent != want.root else ()
        ) as folder:
            self.systems.hold(folder)
            self.outcomes[action.path] = ActionOutcome(
                change_folder(folder, name, action.path, want, action.expected)
            )

    def _remove(self, actions: Iterable[Action]) -> None:
        """The names are gone, and the disk knows; only then may the ledger forget them."""
        kept = {**inodes_written(self.outcomes), **self.kept}
        for (root, parent), group in by_directory(actions).items():
            try:
                self._check_same_filesystem(parent)
                with opened_directory(
                    root, names_below(parent, root) if parent != root else ()
                ) as folder:
                    self._check_same_filesystem(parent, folder)
                    for action in group:
                        self._attempt(action, partial(self._unlink, folder, kept))
                    sync_folder(folder)
            except DirectoryMissingError:
                self.outcomes.update({action.path: ActionOutcome(None) for action in group})
            except (MirrorError, OSError) as error:
                failure = (
                    error
                    if isinstance(error, MirrorError)
                    else mirror_error("remove from", parent, error)
                )
                self.outcomes.update(
                    {action.path: ActionOutcome(action.expected, failure) for action in group}
                )

    def _unlink(self, folder: int, kept: Inodes, action: Action) -> None:
        name = posixpath.basename(action.path)
        had = entry_of(action)
        same_stat = action.expected is not None and action.expected.stat == stat_at(folder, name)
        known = action.recorded if same_stat else None
        sizes = Target(had.root, None, size=had.size if had.size is not None else UNKNOWN_SIZE)
        have = scan_entry(folder, name, action.path, known, self.clock.now_ns, sizes)
        if have is not None:
            if not had.same_content(have):
                raise ChangedUnderneathError(
                    f"{action.path} was edited while syncd was at work; it stays", path=action.path
                )
            if not is_kept(have, action.path, kept):
                os.unlink(name, dir_fd=folder)
        self.outcomes[action.path] = ActionOutcome(None)

    def _remove_empty_directories(self, parents: set[str], roots: dict[str, str]) -> None:
        """Folders that syncd made and that hold nothing any more are gone, the deepest first; one that can't be removed is a trouble of the run."""
        for path in sorted(
            {path for parent in parents for path in with_parents(parent)} & self.folders,
            key=len,
            reverse=True,
        ):
            root = next(
                (root for root in set(roots.values()) if path.startswith(root.rstrip("/") + "/")),
                posixpath.dirname(path) or "/",
            )
            try:
                if remove_if_empty(root, path):
                    self.removed.append(path)
            except (OSError, MirrorError) as error:
                self.other_errors.append(
                    error
                    if isinstance(error, MirrorError)
                    else mirror_error("remove the empty folder", path, error)
                )

    def _remove_leftovers(self) -> None:
        """No temporary file of this batch is left, whatever ended it. Raises the first error: the intent must then stay, for the next run to sweep."""
        failure: MirrorError | None = None
        left: dict[tuple[str, str], list[str]] = {}
        for staged in self.staged:
            with suppress(OSError):  # what it says comes too late: it is taken away
                staged.close()
            if not staged.named:
                left.setdefault(
                    (entry_of(staged.action).root, posixpath.dirname(staged.action.path)), []
                ).append(staged.temporary)
        for (root, parent), names in left.items():
            try:
                with opened_directory(
                    root, names_below(parent, root) if parent != root else ()
                ) as folder:
                    for name in names:
                        unlink_if_there(folder, name)
                    sync_folder(
                        folder
                    )  # else a power cut brings them back when the intent that names them is gone
            except UNREACHABLE_ERRORS:
                continue  # the folder was moved away under us, our files with it
            except (OSError, MirrorError) as error:
                failure = failure or (
                    error
                    if isinstance(error, MirrorError)
                    else mirror_error("write to", parent, error)
                )
        self.staged.clear()
        if failure is not None:
            raise failure
