"""Carry out a plan on disk: write all, sync all, rename all, sync each directory; then remove.

A reader meets the old file or the new one, whole. Wherever a run dies, what is on disk is of the
old or the new set, and every leftover carries the intent's id. One bad file does not stop the
others. Nothing is decided here: what each action expects is checked again at the moment of acting,
and a file that is no longer what the plan saw is left unchanged.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from msgspec import Struct, field

from syncd.errors import MirrorError
from syncd.folder_sync import sync_folder
from syncd.mirror.attributes import LostAttributes, open_replaced
from syncd.mirror.change_mode import change_mode
from syncd.mirror.cleanup import remove_if_empty, with_parents
from syncd.mirror.destination_directories import DestinationDirectories
from syncd.mirror.dirfd import (
    UNREACHABLE_ERRORS,
    DirectoryMissingError,
    changed_error,
    directory_gone_error,
    mirror_error,
    opened_directory,
)
from syncd.mirror.emptied_directories import foreign_directory_error, not_empty
from syncd.mirror.expected_state import inodes_written, is_spelling_of_kept, local_after_write
from syncd.mirror.file_ops import (
    OtherBytesError,
    identity_of,
    stat_at,
    unlink_if_there,
)
from syncd.mirror.filesystem_sync import FilesystemSync
from syncd.mirror.ordering import by_directory, entry_written, is_below_any, split_removals
from syncd.mirror.permissions import change_folder
from syncd.mirror.racy import FINE_STEP_SECONDS, KernelClock, is_racy_after
from syncd.mirror.scan import scan_entry, stat_of
from syncd.mirror.syscalls import rename_noreplace
from syncd.mirror.temp_file import TempFile
from syncd.mirror.temp_names import temp_name
from syncd.mirror.trash import Trash, replacing
from syncd.models import Action, ActionKind, Kind, WantedFile
from syncd.ports import (
    NO_INODES,
    UNKNOWN_SIZE,
    ActionOutcome,
    ApplyOutcome,
    BlobReader,
    Inodes,
    Target,
)
from syncd.progress import SILENT, ProgressListener, Step

# Past this many files a syncfs is cheaper than fsync each (figures: docs/development/promises.md).
MAX_SINGLE_SYNCS = 8


class PlanWriter(Struct):
    """One application of one plan.

    `owned_dirs` are those that syncd made before and may remove when they become empty;
    `dir_entries` has mode and owner of those it makes now. `devices` is the file system of each
    directory when it was scanned. `kept` are the inodes of the set that no action touches.
    From `mtimes_aged_at` (monotonic clock) no write gets the mtime of a staged file any more.
    `on_done` is called with each action when it has been carried out.
    """

    intent: str
    blobs: BlobReader
    trash: Trash
    now: Callable[[], datetime]
    owned_dirs: frozenset[str]
    dir_entries: Mapping[str, WantedFile] = field(default_factory=dict)
    devices: Mapping[str, int] = field(default_factory=dict)
    kept: Inodes = NO_INODES
    clock: KernelClock = field(default_factory=KernelClock)
    progress: ProgressListener = SILENT
    on_done: Callable[[Action], None] = lambda action: None
    open_replaced: Callable[[int, Action], int | None] = open_replaced
    lost: LostAttributes = field(default_factory=LostAttributes)
    filesystems: FilesystemSync = field(default_factory=FilesystemSync)
    outcomes: dict[str, ActionOutcome] = field(default_factory=dict)
    staged: list[TempFile] = field(default_factory=list)
    removed_dirs: list[str] = field(default_factory=list)
    other_errors: list[MirrorError] = field(default_factory=list)
    bytes_written: int = 0
    mtimes_aged_at: float = 0.0
    directories: DestinationDirectories = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Give the directories what they share with this writer."""
        self.directories = DestinationDirectories(
            self.owned_dirs, self.dir_entries, self.devices, self.filesystems
        )

    def run(self, actions: Sequence[Action]) -> ApplyOutcome:
        """Carry out the actions, each of which gets an outcome.

        Raises MirrorError where temporary files can't be removed: the intent must then stay.
        """
        try:
            self._carry_out(actions)
        finally:
            try:
                self._remove_leftovers()
            finally:
                self.filesystems.close()
        return ApplyOutcome(
            self.outcomes,
            self.bytes_written,
            tuple(self.directories.created),
            tuple(self.removed_dirs),
            tuple(self.other_errors),
            notes=self.lost.notes(),
        )

    def _carry_out(self, actions: Sequence[Action]) -> None:
        writes = [one for one in actions if one.kind in (ActionKind.WRITE, ActionKind.RESTORE)]
        modes = [one for one in actions if one.kind is ActionKind.MODE]
        removals = [one for one in actions if one.kind is ActionKind.REMOVE]
        early, late = split_removals(removals, writes)
        blocked = {action.path for action in early}
        self.progress.step(Step.WRITING, files=len(writes))
        # Directories first: an unreadable one would keep out what is written to it.
        self._change_modes([action for action in modes if action.is_directory])
        self._stage([action for action in writes if not is_below_any(action.path, blocked)])
        self._sync_staged()
        self._remove(early)
        self._remove_empty_directories(early)
        self._stage([action for action in writes if is_below_any(action.path, blocked)])
        self._sync_staged()
        self._wait_for_mtimes()
        self._publish()
        self._change_modes([action for action in modes if not action.is_directory])
        self._remove(late)
        self._remove_empty_directories(late)

    # --- outcomes ---------------------------------------------------------------------------------

    def _attempt(self, action: Action, act: Callable[[Action], None]) -> None:
        """Call `act`; what fails becomes the action's outcome."""
        try:
            act(action)
        except (MirrorError, DirectoryMissingError, OSError) as error:
            removes = action.kind is ActionKind.REMOVE
            what = "remove" if removes else f"{action.kind.value} to"
            self._fail([action], mirror_error(what, action.path, error))
        else:
            if action.path in self.outcomes:
                self.on_done(action)

    def _fail(self, actions: Iterable[Action], error: MirrorError) -> None:
        self.outcomes.update(
            {action.path: ActionOutcome(action.expected, error) for action in actions}
        )

    def _has_failed(self, action: Action) -> bool:
        """Return whether a staged file has an outcome, which before its name is an error."""
        return action.path in self.outcomes

    def _in_directory(
        self, root: str, parent: str, group: Iterable[Action], act: Callable[[int], None]
    ) -> None:
        """Call `act` with the open directory; what fails becomes the outcome of the whole group."""
        try:
            with opened_directory(root, parent) as folder:
                act(folder)
        except DirectoryMissingError as error:
            self._fail(group, directory_gone_error(str(error), parent))
        except (MirrorError, OSError) as error:
            self._fail(group, mirror_error("write to", parent, error))

    # --- writing ----------------------------------------------------------------------------------

    def _stage(self, actions: Iterable[Action]) -> None:
        """Write each action's complete temporary file into its directory."""
        for (root, parent), group in by_directory(actions).items():
            try:
                folder = self.directories.open_or_make(root, parent, entry_written(group[0]))
            except MirrorError as error:
                self._fail(group, error)
                continue
            try:
                for action in group:
                    self._attempt(action, partial(self._write_temporary, folder))
                    self.progress.advance(files=1)
            finally:
                os.close(folder)

    def _write_temporary(self, folder: int, action: Action) -> None:
        wanted = entry_written(action)
        staged = TempFile(action, temp_name(self.intent), 0)
        self.staged.append(staged)  # recorded first: whatever happens now, it is removed at the end
        try:
            if wanted.kind is Kind.LINK:
                staged.write_link(folder, self.blobs)
            else:
                staged.write_file(folder, self.blobs, self.open_replaced, self.lost)
        except KeyError as error:
            raise MirrorError(
                f"the content of {action.path} is not in the cache",
                id="mirror/content-not-cached",
                path=action.path,
                hint="run it again; the content will be fetched",
            ) from error
        except OtherBytesError:
            self.blobs.discard(wanted.blob)
            raise
        if not staged.age_mtime(folder):
            self.mtimes_aged_at = self.clock.monotonic() + FINE_STEP_SECONDS
        self.filesystems.sync_if_errors_hidden(folder, staged.descriptor)
        if len(self.staged) > MAX_SINGLE_SYNCS:
            staged.close()

    # --- syncing ----------------------------------------------------------------------------------

    def _sync_staged(self) -> None:
        """Sync every staged byte to disk.

        A file system that reports an error fails all that was staged on it: which file was lost is
        not known.
        """
        self.progress.step(Step.SYNCING)
        self._sync_new_directories()
        waiting = [
            one for one in self.staged if not one.synced and not self._has_failed(one.action)
        ]
        if all(staged.descriptor is not None for staged in waiting):
            for staged in waiting:
                self._attempt(staged.action, staged.sync)
        # Too many to sync each; or one was lost, and a disk that lost one may have lost more.
        if self.filesystems.lost or not all(staged.synced for staged in waiting):
            self._sync_filesystems(
                staged.action for staged in waiting if not self._has_failed(staged.action)
            )
        for staged in waiting:
            if not self._has_failed(staged.action):
                self._attempt(staged.action, staged.finish_sync)

    def _sync_new_directories(self) -> None:
        """Sync the names of new directories; where that fails, all that is staged below fails."""
        unsynced, self.directories.unsynced = self.directories.unsynced, {}
        for parent, root in unsynced.items():
            start = parent.rstrip("/") + "/"
            inside = [one.action for one in self.staged if one.action.path.startswith(start)]
            self._in_directory(root, parent, inside, sync_folder)

    def _sync_filesystems(self, actions: Iterable[Action]) -> None:
        """Sync the file systems of these actions, each once."""
        sync = self.filesystems.once_per_filesystem()
        for (root, parent), group in by_directory(actions).items():
            self._in_directory(root, parent, group, sync)

    def _wait_for_mtimes(self) -> None:
        """Wait until a later write to a file of this plan changes its mtime: see racy.py."""
        wait = self.mtimes_aged_at - self.clock.monotonic()
        if wait > 0:
            self.clock.sleep(wait)

    # --- renaming ---------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Give every staged file its name, and then sync each directory."""
        staged = {one.action.path: one for one in self.staged if not self._has_failed(one.action)}
        groups = by_directory(one.action for one in staged.values())
        many = len(groups) > MAX_SINGLE_SYNCS
        sync_filesystem = self.filesystems.once_per_filesystem() if many else None
        renamed_in: dict[tuple[str, str], tuple[int, int]] = {}
        for place, group in groups.items():
            files = [staged[action.path] for action in group]
            rename = partial(self._rename_group, files, place, renamed_in)
            self._in_directory(*place, group, rename)
        for place, identity in renamed_in.items():
            files = [staged[action.path] for action in groups[place]]
            sync = partial(self._sync_names, files, identity, sync_filesystem)
            self._in_directory(*place, groups[place], sync)

    def _rename_group(
        self,
        files: Sequence[TempFile],
        place: tuple[str, str],
        renamed_in: dict[tuple[str, str], tuple[int, int]],
        folder: int,
    ) -> None:
        """Rename the files in the open `folder`, and record which directory it is."""
        renamed_in[place] = identity_of(folder)
        for staged in files:
            self._attempt(staged.action, partial(self._rename, folder, staged))

    def _sync_names(
        self,
        files: Sequence[TempFile],
        identity: tuple[int, int],
        sync_filesystem: Callable[[int], None] | None,
        folder: int,
    ) -> None:
        """Sync the names in the open `folder`, which must be the one that they were given in."""
        path = files[0].action.path
        if identity_of(folder) != identity:
            text = f"the directory of {path} was replaced while syncd was working"
            raise changed_error(path, text, "mirror/directory-replaced")
        # The whole file system first: then the syncs of the directories, which say whose names
        # are safe, find little left to wait for.
        if sync_filesystem is not None:
            sync_filesystem(folder)
        sync_folder(folder)
        for staged in files:
            staged.is_named = self.outcomes[staged.action.path].error is None

    def _rename(self, folder: int, staged: TempFile, action: Action) -> None:
        wanted, name = entry_written(action), posixpath.basename(action.path)
        self._remove_directory_in_the_way(folder, name, action)
        with replacing(self.trash, folder, action, self.now, self.clock.now_ns) as replaced:
            if replaced.is_present:
                os.rename(staged.temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                _rename_into_nothing(folder, staged.temporary, name, action.path)
        self.bytes_written += staged.size
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        local = local_after_write(wanted, found, is_racy_after(stat_of(found), staged.mtime_ns))
        self.outcomes[action.path] = ActionOutcome(local, before=replaced.content)

    def _remove_directory_in_the_way(self, folder: int, name: str, action: Action) -> None:
        """Remove a directory of ours that has become empty, so that a file can have its name."""
        if action.expected is None or action.expected.kind is not Kind.DIRECTORY:
            return
        if action.path not in self.owned_dirs:
            raise foreign_directory_error(action.path)
        try:
            os.rmdir(name, dir_fd=folder)
            self.removed_dirs.append(action.path)
        except FileNotFoundError:
            pass  # removed with its last file, just before
        except OSError as error:
            raise not_empty(action.path) from error

    # --- modes and removals -----------------------------------------------------------------------

    def _change_modes(self, actions: Sequence[Action]) -> None:
        """Change modes and owners, and sync each file system once."""
        for action in actions:
            self._attempt(action, self._change_mode)
        self._sync_filesystems(
            action for action in actions if self.outcomes[action.path].error is None
        )

    def _change_mode(self, action: Action) -> None:
        wanted, (parent, name) = entry_written(action), posixpath.split(action.path)
        with opened_directory(wanted.root, parent) as folder:
            self.filesystems.track(folder)
            if action.is_directory:
                local = change_folder(folder, name, action.path, wanted, action.expected)
            else:
                temporary = temp_name(self.intent)
                local = change_mode(folder, action, temporary, self.clock.now_ns, self.lost)
        self.outcomes[action.path] = ActionOutcome(local)

    def _remove(self, actions: Iterable[Action]) -> None:
        """Remove the names and sync their directories; only then may the ledger forget them."""
        kept = {**inodes_written(self.outcomes), **self.kept}
        for (root, parent), group in by_directory(actions).items():
            try:
                self.directories.check_same_filesystem(parent)
                with opened_directory(root, parent) as folder:
                    self.directories.check_same_filesystem(parent, folder)
                    for action in group:
                        self._attempt(action, partial(self._unlink, folder, kept))
                    sync_folder(folder)
            except DirectoryMissingError:
                self.outcomes.update({action.path: ActionOutcome(None) for action in group})
            except (MirrorError, OSError) as error:
                self._fail(group, mirror_error("remove from", parent, error))

    def _unlink(self, folder: int, kept: Inodes, action: Action) -> None:
        name, entry = posixpath.basename(action.path), entry_written(action)
        same_stat = action.expected is not None and action.expected.stat == stat_at(folder, name)
        recorded = action.recorded if same_stat else None
        target = Target(
            entry.root, None, size=entry.size if entry.size is not None else UNKNOWN_SIZE
        )
        found = scan_entry(folder, name, action.path, recorded, self.clock.now_ns, target)
        if found is not None:
            if not entry.same_content(found):
                text = f"{action.path} was edited while syncd was working; it was not removed"
                raise changed_error(action.path, text)
            if not is_spelling_of_kept(found, action.path, kept):
                os.unlink(name, dir_fd=folder)
        self.outcomes[action.path] = ActionOutcome(None)

    # --- afterwards -------------------------------------------------------------------------------

    def _remove_empty_directories(self, removals: Iterable[Action]) -> None:
        """Remove directories that syncd made and that these removals left empty, deepest first.

        What can't be removed is reported with the run.
        """
        roots = {entry_written(action).root for action in removals}
        parents = {posixpath.dirname(action.path) for action in removals}
        paths = {path for parent in parents for path in with_parents(parent)} & self.owned_dirs
        for path in sorted(paths, key=len, reverse=True):
            above = (root for root in roots if path.startswith(root.rstrip("/") + "/"))
            try:
                if remove_if_empty(next(above, posixpath.dirname(path) or "/"), path):
                    self.removed_dirs.append(path)
            except (OSError, MirrorError) as error:
                self.other_errors.append(mirror_error("remove the empty directory", path, error))

    def _remove_leftovers(self) -> None:
        """Remove every temporary file of this plan, whatever ended it.

        Raises the first error: the intent must then stay, so that the next run removes them.
        """
        failure: MirrorError | None = None
        left: dict[tuple[str, str], list[str]] = {}
        for staged in self.staged:
            with suppress(OSError):  # what close(2) says comes too late: the file is removed
                staged.close()
            if not staged.is_named:
                place = entry_written(staged.action).root, posixpath.dirname(staged.action.path)
                left.setdefault(place, []).append(staged.temporary)
        for (root, parent), names in left.items():
            try:
                with opened_directory(root, parent) as folder:
                    for name in names:
                        unlink_if_there(folder, name)
                    # Else a power cut brings them back when the intent that names them is gone.
                    sync_folder(folder)
            except UNREACHABLE_ERRORS:
                continue  # the directory was moved away meanwhile, our files with it
            except (OSError, MirrorError) as error:
                failure = failure or mirror_error("write to", parent, error)
        self.staged.clear()
        if failure is not None:
            raise failure


def _rename_into_nothing(folder: int, temporary: str, name: str, path: str) -> None:
    try:
        rename_noreplace(folder, temporary, name)
    except FileExistsError as error:
        raise changed_error(path, f"{path} has appeared while syncd was working") from error
