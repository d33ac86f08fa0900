"""Supervises one hook, as a program of its own: `python -I -S supervisor.py`.

One JSON line on stdin says what to run. The supervisor starts the command in a session of its own,
reads its output, and keeps the end of that. It ends the command, its process group and everything
else it left behind when the time limit is over, when it is asked to stop, or when syncd dies, which
closes stdin. So no hook outlives its limit, and no two hooks of one job run at once, even after
`kill -9`. Standard library only; it makes no decisions.

A hook with a user of its own (`ids`) leaves nothing behind: every process that it started is ended
with it, however it detached itself. In that case the supervisor is two processes, so that this
holds when one of them is killed: the outer one waits and inherits what is left, the inner one does
the work.

  In:  {"argv", "env", "ids": [uid, gid, [groups]] or null, "timeout", "grace", "keep",
        "locks": [files], "wait"}
  Out: one JSON line {"pid"} when the command is about to begin, and one
       {"status", "signal", "ended", "error", "output", "total"} at the end;
       `ended` is "timeout", "stopped" or null, `output` the last `keep` bytes as Latin-1,
       `total` how many there were.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import Any, NoReturn

if __name__ == "__main__":  # started by path, with an import path of the standard library alone
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    sys.path.append(os.path.dirname(package))

from syncd.hooks.process_tree import (
    Activity,
    become_subreaper,
    descendants,
    kill_descendants,
)

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CHUNK_BYTES = 1 << 16
KILL_SECONDS = 5.0  # for processes that left the group; the group itself gets one SIGKILL
TERM_GRACE_SECONDS = 1.0  # after SIGTERM, for what a finished command left running in its group
POLL_INTERVAL_SECONDS = 0.1  # between two looks at what a command left running
DETACH_SECONDS = 10.0  # how long a process may take to detach itself after its command ended
END_SECONDS = 10.0  # for what a hook's user left behind; it may fork as fast as it is killed
NOT_ENDED = "processes that it started could not be ended"
DRAIN_SECONDS = 0.5  # for output still in the pipe; a daemon may keep the pipe open for ever
HOOK_SIGNALS = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
)


def main() -> int:
    """Run the hook that the line on stdin describes, and return the exit code."""
    spec = json.loads(sys.stdin.buffer.readline())
    locks = [_open_lock(file) for file in spec["locks"]]
    return supervise(spec, locks) if spec["ids"] is None else supervise_as_two(spec, locks)


def supervise(spec: dict[str, Any], locks: list[int]) -> int:
    """Run the command while these files are locked, and write how it ended."""
    events = EventLoop()
    try:
        for descriptor in locks:
            _lock(descriptor, events, time.monotonic() + spec["wait"])
        answer = Hook(spec, events).run()
        for descriptor in locks:
            os.close(descriptor)
    except StartError as error:
        answer = failure_answer(str(error), "stopped" if events.stopped else None)
    write_answer(answer)
    return 0


def supervise_as_two(spec: dict[str, Any], locks: list[int]) -> int:
    """Supervise in a child process; when that is killed, end what it leaves behind.

    Both processes have the lock files open, and flock(2) holds until the last of them closes them.
    """
    become_subreaper()
    outer, inner = os.getpid(), os.fork()
    if inner == 0:
        os._exit(_inner(spec, locks, outer))

    def forward_signal(*_: object) -> None:
        """Ask the inner process to stop."""
        with suppress(ProcessLookupError):
            os.kill(inner, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, forward_signal)
    while True:
        dead, status = os.wait()
        if dead == inner:
            break
    if status != 0:
        kill_descendants(END_SECONDS)
        write_answer(failure_answer("the hook's supervisor died"))
    return 0


def _inner(spec: dict[str, Any], locks: list[int], outer: int) -> int:
    """Supervise in the inner process, which also ends the hook when the outer one dies."""
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # until EventLoop handles it; stdin is watched too
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != outer:
        return 1
    try:
        return supervise(spec, locks)
    except Exception as error:  # noqa: BLE001  (syncd waits for an answer)
        write_answer(failure_answer(f"the hook's supervisor failed: {error!r}"))
        return 0


def failure_answer(error: str, ended: str | None = None) -> dict[str, Any]:
    """Return the answer for a hook of which nothing but an error is known."""
    return {
        "status": None,
        "signal": None,
        "ended": ended,
        "error": error,
        "output": "",
        "total": 0,
    }


class StartError(Exception):
    """The command could not be started; the text says why."""


class EventLoop:
    """Waits for everything that the supervisor reacts to: stdin, signals and children."""

    def __init__(self) -> None:
        self.stopped = False
        self.wakes, writing = os.pipe()
        for descriptor in (self.wakes, writing):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopped = True

    def wait(self, seconds: float, *others: int) -> set[int]:
        """Return which of `others` have something to read, after at most `seconds`."""
        poll = select.poll()
        for descriptor in (self.wakes, *others, *(() if self.stopped else (0,))):
            poll.register(descriptor, select.POLLIN)
        found = {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}
        if self.wakes in found:
            with suppress(BlockingIOError):
                os.read(self.wakes, CHUNK_BYTES)
        if 0 in found:
            self.stopped = True  # input or end of file: syncd does not wait for the hook any more
        return found


class Hook:
    """One command and everything that it starts."""

    def __init__(self, spec: dict[str, Any], events: EventLoop) -> None:
        self.spec, self.events = spec, events
        self.pid, self.total = 0, 0
        self.code: int | None = None
        self.tail = bytearray()
        self.pipe: int | None = None

    def run(self) -> dict[str, Any]:
        """Run the command to its end or limit, end what it left, and return the answer."""
        become_subreaper()
        self._start()
        ends_at = time.monotonic() + self.spec["timeout"]
        ended = None
        while self.code is None and ended is None:
            if self.events.stopped or time.monotonic() >= ends_at:
                ended = "stopped" if self.events.stopped else "timeout"
                self._end()
            self._handle_events(min(1.0, ends_at - time.monotonic()))
        if ended is None and self.spec["ids"] is None:
            self._wait_for_detaching()
        self._kill_group()
        left = self.spec["ids"] is not None and not kill_descendants(END_SECONDS)
        self._read_rest()
        code = self.code if ended is None else None
        return {
            "status": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "ended": ended,
            "error": NOT_ENDED if left else None,
            "output": self.tail.decode("latin-1"),
            "total": self.total,
        }

    def _start(self) -> None:
        """Start the command after its process id has been written.

        The id is written before the command can do anything, so that syncd can always end it.
        """
        self.pipe, writing = os.pipe()
        failure, failing = os.pipe()
        start_read, start_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(start_write)
            if not os.read(start_read, 1):
                os._exit(127)  # the supervisor died: nothing would ever end the command
            exec_command(self.spec, writing, failing)
        for descriptor in (writing, failing, start_read):
            os.close(descriptor)
        write_answer({"pid": self.pid})
        with open(start_write, "wb") as go:
            go.write(b"x")
        with open(failure, "rb") as reason:
            text = reason.read()
        if text:
            raise StartError(text.decode("utf-8", "replace"))

    def _handle_events(self, seconds: float) -> None:
        """Read output and reap children, for at most `seconds`."""
        found = self.events.wait(seconds, *(() if self.pipe is None else (self.pipe,)))
        if self.pipe is not None and self.pipe in found:
            chunk = os.read(self.pipe, CHUNK_BYTES)
            if not chunk:
                os.close(self.pipe)
                self.pipe = None
            self.total += len(chunk)
            self.tail += chunk
            if len(self.tail) > 2 * self.spec["keep"]:
                del self.tail[: -self.spec["keep"]]
        with suppress(ChildProcessError):
            while (dead := os.waitpid(-1, os.WNOHANG))[0]:
                if dead[0] == self.pid:
                    self.code = os.waitstatus_to_exitcode(dead[1])

    def _read_rest(self) -> None:
        until = time.monotonic() + DRAIN_SECONDS
        while self.pipe is not None and time.monotonic() < until:
            self._handle_events(until - time.monotonic())
        del self.tail[: -self.spec["keep"]]

    def _end(self) -> None:
        """Send SIGTERM to every descendant, and after the grace period SIGKILL until all ended."""
        self._send(signal.SIGTERM, descendants())
        until = time.monotonic() + self.spec["grace"]
        while descendants() and time.monotonic() < until:
            self._handle_events(0.05)
        until = time.monotonic() + KILL_SECONDS
        while (left := descendants()) and time.monotonic() < until:
            self._send(signal.SIGKILL, left)
            self._handle_events(0.02)

    def _wait_for_detaching(self) -> None:
        """Wait until no process of the group can still be about to leave it.

        `setsid COMMAND &` is a fork that leaves the group when it runs for the first time, which
        may be after its command has ended. It must not be taken for something left behind.
        """
        until = time.monotonic() + DETACH_SECONDS
        first: dict[int, Activity] = {}
        before: dict[int, Activity] = {}
        while time.monotonic() < until and not self.events.stopped:
            now = {pid: seen for pid in self._group() if (seen := Activity.of(pid)) is not None}
            first = {pid: first.get(pid, seen) for pid, seen in now.items()}
            staying = {
                pid
                for pid, seen in now.items()
                if seen.slept_since(before.get(pid)) or seen.is_long_after(first[pid])
            }
            if all(pid in staying or seen.parent in staying for pid, seen in now.items()):
                return
            before, next_poll = now, time.monotonic() + POLL_INTERVAL_SECONDS
            while (wait := next_poll - time.monotonic()) > 0:
                self._handle_events(wait)

    def _kill_group(self) -> None:
        """End every process in the command's group. A daemon that left the group stays."""
        for number, seconds in (
            (signal.SIGTERM, TERM_GRACE_SECONDS),
            (signal.SIGKILL, KILL_SECONDS),
        ):
            until = time.monotonic() + seconds
            left = self._group()
            self._send(number, left)
            while left and time.monotonic() < until:
                self._handle_events(0.02)
                left = self._group()

    def _group(self) -> dict[int, int]:
        return {pid: group for pid, group in descendants().items() if group == self.pid}

    def _send(self, number: signal.Signals, processes: dict[int, int]) -> None:
        """Signal the group in one call, which no fork outruns, and other processes one by one.

        All of them are descendants of ours, so no process id can belong to an unrelated process.
        """
        if self.pid in processes.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
        for pid, group in processes.items():
            if group != self.pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)


