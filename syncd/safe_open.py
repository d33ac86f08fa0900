"""Open and make directories from `/` down, each through the descriptor of the one above it.

As root, a link on the way is followed only where no other user can have set or can change it: it
belongs to root or to this user, and so does each directory down to it, which no one else may write
(in a sticky folder, such as `/tmp`, only what belongs to root or to this user counts). Any other
link is refused. Without root the kernel's own permissions are the limit, and links are followed.

Standard library only. Sources: path_resolution(7), open(2) on O_PATH and O_NOFOLLOW.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from syncd.errors import UnsafePathError
from syncd.folder_sync import sync_folder
from syncd.owners import owner_name

OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
OPEN_DIR_AS_PATH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_LINKS = 40  # as many as the kernel follows: path_resolution(7)
OTHERS_WRITE_BITS = stat.S_IWGRP | stat.S_IWOTH

MakeFolder = Callable[[int, str, str], None]  # open folder above, name, whole path


def open_folder(path: str | os.PathLike[str], make: MakeFolder | None = None) -> int:
    """Open the directory at the absolute `path`; the caller closes the descriptor.

    `make` is called for each directory that does not exist, to make it in the open directory above.
    What it made is opened through no link. Raises OSError, UnsafePathError.
    """
    place = os.path.abspath(path)
    if make is None and os.geteuid() != 0:
        return os.open(place, OPEN_DIR)
    walk = _Walk(place, make)
    try:
        return os.open(".", OPEN_DIR, dir_fd=walk.open_last())
    except OSError as error:
        error.filename = error.filename if error.filename not in (None, ".") else place
        raise
    finally:
        walk.close()


def make_folders(path: str | os.PathLike[str], mode: int) -> None:
    """Make the directory and those above it that do not exist.

    Each new one has `mode`, less the umask. Raises OSError, UnsafePathError.
    """
    if os.geteuid() != 0:
        os.makedirs(path, mode=mode, exist_ok=True)
        return

    def make(folder: int, name: str, _path: str) -> None:
        with suppress(FileExistsError):  # another process has made it just now
            os.mkdir(name, mode, dir_fd=folder)

    os.close(open_folder(path, make))


def replace_file(
    path: str | os.PathLike[str],
    content: bytes,
    mode: int,
    *,
    overwrite: bool = True,
    sync: bool = False,
) -> None:
    """Replace the file at `path`, or create it, with exactly this content and mode.

    Its directory exists. The new file is made beside it under a hidden name, and removed where
    anything fails. With `sync`, content and name are on disk at the end. Raises OSError,
    UnsafePathError, and FileExistsError for an existing file without `overwrite`.
    """
    place, name = os.path.split(os.path.abspath(path))
    temporary = f".{name}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = open_folder(place)
    try:
        descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                os.fchmod(descriptor, mode)
                file.flush()
                if sync:
                    os.fsync(descriptor)
            if not overwrite:
                _reserve(name, folder)
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            if sync:
                sync_folder(folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
    finally:
        os.close(folder)


def _reserve(name: str, folder: int) -> None:
    """Create an empty file of this name, which no other process can then take. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(name, flags, 0o600, dir_fd=folder))


def check_just_made(made: int, above: int, path: str) -> None:
    """Raise UnsafePathError where `made` is not the directory that was just made in `above`.

    A user who may write to `above` can put another in its place before it is opened. Where only
    root may, another job may have filled the new directory already. As root only; some file systems
    give every new directory to the owner of the one above it.
    """
    if os.geteuid() != 0:
        return
    found, parent = os.fstat(made), os.fstat(above)
    if parent.st_uid == os.geteuid() and not parent.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    ours = found.st_uid in (os.geteuid(), parent.st_uid) and found.st_dev == parent.st_dev
    if not ours or os.listdir(made):
        raise UnsafePathError(
            f"{path} was replaced while syncd made it; it was left alone",
            id="mirror/replaced-while-made",
            path=path,
            hint=f"see who may write to {os.path.dirname(path)} "
            f"(owner: {owner_name(parent.st_uid)})",
        )


def check_path_is_trusted(path: str | os.PathLike[str]) -> None:
    """Raise UnsafePathError where another user can replace the folder at `path`, or one above it.

    As root only. What does not exist yet is checked by the directory it will be made in.
    """
    if os.geteuid() != 0:
        return
    walk = _Walk(os.path.abspath(path), None)
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            walk.open_last()
        if walk.untrusted is not None:
            raise walk.untrusted.error(os.path.abspath(path))
    finally:
        walk.close()


def untrusted_link(path: str | os.PathLike[str]) -> UnsafePathError | None:
    """Return the error for the first link on the way to `path` that root would refuse, or None."""
    walk = _Walk(os.path.abspath(path), None, refuses_links=True)
    try:
        walk.open_last()
    except UnsafePathError as error:
        return error
    except OSError:
        return None
    finally:
        walk.close()
    return None


