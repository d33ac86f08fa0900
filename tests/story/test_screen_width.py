"""Screens on a terminal of 80 columns: no line is wider, except one long word such as a path."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from syncd.cli.logging_setup import set_up_logging
from syncd.cli.main import run
from syncd.cli.table import width
from tests.support.sync_env import SyncEnv, sync_env

SHELL = ": a-command-with-many-words --config /etc/service/service.conf --check --verbose now"
MANY = {f"many/archive/{number:02}": f"{number}\n" for number in range(30)}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(hub: SyncEnv, command: str, config: str | None = None) -> list[str]:
    """The lines of the command's output on a terminal, without styles."""
    shown = Terminal()
    with redirect_stdout(shown), redirect_stderr(shown):
        run(["-c", config or str(hub.config), *command.split()])
    return re.sub(r"\x1b\[[\d;]*m", "", shown.getvalue()).splitlines()


@pytest.fixture(scope="module")
def hub() -> Iterator[SyncEnv]:
    """Four jobs after one sync, then a commit and edits that make three of them fail.

    The folder has a short name: a path is the one word that may be wider than a terminal.
    """
    files = {"conf/a": "1\n", "conf/b": "1\n", **MANY}
    with TemporaryDirectory(prefix="w-") as folder, sync_env(Path(folder), files) as made:
        base = made.jobs.pop("nginx")
        for name, source in (
            ("conf", "conf/"),
            ("many", "many/"),
            ("other", "conf/"),
            ("c", "conf/"),
        ):
            to = f"{made.dest}/{name}/"
            made.jobs[name] = {**base, "paths": [{"from": source, "to": to}]}
        made.jobs["conf"]["on_change"] = {"shell": SHELL}
        made.write()
        assert made.sync().code == 0
        (made.dest / "conf/b").write_text("edited\n")
        dropped = dict.fromkeys(MANY, None)
        made.repo.commit({"conf/a": "2\n", **dropped, "many/keep": "1\n"}, "A subject " * 9)
        made.jobs["other"]["validate"] = {"shell": f"echo broken; exit 3; {SHELL}"}
        made.jobs["c"]["paths"] = [{"from": "cnof/", "to": f"{made.dest}/c/"}]
        made.write()
        yield made


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")


@pytest.mark.parametrize(
    "command",
    [
        "check --online",
        "plan",
        "plan --diff conf",
        "sync",
        "status",
        "history",
        "explain DEST/conf/a",
        "explain DEST/conf",
        "explain DEST/else",
        "rollback conf",
        "trash list",
        "pause many --for 2h --reason a-change-freeze-of-the-whole-data-centre-in-the-night",
        "sync many conf",
        "verify",
        "demo",
    ],
)
def test_no_line_is_wider_than_the_terminal(hub: SyncEnv, command: str) -> None:
    lines = screen(hub, command.replace("DEST", str(hub.dest)))
    assert lines
    wide = [line for line in lines if width(line) > 80]
    assert [line for line in wide if len(line.split()) > 2] == []


@pytest.mark.parametrize(
    ("command", "last"),
    [("sync", "  correct the path, or write one with `syncd init`"), ("init", "NEW sync")],
)
def test_errors_and_the_end_of_init_are_folded(hub: SyncEnv, command: str, last: str) -> None:
    new = f"{hub.folder}/a-folder-of-{command}/config.yaml"
    lines = screen(hub, command, new)
    assert lines[-1] == last.replace("NEW", f"  syncd -c {new}")
    rest = [line for line in lines if new not in line]
    assert [line for line in rest if width(line) > 80 and len(line.split()) > 1] == []
    assert [line for line in lines if new in line and ("#" in line or "correct" in line)] == []


def test_plan_and_verify_line_up_the_names_of_jobs(hub: SyncEnv) -> None:
    for command in ("plan", "verify"):
        rows = [re.match(r"[✓✕‖] \S+ +", line) for line in screen(hub, command)]
        assert [found.end() for found in rows if found] == [9] * 4, command


def test_history_counts_many_changes_by_folder_unless_verbose(hub: SyncEnv) -> None:
    counted = screen(hub, "history many")
    assert [line.split()[-2:] for line in counted if " write " in line] == [["30", "files"]]
    assert len([line for line in screen(hub, "-v history many") if " write " in line]) == 30


def test_a_warning_is_folded() -> None:
    with redirect_stderr(Terminal()) as shown:
        set_up_logging(0, False)
        logging.getLogger("syncd.github").warning("no answer (%s): trying again", "a.host " * 12)
    assert [len(line) for line in shown.getvalue().splitlines()] == [75, 45]
