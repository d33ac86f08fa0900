"""How the name in `ref:` is spelled to GitHub, and when a short name is checked for a second
meaning.

A short name such as `v1` may name a branch, a tag, or both. Which of them is followed must not
depend on what was stored before, so a name that is both is an error to correct in the
configuration. The check costs a request: it is made when the name is first resolved, when another
spelling answers to it, and once a day. `HEAD`, full commit ids and `refs/...` have one meaning and
are never checked. Pure: no I/O.
"""

from __future__ import annotations

from syncd.git_objects import is_object_id

CHECK_INTERVAL_SECONDS = (
    86_400.0  # a second ref of a short name is found after so long at the latest
)


def ref_spellings(ref: str | None) -> list[str]:
    """Return the spellings under which GitHub may know a ref, in the order in which they count."""
    if ref is None or ref == "HEAD":
        return ["HEAD"]
    if is_object_id(ref):
        return [ref]
    if ref.startswith("refs/"):
        return [ref.removeprefix("refs/")]
    return [f"heads/{ref}", f"tags/{ref}", ref]


def is_short(ref: str | None) -> bool:
    """Return whether the name may have more than one meaning."""
    return len(ref_spellings(ref)) > 1


def check_due_at(ref: str | None, checked_at: float | None) -> float:
    """Return when the name has to be checked again, in seconds since 1970.

    `checked_at` is when it was checked last.
    """
    if not is_short(ref):
        return float("inf")
    return float("-inf") if checked_at is None else checked_at + CHECK_INTERVAL_SECONDS


def is_check_due(ref: str | None, checked_at: float | None, now: float) -> bool:
    """Return whether the name has to be checked now.

    A check from the future, before a clock was set back, does not count.
    """
    in_future = is_short(ref) and checked_at is not None and checked_at > now
    return in_future or now >= check_due_at(ref, checked_at)


__all__ = ["CHECK_INTERVAL_SECONDS", "check_due_at", "is_check_due", "is_short", "ref_spellings"]
