"""The guard of one hook, a small program of its own: `python -I -S supervisor.py`, with one JSON line on stdin that says what to run.

It starts the command in a session of its own, reads what it prints, keeps the end of that, and ends it, its process group and
whatever else it left behind, when its time is over, when it is told to, or when syncd dies: stdin is the thread it hangs on. So no
hook outlives its limit, and no two hooks of one job run at once, even after `kill -9`. Standard library only; it decides nothing.

A hook with a user of its own (`ids`) leaves nothing: every process that it started, however it
detached itself, is ended with it. There the guard is two processes, so that this holds when one of
them is killed: the outer one waits and inherits what is left, the inner one does the work.

In:  {"argv", "env", "ids": [uid, gid, [groups]] or null, "timeout", "grace", "keep", "locks": [files], "wait"}
Out: one JSON line {"pid"} when the command is about to begin, one {"status", "signal", "ended", "error", "output", "total"} at the end;
     `ended` is "timeout", "stopped" or null, `output` the last `keep` bytes as Latin-1, `total` how many there were.
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

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
CHUNK = 1 << 16
KILL_SECONDS = 5.0  # how long a bomb is fought; SIGKILL to a whole group is one call, so this is for those who left it
LEAVE_SECONDS = (
    1.0  # what a command that is done left running in its group has this long after SIGTERM
)
LOOK_SECONDS = 0.1  # between two looks at what a command left running
SETTLE_SECONDS = 10.0  # how long a process may take to detach itself after its command ended
SETTLE_CPU_SECONDS = 1.0  # and what it may use meanwhile: from fork to setsid takes milliseconds
SETTLE_WAITS = (
    200  # and how often it may wait, such as for the disk; not how often others interrupt it
)
END_SECONDS = 10.0  # how long what a hook's user left is fought; it may fork as fast as it is ended
STILL_THERE = "processes that it started could not be ended"
DRAIN_SECONDS = 0.5  # output that is still in the pipe; a daemon that kept it open must not keep us


def main() -> int:
    spec = json.loads(sys.stdin.buffer.readline())
    locks = [_open_lock(file) for file in spec["locks"]]
    return guard(spec, locks) if spec["ids"] is None else watch(spec, locks)


def guard(spec: dict[str, Any], locks: list[int]) -> int:
    """Run the command while these files are locked, and say how it ended."""
    ears = EventLoop()
    try:
        for descriptor in locks:
            _lock(descriptor, ears, time.monotonic() + spec["wait"])
        answer = Hook(spec, ears).run()
        for descriptor in locks:
            os.close(descriptor)
    except Refused as error:
        answer = {
            "status": None,
            "signal": None,
            "ended": "stopped" if ears.stopped else None,
            "error": str(error),
            "output": "",
            "total": 0,
        }
    say(answer)
    return 0


def watch(spec: dict[str, Any], locks: list[int]) -> int:
    """As `guard`, in a process of its own; when that is killed, end what it leaves.

    Both have the files open, and flock(2) holds until the last of them has closed them.
    """
    become_subreaper()
    outer, inner = os.getpid(), os.fork()
    if inner == 0:
        os._exit(_inner(spec, locks, outer))

    def pass_on(*_: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(inner, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    while True:
        dead, status = os.wait()
        if dead == inner:
            break
    if status != 0:
        end_all(END_SECONDS)
        say(failed("the guard died"))
    return 0


def _inner(spec: dict[str, Any], locks: list[int], outer: int) -> int:
    """The inner process ends the hook, too, when the outer one dies."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # until Ears listens; stdin tells as well
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != outer:
        return 1
    try:
        return guard(spec, locks)
    except Exception as error:  # noqa: BLE001  (whoever waits for the answer must get one)
        say(failed(f"the guard failed: {error!r}"))
        return 0


def failed(why: str) -> dict[str, Any]:
    """The answer for a hook of which nothing is known."""
    return {"status": None, "signal": None, "ended": None, "error": why, "output": "", "total": 0}


class Refused(Exception):
    """The command could not be started; the text says why."""


