"""Finds where the running syncd is installed.

That is its package, its command, its Python, and every folder that Python imports from. A user who
may put a file into one of these decides what the next start of syncd executes.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

from msgspec import Struct

SCHEMES = ("stdlib", "platstdlib", "purelib", "platlib")


class Program(Struct, frozen=True):
    """The paths of the program, absolute, links not resolved.

    `started_in` is the folder that Python searches first for modules: that of the console script,
    or the working directory of `python -m syncd`. `linked` are entries of the import folders that
    are links. `environment` is the virtual environment, if there is one.
    """

    package: str
    command: str
    interpreters: tuple[str, ...]
    import_folders: tuple[str, ...]
    linked: tuple[str, ...] = ()
    environment: str | None = None
    started_in: str | None = None


@lru_cache(maxsize=1)
def this_program() -> Program:
    """Return the paths of the running syncd. They don't change while the process lives."""
    folders = tuple(dict.fromkeys(_import_folders()))
    interpreters = (sys.executable, getattr(sys, "_base_executable", sys.executable))
    return Program(
        package=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
        command=os.path.abspath(sys.argv[0]) if os.path.basename(sys.argv[0]) == "syncd" else "",
        interpreters=tuple(dict.fromkeys(filter(None, interpreters))),
        import_folders=folders,
        linked=tuple(link for folder in folders for link in _links_in(folder)),
        environment=sys.prefix if sys.prefix != sys.base_prefix else None,
        started_in=_started_in(),
    )


def _import_folders() -> Iterator[str]:
    """Yield the folders that Python imports from.

    Folders that do not exist yet are among them: Python looks for them at its next start. Source:
    docs.python.org, `site`.
    """
    for scheme in SCHEMES:
        yield sysconfig.get_path(scheme)
    yield from site.getsitepackages()
    if site.ENABLE_USER_SITE:
        yield site.getusersitepackages()
    started_in = _started_in()
    for folder in sys.path[0 if sys.flags.safe_path else 1 :]:
        if folder and os.path.isabs(folder) and folder != "/" and folder != started_in:
            yield os.path.normpath(folder)


def _started_in() -> str | None:
    """Return the folder that Python searches first, or None.

    Source: docs.python.org, `sys.path`: without -P the first entry is the script's folder, or the
    working directory.
    """
    if sys.flags.safe_path or not sys.path:
        return None
    with suppress(OSError):  # the working directory was removed
        return os.path.realpath(sys.path[0])
    return None


def _links_in(folder: str) -> Iterator[str]:
    """Yield the links in a folder, such as Debian's sitecustomize.py, which leads to /etc."""
    with (
        suppress(OSError),
        os.scandir(folder) as entries,
    ):  # a folder that is not there, or an archive
        for entry in entries:
            if entry.is_symlink():
                yield entry.path
