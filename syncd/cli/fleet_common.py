"""What the commands of `syncd fleet` share: the transaction, `--json`, and who gives them."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from syncd.cli.common import Settings
from syncd.clock import SystemClock
from syncd.config.model import Config


def json_option(schema: str) -> Callable[[Any], Any]:
    """Return the option `--json` of a command whose object has this schema."""
    help_text = f"Print one JSON object (schema {schema})."
    return click.option("--json", "as_object", is_flag=True, help=help_text)


@contextmanager
def transaction(settings: Settings, config: Config) -> Iterator[Any]:
    """Yield a transaction on the fleet's database. Raises what the database raises."""
    from syncd.wiring.fleet import FleetParts

    parts = FleetParts(config, settings.environ, SystemClock(), goes_on=False)
    try:
        with parts.link.database.begin() as connection:
            yield connection
    finally:
        parts.close()


def who() -> str:
    """Return the user and the host, for the record of a decision."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


__all__ = ["json_option", "transaction", "who"]
