"""Masks secrets in every output, in any common encoding.

Secrets are known values, and texts with the shape of GitHub's credentials.

`Secret` keeps values from leaking in the usual ways; redaction is for the paths that nothing else
covers: error texts of libraries, hook output, tracebacks.

Its work grows with the length of the text only, and a caller cuts the text first (`limit`). A
secret that the cut would split is masked as a whole. A value that is compressed, encrypted,
reversed, split by other text, or encoded in a way that `normalized` does not undo, is not
recognized.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

from syncd.escapes import Normalized, Span, normalized
from syncd.text import json_text, visible

MASK = "***"
MIN_SECRET_CHARACTERS = 6  # a shorter text would mask half of every sentence
MIN_KEY_LINE_CHARACTERS = 24  # of a key: also one line of it is enough to be kept back
MAX_SHORT_LIVED = 64  # short-lived values that are remembered: a daemon mints for years
MAX_CHARACTERS = 64 << 10  # characters of one text; a caller with a better number gives it
OVERLAP_CHARACTERS = 16 << 10  # characters read past a cut: a key in hex is 7 KB

# gh?_ and github_pat_ tokens in both forms (40 characters, or ~520 with dots and dashes), JWTs,
# credentials in headers, queries and URLs.
# Each pattern reads a character a bounded number of times: what one attempt has read, the next one
# does not start in. None of them
# crosses an angle bracket, so that HTML stays whole.
PATTERNS = (
    re.compile(r"(?<![A-Za-z0-9])gh[pousr]_[A-Za-z0-9._-]{16,}+"),
    re.compile(r"(?<![A-Za-z0-9])github_pat_[A-Za-z0-9_]{16,}+"),
    re.compile(r"(?<=://)[^/\s:@\"<>]*+:[^/\s\"<>]*(?<=[^:])(?=@)"),
    re.compile(
        r"(?i)\bauthorization[\\\"']*+\s*+[:=,]\s*+[\\\"']*+"
        r"(?:(?:bearer|token|basic)\s++)?[^\s\"'\\,}<]++"
    ),
    re.compile(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^<>\"\\]|\\[^\"])*?"
        r"(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|(?=\\?[<>\"])|\\?\Z)"
    ),
)
# The whole first part is read in one attempt, also where the other two do not follow: else each
# "-eyJ" in it would be another attempt.
ASSERTION = re.compile(
    r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]*+(\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+)?"
)
QUERY = re.compile(r"[?&](?:amp;)?([\w-]*+)=[^&\s\"'<>]++")
SECRET_QUERY = re.compile(
    r"(?i)(?:.*_)?(?:token|secret|signature|sig|password|code)\Z"
    r"|x-amz-(?:signature|credential|security-token)\Z",
    re.DOTALL,
)

SPACE = b" \t\r\n\v\f"
HEX_SPACE = SPACE + b":"
LOWER = bytes.maketrans(b"ABCDEF", b"abcdef")


class Secret:
    """A value that never shows in output; `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> str:
        raise TypeError("a secret is never pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class SearchForms:
    """The forms in which one secret value is searched for.

    `plain` is searched in a normalized text, `packed` in one without white space, `hexes` in one
    without white space and colons, `forms` in the text as it is.
    """

    def __init__(self, value: str) -> None:
        self.plain: set[bytes] = set()
        self.packed: set[bytes] = set()
        self.hexes: set[bytes] = set()
        self.forms: set[str] = set()
        for text in (value, *_lines_of_key(value)):
            raw = text.encode("utf-8", "surrogateescape")
            self.plain |= {raw, normalized(text)}
            self.packed |= _base64_forms(raw)
            self.hexes.add(raw.hex().encode())
            self.forms |= _forms(text)
        if "\n" in value:
            self.packed |= {line.encode() for line in _lines_of_key(value)}
        self.plain = {one for one in self.plain if len(one) >= MIN_SECRET_CHARACTERS}


class Redactor:
    """Knows secret values, in every form that they may take in a text."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._long_lived: dict[str, SearchForms] = {}
        self._short_lived: OrderedDict[str, SearchForms] = OrderedDict()
        self._known: tuple[frozenset[bytes], frozenset[bytes], frozenset[bytes], frozenset[str]] = (
            frozenset(),
            frozenset(),
            frozenset(),
            frozenset(),
        )

    def add(self, secret: Secret, long_lived: bool = True) -> None:
        """Mask the value from now on; unless `long_lived`, newer values replace it in time."""
        value = secret.reveal()
        if len(value) < MIN_SECRET_CHARACTERS:
            return
        with self._guard:
            if value in self._long_lived or value in self._short_lived:
                return
            (self._long_lived if long_lived else self._short_lived)[value] = SearchForms(value)
            while len(self._short_lived) > MAX_SHORT_LIVED:
                self._short_lived.popitem(last=False)
            every = [*self._long_lived.values(), *self._short_lived.values()]
            self._known = (
                frozenset().union(*(one.plain for one in every)),
                frozenset().union(*(one.packed for one in every)),
                frozenset().union(*(one.hexes for one in every)),
                frozenset().union(*(one.forms for one in every)),
            )

    def redact(self, text: str, limit: int | None = None) -> str:
        """Mask everything that is, or looks like, a secret; cut after `limit` characters."""
        if limit is None or len(text) <= limit:
            return _masked(text, self.spans(text), 0, len(text))
        head = text[: limit + OVERLAP_CHARACTERS]
        return (
            f"{_masked(head, self.spans(head), 0, limit)}… ({len(text) - limit:,} more characters)"
        )

    def redact_end(self, text: str, limit: int) -> str:
        """Mask secrets in the last `limit` characters, and return these."""
        tail = text[-(limit + OVERLAP_CHARACTERS) :]
        return _masked(tail, self.spans(tail), max(0, len(tail) - limit), len(tail))

    def redact_lines(self, text: str) -> str:
        """Mask secrets so that every line keeps its number."""
        parts, end = [], 0
        for start, stop in self.spans(text):
            parts += [text[end:start], re.sub(r"[^\n]++", MASK, text[start:stop])]
            end = stop
        return "".join([*parts, text[end:]])

    def redact_json(self, value: object) -> str:
        """Return a value as JSON with the secrets in its texts masked; it stays valid JSON."""
        text = json_text(value)
        return json_text(self._values(value)) if self.spans(text) else text

    def _values(self, value: object) -> object:
        if isinstance(value, dict):
            return {name: self._values(one) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._values(one) for one in value]
        return self.redact(value) if isinstance(value, str) else value

    def spans(self, text: str) -> list[Span]:
        """Return where the secrets are, in order and without overlaps."""
        plain, packed, hexes, forms = self._known
        found = [*_shapes(text)]
        found += [span for form in forms if form in text for span in _places(text, form)]
        if plain:
            view = Normalized(text)
            found += [
                view.span(*span)
                for needle in plain
                if needle in view.data
                for span in _places(view.data, needle)
            ]
            found += [view.span(*span) for span in _places_between(view.data, packed, SPACE)]
            found += [
                view.span(*span)
                for span in _places_between(view.data.translate(LOWER), hexes, HEX_SPACE)
            ]
        return _joined(found)


def _masked(text: str, spans: Sequence[Span], begin: int, end: int) -> str:
    """Return the text from `begin` to `end`; a secret that is partly in it is masked."""
    parts, at = [], begin
    for start, stop in spans:
        if stop > begin and start < end:
            parts += [text[at:start], MASK]
            at = stop
    return "".join([*parts, text[at:end]])


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _shapes(text: str) -> Iterator[Span]:
    """Yield what looks like a credential."""
    for pattern in PATTERNS:
        yield from (found.span() for found in pattern.finditer(text))
    yield from (found.span() for found in ASSERTION.finditer(text) if found.group(1) is not None)
    yield from (
        found.span() for found in QUERY.finditer(text) if SECRET_QUERY.match(found.group(1))
    )


def _places(text: Any, needle: Any) -> Iterator[Span]:
    at = text.find(needle)
    while at >= 0:
        yield at, at + len(needle)
        at = text.find(needle, at + len(needle))


def _places_between(data: bytes, needles: frozenset[bytes], between: bytes) -> Iterator[Span]:
    """Yield where a needle is, with any of the bytes `between` among its own."""
    packed = data.translate(None, between)
    kept: list[int] = []
    for needle in needles:
        if needle not in packed:  # as nearly always
            continue
        for start, end in _places(packed, needle):
            kept = kept or [place for place, byte in enumerate(data) if byte not in between]
            yield kept[start], kept[end - 1] + 1


def _lines_of_key(value: str) -> list[str]:
    lines = [line.strip() for line in value.splitlines()] if "\n" in value else []
    return [
        line for line in lines if len(line) >= MIN_KEY_LINE_CHARACTERS and "PRIVATE KEY" not in line
    ]


def _forms(text: str) -> set[str]:
    """Return the escaped forms of a text, as far as `normalized` does not always undo them."""
    forms: set[str] = set()
    for quoted in (
        quote(text, safe="", errors="surrogateescape"),
        quote(text, errors="surrogateescape"),
        quote_plus(text, errors="surrogateescape"),
    ):
        forms |= {
            quoted,
            re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), quoted),
            quote(quoted, safe=""),
        }
    for escaped in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        forms |= {escaped, escaped.replace("/", "\\/"), json.dumps(escaped)[1:-1]}
    forms |= {
        text,
        repr(text)[1:-1],
        repr(text.encode(errors="surrogateescape"))[2:-1],
        html.escape(text),
        html.escape(text, quote=False),
    }
    # with one of these characters, the text around may change what an escape is
    if not set("\\%&") & set(text):
        forms = {form for form in forms if normalized(form) != normalized(text)}
    return {form for form in forms if len(form) >= MIN_SECRET_CHARACTERS}


def _base64_forms(raw: bytes) -> set[bytes]:
    """Return the base64 letters that do not depend on the text before.

    There is one for each of the three alignments, in both alphabets.
    """
    forms: set[bytes] = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for skip in range(3):
            letters = encode(b"\0" * skip + raw).rstrip(b"=")
            whole = (skip + len(raw)) % 3 == 0
            inner = letters[-(-skip * 8 // 6) : None if whole else -1]
            if len(inner) >= 2 * MIN_SECRET_CHARACTERS:
                forms.add(inner)
    return forms


# one process, one set of secrets: a value known anywhere is masked everywhere
_PROCESS = Redactor()


def add_secret(secret: Secret, long_lived: bool = True) -> None:
    """Mask the value in all output of this process from now on."""
    _PROCESS.add(secret, long_lived)


def redact(text: str, limit: int | None = MAX_CHARACTERS) -> str:
    """Return the text without secrets, and not longer than `limit` characters."""
    return _PROCESS.redact(text, limit)


def redact_end(text: str, limit: int) -> str:
    """Return the last `limit` characters, without secrets."""
    return _PROCESS.redact_end(text, limit)


def redact_json(value: object) -> str:
    """Return a value as JSON, with the secrets in its texts masked."""
    return _PROCESS.redact_json(value)


def redact_lines(text: str) -> str:
    """Return the text without secrets; every line keeps its number."""
    return _PROCESS.redact_lines(text)


class RedactingFilter(logging.Filter):
    """Masks secrets in a log record before any handler sees it.

    Message, arguments and traceback are covered, and control characters are made visible. It is
    part of every handler of ours, whatever the format. No record makes it fail.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place, and let it pass."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  (formatting may fail in any way)
            text = f"{_text_of(record.msg)} {_text_of(record.args)}"
        record.msg, record.args = visible(redact(text)), ()
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        if record.exc_text:
            record.exc_text = visible(redact(record.exc_text))
        if record.stack_info:
            record.stack_info = visible(redact(record.stack_info))
        return True


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  (any `__str__` may fail)
        return f"({type(value).__name__} that can't be shown)"
