"""Mounts that nobody but a child of ours sees: they are gone with it, and no other process keeps a file system alive that was meant to die."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
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
    return subprocess.run([str(one) for one in arguments], check=True, capture_output=True, text=True).stdout.strip()


def no_root() -> str:
    return "" if os.geteuid() == 0 else "root"