class _UntrustedFolder(NamedTuple):
    """A folder in which another user can replace the next name of the way."""

    folder: str
    entry: str
    found: os.stat_result

    def error(self, path: str) -> UnsafePathError:
        owner = owner_name(self.found.st_uid)
        quoted = shlex.quote(self.folder)
        return UnsafePathError(
            f"{path} can't be used as root: in {self.folder} (owner: {owner}, mode "
            f"{stat.S_IMODE(self.found.st_mode):04o}) another user can replace {self.entry}",
            id="mirror/untrusted-directory",
            path=path,
            hint=f"sudo chown root {quoted} && sudo chmod go-w {quoted}, or use a folder elsewhere",
        )


class _Walk:
    """One way down.

    `untrusted` is the first directory on it in which another user can replace a name.
    """

    def __init__(
        self, path: str, make: MakeFolder | None, refuses_links: bool | None = None
    ) -> None:
        self._make, self._links = make, 0
        self._refuses_links = os.geteuid() == 0 if refuses_links is None else refuses_links
        self._trusted = (0, os.geteuid())
        self.untrusted: _UntrustedFolder | None = None
        self._at, self._here = os.open("/", OPEN_DIR_AS_PATH), "/"
        names = [name for name in path.split("/") if name]
        wholes: list[str | None] = [
            "/" + "/".join(names[:count]) for count in range(1, len(names) + 1)
        ]
        self._left = [*zip(names, wholes, strict=True)][::-1]

    def close(self) -> None:
        os.close(self._at)

    def open_last(self) -> int:
        while self._left:
            name, whole = self._left.pop()
            shown = os.path.join(self._here, name)
            try:
                deeper = self._open(name, whole)
            except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
                error.filename = whole or shown
                raise
            if deeper is not None:
                self._check_writers(name, os.fstat(deeper))
                os.close(self._at)
                self._at, self._here = deeper, os.path.normpath(shown)
        return self._at

    def _open(self, name: str, whole: str | None) -> int | None:
        """Open the directory `name`; None for a link, whose target comes next on the way then."""
        try:
            return os.open(name, OPEN_DIR_AS_PATH, dir_fd=self._at)
        except FileNotFoundError:
            self._check_writers(name, None)
            if self._make is None or whole is None:  # nothing is made behind a broken link
                raise
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP) or not self._follow(name):
                raise
            return None
        self._make(self._at, name, whole)
        return os.open(name, OPEN_DIR_AS_PATH, dir_fd=self._at)

    def _follow(self, name: str) -> bool:
        """Follow `name` if it is a link, and return whether it is. Raises UnsafePathError.

        Its target comes next on the way then.
        """
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        link = os.open(name, flags, dir_fd=self._at)
        try:
            found = os.fstat(link)
            if not stat.S_ISLNK(found.st_mode):
                return False
            target = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        self._check_writers(name, found)
        if self._refuses_links and (
            self.untrusted is not None or found.st_uid not in self._trusted
        ):
            raise self._untrusted_link(name, target, found)
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.path.join(self._here, name))
        if target.startswith("/"):
            os.close(self._at)
            self._at, self._here = os.open("/", OPEN_DIR_AS_PATH), "/"
        self._left += [
            (part, None) for part in reversed(target.split("/")) if part not in ("", ".")
        ]
        return True

    def _check_writers(self, name: str, found: os.stat_result | None) -> None:
        """Record a directory in which a user other than root and this one can replace `name`.

        `found` is None where nothing has that name yet.
        """
        folder = os.fstat(self._at)
        writers = folder.st_mode & (OTHERS_WRITE_BITS if folder.st_gid != 0 else stat.S_IWOTH)
        ours = found is None or found.st_uid in self._trusted
        held = not writers or (folder.st_mode & stat.S_ISVTX and ours)
        if self.untrusted is None and not (folder.st_uid in self._trusted and held):
            self.untrusted = _UntrustedFolder(self._here, name, folder)

    def _untrusted_link(self, name: str, target: str, found: os.stat_result) -> UnsafePathError:
        link = os.path.join(self._here, name)
        owner, quoted = owner_name(found.st_uid), shlex.quote(link)
        if found.st_uid not in self._trusted:
            why, mend = f"belongs to {owner}", f"sudo chown -h root {quoted}"
        else:
            place = self.untrusted.folder if self.untrusted is not None else self._here
            whose = owner_name(self.untrusted.found.st_uid) if self.untrusted is not None else owner
            why = (
                f"belongs to {owner}, and is below {place} (owner: {whose}), where others may write"
            )
            mend = f"sudo chown root {shlex.quote(place)} && sudo chmod go-w {shlex.quote(place)}"
        return UnsafePathError(
            f"{link} is a link to {target} that {why}; as root, syncd does not follow it",
            id="mirror/untrusted-link",
            path=link,
            hint=f"if you trust it: {mend}; else put a real folder in its place",
        )
