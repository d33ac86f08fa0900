"""The output layer: the only code that writes to a terminal, with standard streams that never fail.

What happens to the output changes neither the work nor the exit code. Every text is made visible
here (`syncd.text`), once: no command does it itself, and no command writes in another way.

A closed descriptor leads to /dev/null, so that no file opened later becomes standard output. A
write that the system refuses (a closed pipe, a full disk) is dropped, and a character that the
terminal's encoding lacks is written as an escape. Python's own streams raise instead, at any
`print`, in any thread, and once more when the interpreter ends (exit code 120).

Standard library only until something is printed: this runs before everything else.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import NoReturn

STDIN, STDOUT, STDERR = 0, 1, 2
ERRORS = "backslashreplace"
ALWAYS_PRINTS = (ERRORS, "replace", "namereplace", "xmlcharrefreplace", "ignore")
DUMB_TERMINAL = "dumb"
_display: Callable[[], AbstractContextManager[object]] = nullcontext
_colour: bool | None = None  # None: where the stream is a terminal


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Write a text; everything in it that a terminal would interpret is escaped, except
    our styles.
    """
    import click

    from syncd.text import on_terminal

    with above_display():
        click.echo(on_terminal(text), err=err, nl=nl, color=_colour)


def use_colour(flag: str | None, environ: Mapping[str, str]) -> None:
    """Decide whether our styles are shown, from `--color` and the environment.

    `--color always|never` comes first, then NO_COLOR (https://no-color.org), then CLICOLOR_FORCE
    (https://bixense.com/clicolors), then whether the stream is a terminal that knows styles.
    """
    global _colour
    if flag in ("always", "never"):
        _colour = flag == "always"
    elif environ.get("NO_COLOR"):
        _colour = False
    elif environ.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        _colour = True
    else:
        _colour = False if environ.get("TERM") == DUMB_TERMINAL else None


@contextmanager
def above_display() -> Iterator[None]:
    """Take a display of progress away while the block writes what stays on the terminal."""
    with _display():
        yield


def set_display(hidden: Callable[[], AbstractContextManager[object]]) -> None:
    """Use `hidden` to take a display away from the terminal while something else is written.

    `nullcontext` says that there is no display.
    """
    global _display
    _display = hidden


def echo_bytes(chunks: Iterable[bytes]) -> None:
    """Write content to standard output: exactly, or to a terminal as visible text."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is not None and not sys.stdout.isatty():
        for chunk in chunks:
            binary.write(chunk)
        return
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    last = "\n"
    for chunk in (*chunks, b""):
        text = decoder.decode(chunk, final=not chunk)
        echo(text, nl=False)
        last = text[-1:] or last
    if last != "\n" and sys.stdout.isatty():
        echo("")


def clear_screen() -> None:
    """Clear the terminal and put the cursor to its first line."""
    import click

    click.echo("\x1b[H\x1b[2J\x1b[3J", nl=False)


def read_line(question: str) -> str:
    """Ask on standard error, and return the line that was typed; empty for Enter alone.

    Raises click.Abort at Ctrl-C and at the end of the input.
    """
    import click

    from syncd.text import visible

    try:
        answer: str = click.prompt(
            visible(question), default="", show_default=False, prompt_suffix="", err=True
        )
    except UnicodeDecodeError:
        return "\ufffd\0"  # no answer is made of this
    return answer


def read_hidden(question: str) -> str:
    """Ask on standard error, and return the line that was typed without showing it.

    Raises click.Abort at Ctrl-C and at the end of the input.
    """
    import click

    answer: str = click.prompt(
        question, default="", show_default=False, prompt_suffix="", hide_input=True, err=True
    )
    return answer


def confirm(question: str) -> bool:
    """Ask a yes-or-no question on standard error; no is the default."""
    import click

    from syncd.text import visible

    return click.confirm(visible(question), err=True)


def never_fail() -> None:
    """Replace `sys.stdout` and `sys.stderr` by streams that drop what can't be written.

    Call it first in the process: it may have to open descriptors 0, 1 and 2.
    """
    _open_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115  (open for good)
    sys.stdout = _stream(STDOUT, sys.stdout)
    sys.stderr = _stream(STDERR, sys.stderr)


def end_process(code: int) -> NoReturn:
    """End the process, when all its work is done and all output is written.

    Python would take each module apart first, which takes 10 to 40 ms. It still does where a thread
    is left that it waits for.
    """
    threads = sys.modules["threading"].enumerate() if "threading" in sys.modules else []
    if sum(not thread.daemon for thread in threads) > 1:
        sys.exit(code)
    if "logging" in sys.modules:
        sys.modules["logging"].shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _open_closed_descriptors() -> None:
    """Open /dev/null in place of each standard descriptor that is closed."""
    for descriptor, flags in ((STDIN, os.O_RDONLY), (STDOUT, os.O_WRONLY), (STDERR, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            _open_null_as(descriptor, flags)


def _open_null_as(descriptor: int, flags: int) -> None:
    with suppress(
        OSError
    ):  # no /dev in this root: the descriptor stays closed, and writing to it is dropped too
        opened = os.open(os.devnull, flags)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
        os.set_inheritable(descriptor, True)


def _stream(descriptor: int, before: object) -> io.TextIOWrapper:
    """Return a text stream like Python's own (`before`), which is None for a closed descriptor."""
    encoding, errors = "utf-8", ERRORS
    if isinstance(before, io.TextIOWrapper):
        encoding = before.encoding
        errors = before.errors if before.errors in ALWAYS_PRINTS else ERRORS
    # No io.BufferedWriter in between: its lock aborts the process when a daemon thread holds it at
    # exit.
    return io.TextIOWrapper(
        _Descriptor(descriptor), encoding=encoding, errors=errors, newline="\n", write_through=True
    )


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor, and drops what the system refuses.

    Closing it leaves the descriptor open.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    @property
    def name(self) -> str:
        """Return the stream's name."""
        return "<stdout>" if self._descriptor == STDOUT else "<stderr>"

    def writable(self) -> bool:
        """Return true."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Write all of `data`, or drop the rest at the first refusal; always its length."""
        left = memoryview(data).cast("B")
        size = len(left)
        with suppress(OSError):  # there is no other place to report it to
            while left:
                left = left[self._write_some(left) :]
        return size

    def _write_some(self, data: memoryview) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:  # the other end made the pipe non-blocking
            waiting = select.poll()
            waiting.register(self._descriptor, select.POLLOUT)
            waiting.poll()
            return 0


__all__ = [
    "ALWAYS_PRINTS",
    "ERRORS",
    "above_display",
    "confirm",
    "echo",
    "echo_bytes",
    "end_process",
    "never_fail",
    "read_hidden",
    "read_line",
    "set_display",
    "use_colour",
]