class EventLoop:
    """Everything that the guard listens to: its stdin, its signals, and its children."""

    def __init__(self) -> None:
        self.stopped = False
        self.wakes, writing = os.pipe()
        for descriptor in (self.wakes, writing):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._told)

    def _told(self, *_: object) -> None:
        self.stopped = True

    def listen(self, seconds: float, *others: int) -> set[int]:
        """Which of `others` have something to read, after at most `seconds`."""
        poll = select.poll()
        for descriptor in (self.wakes, *others, *(() if self.stopped else (0,))):
            poll.register(descriptor, select.POLLIN)
        found = {descriptor for descriptor, _ in poll.poll(max(0.0, seconds) * 1000)}
        if self.wakes in found:
            with suppress(BlockingIOError):
                os.read(self.wakes, CHUNK)
        if 0 in found:
            self.stopped = True  # a word or the end of file: both mean that nobody waits any more
        return found


class Hook:
    """One command and everything that it starts."""

    def __init__(self, spec: dict[str, Any], ears: EventLoop) -> None:
        self.spec, self.ears = spec, ears
        self.pid, self.total = 0, 0
        self.code: int | None = None
        self.tail = bytearray()
        self.pipe: int | None = None

    def run(self) -> dict[str, Any]:
        become_subreaper()
        self._start()
        ends_at = time.monotonic() + self.spec["timeout"]
        ended = None
        while self.code is None and ended is None:
            if self.ears.stopped or time.monotonic() >= ends_at:
                ended = "stopped" if self.ears.stopped else "timeout"
                self._end()
            self._hear(min(1.0, ends_at - time.monotonic()))
        if ended is None and self.spec["ids"] is None:
            self._let_settle()
        self._clear_group()
        left = self.spec["ids"] is not None and not end_all(END_SECONDS)
        self._drain()
        code = self.code if ended is None else None
        return {
            "status": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "ended": ended,
            "error": STILL_THERE if left else None,
            "output": self.tail.decode("latin-1"),
            "total": self.total,
        }

    def _start(self) -> None:
        """The command runs, and whoever started us knows its number: it is told before the command can do anything, to us too."""
        self.pipe, writing = os.pipe()
        failure, failing = os.pipe()
        told, telling = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(telling)
            if not os.read(told, 1):
                os._exit(127)  # the guard died: nobody would ever end the command
            become(self.spec, writing, failing)
        for descriptor in (writing, failing, told):
            os.close(descriptor)
        say({"pid": self.pid})
        with open(telling, "wb") as go:
            go.write(b"x")
        with open(failure, "rb") as reason:
            text = reason.read()
        if text:
            raise Refused(text.decode("utf-8", "replace"))

    def _hear(self, seconds: float) -> None:
        """What was printed is kept, who died is buried; after at most `seconds`."""
        found = self.ears.listen(seconds, *(() if self.pipe is None else (self.pipe,)))
        if self.pipe is not None and self.pipe in found:
            chunk = os.read(self.pipe, CHUNK)
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

    def _drain(self) -> None:
        until = time.monotonic() + DRAIN_SECONDS
        while self.pipe is not None and time.monotonic() < until:
            self._hear(until - time.monotonic())
        del self.tail[: -self.spec["keep"]]

    def _end(self) -> None:
        """SIGTERM to all of them; after the grace SIGKILL, until none is left."""
        self._send(signal.SIGTERM, descendants())
        until = time.monotonic() + self.spec["grace"]
        while descendants() and time.monotonic() < until:
            self._hear(0.05)
        until = time.monotonic() + KILL_SECONDS
        while (left := descendants()) and time.monotonic() < until:
            self._send(signal.SIGKILL, left)
            self._hear(0.02)

    def _let_settle(self) -> None:
        """Return when no process of the group can be on its way out of it.

        `setsid COMMAND &` is a fork that leaves the group when it runs for the first time, which
        may be after its command has ended. It must not be taken for something left behind.
        """
        until = time.monotonic() + SETTLE_SECONDS
        first: dict[int, Activity] = {}
        before: dict[int, Activity] = {}
        while time.monotonic() < until and not self.ears.stopped:
            now = {pid: seen for pid in self._group() if (seen := Activity.of(pid)) is not None}
            first = {pid: first.get(pid, seen) for pid, seen in now.items()}
            settled = {
                pid
                for pid, seen in now.items()
                if seen.slept_since(before.get(pid)) or seen.is_long_after(first[pid])
            }
            if all(pid in settled or seen.parent in settled for pid, seen in now.items()):
                return
            before, next_look = now, time.monotonic() + LOOK_SECONDS
            while (wait := next_look - time.monotonic()) > 0:
                self._hear(wait)

    def _clear_group(self) -> None:
        """Nothing is left in the command's process group. Who left the group on purpose (a daemon) stays."""
        for number, seconds in ((signal.SIGTERM, LEAVE_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            until = time.monotonic() + seconds
            left = self._group()
            self._send(number, left)
            while left and time.monotonic() < until:
                self._hear(0.02)
                left = self._group()

    def _group(self) -> dict[int, int]:
        return {pid: group for pid, group in descendants().items() if group == self.pid}

    def _send(self, number: signal.Signals, processes: dict[int, int]) -> None:
        """The group in one call, which no fork outruns; those who left it one by one. All of them hang on us, so no number is a stranger's."""
        if self.pid in processes.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)
        for pid, group in processes.items():
            if group != self.pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)


