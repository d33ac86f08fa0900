"""Short answers in plain text, for every part of the listener."""

from __future__ import annotations

from flask import Response

from syncd.redaction import redact
from syncd.text import visible


def text_answer(status: int, text: str) -> Response:
    """Return one line, or some, in plain text."""
    return Response(
        visible(redact(text)) + "\n", status=status, content_type="text/plain; charset=utf-8"
    )


def too_many(seconds: int) -> Response:
    """Return the answer to a client that guessed too often."""
    answer = text_answer(429, f"too many wrong tries; try again in {seconds} s")
    answer.headers["Retry-After"] = str(seconds)
    return answer


def unauthorized(by_password: bool = True) -> Response:
    """Return the answer to a request without a right password."""
    answer = text_answer(401, "a password is needed" if by_password else "a token is needed")
    scheme = "Basic" if by_password else "Bearer"
    charset = ', charset="UTF-8"' if by_password else ""
    answer.headers["WWW-Authenticate"] = f'{scheme} realm="syncd"{charset}'
    return answer


__all__ = ["text_answer", "too_many", "unauthorized"]
