#!/usr/bin/env python3
"""What the display of progress costs: CPU of a first sync of 5,000 files on a terminal.

`./dev bench progress [--pairs N] [--files N] [--rate BYTES_A_SECOND]`.

The simulator is in this process, and its archive comes at the given rate. The command runs on a
terminal of its own, in pairs: with the display, and with `TERM=dumb`, which has none. The CPU of
two equal runs differs by more than the display takes. So the display is also measured by itself:
the CPU of its thread, and of the events that the run reports to it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from msgspec.structs import replace  # noqa: E402

from syncd.simulator.faults import Answer  # noqa: E402
from syncd.simulator.github import GitHub  # noqa: E402
from syncd.simulator.server import serve  # noqa: E402

TOKEN = "ghp_personal00000000000000000000000000"
PIECE_BYTES = 16 << 10
EVENTS = ("step", "advance", "asking", "acted", "waiting", "resumed")


def hub(files: int, rate: float) -> GitHub:
    """One repository, whose archive comes at so many bytes a second."""
    github, chance = GitHub(), random.Random(1)
    github.accounts.add_personal_token(TOKEN)
    names = (f"etc/d{number % 50}/f{number}.conf" for number in range(files))
    github.add_repo("acme/infra", {name: chance.randbytes(1200).hex() for name in names})

    def paced(answer: Answer) -> Answer:
        def pieces() -> Iterator[bytes]:
            for start in range(0, len(answer.body), PIECE_BYTES):
                yield answer.body[start : start + PIECE_BYTES]
                time.sleep(PIECE_BYTES / rate)

        return replace(answer, pieces=pieces(), declared_length=len(answer.body))

    github.add_fault("codeload", paced, times=10**9)
    return github


def configure(folder: Path, url: str) -> Path:
    """Write a configuration of one job; return its path."""
    token = folder / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    config = folder / "config.yaml"
    config.write_text(f"""version: 1
state: {folder}/state
github:
  ops: {{token: {{file: {token}}}, api: "{url}"}}
jobs:
  web:
    repo: acme/infra
    ref: main
    every: 5m
    paths: [{{from: etc/, to: {folder}/etc/}}]
""")
    return config


def on_terminal(command: list[str], folder: Path, term: str) -> float:
    """Return the CPU seconds of the command, started with an empty state."""
    for name in ("state", "etc"):
        shutil.rmtree(folder / name, ignore_errors=True)
    terminal, theirs = os.openpty()
    actions = [(os.POSIX_SPAWN_DUP2, theirs, stream) for stream in (0, 1, 2)]
    pid = os.posix_spawn(command[0], command, {**os.environ, "TERM": term}, file_actions=actions)
    os.close(theirs)
    drained = threading.Thread(target=drain, args=(terminal,))
    drained.start()
    _, status, used = os.wait4(pid, 0)
    drained.join()
    os.close(terminal)
    assert status == 0, status
    return used.ru_utime + used.ru_stime


def drain(terminal: int) -> None:
    """Read what the command shows, until it ends."""
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:  # the other end of a terminal ends with EIO
        pass


def measured(result: str, arguments: list[str]) -> int:
    """Run syncd in this process; write the CPU of the display's thread, and of its events: they
    are kept, and reported once more at the end.
    """
    from syncd.cli import progress
    from syncd.cli.main import run

    thread_seconds: list[float] = []
    calls: list[tuple[Callable[..., None], tuple[object, ...], dict[str, object]]] = []
    inner_run, inner_listener_of = threading.Thread.run, progress.RunProgress.listener_of

    def timed_run(thread: threading.Thread) -> None:
        began = time.thread_time()
        inner_run(thread)
        if thread.name == "syncd-progress":
            thread_seconds.append(time.thread_time() - began)

    def kept(act: Callable[..., None]) -> Callable[..., None]:
        def call(*given: object, **named: object) -> None:
            calls.append((act, given, named))
            act(*given, **named)

        return staticmethod(call)

    def keeping(progress: progress.RunProgress, job: str) -> object:
        listener = inner_listener_of(progress, job)
        return type("Kept", (), {name: kept(getattr(listener, name)) for name in EVENTS})()

    threading.Thread.run = timed_run  # type: ignore[method-assign,assignment]
    progress.RunProgress.listener_of = keeping  # type: ignore[assignment,method-assign]
    code = run(arguments)
    began = time.thread_time()
    for act, given, named in calls:
        act(*given, **named)
    spent = {"thread": sum(thread_seconds), "events": time.thread_time() - began}
    Path(result).write_text(json.dumps({**spent, "count": len(calls)}))
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=600e3, help="bytes a second of the archive")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, serve(hub(asked.files, asked.rate)) as server:
        folder = Path(name)
        arguments = ["-c", str(configure(folder, server.url)), "sync"]
        plain = [sys.executable, "-m", "syncd", *arguments]
        on_terminal(plain, folder, "dumb")
        shown, dumb = list[float](), list[float]()
        shares: list[dict[str, float]] = []
        for number in range(asked.pairs):
            for term, into in (("xterm", shown), ("dumb", dumb))[:: 1 if number % 2 else -1]:
                into.append(on_terminal(plain, folder, term))
            result = folder / "result.json"
            on_terminal(
                [sys.executable, __file__, "--measured", str(result), *arguments], folder, "xterm"
            )
            one = json.loads(result.read_text())
            shares.append(one)
            print(
                f"display {shown[-1]:.3f} s, none {dumb[-1]:.3f} s;"
                f" by itself: thread {one['thread'] * 1e3:.1f} ms,"
                f" {one['count']} events {one['events'] * 1e3:.1f} ms",
                flush=True,
            )
    differences = [one - other for one, other in zip(shown, dumb, strict=True)]
    cpu = statistics.median(dumb)
    own = statistics.median(one["thread"] + one["events"] for one in shares)
    print(
        f"median CPU without a display {cpu:.3f} s; difference of the pairs:"
        f" median {statistics.median(differences) * 1e3:+.0f} ms,"
        f" spread {statistics.pstdev(differences) * 1e3:.0f} ms"
    )
    print(f"the display by itself: {own * 1e3:.1f} ms, {own / cpu:.2%} of the command")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measured"]:
        sys.exit(measured(sys.argv[2], sys.argv[3:]))
    sys.exit(main())
