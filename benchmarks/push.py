#!/usr/bin/env python3
"""From a push to its bytes on disk, and what an honest delivery waits for beside hostile ones.

`speed`: a real daemon follows repositories of 20 files each. Each push changes every file and is
announced by a signed delivery; the time ends when all files have their new bytes. One push is under
way at a time. They are so far apart that the daemon reaches none of its own limits: 900 requests a
minute for one token, and one run of a job in five seconds.

`abuse`: slow senders hold connections open, and forged deliveries come at a given rate from
thousands of addresses, as a web server in front would name them. Honest deliveries of a repository
that no job follows are timed meanwhile, and the requests to GitHub are counted: no delivery is a
reason for one.

The stand-in for GitHub, the senders and the daemon are processes of their own on this machine.

python benchmarks/push.py speed [--pushes 200] [--files 20] [--latency 30] [--every 1.8]
python benchmarks/push.py abuse [--seconds 20] [--slow 500] [--forged 1000]
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Process, Value
from pathlib import Path
from typing import Any

import yaml

from syncd.simulator.github import GitHub
from syncd.simulator.repository import Repository
from syncd.simulator.server import serve

TOKEN = "ghp_benchmark0000000000000000000000000"
SECRET = "a-secret-of-the-benchmark"
REPOSITORIES = 4
POLL_SECONDS = 0.002
SENDERS_NICE = 10  # elsewhere they would not take this machine's processors
DEADLINE_SECONDS = 60.0


# --- the daemon -----------------------------------------------------------------------------------


@contextmanager
def daemon(folder: Path, api: str, repos: list[str]) -> Iterator[int]:
    """The port of a daemon that follows the folder `files` of each repository, on push."""
    for name, text in (("token", TOKEN), ("secret", SECRET)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    config = {
        "version": 1,
        "state": str(folder / "state"),
        "log": {"format": "json"},
        "github": {"bot": {"token": {"file": str(folder / "token")}, "api": api}},
        "defaults": {"as": "bot", "every": "1d", "ref": "main"},
        "jobs": {
            repo.partition("/")[2]: {
                "repo": repo,
                "paths": [{"from": "files/", "to": f"{folder}/dest/{repo.partition('/')[2]}/"}],
            }
            for repo in repos
        },
        "web": {
            "listen": "127.0.0.1:0",
            "trusted_proxies": ["127.0.0.1"],
            "webhook": {"path": "/github", "secret": {"file": str(folder / "secret")}},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "syncd", "-c", str(folder / "config.yaml"), "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield _port(process)
        finally:
            process.terminate()


def _port(process: subprocess.Popen[str]) -> int:
    """The port of the listener; later lines of the log are thrown away."""
    assert process.stderr is not None
    for line in process.stderr:
        if "listening on http://" in line:
            threading.Thread(target=_drain, args=(process,), daemon=True).start()
            return int(json.loads(line)["message"].rstrip("/").rpartition(":")[2])
    raise RuntimeError("the daemon did not start")


def _drain(process: subprocess.Popen[str]) -> None:
    with suppress(ValueError):  # it is closed at the end
        for _ in process.stderr or ():
            pass


def delivery(
    repo: str, commit: str, number: int, secret: str = SECRET
) -> tuple[bytes, dict[str, Any]]:
    """Body and headers of a push event."""
    event = {
        "ref": "refs/heads/main",
        "after": commit,
        "head_commit": {"id": commit},
        "number": number,
        "repository": {"id": 1, "full_name": repo, "html_url": f"https://github.com/{repo}"},
    }
    body = json.dumps(event).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return body, {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/benchmark",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": str(number),
        "X-Hub-Signature-256": f"sha256={signature}",
    }


def deliver(port: int, body: bytes, headers: dict[str, str]) -> int:
    """The status that a delivery is answered with."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        connection.request("POST", "/github", body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


# --- speed ----------------------------------------------------------------------------------------


def content(number: int, name: str) -> str:
    return f"{name} of push {number}\n" + "x" * 2000 + "\n"


def files(number: int, count: int) -> dict[str, str]:
    return {f"files/{name}": content(number, str(name)) for name in range(count)}


def is_there(folder: Path, number: int, count: int) -> bool:
    """Whether every file has the bytes of the push."""
    with suppress(OSError):
        return all(
            (folder / str(name)).read_text() == content(number, str(name)) for name in range(count)
        )
    return False


