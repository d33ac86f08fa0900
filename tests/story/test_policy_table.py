"""Every policy against every kind of difference, through the whole command.

The expectation is the table in docs/policies.md itself.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncd.git_objects import blob_id
from syncd.simulator.repository import File, Link, Submodule
from tests.support.sync_env import SyncEnv

PAGE = Path(__file__).resolve().parents[2] / "docs/policies.md"
DRIFTS, PRUNES = ("restore", "report", "keep"), ("tracked", "off")
UPSTREAM = (
    "The repository has not changed the file",
    "The repository has changed the content",
    "The repository has made the file executable",
    "The repository has deleted the file",
)
HERE = ("unchanged", "edited", "deleted", "mode changed", "replaced by a link")
FIRST_GROUP = "syncd sees the destination for the first time"
FIRST = (
    "no file",
    "an equal file",
    "an equal file with another mode",
    "another file",
    "a link",
)
MODE_GROUP, EXCLUDE_GROUP = (
    "The configuration has another `mode`",
    "The configuration excludes the file",
)
SETTINGS = (
    (MODE_GROUP, "unchanged"),
    (MODE_GROUP, "edited"),
    (MODE_GROUP, "mode changed"),
    (EXCLUDE_GROUP, "unchanged"),
    (EXCLUDE_GROUP, "edited"),
)
FOLDERS = {
    "A folder that syncd made": (
        "unchanged",
        "mode changed",
        "unchanged, with another `dir_mode`",
        "mode changed, with another `dir_mode`",
    ),
    "A folder that syncd did not make": ("mode changed", "unchanged, with another `dir_mode`"),
}


@dataclass(frozen=True)
class Case:
    """One row: a file or folder of its own in one repository,
    so that one run answers a whole column.

    A folder holds one file, which does not change.
    """

    group: str
    here: str
    path: str

    @property
    def is_folder(self) -> bool:
        return self.group in FOLDERS

    @property
    def is_own_folder(self) -> bool:
        return self.group == "A folder that syncd made"


def cases() -> list[Case]:
    found = [
        Case(upstream, here, f"known/{u}{h}")
        for u, upstream in enumerate(UPSTREAM)
        for h, here in enumerate(HERE)
    ]
    found += [Case(FIRST_GROUP, here, f"first/{number}") for number, here in enumerate(FIRST)]
    found += [
        Case(group, here, f"{'modes' if group == MODE_GROUP else 'excluded'}/{number}")
        for number, (group, here) in enumerate(SETTINGS)
    ]
    for whose, (group, heres) in zip(("ours", "others"), FOLDERS.items(), strict=True):
        found += [
            Case(group, here, f"{'asked' if 'dir_mode' in here else 'plain'}/{whose}{number}")
            for number, here in enumerate(heres)
        ]
    return found


def looks(path: Path) -> Any:
    """What a reader of the destination meets: kind, bytes and mode; None for nothing."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        return "link", os.readlink(path)
    if stat.S_ISDIR(found.st_mode):
        return "folder", None, stat.S_IMODE(found.st_mode)
    return "file", path.read_bytes(), stat.S_IMODE(found.st_mode)


def change_here(case: Case, path: Path) -> None:
    if case.here == "edited":
        path.write_text("mine\n")
    elif case.here == "deleted":
        path.unlink()
    elif case.here.startswith("mode changed"):
        path.chmod(0o700 if case.is_folder else 0o600)
    elif case.here == "replaced by a link":
        path.unlink()
        path.symlink_to("/etc/hostname")


