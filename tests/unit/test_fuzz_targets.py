"""Every place where bytes of others come in, fuzzed: with mutated seeds always,
and by coverage where atheris is installed (CI).

Half of the mutated seeds are tried at a push, the others in the root lane.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.harness import TARGETS, mutated

ROOT = Path(__file__).resolve().parents[2]
# of coverage-guided fuzzing, for all targets together; the configuration's reader gets the most
SECONDS = int(os.environ.get("SYNCD_FUZZ_SECONDS", "130"))
WEIGHTS = {target: 6 if target == "config" else 1 for target in TARGETS}
INPUTS = int(os.environ.get("SYNCD_FUZZ_INPUTS", "80"))
SLOW = {
    "config": 40,
    "walk": 60,
    "diffs": 25,
    "redaction": 15,
}  # inputs of a kind that take long; they have a test of their own beside this one


def test_every_target_is_listed() -> None:
    assert set(TARGETS) == {path.stem for path in (ROOT / "tests/fuzz").glob("*.py")} - {
        "__init__",
        "harness",
    }


@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.root)])
@pytest.mark.parametrize("target", TARGETS)
def test_whatever_comes_in_is_taken_for_what_it_is_or_refused_by_name(
    target: str, half: int
) -> None:
    module = importlib.import_module(f"tests.fuzz.{target}")
    inputs = mutated(list(module.seeds()), min(INPUTS, SLOW.get(target, INPUTS)))
    for number, data in enumerate(inputs):
        if number % 2 != half:
            continue
        try:
            module.one(data)
        except Exception as error:
            raise AssertionError(
                f"{target}, input {number}: {data[:2000]!r}: {type(error).__name__}: {error}"
            ) from error


@pytest.mark.fuzz
@pytest.mark.timeout(SECONDS + 200)
@pytest.mark.parametrize("target", TARGETS)
def test_coverage_guided_fuzzing_finds_nothing(
    target: str, tmp_path: Path, measured: Callable[[str], None]
) -> None:
    pytest.importorskip("atheris", reason="atheris could not be installed")
    seconds = max(2, SECONDS * WEIGHTS[target] // sum(WEIGHTS.values()))
    command = [
        sys.executable,
        "-m",
        f"tests.fuzz.{target}",
        "-seed=4",
        f"-max_total_time={seconds}",
        "-rss_limit_mb=2048",
        "-timeout=20",
        f"-artifact_prefix={tmp_path}/",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + 200)
    runs = re.findall(r"Done (\d+) runs", done.stderr)
    measured(f"fuzz {target}: {runs[-1] if runs else '?'} inputs in {seconds} s")
    assert done.returncode == 0, done.stderr[-3000:]
    assert runs and int(runs[-1]) > 0, done.stderr[-500:]
