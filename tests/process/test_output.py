"""What becomes of the output (closed, full, a broken pipe,
another encoding) changes neither the work nor the exit code.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd import __version__
from syncd.cli.main import COMMANDS, run
from tests.support.daemon import DEADLINE_SECONDS
from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.sync_env import SyncEnv, sync_env, tree_of

ROOT = Path(__file__).resolve().parents[2]
FIRST = {"nginx.conf": b"one\n", "sites/\u2713.conf": b"a\n"}
SECOND = {"nginx.conf": b"two\n", "sites/\u2713.conf": b"a\n"}
OUTPUTS = [
    "out closed",
    "err closed",
    "out full",
    "err full",
    "out broken",
    "err broken",
    "latin-1",
]
# of each command in the root lane; 6 are all the others
MORE_OUTPUTS = int(os.environ.get("SYNCD_MORE_OUTPUTS", "2"))
NEVER, SYNCED, PAUSED, FAILING = "never", "in_sync", "paused", "failing"

# command line after `syncd -c CONFIG`, how many commits were synced before, exit code, the job's
# state and its files afterwards
CASES: list[tuple[str, int, int, str, Mapping[str, bytes]]] = [
    ("--help", 0, 0, NEVER, {}),
    ("help sync", 0, 0, NEVER, {}),
    ("version", 0, 0, NEVER, {}),
    ("help sync", 0, 0, NEVER, {}),
    ("version --verbose", 1, 0, SYNCED, FIRST),
    ("completion bash", 0, 0, NEVER, {}),
    ("demo", 0, 0, NEVER, {}),
    ("nonsense", 0, 2, NEVER, {}),
    ("check --online", 0, 3, NEVER, {}),
    ("plan --json --exit-code --diff", 1, 10, SYNCED, FIRST),
    ("-v sync", 0, 0, SYNCED, FIRST),
    ("sync --json", 1, 0, SYNCED, SECOND),
    ("sync", 2, 0, SYNCED, SECOND),
    ("sync --ref gone nginx", 1, 1, FAILING, FIRST),
    ("status", 0, 3, NEVER, {}),
    ("history --diff", 2, 0, SYNCED, SECOND),
    ("trash list", 2, 0, SYNCED, SECOND),
    ("explain DEST/sites/\u2713.conf", 2, 0, SYNCED, SECOND),
    ("rollback nginx", 2, 0, PAUSED, FIRST),
    ("pause nginx --reason \u2713", 2, 0, PAUSED, SECOND),
    ("resume nginx", 2, 0, SYNCED, SECOND),
    ("verify", 2, 0, SYNCED, SECOND),
    ("doctor", 2, 4, SYNCED, SECOND),
    ("login me", 2, 4, SYNCED, SECOND),
    ("logout me", 2, 0, SYNCED, SECOND),
    ("installations", 2, 3, SYNCED, SECOND),
    ("backup DEST/../copy.tar", 2, 0, SYNCED, SECOND),
    ("migrate", 0, 0, NEVER, {}),
    ("migrate --check", 2, 0, SYNCED, SECOND),
    ("fleet status", 0, 2, NEVER, {}),
]


class Site:
    """A configuration with a state and a destination of its own, on a simulator that many share."""

    def __init__(self, hub: SyncEnv, folder: Path) -> None:
        self.dest, self.config = folder / "dest", folder / "config.yaml"
        self.dest.mkdir(parents=True)
        job = {
            "as": "ops",
            "repo": "acme/infra",
            "ref": "main",
            "every": "5m",
            "paths": [{"from": "nginx/", "to": f"{self.dest}/"}],
        }
        login = {"login": {"client_id": "Iv23liUnknown"}, "api": hub.served.url}
        value = {
            "version": "1",
            "state": str(folder / "state"),
            "github": {**hub.identities, "me": login},
            "jobs": {"nginx": job},
        }
        self.config.write_text(yaml.safe_dump(value))

    def command(self, line: str) -> list[str]:
        return ["-c", str(self.config), *line.replace("DEST", str(self.dest)).split()]

    def here(self, line: str) -> str:
        """What the command prints when it is called in this process."""
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(io.StringIO()):
            run(self.command(line))
        return out.getvalue()

    def stands(self) -> tuple[str, dict[str, Any]]:
        """The job's state and its files."""
        return json.loads(self.here("status --json"))["jobs"][0]["state"], tree_of(self.dest)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(
        tmp_path, {"nginx/nginx.conf": "one\n", "nginx/sites/\u2713.conf": "a\n"}, as_app=False
    ) as made:
        yield made


