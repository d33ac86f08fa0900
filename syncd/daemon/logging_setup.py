"""Logging of the daemon: to the journal with fields, as text to a terminal, as JSON anywhere else.

Every line is redacted before a handler sees it. No line makes the daemon fail or wait. A message is
one line wherever lines matter.

Source: systemd.exec(5), $JOURNAL_STREAM; "Native Journal Protocol"; systemd.journal-fields(7).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from syncd.json_log import JsonFormatter
from syncd.redaction import RedactingFilter
from syncd.text import visible

JOURNAL = "/run/systemd/journal/socket"
PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
DEBUG_PRIORITY = 7
MAX_FIELD_BYTES = 100_000  # a datagram has to fit into the socket's buffer
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
NOISY_LOGGERS = ("urllib3", "alembic", "apscheduler", "waitress", "werkzeug")  # warnings only


def set_up(
    form: str, level: str, environ: Mapping[str, str], stream: TextIO | None = None
) -> logging.Handler:
    """Send the lines of every logger to one new handler, and return it.

    `form` is auto, journal, text or json; `level` is debug, info, warning or error.
    """
    stream = stream or sys.stderr
    handler = handler_for(form if form != "auto" else detect_format(environ, stream), stream)
    handler.addFilter(RedactingFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[level]))
    return handler


def handler_for(form: str, stream: TextIO, journal: str = JOURNAL) -> logging.Handler:
    """Return a handler for the format `journal`, `text` or `json`."""
    if form == "journal":
        return JournalHandler(journal, stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if form == "text" else JsonFormatter())
    return handler


def detect_format(environ: Mapping[str, str], stream: TextIO) -> str:
    """Return the format for `auto`.

    That is `journal` only if the stream is still the one that systemd connected, and was not
    redirected to a file or pipe.
    """
    try:
        device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
        found = os.fstat(stream.fileno())
        if (str(found.st_dev), str(found.st_ino)) == (device, inode):
            return "journal"
    except (OSError, ValueError):
        return "json"
    return "text" if stream.isatty() else "json"


class TextFormatter(logging.Formatter):
    """Formats a record as `12:00:00 info    message`, with a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text, without a line end."""
        at = self.formatTime(record, "%H:%M:%S")
        line = f"{at} {record.levelname.lower():<7} {record.getMessage()}"
        return f"{line}\n{record.exc_text}" if record.exc_text else line


class JournalHandler(logging.Handler):
    """Sends one datagram per record.

    If the journal can't be reached, the line goes to `fallback`, which ends there too.
    """

    def __init__(self, address: str, fallback: TextIO) -> None:
        super().__init__()
        self._address, self._fallback = address, fallback
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sender.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record with its priority, its origin and the run's fields."""
        message = record.getMessage() + (f"\n{record.exc_text}" if record.exc_text else "")
        priority = priority_of(record.levelno)
        fields = {
            "MESSAGE": message,
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": "syncd",
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "SYNCD_LOGGER": record.name,
        }
        try:
            self._sender.sendto(
                datagram({**fields, **getattr(record, "fields", {})}), self._address
            )
        except OSError:
            with suppress(OSError, ValueError):  # no other place is left
                self._fallback.write(
                    "".join(f"<{priority}>{line}\n" for line in message.splitlines())
                )
                self._fallback.flush()

    def close(self) -> None:
        """Close the socket."""
        self._sender.close()
        super().close()


def datagram(fields: Mapping[str, str]) -> bytes:
    """Return the fields in the journal's native protocol.

    A field is `NAME=value`. A value of several lines is the name, its length in 8 bytes
    (little-endian) and the value.
    """
    parts = []
    for name, value in fields.items():
        raw = visible(value).encode("utf-8", "replace")[:MAX_FIELD_BYTES]
        if b"\n" in raw:
            parts.append(name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n")
        else:
            parts.append(f"{name}=".encode() + raw + b"\n")
    return b"".join(parts)


def priority_of(level: int) -> int:
    """Return the syslog priority of a logging level."""
    return next((priority for least, priority in PRIORITIES if level >= least), DEBUG_PRIORITY)


__all__ = ["set_up"]
