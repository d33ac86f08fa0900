"""`syncd web`: what the users of the listener need."""

from __future__ import annotations

import sys

import click

from syncd.config.web_secrets import checked_web_secret
from syncd.output import echo, read_hidden
from syncd.redaction import Secret

MAX_PASSWORD_CHARACTERS = 4096


@click.group(name="web", short_help="What the users of the status page need.")
def command() -> None:
    """Prepare what the users of the status page need."""


@command.command(name="hash", short_help="The hash of a password, for web.users.")
def hash_command() -> int:
    """Print the hash of a password, for a file that `web.users` names. It asks for the password
    twice on a terminal, and reads one line from a pipe. The password has at least 16 characters.
    """
    from werkzeug.security import generate_password_hash

    password = checked_web_secret(Secret(_read_password()), "password")
    echo(generate_password_hash(password.reveal(), "scrypt"))
    return 0


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline(MAX_PASSWORD_CHARACTERS).removesuffix("\n").removesuffix("\r")
    first = read_hidden("Password: ")
    if read_hidden("Again: ") != first:
        raise click.UsageError("the two passwords differ")
    return first