def wait_for(folder: Path, number: int, count: int) -> None:
    ends = time.monotonic() + DEADLINE_SECONDS
    while not is_there(folder, number, count):
        if time.monotonic() > ends:
            raise RuntimeError(f"push {number} is not on disk after {DEADLINE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def push(port: int, repo: Repository, folder: Path, number: int, count: int) -> float:
    """The seconds from the moment that GitHub sends the delivery."""
    repo.commit(files(number, count), "x")
    body, headers = delivery(repo.full_name, repo.head(), number)
    began = time.monotonic()
    if deliver(port, body, headers) != 202:
        raise RuntimeError("the delivery was refused")
    wait_for(folder, number, count)
    return time.monotonic() - began


def speed(options: argparse.Namespace) -> dict[str, Any]:
    github = new_github()
    repos = [
        github.add_repo(f"acme/r{number}", files(-1, options.files))
        for number in range(REPOSITORIES)
    ]
    seconds = []
    with tempfile.TemporaryDirectory() as temp, serve(github, options.latency / 1000) as served:
        folder = Path(temp)
        with daemon(folder, served.url, [one.full_name for one in repos]) as port:
            for repo in repos:
                wait_for(folder / "dest" / repo.name, -1, options.files)
            github.forget_requests()
            began = time.monotonic()
            for number in range(options.pushes):
                repo = repos[number % len(repos)]
                time.sleep(max(0.0, began + number * options.every - time.monotonic()))
                seconds.append(push(port, repo, folder / "dest" / repo.name, number, options.files))
            requests = len(github.requests)
    return {
        "pushes": len(seconds),
        "files": options.files,
        "latency_ms": options.latency,
        **shares(seconds),
        "requests_a_push": round(requests / len(seconds), 1),
    }


def new_github() -> GitHub:
    github = GitHub()
    github.primary_limit = 10**9
    github.accounts.add_personal_token(TOKEN)
    return github


def shares(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and the largest, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 1),
        "p99_ms": round(ordered[max(0, -(-len(ordered) * 99 // 100) - 1)] * 1000, 1),
        "max_ms": round(ordered[-1] * 1000, 1),
    }


# --- abuse ----------------------------------------------------------------------------------------


def hold(port: int, count: int, until: float, opened: Any) -> None:
    """Hold `count` connections whose requests do not end; one that is closed is opened again."""
    os.nice(SENDERS_NICE)
    held: list[socket.socket | None] = [None] * count
    while time.monotonic() < until:
        for place, one in enumerate(held):
            held[place] = _dripped(one) or _begun(port, opened)
        time.sleep(0.05)


def _dripped(one: socket.socket | None) -> socket.socket | None:
    """The connection, after one more byte; None where the other side has closed it."""
    if one is None:
        return None
    try:
        if one.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b"":
            raise ConnectionResetError
    except BlockingIOError:
        pass
    except OSError:
        one.close()
        return None
    with suppress(OSError):
        one.send(b"x", socket.MSG_DONTWAIT)
    return one


def _begun(port: int, opened: Any) -> socket.socket | None:
    one = socket.socket()
    one.setblocking(False)
    with suppress(BlockingIOError):
        one.connect(("127.0.0.1", port))
    with suppress(OSError):
        one.send(b"POST /github HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n")
    opened.value += 1
    return one


def forge(port: int, rate: float, until: float, refused: Any) -> None:
    """Send forged deliveries at this rate, each from another address."""
    draw = random.Random(rate)
    body, headers = delivery("acme/r0", "a" * 40, 1, "another secret than ours")
    fixed = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    due = time.monotonic()
    while (now := time.monotonic()) < until:
        due = max(due + 1 / rate, now - 1)
        time.sleep(max(0.0, due - now))
        client = ".".join(str(draw.randrange(1, 255)) for _ in range(3))
        head = f"POST /github HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.{client}\r\n{fixed}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as one:
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status = one.recv(65536)[9:12]
            with refused.get_lock():
                refused.value += status in (b"401", b"429")


FORGERS = 8


def abuse(options: argparse.Namespace) -> dict[str, Any]:
    github = new_github()
    github.add_repo("acme/r0", files(-1, 1))
    with tempfile.TemporaryDirectory() as temp, serve(github) as served:
        folder = Path(temp)
        with daemon(folder, served.url, ["acme/r0"]) as port:
            wait_for(folder / "dest/r0", -1, 1)
            time.sleep(1)
            github.forget_requests()
            until = time.monotonic() + options.seconds
            refused, opened = Value("i", 0), Value("i", 0)
            rate = options.forged / FORGERS
            senders = [
                Process(target=hold, args=(port, options.slow, until, opened)),
                Process(target=_forgers, args=(port, rate, until, refused)),
            ]
            for one in senders:
                one.start()
            time.sleep(1)
            seconds, statuses = honest(port, until - 1)
            for one in senders:
                one.join()
            asked = len(github.requests)
    return {
        "seconds": options.seconds,
        "slow_senders": options.slow,
        "slow_connections": opened.value,
        "forged_a_second": round(refused.value / options.seconds),
        "honest": len(seconds),
        "honest_statuses": statuses,
        **shares(seconds),
        "requests_to_github": asked,
    }


def _forgers(port: int, rate: float, until: float, refused: Any) -> None:
    os.nice(SENDERS_NICE)
    threads = [
        threading.Thread(target=forge, args=(port, rate + number / 1000, until, refused))
        for number in range(FORGERS)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def honest(port: int, until: float) -> tuple[list[float], list[int]]:
    """Seconds and statuses of honest deliveries, ten a second."""
    seconds, statuses = [], set()
    number = 0
    while time.monotonic() < until:
        number += 1
        body, headers = delivery("acme/unknown", "b" * 40, number)
        began = time.monotonic()
        statuses.add(deliver(port, body, {**headers, "X-Forwarded-For": "192.0.2.10"}))
        seconds.append(time.monotonic() - began)
        time.sleep(0.1)
    return seconds, sorted(statuses)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    fast = modes.add_parser("speed")
    fast.add_argument("--pushes", type=int, default=200)
    fast.add_argument("--files", type=int, default=20)
    fast.add_argument("--latency", type=float, default=30.0, help="milliseconds of each request")
    fast.add_argument("--every", type=float, default=1.8, help="seconds between two pushes")
    hostile = modes.add_parser("abuse")
    hostile.add_argument("--seconds", type=float, default=20.0)
    hostile.add_argument("--slow", type=int, default=500)
    hostile.add_argument("--forged", type=float, default=1000.0)
    options = parser.parse_args()
    found = speed(options) if options.mode == "speed" else abuse(options)
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
