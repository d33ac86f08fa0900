"""What somebody may have meant by a name that is not there."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """The end of a sentence about `word`: which of the names is close to it, or `otherwise` when none is."""
    close = closest(word, names)
    return f"; did you mean '{close}'?" if close is not None else otherwise


LONGEST = 128  # characters of a word and of a name: comparing two costs up to the square of their length
COMPARED = 500  # names, those of nearly the same length first


def closest(word: str, names: Iterable[str]) -> str | None:
    """The name that is close to `word`, if one is. Looks at a bounded number of names of a bounded length."""
    import difflib  # here, because it takes 6 ms to load and most runs have nothing to ask it
    import heapq

    if len(word) > LONGEST:
        return None
    short = (name for name in names if len(name) <= LONGEST)
    likely = heapq.nsmallest(COMPARED, short, key=lambda name: abs(len(name) - len(word)))
    return next(iter(difflib.get_close_matches(word, likely, 1)), None)
