"""docs/stability.md: it names each JSON schema of the code, and pages and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncd.cli.main import COMMANDS

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/stability.md").read_text()
SCHEMA = re.compile(r"\bsyncd\.[a-z_.]+/\d+\b")


def test_the_page_has_one_row_for_each_schema_of_the_code_and_no_other() -> None:
    texts = [path.read_text() for path in (ROOT / "syncd").rglob("*.py")]
    used = {schema for text in texts for schema in SCHEMA.findall(text)}
    assert sorted(re.findall(r"^\| `(syncd\.\S+)` \|", PAGE, re.MULTILINE)) == sorted(used)


def test_each_command_that_prints_a_schema_is_a_command() -> None:
    rows = re.findall(r"^\| `syncd\.\S+` \| (.*) \|$", PAGE, re.MULTILINE)
    named = {one for row in rows for one in re.findall(r"`([a-z]+)[a-z ]* --json`", row)}
    assert len(named) == 11 and named <= set(COMMANDS)


def test_each_page_that_it_refers_to_is_there_and_has_the_heading() -> None:
    for name, anchor in re.findall(r"\]\(([\w/.-]+\.md)(?:#([\w-]+))?\)", PAGE):
        text = (ROOT / "docs" / name).read_text()
        headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}
        assert not anchor or anchor in anchors, f"{name}#{anchor}"
