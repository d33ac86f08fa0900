"""Parses a hook's value into a command.

Text is split as a shell splits it, but no shell runs it. So text that only a shell understands is a
mistake here: `nginx -t && echo ok` would start nginx with the arguments `&&`, `echo` and `ok`, and
a validator that accepts them lets every commit in. Quoted text, lists and `{shell: ...}` are taken
as they are. Whether the command exists on this machine is decided elsewhere
(hooks/command_lookup.py).
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

from syncd.models import Hook

CHECKS = ("json", "yaml", "toml", "xml")
MAX_PASTED_CHARACTERS = 2000  # characters of a command that a hint repeats
MAX_SHOWN = 3  # signs of the shell that one message names
FORMS = "a command; write text, a list, or {shell: text}"

QUOTED = "\ue000"  # replaces a quoted or escaped character, which the shell gives no meaning
OPERATORS = re.compile(r"&&|\|\||&>|[<>]&|<<|>>|[|;<>]|&(?=\s|$)")
EXPANSIONS = re.compile(r"\$\(|\$\{?\w+\}?|\$[{?$!@*#]|`")
# %{name} is curl's, @{name} is git's, {{name}} is a template's
PLACEHOLDER = re.compile(r"(?<![%@${\ue000])\{([A-Za-z_][\w-]*)\}(?!\})")
SHELL_WORDS = frozenset(
    (
        *("!", "(", ".", "[[", "case", "cd", "eval", "exec", "exit", "export", "for", "if", "set"),
        *("source", "trap", "ulimit", "umask", "unset", "until", "while"),
    )
)


class PasteableMistake(ValueError):
    """A mistake whose text ends in what to write instead, and is shown whole."""


def hook(value: Any) -> Hook:
    """Parse a command, given as text, a list, `{shell: TEXT}` or `{check: NAMES}`.

    Raises ValueError for anything else, and for text that only a shell would understand.
    """
    if isinstance(value, dict):
        return _from_mapping(value)
    if isinstance(value, list):
        return _from_list(value)
    if not isinstance(value, str):
        shown = {True: "true", False: "false", None: "nothing"}.get(value, "this")
        raise ValueError(f"{shown} is not {FORMS}")
    if "\0" in value:
        raise ValueError("a NUL byte is never meant")
    return _from_text(value)


def _from_mapping(value: dict[Any, Any]) -> Hook:
    if set(value) == {"check"}:
        return _checks(value["check"])
    text = value.get("shell")
    if set(value) != {"shell"} or not isinstance(text, str):
        raise ValueError(f"a block is not {FORMS}")
    if not text.strip():
        raise ValueError("the command is empty")
    if "\0" in text:
        raise ValueError("a NUL byte is never meant")
    return Hook(text, ("/bin/sh", "-c", text), True)


def _checks(value: Any) -> Hook:
    names = value if isinstance(value, list) else [value]
    wrong = [name for name in names if name not in CHECKS]
    if wrong or not names:
        shown = wrong[0] if wrong else ""
        raise ValueError(f"'{shown}' is no built-in check; there are {', '.join(CHECKS)}")
    return Hook("check " + " ".join(names), checks=tuple(names))


def _from_list(value: list[Any]) -> Hook:
    texts = all(isinstance(part, str) and "\0" not in part for part in value)
    if not value or not texts or not value[0].strip():
        raise ValueError("a command as a list needs the program and its arguments, all text")
    return Hook(shlex.join(value), tuple(value))


def _from_text(text: str) -> Hook:
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(_unsplittable(error)) from error
    if not argv or not argv[0].strip():
        raise ValueError("the command is empty")
    mistakes = list(_mistakes(text.strip()))
    if mistakes:
        raise PasteableMistake("; ".join(mistakes))
    return Hook(text, argv)


def _mistakes(text: str) -> Iterator[str]:
    """Yield what the text can't mean without a shell, each with what to write instead."""
    bare = _bare(text)
    for name in dict.fromkeys(PLACEHOLDER.findall(bare)):
        if name != "staged":
            yield (
                f"{{{name}}} means nothing, only {{staged}} is filled in: "
                f"write {{staged}}, or '{{{name}}}' in quotes to pass it as written"
            )
    signs = list(dict.fromkeys(_signs(bare)))
    beginning = _beginning(bare)
    if signs or beginning:
        yield _for_a_shell(text, signs, beginning)


def _unsplittable(error: ValueError) -> str:
    """Describe text that shlex can't split: it ends inside quotes, or in a backslash."""
    if "escaped" in str(error):
        return "the command can't be split: it ends in a backslash; leave that out, or write a list"
    return "the command can't be split: a quote is not closed; close it, or write a list"


def _for_a_shell(text: str, signs: list[str], beginning: str | None) -> str:
    """Describe the mistake, with the same command as a shell would run it, ready to be pasted."""
    named = ([beginning] if beginning else []) + signs
    shown = ", ".join(named[:MAX_SHOWN]) + (", …" if len(named) > MAX_SHOWN else "")
    means = f"{shown} {'means' if len(named) == 1 else 'mean'} something to a shell alone"
    quote = "" if beginning else "put it in quotes to pass it as written, or "
    pasted = as_scalar(text) if len(text) <= MAX_PASTED_CHARACTERS else "..."
    return f"{means}, and no shell runs this text: {quote}write {{shell: {pasted}}}"


def as_scalar(text: str) -> str:
    """Return the text as a quoted YAML scalar of one line."""
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    return json.dumps(text, ensure_ascii=False)


# --- signs of a shell -----------------------------------------------------------------------------


def _signs(bare: str) -> Iterator[str]:
    """Yield what only a shell understands in a command, as a message names it."""
    if "\n" in bare:
        yield "a line break"
    for pattern in (OPERATORS, EXPANSIONS):
        yield from (f"'{found}'" for found in pattern.findall(bare))
    words = bare.split()
    yield from (f"'{word}'" for word in words if _is_home(word) or _is_path_pattern(word))
    yield from ("'#' (a comment)" for word in words if word.startswith("#"))


def _beginning(bare: str) -> str | None:
    """Return the first word if it is a shell's own and no program."""
    word = bare.split()[0]
    if re.match(r"[A-Za-z_]\w*=", word):
        return f"'{word.partition('=')[0]}=' (a variable for one command)"
    if word in SHELL_WORDS or word.startswith("("):
        return f"'{word}'"
    return None


def _is_home(word: str) -> bool:
    """Return whether a shell would expand it: `~`, `~/x` and `~user/x`, not HEAD~1 or host:~/x."""
    return re.match(r"~([A-Za-z_][\w-]*)?(/|$)", word) is not None


def _is_path_pattern(word: str) -> bool:
    """Return whether a shell would expand it to file names, as /etc/*.conf.

    Names alone, like php*-fpm or *.conf, are often meant for the program (systemctl, find).
    """
    return word.startswith(("/", "{staged}/")) and ("*" in word or "?" in word)


def _bare(text: str) -> str:
    """Return the text with QUOTED in place of each quoted or escaped character, without the quotes.

    The rules are those of shlex.split, which has accepted this text: POSIX, without comments.
    """
    found, quote, at = [], "", 0
    while at < len(text):
        char = text[at]
        if char == "\\" and quote != "'":
            at += 1
            found.append("\n" if text[at : at + 1] == "\n" and not quote else QUOTED)
        elif not quote and char in "'\"":
            quote = char
            found.append(QUOTED)
        elif char == quote:
            quote = ""
        else:
            found.append(QUOTED if quote else char)
        at += 1
    return "".join(found)


__all__ = ["CHECKS", "PasteableMistake", "as_scalar", "hook"]
