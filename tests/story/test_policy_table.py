"""Every policy against every kind of difference, through the whole command.

The expectation is the table in docs/policies.md itself.
"""

from __future__ import annotations

import os
import re
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
UPSTREAM = ("has not changed it", "has changed it", "has made it executable", "has dropped it")
HERE = ("untouched", "edited", "removed", "another mode", "a link instead")
FIRST = (
    "nothing stands there",
    "an equal file stands there",
    "an equal file with another mode stands there",
    "another file stands there",
    "a link stands there",
)
OURS = (
    "untouched here",
    "another mode here",
    "`dir_mode` changed, untouched here",
    "`dir_mode` changed, another mode here",
)
OTHERS = ("another mode here", "`dir_mode` changed, untouched here")
SETTINGS = (
    "`mode` changed, untouched here",
    "`mode` changed, edited here",
    "`mode` changed, another mode here",
    "excluded, untouched here",
    "excluded, edited here",
)


@dataclass(frozen=True)
class Case:
    """One row: a file or folder of its own in one repository,
    so that one run answers a whole column.

    A folder holds one file, which nobody touches.
    """

    text: str
    path: str
    upstream: str = ""
    here: str = ""

    @property
    def is_folder(self) -> bool:
        return self.text.startswith("folder")


def cases() -> list[Case]:
    found = [
        Case(f"upstream {upstream}; {here} here", f"known/{u}{h}", upstream, here)
        for u, upstream in enumerate(UPSTREAM)
        for h, here in enumerate(HERE)
    ]
    found += [
        Case(f"first meeting: {here}", f"first/{number}", "", here)
        for number, here in enumerate(FIRST)
    ]
    found += [
        Case(
            f"configuration: {text}",
            f"{'modes' if 'mode`' in text else 'excluded'}/{number}",
            "",
            text,
        )
        for number, text in enumerate(SETTINGS)
    ]
    for whose, heres in (("ours", OURS), ("others", OTHERS)):
        found += [
            Case(
                f"folder of {whose}: {here}",
                f"{'asked' if 'dir_mode' in here else 'plain'}/{whose}{number}",
                "",
                here,
            )
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
    if "edited" in case.here:
        path.write_text("mine\n")
    elif case.here == "removed":
        path.unlink()
    elif "another mode" in case.here and not case.here.startswith("an equal"):
        path.chmod(0o700 if case.is_folder else 0o600)
    elif case.here == "a link instead":
        path.unlink()
        path.symlink_to("/etc/hostname")


def meet_first(case: Case, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if case.here.startswith("an equal file"):
        path.write_text(f"{case.path} two\n")
        path.chmod(0o600 if "another mode" in case.here else 0o644)
    elif case.here.startswith("another file"):
        path.write_text("mine\n")
    elif case.here.startswith("a link"):
        path.symlink_to("/etc/hostname")


def observed(hub: SyncEnv, drift: str, prune: str) -> dict[str, tuple[str, str]]:
    """Row -> (action, what stands there afterwards), from one run over all rows.

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
        if case.upstream == UPSTREAM[1] or case.path.startswith("first/"):
            upstream[case.path] = f"{case.path} two\n"
        elif case.upstream == UPSTREAM[2]:
            upstream[case.path] = File(f"{case.path} one\n".encode(), executable=True)
        elif case.upstream == UPSTREAM[3]:
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
        found[case.text] = (
            change["action"] if change else "–",
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
    if case.upstream == UPSTREAM[3] or case.path.startswith("excluded/"):
        return None
    if case.is_folder:
        return "folder", None, 0o750 if "dir_mode" in case.here else 0o755
    text = (
        f"{case.path} two\n"
        if case.upstream == UPSTREAM[1] or case.path.startswith("first/")
        else f"{case.path} one\n"
    )
    return (
        "file",
        text.encode(),
        0o755
        if case.upstream == UPSTREAM[2]
        else 0o640
        if case.path.startswith("modes/")
        else 0o644,
    )


def effect(case: Case, before: Any, after: Any, want: Any) -> str:
    if after == want and "others" not in case.path:
        return "gone" if want is None else "as asked" if case.is_folder else "upstream's"
    assert after == before, f"{case}: neither upstream's nor what stood there: {after}"
    return "gone" if after is None else "stays"


def table() -> dict[tuple[str, str, str], tuple[str, str]]:
    """(row, drift, prune) -> (action, effect) as the page says."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if (
            len(cells) == 7
            and not set(cells[1]) <= set("- ")
            and re.match(r"^(upstream|first|configuration|folder)", cells[0])
        ):
            for (drift, prune), cell in zip(
                [(d, p) for p in PRUNES for d in DRIFTS], cells[1:], strict=True
            ):
                action, _, becomes = cell.partition(", ")
                found[cells[0], drift, prune] = (action, becomes)
    return found


@pytest.mark.parametrize("prune", PRUNES)
@pytest.mark.parametrize("drift", DRIFTS)
def test_every_kind_of_difference_is_answered_as_the_page_says(
    hub: SyncEnv, drift: str, prune: str
) -> None:
    said = {row: cell for (row, d, p), cell in table().items() if (d, p) == (drift, prune)}
    assert observed(hub, drift, prune) == said


def test_the_page_has_every_row(hub: SyncEnv) -> None:
    assert {row for row, _, _ in table()} == {case.text for case in cases()}
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
    {first}:`.
    """
    lines = PAGE.read_text().splitlines()
    start = next(
        number
        for number, line in enumerate(lines)
        if line.startswith(f"| in the repository | {first}:")
    )
    header = [cell.strip().partition(": ")[2] for cell in lines[start].strip("|").split("|")][1:]
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
    return "made" if path.is_symlink() else "left out" if not os.path.lexists(path) else "?"


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
