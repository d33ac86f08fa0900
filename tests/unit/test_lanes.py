"""The lanes of the tests: each test belongs to one, and the table of their seconds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from tests.lanes import CI_SECONDS, LANES, MARKS, files_left_out, files_of, note, table

ROOT = Path(__file__).resolve().parents[2]

# the marks of a test, and the lanes that run it
CHOSEN = [
    ((), ["push"]),
    (("docs",), ["docs"]),
    (("root",), ["root"]),
    (("systemd",), ["root"]),
    (("root", "docs"), ["docs"]),
    (("chromium",), ["browser"]),
    (("chromium", "root"), ["browser"]),
    (("postgresql",), ["database"]),
    (("postgresql", "root"), ["database"]),
    (("package",), ["package"]),
    (("package", "systemd", "root"), ["package"]),
    (("package", "docs"), ["package"]),
    (("fuzz",), ["fuzz"]),
]


@pytest.mark.parametrize(("marks", "lanes"), CHOSEN, ids=str)
def test_a_tests_marks_choose_its_lane(marks: tuple[str, ...], lanes: list[str]) -> None:
    chosen = [
        name
        for name, lane in LANES.items()
        if name != "lint" and Expression.compile(lane.expression).evaluate(_matcher(marks))
    ]
    assert chosen == lanes


class _matcher:
    def __init__(self, marks: tuple[str, ...]) -> None:
        self.marks = marks

    def __call__(self, name: str, /, **_kwargs: object) -> bool:
        return name in self.marks


def test_the_push_lane_leaves_out_files_that_are_another_lanes_as_a_whole() -> None:
    left_out = {path.name for path in files_left_out(LANES["push"])}
    assert left_out >= {"test_docs.py", "test_service.py", "test_dist.py"}
    assert not left_out & {"test_lanes.py", "test_sync.py", "test_runner.py"}
    assert files_left_out(LANES["docs"]) == []


def test_the_budgets_are_those_of_the_plan() -> None:
    minutes = {name: lane.budget_seconds / 60 for name, lane in LANES.items()}
    assert minutes == {
        "push": 5,
        "lint": 1,
        "fuzz": 2,
        "root": 8,
        "package": 3,
        "browser": 3,
        "database": 4,
        "docs": 1,
    }
    assert sum(minutes.values()) * 60 <= CI_SECONDS == 30 * 60


def test_ci_runs_each_lane_and_the_readmes_command_first() -> None:
    text = (ROOT / ".ci/run").read_text()
    run = text.partition("\nmake test\nmake lint\n")
    assert run[1] and 'python3 dev test "$lane"' in run[2]
    named = set(" ".join(re.findall(r'lanes="(?:\$lanes )?([a-z ]+)"', run[0])).split())
    assert named == set(LANES) - {"push", "lint"}


def test_make_has_a_target_for_each_lane() -> None:
    text = (ROOT / "Makefile").read_text()
    lanes = re.search(r"^LANES = (.*)$", text, re.MULTILINE)
    assert lanes is not None and set(lanes[1].split()) == set(LANES) - {"lint"}


def test_a_lane_is_given_the_files_that_name_its_marks_alone() -> None:
    browser = [path.name for path in files_of(LANES["browser"])]
    assert browser == ["test_keyboard.py", "test_looks.py", "test_web_page.py"]
    assert files_of(LANES["push"]) == [ROOT / "tests"]


def test_no_helper_has_a_mark_that_chooses_a_lane() -> None:
    """A lane is given test files; a mark that a helper puts on would not be found."""
    mark = re.compile(rf"\bpytest\.mark\.({'|'.join(MARKS)})\b")
    helpers = [path for path in (ROOT / "tests").rglob("*.py") if path.name[:5] != "test_"]
    assert [str(path) for path in helpers if mark.search(path.read_text())] == []


def test_the_table_has_the_lanes_so_far_and_the_one_that_runs(tmp_path: Path) -> None:
    environment = {
        "SYNCD_LANE_TIMES": str(tmp_path / "times"),
        "SYNCD_LANE": "root:2000",
        "SYNCD_CI_STARTED": "1000",
    }
    note("push", 281.4, environment)
    note("lint", 75.2, environment)
    assert table(environment, now=2400.6) == [
        "push                281 s of  300 s",
        "lint                 75 s of   60 s  OVER BUDGET",
        "root                401 s of  480 s",
        "all, with set-up   1401 s of 1800 s",
    ]


def test_without_ci_the_table_has_the_lane_alone() -> None:
    note("push", 10, {})
    assert table({"SYNCD_LANE": "docs:100.0"}, now=130) == ["docs                 30 s of   60 s"]
