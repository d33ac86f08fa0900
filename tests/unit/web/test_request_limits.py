"""How many connections stay open, and which are closed first."""

from __future__ import annotations

import resource
import socket
import time
from typing import Any

import pytest

from syncd.web.request_limits import MAX_UNREAD_CONNECTIONS, close_overdue, max_connections


class Channel:
    """A connection whose answer is not read; it took some of it so many seconds ago."""

    requests: tuple[Any, ...] = ()
    total_outbufs_len = 1

    def __init__(self, idle_seconds: float) -> None:
        now = time.monotonic()
        self.since = self.answered_since = now - 0.9
        self.progressed = now - idle_seconds
        self.socket, self.closed = socket.socket(), False

    def handle_close(self) -> None:
        self.socket.close()
        self.closed = True


def test_of_too_many_answers_that_are_not_read_the_idlest_go_first() -> None:
    channels = {number: Channel(number / 1000) for number in range(MAX_UNREAD_CONNECTIONS + 2)}
    close_overdue(channels)
    assert [number for number, one in channels.items() if one.closed] == [100, 101]
    for one in channels.values():
        one.socket.close()


@pytest.mark.parametrize(("files", "connections"), [(1024, 512), (256, 128), (65536, 600)])
def test_connections_leave_half_of_the_open_files_to_jobs(
    monkeypatch: pytest.MonkeyPatch, files: int, connections: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert max_connections() == connections
