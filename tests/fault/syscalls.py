"""Faults at system calls, SQLite's own among them:
strace kills a run at its n-th call of a kind, or makes that call fail.

A child of ours has everything imported already and waits until strace is attached to it, so a point
costs milliseconds and not a start of Python. strace counts each kind of call apart; the points are
all (kind, n) of one run that was only watched.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.fault.points import ERRORS, HUNG, NOT_REACHED, TRACEBACK, Tally, ending, judge
from tests.fault.scene import Scene, Workbench

KINDS = (
    "openat",
    "read",
    "write",
    "close",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "fchmod",
    "fchmodat",
    "chmod",
    "fchown",
    "fchownat",
    "symlink",
    "symlinkat",
    "readlink",
    "readlinkat",
    "getdents64",
    "statfs",
    "fstatfs",
    "newfstatat",
    "ftruncate",
    "pread64",
    "pwrite64",
    "fcntl",
    "flock",
    "lseek",
    "link",
    "linkat",
    "access",
    "fallocate",
    "copy_file_range",
    "utimensat",
    "ioctl",
)
KILL = ("",)
ONLY_CLOSE = {"close": ("EIO",)}  # what else close(2) returns says nothing of the file
GUARD_SECONDS = 60
CALL = re.compile(r"^(?:\d+\s+)?(\w+)\((.*)$")


def missing() -> str:
    return "" if shutil.which("strace") and os.geteuid() == 0 else "strace and root"


def under_strace(scene: Scene, rules: list[str], output: Path) -> tuple[int, int]:
    """How a run of the scene in a child ended while strace looked on with these rules, and the
    child's number; what strace saw is in `output`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = TRACEBACK
        try:
            os.close(writing)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(GUARD_SECONDS)
            os.read(reading, 1)
            code = ending(scene)
        finally:
            os._exit(code)
    os.close(reading)
    arguments = ["strace", "-f", "-y", "-s", "0", "-p", str(child), "-o", str(output)]
    with subprocess.Popen(
        [*arguments, *(part for rule in rules for part in ("-e", rule))], stderr=subprocess.PIPE
    ) as strace:
        attached = strace.stderr.readline() if strace.stderr else b""
        if b"attached" not in attached:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"strace: {attached.decode()}")
        os.write(writing, b"x")
        os.close(writing)
        status = os.waitpid(child, 0)[1]
        strace.wait()
    return os.waitstatus_to_exitcode(status), child


def list_syscalls(scene: Scene, output: Path) -> Counter[str]:
    """How often one run makes each kind of call."""
    under_strace(scene, ["trace=" + ",".join(KINDS)], output)
    found = (CALL.match(line) for line in output.read_text().splitlines())
    return Counter(match.group(1) for match in found if match is not None)


def _points(
    bench: Workbench, output: Path, errors: tuple[str, ...]
) -> dict[int, list[tuple[str, int, str]]]:
    points: dict[int, list[tuple[str, int, str]]] = {}
    for _ in (0, 1):
        bench.turn()
        points[bench.scene.head] = [
            (kind, n, error)
            for kind, count in list_syscalls(bench.scene, output).items()
            for n in range(
                2 if kind == "read" else 1, count + 1
            )  # the first read is the child waiting for strace
            for error in (ONLY_CLOSE.get(kind, errors) if errors != KILL else errors)
        ]
    return points


def at_syscalls(
    bench: Workbench,
    points: int | None,
    seed: int,
    errors: tuple[str, ...] = ERRORS,
    seconds: float | None = None,
    stop_at_first: bool = False,
) -> Tally:
    """One call of a run fails, or with `errors` of `KILL` is its last, at so many points (None:
    at all of them).
    """
    tally, rng, began = (
        Tally("SIGKILL at a system call" if errors == KILL else "errno at a system call"),
        random.Random(seed),
        time.monotonic(),
    )
    output = bench.folder / "strace"
    queues = _points(bench, output, errors)
    tally.of = sum(map(len, queues.values()))
    for queue in queues.values():
        rng.shuffle(queue)
    while (
        any(queues.values())
        and (points is None or tally.points < points)
        and (seconds is None or time.monotonic() - began < seconds)
    ):
        bench.turn()
        if not queues[bench.scene.head]:
            bench.scene.run()
            continue
        kind, n, error = queues[bench.scene.head].pop()
        rule = f"inject={kind}:" + (f"error={error}" if error else "signal=SIGKILL") + f":when={n}"
        end, child = under_strace(bench.scene, [f"trace={kind}", rule], output)
        judge(
            tally,
            bench,
            *_told(
                end, kind, n, error, injected(output.read_text().splitlines(), child), bench.scene
            ),
        )
        if stop_at_first and tally.violations:
            break
    tally.seconds = time.monotonic() - began
    return tally


def _told(
    end: int, kind: str, n: int, error: str, hit: tuple[str, bool] | None, scene: Scene
) -> tuple[int, str]:
    """The end, and the point in words: what the call was about, as far as strace saw it."""
    if not error:
        return (
            end if end == -signal.SIGKILL else NOT_REACHED if end not in (TRACEBACK, HUNG) else end
        ), f"{kind} {n} towards {'AB'[scene.head]}"
    if hit is None:
        return NOT_REACHED, f"{kind} {error} {n}"
    line, by_main = hit
    called = "rmdir" if "AT_REMOVEDIR" in line else kind
    return (
        end,
        (
            f"{called} {error} in {about(line, scene) if by_main else 'ahead'} at call {n} towards "
            f"{'AB'[scene.head]}"
        ),
    )


def injected(lines: list[str], child: int) -> tuple[str, bool] | None:
    """The call that was made to fail, whole, and whether the child's first thread made it;
    None when none was.

    strace counts each thread's calls apart, so one may fail in each: that of the first thread is
    told then. A call that another thread's came between is two lines, and what it is about stands
    in the first.
    """
    found: list[tuple[str, bool]] = []
    for index, line in enumerate(lines):
        if "(INJECTED)" not in line:
            continue
        thread = line.split(maxsplit=1)[0]
        if " resumed>" in line:
            line = (
                next(
                    (
                        before
                        for before in reversed(lines[:index])
                        if before.startswith(f"{thread} ") and "<unfinished" in before
                    ),
                    "",
                )
                + line
            )
        found.append((line, thread == str(child) or not thread.isdigit()))
    return max(found, key=lambda one: one[1], default=None)


def about(line: str, scene: Scene) -> str:
    """Which of our things a call was about: the store's files, the cache and its table,
    the destination, or something else.
    """
    if f"{scene.state}/syncd.db" in line:
        return "db" + next(
            (end for end in ("-wal", "-shm", "-journal") if f"syncd.db{end}" in line), ""
        )
    if f"{scene.state}/cache.db" in line:
        return "cache.db"
    names = (
        ("blobs", f"{scene.state}/blobs"),
        ("state", str(scene.state)),
        ("destination", str(scene.base)),
    )
    return next((name for name, prefix in names if prefix in line), "elsewhere")
