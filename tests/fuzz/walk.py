"""Fuzzing of the walk and the removal of folders: python -m tests.fuzz.walk -max_total_time=60

The input is lines, each one thing to make: the kind, and a path of names. Whatever stands there,
with links that lead out, FIFOs, modes that keep everybody out, odd names and depths: a walk meets
exactly what is there, a removal leaves nothing, what is outside keeps its bytes, modes and times,
and at most two descriptors are open.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.tree_walk"):
    from syncd.errors import MirrorError
    from syncd.tree_walk import OPEN_DIR_NOFOLLOW, remove, walk

LINES_AT_MOST, NAMES_AT_MOST = 60, 12
DEEP = 300  # levels that one `d` line makes
DESCRIPTORS = 2
OUTSIDE = "outside"
Seen = list[tuple[str, int, int, int, bytes]]


def one(data: bytes) -> None:
    base = tempfile.mkdtemp(
        prefix="syncd-walk-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
    )
    parent = os.open(base, OPEN_DIR_NOFOLLOW)
    try:
        os.mkdir(f"{base}/{OUTSIDE}", 0o500)
        os.mkdir(f"{base}/top")
        made = _lay(f"{base}/top", data)
        before = _signature(f"{base}/{OUTSIDE}")
        _walked(base, made)
        _removed(parent)
        if _signature(f"{base}/{OUTSIDE}") != before or sorted(os.listdir(base)) != [OUTSIDE]:
            raise AssertionError(f"outside was touched, or more is left: {os.listdir(base)}")
    finally:
        os.close(parent)
        shutil.rmtree(base, ignore_errors=True)


def _lay(top: str, data: bytes) -> int:
    """Make what the lines say, as far as the disk takes it; how many entries stand then."""
    closed = []
    for line in data.split(b"\n")[:LINES_AT_MOST]:
        kind, _, path = line.partition(b" ")
        names = [name[:255] for name in path.split(b"/") if name not in (b"", b".", b"..")]
        if not names or b"\0" in path:
            continue
        place = os.fsencode(top)
        with suppress(OSError):
            for name in names[: NAMES_AT_MOST - 1]:
                place = place + b"/" + name
                if name is not names[-1]:
                    os.makedirs(place, exist_ok=True)
            _make(kind, place)
            if kind == b"0":
                closed.append(place)
    count = sum(len(folders) + len(files) for _, folders, files in os.walk(top))
    for place in closed:
        with suppress(OSError):
            os.chmod(place, 0)
    return count


def _make(kind: bytes, place: bytes) -> None:
    match kind:
        case b"l":
            os.symlink(b"../" * (place.count(b"/") - 2) + OUTSIDE.encode(), place)
        case b"u":
            os.symlink(b"..", place)
        case b"p":
            os.mkfifo(place)
        case b"f":
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        case b"d":
            os.makedirs(place + b"/d" * DEEP)
        case _:
            os.mkdir(place)


def _walked(base: str, made: int) -> None:
    top = os.open(f"{base}/top", OPEN_DIR_NOFOLLOW)
    before = _descriptors()
    met = 0
    try:
        for step in walk(top, base):
            met += 1
            if _descriptors() - before > DESCRIPTORS:
                raise AssertionError(f"{_descriptors() - before} descriptors at {step.path!r}")
            if os.path.lexists(f"{base}/top/{step.path}") is False:
                raise AssertionError(f"met what is not there: {step.path!r}")
        if met != made:
            raise AssertionError(f"met {met} of {made}")
        _limited(top, base)
    except PermissionError:
        if os.geteuid() == 0:
            raise
    finally:
        os.close(top)


def _limited(top: int, base: str) -> None:
    try:
        deepest = max((len(step.names) for step in walk(top, base, deepest=20)), default=0)
    except MirrorError as error:
        if not error.message.endswith("and syncd goes no further"):
            raise
    else:
        if deepest > 20:
            raise AssertionError(f"{deepest} folders down")


def _removed(parent: int) -> None:
    before, most = _descriptors(), 0

    def check() -> None:
        nonlocal most
        most = max(most, _descriptors() - before)

    remove(parent, "top", check)
    if most > DESCRIPTORS + 1:  # one more lists a folder
        raise AssertionError(f"{most} descriptors")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _signature(folder: str) -> Seen:
    found = os.lstat(folder)
    names = os.fsencode("/".join(sorted(os.listdir(folder))))
    return [(folder, found.st_mode, found.st_mtime_ns, found.st_nlink, names)]


def seeds() -> Iterator[bytes]:
    yield b"f a\nf b/c\nl b/link\nu b/up\np b/fifo\nm b/d/e/f"
    yield b"d a\nf a/d/d/d/x\nl a/d/d/link"
    yield b"m a/b\n0 a/b/c\nf a/b/c/x\n0 a"
    yield b"l x\nl x/y\nm x\nf x/y"
    yield b"f \xff\xfe\nf caf\xe9/\x1b[31m\nm -rf\nf -rf/*\nl ~/$HOME"
    yield b"f " + b"n" * 300 + b"\nm " + b"a/" * 40 + b"b"
    yield b"\n".join(b"m many/%d" % number for number in range(40)) + b"\nd many/5/deep"


if __name__ == "__main__":
    fuzz(one, seeds(), ["f ", "l ", "u ", "p ", "m ", "d ", "0 ", "a/b/", "\\x0a", "../", "\\xff"])
