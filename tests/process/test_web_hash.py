"""`syncd web hash`: from a pipe, and on a terminal that shows nothing of the password."""

from __future__ import annotations

import os
import pty
import subprocess

import pytest
from werkzeug.security import check_password_hash

from syncd.config.web_secrets import PASSWORD_HASH
from tests.support.fork_server import MODULE, ForkedSyncd, run_forked

COMMAND = [*MODULE, "web", "hash"]
PASSWORD = "correct horse battery"


def piped(text: str) -> subprocess.CompletedProcess[str]:
    return run_forked(COMMAND, input=text, text=True, timeout=120)


@pytest.mark.parametrize("text", [PASSWORD, PASSWORD + "\n", PASSWORD + "\r\nmore\n"])
def test_a_line_of_a_pipe_becomes_a_hash(text: str) -> None:
    done = piped(text)
    assert (done.returncode, done.stderr) == (0, "")
    assert PASSWORD_HASH.fullmatch(done.stdout.removesuffix("\n"))
    assert check_password_hash(done.stdout.strip(), PASSWORD)
    assert piped(text).stdout != done.stdout, "each has a salt of its own"


@pytest.mark.parametrize("text", ["", "\n", "x" * 15 + "\n"])
def test_a_password_that_can_be_guessed_is_refused(text: str) -> None:
    done = piped(text)
    assert (done.returncode, done.stdout) == (2, "")
    assert "password: it is shorter than 16 characters and can be guessed" in done.stderr
    assert "xxx" not in done.stderr


def typed(*lines: str) -> tuple[int, str, str]:
    """Return the exit code, the output, and what the terminal showed."""
    ours, theirs = pty.openpty()
    with ForkedSyncd(
        COMMAND, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        shown = b""
        for line in lines:
            shown += until(ours, b": ")
            os.write(ours, line.encode() + b"\n")
        out = process.stdout.read() if process.stdout else ""
        code = process.wait(120)
    os.close(ours)
    return code, out, shown.decode()


def until(terminal: int, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        found += os.read(terminal, 4096)
    return found


def test_a_terminal_asks_twice_and_shows_no_password() -> None:
    code, out, shown = typed(PASSWORD, PASSWORD)
    assert code == 0 and check_password_hash(out.strip(), PASSWORD)
    assert "Password: " in shown and "Again: " in shown and PASSWORD not in shown
    assert typed(PASSWORD, PASSWORD + "x")[:2] == (2, "")
