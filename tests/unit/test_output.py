"""Whether colours are shown: the flag comes first, then the environment, then the terminal."""

from __future__ import annotations

import subprocess
import sys
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


def ended(lines: str) -> tuple[int, str]:
    """The exit code and the output of a process that runs these lines and then ends itself."""
    before = "import logging, logging.handlers, sys, threading, time\n"
    before += "from syncd.output import end_process, never_fail\nnever_fail()\n"
    code = f"{before}{lines}\nprint('end')\nend_process(3)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "end\n"),
        (
            "threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
            "end\nlate\n",
        ),
        ("threading.Thread(target=lambda: time.sleep(600), daemon=True).start()", "end\n"),
        (
            "import atexit; atexit.register(print, 'taken apart')\n"
            "logging.getLogger().addHandler(logging.handlers.MemoryHandler(\n"
            "    9, 99, logging.StreamHandler()))\nlogging.getLogger().error('kept')",
            "end\nkept\n",
        ),
    ],
    ids=["nothing left", "a thread at work", "a daemon thread", "a record in memory"],
)
def test_a_process_ends_at_once_and_loses_nothing(lines: str, said: str) -> None:
    assert ended(lines) == (3, said)
