"""docs/production.md: the script for cron is run with every exit code and with a real sync."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from syncd.simulator.faults import status
from tests.support.sync_env import SyncEnv

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).parents[2] / "docs/production.md").read_text()
SILENT = (0, 5, 11)
EXITS = (0, 1, 2, 3, 4, 5, 6, 11, 70, 130)


def examples(language: str) -> list[str]:
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    return [str(one) for one in found]


def cron_script(folder: Path, syncd: str) -> Path:
    """Write the page's script with another command in the place of /usr/bin/syncd."""
    (text,) = examples("sh")
    assert text.count("/usr/bin/syncd ") == 1
    script = folder / "syncd-cron"
    script.write_text(text.replace("/usr/bin/syncd", syncd))
    script.chmod(0o755)
    return script


@pytest.mark.parametrize("code", EXITS)
def test_the_cron_script_prints_only_what_needs_a_person(tmp_path: Path, code: int) -> None:
    fake = tmp_path / "syncd"
    fake.write_text(f'#!/bin/sh\necho "$@: what went wrong" >&2\nexit {code}\n')
    fake.chmod(0o755)
    done = subprocess.run(
        [cron_script(tmp_path, str(fake)), "nginx"], capture_output=True, text=True, check=False
    )
    expected = (
        (0, "")
        if code in SILENT
        else (
            code,
            "-q sync --json nginx: what went wrong\n",
        )
    )
    assert (done.returncode, done.stdout, done.stderr) == (*expected, "")


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_the_cron_script_is_silent_during_an_outage_and_names_a_missing_ref(hub: SyncEnv) -> None:
    script = cron_script(
        hub.folder, f"{shlex.quote(sys.executable)} -m syncd -c {shlex.quote(str(hub.config))}"
    )

    def call() -> tuple[int, str]:
        done = subprocess.run(
            [script], capture_output=True, text=True, check=False, env=dict(os.environ)
        )
        return done.returncode, done.stdout + done.stderr

    assert call() == (0, "")
    hub.write_config(timeout="1s")
    hub.github.add_fault("*", status(503), times=10_000)
    assert call() == (0, "")
    hub.github.faults.clear()
    hub.write_config(ref="nosuch")
    code, text = call()
    assert code == 1 and "there is no branch, tag or commit 'nosuch'" in text


@pytest.mark.parametrize(
    ("code", "kinds", "mail"),
    [
        (3, ["unavailable"], False),
        (3, ["locked"], False),
        (1, ["unavailable", "locked"], False),
        (1, ["rate_limited", "bad_response"], False),
        (3, ["unavailable", "hook"], True),
        (1, ["limit", "locked"], True),
        (70, ["unavailable"], True),
    ],
)
def test_the_cron_script_is_silent_about_several_jobs_that_only_have_to_try_again(
    tmp_path: Path, code: int, kinds: list[str], mail: bool
) -> None:
    error = {"message": 'it said "no"', "hint": "look"}
    jobs = [{"job": f"j{n}", "error": {"kind": kind, **error}} for n, kind in enumerate(kinds)]
    answer = tmp_path / "answer"
    answer.write_text(json.dumps({"jobs": [{"job": "done", "error": None}, *jobs]}))
    fake = tmp_path / "syncd"
    fake.write_text(f"#!/bin/sh\ncat {answer}\nexit {code}\n")
    fake.chmod(0o755)
    done = subprocess.run(
        [cron_script(tmp_path, str(fake))], capture_output=True, text=True, check=False
    )
    lines = ['"job": "done"']
    for number in range(len(kinds)):
        lines += [f'"job": "j{number}"', r'"message": "it said \"no\""', '"hint": "look"']
    expected = (code, "\n".join([*lines, ""])) if mail else (0, "")
    assert (done.returncode, done.stdout, done.stderr) == (*expected, "")


def test_each_configuration_of_the_page_loads(hub: SyncEnv) -> None:
    for text in examples("yaml"):
        hub.extra.update(yaml.safe_load(text.replace("oncall", "root")))
    hub.write()
    assert hub.call("check").code == 0
