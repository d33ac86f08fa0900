"""The JSON value of a response's body, or an error that says what came instead. Pure: no I/O."""

from __future__ import annotations

from typing import Any

from syncd.errors import BadResponseError
from syncd.github.bounds import BeyondBoundError, load_json
from syncd.github.protocol import beyond_bound_error

SHOWN_BYTES = 60


def parse_json(body: bytes, what: str, kind: str, hook: Any = None) -> Any:
    """Return the JSON value of `body`.

    Raises:
        BadResponseError: not UTF-8, not JSON, absurd numbers, or past the limits of its `kind`.
    """
    try:
        return load_json(body, kind, hook)
    except BeyondBoundError as error:
        raise beyond_bound_error(what, error) from error
    except ValueError as error:
        if body.lstrip()[:1] == b"<":
            raise BadResponseError(
                f"the request for {what} was answered with a web page (a proxy or a sign-in page?)",
                id="bad_response/web-page",
                hint="nothing was changed; check the proxies between this host and GitHub",
            ) from error
        start = body[:SHOWN_BYTES].decode("utf-8", "replace")
        text = f"the request for {what} was answered with something that is not JSON: {start!r}"
        raise BadResponseError(text, id="bad_response/not-json") from error
