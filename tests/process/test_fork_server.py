"""The fork server of the tests: what it starts is a process as Python would have started it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from syncd import __version__
from syncd.hooks import runner
from tests.support.fork_server import MODULE, SYNCD, ForkedSyncd, run_forked
from tests.support.sync_env import SyncEnv

ENVIRON = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "LANG": "C.UTF-8"}

# name: the command line, and what else it is given
COMMANDS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "an answer": ([*MODULE, "version"], {}),
    "a usage error": ([*MODULE, "nonsense"], {}),
    "a working directory": ([*MODULE, "-c", "config.yaml", "status"], {"cwd": "/"}),
    "a variable": ([*MODULE, "status"], {"env": {**ENVIRON, "SYNCD_CONFIG": "/nowhere/else"}}),
    "no locale": ([*MODULE, "-c", "/\u2713", "status"], {"env": {"PATH": ENVIRON["PATH"]}}),
    "standard input": ([*MODULE, "web", "hash"], {"input": "short\n"}),
    "the console script": ([SYNCD, "--version"], {}),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_and_exits_as_if_python_had_started_it(name: str) -> None:
    command, given = COMMANDS[name]
    options: dict[str, Any] = {"env": ENVIRON, "cwd": Path(SYNCD).parent, "text": True} | given
    forked = run_forked(command, **options)
    started = subprocess.run(command, capture_output=True, check=False, **options)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


def test_it_is_a_child_of_this_process_that_a_signal_ends() -> None:
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "env": ENVIRON}
    with ForkedSyncd([*MODULE, "demo", "--serve"], **options) as process:
        assert process.stdout is not None and "stand-in" in process.stdout.readline()
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"\nPPid:\t{os.getpid()}\n" in status
        links = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
        assert len(links) == 3 and process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


def test_a_forked_supervisor_gives_a_hook_what_a_started_one_does(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = "env | sort; pwd; ulimit -a; ls -l /proc/$$/fd | wc -l; ps -o sid= -p $$ | wc -w"
    hub.write_config(on_change={"shell": f"{{ {facts}; }} > {hub.folder}/seen"})
    seen = []
    for number in range(2):
        hub.repo.commit({"nginx/nginx.conf": f"{number}\n"})
        assert hub.sync("--allow-delete", "9").code == 0
        seen.append((hub.folder / "seen").read_text())
        monkeypatch.setattr(runner, "subprocess", subprocess)
    forked, started = (re.sub(r"(?m)^SYNCD_.*\n", "", text) for text in seen)
    assert forked == started


@pytest.mark.parametrize(
    ("command", "environ"),
    [
        ([sys.executable, "-c", "pass"], {}),
        (["sh", "-c", "syncd"], {}),
        ([*MODULE, "version"], {"LC_ALL": "de_DE.ISO-8859-1"}),
        ([*MODULE, "version"], {"PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_what_a_start_of_python_decides_is_refused(
    command: list[str], environ: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match=r"not a command line|start Python"):
        run_forked(command, env=environ)


def test_each_has_random_numbers_of_its_own() -> None:
    hashes = {
        run_forked([*MODULE, "web", "hash"], input=b"correct horse battery", env=ENVIRON).stdout
        for _ in range(2)
    }
    assert len(hashes) == 2
    assert run_forked([*MODULE, "version"], text=True).stdout == f"syncd {__version__}\n"
