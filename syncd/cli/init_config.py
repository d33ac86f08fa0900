"""Makes the first configuration: the commented example, or one from a user's answers.

Every answer is checked by the configuration's own rules before the next question.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from syncd.config.schema import IdentityModel, JobModel, PathModel, mistake_in
from syncd.output import echo, prompt

KINDS = ("app", "token", "anonymous")
FIRST_TRY = {"app_id": "1", "private_key": "/etc/syncd/app.pem"}

DEFAULT_REF = "# ref: main                 # default: the repository's default branch"


class Answers(NamedTuple):
    """What was answered: one field per question. `identity` is YAML; the others are plain text."""

    identity: str
    repo: str
    ref: str | None
    source: str
    to: str
    every: str


def example() -> str:
    """Return config.example.yaml, from the wheel or from the checkout."""
    inside = resources.files("syncd") / "config.example.yaml"
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[2] / "config.example.yaml").read_text(encoding="utf-8")


def ask(place: Path) -> str:
    """Return the configuration that the answers make. Questions go to stderr."""
    echo(f"A first configuration for {place}. Enter takes the value in brackets.", err=True)
    kind = _answer(
        f"Sign in to GitHub as ({', '.join(KINDS)})",
        lambda text: None if text in KINDS else f"one of {', '.join(KINDS)}",
        default="app",
    )
    identity = _identity(kind)
    repo = _answer("Repository (owner/name)", lambda text: _job(repo=text))
    ref = _answer(
        "Branch, tag or commit ('-' for the default branch)",
        lambda text: _job(ref=None if text == "-" else text),
        default="-",
    )
    source = _answer(
        "What of it: a file, or a folder/ ('/' for everything)",
        lambda text: mistake_in(
            PathModel, {"from": text, "to": "/x/" if text.endswith("/") else "/x"}
        ),
    )
    folder = source.endswith("/")
    to = _answer(
        f"Where it goes on this machine{', with a / at its end' if folder else ''}",
        lambda text: mistake_in(PathModel, {"from": source, "to": text}),
    )
    every = _answer("How often to look", lambda text: _job(every=text), default="5m")
    return _text(Answers(identity, repo, None if ref == "-" else ref, source, to, every))


def _identity(kind: str) -> str:
    if kind == "anonymous":
        return "{anonymous: true}    # public repositories only; 60 requests an hour"
    if kind == "token":
        file = _answer(
            "File that holds the token (mode 0600)",
            lambda text: mistake_in(IdentityModel, {"token": text}),
            default="/etc/syncd/github.token",
        )
        return f"{{token: {{file: {scalar(file)}}}}}"
    app_id = _answer(
        "App id, or client id",
        lambda text: mistake_in(
            IdentityModel,
            (
                {**FIRST_TRY, "app_id": text}
                if text.isdigit()
                else {"client_id": text, "private_key": "/x"}
            ),
        ),
    )
    key = _answer(
        "File that holds the App's private key (mode 0600)",
        lambda text: mistake_in(IdentityModel, {**FIRST_TRY, "private_key": text}),
        default="/etc/syncd/app.pem",
    )
    return (
        f"{{{'app_id' if app_id.isdigit() else 'client_id'}: {scalar(app_id)}, private_key: {{file:"
        f" {scalar(key)}}}}}"
    )


def _job(**given: str | None) -> str | None:
    return mistake_in(
        JobModel, {"repo": "a/b", "every": "5m", "paths": [{"from": "x", "to": "/x"}], **given}
    )


def _answer(question: str, mistake: Callable[[str], str | None], default: str | None = None) -> str:
    """Ask until the configuration's own rules accept the answer."""

    def value(text: str) -> str:
        """Return the answer. Raises ValueError with its mistake."""
        if (found := mistake(text)) is not None:
            raise ValueError(found)
        return text

    return prompt(question, value, default)


def scalar(text: str) -> str:
    """Return the text as a YAML scalar, quoted if needed."""
    if re.fullmatch(r"[A-Za-z0-9_/][A-Za-z0-9_./@+-]*", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(answers: Answers) -> str:
    """Return the YAML text."""
    return f"""\
# syncd's configuration. Every key, with its default: docs/configuration.md;
# every mistake, with its place: syncd check
version: 1

github:
  me: {answers.identity}

jobs:
  {job_name(answers.repo)}:
    repo: {scalar(answers.repo)}
    {f"ref: {scalar(answers.ref)}" if answers.ref else DEFAULT_REF}
    paths:
      - {{from: {scalar(answers.source)}, to: {scalar(answers.to)}}}
    every: {answers.every}
    # drift: restore             # local edits are put back | report: left and counted | keep: left
    # validate: …                # a command that may veto a commit; {{staged}} is the complete new set
    # on_change: …               # a command to run after a change, like: systemctl reload nginx
"""


def job_name(repo: str) -> str:
    """Return the repository's own name, as a job's."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", repo.partition("/")[2]).strip("-_") or "first"
