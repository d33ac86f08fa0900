"""The net under every output: known secret values and the shapes of GitHub's credentials never get through, in any common encoding.

`Secret` keeps values out of the way they would usually leak; this is for the paths nobody thought of: error texts of libraries,
hook output, tracebacks.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from syncd.models import Secret

MASK = "***"
SHORTEST = 6  # a shorter text would mask half of every sentence
SHORTEST_LINE = 24  # of a key: also one line of it is enough to be kept back
PASSING = 64  # short-lived values that are remembered: a daemon mints for years

# gh?_ and github_pat_ tokens in both forms (40 characters, or ~520 with dots and dashes), JWTs, credentials in headers, queries and URLs
PATTERNS = (
    re.compile(r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9._-]{16,}"),
    re.compile(r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{16,}"),
    re.compile(r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    re.compile(r"(?i)\bauthorization[\\\"']*\s*[:=,]\s*[\\\"']*(?:(?:bearer|token|basic)\s+)?[^\s\"'\\,}]+"),
    re.compile(r"(?i)[?&](?:\w+_)?(?:token|secret|signature|sig|password|code)=[^&\s\"'<>]+"),
    re.compile(r"(?i)[?&]x-amz-(?:signature|credential|security-token)=[^&\s\"'<>]+"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
)


class Redactor:
    """Live secret values, in every form they may take in a text."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._lasting: dict[str, set[str]] = {}
        self._passing: OrderedDict[str, set[str]] = OrderedDict()
        self._longest_first: tuple[str, ...] = ()

    def add(self, secret: Secret, lasting: bool = True) -> None:
        """From here on the value is masked. One that is not `lasting` gives way to newer ones in time."""
        value = secret.reveal()
        if len(value) < SHORTEST:
            return
        with self._guard:
            if value in self._lasting or value in self._passing:
                return
            (self._lasting if lasting else self._passing)[value] = _forms(value)
            while len(self._passing) > PASSING:
                self._passing.popitem(last=False)
            forms = {form for known in (self._lasting, self._passing) for found in known.values() for form in found}
            self._longest_first = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def redact(self, text: str) -> str:
        """The text with everything that looks like, or is, a secret masked."""
        for form in self._longest_first:  # no pattern of them all: that takes longer to compile than a run has lines
            if form in text:
                text = text.replace(form, MASK)
        for pattern in PATTERNS:
            text = pattern.sub(MASK, text)
        return text


def _forms(value: str) -> set[str]:
    """Raw, URL-encoded in either case, escaped as JSON, HTML and Python do, the lines of a key, and what base64 makes of it whatever stands around it."""
    lines = [line.strip() for line in value.splitlines() if len(line.strip()) >= SHORTEST_LINE and "PRIVATE KEY" not in line] if "\n" in value else []
    forms: set[str] = set()
    for text in (value, *lines):
        for quoted in (quote(text, safe=""), quote(text), quote_plus(text)):
            forms |= {quoted, re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), quoted)}
        for escaped in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
            forms |= {escaped, escaped.replace("/", "\\/")}
        forms |= {text, repr(text)[1:-1], repr(text.encode(errors="surrogateescape"))[2:-1], html.escape(text), html.escape(text, quote=False)}
        forms |= _base64_forms(text)
    return {form for form in forms if len(form) >= SHORTEST}


def _base64_forms(text: str) -> set[str]:
    """The letters that do not depend on what stands before: one text for each of the three alignments, in both alphabets."""
    forms, raw = set(), text.encode(errors="surrogateescape")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for skip in range(3):
            letters = encode(b"\0" * skip + raw).decode().rstrip("=")
            whole = (skip + len(raw)) % 3 == 0
            inner = letters[-(-skip * 8 // 6) : None if whole else -1]
            if len(inner) >= 2 * SHORTEST:
                forms.add(inner)
    return forms


_PROCESS = Redactor()  # one process, one set of secrets: a value known anywhere is masked everywhere


def remember(secret: Secret, lasting: bool = True) -> None:
    _PROCESS.add(secret, lasting)


def redact(text: str) -> str:
    return _PROCESS.redact(text)


class RedactingFilter(logging.Filter):
    """Masks secrets in a record's message, arguments and traceback before any handler sees them. No record makes it fail."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  (a message that does not fit its arguments, or an argument whose own text fails)
            text = f"{_text_of(record.msg)} {_text_of(record.args)}"
        record.msg, record.args = redact(text), ()
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  (whatever its author let happen there)
        return f"({type(value).__name__} that can't be shown)"
