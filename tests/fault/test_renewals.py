"""Two processes renew one user's tokens while kill -9 falls between: the login is lost only where
the kill falls between GitHub's answer and the new pair's first safe byte on disk, never because two
asked at once; and what was lost is named, with the way back.

The kills are placed by the server, which knows where a renewal stands: before it is answered, after
it was carried out and before its answer leaves, right after the answer left, and at no particular
moment.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from msgspec.structs import replace

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.github.auth.device_flow import TokenOwner, parse_tokens
from syncd.simulator.faults import Answer
from syncd.simulator.github import GitHub
from syncd.simulator.server import serve
from syncd.store.oauth_tokens import OAuthTokenFile

CLIENT = "Iv23liAcmeOps"
ROOT = Path(__file__).resolve().parents[2]
RENEWALS = int(os.environ.get("SYNCD_RENEWALS", "20"))
PHASES = ("before", "between", "sent", "any", "none", "none")


@dataclass
class Killed:
    pid: int
    phase: str


class Scene:
    """A GitHub that kills who asks, and two renewers that are replaced when they die."""

    def __init__(self, state: Path, seed: int) -> None:
        self.github, self.state, self.random = GitHub(), state, random.Random(seed)
        self.client = self.github.oauth.add_client(CLIENT)
        self.said: queue.Queue[str | Killed] = queue.Queue()
        self.kills: list[Killed] = []
        self.alive: set[int] = set()
        self.last: dict[int, str] = {}  # what each process asked with last
        self.spender: dict[str, int] = {}  # whose question spent a token
        self.surely_lost: set[str] = set()  # whose answer was made and never sent
        self.guard = threading.Lock()
        self.real = self.github.handle
        self.github.handle = self.handle  # type: ignore[method-assign]
        self.url = ""

    def handle(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        origin: str = "",
    ) -> Answer:
        if not target.endswith("/access_token"):
            return self.real(method, target, headers, body, origin)
        pid, token = (
            int(headers["User-Agent"].rpartition("/")[2]),
            dict(parse_qsl(body.decode()))["refresh_token"],
        )
        with self.guard:
            self.last[pid], phase = token, self.random.choice(PHASES)
        if phase == "before":
            self.kill(pid, phase)
            return Answer(0, end="reset")
        with self.guard:
            self.spender.setdefault(token, pid)
        answer = self.real(method, target, headers, body, origin)
        if phase == "between":
            if self.kill(pid, phase) and b"access_token" in answer.body:
                self.surely_lost.add(token)
        elif phase == "sent":
            return replace(
                answer, pieces=self.then_kill(answer.body, pid), declared_length=len(answer.body)
            )
        elif phase == "any":
            threading.Timer(self.random.random() * 0.03, self.kill, (pid, phase)).start()
        return answer

    def then_kill(self, body: bytes, pid: int) -> Iterator[bytes]:
        yield body
        self.kill(pid, "sent")

    def kill(self, pid: int, phase: str) -> bool:
        with self.guard:
            if pid not in self.alive:
                return False
            self.alive.discard(pid)
            killed = Killed(pid, phase)
            self.kills.append(killed)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.said.put(killed)
        return True

    def log_in(self) -> None:
        """As `syncd login` does, under the lock of all processes."""
        pairs, now = OAuthTokenFile(self.state, "me"), datetime.now(UTC)
        with pairs.exclusive_lock(Deadline(SystemClock(), 60)):
            pairs.save(
                parse_tokens(
                    self.github.oauth.issue(self.client, "ada", "", now.timestamp()),
                    now,
                    TokenOwner(self.url, CLIENT, "ada"),
                    now,
                )
            )


@pytest.mark.parametrize("seed", [7])
def test_a_login_is_lost_only_in_the_window_between_the_answer_and_the_first_safe_byte(
    tmp_path: Path, seed: int
) -> None:
    scene = Scene(tmp_path, seed)
    with serve(scene.github) as served:
        scene.url = served.url
        scene.log_in()
        command = [
            sys.executable,
            "-m",
            "tests.support.token_renewal",
            served.url,
            str(tmp_path),
            CLIENT,
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as maker:
            try:
                microseconds, lost = watched(scene, maker)
            finally:
                scene.real = lambda *_arguments, **_named: Answer(0, end="reset")
                for pid in list(scene.alive):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                maker.kill()
    reused = {one.token for one in scene.github.oauth.refreshes.values() if one.reused_at}
    killed = {one.pid for one in scene.kills}
    for token in reused:  # who spent it died before it could ask with the next one
        assert scene.spender[token] in killed and scene.last[scene.spender[token]] == token, (
            "a refresh token was used twice though nobody was killed in its renewal"
        )
    assert all("a renewal was cut off" in text for text in lost.values()), lost
    assert lost.keys() <= reused
    assert len(scene.surely_lost - lost.keys()) <= 1, (
        "who is killed in the window loses the login, and is told (the last one may not have been)"
    )
    microseconds.sort()
    print(
        f"\n{len(microseconds)} renewals, {len(scene.kills)} kills "
        f"{dict(Counter(one.phase for one in scene.kills))}, {len(lost)} logins lost, each in the "
        f"window; window: median {microseconds[len(microseconds) // 2]} us, longest "
        f"{microseconds[-1]} us"
    )


def watched(scene: Scene, maker: subprocess.Popen[str]) -> tuple[list[int], dict[str, str]]:
    """The windows of `RENEWALS` renewals, and the refresh tokens of logins that were lost with what
    was said of them.
    """
    assert maker.stdin is not None and maker.stdout is not None
    stdin, stdout = maker.stdin, maker.stdout
    threading.Thread(target=lambda: [scene.said.put(line) for line in stdout], daemon=True).start()
    windows: list[int] = []
    lost: dict[str, str] = {}

    def start() -> None:
        stdin.write("start\n")
        stdin.flush()

    start()
    start()
    while len(windows) < RENEWALS:
        found = scene.said.get(timeout=120)
        if isinstance(found, Killed):
            start()
            continue
        word, pid, *rest = found.split(maxsplit=2)
        if word == "started":
            with scene.guard:
                scene.alive.add(int(pid))
        elif word == "renewed":
            windows.append(int(rest[0]))
        else:
            with scene.guard:
                scene.alive.discard(int(pid))
            pair = OAuthTokenFile(scene.state, "me").load()
            assert pair is not None and pair.refresh is not None
            spent = scene.github.oauth.refreshes.get(pair.refresh.reveal())
            if (
                spent is not None and spent.spent_at is not None
            ):  # the other one has not said so before
                lost[spent.token] = rest[0]
                scene.log_in()
            start()
    return windows, lost
