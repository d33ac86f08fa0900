"""Makes Python encode file names as UTF-8, whatever the locale, and output suit the terminal.

File names are the repository's bytes, but Python encodes them as the locale says. Under a Latin-1
locale it would write `ü.conf` under another byte sequence than under UTF-8, beside the file of an
earlier run. So the command starts itself again, once, in Python's UTF-8 mode (PEP 540): same
process id, same environment, and nothing that a child process could inherit. Standard library only;
this runs before everything else.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from syncd.output import ALWAYS_PRINTS, ERRORS

OUTPUT = "syncd_output"  # -X option of ours: the encoding that output had before the second start
EXIT_FAILED = 1


def ensure_utf8_mode() -> None:
    """Return in a process that encodes file names as UTF-8 and can print any text.

    That may be this process started again. Leaves the process with a message and exit code 1 where
    that is impossible.
    """
    if sys.getfilesystemencoding() != "utf-8":
        _start_again()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            _print_anything(stream)


def _print_anything(stream: io.TextIOWrapper) -> None:
    encoding = sys._xoptions.get(OUTPUT)
    errors = stream.errors if stream.errors in ALWAYS_PRINTS else ERRORS
    stream.reconfigure(encoding=encoding if isinstance(encoding, str) else None, errors=errors)


def restart_command_line(executable: str, original: Sequence[str], output: str) -> list[str]:
    """Return the command line of the second start.

    `original` is `sys.orig_argv`, `output` the encoding for the terminal.
    """
    return [executable, "-X", "utf8=1", "-X", f"{OUTPUT}={output}", *original[1:]]


def _start_again() -> None:
    """Start again in UTF-8 mode. Raises SystemExit if that fails: no wrong name may be written."""
    reason = "Python stays in the locale's encoding"
    if OUTPUT not in sys._xoptions:
        output = sys.stdout.encoding if sys.stdout is not None else "utf-8"
        try:
            os.execv(sys.executable, restart_command_line(sys.executable, sys.orig_argv, output))
        except (
            OSError,
            ValueError,
            TypeError,
        ) as error:  # the last two: Python does not know its own executable
            reason = getattr(error, "strerror", None) or str(error)
    if sys.stderr is not None:
        sys.stderr.write(
            "syncd: tried to start Python in UTF-8 mode, because the locale's encoding"
            f" ({sys.getfilesystemencoding()}) can't name every file: {reason}; nothing was done\n "
            "   set a UTF-8 locale: LC_ALL=C.UTF-8 syncd ...\n"
        )
    sys.exit(EXIT_FAILED)


__all__ = ["ensure_utf8_mode"]
