"""Diffs of two versions: right, as small as they can be,
and bounded in work whatever the versions hold.
"""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd import diff
from syncd.diff import MAX_BYTES, MAX_LINES, DiffBudget, DiffBudgetExhausted, changed_lines
from syncd.redaction import Secret, add_secret


def lines_of(count: int, alphabet: int, seed: int) -> bytes:
    rng = random.Random(seed)
    return b"".join(b"%d\n" % rng.randrange(alphabet) for _ in range(count))


def patched(old: bytes, lines: list[str]) -> bytes:
    """The old version with a diff applied, as `patch` does it."""
    before, made, at = old.decode().splitlines(keepends=True) if old else [], [], 0
    for number, line in enumerate(lines):
        if line.startswith("@@"):
            start, _, size = line.split()[1][1:].partition(",")
            first = int(start) - (size != "0")
            made += before[at:first]
            at = first
        elif line[0] in " -":
            assert before[at].rstrip("\n") == line[1:]
            made += [before[at]] if line[0] == " " else []
            at += 1
        elif line[0] == "+":
            ends = not (number + 1 < len(lines) and lines[number + 1].startswith("\\"))
            made.append(line[1:] + "\n" * ends)
    return "".join(made + before[at:]).encode()


@settings(max_examples=150)
@given(
    *[
        st.lists(st.sampled_from(["a", "b", "c", ""]), max_size=14).map(
            lambda lines: "\n".join(lines).encode()
        )
    ]
    * 2
)
def test_a_diff_applied_to_the_old_version_makes_the_new_one(old: bytes, new: bytes) -> None:
    lines = changed_lines(old, new)
    assert isinstance(lines, list) and patched(old, lines) == new and bool(lines) is (old != new)


@pytest.mark.parametrize("seed", range(6))
def test_a_diff_is_as_small_as_that_of_the_diff_program(tmp_path: Path, seed: int) -> None:
    old, new = lines_of(120, 12, seed), lines_of(120, 12, seed + 100)
    (tmp_path / "old").write_bytes(old)
    (tmp_path / "new").write_bytes(new)
    wanted = subprocess.run(
        ["diff", "-U2", "-d", "old", "new"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()[2:]
    lines = changed_lines(old, new)
    assert isinstance(lines, list) and patched(old, lines) == new
    assert sum(line[0] in "+-" for line in lines) == sum(line[0] in "+-" for line in wanted)


def test_a_diff_in_the_form_of_the_diff_program() -> None:
    old, new = (
        b"".join(b"%d\n" % number for number in range(20)),
        b"".join(b"%d\n" % number for number in range(20) if number != 9) + b"end",
    )
    assert changed_lines(old, new) == [
        "@@ -8,5 +8,4 @@",
        " 7",
        " 8",
        "-9",
        " 10",
        " 11",
        "@@ -19,2 +18,3 @@",
        " 18",
        " 19",
        "+end",
        "\\ No newline at end of file",
    ]
    assert changed_lines(b"", b"a\n") == ["@@ -0,0 +1 @@", "+a"] and changed_lines(b"a\n", b"") == [
        "@@ -1 +0,0 @@",
        "-a",
    ]
    assert (
        changed_lines(b"a\r\n", b"a\n") == ["@@ -1 +1 @@", "-a\r", "+a"]
        and changed_lines(b"a", b"a") == []
    )


HOSTILE = {
    "two line texts repeated, shifted": (b"a\nb\n" * 3500, b"b\na\na\n" * 2300),
    "many equal lines in other orders": (lines_of(14_000, 2, 1), lines_of(14_000, 2, 2)),
    "a few lines in other orders": (lines_of(9_000, 40, 1), lines_of(9_000, 40, 2)),
    "nothing in common": (
        b"".join(b"a%d\n" % n for n in range(20_000)),
        b"".join(b"b%d\n" % n for n in range(20_000)),
    ),
    "one empty line after another": (b"\n" * MAX_BYTES, b"\nx" * (MAX_BYTES // 2)),
    "one long line": (b"a" * MAX_BYTES, b"b" * MAX_BYTES),
    "starts of assertions": (b"-eyJ" * (MAX_BYTES // 4), b"eyJ-" * (MAX_BYTES // 4)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_diff_ends_soon_and_is_bounded(name: str) -> None:
    old, new = HOSTILE[name]
    began = time.process_time()
    lines = changed_lines(old, new)
    assert time.process_time() - began < 4
    assert (
        len(lines) <= MAX_LINES + 1
        if isinstance(lines, list)
        else "too different to compare: " in lines
    )
    assert sum(map(len, lines)) < MAX_LINES * 600 if isinstance(lines, list) else len(lines) < 100


def test_a_large_change_to_a_large_file_is_still_shown() -> None:
    old = [b"%d\n" % number for number in range(15_000)]
    lines = changed_lines(
        b"".join(old),
        b"".join(old[:7000] + [b"x%d\n" % number for number in range(600)] + old[7600:]),
    )
    assert isinstance(lines, list) and len(lines) == 1 + 4 + 1200


def test_the_work_for_several_diffs_together_is_bounded() -> None:
    work = DiffBudget(diff.MAX_STEPS)
    lines = changed_lines(b"a\nb\n", b"b\na\n", work)
    assert isinstance(lines, list) and 0 < diff.MAX_STEPS - work.steps < 100
    with pytest.raises(DiffBudgetExhausted):
        for seed in range(20):
            changed_lines(lines_of(9_000, 40, seed), lines_of(9_000, 40, seed + 100), work)


def test_a_known_secret_is_masked_in_a_diff() -> None:
    add_secret(Secret("secret-in-a-diff-42"))
    assert changed_lines(b"a\nkey secret-in-a-diff-42\n", b"a\nkey x\n") == [
        "@@ -1,2 +1,2 @@",
        " a",
        "-key ***",
        "+key x",
    ]
    assert (
        changed_lines(b"secret-in-a-diff-42\n", b"***\n")
        == "the difference is only in what is masked"
    )
    assert changed_lines(b"secret-in-a-diff-42\n", b"x\n", masked=False) == [
        "@@ -1 +1 @@",
        "-secret-in-a-diff-42",
        "+x",
    ]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (None, b"", "the bytes are not kept any more"),
        (b"a\0", b"a", "binary or large"),
        (b"", b"a" * (MAX_BYTES + 1), "binary or large"),
    ],
)
def test_what_can_not_be_compared_is_said(old: bytes | None, new: bytes, why: str) -> None:
    assert changed_lines(old, new) == why
