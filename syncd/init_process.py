"""Process 1 of a container: passes signals on to syncd, and reaps the orphans of hooks.

What a hook leaves running becomes a child of process 1 when its parent ends, and stays as a zombie
until process 1 waits for it. syncd can't wait for any child: it would take the exit status of a
hook's supervisor from the thread that waits for that one. So process 1 forks once, before anything
is loaded. The child is syncd; the parent does nothing but this, and ends with the child's exit
code. Outside a container process 1 is another program, and nothing here is used. Standard library
only.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
SENT_BY_TERMINAL = 0x80  # SI_KERNEL, sigaction(2): the terminal has sent it to the child too


def become_init() -> None:
    """Return in a child process, which is syncd. The parent stays, and never returns.

    The signals are blocked before the fork, so that none is lost; to process 1 they would do
    nothing otherwise. Source: kill(2), signals to process 1.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    os._exit(_serve(child))


def _serve(child: int) -> int:
    """Pass signals on and reap every child until this one ends; return its exit code."""
    while True:
        found = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD})
        if found.si_signo == signal.SIGCHLD:
            code = _reap(child)
            if code is not None:
                return code
        elif found.si_code != SENT_BY_TERMINAL:
            with suppress(ProcessLookupError):
                os.kill(child, found.si_signo)


def _reap(child: int) -> int | None:
    """Wait for everything that has ended; return the child's exit code if it is among it.

    A child that a signal ended has 128 and the signal's number, as in a shell.
    """
    code = None
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                status = os.waitstatus_to_exitcode(ended[1])
                code = status if status >= 0 else 128 - status
    return code


__all__ = ["become_init"]
