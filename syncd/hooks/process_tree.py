"""Observes and ends the descendants of this process, however they detached themselves.

Standard library only: the supervisor of a hook runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
DETACH_CPU_SECONDS = 1.0  # from fork to setsid takes milliseconds
MAX_DETACH_WAITS = 200  # such as for the disk; preemptions by other processes do not count


class Activity:
    """What a process has done so far. Source: proc(5), /proc/PID/stat and /proc/PID/status."""

    def __init__(self, parent: int, state: bytes, cpu_seconds: float, waits: int) -> None:
        self.parent, self.state = parent, state
        self.cpu_seconds, self.waits = cpu_seconds, waits

    @classmethod
    def of(cls, pid: int) -> Activity | None:
        """Read what the process has done; None if it does not exist any more."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            with open(f"/proc/{pid}/status", "rb") as file:
                lines = [line for line in file if line.startswith(b"voluntary_ctxt_switches:")]
        except OSError:
            return None
        ticks = int(fields[11]) + int(fields[12])
        cpu_seconds = ticks / os.sysconf("SC_CLK_TCK")
        waits = sum(int(line.split()[1]) for line in lines)
        return cls(int(fields[1]), fields[0], cpu_seconds, waits)

    def slept_since(self, before: Activity | None) -> bool:
        """Return whether it has not run since, and waits for something other than a disk."""
        return before is not None and self.state in b"ST" and self.waits == before.waits

    def is_long_after(self, first: Activity) -> bool:
        """Return whether it has run for so long that it would have detached itself by now."""
        cpu_seconds = self.cpu_seconds - first.cpu_seconds
        waits = self.waits - first.waits
        return cpu_seconds >= DETACH_CPU_SECONDS or waits >= MAX_DETACH_WAITS


def become_subreaper() -> None:
    """Make orphaned descendants children of this process, not of init."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_descendants(seconds: float) -> bool:
    """Kill every descendant, and return whether none was left within so many seconds.

    A process that forks and exits over and over has another id each time that all processes are
    listed. Its newest process is always a child of this one, or will be at once. So only children
    are listed, which takes the kernel microseconds, and they are killed without any wait.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = children()
        if not left and not (left := list(descendants())):
            return True
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return not descendants()


def children() -> list[int]:
    """Return our own children; none where the kernel has no such list. Source: proc(5),
    CONFIG_PROC_CHILDREN.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def descendants() -> dict[int, int]:
    """Return process id -> process group of every live descendant.

    Orphans become our children, so no process can leave this tree. Source: proc(5), /proc/PID/stat.
    """
    children: dict[int, list[tuple[int, int, bytes]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(
                    (int(name), int(fields[2]), fields[0])
                )
    found: dict[int, int] = {}
    todo = [os.getpid()]
    while todo:
        for pid, group, state in children.get(todo.pop(), ()):
            todo.append(pid)
            if state not in b"ZX":
                found[pid] = group
    return found
