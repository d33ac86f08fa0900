"""docs/start.md: its commands run against `syncd demo --serve`, and print what it shows."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/start.md").read_text()
SHOWN = "/tmp/syncd-demo-u2avhgie"
Syncd = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The folder of a running `syncd demo --serve`."""
    command = [sys.executable, "-u", "-m", "syncd", "demo", "--serve"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.readline() + process.stdout.readline() + process.stdout.readline()
        (folder,) = re.findall(r"syncd -c (\S+)/config\.yaml sync", printed)
        yield Path(folder)
        process.send_signal(signal.SIGINT)
        process.stdout.read()


@pytest.fixture
def syncd(served: Path) -> Syncd:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SYNCD_CONFIG": f"{served}/config.yaml"}
        command = [sys.executable, "-m", "syncd", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    return call


def without_seconds(text: str) -> str:
    return re.sub(r"\d+\.\d s\b", "SECONDS", text)


def test_the_commands_of_the_page_do_what_it_says(served: Path, syncd: Syncd) -> None:
    (shown,) = re.findall(r"\$ \.venv/bin/syncd sync\n((?!\$)(?:.+\n)+?)```", PAGE)
    first = syncd("sync")
    assert without_seconds(first.stdout) == without_seconds(shown.replace(SHOWN, str(served)))
    file = served / "etc/nginx/nginx.conf"
    with file.open("a") as edited:
        edited.write("# mine\n")
    assert "-# mine" in syncd("plan", "--diff").stdout
    assert syncd("sync").returncode == 0 and "# mine" not in file.read_text()
    assert str(file) in syncd("trash", "list").stdout


def test_the_other_commands_of_the_page_run(served: Path, syncd: Syncd) -> None:
    assert syncd("sync").returncode == 0
    table = re.findall(r"^\| `syncd ([^`]+)` \|", PAGE, re.MULTILINE)
    assert len(table) == 5
    for line in table:
        done = syncd(*line.replace("PATH", f"{served}/etc/nginx/nginx.conf").split())
        assert (done.returncode, done.stderr) == (0, "") and done.stdout, line
