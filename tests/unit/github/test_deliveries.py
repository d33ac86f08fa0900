"""Which deliveries of GitHub's list did not arrive, whose jobs they start, and what is no list."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from syncd.deadline import Deadline
from syncd.errors import BadResponseError
from syncd.github.auth.app import AppCredentials
from syncd.github.deliveries import (
    Delivery,
    SeenDelivery,
    is_about,
    list_deliveries,
    missed_pushes,
)
from syncd.github.protocol import BufferedResponse, Request, Response
from tests.support.clock import FakeClock

AT = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
API = "https://api.github.com"


def row(number: int = 9, **other: Any) -> dict[str, Any]:
    """One row as GitHub writes it.

    Source: REST docs, example of "List deliveries for an app webhook".
    """
    return {
        "id": number,
        "guid": "0b989ba4-242f-11e5-81e1-c7b6966d2516",
        "delivered_at": "2026-11-30T12:00:00Z",
        "redelivery": False,
        "duration": 0.27,
        "status": "Invalid HTTP Response: 502",
        "status_code": 502,
        "event": "push",
        "action": None,
        "installation_id": 42,
        "repository_id": 1000,
        "throttled_at": None,
        **other,
    }


class Pages:
    """Stands in for the App: gives each page, and a cursor to the next one."""

    def __init__(self, *pages: Any, link: str = '<https://x/a?cursor=v1_{}>; rel="next"') -> None:
        self.pages, self.link, self.asked = pages, link, list[str]()

    def send_as_app(self, request: Request, deadline: Deadline) -> Response:
        number = len(self.asked)
        self.asked.append(request.url.removeprefix(API))
        more = number + 1 < len(self.pages)
        headers = {"link": self.link.format(number)} if more else {}
        return BufferedResponse(200, headers, request.url, json.dumps(self.pages[number]).encode())


def listed(pages: Pages, known: SeenDelivery | None) -> list[int]:
    app = cast(AppCredentials, pages)
    found = list_deliveries(app, API, known, Deadline(FakeClock(), 60.0))
    return [one.id for one in found.deliveries]


FIRST, SECOND = (
    "/app/hook/deliveries?per_page=100",
    "/app/hook/deliveries?per_page=100&cursor=v1_0",
)
OLD = "2026-11-30T11:59:59Z"


@pytest.mark.parametrize(
    ("pages", "known", "numbers", "asked"),
    [
        (Pages([row(9), row(8)], [row(7)]), None, [9, 8], [FIRST]),
        (Pages([row(9), row(8)], [row(7)]), SeenDelivery(8, AT), [9], [FIRST]),
        (Pages([row(9), row(8)], [row(7)]), SeenDelivery(7, AT), [9, 8], [FIRST, SECOND]),
        (Pages([row(9)], [row(8, delivered_at=OLD)]), SeenDelivery(3, AT), [9], [FIRST, SECOND]),
        (Pages([row(9)], [row(8)]), SeenDelivery(3, AT), [9, 8], [FIRST, SECOND]),
        (Pages([], []), SeenDelivery(3, AT), [], [FIRST, SECOND]),
        (
            Pages([row(9)], [row(8)], link='<https://x/a?cursor=%0A>; rel="next"'),
            SeenDelivery(3, AT),
            [9],
            [FIRST],
        ),
    ],
)
def test_the_list_is_read_as_far_back_as_the_known_delivery(
    pages: Pages, known: SeenDelivery | None, numbers: list[int], asked: list[str]
) -> None:
    assert (listed(pages, known), pages.asked) == (numbers, asked)


@pytest.mark.parametrize(
    "answer",
    [
        {"message": "x"},
        [1],
        [{}],
        [row(id="9")],
        [row(delivered_at=None)],
        [row(delivered_at="noon")],
        [row(delivered_at="2026-11-30T12:00:00")],
    ],
)
def test_what_is_no_list_of_deliveries_is_refused(answer: Any) -> None:
    with pytest.raises(BadResponseError, match="is not a list of them"):
        listed(Pages(answer), None)


def attempt(
    number: int, guid: str, arrived: bool, event: str = "push", repository: int | None = 1000
) -> Delivery:
    return Delivery(number, guid, AT, event, arrived, "", repository, 42)


@pytest.mark.parametrize(
    ("attempts", "missed"),
    [
        ([], []),
        ([attempt(9, "a", False)], [9]),
        ([attempt(9, "a", True)], []),
        ([attempt(9, "a", True), attempt(8, "a", False)], []),
        ([attempt(9, "a", False), attempt(8, "a", True)], []),
        ([attempt(9, "a", False), attempt(8, "a", False)], [9]),
        ([attempt(9, "b", False), attempt(8, "a", False)], [9, 8]),
        ([attempt(9, "a", False, "installation")], []),
    ],
)
def test_a_push_is_missed_when_no_attempt_at_it_arrived(
    attempts: list[Delivery], missed: list[int]
) -> None:
    assert [one.id for one in missed_pushes(attempts)] == missed


@pytest.mark.parametrize(
    ("status", "code", "arrived"),
    [
        ("OK", 200, True),
        ("OK", 202, True),
        ("Accepted", 202, True),
        ("Invalid HTTP Response: 401", 401, False),
        ("Invalid HTTP Response: 502", 502, False),
        ("timed out", 0, False),
        ("failed to connect to host", None, False),
    ],
)
def test_an_attempt_arrived_when_it_was_answered_with_success(
    status: str, code: int | None, arrived: bool
) -> None:
    pages = cast(AppCredentials, Pages([row(status=status, status_code=code)]))
    (one,) = list_deliveries(pages, API, None, Deadline(FakeClock(), 60.0)).deliveries
    assert one.arrived is arrived


@pytest.mark.parametrize(
    ("repository", "number", "installation", "about"),
    [
        (1000, 1000, 42, True),
        (1000, 1000, 7, True),
        (1000, 1001, 42, False),
        (1000, None, 42, True),
        (1000, None, 7, False),
        (1000, None, None, True),
        (None, 1000, 42, True),
        (None, 1000, 7, False),
    ],
)
def test_the_number_of_the_repository_decides_and_else_its_installation(
    repository: int | None, number: int | None, installation: int | None, about: bool
) -> None:
    missed = attempt(9, "a", False, repository=repository)
    assert is_about(missed, number, installation) is about


SCALARS = some.none() | some.booleans() | some.integers() | some.text(max_size=30)
ROWS = some.fixed_dictionaries({}, optional=dict.fromkeys(row(), SCALARS))
ANSWERS = some.lists(ROWS.map(lambda drawn: row() | drawn) | SCALARS, max_size=3) | SCALARS


@settings(max_examples=100, deadline=None)
@given(ANSWERS, some.text(max_size=40))
def test_whatever_a_server_says_is_a_list_or_refused(answer: Any, link: str) -> None:
    pages = Pages(answer, [], link=link.replace("{", "").replace("}", ""))
    try:
        assert len(listed(pages, SeenDelivery(3, AT))) <= 3
    except BadResponseError as error:
        assert error.id == "bad_response/no-list"
