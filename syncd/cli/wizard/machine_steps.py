"""The questions about this machine: where the files go, how often, and what runs after a change."""

from __future__ import annotations

import os

from syncd.cli.wizard import terminal
from syncd.cli.wizard.answers import schedule_key
from syncd.cli.wizard.repository_steps import VALID_JOB
from syncd.cli.wizard.session import Session
from syncd.cli.wizard.terminal import Mistake
from syncd.config.commands import PasteableMistake, hook
from syncd.config.schema import JobModel, PathModel, mistake_in
from syncd.hooks.command_lookup import find_missing_command
from syncd.mirror.destination_checks import destination_warnings
from syncd.models import Hook


class Declined(Exception):
    """The user does not want the file."""


def ask_destination(session: Session) -> bool:
    """Ask where the files go, and say what is there now."""
    source = session.answers.source
    is_folder = source.endswith("/")

    def judge(text: str) -> str:
        """Return the destination. Raises Mistake."""
        to = _completed(text, source)
        if (mistake := mistake_in(PathModel, {"from": source, "to": to})) is not None:
            raise Mistake(mistake)
        session.answers.to = to
        problems = session.answers.problems(session.environ)
        if problems:
            raise _destination_mistake(problems[0])
        _refuse_unwanted(to)
        return to

    before = session.answers.to
    default = before if before.endswith("/") == is_folder else ""
    kind = "folder" if is_folder else "file"
    session.answers.to = terminal.ask(f"Where to on this machine (a {kind})", judge, default)
    terminal.ok(_present_state(session.answers.to))
    return True


def _destination_mistake(text: str) -> Mistake:
    """Return the mistake; a folder that holds syncd's own files is better named more closely."""
    above, is_above, _ = text.partition("; a commit must not change that")
    if not is_above:
        return Mistake(text)
    return Mistake(above, "name a folder below it, which holds nothing of syncd")


def _completed(text: str, source: str) -> str:
    """Return the destination with the slash of a folder, or the name of a file, added."""
    if not text.startswith("/") or text == "/":
        return text
    if source.endswith("/"):
        return f"{text.rstrip('/')}/"
    name = source.rpartition("/")[2]
    return f"{text}{name}" if text.endswith("/") else text


def _refuse_unwanted(to: str) -> None:
    """Say what a sync would meet there; raise Mistake when the user wants another place."""
    for found in destination_warnings(to.rstrip("/"), to.endswith("/")):
        if not found.is_error:
            terminal.warn(found.text, found.hint)
            continue
        hint = found.hint
        if os.geteuid() != 0 and found.text.endswith("can't be written to"):
            hint = "if only root may: end this with Ctrl-C, and run: sudo syncd init"
        terminal.warn(found.text, hint)
        if not terminal.confirm("Use it anyway", default=False):
            raise Mistake("name another place")


def _present_state(to: str) -> str:
    place = to.rstrip("/")
    if not os.path.lexists(place):
        return f"{to} does not exist yet; it will be created"
    if not to.endswith("/"):
        return f"{to} exists; if it differs, it goes to the trash and is replaced"
    try:
        count = len(os.listdir(place))
    except OSError:
        return f"{to} exists"
    if not count:
        return f"{to} exists and is empty"
    return (
        f"{to} has {count} entr{'y' if count == 1 else 'ies'}: files of the same name that differ"
        " are replaced and go to the trash, the others stay"
    )


def ask_interval(session: Session) -> bool:
    """Ask how often syncd looks for changes."""

    def judge(text: str) -> str:
        """Return the interval or the cron expression. Raises Mistake."""
        key = schedule_key(text)
        job = {name: value for name, value in VALID_JOB.items() if name != "every"}
        if (mistake := mistake_in(JobModel, {**job, key: text})) is not None:
            raise Mistake(mistake)
        return text

    question = "How often to look (like 30s, 5m, 1h, or cron: 15 3 * * *)"
    session.answers.every = terminal.ask(question, judge, session.answers.every)
    return True


def ask_command(session: Session) -> bool:
    """Ask for the command that runs after a change, such as a reload."""
    answers = session.answers

    def judge(text: str) -> str:
        """Return the command, empty for none. Raises Mistake."""
        answers.shell = False
        if text in ("", "none", "-"):
            return ""
        try:
            found = hook(text)
        except PasteableMistake:
            found = _through_shell(text)
            answers.shell = True
        if found.checks:
            raise Mistake("built-in checks are for validate only; write a command")
        _refuse_missing(found)
        return text

    question = "Command after a change, like: systemctl reload nginx"
    answers.on_change = terminal.ask(question, judge, answers.on_change or "none")
    return True


def _through_shell(text: str) -> Hook:
    """Return the command as a shell's, where the user agrees. Raises Mistake."""
    terminal.warn("only a shell understands all of this, and syncd runs commands without one")
    if not terminal.confirm("Run it with /bin/sh", default=False):
        raise Mistake("type one command with its arguments, or the path of a script, or none")
    return hook({"shell": text})


def _refuse_missing(found: Hook) -> None:
    """Say that the command is not on this machine; raise Mistake unless it is meant."""
    problem = find_missing_command(found, None)
    if problem is None:
        return
    terminal.warn(problem.text, problem.hint)
    if not terminal.confirm("Use it anyway", default=False):
        raise Mistake("type another command, or none")


def review(session: Session) -> bool:
    """Show the configuration, and ask whether to write it. Raises Declined."""
    terminal.say("")
    for line in session.answers.text().splitlines():
        terminal.say(f"  {line}" if line else "")
    terminal.say("")
    if not terminal.confirm(f"Write this to {session.answers.place}", default=True):
        raise Declined
    return True
