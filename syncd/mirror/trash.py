"""Keep, for some days, the bytes that syncd replaces but never wrote.

`contents/` holds each content once, named by its git blob id; `entries/` one small JSON file for
each pair of destination and content, named by its id. What is kept again only gets a newer entry.
All files have mode 0600, in directories with 0700. A copy is made right before its original is
replaced, and is removed again where that fails.

Kept for `keep_seconds` of counted time (age.py), within `size_bytes`. Showing and restoring entries
is left to others.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from syncd import file_lock
from syncd.errors import MirrorError
from syncd.folder_sync import sync_folder
from syncd.mirror.age import CountedTime
from syncd.mirror.expected_state import check_expected, destination_changed_error
from syncd.mirror.free_space import MARGIN_BYTES, nearest_existing_dir
from syncd.mirror.restore_journal import UNFINISHED, has_leftovers, remove_leftovers
from syncd.mirror.trash_copy import blob_id_of, copy_content
from syncd.models import Action, Kind, LocalFile
from syncd.private_file import replace_private_file
from syncd.trash_ids import trash_id

PRUNE_INTERVAL_SECONDS = 3600.0
TEMP_SUFFIX = ".new"
HINT = "move {path} away, or write drift: report or keep for the job"


class TrashLimits(Struct, frozen=True):
    """How long entries are kept, and how many bytes in all."""

    keep_seconds: float = 7 * 86400.0
    size_bytes: int = 1 << 30


class TrashEntry(Struct, frozen=True):
    """What was at `path` when it was replaced.

    `content` is its git blob id, for a link that of its text. `id` is the same whenever the same
    content is kept for the same path. `at` is wall-clock time, for people; `kept_at_seconds` is
    counted time, by which the entry ages. `reason` is why it was replaced, in the plan's words; an
    entry of an older version has none.
    """

    id: str
    path: str
    job: str
    content: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    at: datetime
    kept_at_seconds: float
    reason: str = ""


class KeptContent(Struct, frozen=True):
    """What `Trash.keep` added for a replacement that is about to happen; nothing for a special
    file.

    `before` is the file of the same entry until then, and `is_new` whether the content was added.
    """

    entry: TrashEntry | None = None
    before: bytes | None = None
    is_new: bool = False

    @property
    def content(self) -> str | None:
        """Return the git blob id of what was kept."""
        return self.entry.content if self.entry is not None else None


class Trash:
    """The trash of one state folder. Safe to use from many threads and processes."""

    def __init__(
        self,
        directory: Path,
        limits: TrashLimits = TrashLimits(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory, self.limits, self.job = directory, limits, ""
        self._contents, self._entries = directory / "contents", directory / "entries"
        self._time = CountedTime(directory / "counted", monotonic)
        self._kept_since_pruned: set[str] = set()  # entry ids; shared with what `for_job` gives

    def for_job(self, job: str) -> Trash:
        """Return the same trash for a run of this job."""
        own = copy.copy(self)
        own.job = job
        return own

    # --- before a run replaces anything -----------------------------------------------------------

    def sizes(self, actions: Iterable[Action]) -> list[int]:
        """Return the size in bytes of each content that these actions will add.

        Raises MirrorError where they can't all be kept: nothing may be replaced then.
        """
        added: dict[str, tuple[int, str]] = {}
        for action in actions:
            expect = action.expected
            if (
                action.replaces_foreign
                and expect is not None
                and expect.kind in (Kind.FILE, Kind.LINK)
            ):
                if expect.blob is None:  # not read: whether it is here is not known
                    added[action.path] = expect.stat.size, action.path
                elif not (self._contents / expect.blob).exists():
                    added[expect.blob] = expect.stat.size, action.path
        total = sum(size for size, _ in added.values())
        largest = max(added.values(), default=(0, ""))[1]
        if total > self.limits.size_bytes:
            self._refuse(
                largest,
                total,
                f"trash: has room for {self.limits.size_bytes} bytes",
                "raise size: of trash:, " + HINT.format(path=largest),
            )
        self._check_free(largest, total)
        return [size for size, _ in added.values()]

    def _check_free(self, path: str, size: int) -> None:
        if not size:
            return
        free = os.statvfs(nearest_existing_dir(str(self.directory)))
        free_bytes = free.f_bavail * free.f_frsize
        if free.f_blocks and size + MARGIN_BYTES > free_bytes:
            self._refuse(
                path,
                size,
                f"{free_bytes} bytes are free at {self.directory}",
                "free some space there, " + HINT.format(path=path),
            )

    @staticmethod
    def _refuse(path: str, size: int, why: str, hint: str) -> None:
        text = (
            f"{path} is not syncd's, and can't be kept before it is replaced ({size} bytes): {why}"
        )
        raise MirrorError(
            f"{text}; nothing was replaced", id="mirror/trash-full", path=path, hint=hint
        )

    # --- right before a replacement ---------------------------------------------------------------

    def keep(self, folder: int, name: str, action: Action, now: datetime) -> KeptContent:
        """Put what is at `name` in the open `folder` into the trash, on disk.

        Special files have no bytes to keep. Raises MirrorError; ChangedUnderneathError where it is
        not what the action expects.
        """
        local = action.expected
        if local is None or local.kind not in (Kind.FILE, Kind.LINK):
            return KeptContent()
        try:
            with self._locked():
                return self._keep(folder, name, action, local, now)
        except OSError as error:
            reason = error.strerror or str(error)
            raise MirrorError(
                (
                    f"what is at {action.path} can't be kept in {self.directory}: {reason}; it was "
                    "left"
                ),
                id="mirror/trash-write-failed",
                path=action.path,
                hint="free some space there; the next run tries again"
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "syncd must be able to read it, and to write to its state folder",
            ) from error

    def _keep(
        self, folder: int, name: str, action: Action, local: LocalFile, now: datetime
    ) -> KeptContent:
        is_new = local.blob is None or not self.is_whole(local.blob, local.stat.size)
        if is_new:
            self._check_free(action.path, local.stat.size)
        temporary = self._contents / f"{local.stat.inode}{TEMP_SUFFIX}"
        try:
            content, size = copy_content(folder, name, local, temporary if is_new else None)
            if local.blob is not None and content != local.blob:
                raise destination_changed_error(action.path)
            if is_new:
                os.rename(temporary, self._contents / content)
        finally:
            temporary.unlink(missing_ok=True)
        entry = TrashEntry(
            trash_id(action.path, content),
            action.path,
            self.job,
            content,
            local.kind,
            local.mode,
            local.uid,
            local.gid,
            size,
            now,
            self._time.record(self._latest_kept_at),
            action.reason,
        )
        before = self._replace_entry(entry)
        for each in (self._contents, self._entries, self.directory):
            _sync(each)
        self._kept_since_pruned.add(entry.id)
        return KeptContent(entry, before, is_new)

    def _replace_entry(self, entry: TrashEntry) -> bytes | None:
        """Replace the entry and return what it was before."""
        file = self._file(entry.id)
        before = file.read_bytes() if file.exists() else None
        replace_private_file(file, json.dumps(msgspec.to_builtins(entry)).encode())
        return before

    def undo_keep(self, kept: Iterable[KeptContent]) -> None:
        """Undo `keep` where the replacements did not happen, as far as the disk allows."""
        added = [(one, one.entry) for one in kept if one.entry is not None]
        with suppress(OSError):  # one copy too many: why the replacement failed matters more
            if added:
                self._take_back(added)

    def _take_back(self, added: Iterable[tuple[KeptContent, TrashEntry]]) -> None:
        with self._locked():
            contents = set[str]()
            for one, entry in added:
                if one.before is not None:
                    replace_private_file(self._file(entry.id), one.before)
                    continue
                self._file(entry.id).unlink(missing_ok=True)
                if one.is_new:
                    contents.add(entry.content)
            for content in contents - {other.content for other in self.entries()}:
                (self._contents / content).unlink(missing_ok=True)

    def is_whole(self, content: str, size: int) -> bool:
        """Return whether the content is here, and is what its name says."""
        try:
            with open(self._contents / content, "rb") as file:
                return blob_id_of(file, size) == content
        except OSError:
            return False

    # --- afterwards -------------------------------------------------------------------------------

    def entries(self) -> list[TrashEntry]:
        """Return every entry whose content is here, the oldest first."""
        found = []
        for file in sorted(self._entries.glob("*.json")):
            with suppress(OSError, ValueError, msgspec.MsgspecError):  # just removed, or damaged
                entry = msgspec.convert(json.loads(file.read_bytes()), TrashEntry)
                if (self._contents / entry.content).exists():
                    found.append(entry)
        return sorted(found, key=lambda entry: entry.kept_at_seconds)

    def content_of(self, entry: TrashEntry) -> Path:
        """Return the file that holds its bytes, or a link's text."""
        return self._contents / entry.content

    def ids(self) -> list[str]:
        """Return the id of each entry, without reading any."""
        return sorted(file.stem for file in self._entries.glob("*.json"))

    def remove(self, entries: Iterable[TrashEntry]) -> None:
        """Remove the entries, and each content that no other entry names. Raises OSError."""
        with self._locked():
            self._remove(list(entries))

    def is_due(self) -> bool:
        """Return whether it is time to prune: something was kept, an hour has passed, or a restore
        died.

        Counted time goes on only where that is done each hour.
        """
        if not self._entries.is_dir():
            return False
        waiting = bool(self._kept_since_pruned) or has_leftovers(self.directory)
        return waiting or self._time.is_due(PRUNE_INTERVAL_SECONDS)

    def prune(self) -> int:
        """Remove what is older than the limit, the oldest of what is more, and what a restore left.

        Returns how many contents were removed. Raises OSError, MirrorError.
        """
        if not self._entries.is_dir():
            return 0
        remove_leftovers(self.directory)
        with self._locked():
            # Temporary files of a run that died: a process that writes one holds the lock. The
            # journal of a restore has another lock.
            hidden = (*self._entries.glob(".*"), *self.directory.glob(".*"))
            for left in (*self._contents.glob(f"*{TEMP_SUFFIX}"), *hidden):
                if not left.match(UNFINISHED):
                    left.unlink(missing_ok=True)
            oldest = self._time.record(self._latest_kept_at) - self.limits.keep_seconds
            gone = self._remove_older(oldest) + self._remove_beyond_size()
            self._kept_since_pruned.clear()
            return gone

    def _remove_older(self, oldest: float) -> int:
        """Remove old entries and contents.

        A content that no entry names, because entries are damaged, is removed for its size only.
        """
        return self._remove([one for one in self.entries() if one.kept_at_seconds < oldest])

    def _remove(self, old: Sequence[TrashEntry]) -> int:
        """Remove the entries; return how many contents went with them."""
        for entry in old:
            self._file(entry.id).unlink(missing_ok=True)
        gone = {entry.content for entry in old} - {entry.content for entry in self.entries()}
        for content in gone:
            (self._contents / content).unlink(missing_ok=True)
        return len(gone)

    def _remove_beyond_size(self) -> int:
        entries = self.entries()
        newest = {entry.content: entry.kept_at_seconds for entry in entries}  # the last one wins
        sizes = {file.name: file.stat().st_size for file in self._contents.iterdir()}
        total, gone = sum(sizes.values()), 0
        for content in sorted(sizes, key=lambda one: newest.get(one, 0.0)):
            if total <= self.limits.size_bytes:
                break
            for entry in entries:
                if entry.content == content:
                    self._file(entry.id).unlink(missing_ok=True)
            (self._contents / content).unlink(missing_ok=True)
            total, gone = total - sizes[content], gone + 1
        return gone

    def _latest_kept_at(self) -> float:
        """Return the counted time of the newest entry, which is a lower bound of the time now."""
        return max((entry.kept_at_seconds for entry in self.entries()), default=0.0)

    def _file(self, id: str) -> Path:
        return self._entries / f"{id}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the trash for one thread or process, and make its directories."""
        if not self._entries.is_dir() or not self._contents.is_dir():
            for private in (self.directory, self._contents, self._entries):
                private.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(self.directory.parent)
        lock = file_lock.acquire(self.directory / "lock", wait=True)
        try:
            yield
        finally:
            file_lock.release(lock)


class Replaced(Struct, frozen=True):
    """What a rename replaces: whether anything is there, and the git blob id of what was kept."""

    is_present: bool
    content: str | None


@contextmanager
def replacing(
    trash: Trash,
    folder: int,
    action: Action,
    now: Callable[[], datetime],
    now_ns: Callable[[], int],
) -> Iterator[Replaced]:
    """Prepare the rename that replaces the action's file in the open `folder`; it is the block.

    What is not syncd's is kept first, and must still be what was kept. The copy is removed again
    where the block fails. Raises MirrorError.
    """
    name = posixpath.basename(action.path)
    present = check_expected(folder, name, action, now_ns)
    if not (present and action.replaces_foreign):
        yield Replaced(present, None)
        return
    kept = trash.keep(folder, name, action, now())
    try:
        yield Replaced(check_expected(folder, name, action, now_ns), kept.content)
    except BaseException:
        trash.undo_keep([kept])
        raise


def _sync(folder: Path) -> None:
    """Sync the directory's names to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_folder(descriptor)
    finally:
        os.close(descriptor)
