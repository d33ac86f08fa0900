"""Sets up the log of a one-shot command: stderr, as text on a terminal and as JSON elsewhere.

Secrets are masked before any handler gets a record. -vv shows what syncd logs, and of the libraries
only warnings.
"""

from __future__ import annotations

import logging
import sys

from syncd.json_log import JsonFormatter
from syncd.output import above_display
from syncd.redaction import RedactingFilter

LEVELS = {0: logging.WARNING, 1: logging.INFO}  # by the number of -v; more is debug


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to stderr, above a display of progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's line."""
        with above_display():
            super().emit(record)


class _TextFormatter(logging.Formatter):
    """Formats a record for a person: `warning: ...`; info and debug have no prefix."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end; a warning or an error is folded on a terminal."""
        text = super().format(record)
        if record.levelno < logging.WARNING:
            return text
        from syncd.cli.folding import fold, terminal_columns

        first, *more = f"{record.levelname.lower()}: {text}".split("\n")
        return "\n".join([*fold(first, terminal_columns(err=True), "  ", ""), *more])


def set_up_logging(verbose: int, quiet: bool) -> None:
    """Send all log lines to stderr. -v shows info, -vv debug, -q errors only."""
    handler = _Handler(sys.stderr)
    handler.addFilter(_is_ours_or_a_warning)
    handler.addFilter(RedactingFilter())
    handler.setFormatter(_TextFormatter() if sys.stderr.isatty() or verbose else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR if quiet else LEVELS.get(verbose, logging.DEBUG))


def _is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "syncd"
