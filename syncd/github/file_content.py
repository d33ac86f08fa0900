"""The bytes of a file in an answer: raw, or in base64 in JSON, which is decoded as it arrives."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from itertools import chain

from syncd.errors import BadResponseError
from syncd.git_objects import blob_id
from syncd.github.bounds import FILE_BYTES, bound_of
from syncd.github.error_responses import TooLargeError
from syncd.github.json_body import parse_json
from syncd.github.protocol import Response

MAX_BLOB_BYTES = FILE_BYTES
JSON_OVERHEAD_BYTES = 64 << 10
# The start of GitHub's JSON of a file, up to the first letters of its content.
JSON_CONTENT = re.compile(
    rb'\A\s*\{[^{}\[\]]{0,20000}?"content"\s*:\s*"(?=(?:[A-Za-z0-9+/=]|\\n){0,4000})'
)
NOT_BASE64 = bytes(
    byte
    for byte in range(256)
    if not (chr(byte).isascii() and chr(byte).isalnum()) and chr(byte) not in "+/="
)


def max_response_bytes(size: int | None, trusted: bool = True) -> int:
    """Return how many bytes the answer for a file of `size` may have.

    Base64 in JSON is 4/3 of the content and its line ends; the rest of the JSON is small. A size
    that is not trusted may be wrong by one damaged digit, and still limits a decompression bomb.
    """
    if size is None:
        most = MAX_BLOB_BYTES
    else:
        most = min(MAX_BLOB_BYTES, size if trusted else 16 * size + (1 << 20))
    return most * 3 // 2 + JSON_OVERHEAD_BYTES


def content_of(response: Response, blob: str, subject: str) -> Iterable[bytes]:
    """Return the file's bytes, also from servers that answer JSON instead of raw bytes."""
    if is_json_answer(response):
        return _from_json(response, blob, subject)
    return response.chunks()


def is_json_answer(response: Response) -> bool:
    """Return whether the answer holds the file in JSON.

    Source: GitHub's raw answers say `application/vnd.github.v3.raw; charset=utf-8` or
    `...raw+json`, whatever the file holds.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return ".raw" not in kind and (kind == "application/json" or kind.endswith("+json"))


def _from_json(response: Response, blob: str, subject: str) -> Iterator[bytes]:
    """Yield the file in a JSON answer.

    A small answer is read whole; a larger one is decoded as it arrives, to use little memory.
    """
    chunks, max_whole = response.chunks(), bound_of("file_json").body_bytes
    start = bytearray()
    for chunk in chunks:
        start += chunk
        if len(start) > max_whole:
            yield from _decode_stream(bytes(start), chunks)
            return
    yield _decode_whole(bytes(start), blob, subject)


def _decode_whole(body: bytes, blob: str, subject: str) -> bytes:
    if blob_id(body) == blob:
        return body  # a JSON file, served under its own type
    found = parse_json(body, subject, "file_json")
    content = found.get("content") if isinstance(found, dict) else None
    if isinstance(found, dict) and found.get("encoding") == "none":
        raise TooLargeError(f"{subject} is too large for this answer", status=200)
    if not isinstance(content, str) or found.get("encoding") != "base64":
        raise BadResponseError("JSON that is neither the file nor holds it")
    return _decode_base64(content)  # GitHub breaks the text into lines


def _decode_stream(start: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of a large JSON answer, else the answer as it is.

    The blob's id says whether that was right.
    """
    match = JSON_CONTENT.match(start)
    if match is None:
        yield start
        yield from chunks
        return
    left = b""
    for chunk in chain([start[match.end() :]], chunks):
        text, quote, _ = chunk.partition(b'"')
        # the n of an escaped line end would be taken for a letter; an escape may be cut in two
        text = left + text
        cut = len(text) - 1 if text.endswith(b"\\") else len(text)
        letters = text[:cut].replace(b"\\n", b"").translate(None, NOT_BASE64)
        whole = len(letters) - len(letters) % 4 if not quote else len(letters)
        left = letters[whole:] + text[cut:]
        yield _decode_base64(letters[:whole])
        if quote:
            return
    raise BadResponseError("JSON that is neither the file nor holds it")


def _decode_base64(letters: bytes | str) -> bytes:
    """Decode base64, without `validate`, which would refuse line ends."""
    try:
        return base64.b64decode(letters)
    except (binascii.Error, ValueError) as error:
        raise BadResponseError("base64 that can't be read") from error