def exec_command(spec: dict[str, Any], output: int, failing: int) -> NoReturn:
    """Become the command in the forked child, or write to `failing` why not."""
    what = "can't be prepared"
    try:
        _prepare(output)
        if spec["ids"] is not None:
            what = "can't become the hook's user"
            uid, gid, groups = spec["ids"]
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        _die_with_parent()  # after setuid, which resets it
        what = ""
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as error:
        reason = (
            "no such command"
            if isinstance(error, FileNotFoundError) and not what
            else error.strerror or str(error)
        )
        os.write(failing, (f"{what}: {reason}" if what else reason).encode("utf-8", "replace"))
    except (ValueError, TypeError) as error:
        os.write(failing, str(error).encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _prepare(output: int) -> None:
    """Give the child a session of its own, default signals, and the pipe as its output."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in HOOK_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.umask(0o022)
    os.chdir("/")


def _die_with_parent() -> None:
    """Let the kernel kill this process when the supervisor dies; leave if it is dead already."""
    supervisor = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != supervisor:
        os._exit(127)


def _open_lock(file: str) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _lock(descriptor: int, events: EventLoop, until: float) -> None:
    """Take the lock of the file. A supervisor that is still ending a hook holds it for seconds."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if events.stopped or time.monotonic() >= until:
                raise StartError("another hook of this job is still running") from None
            events.wait(0.05)


def write_answer(answer: dict[str, Any]) -> None:
    """Write one JSON line to standard output; a reader that is gone is ignored."""
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        code = main()
    except Exception as error:  # noqa: BLE001  (syncd waits for an answer)
        write_answer(failure_answer(f"the hook's supervisor failed: {error!r}"))
        code = 1
    os._exit(code)
