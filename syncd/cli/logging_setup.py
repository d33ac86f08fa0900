"""Sets up the log of a one-shot command: stderr, as text on a terminal and as JSON elsewhere.

Secrets are masked before any handler gets a record.
"""

from __future__ import annotations

import logging
import sys

from syncd.json_log import JsonFormatter
from syncd.redaction import RedactingFilter

LEVELS = {0: logging.WARNING, 1: logging.INFO}  # by the number of -v; more is debug


def set_up_logging(verbose: int, quiet: bool) -> None:
    """Send all log lines to stderr. -v shows info, -vv debug, -q errors only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RedactingFilter())
    handler.setFormatter(
        logging.Formatter("%(levelname)s %(name)s: %(message)s")
        if sys.stderr.isatty() or verbose
        else JsonFormatter()
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.getLogger("alembic").setLevel(logging.WARNING)  # at info it lists its plugins
    root.setLevel(logging.ERROR if quiet else LEVELS.get(verbose, logging.DEBUG))
