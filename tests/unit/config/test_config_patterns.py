"""Gitignore patterns: what is taken, and what a hostile name could keep busy."""

from __future__ import annotations

import pytest

from syncd.config.value_types import MAX_ASTERISKS, patterns
from syncd.models import PathRule
from syncd.patterns import path_filter


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("*.conf", "*.conf"),
        ("**/x", "**/x"),
        ("!**/x", "!**/x"),
        ("/**", "/**"),
        ("a/**/b", "a/**/b"),
        ("a***b", "a*b"),
        ("a**/b", "a*/b"),
        ("***", "*"),
        (r"\***b", r"\**b"),
        (r"\*\*", r"\*\*"),
        ("r" + "*" * 1000 + "e", "r*e"),
    ],
)
def test_asterisks_in_a_row_are_one_but_for_a_name_of_two(written: str, meant: str) -> None:
    assert patterns([written]) == (meant,)


@pytest.mark.parametrize(
    "written",
    ["*a" * (MAX_ASTERISKS + 1), "**/" * (MAX_ASTERISKS + 1) + "x", "x/[a]*?*?*?*?*"],
)
def test_what_a_long_name_could_keep_busy_for_ever_is_a_mistake(written: str) -> None:
    with pytest.raises(ValueError, match="asterisks"):
        patterns([written])


def test_a_long_name_and_as_many_asterisks_as_may_be_come_to_an_end() -> None:
    chosen = path_filter(
        PathRule("a", "/a", True, include=patterns(["*".join("b" * MAX_ASTERISKS) + "*c"]))
    )
    assert not chosen("b" * 255)
