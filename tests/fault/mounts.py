"""Mounts that nobody but a child of ours sees: they are gone with it, and no other process keeps a
file system alive that was meant to die.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.fault.points import ask_child

T = TypeVar("T")

CLONE_NEWNS = 0x00020000  # linux/sched.h
AN_HOUR = 3600


def privately(work: Callable[[], T], guard_seconds: int = AN_HOUR) -> T:
    """What `work` returned in a child with mounts of its own."""

    def alone() -> T:
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        shell("mount", "--make-rprivate", "/")
        return work()

    return ask_child(alone, guard_seconds)


def shell(*arguments: object) -> str:
    return subprocess.run(
        [str(one) for one in arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def no_root() -> str:
    return "" if os.geteuid() == 0 else "root"


IMAGE_BYTES = 64 << 20
AS_JOBS_ASK = "fmask=0133,dmask=0022"  # exFAT keeps no modes: every file has the one of the mount
UNCACHED = f"{AS_JOBS_ASK},entry_timeout=0,attr_timeout=0"  # else two spellings differ for a second
EXFAT_TOOLS = ("mkfs.exfat", "mount.exfat-fuse", "losetup")
EXT4_TOOLS = ("mkfs.ext4", "losetup")


def lacking(*tools: str) -> str:
    """What a test that needs root and these programs lacks; empty for nothing."""
    return no_root() or ", ".join(tool for tool in tools if shutil.which(tool) is None)


@contextmanager
def exfat(image: Path, place: Path, options: str = AS_JOBS_ASK) -> Iterator[Path]:
    """An empty exFAT file system, by FUSE, mounted on `place`:
    it ignores case and keeps no modes.
    """
    with _image(image, "mkfs.exfat") as device:
        place.mkdir(parents=True, exist_ok=True)
        command = ["mount.exfat-fuse", *(("-o", options) if options else ()), device, str(place)]
        # its output goes nowhere: the daemon that it leaves would hold a pipe open
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield place
        finally:
            shell("umount", place)


@contextmanager
def ext4_in_seconds(image: Path, place: Path) -> Iterator[Path]:
    """An empty ext4 file system whose inodes have no room for more than whole seconds."""
    with _image(image, "mkfs.ext4", "-q", "-I", "128") as device:
        place.mkdir(parents=True, exist_ok=True)
        shell("mount", device, place)
        try:
            yield place
        finally:
            shell("umount", place)


@contextmanager
def _image(image: Path, *make: str) -> Iterator[str]:
    """The loop device of a new image that `make` has formatted."""
    with open(image, "wb") as file:
        file.truncate(IMAGE_BYTES)
    shell(*make, image)
    device = shell("losetup", "--find", "--show", image)
    try:
        yield device
    finally:
        shell("losetup", "--detach", device)
        image.unlink(missing_ok=True)
