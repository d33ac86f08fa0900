"""`syncd completion`: the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from syncd.output import echo


@click.command(name="completion", short_help="Completion for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> int:
    """Print the script that makes SHELL complete syncd's commands and options.

    bash: syncd completion bash > /etc/bash_completion.d/syncd; zsh: a file _syncd in $fpath; fish:
    ~/.config/fish/completions/syncd.fish.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    echo(kind(ctx.find_root().command, {}, "syncd", "_SYNCD_COMPLETE").source())
    return 0
