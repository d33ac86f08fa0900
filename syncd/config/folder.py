"""Lists the files of a configuration folder: its `*.yaml`, in name order.

Dot files (locks of editors, `._x.yaml` of macOS, `..data` of Kubernetes) are left out. A file that
is left out and looks as if it should count, like `jobs.yml`, is named. A `x.yaml` that can't be
read as a file is a mistake, because its jobs would silently be missing otherwise.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from msgspec import Struct

from syncd.errors import ConfigError, Problem
from syncd.owners import nearest_owner
from syncd.trusted_path import TrustProblem, open_checked

SUFFIX = ".yaml"
MEANT = (".yml", ".yaml")  # in any case


class Folder(Struct, frozen=True):
    """What a folder holds.

    `files` are read, `ignored` look alike but are not, and `doubts` say who else may add some.
    """

    files: tuple[Path, ...]
    ignored: tuple[Path, ...]
    problems: tuple[Problem, ...]
    doubts: tuple[TrustProblem, ...] = ()


def list_folder(folder: Path) -> Folder:
    """List the configuration files in a folder. Raises ConfigError if it can't be listed."""
    try:
        names, doubts = _names_in(folder)
    except OSError as error:
        raise ConfigError(
            f"the configuration's folder {folder} can't be listed: {error.strerror}",
            id="config/folder-not-readable",
            hint="run syncd as the user whose configuration it is, or give -c another folder",
        ) from error
    files = tuple(folder / name for name in names if name.endswith(SUFFIX))
    ignored = tuple(
        folder / name
        for name in names
        if not name.endswith(SUFFIX) and name.lower().endswith(MEANT)
    )
    found = {file: _problem_with(file) for file in files}
    problems = [Problem(str(file), 0, 0, "", text) for file, text in found.items() if text]
    return Folder(files, ignored, tuple(problems), tuple(doubts))


def _names_in(folder: Path) -> tuple[list[str], list[TrustProblem]]:
    descriptor, doubts = open_checked(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        names = os.listdir(descriptor)
    finally:
        os.close(descriptor)
    return sorted(name for name in names if not name.startswith(".")), doubts


def _problem_with(file: Path) -> str | None:
    """Return why the entry is no file to read. Never opens it: a FIFO would block."""
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError:
        return "is a link that leads nowhere; correct it, or remove it"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if stat.S_ISREG(mode):
        return None
    kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
    return f"is {kind}; a configuration file was expected: rename it, or move it away"


def ignored_line(ignored: tuple[Path, ...]) -> str:
    """Return one line that names the files that are left out; empty if there are none."""
    if not ignored:
        return ""
    names = ", ".join(file.name for file in ignored)
    one = len(ignored) == 1
    return (
        f"{ignored[0].parent}: {names} {'is' if one else 'are'} ignored: only names that end in"
        f" {SUFFIX} are read; rename {'it' if one else 'them'} or move {'it' if one else 'them'}"
        " away"
    )


def unreadable_error(path: Path) -> ConfigError:
    """Return the error of a configuration that this user may not read.

    Root may read everything, but for a link of another user in a sticky folder that all may write.
    Source: proc_sys_fs(5), protected_symlinks.
    """
    if os.geteuid() == 0 and path.is_symlink():
        return ConfigError(
            f"the configuration {path} can't be read: it is another user's link in a folder for "
            "all, which the kernel does not follow",
            id="config/link-of-another",
            hint=f"sudo chown -h root: {path}",
        )
    return ConfigError(
        f"the configuration {path} can't be read: Permission denied", owner=nearest_owner(path)
    )


__all__ = ["Folder", "ignored_line", "list_folder", "unreadable_error"]