def sites(hub: SyncEnv, names: list[str], synced: int) -> dict[str, Site]:
    """A site for each name, with so many commits synced; where any was,
    a second commit is there.
    """
    made = {name: Site(hub, hub.folder / name.replace(" ", "-")) for name in names}
    if synced:
        for site in made.values():
            site.here("sync")
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
    if synced > 1:
        for site in made.values():
            site.here("sync")
    return made


@contextmanager
def streams(output: str) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    """For `sh`: a redirection that makes this output; what the process gets instead of pipes;
    its environment.
    """
    which, _, how = output.partition(" ")
    name = {"out": "stdout", "err": "stderr"}.get(which, "")
    environ = {"PYTHONIOENCODING": "latin-1:strict"} if output == "latin-1" else {}
    if how == "full":
        with open("/dev/full", "wb") as full:
            yield "", {name: full}, environ
    elif how == "broken":
        reader, writer = os.pipe()
        os.close(reader)
        with open(writer, "wb") as broken:
            yield "", {name: broken}, environ
    else:
        yield {"out closed": ">&-", "err closed": "2>&-"}.get(output, ""), {}, environ


@contextmanager
def started(arguments: list[str], output: str) -> Iterator[subprocess.Popen[bytes]]:
    with streams(output) as (redirection, given, environ):
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **given,
        }
        command = [*MODULE, *arguments]
        by_python = bool(redirection or environ)
        if redirection:
            command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ["HOME"],
            "PYTHONPATH": str(ROOT),
            "LC_ALL": "C.UTF-8",
            **environ,
        }
        popen = subprocess.Popen if by_python else ForkedSyncd
        with popen(command, env=env, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()


def ended(arguments: list[str], output: str) -> tuple[int, bytes]:
    """The exit code, and what was printed."""
    with started(arguments, output) as process:
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
        return process.returncode, (out or b"") + (err or b"")


IDS = [row[0].replace("\u2713", "CHECK") + f" after {row[1]}" for row in CASES]
EACH_COMMAND = pytest.mark.parametrize(
    ("number", "line", "synced", "code", "state", "files"),
    [(number, *row) for number, row in enumerate(CASES)],
    ids=IDS,
)
# every second of them at a push, the others in the root lane
EACH_COMMAND_ONCE = pytest.mark.parametrize(
    ("number", "line", "synced", "code", "state", "files"),
    [
        pytest.param(number, *row, marks=[pytest.mark.root] if number % 2 else [])
        for number, row in enumerate(CASES)
    ],
    ids=IDS,
)


@EACH_COMMAND_ONCE
def test_a_command_does_the_same_whatever_becomes_of_its_output(
    hub: SyncEnv,
    number: int,
    line: str,
    synced: int,
    code: int,
    state: str,
    files: Mapping[str, bytes],
) -> None:
    """One of the outputs for each command, in turn; the root lane tries two more."""
    _does_the_same(hub, [OUTPUTS[number % len(OUTPUTS)]], line, synced, code, (state, files))


@pytest.mark.root
@EACH_COMMAND
def test_a_command_does_the_same_with_other_outputs(
    hub: SyncEnv,
    number: int,
    line: str,
    synced: int,
    code: int,
    state: str,
    files: Mapping[str, bytes],
) -> None:
    _does_the_same(
        hub,
        [OUTPUTS[(number + step) % len(OUTPUTS)] for step in range(1, 1 + MORE_OUTPUTS)],
        line,
        synced,
        code,
        (state, files),
    )


def _does_the_same(
    hub: SyncEnv,
    outputs: list[str],
    line: str,
    synced: int,
    code: int,
    after: tuple[str, Mapping[str, bytes]],
) -> None:
    made = sites(hub, outputs, synced)
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda name: ended(made[name].command(line), name), outputs)
        found = dict(zip(outputs, ends, strict=True))
    assert {name: end for name, (end, _) in found.items()} == dict.fromkeys(outputs, code), found
    assert not [text for _, text in found.values() if b"Traceback" in text or b"Exception" in text]
    assert {name: site.stands() for name, site in made.items()} == dict.fromkeys(outputs, after)


