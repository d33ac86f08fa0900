"""Which way blobs come, and how the bytes are told from what they are wrapped in."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import BadResponseError
from syncd.git_objects import blob_id
from syncd.github.error_responses import TooLargeError
from syncd.github.fetch import ARCHIVE_THRESHOLD, choose_fetch_method
from syncd.github.file_content import (
    MAX_BLOB_BYTES,
    content_of,
    is_json_answer,
    max_response_bytes,
)


class Canned:
    def __init__(self, kind: str, body: bytes) -> None:
        self.status, self.url, self._body = 200, "https://api.test", body
        self.headers: Mapping[str, str] = {"content-type": kind}

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), 7):
            yield self._body[start : start + 7]

    def close(self) -> None:
        """Nothing is held."""


def got(kind: str, body: bytes, blob: str = "0" * 40) -> bytes:
    return b"".join(content_of(Canned(kind, body), blob, "a file"))


def test_few_files_come_singly_and_many_by_the_archive() -> None:
    assert not choose_fetch_method(ARCHIVE_THRESHOLD, 10**6).use_tarball
    assert choose_fetch_method(ARCHIVE_THRESHOLD + 1, 10**6).use_tarball


def test_a_huge_repository_of_which_little_is_wanted_is_not_downloaded() -> None:
    assert not choose_fetch_method(150, 10**6, 3 << 30).use_tarball
    assert choose_fetch_method(2000, 8 << 20, 9 << 20).use_tarball


@given(st.integers(0, 10**5), st.integers(0, 10**10), st.integers(0, 10**11))
def test_a_larger_repository_never_speaks_for_its_archive(
    missing: int, wanted_bytes: int, more: int
) -> None:
    assert (
        choose_fetch_method(missing, wanted_bytes, wanted_bytes + more).use_tarball
        <= choose_fetch_method(missing, wanted_bytes, wanted_bytes).use_tarball
    )
    assert choose_fetch_method(missing, wanted_bytes).reason


@pytest.mark.parametrize(
    ("kind", "json_"),
    [
        ("application/vnd.github.v3.raw; charset=utf-8", False),
        ("application/vnd.github.raw+json; charset=utf-8", False),
        ("text/plain", False),
        ("", False),
        ("application/json; charset=utf-8", True),
        ("application/vnd.github+json", True),
        ("APPLICATION/JSON", True),
        ("application/octet-stream", False),
    ],
)
def test_raw_and_json_answers_are_told_by_their_type(kind: str, json_: bool) -> None:
    assert is_json_answer(Canned(kind, b"")) is json_


@given(st.binary(max_size=200))
def test_base64_with_line_breaks_is_the_content(content: bytes) -> None:
    text = base64.encodebytes(content).decode()
    assert (
        got(
            "application/json",
            json.dumps({"content": text, "encoding": "base64", "size": len(content)}).encode(),
        )
        == content
    )
    assert got("application/vnd.github.raw+json", content) == content


def test_json_that_is_the_file_itself_is_the_file() -> None:
    body = b'{"encoding": "base64", "content": "aGk="}'
    assert got("application/json", body, blob_id(body)) == body
    assert got("application/json", body, blob_id(b"hi")) == b"hi"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"encoding": "base64"}',
        b'{"encoding": "base64", "content": "a"}',
        b'{"encoding": "rot13", "content": "a"}',
        b'{"encoding": "base64", "content": "\\u00e9"}',
    ],
)
def test_json_that_holds_no_file_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponseError):
        got("application/json", body)


def test_encoding_none_says_that_another_way_is_needed() -> None:
    with pytest.raises(TooLargeError):
        got("application/json", b'{"encoding": "none", "content": "", "size": 2000000}')


@given(st.integers(0, MAX_BLOB_BYTES))
def test_the_cap_leaves_room_for_base64_and_none_for_a_bomb(size: int) -> None:
    longest = (
        len(base64.encodebytes(b"x" * min(size, 1000)))
        if size < 1000
        else size * 4 // 3 + size // 57 + 2
    )
    assert (
        longest + 10_000
        < max_response_bytes(size)
        <= max_response_bytes(size, trusted=False)
        <= max_response_bytes(None)
    )
    assert max_response_bytes(1000, trusted=False) < 2 << 20
