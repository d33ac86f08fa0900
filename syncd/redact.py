"""The net under every output: known secret values and the shapes of GitHub's credentials never get through, in any common encoding.

`Secret` keeps values out of the way they would usually leak; this is for the paths nobody thought of: error texts of libraries,
hook output, tracebacks.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from urllib.parse import quote, quote_plus

from syncd.models import Secret

MASK = "***"
SHORTEST = 6  # a shorter text would mask half of every sentence

# gh?_ and github_pat_ tokens in both forms (40 characters, or ~520 with dots and dashes), JWTs, credentials in headers, queries and URLs
PATTERNS = (
    re.compile(r"\bgh[pousr]_[A-Za-z0-9._-]{16,}"),
    re.compile(r"\bgithub_pat_[A-Za-z0-9_]{16,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?i)(?<=authorization: )(?:bearer|token|basic) \S+"),
    re.compile(r"(?i)(?<=[?&]token=)[^&\s\"']+"),
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
)


class Redactor:
    """Live secret values, in every form they may take in a text."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._forms: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: Secret) -> None:
        value = secret.reveal()
        if len(value) < SHORTEST:
            return
        with self._guard:
            if value in self._forms:
                return
            self._forms.update(dict.fromkeys(_forms(value)))
            self._pattern = re.compile("|".join(re.escape(form) for form in sorted(self._forms, key=len, reverse=True)))

    def redact(self, text: str) -> str:
        """The text with everything that looks like, or is, a secret masked."""
        known = self._pattern
        if known is not None:
            text = known.sub(MASK, text)
        for pattern in PATTERNS:
            text = pattern.sub(MASK, text)
        return text


def _forms(value: str) -> set[str]:
    """Raw, URL-encoded, JSON-escaped, and the parts of base64 that are the same whatever stands before and after."""
    raw = value.encode()
    forms = {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], value.replace("\n", "\\n")}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for skip in range(3):
            middle = encode(b"\0" * skip + raw).decode().rstrip("=")
            start = -(-skip * 8 // 6)
            inner = middle[start:-1]
            if len(inner) >= 12:
                forms.add(inner)
    return {form for form in forms if len(form) >= SHORTEST}


_PROCESS = Redactor()  # one process, one set of secrets: a value known anywhere is masked everywhere


def remember(secret: Secret) -> None:
    _PROCESS.add(secret)


def redact(text: str) -> str:
    return _PROCESS.redact(text)


class RedactingFilter(logging.Filter):
    """Masks secrets in a record's message, arguments and traceback before any handler sees them."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        return True
