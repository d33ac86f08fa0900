"""What somebody may have meant by a name that is not there."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about `word`: which of the names is close to it, or `otherwise` when none is."""
    import difflib  # here, because it takes 6 ms to load and most runs have nothing to ask it

    close = difflib.get_close_matches(word, names, 1)
    return f"; did you mean '{close[0]}'?" if close else otherwise
