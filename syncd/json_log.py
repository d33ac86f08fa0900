"""Log lines as JSON objects, one per line: the only such format, for one-shots and the daemon.

Redaction is left to the handler's filter.
"""

from __future__ import annotations

import logging
import time

from syncd.text import json_text


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON object.

    It has the time in UTC, level, logger, message, the run's fields and the traceback.
    """

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line end."""
        seconds = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {
            "at": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", {})
        line |= {name.removeprefix("SYNCD_").lower(): value for name, value in fields.items()}
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json_text(line)


__all__ = ["JsonFormatter"]
