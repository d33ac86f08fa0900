"""Faults planted into the source of one module at a time, and the test that has to fail with each.

A fault is a text of the module and what it is replaced with. The changed source goes into a temporary
file, and a pytest of its own imports the module from there: the working tree is not touched, and
nothing else of the test is different. A fault counts as found only when its test ran and failed; a
module that cannot be imported, or a test that does not exist, is an error of this table.

Unlike `bugs.py`, which replaces functions while the fault families run, this says of each decision
which test notices that it is wrong. To add a fault, add a row to `FAULTS`. Run them by hand with
`python -m tests.fault.planted [WORD IN THE NAME]`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
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


# --- in the process that runs the test --------------------------------------------------------------


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


# --- in the process that asks -----------------------------------------------------------------------


def verdict(fault: Fault) -> str:
    """Empty when the test failed with the fault; else what happened instead."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "planted.py"
        source.write_text(fault.planted())
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "tests.fault.planted", *PLAIN, fault.test],
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


# --- the faults -------------------------------------------------------------------------------------

Rows = Mapping[str, tuple[str, str, str]]  # name -> old text, new text, test


def faults_of(module: str, rows: Rows) -> list[Fault]:
    return [Fault(name, module, *row) for name, row in rows.items()]


PLAN_TESTS = "tests/unit/engine/test_plan.py"
TABLE = f"{PLAN_TESTS}::test_the_plan_for_one_file_is_as_the_table_says"

