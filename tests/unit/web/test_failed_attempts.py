"""How often something wrong may be tried, and by whom, on a clock of the test's own."""

from __future__ import annotations

import pytest

from syncd.web import failed_attempts
from syncd.web.clients import LOCAL, Proxies
from syncd.web.failed_attempts import FailureLimits


class Trial:
    def __init__(self) -> None:
        self.now = 1000.0
        self.limits = FailureLimits(lambda: self.now)

    def wrong(self, client: str, times: int = 1) -> int:
        """How many of so many wrong tries were looked at."""
        return sum(self.limits.take(client) == 0 for _ in range(times))

    def right(self, client: str) -> bool:
        if self.limits.take(client):
            return False
        self.limits.succeeded(client)
        return True


def test_a_client_has_ten_wrong_tries_and_then_one_in_six_seconds() -> None:
    trial = Trial()
    assert trial.wrong("a", 100) == 10 and trial.limits.take("a") == 6
    trial.now += 6
    assert trial.wrong("a", 100) == 1 and not trial.right("a")
    trial.now += 60
    assert trial.wrong("a", 100) == 10


def test_a_right_try_counts_for_nothing() -> None:
    trial = Trial()
    assert all(trial.right("a") for _ in range(1000)) and trial.wrong("a", 100) == 10


def test_wrong_tries_of_others_keep_out_neither_who_is_known_nor_who_comes_for_the_first_time() -> (
    None
):
    trial = Trial()
    assert trial.right("known")
    flood = [f"flood {number}" for number in range(58)]
    assert sum(trial.wrong(one, 100) for one in flood) == 58 + 40
    assert trial.right("known"), "a client that was right before"
    assert trial.right("new"), "one of another budget than those who failed"
    assert sum(trial.wrong(f"more {number}") for number in range(500)) == 0
    assert trial.right("known") and not trial.right("newest")
    trial.now += 0.2
    assert trial.right("newest")


def test_all_wrong_tries_together_are_a_few_a_second_from_however_many_addresses() -> None:
    trial = Trial()
    looked_at = 0
    for second in range(100):
        looked_at += sum(trial.wrong(f"{second}.{number}", 2) for number in range(50))
        trial.now += 1
    assert looked_at <= 60 + 40 + 100 * (5 + 2)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_attempts, "NEW_CLIENTS_BURST", 10**6)
    trial = Trial()
    for number in range(3 * failed_attempts.MAX_FAILED_CLIENTS):
        trial.wrong(f"wrong {number}")
        trial.right(f"right {number}")
    assert (
        len(trial.limits._each) <= failed_attempts.MAX_FAILED_CLIENTS
        and len(trial.limits._known) == failed_attempts.MAX_KNOWN_CLIENTS
    )


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("127.0.0.1", "", LOCAL),
        ("localhost", "", LOCAL),
        (None, "", LOCAL),
        ("::1", "nonsense", LOCAL),
        ("127.0.0.1", "10.0.0.1, 198.51.100.1", "198.51.100.1"),
        ("127.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("127.0.0.1", "127.0.0.1", LOCAL),
        ("127.0.0.1", "[2001:db8:1:2:3::4]:80", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.5", "", "203.0.113.5"),
        ("::ffff:127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "", "fe80::/64"),
    ],
)
def test_a_client_is_its_address_or_the_one_that_a_trusted_web_server_says(
    peer: str | None, forwarded: str, client: str
) -> None:
    assert Proxies(("127.0.0.0/8", "::1", "unix")).client(peer, forwarded) == client
