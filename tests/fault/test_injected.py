"""What strace's lines say about the call that was made to fail."""

from __future__ import annotations

import pytest

from tests.fault.syscalls import injected

MAIN, OTHER = 100, 101
WHOLE = '100 openat(AT_FDCWD</>, ""..., O_RDONLY) = -1 EIO (Input/output error) (INJECTED)'
BEGUN, ENDED = (
    "100 close(3</srv/x> <unfinished ...>",
    "100 <... close resumed>) = -1 EIO (Input/output error) (INJECTED)",
)
AHEAD = "101 close(4</srv/y>) = -1 EIO (Input/output error) (INJECTED)"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["100 close(3</srv/z>) = 0"], None),
        ([WHOLE], (WHOLE, True)),
        ([WHOLE.removeprefix("100 ")], (WHOLE.removeprefix("100 "), True)),
        ([BEGUN, "101 close(4</srv/z>) = 0", ENDED], (BEGUN + ENDED, True)),
        ([AHEAD], (AHEAD, False)),
        ([AHEAD, WHOLE], (WHOLE, True)),
        ([BEGUN, AHEAD, ENDED], (BEGUN + ENDED, True)),
    ],
    ids=[
        "none",
        "whole",
        "one thread",
        "in two lines",
        "another thread's",
        "in each thread",
        "in each thread, in two lines",
    ],
)
def test_a_failed_call_is_told_whole_and_by_who_made_it(
    lines: list[str], told: tuple[str, bool] | None
) -> None:
    assert injected(lines, MAIN) == told