def test_the_table_has_every_command() -> None:
    words = {word for row in CASES for word in row[0].split()}
    assert words | {"init", "run", "watch", "web"} >= set(COMMANDS), "these have tests of their own"


@pytest.mark.parametrize("output", OUTPUTS)
def test_init_writes_the_configuration_whatever_becomes_of_its_output(
    tmp_path: Path, output: str
) -> None:
    place = tmp_path / "config.yaml"
    code, text = ended(["-c", str(place), "init"], output)
    assert code == 0 and b"Traceback" not in text
    assert place.read_text() == (ROOT / "config.example.yaml").read_text()


# two of them at a push, the others in the root lane
@pytest.mark.parametrize(
    "output",
    [
        pytest.param(name, marks=[] if name in ("out closed", "err broken") else [pytest.mark.root])
        for name in OUTPUTS
    ],
)
def test_the_daemon_works_and_stops_whatever_becomes_of_its_output(
    hub: SyncEnv, output: str
) -> None:
    site = sites(hub, ["here"], 0)["here"]
    with started(site.command("run"), output) as process:
        _wait_for(lambda: tree_of(site.dest) == FIRST)
        inherited = {number: os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (1, 2)}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0 and b"Traceback" not in (out or b"") + (err or b"")
    assert site.stands() == (SYNCED, FIRST)
    closed = {"out closed": 1, "err closed": 2}.get(output)
    assert closed is None or inherited[closed] == "/dev/null", (
        "no file of the daemon may become its standard output"
    )


def _wait_for(found: Any) -> None:
    nothing, tries = threading.Event(), int(DEADLINE_SECONDS / 0.02)
    assert any(found() or nothing.wait(0.02) for _ in range(tries)), "it never happened"


def test_a_sync_with_every_descriptor_closed_leaves_a_sound_store(hub: SyncEnv) -> None:
    site = sites(hub, ["here"], 0)["here"]
    command = [
        "sh",
        "-c",
        'exec "$@" <&- >&- 2>&-',
        "sh",
        sys.executable,
        "-m",
        "syncd",
        *site.command("-v sync"),
    ]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0 and site.stands() == (SYNCED, FIRST)


def test_head_ends_a_pipe_without_changing_the_exit_code(hub: SyncEnv) -> None:
    site = sites(hub, ["here"], 0)["here"]
    script = '("$@"; echo "exit $?" >&2) | head -c 1'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "syncd", *site.command("status")]
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.stderr == "exit 3\n"


def test_a_character_that_the_terminal_lacks_is_written_as_an_escape(hub: SyncEnv) -> None:
    site = sites(hub, ["here"], 1)["here"]
    code, text = ended(site.command("verify"), "latin-1")
    assert code == 0 and text.splitlines()[0] == rb"\u2713 nginx  2 files read"


def test_a_full_pipe_that_was_made_non_blocking_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = os.write(writer, b"." * (1 << 20))
    with (
        open(reader, "rb") as pipe,
        subprocess.Popen(
            [sys.executable, "-m", "syncd", "version"],
            stdout=writer,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        ) as process,
    ):
        os.close(writer)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert pipe.read()[filled:] == f"syncd {__version__}\n".encode()
        assert process.wait(DEADLINE_SECONDS) == 0
