"""Choosing from a long list: by number, by a part of a name, and by a whole name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.cli.wizard import terminal

NAMES = [f"acme/app-{number:02}" for number in range(20)] + ["acme/infra", "acme/infra-old", "b/x"]

# what is typed, one answer after the other -> what is chosen
CHOICES = [
    (["1"], "acme/app-00"),
    (["12"], "acme/app-11"),
    (["acme/infra"], "acme/infra"),
    (["ACME/INFRA"], "acme/infra"),
    (["b/"], "b/x"),
    (["-old"], "acme/infra-old"),
    (["infra", "2"], "acme/infra-old"),
    (["app-1", "1"], "acme/app-10"),
    (["app-1", "05"], "acme/app-14"),
    (["13"], "acme/app-13"),  # no number that is shown, but a part of one name
    (["99", "zzz", "acme/app-12"], "acme/app-12"),
    (["", "1"], "acme/app-00"),
]


def answers(monkeypatch: pytest.MonkeyPatch, typed: list[str]) -> None:
    left: Iterator[str] = iter(typed)
    monkeypatch.setattr(terminal, "read_line", lambda question: next(left))


def known(text: str) -> str | None:
    return text if text in NAMES else None


@pytest.mark.parametrize(("typed", "chosen"), CHOICES)
def test_a_name_is_chosen(monkeypatch: pytest.MonkeyPatch, typed: list[str], chosen: str) -> None:
    answers(monkeypatch, typed)
    assert terminal.pick("Repository", NAMES, known) == chosen


def test_a_long_list_is_cut_and_says_how_to_see_fewer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, ["infra", "1"])
    terminal.pick("Repository", NAMES, known)
    shown = capsys.readouterr().err.splitlines()
    assert shown[11:15] == [
        "  12  acme/app-11",
        "      and 11 more: type a part of the name to see fewer",
        "   1  acme/infra",
        "   2  acme/infra-old",
    ]


def test_a_name_that_is_not_in_the_list_gets_a_similar_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(monkeypatch, ["acme/infar", "1"])
    terminal.pick("Repository", NAMES, known)
    expected = "  ✕ 'acme/infar' is not in the list; did you mean 'acme/infra'?"
    assert expected in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("text", ["<", "back", " BACK "])
def test_back_is_no_answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    answers(monkeypatch, [text])
    with pytest.raises(terminal.GoBack):
        terminal.ask("Where to", str)


@pytest.mark.parametrize("text", ["a\x1b[200~b", "a\x00", "a\u202eb", "a\udcffb"])
def test_an_answer_that_cannot_be_printed_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answers(monkeypatch, [text, "good"])
    assert terminal.ask("Where to", str) == "good"
