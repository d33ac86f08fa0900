"""Reads GitHub's list of the deliveries that an App's webhook got, and says which did not arrive.

GitHub sends a delivery once. What it could not deliver it keeps in this list, without the payload:
the repository's number, but no ref. The list is for an App's own webhook alone; for the webhook of
a repository or an organization GitHub offers an App none. The list is only read.
Source: REST docs, "List deliveries for an app webhook", newest first, paged by a cursor in Link.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import takewhile
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.errors import BadResponseError
from syncd.github.auth.app import AppCredentials
from syncd.github.protocol import Response, get, read_json, server_text

PAGE_SIZE = 100
MAX_PAGES = 10  # a thousand deliveries; past them every job is a candidate
CURSOR = re.compile(r"[A-Za-z0-9_.=:-]{1,200}")
NEXT_PAGE = re.compile(r'<([^<>]{1,2000})>;\s*rel="next"')
SUBJECT = "the deliveries of the App's webhook"


class SeenDelivery(Struct, frozen=True):
    """The newest delivery of the list when it was read last; `id` is 0 where it was empty."""

    id: int
    at: datetime


class Delivery(Struct, frozen=True):
    """One attempt to deliver an event. `outcome` is GitHub's own words for what came of it.

    Attempts at one event share their `guid`. None: the list does not say.
    """

    id: int
    guid: str
    at: datetime
    event: str
    arrived: bool
    outcome: str
    repository: int | None
    installation: int | None


class DeliveryList(Struct, frozen=True):
    """Deliveries, the newest first. `complete`: none is left out between them and the known one."""

    deliveries: tuple[Delivery, ...]
    complete: bool


def list_deliveries(
    app: AppCredentials, api: str, known: SeenDelivery | None, deadline: Deadline
) -> DeliveryList:
    """Return the deliveries since the known one, with one request per page.

    Where none is known the first page is enough: it says which one is the newest now. Raises what
    `failure` makes of a refusal.
    """
    found: list[Delivery] = []
    cursor = ""
    for _ in range(MAX_PAGES):
        path = f"/app/hook/deliveries?per_page={PAGE_SIZE}{cursor and f'&cursor={cursor}'}"
        request = get(api, path, "app", SUBJECT, None)
        answer = app.send_as_app(request, deadline)
        page = list(_parsed(read_json(request, answer)))
        new = list(takewhile(lambda one: known is None or not _is_known(one, known), page))
        found += new
        cursor = _next_cursor(answer)
        if known is None or len(new) < len(page) or not cursor:
            return DeliveryList(tuple(found), True)
    return DeliveryList(tuple(found), False)


def missed_pushes(deliveries: Iterable[Delivery]) -> tuple[Delivery, ...]:
    """Return the pushes that no attempt delivered: of each the newest attempt, the newest first."""
    pushes = [one for one in deliveries if one.event == "push"]
    arrived = {one.guid for one in pushes if one.arrived}
    missed: dict[str, Delivery] = {}
    for one in pushes:
        if one.guid not in arrived:
            missed.setdefault(one.guid, one)
    return tuple(missed.values())


def is_about(delivery: Delivery, number: int | None, installation: int | None) -> bool:
    """Return whether the delivery is, or may be, about the repository.

    `number` is GitHub's of the repository and decides where it is known. Else the installation
    does; where that is not known either, the answer is yes, because a run that finds nothing new
    costs one request answered 304.
    """
    if number is not None and delivery.repository is not None:
        return delivery.repository == number
    return None in (installation, delivery.installation) or delivery.installation == installation


def _is_known(one: Delivery, known: SeenDelivery) -> bool:
    return one.id == known.id or one.at < known.at


def _next_cursor(answer: Response) -> str:
    """Return the cursor of the next page, or nothing on the last page.

    The address is put together here: none that a server names is followed.
    """
    found = NEXT_PAGE.search(answer.headers.get("link", ""))
    given = parse_qs(urlsplit(found.group(1)).query).get("cursor", [""])[0] if found else ""
    return given if CURSOR.fullmatch(given) else ""


def _parsed(rows: Any) -> Iterator[Delivery]:
    if not isinstance(rows, list):
        raise _bad_list()
    for row in rows:
        yield _delivery(row)


def _delivery(row: Any) -> Delivery:
    identity = _number(row.get("id")) if isinstance(row, dict) else None
    if identity is None:
        raise _bad_list()
    status = _number(row.get("status_code"))
    return Delivery(
        identity,
        server_text(row.get("guid")) or str(identity),
        _time(row),
        server_text(row.get("event")),
        row.get("status") == "OK" or (status is not None and 200 <= status < 300),
        f"{status or ''} {server_text(row.get('status'))}".strip(),
        _number(row.get("repository_id")),
        _number(row.get("installation_id")),
    )


def _time(row: Mapping[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(row["delivered_at"])
    except (KeyError, TypeError, ValueError) as error:
        raise _bad_list() from error
    if at.tzinfo is None:
        raise _bad_list()
    return at


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _bad_list() -> BadResponseError:
    return BadResponseError(
        f"the answer for {SUBJECT} is not a list of them",
        id="bad_response/no-list",
        hint="check api:",
    )


__all__ = [
    "Delivery",
    "DeliveryList",
    "SeenDelivery",
    "is_about",
    "list_deliveries",
    "missed_pushes",
]
