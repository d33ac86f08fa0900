"""The man pages: one for each command, in its own words, and no text that roff takes for markup."""

from __future__ import annotations

from types import ModuleType

import pytest

from syncd.cli.main import COMMANDS
from tests.support.packaging_modules import packaging_module


@pytest.fixture(scope="module")
def man() -> ModuleType:
    return packaging_module("man")


@pytest.fixture(scope="module")
def pages(man: ModuleType) -> dict[str, str]:
    found: dict[str, str] = man.pages("2026-11-29")
    return found


def test_each_command_and_subcommand_has_a_page(pages: dict[str, str]) -> None:
    assert {"syncd.1", *(f"syncd-{name}.1" for name in COMMANDS)} <= set(pages)
    assert {"syncd-trash-list.1", "syncd-trash-restore.1"} <= set(pages)


def test_a_page_has_the_options_and_exit_codes_of_its_command(pages: dict[str, str]) -> None:
    page = pages["syncd-sync.1"]
    assert ".SH NAME\nsyncd\\-sync \\- bring the jobs in sync once\n" in page
    assert ".TP\n\\fB\\-\\-allow\\-delete N\\fR\n" in page
    assert ".TP\n\\fB11\\fR\nanother syncd holds the job\n" in page
    assert ".TP\n\\fBSYNCD_CONFIG\\fR\n" in page


@pytest.mark.parametrize(
    ("words", "roff"),
    [
        (".conf files", "\\&.conf files"),
        ("'quoted'", "\\&'quoted'"),
        ("one\n.two", "one\n\\&.two"),
        ("a\\b", "a\\eb"),
        ("--now", "\\-\\-now"),
        ("~/.config", "\\(ti/.config"),
    ],
)
def test_text_is_shown_as_it_is(man: ModuleType, words: str, roff: str) -> None:
    assert man.text(words) == roff
