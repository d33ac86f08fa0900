"""What was reported of a job is kept as one text."""

from __future__ import annotations

import pytest

from syncd.notifications.reported import Reported, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Reported()),
        ("failed", Reported("failed")),
        ("status=abc:success", Reported(None, {"status": "abc:success"})),
        ("drift stale=1 waiting=abc", Reported("drift", {"stale": "1", "waiting": "abc"})),
    ],
)
def test_the_text_and_its_meaning(text: str | None, expected: Reported) -> None:
    assert parse(text) == expected and expected.text() == text


def test_a_mark_is_set_and_removed() -> None:
    marked = Reported("failed").with_mark("status", "a=b").with_mark("stale", "1")
    assert marked.text() == "failed stale=1 status=a=b" and parse(marked.text()) == marked
    assert marked.with_mark("stale", None).with_mark("status", None) == Reported("failed")
