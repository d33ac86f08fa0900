"""How a ref is spelt, what makes a head known, and who asks."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncd.clock import Patience
from syncd.engine.ports import Head
from syncd.errors import BadResponseError, NotFoundError, StoppedError, TimedOutError
from syncd.github.ask import Answer
from syncd.github.heads import SharedHeads, commit_of, conditions, forms
from syncd.github.protocol import get
from tests.contract.doors import QuickClock, patience

COMMIT = "1f3ac90" + "0" * 33
REQUEST = get("https://api.test", "/repos/acme/infra/commits/HEAD", "head", "main of acme/infra", "acme/infra")


@pytest.mark.parametrize(
    ("ref", "spellings"),
    [
        (None, ["HEAD"]),
        ("HEAD", ["HEAD"]),
        (COMMIT, [COMMIT]),
        ("main", ["heads/main", "tags/main", "main"]),
        ("feature/x", ["heads/feature/x", "tags/feature/x", "feature/x"]),
        ("refs/heads/main", ["heads/main"]),
        ("refs/tags/v1", ["tags/v1"]),
        ("refs/pull/7/head", ["pull/7/head"]),
        (COMMIT[:7], [f"heads/{COMMIT[:7]}", f"tags/{COMMIT[:7]}", COMMIT[:7]]),
    ],
)
def test_a_ref_is_asked_for_in_the_spellings_that_github_knows(ref: str | None, spellings: list[str]) -> None:
    assert forms(ref) == spellings


@pytest.mark.parametrize(
    ("known", "sent"),
    [
        (None, None),
        (Head(COMMIT), f'"{COMMIT}"'),
        (Head(COMMIT, f'"{COMMIT}"'), f'"{COMMIT}"'),
        (Head(COMMIT, f'W/"{COMMIT}"'), f'"{COMMIT}"'),
        (Head(COMMIT, 'W/"abc"'), f'"{COMMIT}", W/"abc"'),
    ],
)
def test_what_is_known_is_asked_for_by_commit_and_by_any_other_etag(known: Head | None, sent: str | None) -> None:
    assert conditions(known) == sent


@pytest.mark.parametrize("body", [COMMIT.encode(), f" {COMMIT}\n".encode(), f'{{"sha": "{COMMIT}", "commit": {{}}}}'.encode()])
def test_a_commit_id_is_read_from_text_and_json(body: bytes) -> None:
    assert commit_of(REQUEST, Answer(200, {}, body)) == COMMIT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>sign in</html>",
        b"{",
        b"{}",
        b'{"sha": 5}',
        b'{"sha": null}',
        b"[]",
        COMMIT[:-1].encode(),
        COMMIT.upper().encode() + b"A",
        b"\xff" * 40,
    ],
)
def test_anything_else_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponseError):
        commit_of(REQUEST, Answer(200, {}, body))


def test_one_asks_and_all_wait() -> None:
    heads, asked, begun, go = SharedHeads(), [], threading.Event(), threading.Event()

    def ask() -> Head:
        asked.append(1)
        begun.set()
        assert go.wait(10)
        return Head(COMMIT)

    with ThreadPoolExecutor(6) as pool:
        found = [pool.submit(heads.once, "Acme/Infra" if number else "acme/infra", "main", ask, patience()) for number in range(6)]
        assert begun.wait(10)
        go.set()
        assert [one.result() for one in found] == [Head(COMMIT)] * 6
    assert asked == [1]


def test_other_refs_do_not_wait_and_a_known_head_is_not_asked_for_again() -> None:
    heads = SharedHeads()
    assert heads.once("acme/infra", "main", lambda: Head("1" * 40), patience()).commit == "1" * 40
    assert heads.once("acme/infra", None, lambda: Head("2" * 40), patience()).commit == "2" * 40
    assert heads.once("acme/infra", "main", lambda: Head("3" * 40), patience()).commit == "1" * 40


def test_an_error_is_everybodys_but_running_out_of_time_is_ones_own() -> None:
    heads = SharedHeads()

    def fail(error: Exception) -> Head:
        raise error

    with pytest.raises(TimedOutError):
        heads.once("acme/infra", "main", lambda: fail(TimedOutError("late")), patience())
    with pytest.raises(NotFoundError):
        heads.once("acme/infra", "main", lambda: fail(NotFoundError("gone")), patience())
    with pytest.raises(NotFoundError, match="gone"):
        heads.once("acme/infra", "main", lambda: Head(COMMIT), patience())


def test_who_waits_for_another_can_be_stopped() -> None:
    heads, begun, go, stop = SharedHeads(), threading.Event(), threading.Event(), threading.Event()

    def ask() -> Head:
        begun.set()
        assert go.wait(10)
        return Head(COMMIT)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(heads.once, "acme/infra", "main", ask, patience())
        assert begun.wait(10)
        stop.set()
        with pytest.raises(StoppedError):
            heads.once("acme/infra", "main", ask, Patience(QuickClock(), 60, stop))
        go.set()
        assert first.result() == Head(COMMIT)
