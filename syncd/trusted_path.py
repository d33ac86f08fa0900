"""Check who else may write a file that root obeys, while opening it.

A configuration says which commands root runs, so only root may write it: the file, and each
directory and link on the way to it. Every step of the path is opened below the one before and
checked through its descriptor; what is read afterwards is the file that was checked. For other
users than root nothing is checked: they can only harm themselves. Also says who may read a secret,
which is checked for every user.

Standard library only, because the nothing-to-do check uses it. `safe_open.py` walks from `/` too,
but refuses instead of reporting, makes directories, and opens no files; both walks stay separate.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection
from typing import NamedTuple

ROOT = 0
# The group's bit is also the mask of a POSIX ACL, so its entries count.
OTHERS_WRITE_BITS = stat.S_IWGRP | stat.S_IWOTH
ROOT_REASON = ", and root uses nothing that another user may change"
MAX_LINKS = 40  # as the kernel: path_resolution(7)
OPEN_AS_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
CREDENTIALS_DIR = "/run/credentials/"  # systemd makes what is below, for the user of one unit


class TrustProblem(NamedTuple):
    """One reason not to obey a file.

    `uid` is the owner that it is about; None where a mode is wrong for every owner.
    """

    path: str
    text: str
    uid: int | None
    fix: str

    def __str__(self) -> str:
        return f"{self.path} {self.text}; {self.fix}"


def open_checked(
    path: str | os.PathLike[str], flags: int = os.O_RDONLY
) -> tuple[int, list[TrustProblem]]:
    """Open a file or directory; return its descriptor, and why its content can't be obeyed.

    Raises OSError as `os.open` does.
    """
    if os.geteuid() != ROOT:
        return os.open(path, flags | os.O_CLOEXEC), []
    name, walk = os.fspath(path), _Walk(flags | os.O_CLOEXEC)
    try:
        return walk.open(name if name.startswith("/") else f"{os.getcwd()}/{name}"), walk.problems
    except OSError as error:
        raise type(error)(error.errno, error.strerror, name) from error
    finally:
        os.close(walk.folder)


def problems_for_owner(problems: Collection[TrustProblem], owner: int | None) -> list[TrustProblem]:
    """Return the problems that remain where `owner` is trusted beside root, each once.

    `owner` is the user of the state directory.
    """
    return list(dict.fromkeys(one for one in problems if one.uid is None or one.uid != owner))


def state_owner(state: str | os.PathLike[str]) -> int | None:
    """Return who owns the state directory; None where there is none."""
    try:
        return os.stat(state).st_uid
    except OSError:
        return None


class _Walk:
    """One path, step by step; `folder` is the directory it has come to, `names` its path."""

    def __init__(self, flags: int) -> None:
        self._flags, self._links = flags, 0
        self.problems: list[TrustProblem] = []
        self.names: list[str] = []
        self.folder = os.open("/", OPEN_AS_PATH)
        self._check_writers(self.folder, "/")

    def open(self, path: str) -> int:
        """Return the descriptor of what the path leads to; `problems` has what was found on the
        way.
        """
        todo = _parts(path)
        while todo:
            name = todo.pop()
            entry = os.open(name, OPEN_AS_PATH, dir_fd=self.folder)
            try:
                if stat.S_ISLNK(os.fstat(entry).st_mode):
                    if self._is_magic():
                        return self._open_magic(name, todo)
                    todo += self._follow(name, entry)
                elif todo:
                    self._enter(name, entry)
                else:
                    return self._open_last(name)
            finally:
                os.close(entry)
        return self._open_last(".")

    def _enter(self, name: str, entry: int) -> None:
        place = self._place(name)
        self._check_writers(entry, place, passed=True)
        self.names = _parts(place)[::-1]
        previous, self.folder = self.folder, os.dup(entry)
        os.close(previous)

    def _open_last(self, name: str) -> int:
        """Return what is read later, opened without following a link that was put there since."""
        opened = os.open(name, self._flags | os.O_NOFOLLOW, dir_fd=self.folder)
        self._check_writers(opened, self._place(name))
        return opened

    def _follow(self, name: str, link: int) -> list[str]:
        """Return the steps that the link leads to.

        A user who may replace the link in its directory decides where it leads.
        """
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        found, around = os.fstat(link), os.fstat(self.folder)
        if around.st_mode & OTHERS_WRITE_BITS and found.st_uid != ROOT and not _is_read_only(link):
            self.problems.append(_owner_problem(self._place(name), found, "chown -h"))
        target = os.readlink("", dir_fd=link)
        if target.startswith("/"):
            self.names = []
            previous, self.folder = self.folder, os.open("/", OPEN_AS_PATH)
            os.close(previous)
        return _parts(target)

    def _is_magic(self) -> bool:
        """Return whether links here lead to open files, not paths: /proc/PID/fd, see proc(5)."""
        return len(self.names) > 1 and self.names[0] == "proc"

    def _open_magic(self, name: str, todo: list[str]) -> int:
        """Open what a process has open.

        A pipe, a socket or a terminal was handed to it, and has no place of its own.
        """
        if todo:
            raise OSError(errno.ENOTDIR, "a folder that a process has open can't be checked")
        opened = os.open(name, self._flags, dir_fd=self.folder)
        mode = os.fstat(opened).st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            self._check_writers(opened, self._place(name))
        return opened

    def _place(self, name: str) -> str:
        return os.path.normpath("/" + "/".join([*self.names, name]))

    def _check_writers(self, descriptor: int, place: str, passed: bool = False) -> None:
        """Record who else may write this.

        In a sticky directory that is only passed, others may not replace what is root's.
        """
        found = os.fstat(descriptor)
        open_to_others = found.st_mode & OTHERS_WRITE_BITS and not (
            passed and found.st_mode & stat.S_ISVTX
        )
        if not open_to_others and found.st_uid == ROOT:
            return
        if place.startswith(CREDENTIALS_DIR) or _is_read_only(descriptor):
            return
        if found.st_uid != ROOT:
            self.problems.append(_owner_problem(place, found, "chown"))
        if open_to_others:
            self.problems.append(_mode_problem(place, found))


def _parts(path: str) -> list[str]:
    """Return the steps of a path, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _is_read_only(descriptor: int) -> bool:
    return bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)


