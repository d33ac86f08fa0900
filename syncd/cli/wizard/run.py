"""The order of the questions, and the ways through them: forward, back, and back to a mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import click
from msgspec import Struct

from syncd.cli.wizard import identity_steps, machine_steps, repository_steps, terminal
from syncd.cli.wizard.answers import Answers
from syncd.cli.wizard.lookup import Lookup
from syncd.cli.wizard.session import Session
from syncd.cli.wizard.terminal import GoBack, Mistake


class Step(Struct, frozen=True):
    """One question, or one check. `ask` returns whether the user was asked.

    A Mistake that it raises leads back to the question `corrected_at`.
    """

    name: str
    ask: Callable[[Session], bool]
    corrected_at: str = ""


STEPS = (
    Step("host", identity_steps.ask_host),
    Step("kind", identity_steps.ask_kind),
    Step("app", identity_steps.ask_app),
    Step("key", identity_steps.ask_key),
    Step("app check", identity_steps.check_app, "app"),
    Step("installation", identity_steps.ask_installation, "app"),
    Step("token", identity_steps.ask_token),
    Step("token check", identity_steps.check_token, "token"),
    Step("client id", identity_steps.ask_client_id),
    Step("repository", repository_steps.ask_repository),
    Step("ref", repository_steps.ask_ref, "repository"),
    Step("source", repository_steps.ask_source, "ref"),
    Step("destination", machine_steps.ask_destination),
    Step("interval", machine_steps.ask_interval),
    Step("command", machine_steps.ask_command),
    Step("review", machine_steps.review),
)
POSITIONS = {step.name: position for position, step in enumerate(STEPS)}


class Outcome(Struct, frozen=True):
    """The configuration's text, and how it was answered for.

    `kind` is the kind of identity; with `confirmed`, GitHub confirmed all that it can.
    """

    text: str
    kind: str
    confirmed: bool


def run_wizard(place: Path, environ: Mapping[str, str]) -> Outcome | None:
    """Ask everything and return the configuration; None where the user declined it.

    Nothing is written. Raises click.Abort at Ctrl-C.
    """
    terminal.say(
        f"A first configuration for {place}\n"
        "Nothing is written before the last question; Ctrl-C ends.\n"
        "Enter takes the value in [brackets]; < goes back.\n"
    )
    session = Session(Answers(place), Lookup(environ), environ)
    try:
        _ask_all(session)
    except machine_steps.Declined:
        terminal.say("nothing was written")
        return None
    except (click.Abort, KeyboardInterrupt):
        terminal.say("\nnothing was written")
        raise
    finally:
        session.lookup.close()
    answers = session.answers
    return Outcome(answers.text(), answers.kind, session.online)


def _ask_all(session: Session) -> None:
    position = 0
    asked: list[int] = []  # the questions on the way to here, to go back to
    while position < len(STEPS):
        step = STEPS[position]
        try:
            if step.ask(session):
                asked.append(position)
            position += 1
        except GoBack:
            if not asked:
                terminal.say("  this is the first question")
                continue
            position = asked.pop()
        except Mistake as error:
            terminal.bad(str(error), error.hint)
            position = POSITIONS[step.corrected_at]
            asked = [one for one in asked if one < position]