def meet_first(case: Case, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if case.here.startswith("an equal file"):
        path.write_text(f"{case.path} two\n")
        path.chmod(0o600 if "another mode" in case.here else 0o644)
    elif case.here == "another file":
        path.write_text("mine\n")
    elif case.here == "a link":
        path.symlink_to("/etc/hostname")


Row = tuple[str, str]  # heading, first cell
Cell = tuple[str, str]  # action, what is there afterwards


def observed(hub: SyncEnv, drift: str, prune: str) -> dict[Row, Cell]:
    """What one run does about all rows.

    The plan before it has to say the same.
    """
    rows = cases()
    known = [case for case in rows if not case.path.startswith("first/")]
    rule = {"from": "/", "to": f"{hub.dest}/"}
    hub.repo.commit(
        {f"{case.path}/x" if case.is_folder else case.path: f"{case.path} one\n" for case in known},
        whole=True,
    )
    for case in known:
        if "others" in case.path:
            (hub.dest / case.path).mkdir(parents=True)
    hub.write_config(drift=drift, prune=prune, paths=[rule], limits={"delete": 1000})
    assert hub.sync().code == 0
    upstream: dict[str, Any] = {}
    for case in rows:
        path = hub.dest / case.path
        (meet_first if case.path.startswith("first/") else change_here)(case, path)
        if case.group == UPSTREAM[1] or case.path.startswith("first/"):
            upstream[case.path] = f"{case.path} two\n"
        elif case.group == UPSTREAM[2]:
            upstream[case.path] = File(f"{case.path} one\n".encode(), executable=True)
        elif case.group == UPSTREAM[3]:
            upstream[case.path] = None
    hub.repo.commit(upstream)
    others = [
        {"from": "modes/", "to": f"{hub.dest}/modes/", "mode": "0640"},
        {"from": "asked/", "to": f"{hub.dest}/asked/", "dir_mode": "0750"},
    ]
    hub.write_config(paths=[{**rule, "exclude": ["/modes", "/excluded", "/asked"]}, *others])
    before = {case.path: looks(hub.dest / case.path) for case in rows}
    planned = {change["path"]: change for change in hub.plan().job["changes"]}
    done = hub.sync()
    assert done.code == 0, done.out
    changes = {change["path"]: change for change in done.job["changes"]}
    assert planned == changes, "plan and sync name the same"
    found = {}
    for case in rows:
        path = hub.dest / case.path
        change = changes.get(str(path))
        found[case.group, case.here] = (
            change["action"] if change else "none",
            effect(case, before[case.path], looks(path), wanted(case)),
        )
        if change is not None:
            assert (change["before"], change["after"]) == (
                blob_of(before[case.path]),
                blob_of(looks(path)),
            ), case
            assert change["from"] == (None if case.is_folder else case.path), case
    rest = {case.path: looks(hub.dest / case.path) for case in rows}
    again = hub.sync().job
    assert again["status"] == "unchanged", again
    listed = {str(hub.dest / case.path) for case in rows if wanted(case) is not None}
    still_kept = {
        path: "keep"
        for path, change in changes.items()
        if change["action"] == "keep" and path in listed
    }  # what was dropped and stays is named once
    assert {change["path"]: change["action"] for change in again["changes"]} == still_kept
    assert {case.path: looks(hub.dest / case.path) for case in rows} == rest, (
        "and then nothing moves"
    )
    return found


def blob_of(found: Any) -> str | None:
    """The git id that the JSON has to name for what stands, or stood, there."""
    return (
        None
        if found is None or found[0] == "folder"
        else blob_id(found[1] if isinstance(found[1], bytes) else os.fsencode(found[1]))
    )


def wanted(case: Case) -> Any:
    if case.group == UPSTREAM[3] or case.path.startswith("excluded/"):
        return None
    if case.is_folder:
        return "folder", None, 0o750 if "dir_mode" in case.here else 0o755
    text = (
        f"{case.path} two\n"
        if case.group == UPSTREAM[1] or case.path.startswith("first/")
        else f"{case.path} one\n"
    )
    return (
        "file",
        text.encode(),
        0o755 if case.group == UPSTREAM[2] else 0o640 if case.path.startswith("modes/") else 0o644,
    )


def effect(case: Case, before: Any, after: Any, want: Any) -> str:
    if after == want and (case.is_own_folder or not case.is_folder):
        if want is None:
            return "absent"
        return "as configured" if case.is_folder else "repository's version"
    assert after == before, f"{case}: neither the repository's nor what was there: {after}"
    return "absent" if after is None else "unchanged"


def table() -> dict[tuple[Row, str, str], Cell]:
    """(row, drift, prune) -> cell, as the page says.

    A table has a column for each value of one of the two keys, and holds for both or all three of
    the other one.
    """
    found: dict[tuple[Row, str, str], Cell] = {}
    group, columns = "", [""]
    for line in PAGE.read_text().splitlines():
        if line.startswith("#"):
            group, columns = line.lstrip("# "), []
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")]
        if line.startswith("| at the destination |"):
            columns = cells[1:]
            assert tuple(columns) in (DRIFTS, PRUNES), group
        elif columns and line.startswith("| ") and not line.startswith("| ---"):
            here = line.split(" | ")[0].strip("| ")
            for column, cell in zip(columns, cells[1:], strict=True):
                action, _, becomes = cell.partition("; ")
                for drift, prune in (
                    [(column, prune) for prune in PRUNES]
                    if column in DRIFTS
                    else [(drift, column) for drift in DRIFTS]
                ):
                    assert ((group, here), drift, prune) not in found
                    found[(group, here), drift, prune] = (action, becomes)
    return found


# each of one with one of the other at a push, in turn, and the rest in the root lane
@pytest.mark.parametrize(
    ("drift", "prune"),
    [
        pytest.param(drift, prune, marks=[pytest.mark.root] if (row + column) % 3 else [])
        for row, drift in enumerate(DRIFTS)
        for column, prune in enumerate(PRUNES)
    ],
)
def test_every_kind_of_difference_is_answered_as_the_page_says(
    hub: SyncEnv, drift: str, prune: str
) -> None:
    said = {row: cell for (row, d, p), cell in table().items() if (d, p) == (drift, prune)}
    assert observed(hub, drift, prune) == said


def test_the_page_has_every_row(hub: SyncEnv) -> None:
    assert {row for row, _, _ in table()} == {(case.group, case.here) for case in cases()}
    assert len(table()) == len(cases()) * 6 == 216


# --- links and submodules -------------------------------------------------------------------------

LINKS = {
    "a link to one of the job's files": "real",
    "a link to one of the job's folders": "folder",
    "a link to an absolute path": "/etc/hostname",
    "a link out of the job's folders": "../../other",
    "a link to nothing": "missing",
    "a link to itself": "link",
}


def small_table(first: str) -> dict[tuple[str, str], str]:
    """(row, column) -> cell of the table whose header begins with `| in the repository |
    `{first}:`.
    """
    lines = PAGE.read_text().splitlines()
    start = next(
        number
        for number, line in enumerate(lines)
        if line.startswith(f"| in the repository | `{first}:")
    )
    header = [cell.strip(" `").partition(": ")[2] for cell in lines[start].strip("|").split("|")][
        1:
    ]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found.update(
            {(cells[0], policy): cell for policy, cell in zip(header, cells[1:], strict=True)}
        )
    return found


def outcome(hub: SyncEnv, name: str) -> str:
    done = hub.sync()
    path = hub.dest / name
    if done.code:
        assert not any(hub.dest.iterdir()), "a set without one of its files is another set"
        return f"fails: {done.job['error']['kind']}"
    assert (hub.dest / "real").read_text() == "real\n"
    return "created" if path.is_symlink() else "left out" if not os.path.lexists(path) else "?"


@pytest.mark.parametrize(("row", "policy"), sorted(small_table("symlinks")))
def test_each_kind_of_link_is_answered_as_the_page_says(
    hub: SyncEnv, row: str, policy: str
) -> None:
    hub.repo.commit(
        {
            "nginx/real": "real\n",
            "nginx/folder/x": "x\n",
            "other": "x\n",
            "nginx/link": Link(LINKS[row]),
        },
        whole=True,
    )
    hub.write_config(symlinks=policy)
    assert outcome(hub, "link") == small_table("symlinks")[row, policy]


@pytest.mark.parametrize(("row", "policy"), sorted(small_table("submodules")))
def test_a_submodule_is_answered_as_the_page_says(hub: SyncEnv, row: str, policy: str) -> None:
    hub.repo.commit({"nginx/real": "real\n", "nginx/module": Submodule("1" * 40)}, whole=True)
    hub.write_config(submodules=policy)
    assert outcome(hub, "module") == small_table("submodules")[row, policy]
