"""One request to GitHub and its whole answer.

An answer that breaks off is requested again: nothing of it was used, and a connection lost in the
middle says nothing about the next. What each status means is decided in error_responses.py; what
an answer holds, by its reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import RemoteUnavailableError, TimedOutError
from syncd.github.attempts import Attempts
from syncd.github.error_responses import failure, parse_error
from syncd.github.protocol import Request, Response, Transport, read_body

T = TypeVar("T")


class Answer(Struct, frozen=True):
    """A whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def send_and_read(
    transport: Transport,
    request: Request,
    deadline: Deadline,
    take: Callable[[Response], bytes] = read_body,
) -> Answer:
    """Return the answer to `request` when it is 200, or 304 where a condition was sent.

    `take` reads the body, from its start at every try. Raises what `failure` makes of any other
    status, and RemoteUnavailableError when all `Attempts` failed, whether the connection or the
    body was lost.
    """

    def once(response: Response) -> Answer:
        if response.status == 304:
            response.close()
            return Answer(304, response.headers, b"")
        return Answer(response.status, response.headers, take(response))

    return stream(transport, request, deadline, once)


def stream(
    transport: Transport,
    request: Request,
    deadline: Deadline,
    use: Callable[[Response], T],
    again: bool = True,
) -> T:
    """Return what `use` makes of a successful answer, whose body is still on the way.

    With `again`, the request is sent again when the body breaks off.
    """
    fine = (200, 304) if "If-None-Match" in request.headers else (200,)
    fine = (*fine, 206) if "Range" in request.headers else fine
    attempts = request.attempts or Attempts()
    request = replace(request, attempts=attempts)
    while True:
        response = transport.send(request, deadline)
        if response.status not in fine:
            raise failure(request, parse_error(response), deadline.clock.now())
        try:
            return use(response)
        except TimedOutError:
            raise
        except RemoteUnavailableError:
            pause = attempts.next_delay_seconds(deadline, answered=True) if again else None
            if pause is None:
                raise
        finally:
            response.close()
        deadline.wait(pause)