PLAN: Rows = {
    "keep never writes a new file": (
        "if have is None and (had is None",
        "if job.drift is not Drift.KEEP and have is None and (had is None",
        TABLE,
    ),
    "report keeps an edit when upstream changes the file": (
        "job.drift is Drift.REPORT and (first_meeting or not upstream_changed)",
        "job.drift is Drift.REPORT",
        TABLE,
    ),
    "report replaces another file at the first meeting": (
        "(first_meeting or not upstream_changed)",
        "(not upstream_changed)",
        TABLE,
    ),
    "report adopts nothing": (
        "return None if known else",
        "return None if known or job.drift is Drift.REPORT else",
        TABLE,
    ),
    "a row of a file that is gone on both sides is never forgotten": (
        'return Action(Verb.FORGET, path, None, had, None, "gone on both sides")',
        "return None",
        TABLE,
    ),
    "a row of another file is never forgotten": (
        'return None if had is None else Action(Verb.FORGET, path, None, had, have, "never ours")',
        "return None",
        TABLE,
    ),
    "an edited file that upstream dropped stays without a word": (
        'return Action(Verb.KEEP, path, None, had, have, "dropped upstream, but edited here")',
        "return None",
        TABLE,
    ),
    "an edited file that upstream dropped is removed": (
        "if not had.entry.same_content(have):\n        return Action(Verb.KEEP",
        "if had.entry.kind is not have.kind:\n        return Action(Verb.KEEP",
        TABLE,
    ),
    "another file is removed when upstream drops the path": (
        "if had is None or had.standing is Standing.MET:\n        return None",
        "if had is None:\n        return None",
        TABLE,
    ),
    "prune: off removes": (
        "if job.prune is Prune.OFF:\n        return None",
        "if job.prune is Prune.OFF and had.standing is Standing.DROPPED:\n        return None",
        TABLE,
    ),
    "prune: off names what it leaves": (
        "if job.prune is Prune.OFF:\n        return None",
        'if job.prune is Prune.OFF:\n        return Action(Verb.KEEP, path, None, had, have, "left")',
        TABLE,
    ),
    "an edit that is put back does not go to the trash": (
        "drifted=verb is Verb.RESTORE, takes_over=foreign)",
        "drifted=verb is Verb.RESTORE)",
        TABLE,
    ),
    "another file that is taken over does not go to the trash": (
        '"takes over", takes_over=foreign)',
        '"takes over")',
        TABLE,
    ),
    "syncd's own bytes go to the trash": (
        'had, have, "changed upstream")',
        'had, have, "changed upstream", takes_over=True)',
        TABLE,
    ),
    "drift that is put back is not counted": (
        "drifted=verb is Verb.RESTORE, takes_over",
        "takes_over",
        TABLE,
    ),
    "keep counts an edit as drift": (
        "reason, drifted=job.drift is Drift.REPORT)",
        "reason, drifted=True)",
        TABLE,
    ),
    "keep counts another mode as drift": (
        '"mode or owner changed here", drifted=job.drift is Drift.REPORT)',
        '"mode or owner changed here", drifted=True)',
        TABLE,
    ),
    "another `mode:` in the configuration counts as drift": (
        "drifted=ours is not None and not asked_anew)",
        "drifted=ours is not None)",
        TABLE,
    ),
    "report leaves a file's mode for good": (
        "job.drift is Drift.REPORT and (had is None or not asked_anew)",
        "job.drift is Drift.REPORT",
        TABLE,
    ),
    "report sets another mode at the first meeting": (
        "job.drift is Drift.REPORT and (had is None or not asked_anew)",
        "job.drift is Drift.REPORT and not asked_anew",
        TABLE,
    ),
    "keep loses another mode when upstream changes the file": (
        "if job.drift is Drift.KEEP and not ours.same_looks(have):",
        "if job.drift is Drift.KEEP and ours.kind is not have.kind:",
        TABLE,
    ),
    "a file that upstream adds again counts as removed here": (
        "if have is None and (had is None or had.standing is not Standing.OURS):",
        "if have is None and ours is None:",
        TABLE,
    ),
    "an edit is compared with syncd's version and not with the repository's": (
        "not had.upstream.same_content(want)",
        "not had.entry.same_content(want)",
        TABLE,
    ),
    "a version that was remembered beside a row is never cleared": (
        " and had.wanted is None\n",
        "\n",
        TABLE,
    ),
    "a file under another inode is not noticed": (
        "had.stat == have.stat and had.entry == want",
        "had.entry == want",
        f"{PLAN_TESTS}::test_an_equal_file_is_adopted_where_the_ledger_says_anything_else",
    ),
    "a file from another path of the repository is not noticed": (
        "had.stat == have.stat and had.entry == want",
        "had.stat == have.stat and had.entry.same_content(want)",
        f"{PLAN_TESTS}::test_an_equal_file_is_adopted_where_the_ledger_says_anything_else",
    ),
    "a new executable bit does not count as an upstream change": (
        " or _made_executable(had.upstream, want)",
        "",
        f"{PLAN_TESTS}::test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit",
    ),
    "the executable bit counts where `mode:` makes it meaningless": (
        " and before.mode != want.mode",
        "",
        f"{PLAN_TESTS}::test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit",
    ),
    "an owner in the configuration that changes counts as drift": (
        "(want.mode, want.uid, want.gid)",
        "(want.mode, asked_before.uid, asked_before.gid)",
        f"{PLAN_TESTS}::test_an_owner_is_judged_as_a_mode_is",
    ),
    "a folder never becomes a file": (
        "have.kind is Kind.DIRECTORY and path in own_folders",
        "have.kind is Kind.DIRECTORY and path in recorded",
        f"{PLAN_TESTS}::test_a_folder_of_the_job_becomes_a_file_under_every_policy",
    ),
    "a folder with files of others becomes a file": (
        "for path, row in recorded.items() if row.standing is not Standing.MET)\n",
        "for path, row in recorded.items())\n",
        f"{PLAN_TESTS}::test_a_folder_that_only_holds_files_of_others_does_not_become_a_file_under_report",
    ),
    "one removal more than the limit is allowed": (
        "if removals > allowed:",
        "if removals > allowed + 1:",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
    "the limit itself is refused": (
        "if removals > allowed:",
        "if removals >= allowed:",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
    "an empty commit removes everything": (
        "if not remote and not limits.empty and allow_delete is None:",
        "if not remote and not limits.empty and not recorded:",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
    "a share counts for few files": (
        "max(SHARE_COUNTS_PAST, int(share * tracked))",
        "int(share * tracked)",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
}

FAULTS = faults_of("syncd.engine.plan", PLAN)


def main(word: str = "") -> int:
    """Tries the faults whose name has the word; prints one line for each."""
    missed = 0
    for fault in (one for one in FAULTS if word in f"{one.module} {one.name}"):
        what = verdict(fault)
        missed += bool(what)
        print(f"{fault.module}: {fault.name}: {what or 'caught'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
