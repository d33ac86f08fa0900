"""Where the daemon's log lines go: to the journal with fields of their own, as text to a terminal, as JSON anywhere else.

Promises: nothing is shown before it is redacted, no line makes the daemon fail or wait, and a message is one line wherever lines matter.
Source: systemd.exec(5), $JOURNAL_STREAM; "Native Journal Protocol" and systemd.journal-fields(7).
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

from syncd.redaction import RedactingFilter
from syncd.text import json_text, visible

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
NOISY_LOGGERS = (
    "urllib3",
    "alembic",
    "apscheduler",
    "waitress",
    "werkzeug",
)  # libraries whose every step is no news of ours


def set_up(
    form: str, level: str, environ: Mapping[str, str], stream: TextIO | None = None
) -> logging.Handler:
    """Every logger writes there from now on: `form` is auto, journal, text or json; `level` debug, info, warning or error."""
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
    if form == "journal":
        return JournalHandler(journal, stream)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextLines() if form == "text" else JsonLines())
    return handler


def detect_format(environ: Mapping[str, str], stream: TextIO) -> str:
    """The journal when stderr is what systemd connected to it, and not a file or pipe that somebody put in its place."""
    try:
        device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
        found = os.fstat(stream.fileno())
        if (str(found.st_dev), str(found.st_ino)) == (device, inode):
            return "journal"
    except (OSError, ValueError):
        return "json"
    return "text" if stream.isatty() else "json"


class TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower():<7} {record.getMessage()}"
        return f"{line}\n{record.exc_text}" if record.exc_text else line


class JsonLines(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        at = f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03d}Z"
        line = {
            "at": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name.removeprefix("SYNCD_").lower(): value
            for name, value in getattr(record, "fields", {}).items()
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json_text(line)


class JournalHandler(logging.Handler):
    """One datagram a line. Where the journal can't be reached, the line goes to stderr, which leads there too."""

    def __init__(self, address: str, fallback: TextIO) -> None:
        super().__init__()
        self._address, self._fallback = address, fallback
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._sender.setblocking(False)

    def emit(self, record: logging.LogRecord) -> None:
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
            with suppress(OSError, ValueError):  # nobody is left to be told
                self._fallback.write(
                    "".join(f"<{priority}>{line}\n" for line in message.splitlines())
                )
                self._fallback.flush()

    def close(self) -> None:
        self._sender.close()
        super().close()


def datagram(fields: Mapping[str, str]) -> bytes:
    """`NAME=value` lines; a value of several lines, or one too long, as the protocol has it: the name, its length in 8 bytes, the value."""
    parts = []
    for name, value in fields.items():
        raw = visible(value).encode("utf-8", "replace")[:MAX_FIELD_BYTES]
        parts.append(
            f"{name}=".encode() + raw + b"\n"
            if b"\n" not in raw
            else name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
        )
    return b"".join(parts)


def priority_of(level: int) -> int:
    return next((priority for least, priority in PRIORITIES if level >= least), DEBUG_PRIORITY)


__all__ = ["set_up"]
