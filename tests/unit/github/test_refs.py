"""How a ref is spelt, what makes a head known, and who asks."""

from __future__ import annotations

import pytest

from syncd.errors import BadResponseError
from syncd.github.protocol import get
from syncd.github.refs import if_none_match, parse_commit_id
from syncd.github.request import Answer
from syncd.ports import Head
from syncd.ref_names import ref_spellings

COMMIT = "1f3ac90" + "0" * 33
REQUEST = get(
    "https://api.test", "/repos/acme/infra/commits/HEAD", "head", "main of acme/infra", "acme/infra"
)


@pytest.mark.parametrize(
    ("ref", "spellings"),
    [
        (None, ["HEAD"]),
        ("HEAD", ["HEAD"]),
        (COMMIT, [COMMIT]),
        ("main", ["heads/main", "tags/main", "main"]),
        ("feature/x", ["heads/feature/x", "tags/feature/x", "feature/x"]),
        ("refs/heads/main", ["heads/main"]),
        ("refs/tags/v1", ["tags/v1"]),
        ("refs/pull/7/head", ["pull/7/head"]),
        (COMMIT[:7], [f"heads/{COMMIT[:7]}", f"tags/{COMMIT[:7]}", COMMIT[:7]]),
    ],
)
def test_a_ref_is_asked_for_in_the_spellings_that_github_knows(
    ref: str | None, spellings: list[str]
) -> None:
    assert ref_spellings(ref) == spellings


@pytest.mark.parametrize(
    ("known", "sent"),
    [
        (None, None),
        (Head(COMMIT), f'"{COMMIT}"'),
        (Head(COMMIT, f'"{COMMIT}"'), f'"{COMMIT}"'),
        (Head(COMMIT, f'W/"{COMMIT}"'), f'"{COMMIT}"'),
        (Head(COMMIT, 'W/"abc"'), f'"{COMMIT}", W/"abc"'),
    ],
)
def test_what_is_known_is_asked_for_by_commit_and_by_any_other_etag(
    known: Head | None, sent: str | None
) -> None:
    assert if_none_match(known) == sent


@pytest.mark.parametrize(
    "body",
    [COMMIT.encode(), f" {COMMIT}\n".encode(), f'{{"sha": "{COMMIT}", "commit": {{}}}}'.encode()],
)
def test_a_commit_id_is_read_from_text_and_json(body: bytes) -> None:
    assert parse_commit_id(REQUEST, Answer(200, {}, body)) == COMMIT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>sign in</html>",
        b"{",
        b"{}",
        b'{"sha": 5}',
        b'{"sha": null}',
        b"[]",
        COMMIT[:-1].encode(),
        COMMIT.upper().encode() + b"A",
        b"\xff" * 40,
    ],
)
def test_anything_else_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponseError):
        parse_commit_id(REQUEST, Answer(200, {}, body))
