"""Habits of the installed command: where options go, colours, help, and completion."""

from __future__ import annotations

import logging
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from click.shell_completion import BashComplete

from syncd import __version__
from syncd.cli.common import Settings
from syncd.cli.main import COMMANDS, cli
from tests.support.fork_server import SYNCD, run_forked
from tests.support.running_terminal import DEADLINE_SECONDS, on_terminal
from tests.support.sync_env import SyncEnv, sync_env

ROOT = Path(__file__).resolve().parents[2]
COLOUR = re.compile(r"\x1b\[[0-9;]+m")


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncEnv]:
    """Two jobs in sync, two identities and a login."""
    with sync_env(tmp_path_factory.mktemp("hub"), as_app=False) as made:
        api = made.served.url
        made.identities["me"] = {"login": {"client_id": "Iv1.abc"}, "api": api}
        made.identities["public"] = {"anonymous": True, "api": api}
        made.jobs["nginx"]["as"] = "ops"
        made.jobs["motd"] = {
            **made.jobs["nginx"],
            "paths": [{"from": "nginx/nginx.conf", "to": f"{made.folder}/dest/motd"}],
        }
        made.write()
        assert made.call("sync").code == 0
        yield made


def syncd(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nowhere", **environ}
    return run_forked([SYNCD, *arguments], env=env, text=True)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ("-c FILE sync", 3),
        ("sync -c FILE", 3),
        ("sync motd --config FILE", 2),
        ("sync --config=FILE motd", 2),
        ("-c /nowhere sync -c FILE", 3),
        ("sync -c FILE -q", 0),
        ("-q sync -c FILE", 0),
        ("sync -q -c FILE motd", 0),
        ("sync --color never motd -c FILE", 2),
        ("-v sync motd -c FILE", 2),
        ("sync motd -v -c FILE", 2),
        ("status -c FILE -q", 0),
        ("trash -c FILE list", 1),
        ("trash list -c FILE", 1),
        ("-c FILE trash list -q", 0),
    ],
)
def test_options_go_before_and_after_the_command(
    synced: SyncEnv, arguments: str, lines: int
) -> None:
    done = syncd(*arguments.replace("FILE", str(synced.config)).split())
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, lines, "")


@pytest.mark.parametrize(
    ("arguments", "has_id"),
    [
        ("sync nobody -c FILE", False),
        ("-v sync nobody -c FILE", True),
        ("sync nobody -v -c FILE", True),
        ("-v sync -v nobody -c FILE", True),
    ],
)
def test_verbose_counts_wherever_it_is_typed(synced: SyncEnv, arguments: str, has_id: bool) -> None:
    done = syncd(*arguments.replace("FILE", str(synced.config)).split())
    assert done.returncode == 2
    assert ("error id: config/no-such-job" in done.stderr) == has_id


@pytest.mark.parametrize(
    ("command", "flag", "environ", "on_a_terminal", "in_a_pipe"),
    [
        ("sync", None, {}, True, False),
        ("sync", None, {"NO_COLOR": "1"}, False, False),
        ("sync", None, {"CLICOLOR_FORCE": "1"}, True, True),
        ("sync", "always", {"NO_COLOR": "1"}, True, True),
        ("sync", "never", {"CLICOLOR_FORCE": "1"}, False, False),
        ("plan", None, {}, True, False),
        ("plan", "never", {}, False, False),
    ],
)
def test_colours_follow_the_flag_then_the_environment_then_the_terminal(
    synced: SyncEnv,
    command: str,
    flag: str | None,
    environ: dict[str, str],
    on_a_terminal: bool,
    in_a_pipe: bool,
) -> None:
    """`sync` has nothing to do: its quick check prints the lines.

    tests/unit/test_output.py has the table of the rest.
    """
    arguments = ["-c", str(synced.config), command, *(["--color", flag] if flag else [])]
    with on_terminal(*arguments, **environ) as shown:
        assert shown.end() == 0
        assert bool(COLOUR.search(shown.text)) == on_a_terminal
    assert bool(COLOUR.search(syncd(*arguments, **environ).stdout)) == in_a_pipe


def test_a_colour_that_is_none_is_a_usage_error(synced: SyncEnv) -> None:
    done = syncd("-c", str(synced.config), "sync", "--color", "green")
    assert done.returncode == 2
    assert "'green' is not one of 'auto', 'always', 'never'" in done.stderr


@pytest.mark.parametrize("arguments", ["--version", "version", "-q --version sync"])
def test_version(arguments: str) -> None:
    done = syncd(*arguments.split())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"syncd {__version__}\n", "")


