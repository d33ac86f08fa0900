"""Faults that need no root: a child of ours dies at a chosen line of a run,
or a chosen call of the os module fails in it.

Every point is one whole run in a forked child, then two questions: is anything seen that must never
be seen, and does the next run, in this process, bring the whole set with nothing left over?
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

import syncd
import syncd.mirror.filesystem_sync
import syncd.mirror.syscalls
import syncd.mirror.write
from syncd.errors import SyncdError
from syncd.models import RunStatus
from tests.fault.scene import Scene, Workbench

T = TypeVar("T")

NOT_REACHED = 3
OURS = tuple(
    os.path.join(os.path.dirname(syncd.__file__), part) + os.sep
    for part in ("engine", "mirror", "store")
)
OURS += tuple(
    os.path.join(os.path.dirname(syncd.__file__), name)
    for name in ("file_lock.py", "private_file.py")
)
PLACES = (os.path.join(os.path.dirname(__file__), "bugs.py"), *OURS)
ERRORS = ("ENOSPC", "EIO", "EACCES", "EROFS", "EMFILE", "EXDEV", "EBUSY", "EINTR", "EDQUOT")
CALLS = (
    "open",
    "read",
    "write",
    "close",
    "fsync",
    "stat",
    "lstat",
    "fstat",
    "rename",
    "unlink",
    "mkdir",
    "rmdir",
    "fchmod",
    "chmod",
    "symlink",
    "readlink",
    "listdir",
    "scandir",
    "statvfs",
    "makedirs",
    "truncate",
    "pwrite",
    "pread",
    "copy_file_range",
    "utime",
    "fchown",
    "chown",
)
PLACE_BYTES = 128
_readlink = os.readlink  # as it is before anything is patched
DONE, FAILED, TRACEBACK, HUNG = 0, 10, 70, -signal.SIGALRM


@dataclass
class Tally:
    """What a family of points came to."""

    name: str
    points: int = 0
    of: int = 0
    not_reached: int = 0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    passed_by: Counter[str] = field(
        default_factory=Counter
    )  # points where a fault did not make the run fail, by place

    def __str__(self) -> str:
        kinds = Counter(one.split(": ")[1] for one in self.violations)
        of = f" of {self.of:,}" if self.of else ""
        ends = ", ".join(f"{count:,} {end}" for end, count in self.ends.most_common())
        return (
            f"{self.name}: {self.points:,}{of} points, {ends}; violations: "
            f"{dict(kinds) if kinds else 0}; {self.seconds:.0f} s"
        )


def in_child(work: Callable[[], int], guard_seconds: int = 30) -> int:
    """How the child that did `work` ended: its exit, or the negative signal."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = TRACEBACK
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(guard_seconds)
            code = work()
        except BaseException:
            if "SYNCD_FAULT_SHOW" in os.environ:
                traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ask_child(work: Callable[[], T], guard_seconds: int = 60) -> T:
    """What `work` returned in a child, so that nothing it does to its process stays.

    Raises what it raised.
    """
    sys.stdout.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(guard_seconds)
            try:
                answer: Any = (True, work())
            except BaseException as error:
                answer = (False, f"{error!r}\n{traceback.format_exc()}")
            with open(writing, "wb", closefd=False) as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answered:
        data = answered.read()
    os.waitpid(pid, 0)
    if not data:
        raise AssertionError(f"the child died, or took more than {guard_seconds} s")
    good, value = pickle.loads(data)
    if not good:
        raise AssertionError(value)
    return cast(T, value)


def ending(scene: Scene) -> int:
    """One run, as an exit of ours: done, failed by name, or a traceback."""
    try:
        report = scene.run()
    except SyncdError:
        return FAILED
    return DONE if report.status in (RunStatus.CHANGED, RunStatus.UNCHANGED) else FAILED


def count_lines(scene: Scene) -> int:
    """How many lines of ours one run of the scene passes. The run is made, in a child."""
    return ask_child(lambda: lines_of(lambda: ending(scene)))


def lines_of(work: Callable[[], int]) -> int:
    """How many lines of ours `work` passes. For a child."""
    counter = [0]
    at_each_line(lambda: counter.__setitem__(0, counter[0] + 1), work)
    return counter[0]


