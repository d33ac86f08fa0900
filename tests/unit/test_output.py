"""Whether colours are shown: the flag comes first, then the environment, then the terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd import output


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = output._colour
    yield
    output._colour = before


@pytest.mark.parametrize(
    ("flag", "environ", "shown"),
    [
        # None: on a terminal, and not in a pipe
        (None, {}, None),
        (None, {"NO_COLOR": "1"}, False),
        (None, {"NO_COLOR": ""}, None),
        (None, {"CLICOLOR_FORCE": "1"}, True),
        (None, {"CLICOLOR_FORCE": "0"}, None),
        (None, {"CLICOLOR_FORCE": ""}, None),
        (None, {"TERM": "dumb"}, False),
        (None, {"TERM": "xterm"}, None),
        (None, {"TERM": "dumb", "CLICOLOR_FORCE": "1"}, True),
        (None, {"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
        ("auto", {}, None),
        ("auto", {"NO_COLOR": "1"}, False),
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {}, False),
        ("never", {"CLICOLOR_FORCE": "1"}, False),
    ],
)
def test_the_flag_comes_before_the_environment(
    flag: str | None, environ: dict[str, str], shown: bool | None
) -> None:
    output.use_colour(flag, environ)
    assert output._colour is shown