class Activity:
    """What a process has done so far. Source: proc(5), /proc/PID/stat and /proc/PID/status."""

    def __init__(self, parent: int, state: bytes, cpu_seconds: float, waits: int) -> None:
        self.parent, self.state = parent, state
        self.cpu_seconds, self.waits = cpu_seconds, waits

    @classmethod
    def of(cls, pid: int) -> Activity | None:
        """None where there is no such process any more."""
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
        """Whether it waited for something other than a disk and did not run at all since."""
        return before is not None and self.state in b"ST" and self.waits == before.waits

    def is_long_after(self, first: Activity) -> bool:
        """Whether it has run for so long that it would have detached itself by now."""
        cpu_seconds = self.cpu_seconds - first.cpu_seconds
        waits = self.waits - first.waits
        return cpu_seconds >= SETTLE_CPU_SECONDS or waits >= SETTLE_WAITS


def become(spec: dict[str, Any], output: int, failing: int) -> NoReturn:
    """The forked child is the command, or has written to `failing` why not."""
    what = "can't be prepared"
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (
            signal.SIGPIPE,
            signal.SIGXFSZ,
            signal.SIGCHLD,
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGHUP,
        ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.umask(0o022)
        os.chdir("/")
        if spec["ids"] is not None:
            what = "can't become the hook's user"
            uid, gid, groups = spec["ids"]
            os.setgroups(groups)
            os.setgid(gid)
            os.setuid(uid)
        guard = os.getppid()
        ctypes.CDLL(None).prctl(
            PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0
        )  # after setuid, which forgets it
        if os.getppid() != guard:
            os._exit(127)
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


def become_subreaper() -> None:
    """Orphans below us become our children, not those of init."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all(seconds: float) -> bool:
    """Whether everything below us was ended within so many seconds.

    A process that forks and exits over and over has another number each time that all of them are
    listed. Its newest process is always a child of ours, or will be at once: so children alone are
    listed, which takes the kernel microseconds, and ended without any wait.
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
    """Our own children, none where the kernel lists them in no such file. Source: proc(5), CONFIG_PROC_CHILDREN."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def descendants() -> dict[int, int]:
    """pid -> process group of everything alive below us: orphans hang on us, so nobody can leave this tree. Source: proc(5), /proc/PID/stat."""
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


def _open_lock(file: str) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _lock(descriptor: int, ears: EventLoop, until: float) -> None:
    """The file's lock is ours. A guard that is still ending a hook has it for some seconds."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if ears.stopped or time.monotonic() >= until:
                raise Refused("another hook of this job is still running") from None
            ears.listen(0.05)


def say(answer: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        code = main()
    except Exception as error:  # noqa: BLE001  (whoever waits for the answer must get one)
        say(failed(f"the guard failed: {error!r}"))
        code = 1
    os._exit(code)