def at_each_line(look: Callable[[], Any], work: Callable[[], int]) -> int:
    """What `work` returned; before each line of ours that it passed, `look` was called.

    For a child.
    """
    _trace(look)
    ended = work()
    sys.settrace(None)
    return ended


def _trace(passed: Callable[[], Any]) -> None:
    def local(_frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            passed()
        return local

    def entered(frame: FrameType, _event: str, _argument: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(PLACES) else None

    sys.settrace(entered)


def kill_at_lines(
    bench: Workbench,
    points: int | None,
    seed: int,
    seconds: float | None = None,
    stop_at_first: bool = False,
    spare_first: float = 0.0,
) -> Tally:
    """SIGKILL at so many lines (None: every line) of runs to and fro between the two sets.

    `spare_first`: the share of a run's first lines left out.
    """
    tally, rng, began = Tally("SIGKILL at a line"), random.Random(seed), time.monotonic()
    lines = {}
    for _ in (0, 1):
        bench.turn()
        lines[bench.scene.head] = count_lines(bench.scene)
    tally.of = sum(lines.values())
    chosen = [
        (head, k)
        for head, total in lines.items()
        for k in range(1 + int(total * spare_first), total + 1)
    ]
    rng.shuffle(chosen)
    queues = {head: [k for at, k in chosen if at == head] for head in lines}
    while (
        any(queues.values())
        and (points is None or tally.points < points)
        and (seconds is None or time.monotonic() - began < seconds)
    ):
        bench.turn()
        head = bench.scene.head
        k = queues[head].pop() if queues[head] else 1
        judge(
            tally,
            bench,
            in_child(lambda k=k: _die_at(bench.scene, k)),
            f"line {k} towards {'AB'[head]}",
        )
        if stop_at_first and tally.violations:
            break
    tally.seconds = time.monotonic() - began
    return tally


def _die_at(scene: Scene, k: int) -> int:
    return kill_self_at_line(k, lambda: ending(scene))


def kill_self_at_line(k: int, work: Callable[[], int]) -> int:
    """SIGKILL at the k-th line of ours that `work` passes;
    what `work` returned when it passes fewer.

    For a child.
    """
    left = [k]

    def passed() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _trace(passed)
    ended = work()
    sys.settrace(None)
    return NOT_REACHED if left[0] > 0 else ended


def judge(tally: Tally, bench: Workbench, end: int, where: str) -> None:
    """The two questions, into the tally.

    A run that reported success must show the whole new set at once.
    """
    scene = bench.scene
    if end == NOT_REACHED:
        tally.not_reached += 1
        wrong = scene.shown_wrong() + scene.heal()
        tally.violations += [f"{where}, which was not reached: {one}" for one in wrong]
        return
    tally.points += 1
    tally.ends[
        {
            DONE: "done",
            FAILED: "failed by name",
            TRACEBACK: "traceback",
            -9: "killed",
            HUNG: "hung",
        }.get(end, str(end))
    ] += 1
    wrong = scene.shown_wrong()
    if end == DONE:
        tally.passed_by[where.split(" at ")[0]] += 1
        shown, expected = scene.shown(), scene.expected(scene.head)
        wrong += [
            f"lost after success: {path}" for path in expected if shown.get(path) != expected[path]
        ]
    if end in (TRACEBACK, HUNG):
        wrong.append("traceback: in the run" if end == TRACEBACK else "hung: more than 30 s")
    if end in (DONE, FAILED):
        wrong += scene.leftovers() if end == DONE else []
    wrong += scene.heal()
    tally.violations += [f"{where}: {one}" for one in wrong]
    if wrong:
        bench.renew()


# --- failing calls --------------------------------------------------------------------------------


def _patched(on_call: Callable[..., None]) -> None:
    """Every file call of the os module, and syncfs and the renaming of ours, asks `on_call` first.

    For a child only: nothing is put back.
    """

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            on_call(
                name,
                arguments[0] if arguments else None,
                named.get("dir_fd", named.get("src_dir_fd")),
            )
            return real(*arguments, **named)

        return call

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))
    for module in (syncd.mirror.syscalls, syncd.mirror.filesystem_sync, syncd.mirror.write):
        for name in ("syncfs", "rename_noreplace"):
            if hasattr(module, name):
                setattr(module, name, wrapped(name, getattr(module, name)))


