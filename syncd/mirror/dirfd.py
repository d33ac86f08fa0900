"""Open directories by descriptor: from a job's root to a destination, never through a link.

Also says which directories may be made or removed on the way, and turns errors of the kernel into
errors that say what to do.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from syncd.errors import ChangedUnderneathError, MirrorError, UnsafePathError
from syncd.mirror.paths import names_below
from syncd.safe_open import OPEN_DIR, open_folder

OPEN_DIR_NOFOLLOW = OPEN_DIR | os.O_NOFOLLOW
# A tree of `publish: symlink`: when it was made, and the intent that made it.
TREE_NAME = re.compile(r"([0-9]{8}T[0-9]{6})-[0-9a-f]{12}\Z")

# errno -> the error's id, and what to do
_HINTS = {
    errno.EACCES: (
        "mirror/permission-denied",
        "run syncd as a user who may write there, or change the directory's owner",
    ),
    errno.EPERM: (
        "mirror/not-permitted",
        "the file may be immutable (lsattr), or only root may do this",
    ),
    errno.EROFS: (
        "mirror/read-only",
        "the file system is mounted read-only; under systemd: "
        "syncd init --systemd --install, then restart the service",
    ),
    errno.ENOSPC: (
        "mirror/no-space",
        "free some space or inodes; the next run continues by itself",
    ),
    errno.EDQUOT: (
        "mirror/quota",
        "the quota is used up; the next run continues by itself once there is room",
    ),
    errno.EIO: ("mirror/disk-error", "the disk reports an error; see dmesg"),
    errno.EBUSY: (
        "mirror/mount-point",
        "it is a mount point of its own (a bind-mounted file?); "
        "mirror the directory that holds it instead",
    ),
    errno.EXDEV: (
        "mirror/other-file-system",
        "another file system is mounted there; give it a path of its own in the job",
    ),
    errno.EMFILE: ("mirror/too-many-open-files", "too many open files; raise LimitNOFILE="),
    errno.ENAMETOOLONG: ("mirror/name-too-long", "the name is longer than this file system allows"),
    errno.ELOOP: (
        "mirror/link-loop",
        "a link above it leads back to itself; correct it (namei -l PATH shows the way)",
    ),
    errno.EILSEQ: ("mirror/bad-name", "this file system can't hold the name as it is written"),
}


class DirectoryMissingError(Exception):
    """A directory on the way does not exist, and nothing else is in its place."""


class InTheWayError(MirrorError):
    """A file is where the way down needs a directory."""


# Nothing of ours can be below; any other error says nothing about what the disk holds.
UNREACHABLE_ERRORS = (DirectoryMissingError, InTheWayError, UnsafePathError)


def open_root(root: str) -> int:
    """Open the operator's directory `root` and return its descriptor.

    As root, a link on the way to it that another user can set is refused.
    Raises DirectoryMissingError, MirrorError.
    """
    try:
        return open_folder(root)
    except FileNotFoundError as error:
        broken = broken_link_reason(root)
        if broken is not None:
            raise broken from error
        raise DirectoryMissingError(root) from error
    except NotADirectoryError as error:
        raise InTheWayError(
            f"{root} is not a directory",
            id="mirror/root-not-a-directory",
            path=root,
            hint="correct to:, or make it a directory",
        ) from error
    except OSError as error:
        raise mirror_error("open", root, error) from error


def broken_link_reason(path: str) -> UnsafePathError | None:
    """Return why no directory can be made at `path`: a link at or above it leads nowhere."""
    while not os.path.exists(path):
        if os.path.islink(path):
            target = os.readlink(path)
            place = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            return UnsafePathError(
                f"{path} is a link to {target}, which does not exist",
                id="mirror/broken-link",
                path=path,
                hint=f"make what it leads to (mkdir -p {shlex.quote(place)}), mount it, "
                "or correct the link",
            )
        path = posixpath.dirname(path) or "/"
    return None


def open_subdirectory(folder: int, name: str, path: str) -> int:
    """Open the directory `name` in the open `folder`; `path` is its full path, for messages.

    Raises DirectoryMissingError, UnsafePathError, MirrorError.
    """
    try:
        return os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError as error:
        raise DirectoryMissingError(path) from error
    except OSError as error:
        raise _not_a_directory(folder, name, path, error) from error


def _not_a_directory(folder: int, name: str, path: str, error: OSError) -> MirrorError:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else None
    except OSError:
        return mirror_error("open", path, error)
    if target is not None:
        return _is_a_link(path, target)
    if not stat.S_ISDIR(found.st_mode):
        return InTheWayError(
            f"{path} is a file where a directory is needed",
            id="mirror/file-in-the-way",
            path=path,
            hint="move it away, or give the job another to:",
        )
    return mirror_error("open", path, error)


def _is_a_link(path: str, target: str) -> UnsafePathError:
    if TREE_NAME.match(target):
        hint = (
            "publish: symlink made it; configure that again, or remove the link "
            f"(rm {shlex.quote(path)}) and sync: the trees behind it stay"
        )
    else:
        hint = f"write to: {os.path.realpath(path)} instead, or make {path} a real directory"
    return UnsafePathError(
        f"{path} is a link to {target}; syncd writes through no link",
        id="mirror/link-in-the-way",
        path=path,
        hint=hint,
    )


def open_directory(root: str, path: str) -> int:
    """Open the directory `path`, which is `root` or below it; the caller closes the descriptor.

    Raises DirectoryMissingError, UnsafePathError, MirrorError.
    """
    names = names_below(path, root) if path != root else ()
    current, at = open_root(root), root.rstrip("/")
    for name in names:
        at = f"{at}/{name}"
        try:
            below = open_subdirectory(current, name, at)
        finally:
            os.close(current)
        current = below
    return current


@contextmanager
def opened_directory(root: str, path: str) -> Iterator[int]:
    """Open the directory `path`, which is `root` or below it, for the block."""
    folder = open_directory(root, path)
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def opened_below(folder: int, names: Iterable[str]) -> Iterator[int]:
    """Open the directory that `names` lead to from the open `folder`, for the block.

    Raises OSError.
    """
    current = os.open(".", OPEN_DIR_NOFOLLOW, dir_fd=folder)
    try:
        for name in names:
            below = os.open(name, OPEN_DIR_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)


@contextmanager
def translated_errors(attempt: str) -> Iterator[None]:
    """Turn errors of the kernel in the block into MirrorErrors that say what was attempted.

    No OSError and no DirectoryMissingError leaves the mirror.
    """
    try:
        yield
    except DirectoryMissingError as error:
        raise directory_gone_error(str(error)) from error
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else ""
        raise mirror_error(attempt, place or "what is mirrored here", error) from error


def directory_gone_error(folder: str, path: str | None = None) -> ChangedUnderneathError:
    """Return the error for a directory that was removed while syncd was working."""
    return changed_error(path or folder, f"the directory {folder} is gone", "mirror/directory-gone")


def changed_error(path: str, message: str, id: str = "mirror/changed") -> ChangedUnderneathError:
    """Return the error for a destination that another process changed during the run."""
    return ChangedUnderneathError(message, id=id, path=path, hint="the next run checks it again")


def mirror_error(attempt: str, path: str, error: Exception) -> MirrorError:
    """Return the error for a failed attempt on `path`; one that has a message already stays."""
    if isinstance(error, MirrorError):
        return error
    if not isinstance(error, OSError):
        return directory_gone_error(str(error), path)
    id, hint = _HINTS.get(error.errno or 0, ("mirror/other-disk-error", None))
    return MirrorError(
        f"syncd can't {attempt} {path}: {error.strerror or error}",
        id=id,
        path=path,
        hint=hint,
    )
