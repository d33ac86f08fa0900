"""When an equal stat proves equal bytes: the pure rules."""

from __future__ import annotations

import pytest

from syncd.mirror.racy import is_coarse, is_racy, is_racy_after
from syncd.models import Kind, LocalFile, Stat

NOW = 1_795_262_400_250_000_001  # a quarter past a second
SECOND, MS = 1_000_000_000, 1_000_000
WHOLE = 1_795_262_400_000_000_000

LOOKS = [  # what happened, mtime, ctime, whether it is racy
    ("written this tick", NOW, NOW, True),
    ("written 20 ms ago", NOW - 20 * MS, NOW - 20 * MS, True),
    ("written more than 20 ms ago", NOW - 20 * MS - 1, NOW - 20 * MS - 1, False),
    ("written an hour ago", NOW - 3600 * SECOND, NOW - 3600 * SECOND, False),
    ("renamed this tick, written an hour ago", NOW - 3600 * SECOND, NOW, True),
    ("written this tick where ctime does not move", NOW, 1, True),
    ("in the second of now, on whole seconds", WHOLE, WHOLE, True),
    ("a second before, on whole seconds", WHOLE - SECOND, WHOLE - SECOND, True),
    ("two seconds before, on whole seconds", WHOLE - 2 * SECOND, WHOLE - 2 * SECOND, False),
    ("whole ctime, mtime set to a fraction", NOW - 3600 * SECOND, WHOLE - SECOND, True),
    ("whole mtime as tar sets it, changed 1 s ago", WHOLE - SECOND, NOW - SECOND, True),
    ("whole mtime as tar sets it, changed 3 s ago", WHOLE - 9 * SECOND, NOW - 3 * SECOND, False),
    ("10 ms in the future", NOW + 10 * MS, NOW + 10 * MS, True),
    (
        "an hour in the future: the clock was set back",
        NOW + 3600 * SECOND,
        NOW + 3600 * SECOND,
        False,
    ),
]


def stat(mtime_ns: int, ctime_ns: int) -> Stat:
    return Stat(1, 2, 3, mtime_ns, ctime_ns)


@pytest.mark.parametrize(
    ("mtime", "ctime", "racy"), [row[1:] for row in LOOKS], ids=[row[0] for row in LOOKS]
)
def test_a_stat_is_racy_while_a_stamp_is_within_the_step(
    mtime: int, ctime: int, racy: bool
) -> None:
    assert is_racy(stat(mtime, ctime), NOW) is racy


@pytest.mark.parametrize(
    ("now", "racy"),
    [
        (WHOLE + 2 * SECOND, True),
        (
            WHOLE + 2 * SECOND + 9 * MS,
            True,
        ),  # a write still gets the tick before, and so the step before
        (WHOLE + 2 * SECOND + 10 * MS + 1, False),
    ],
)
def test_the_step_of_a_whole_second_ends_a_tick_late(now: int, racy: bool) -> None:
    assert is_racy(stat(WHOLE, WHOLE), now) is racy


@pytest.mark.parametrize(
    ("mtime", "ctime", "before", "racy"),
    [
        (NOW - 30 * MS, NOW, NOW - 30 * MS, False),  # as it was published
        (NOW, NOW, NOW - 30 * MS, True),  # edited since
        (NOW - 50 * MS, NOW, NOW - 30 * MS, True),  # edited since, and given another mtime
        (WHOLE - 9 * SECOND, WHOLE, WHOLE - 9 * SECOND, True),  # whole seconds: an edit may hide
        (WHOLE - 9 * SECOND, NOW, WHOLE - 9 * SECOND, True),  # perhaps whole seconds
    ],
)
def test_after_a_rename_the_mtime_decides(mtime: int, ctime: int, before: int, racy: bool) -> None:
    assert is_racy_after(stat(mtime, ctime), before) is racy


@pytest.mark.parametrize(
    ("mtime", "ctime", "coarse"),
    [(NOW, NOW, False), (WHOLE, NOW, True), (NOW, WHOLE, True), (WHOLE, WHOLE, True)],
)
def test_one_whole_second_makes_stamps_coarse(mtime: int, ctime: int, coarse: bool) -> None:
    assert is_coarse(stat(mtime, ctime)) is coarse


def test_a_smudged_stat_equals_no_stat_and_keeps_the_device() -> None:
    found = stat(NOW, NOW)
    racy = LocalFile(Kind.FILE, "0" * 40, 0o644, 0, 0, found, racy=True)
    known = LocalFile(Kind.FILE, "0" * 40, 0o644, 0, 0, found)
    assert known.recordable_stat == found
    assert racy.recordable_stat == Stat(1, 2, -1, NOW, NOW)
