"""Fuzzing of diffs: python -m tests.fuzz.diffs -max_total_time=60

The input is two versions of a file with a byte 1 between them. Whatever they hold: applied to the
old version the diff makes the new one, or it is said why there is none; and it takes bounded time
and memory.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.fuzz.harness import Measured, fuzz, instrumented

with instrumented("syncd.diff"):
    from syncd.diff import MAX_LINES, changed_lines

MEASURED = Measured(seconds=5.0, peak_bytes=64 << 20)


def one(data: bytes) -> None:
    old, _, new = data.partition(b"\1")
    old, new = old * _times(old), new * _times(new)
    with MEASURED:
        lines = changed_lines(old, new)
    if isinstance(lines, str):
        return
    if len(lines) > MAX_LINES + 1 or sum(map(len, lines)) > 600 * MAX_LINES:
        raise AssertionError(f"a diff of {len(lines)} lines")
    if not any(
        "\N{HORIZONTAL ELLIPSIS}" in line or line.startswith("\\ more") or "***" in line
        for line in lines
    ):
        _check(old.decode("utf-8", "replace"), new.decode("utf-8", "replace"), lines)


def _times(part: bytes) -> int:
    """Some versions are repeated: what is short to write is long to compare."""
    return 1 << min(part[0] % 16, 12) if part[:1] > b"\xe0" and len(part) < 60 else 1


def _check(old: str, new: str, lines: list[str]) -> None:
    before, after = old.split("\n"), new.split("\n")
    at_old = at_new = 0
    for line in lines:
        if line.startswith("@@"):
            low, high = (part.partition(",") for part in line.split()[1:3])
            first = int(low[0][1:]) - (low[2] != "0")
            if before[at_old:first] != after[at_new : int(high[0][1:]) - (high[2] != "0")]:
                raise AssertionError("lines between two hunks differ")
            at_old, at_new = first, int(high[0][1:]) - (high[2] != "0")
        elif not line.startswith("\\"):
            if line[0] in " -":
                if before[at_old] != line[1:]:
                    raise AssertionError(f"{line!r} is not line {at_old} of the old version")
                at_old += 1
            if line[0] in " +":
                if after[at_new] != line[1:]:
                    raise AssertionError(f"{line!r} is not line {at_new} of the new version")
                at_new += 1
    if lines and [line for line in before[at_old:] if line] != [
        line for line in after[at_new:] if line
    ]:
        raise AssertionError("lines after the last hunk differ")
    if not lines and old != new:
        raise AssertionError("a difference that is not shown")


def seeds() -> Iterator[bytes]:
    yield b"one\ntwo\nthree\n\1one\n2\nthree\n"
    yield b"a\r\nb\1a\nb\n"
    yield b"\1new\n"
    yield b"\xf1a\nb\n\1\xf2b\na\na\n"
    yield b"\xfba\nb\n\1\xfbb\na\na\n"
    yield b"\xeca\nb\nc\nd\n\1\xecd\nc\nb\na\n"
    yield "\u2028\u202e\x85line\n\1line\n".encode()
    yield (
        b"".join(b"%d\n" % (number * number % 97) for number in range(900))
        + b"\1"
        + b"".join(b"%d\n" % (number * 7 % 89) for number in range(900))
    )
    yield b"-eyJ" * 500 + b"\1" + b"eyJ-" * 500


WORDS = ["\\x01", "\\x0a", "a\\x0ab\\x0a", "\\xfc", "***", "@@ -1 +1 @@"]

if __name__ == "__main__":
    fuzz(one, seeds(), WORDS)
