"""The lines that differ between two versions of a file, with a bound on the work.

The algorithm is Myers' (E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986), as
in git. Its work grows with the number of lines that differ, so that is what is bounded. `difflib`
has no bound: 28 KiB of repeated lines take it half a minute.

Bytes, lines, differences, steps and the length of the result are bounded, whatever the two versions
hold. The caller decides who may see the lines, and makes them printable. Pure: no I/O.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from msgspec import Struct

from syncd.redaction import redact_lines

MAX_BYTES = 256 << 10  # bytes of one version
MAX_LINE_CHARS = 500  # characters
MAX_LINES = 2000  # of one diff
MAX_DIFFERENCES = (
    1000  # lines removed and added; the search keeps half its square in memory, 4 bytes each
)
MAX_STEPS = 1_000_000  # of one diff; a fifth of a second
CONTEXT_LINES = 2
BYTES_PER_STEP = 64  # of reading: splitting and comparing them takes about as long as one step

Block = tuple[int, int, int, int]  # lines [a, b) of the old version became [c, d) of the new one


class DiffBudget(Struct):
    """How many steps are left for several diffs together.

    A diff that would need more is not made: it raises WorkBudgetExhausted.
    """

    steps: int


class DiffBudgetExhausted(Exception):
    """The work that the caller allowed is used up."""


class TooDifferentError(Exception):
    """The bound of one diff is reached."""


def readable_by_all(mode: int) -> bool:
    """Return whether a file of this mode may be shown to all: every user may read it on disk.

    Contract section 1, "Diffs".
    """
    return bool(mode & 0o004)


def changed_lines(
    old: bytes | None, new: bytes | None, work: DiffBudget | None = None, masked: bool = True
) -> list[str] | str:
    """Return the lines of a unified diff without its head; or, in words, why there are none.

    There are none for content that is binary, large, too different, or no longer kept (None).
    `masked`: secrets that syncd knows are masked. Raises WorkBudgetExhausted when `work` is given
    and is not enough.
    """
    if old is None or new is None:
        return "the bytes are not kept any more"
    if b"\0" in old + new or max(len(old), len(new)) > MAX_BYTES:
        return "binary or large"
    _spend(work, 1 + (len(old) + len(new)) // BYTES_PER_STEP)
    before, after = _lines(old, masked), _lines(new, masked)
    try:
        lines = _unified(before, after, _blocks(before, after, work))
    except TooDifferentError as error:
        return str(error)
    return lines or ("the difference is only in what is masked" if old != new else [])


def _lines(content: bytes, masked: bool) -> list[str]:
    """Return the lines, each with its line end; the last one may have none.

    Only a line feed ends a line, as in git.
    """
    text = content.decode("utf-8", "replace")
    lines = (redact_lines(text) if masked else text).split("\n")
    last = lines.pop()
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def _spend(work: DiffBudget | None, steps: int) -> None:
    if work is not None:
        work.steps -= steps
        if work.steps < 0:
            raise DiffBudgetExhausted


def _blocks(before: Sequence[str], after: Sequence[str], work: DiffBudget | None) -> list[Block]:
    """Return which lines were replaced by which, in order."""
    start, end_a, end_b = 0, len(before), len(after)
    while start < min(end_a, end_b) and before[start] == after[start]:
        start += 1
    while min(end_a, end_b) > start and before[end_a - 1] == after[end_b - 1]:
        end_a, end_b = end_a - 1, end_b - 1
    if start in (end_a, end_b):
        return [(start, end_a, start, end_b)] if end_a + end_b > 2 * start else []
    old, new = before[start:end_a], after[start:end_b]
    gone, come = _flags(old, new, work)
    return [(a + start, b + start, c + start, d + start) for a, b, c, d in _flagged(gone, come)]


def _flags(
    old: Sequence[str], new: Sequence[str], work: DiffBudget | None
) -> tuple[bytearray, bytearray]:
    """Return for each line of either version a 1 where it is not in the other one.

    A line without an equal one in the other version is not searched for.
    """
    numbers = {line: number for number, line in enumerate(set(old) & set(new))}
    kept_a = [place for place, line in enumerate(old) if line in numbers]
    kept_b = [place for place, line in enumerate(new) if line in numbers]
    gone, come = (
        bytearray(line not in numbers for line in old),
        bytearray(line not in numbers for line in new),
    )
    for x, y, removed in _edits(
        [numbers[old[place]] for place in kept_a], [numbers[new[place]] for place in kept_b], work
    ):
        if removed:
            gone[kept_a[x]] = 1
        else:
            come[kept_b[y]] = 1
    return gone, come


def _flagged(gone: bytearray, come: bytearray) -> Iterator[Block]:
    x = y = 0
    while x < len(gone) or y < len(come):
        a, c = x, y
        while x < len(gone) and gone[x]:
            x += 1
        while y < len(come) and come[y]:
            y += 1
        if (a, c) != (x, y):
            yield a, x, c, y
        else:
            x, y = x + 1, y + 1


def _edits(
    old: Sequence[int], new: Sequence[int], work: DiffBudget | None
) -> list[tuple[int, int, bool]]:
    """Return the shortest edit script: (line of old, line of new, whether it was removed), in
    order.
    """
    furthest, trace, steps = {1: 0}, [], 0
    size_a, size_b = len(old), len(new)
    most = min(MAX_STEPS, work.steps) if work is not None else MAX_STEPS
    for differences in range(min(size_a + size_b, MAX_DIFFERENCES) + 1):
        trace.append(
            array(
                "i",
                [furthest.get(diagonal, 0) for diagonal in range(-differences, differences + 1)],
            )
        )
        steps += 2 * differences
        for diagonal in range(-differences, differences + 1, 2):
            down = diagonal == -differences or (
                diagonal != differences and furthest[diagonal - 1] < furthest[diagonal + 1]
            )
            x = began = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            while x < size_a and x - diagonal < size_b and old[x] == new[x - diagonal]:
                x += 1
            furthest[diagonal] = x
            steps += 1 + x - began
            if x >= size_a and x - diagonal >= size_b:
                _spend(work, steps)
                return _edits_along(trace, size_a, size_b)
        if steps > most:
            break
    if steps > most < MAX_STEPS:
        raise DiffBudgetExhausted
    _spend(work, min(steps, most))
    raise TooDifferentError(f"too different to compare: {size_a:,} lines gave way to {size_b:,}")


def _edits_along(trace: Sequence[array[int]], x: int, y: int) -> list[tuple[int, int, bool]]:
    edits = []
    for differences in range(len(trace) - 1, 0, -1):
        furthest, diagonal = trace[differences], x - y
        down = diagonal == -differences or (
            diagonal != differences
            and furthest[diagonal - 1 + differences] < furthest[diagonal + 1 + differences]
        )
        before = diagonal + 1 if down else diagonal - 1
        x = furthest[before + differences]
        y = x - before
        edits.append((x, y, not down))
    return edits[::-1]


def _unified(before: Sequence[str], after: Sequence[str], blocks: Sequence[Block]) -> list[str]:
    """Return the lines as `diff -U2` writes them, at most MAX_LINES."""
    lines: list[str] = []
    for hunk in _hunks(blocks):
        low_a, low_b = max(0, hunk[0][0] - CONTEXT_LINES), max(0, hunk[0][2] - CONTEXT_LINES)
        high_a, high_b = (
            min(len(before), hunk[-1][1] + CONTEXT_LINES),
            min(len(after), hunk[-1][3] + CONTEXT_LINES),
        )
        lines.append(f"@@ -{_range(low_a, high_a)} +{_range(low_b, high_b)} @@")
        at = low_a
        for start, end, first, last in hunk:
            for sign, part in (
                (" ", before[at:start]),
                ("-", before[start:end]),
                ("+", after[first:last]),
            ):
                lines += [one for line in part for one in _line(sign, line)]
            at = end
        lines += [one for line in before[at:high_a] for one in _line(" ", line)]
        if len(lines) > MAX_LINES:
            return [*lines[:MAX_LINES], "\\ more lines differ; they are not shown"]
    return lines


def _hunks(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Yield the blocks in groups: those whose context would touch are one group."""
    hunk: list[Block] = []
    for block in blocks:
        if hunk and block[0] - hunk[-1][1] > 2 * CONTEXT_LINES:
            yield hunk
            hunk = []
        hunk.append(block)
    if hunk:
        yield hunk


def _range(low: int, high: int) -> str:
    return f"{low + 1}" if high - low == 1 else f"{low + (high > low)},{high - low}"


def _line(sign: str, line: str) -> Iterator[str]:
    text = line.removesuffix("\n")
    yield sign + (
        text
        if len(text) <= MAX_LINE_CHARS
        else f"{text[:MAX_LINE_CHARS]}… ({len(text) - MAX_LINE_CHARS:,} more characters)"
    )
    if text == line:
        yield "\\ No newline at end of file"


__all__ = ["MAX_BYTES", "DiffBudget", "DiffBudgetExhausted", "changed_lines", "readable_by_all"]
