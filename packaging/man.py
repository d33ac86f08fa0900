"""Man pages from the commands themselves: syncd.1, and one page for each command and subcommand.

Texts and options come from click, exit codes from docs/commands.md. What no command says of itself
(files, environment) is here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from syncd import __version__
from syncd.cli.main import COMMANDS, cli

HERE = Path(__file__).resolve().parents[1]
MANUAL = "syncd manual"
EXIT_ROW = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)

FILES = {
    "/etc/syncd/config.yaml": (
        "The configuration. A directory given with -c is merged from its *.yaml."
    ),
    "/etc/syncd/config.yaml.example": (
        "Every key with its default and a comment. syncd does not read it."
    ),
    "~/.config/syncd/config.yaml": (
        "The configuration of a user, where /etc/syncd/config.yaml does not exist."
    ),
    "/var/lib/syncd": (
        "The state that goes with /etc/syncd: the store, cached content and the trash. The key"
        " state: names another folder."
    ),
    "/usr/lib/systemd/system/syncd.service": (
        "The daemon as the user syncd. syncd-root.service runs it as root; syncd-sync.timer starts"
        " a sync every five minutes."
    ),
    "/etc/systemd/system/syncd.service.d/50-syncd.conf": (
        "What the unit needs for your configuration, written by syncd init --systemd --install."
    ),
}
ENVIRONMENT = {
    "SYNCD_CONFIG": "The configuration, if -c is not given.",
    "XDG_CONFIG_HOME, XDG_STATE_HOME": (
        "Where a user's configuration and state are; default: ~/.config and ~/.local/state."
    ),
    "STATE_DIRECTORY, CREDENTIALS_DIRECTORY": (
        "Set by systemd: the state folder, and the folder of {credential: NAME}."
    ),
    "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY": (
        "The proxy on the way to GitHub, and the hosts that are reached without it."
    ),
    "NO_COLOR, CLICOLOR_FORCE": "No colours; colours in a pipe too.",
}


def text(words: str) -> str:
    """Text as roff shows it: backslashes, hyphens and leading dots are themselves."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    return re.sub(r"^(?=[.'])", "\\\\&", escaped.replace("^", "\\(ha"), flags=re.MULTILINE)


def item(term: str, meaning: str) -> str:
    """A term in bold and what it means."""
    return f".TP\n\\fB{text(term)}\\fR\n{text(meaning)}"


def reference(name: str, meaning: str) -> str:
    """Another page and what it is of."""
    return f".TP\n\\fB{text(name)}\\fR(1)\n{text(meaning)}"


def section(heading: str, *parts: str) -> str:
    """A section, or nothing if it has no content."""
    content = [part for part in parts if part]
    return "\n".join([f".SH {heading}", *content]) if content else ""


def paragraphs(help_text: str | None) -> str:
    """The paragraphs of a command's help."""
    blocks = re.split(r"\n\s*\n", (help_text or "").replace("\b", "").strip())
    return "\n.PP\n".join(text(" ".join(block.split())) for block in blocks)


def exit_codes() -> list[tuple[str, str]]:
    """The exit codes with their meanings, from docs/commands.md."""
    table = (
        (HERE / "docs/commands.md").read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    )
    return [(code, meaning.replace("`", "")) for code, meaning in EXIT_ROW.findall(table)]


def commands(
    group: click.Group, parent: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """Each command below `group`, subcommands after their own group."""
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None, name
        context = click.Context(command, info_name=name, parent=parent)
        yield command, context
        if isinstance(command, click.Group):
            yield from commands(command, context)


def options(command: click.Command, context: click.Context) -> list[str]:
    """The options with their help."""
    chosen = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    records = [one.get_help_record(context) for one in chosen]
    return [item(*record) for record in records if record is not None]


def page(command: click.Command, context: click.Context, date: str) -> str:
    """The page of the program (a context without parent) or of one command."""
    name = context.command_path.replace(" ", "-")
    whole = context.parent is None
    short = (
        (command.help or "").strip().split("\n")[0].removeprefix("syncd ")
        if whole
        else command.get_short_help_str(200)
    )
    usage = " ".join(
        [f"\\fB{text(context.command_path)}\\fR", *map(text, command.collect_usage_pieces(context))]
    )
    parts = [
        f'.TH "{text(name.upper())}" 1 "{date}" "syncd {text(__version__)}" "{MANUAL}"',
        section("NAME", f"{text(name)} \\- {text(short[:1].lower() + short[1:].rstrip('.'))}"),
        section("SYNOPSIS", usage),
        section("DESCRIPTION", paragraphs(command.help)),
        section("OPTIONS", *options(command, context)),
        section("COMMANDS", *_below(command, context)),
        section("EXIT STATUS", *(item(*row) for row in exit_codes())),
        section("FILES", *(item(*row) for row in FILES.items())),
        section("ENVIRONMENT", *(item(*row) for row in ENVIRONMENT.items())),
        section("SEE ALSO", _related(command, context)),
    ]  # fmt: skip
    return "\n".join(part for part in parts if part) + "\n"


def _below(command: click.Command, context: click.Context) -> list[str]:
    if not isinstance(command, click.Group):
        return []
    path = context.command_path.replace(" ", "-")
    if command is cli:
        known = [(name, meaning) for name, (_, meaning) in COMMANDS.items()]
    else:
        known = [(name, one.get_short_help_str(200)) for name, one in command.commands.items()]
    return [reference(f"{path}-{name}", meaning) for name, meaning in known]


def _related(command: click.Command, context: click.Context) -> str:
    others = (
        ["syncd-check", "syncd-sync", "syncd-status", "systemctl"]
        if context.parent is None
        else ["syncd"]
    )
    return ",\n".join(f"\\fB{text(name)}\\fR(1)" for name in others) + "\n.PP\n/usr/share/doc/syncd"


def pages(date: str) -> dict[str, str]:
    """Every page by its file name."""
    root = click.Context(cli, info_name="syncd", **cli.context_settings)
    every: Iterable[tuple[click.Command, click.Context]] = [(cli, root), *commands(cli, root)]
    return {
        f"{context.command_path.replace(' ', '-')}.1": page(command, context, date)
        for command, context in every
    }


def main() -> int:
    """Write the pages into a folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pages(f"{datetime.now(UTC):%Y-%m-%d}").items():
        (folder / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
