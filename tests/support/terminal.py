"""A command on a terminal of its own, driven as a person does: read the question,
type the answer.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tests.support.fork_server import SYNCD, ForkedSyncd

SECONDS = 60.0  # until a question comes
AGAIN_SECONDS = 5.0  # until a user presses Ctrl-C once more
# Every module is loaded before the process becomes the user, who may not be able to read them.
AS_USER = """
import encodings, encodings.idna, importlib, os, pkgutil, sys
import certifi, requests, syncd
for one in pkgutil.walk_packages(syncd.__path__, "syncd."):
    if not one.name.endswith("__main__"):
        importlib.import_module(one.name)
for name in ("utf_8_sig", "idna", "ascii", "latin_1"):
    importlib.import_module(f"encodings.{name}")
from syncd.cli.main import run
from syncd.output import never_fail
uid = int(sys.argv[1])
never_fail()
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
sys.exit(run(sys.argv[2:]))
"""


class Screen:
    """One command on a terminal. `shown` is all that it wrote, as text.

    With `uid`, another user runs it; only root can do that.
    """

    def __init__(
        self, *arguments: str, env: Mapping[str, str], columns: int = 80, uid: int | None = None
    ) -> None:
        self._terminal, theirs = pty.openpty()
        size = struct.pack("HHHH", 50, columns, 0, 0)
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        options: dict[str, Any] = {
            "stdin": theirs,
            "stdout": theirs,
            "stderr": theirs,
            "env": {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TERM": "dumb", **env},
        }
        self._process: subprocess.Popen[Any] = (
            ForkedSyncd([SYNCD, *arguments], on_terminal=True, **options)
            if uid is None
            else subprocess.Popen(
                [sys.executable, "-c", AS_USER, str(uid), *arguments],
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                **options,
            )
        )
        os.close(theirs)
        self.shown, self._seen = "", 0
        self.raw = b""

    def answer(self, question: str, *texts: str) -> str:
        """Type each text when the question is asked; return what was shown from the first on."""
        start = None
        for text in texts:
            self.type(question, text)
            start = self._seen if start is None else start
        self._wait_for_any_question()
        return flat(self.shown[start:])

    def type(self, question: str, text: str) -> None:
        """Type the text when the question is asked, and wait for nothing."""
        self._wait_for(question)
        self._seen = len(self.shown)
        os.write(self._terminal, f"{text}\n".encode())

    def interrupt(self, question: str) -> None:
        """Type Ctrl-C when the question is asked, until the process has ended.

        A signal that comes after the question and before the read of its answer does not end that
        read: Python handles it at the next key.
        """
        self._wait_for(question)
        for _ in range(round(SECONDS / AGAIN_SECONDS)):
            self.press_ctrl_c()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(AGAIN_SECONDS)
                return

    def wait_for(self, text: str) -> None:
        """Read until the text is shown, which need not be a question."""
        while text not in flat(self.shown[self._seen :]):
            assert self._read(), f"no {text!r}:\n{self.shown}"

    def press_ctrl_c(self) -> None:
        """Type Ctrl-C now."""
        os.write(self._terminal, b"\x03")

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        code = self._process.wait(SECONDS)
        os.close(self._terminal)
        return code

    def kill(self) -> None:
        """End a command that a test left."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self.end()

    def _wait_for(self, question: str) -> None:
        while not (flat(self.shown[self._seen :]).rpartition(question)[1] and self._is_asking()):
            assert self._read(), f"no question {question!r}:\n{self.shown}"

    def _wait_for_any_question(self) -> None:
        while not self._is_asking() and self._read():
            pass

    def _is_asking(self) -> bool:
        """Return whether the last line is a question that is not answered yet."""
        return self.shown[self._seen :].endswith(": ")

    def _read(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], SECONDS)
        assert ready, f"nothing more in {SECONDS:g} s:\n{self.shown}"
        try:
            chunk = os.read(self._terminal, 65536)
        except OSError:  # the other end of a terminal ends with EIO
            return False
        self.raw += chunk
        self.shown = re.sub(r"\x1b\[[0-9;]*m", "", self.raw.decode("utf-8", "replace"))
        self.shown = self.shown.replace("\r\n", "\n")
        return bool(chunk)


def flat(text: str) -> str:
    """Return the text on one line: where a terminal breaks it says nothing."""
    return " ".join(text.split()) + (" " if text.endswith(" ") else "")
