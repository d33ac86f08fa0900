"""Reads GitHub's answer to a request for an installation token.

Source: REST docs, "Create an installation access token for an app": `token`, `expires_at`, and
`repositories` where the request named repositories. Pure: no I/O.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from syncd.errors import BadResponseError
from syncd.github.auth.credentials import Token, presentable
from syncd.redaction import Secret


def parse_token(found: Any, installation: int, server_now: datetime, monotonic: float) -> Token:
    """Return the token of an answer that came at `server_now`, on GitHub's clock.

    Raises BadResponseError for an answer without a token that can be used.
    """
    try:
        value, expires_at = found["token"], datetime.fromisoformat(found["expires_at"])
        lifetime = (expires_at - server_now).total_seconds()
    except (TypeError, KeyError, ValueError) as error:
        raise BadResponseError(
            "GitHub answered the request for an installation token without one",
            id="bad_response/no-token",
            hint="check api:",
        ) from error
    if not isinstance(value, str) or not presentable(value) or lifetime <= 0:
        raise BadResponseError(
            "GitHub answered the request for an installation token with one that can't be used",
            id="bad_response/no-token",
            hint="check api:",
        )
    return Token(Secret(value), expires_at, monotonic, monotonic + lifetime, installation)


def repository_numbers(found: Any) -> dict[str, int]:
    """Return GitHub's number of each repository that the token is for, by its lower-case name."""
    listed = found.get("repositories") if isinstance(found, dict) else None
    rows = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    named = ((one.get("full_name"), one.get("id")) for one in rows)
    return {
        name.lower(): number
        for name, number in named
        if isinstance(name, str) and isinstance(number, int) and not isinstance(number, bool)
    }


__all__ = ["parse_token", "repository_numbers"]