def _owner_problem(place: str, found: os.stat_result, command: str) -> TrustProblem:
    text = f"belongs to {_owner(found)} (mode {stat.S_IMODE(found.st_mode):04o}){ROOT_REASON}"
    return TrustProblem(place, text, found.st_uid, f"{command} root: {_quoted(place)}")


def _mode_problem(place: str, found: os.stat_result) -> TrustProblem:
    who = "all users" if found.st_mode & stat.S_IWOTH else f"group {group_name(found.st_gid)}"
    mode = f"{stat.S_IMODE(found.st_mode):04o}"
    text = f"can be written by {who} (owner {_owner(found)}, mode {mode}){ROOT_REASON}"
    return TrustProblem(place, text, None, f"chmod go-w {_quoted(place)}")


def _owner(found: os.stat_result) -> str:
    # Imported only where something is wrong: most runs do without the user database.
    from syncd.owners import owner_name

    return owner_name(found.st_uid)


def _quoted(place: str) -> str:
    from shlex import quote

    return quote(place)


def secret_exposure(found: os.stat_result) -> str | None:
    """Return what is wrong with the permissions of a secret's file, in words, or None.

    The group may read it where that is root's or one of this process: Kubernetes gives a secret to
    a pod that way (`fsGroup` is a supplementary group), and so do packages that keep their keys
    0640 root:NAME.
    """
    if found.st_mode & 0o007:
        rights = ((0o004, "read"), (0o002, "written"), (0o001, "run"))
        may = next(word for bit, word in rights if found.st_mode & bit)
        return f"can be {may} by others"
    if found.st_mode & 0o030:
        return "can be written by its group"
    if found.st_mode & 0o040 and found.st_gid not in {0, os.getegid(), *os.getgroups()}:
        group = group_name(found.st_gid)
        return f"can be read by group {group}, which is neither root's nor one of this process"
    return None


def group_name(gid: int) -> str:
    """Return the group's name, or its number where this machine knows none."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


__all__ = ["TrustProblem", "open_checked", "problems_for_owner", "secret_exposure", "state_owner"]
