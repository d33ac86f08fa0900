"""Where log lines go in a one-shot: stderr, as text on a terminal and as JSON elsewhere, redacted before any handler sees them."""

from __future__ import annotations

import logging
import sys

from syncd.cli.common import Settings
from syncd.redaction import RedactingFilter
from syncd.text import json_text

LEVELS = {0: logging.WARNING, 1: logging.INFO}


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json_text(line)


def set_up_logging(settings: Settings) -> None:
    """One handler on stderr. -v is info, -vv debug, -q errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RedactingFilter())
    handler.setFormatter(
        logging.Formatter("%(levelname)s %(name)s: %(message)s")
        if sys.stderr.isatty() or settings.verbose
        else JsonLines()
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.getLogger("alembic").setLevel(
        logging.WARNING
    )  # its plugins introduce themselves at info
    root.setLevel(logging.ERROR if settings.quiet else LEVELS.get(settings.verbose, logging.DEBUG))
