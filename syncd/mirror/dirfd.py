"""Folders as open descriptors: the way down from a root to a destination, never through a link, and what may be made or removed on it."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import shlex
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from syncd.errors import ChangedUnderneathError, MirrorError, UnsafePathError
from syncd.safe_open import OPEN_DIR, open_folder

OPEN_DIR_NOFOLLOW = OPEN_DIR | os.O_NOFOLLOW
TREE_NAME = re.compile(
    r"([0-9]{8}T[0-9]{6})-[0-9a-f]{12}\Z"
)  # a tree of publish: symlink: when it was made, and the intent that made it


class DirectoryMissingError(Exception):
    """A folder on the way is not there (and nothing else stands in its place)."""


class InTheWayError(MirrorError):
    """A file stands where the way down needs a folder."""


UNREACHABLE_ERRORS = (
    DirectoryMissingError,
    InTheWayError,
    UnsafePathError,
)  # nothing of ours can be below; what else a disk answers says nothing of what it holds


def open_root(root: str) -> int:
    """A descriptor of the operator's folder; as root, a link on the way to it that another user can set is refused. Raises Missing, MirrorError."""
    try:
        return open_folder(root)
    except FileNotFoundError as error:
        broken = broken_link(root)
        if broken is not None:
            raise broken from error
        raise DirectoryMissingError(root) from error
    except NotADirectoryError as error:
        raise InTheWayError(
            f"{root} is not a folder", path=root, hint="correct to:, or make it a folder"
        ) from error
    except OSError as error:
        raise mirror_error("open", root, error) from error


def broken_link(path: str) -> UnsafePathError | None:
    """Why no folder can be made at `path`: a link at or above it leads to nothing, or to itself."""
    while not os.path.exists(path):
        if os.path.islink(path):
            target = os.readlink(path)
            place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            return UnsafePathError(
                f"{path} is a link to {target}, which does not exist",
                path=path,
                hint=f"make what it leads to (mkdir -p {shlex.quote(place)}), mount it, or correct the link",
            )
        path = posixpath.dirname(path) or "/"
    return None


def open_subdirectory(folder: int, name: str, path: str) -> int:
    """A descriptor of the folder `name` in the open `folder`; `path` is its full path, for messages. Raises Missing, UnsafePathError, MirrorError."""
    try:
        return os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError as error:
        raise DirectoryMissingError(path) from error
    except (NotADirectoryError, OSError) as error:
        raise _not_a_folder(folder, name, path, error) from error


def _not_a_folder(folder: int, name: str, path: str, error: OSError) -> MirrorError:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else None
    except OSError:
        return mirror_error("open", path, error)
    if target is not None:
        return UnsafePathError(
            f"{path} is a link to {target}; syncd writes through no link",
            path=path,
            hint=f"publish: symlink made it; say so again, or remove it (rm {shlex.quote(path)}) and sync: the trees behind it stay"
            if TREE_NAME.match(target)
            else f"write to: {os.path.realpath(path)} instead, or make {path} a real folder",
        )
    if not stat.S_ISDIR(found.st_mode):
        return InTheWayError(
            f"{path} is a file where a folder is needed",
            path=path,
            hint="move it away, or give the job another to:",
        )
    return mirror_error("open", path, error)


def open_directory(root: str, names: Sequence[str]) -> int:
    """A descriptor of the folder that `names` lead to from `root`. The caller closes it."""
    current = open_root(root)
    path = root.rstrip("/")
    for name in names:
        path = f"{path}/{name}"
        try:
            below = open_subdirectory(current, name, path)
        finally:
            os.close(current)
        current = below
    return current


@contextmanager
def opened_directory(root: str, names: Sequence[str]) -> Iterator[int]:
    folder = open_directory(root, names)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def translated_errors(what: str) -> Iterator[None]:
    """Whatever the kernel refuses inside has a name outside: no OSError and no Missing leaves the mirror."""
    try:
        yield
    except DirectoryMissingError as error:
        raise ChangedUnderneathError(
            f"the folder {error} is gone", path=str(error), hint="the next run looks again"
        ) from error
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else ""
        raise mirror_error(what, place or "what is mirrored here", error) from error


def mirror_error(what: str, path: str, error: OSError) -> MirrorError:
    """The kernel's refusal as an error that names what to do about it."""
    reason = error.strerror or str(error)
    hints = {
        errno.EACCES: "run syncd as a user who may write there, or change the folder's owner",
        errno.EPERM: "the file may be immutable (lsattr), or only root may do this",
        errno.EROFS: "the file system is mounted read-only; under systemd: syncd init --systemd --install, then restart the service",
        errno.ENOSPC: "free some space or inodes; the next run goes on by itself",
        errno.EDQUOT: "the quota is used up; the next run goes on by itself once there is room",
        errno.EIO: "the disk reports an error; look at dmesg",
        errno.EBUSY: "it is a mount point of its own (a bind-mounted file?); mirror the folder that holds it instead",
        errno.EXDEV: "another file system is mounted there; give it a path of its own in the job",
        errno.EMFILE: "too many open files; raise LimitNOFILE=",
        errno.ENAMETOOLONG: "the name is longer than this file system allows",
        errno.ELOOP: "a link above it leads back to itself; correct it (namei -l PATH shows the way)",
        errno.EILSEQ: "this file system can't hold the name as it is written",
    }
    return MirrorError(
        f"can't {what} {path}: {reason}", path=path, hint=hints.get(error.errno or 0)
    )
