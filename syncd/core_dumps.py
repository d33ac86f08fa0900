"""Keeps other processes and core files from reading this process' memory, which holds tokens and
keys.

Linux only: a process that is not dumpable leaves no core, even if the kernel pipes cores to a
program and so ignores RLIMIT_CORE, and no other process of the same user may trace it or read its
memory. A program that it executes starts dumpable again, so hooks can be debugged. Source:
prctl(2), ptrace(2), core(5).
"""

from __future__ import annotations

PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_dumps() -> None:
    """Forbid core files and debuggers for this process, as far as the system can."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (ImportError, OSError, AttributeError):  # a Python without ctypes, or no Linux
        return


__all__ = ["forbid_dumps"]
