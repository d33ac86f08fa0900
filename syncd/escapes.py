"""Undoes the escapes of JSON, Python, URLs and HTML, and maps positions back. Pure: no I/O."""

from __future__ import annotations

import re
from bisect import bisect_right

Span = tuple[int, int]

# What the encodings of JSON, Python, URLs and HTML make of a character, also when they were applied
# several times.
ESCAPES = re.compile(
    r"%(?:25)*(?P<percent>[0-9A-Fa-f]{2})"
    r"|(?<!\\)\\++(?:x(?P<byte>[0-9A-Fa-f]{2})"
    r"|(?P<pair>u[dD][89abAB][0-9A-Fa-f]{2}\\++u[dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|u(?P<unit>[0-9A-Fa-f]{4})|(?P<letter>[nrtbf\"'/]))?"
    r"|&(?:amp;)*+(?:#(?P<number>[0-9]{1,7});|#x(?P<hex>[0-9A-Fa-f]{1,6});"
    r"|(?P<name>quot|apos|lt|gt);)?"
    r"|(?P<other>[^\x00-\x7f])"
)
LETTERS = {
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "b": b"\b",
    "f": b"\f",
    '"': b'"',
    "'": b"'",
    "/": b"/",
}
NAMES = {"quot": b'"', "apos": b"'", "lt": b"<", "gt": b">"}


class Normalized:
    """A text without its escapes, as UTF-8, with the way back to positions in the text."""

    def __init__(self, text: str) -> None:
        self._starts, self._sources = [0], [(0, len(text), False)]
        if text.isascii() and ESCAPES.search(text) is None:
            self.data = text.encode()
            return
        self._starts, self._sources = [], []
        parts: list[bytes] = []
        end = size = 0
        for found in ESCAPES.finditer(text):
            for part, source in (
                (text[end : found.start()].encode(), (end, found.start(), False)),
                (_meaning(found), (*found.span(), True)),
            ):
                if part:
                    self._starts.append(size)
                    self._sources.append(source)
                    parts.append(part)
                    size += len(part)
            end = found.end()
        self._starts.append(size)
        self._sources.append((end, len(text), False))
        self.data = b"".join([*parts, text[end:].encode()])

    def span(self, start: int, end: int) -> Span:
        """Return the span of the text that the bytes from `start` to `end` were made of."""
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, end - 1) - 1
        begin, _, whole = self._sources[first]
        low = begin if whole else begin + start - self._starts[first]
        begin, stop, whole = self._sources[last]
        return low, stop if whole else begin + end - self._starts[last]


def _meaning(found: re.Match[str]) -> bytes:
    """Return the bytes that one escape means."""
    kind, text = found.lastgroup, found.group(found.lastgroup) if found.lastgroup else ""
    match kind:
        case "percent" | "byte":
            return bytes.fromhex(text)
        case "pair":
            return bytes.fromhex(text[1:5] + text[-4:]).decode("utf-16-be").encode()
        case "unit" | "hex":
            return _utf8(int(text, 16))
        case "number":
            return _utf8(int(text))
        case "letter":
            return LETTERS[text]
        case "name":
            return NAMES[text]
        case "other":
            return _utf8(ord(text))
        case _:
            return found.group()[:1].encode()  # backslashes or ampersands, escaped or not


def _utf8(number: int) -> bytes:
    if 0xDC80 <= number <= 0xDCFF:  # a byte that was no UTF-8
        return bytes([number - 0xDC00])
    return chr(min(number, 0x10FFFF)).encode("utf-8", "surrogatepass")


def normalized(text: str) -> bytes:
    """Return the text without its escapes, as UTF-8."""
    return Normalized(text).data