@pytest.mark.parametrize(
    ("asked", "same_as"),
    [
        ("help", "--help"),
        ("help sync", "sync --help"),
        ("help trash", "trash --help"),
        ("help trash list", "trash list --help"),
        ("help help", "help --help"),
        ("help status", "status -h"),
    ],
)
def test_help_prints_what_the_help_option_prints(asked: str, same_as: str) -> None:
    done = syncd(*asked.split())
    assert done.returncode == 0 and done.stdout.startswith("Usage: syncd ")
    assert done.stdout == syncd(*same_as.split()).stdout


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("help snyc", "no such command 'snyc'; did you mean 'sync'?"),
        ("help trash lst", "no such command 'lst'; did you mean 'list'?"),
        ("help sync now", "no such command 'now'"),
    ],
)
def test_help_of_an_unknown_command_is_a_usage_error(asked: str, message: str) -> None:
    done = syncd(*asked.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_make_help_names_every_target() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    done = subprocess.run(
        [sys.executable, "dev", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"demo", "test", "help"} <= targets
    assert targets <= set(re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE))


COMPLETIONS = [
    ("syncd sync ", ["motd", "nginx"]),
    ("syncd sync ng", ["nginx"]),
    ("syncd sync nginx ", ["motd"]),
    ("syncd -q plan m", ["motd"]),
    ("syncd status -v n", ["nginx"]),
    ("syncd verify n", ["nginx"]),
    ("syncd history n", ["nginx"]),
    ("syncd rollback n", ["nginx"]),
    ("syncd pause n", ["nginx"]),
    ("syncd resume n", ["nginx"]),
    ("syncd sync --forget m", ["motd"]),
    ("syncd installations ", ["me", "ops", "public"]),
    ("syncd installations o", ["ops"]),
    ("syncd login ", ["me"]),
    ("syncd logout ", ["me"]),
    ("syncd explain DEST/s", ["DEST/sites/a.conf"]),
    ("syncd explain DEST/", ["DEST/motd", "DEST/nginx.conf", "DEST/sites/a.conf"]),
    ("syncd history --path DEST/n", ["DEST/nginx.conf"]),
    ("syncd sync nobody-", []),
    ("syncd --color a", ["always", "auto"]),
    ("syncd sync --color n", ["never"]),
    ("syncd help st", ["status"]),
    ("syncd help trash r", ["restore"]),
    ("syncd completion f", ["fish"]),
    ("syncd pa", ["pause"]),
]


@pytest.mark.parametrize(("typed", "found"), COMPLETIONS)
def test_completion_offers_names(synced: SyncEnv, typed: str, found: list[str]) -> None:
    words = typed.replace("DEST", str(synced.dest)).split(" ")[1:]
    settings = Settings(environ={"SYNCD_CONFIG": str(synced.config)})
    shell = BashComplete(cli, {"obj": settings}, "syncd", "_SYNCD_COMPLETE")
    with patch.dict(os.environ, {"SYNCD_CONFIG": str(synced.config)}):
        offered = [item.value for item in shell.get_completions(words[:-1], words[-1])]
    logging.disable(logging.NOTSET)
    assert sorted(one.replace(str(synced.dest), "DEST") for one in offered) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("syncd sync ng", ["nginx"]),
        ("syncd logout ", ["me"]),
        ("syncd explain DEST/s", ["DEST/sites/a.conf"]),
        ("syncd sync nobody-", []),
    ],
)
def test_a_shell_completes_names(synced: SyncEnv, shell: str, typed: str, found: list[str]) -> None:
    words = typed.replace("DEST", str(synced.dest))
    done = syncd(
        SYNCD_CONFIG=str(synced.config),
        _SYNCD_COMPLETE=f"{shell}_complete",
        COMP_WORDS=words,
        COMP_CWORD=words.rpartition(" ")[2] if shell == "fish" else str(words.count(" ")),
    )
    assert done.stderr == ""
    assert [one.replace(str(synced.dest), "DEST") for one in _values(shell, done.stdout)] == found


def test_tab_completes_in_bash(synced: SyncEnv) -> None:
    bash = Bash({"SYNCD_CONFIG": str(synced.config), "PATH": f"{Path(SYNCD).parent}:{os.defpath}"})
    try:
        bash.type("source <(syncd completion bash); echo rea''dy\n")
        bash.wait_for("ready")
        bash.type("\x15syncd pau\t")
        bash.wait_for("pause ")
        bash.type("ng\t")
        bash.wait_for("nginx ")
        bash.type("\x15syncd explain " + f"{synced.dest}/s\t")
        bash.wait_for("/sites/a.conf ")
    finally:
        bash.close()


class Bash:
    """An interactive bash on a terminal. `text` is what it wrote since it was last waited for."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._terminal, theirs = os.openpty()
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm", "LANG": "C.UTF-8", "HOME": "/nowhere", "COLUMNS": "500"}
            | environ,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, wanted: str) -> None:
        while wanted not in self.text:
            assert select.select([self._terminal], [], [], DEADLINE_SECONDS)[0], self.text
            self.text += os.read(self._terminal, 4096).decode(errors="replace")
        self.text = ""

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


def _values(shell: str, answer: str) -> list[str]:
    """Return what the shell is offered: bash and fish get a line each, zsh three."""
    lines = answer.strip("\n").splitlines()
    if shell == "zsh":
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


def test_completion_finds_the_configuration_that_is_typed(synced: SyncEnv) -> None:
    for words in (f"syncd -c {synced.config} sync ", f"syncd sync -c {synced.config} "):
        done = syncd(
            _SYNCD_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" "))
        )
        assert done.stdout.split() == ["plain,nginx", "plain,motd"]


@pytest.mark.parametrize("content", [None, "jobs: [", "version: 1\n"])
def test_completion_is_silent_where_the_configuration_is_wrong(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_text(content)
    for words in ("syncd sync ", "syncd explain /", "syncd login ", "syncd trash show "):
        done = syncd(
            SYNCD_CONFIG=str(file),
            _SYNCD_COMPLETE="bash_complete",
            COMP_WORDS=words,
            COMP_CWORD=str(words.count(" ")),
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_every_command_is_completed() -> None:
    done = syncd(_SYNCD_COMPLETE="bash_complete", COMP_WORDS="syncd ", COMP_CWORD="1")
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == set(COMMANDS)
