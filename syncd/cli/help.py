"""`syncd help`: the help of syncd, or of one command."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from syncd.output import echo
from syncd.text import did_you_mean


def _complete_command(
    context: click.Context, _parameter: click.Parameter, typed: str
) -> list[CompletionItem]:
    """Return the commands that begin so."""
    root = context.find_root()
    group, here = root.command, root
    for word in context.params.get("words") or ():
        group, here = _inner(group, here, word)
    names = group.list_commands(here) if isinstance(group, click.Group) else []
    return [CompletionItem(name) for name in names if name.startswith(typed)]


@click.command(name="help", short_help="The help of a command.")
@click.argument("words", metavar="[COMMAND]...", nargs=-1, shell_complete=_complete_command)
@click.pass_context
def command(context: click.Context, words: tuple[str, ...]) -> int:
    """Print the help of syncd, or of COMMAND, as `syncd COMMAND --help` does."""
    shown, here = context.find_root().command, context.find_root()
    for word in words:
        shown, here = _inner(shown, here, word)
    echo(shown.get_help(here))
    return 0


def _inner(
    group: click.Command, context: click.Context, word: str
) -> tuple[click.Command, click.Context]:
    """Return the command of that name in the group, with its context. Raises UsageError."""
    names = group.list_commands(context) if isinstance(group, click.Group) else []
    found = group.get_command(context, word) if isinstance(group, click.Group) else None
    if found is None:
        raise click.UsageError(f"no such command '{word}'" + did_you_mean(word, names))
    return found, click.Context(found, parent=context, info_name=word)
