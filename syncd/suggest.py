"""What somebody may have meant by a name that is not there."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about `word`: which of the names is close to it, or `otherwise` when none is."""
    close = closest(word, names)
    return f"; did you mean '{close}'?" if close is not None else otherwise


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that is close to `word`, if one is."""
    import difflib  # here, because it takes 6 ms to load and most runs have nothing to ask it

    return next(iter(difflib.get_close_matches(word, list(names), 1)), None)
