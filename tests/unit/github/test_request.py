"""An answer that breaks off is asked for again;
many questions go side by side and end with the first error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping

import pytest

from syncd.deadline import Deadline
from syncd.errors import (
    AuthError,
    NotFoundError,
    RemoteUnavailableError,
    StoppedError,
    TimedOutError,
)
from syncd.github.attempts import MAX_ATTEMPTS
from syncd.github.concurrency import ThreadPool
from syncd.github.protocol import Request, Response, get
from syncd.github.request import send_and_read
from tests.contract.doors import QuickClock, deadline

REQUEST = get("https://api.test", "/repos/acme/infra", "repo", "acme/infra", "acme/infra")
CONDITIONAL = get(
    "https://api.test", "/repos/acme/infra", "repo", "acme/infra", "acme/infra", etags='"x"'
)


class Scripted:
    """Answers with these bodies in turn; an exception in a body is raised after its bytes."""

    def __init__(self, *answers: tuple[int, bytes, Exception | None]) -> None:
        self.answers, self.sent, self.closed = list(answers), 0, 0

    def send(self, request: Request, deadline: Deadline) -> Response:
        self.sent += 1
        status, body, error = self.answers.pop(0)
        return Spoken(self, status, body, error)


class Spoken:
    url = "https://api.test"

    def __init__(self, script: Scripted, status: int, body: bytes, error: Exception | None) -> None:
        self.status, self._script, self._body, self._error = status, script, body, error
        self.headers: Mapping[str, str] = {}

    def chunks(self) -> Iterator[bytes]:
        yield self._body
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self._script.closed += 1


BROKE = (200, b"hal", RemoteUnavailableError("lost"))


def test_an_answer_that_broke_off_is_asked_for_again_from_its_start() -> None:
    script = Scripted(BROKE, BROKE, (200, b"whole", None))
    assert send_and_read(script, REQUEST, deadline()).body == b"whole"
    assert script.sent == 3 and script.closed >= 3


def test_an_answer_that_breaks_off_every_time_is_unavailable() -> None:
    script = Scripted(*[BROKE] * 9)
    with pytest.raises(RemoteUnavailableError, match="lost"):
        send_and_read(script, REQUEST, deadline())
    assert script.sent == MAX_ATTEMPTS


def test_running_out_of_time_is_not_tried_again() -> None:
    script = Scripted((200, b"hal", TimedOutError("late")), (200, b"whole", None))
    with pytest.raises(TimedOutError):
        send_and_read(script, REQUEST, deadline())
    assert script.sent == 1


def test_not_modified_is_an_answer_only_where_it_was_offered() -> None:
    assert send_and_read(Scripted((304, b"", None)), CONDITIONAL, deadline()).status == 304
    with pytest.raises(Exception, match="304"):
        send_and_read(Scripted((304, b"", None)), REQUEST, deadline())


def test_other_statuses_become_their_errors() -> None:
    with pytest.raises(AuthError):
        send_and_read(Scripted((401, b'{"message": "Bad credentials"}', None)), REQUEST, deadline())


def test_a_crew_keeps_order_and_its_bound() -> None:
    crew, guard, now, most = ThreadPool(3), threading.Lock(), 0, 0
    together = threading.Barrier(3)

    def work(number: int) -> int:
        nonlocal now, most
        with guard:
            now += 1
            most = max(most, now)
        together.wait(10)
        with guard:
            now -= 1
        return number * 2

    assert crew.map(work, range(30), deadline()) == [number * 2 for number in range(30)]
    assert most == 3
    crew.close()


def test_the_first_error_ends_a_crews_work_and_what_has_begun_is_waited_for() -> None:
    crew = ThreadPool(2)
    begun: list[int] = []
    ended: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 4:
            raise NotFoundError("four")
        ended.append(number)

    with pytest.raises(NotFoundError, match="four"):
        crew.map(work, range(1000), deadline())
    assert len(begun) < 20 and len(begun) == len(ended) + 1
    assert crew.map(lambda number: number, [1, 2, 3], deadline()) == [1, 2, 3]
    crew.close()


def test_a_signal_reaches_who_waits_for_a_crew() -> None:
    crew, stop = ThreadPool(2), threading.Event()
    patient = Deadline(QuickClock(), 60, stop)

    def work(number: int) -> None:
        while not stop.is_set():
            stop.wait(0.05)
        patient.check()

    threading.Timer(0.1, stop.set).start()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        crew.map(work, range(10), patient)
    assert time.monotonic() - began < 2
    crew.close()
