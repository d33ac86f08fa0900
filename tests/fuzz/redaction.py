"""Fuzzing of redaction: python -m tests.fuzz.redaction -max_total_time=60

The input is a byte that chooses an encoding, a text around a secret, and where it is cut. Whatever
the text: the secret does not stay, the result is bounded, JSON and HTML stay whole, and it takes
bounded time and memory.
"""

from __future__ import annotations

import base64
import html
import json
import textwrap
from collections.abc import Callable, Iterator
from urllib.parse import quote

from tests.fuzz.harness import Measured, fuzz, instrumented

with instrumented("syncd.redaction"):
    from syncd.redaction import Redactor

from syncd.redaction import Secret

VALUE = "k3y/with+odd=letters-and_more~4711"
KEY = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(f"{number:04d}" + "AbCdEfGh+/" * 6 for number in range(26))
    + "\n-----END PRIVATE KEY-----\n"
)
MEASURED = Measured(seconds=3.0, peak_bytes=64 << 20)
FORMS: list[Callable[[str], str]] = [
    str,
    lambda value: quote(value, safe=""),
    lambda value: quote(quote(value, safe=""), safe=""),
    lambda value: "".join(f"%{byte:02X}" for byte in value.encode()),
    lambda value: base64.b64encode(value.encode()).decode(),
    lambda value: "\n".join(textwrap.wrap(base64.b64encode(b"x" + value.encode()).decode(), 16)),
    lambda value: base64.urlsafe_b64encode(b"xy" + value.encode()).decode(),
    lambda value: value.encode().hex(),
    lambda value: value.encode().hex(":").upper(),
    json.dumps,
    html.escape,
    lambda value: "".join(f"\\u{ord(letter):04x}" for letter in value),
]
REDACTOR = Redactor()
REDACTOR.add(Secret(VALUE))
REDACTOR.add(Secret(KEY))


def one(data: bytes) -> None:
    text = data[2:].decode("utf-8", "replace") * _times(data)
    form = FORMS[data[0] % len(FORMS)](VALUE) if data else ""
    at = len(text) * (data[1] if len(data) > 1 else 0) // 256
    whole = f"{text[:at]} {form} {text[at:]}"
    with MEASURED:
        shown = REDACTOR.redact(whole)
        cut = REDACTOR.redact(whole, max(1, at + len(form) // 2))
        end = REDACTOR.redact_end(whole, len(text) - at + len(form) // 2)
        lines = REDACTOR.redact_lines(whole)
    if form and (
        form in shown
        or form in lines
        or (_half(form) in cut[max(0, at - 3) :][:200] and _half(form) not in text)
        or VALUE in shown
    ):
        raise AssertionError(f"the secret stayed: {form!r}")
    if lines.count("\n") != whole.count("\n"):
        raise AssertionError("a line is missing")
    if (
        len(cut) > at + len(form) + 60 + 3 * whole.count("://") + len(whole) // 2
        or len(end) > len(whole) * 2 + 10
    ):
        raise AssertionError("not cut")
    if len(json.loads(REDACTOR.redact_json([text, form, text]))) != 3:
        raise AssertionError("no JSON any more")
    page = f"<p>{html.escape(text)}</p><p>{html.escape(form)}</p>"
    if (found := REDACTOR.redact(page)).count("<p>") != 2 or found.count("</p>") != 2:
        raise AssertionError("no HTML any more")


def _half(form: str) -> str:
    return form[: len(form) // 2]


def _times(data: bytes) -> int:
    """Some texts are repeated, to be of a length where a square would show."""
    return (
        max(1, min(1 << (data[1] % 16), (12 << 10) // max(1, len(data))))
        if len(data) < 60 and len(data) > 1
        else 1
    )


def seeds() -> Iterator[bytes]:
    for number, text in enumerate(
        [
            "GitHub answered 404 to the request for main",
            "-eyJ",
            "-eyJaaaaaaaa.aaaaaaaa.",
            "://a:b@",
            "authorization: bearer ",
            "?a_token=",
            "&amp;x-amz-signature=",
            "%25",
            "\\\\",
            "-----BEGIN PRIVATE KEY-----",
            "-----END ",
            "&amp;amp;quot;",
            "ghs_" + "a" * 20,
            "github_pat_",
            "\\ud83d\\ude00",
            KEY[:300],
            "\u202e\x1b[2J",
            " \n\t",
        ]
    ):
        for repeat in (0, 13):
            yield bytes([number, 128 + repeat]) + text.encode()


WORDS = [
    "-eyJ",
    "://",
    "@",
    "authorization",
    "bearer ",
    "?token=",
    "%25",
    "&amp;",
    "-----BEGIN PRIVATE KEY-----",
    "-----END ",
    "ghs_",
    "github_pat_",
    "***",
]

if __name__ == "__main__":
    fuzz(one, seeds(), WORDS)
