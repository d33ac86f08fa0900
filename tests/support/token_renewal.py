"""Processes that renew one user's tokens again and again, made quickly: `python -m
tests.support.token_renewal URL STATE CLIENT` forks one for each line it reads.

Each says on stdout what it did: `renewed PID MICROSECONDS` or `lost PID TEXT`.

The microseconds are the time from GitHub's answer, read and understood, to the pair's first safe
byte: the write that survives a kill.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import syncd.github.auth.device_flow
from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.errors import AuthError, RemoteError
from syncd.github.auth.device_flow import OAuthClient
from syncd.github.auth.user_credentials import UserCredentials
from syncd.github.proxies import Proxies
from syncd.github.rate_limit import ConcurrencyLimit, RateLimits, RequestMetrics
from syncd.github.transport import Network
from syncd.store.oauth_tokens import OAuthTokenFile


def say(*words: object) -> None:
    os.write(
        1, (" ".join(map(str, words)) + "\n").encode()
    )  # one write: many processes share the pipe


def renew(url: str, state: Path, client: str) -> None:
    """Until killed, or until the login is lost."""
    answered, written = [0.0], [0.0]
    refresh, write = OAuthClient.refresh, OAuthTokenFile._write

    def noted(self: OAuthClient, *arguments: object) -> object:
        found = refresh(self, *arguments)  # type: ignore[arg-type]
        answered[0] = time.perf_counter()
        return found

    def first_byte(file: Path, content: bytes) -> None:
        if answered[0] and content[:1] == b"{" and file.suffix == ".next":
            real = os.write

            def timed(descriptor: int, data: object) -> int:
                count = real(descriptor, data)  # type: ignore[arg-type]
                written[0] = time.perf_counter()
                return count

            os.write = timed  # type: ignore[assignment]
            try:
                write(file, content)
            finally:
                os.write = real
        else:
            write(file, content)

    OAuthClient.refresh, OAuthTokenFile._write = noted, staticmethod(first_byte)  # type: ignore[assignment, method-assign]
    syncd.github.auth.device_flow.USER_AGENT = f"renewer/{os.getpid()}"
    clock = SystemClock()
    network = Network(
        "me", clock, RequestMetrics(), RateLimits(clock), ConcurrencyLimit(4), Proxies({})
    )
    me = UserCredentials("me", url, client, OAuthTokenFile(state, "me"), network, clock)
    while True:
        try:
            token = me.token_for(None, Deadline(clock, 60))
        except AuthError as error:
            return say("lost", os.getpid(), error.message)
        except RemoteError:
            continue
        if written[0] > answered[0] > 0:
            say("renewed", os.getpid(), round((written[0] - answered[0]) * 1e6))
            answered[0] = 0.0
        me._renewed_at = me._read_at = float("-inf")  # as after hours
        if token is not None:
            me.invalidate(None, token)


def main() -> None:
    url, state, client = sys.argv[1:]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                renew(url, Path(state), client)
            finally:
                os._exit(0)
        say("started", pid)


if __name__ == "__main__":
    main()
