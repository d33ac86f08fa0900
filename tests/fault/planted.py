"""Faults planted into the source of one module at a time, and the test that has to fail with each.

A fault is a text of the module and what it is replaced with. The changed source goes into a
temporary file, and a pytest of its own imports the module from there: the working tree is not
touched. A fault counts as found only if its test ran and failed. A module that cannot be imported,
or a test that does not exist, does not count.

`bugs.py` replaces functions while the fault families run; this tries single decisions, and says
which test checks each. To add a fault, add a row to `planted_faults.py`. To run some by hand:
`python -m tests.fault.planted [WORDS OF A MODULE OR A NAME]`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULE, SOURCE = "SYNCD_PLANTED_MODULE", "SYNCD_PLANTED_SOURCE"
TEST_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Fault:
    """`old` is in the source of `module` exactly once; `test` is the pytest id that has to fail."""

    name: str
    module: str
    old: str
    new: str
    test: str

    def planted(self) -> str:
        """The source of the module with the fault in it."""
        source = self.path.read_text()
        found = source.count(self.old)
        assert found == 1, f"{self.name}: the old text is {found} times in {self.module}"
        return source.replace(self.old, self.new)

    @property
    def path(self) -> Path:
        return ROOT / f"{self.module.replace('.', '/')}.py"


# --- in the process that runs the test ------------------------------------------------------------


class PlantedFinder(importlib.abc.MetaPathFinder):
    """Finds one module in another file than its own."""

    def __init__(self, module: str, source: str) -> None:
        self.module, self.source = module, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        return importlib.util.spec_from_file_location(fullname, self.source)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """As a plugin (`-p tests.fault.planted`): before any conftest has imported syncd."""
    sys.meta_path.insert(0, PlantedFinder(os.environ[MODULE], os.environ[SOURCE]))


# --- in the process that asks ---------------------------------------------------------------------


def verdict(fault: Fault) -> str:
    """Empty when the test failed with the fault; else what happened instead."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "planted.py"
        source.write_text(fault.planted())
        # a folder of its own: pytests beside this one clear up the shared one at the same time
        own = f"--basetemp={Path(folder) / 'tests'}"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "tests.fault.planted", *PLAIN, own, fault.test],
            cwd=ROOT,
            env=os.environ | {MODULE: fault.module, SOURCE: str(source)},
            capture_output=True,
            text=True,
        )
    if done.returncode == pytest.ExitCode.TESTS_FAILED and " failed" in done.stdout:
        return ""
    if done.returncode == pytest.ExitCode.OK:
        return f"not noticed by {fault.test}"
    return f"{fault.test} could not be run (exit {done.returncode}):\n{done.stdout}{done.stderr}"


PLAIN = (
    "-x",
    "-q",
    "--no-header",
    "--tb=no",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:xdist",
    f"--timeout={TEST_TIMEOUT_SECONDS}",
)


def main(word: str = "") -> int:
    """Tries the faults whose name has the word; prints one line for each."""
    from tests.fault.planted_faults import FAULTS  # its rows are made of this module's Fault

    missed = 0
    for fault in (one for one in FAULTS if word in f"{one.module} {one.name}"):
        what = verdict(fault)
        missed += bool(what)
        print(f"{fault.module}: {fault.name}: {what or 'caught'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