def list_calls(scene: Scene) -> list[tuple[str, bool]]:
    """The name of each call of one run, in order, and whether it was about the destinations.

    The run is made, in a child.
    """

    def work() -> list[tuple[str, bool]]:
        names: list[tuple[str, bool]] = []
        _patched(
            lambda name, what, folder: names.append((name, _is_below(scene.base, what, folder)))
        )
        ending(scene)
        return list(names)

    return ask_child(work)


def _is_below(base: Path, what: Any, folder: Any) -> bool:
    """Is a call about something in `base`?

    Only paths say so that are absolute, or relative to an open folder, or an open file's own.
    """
    try:
        handle = what if isinstance(what, int) else folder if isinstance(folder, int) else None
        path = _readlink(f"/proc/self/fd/{handle}") if handle is not None else os.fsdecode(what)
    except (OSError, TypeError):
        return False
    return path.startswith(f"{base}/") or path == str(base)


def fail_at_calls(
    bench: Workbench,
    points: int | None,
    seed: int,
    seconds: float | None = None,
    errors: Iterable[str] = ERRORS,
    stop_at_first: bool = False,
    lasting: bool = False,
    only: str | None = None,
) -> Tally:
    """One call of a run fails with one errno, at so many (call, errno) points (None:
    at all of them).

    `only`: calls of this name. `lasting`: from that call on everything about the destinations
    fails, until the run ends: a disk that goes, and comes back.
    """
    tally, rng, began = (
        Tally("a destination that fails from a call on" if lasting else "errno at a call"),
        random.Random(seed),
        time.monotonic(),
    )
    queues: dict[int, list[tuple[int, str, str]]] = {}
    for _ in (0, 1):
        bench.turn()
        names = list_calls(bench.scene)
        queue = [
            (k, name, error)
            for k, (name, there) in enumerate(names, 1)
            for error in errors
            if not (name == "close" and error != "EIO")
            and (there or not lasting)
            and only in (None, name)
        ]
        rng.shuffle(queue)
        queues[bench.scene.head] = queue
    tally.of = sum(map(len, queues.values()))
    while (
        any(queues.values())
        and (points is None or tally.points < points)
        and (seconds is None or time.monotonic() - began < seconds)
    ):
        bench.turn()
        queue = queues[bench.scene.head]
        k, _, error = queue.pop() if queue else (10**9, "none", "EIO")
        place = mmap.mmap(-1, PLACE_BYTES)  # shared with the child
        end = in_child(
            lambda k=k, error=error, place=place: _fail_at(bench.scene, k, error, place, lasting)
        )
        where = place[:].decode().strip("\0 ")
        place.close()
        judge(tally, bench, end, f"{where} at call {k} towards {'AB'[bench.scene.head]}")
        if stop_at_first and tally.violations:
            break
    tally.seconds = time.monotonic() - began
    return tally


def _caller() -> str:
    """Which function of ours makes the call that is about to fail: `module.function`, the innermost
    one; `ahead` for what looks while GitHub is asked.
    """
    if threading.current_thread().name.startswith("syncd-prefetch"):
        return "ahead"
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(os.path.dirname(syncd.__file__)):
            return f"{os.path.basename(file).removesuffix('.py')}.{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"


def _fail_at(scene: Scene, k: int, error: str, place: mmap.mmap, lasting: bool) -> int:
    left, code = [k], getattr(errno, error)

    def on_call(name: str, what: Any, folder: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            place.seek(0)
            place.write(f"{name} {error} in {_caller()}".encode().ljust(PLACE_BYTES)[:PLACE_BYTES])
        if left[0] == 0 or (
            lasting
            and left[0] < 0
            and name not in ("close", "readlink")
            and _is_below(scene.base, what, folder)
        ):
            raise OSError(
                code,
                os.strerror(code),
                *(() if isinstance(what, int) or what is None else (os.fspath(what),)),
            )

    _patched(on_call)
    ended = ending(scene)
    return NOT_REACHED if left[0] > 0 else ended
