"""Names that differ only in case or composition, in whole runs:
written where the disk tells them apart.

The other disks are in tests/fault.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.mirror.disk_mirror import DiskMirror
from tests.support.sync_env import SyncEnv

NFC, NFD = "é.conf", "e\u0301.conf"
DIES = (
    "import os; import syncd.mirror.case_sensitivity as apart; apart.remove_trial_dir = lambda "
    "*_: os._exit(9); from syncd.__main__ import main; main()"
)
OLD = {"nginx/nginx.conf": None, "nginx/sites/a.conf": None}


def leftovers(hub: SyncEnv) -> list[Path]:
    return [path for path in hub.folder.rglob(".syncd-*") if hub.state not in path.parents]


PAIRS = [
    ("README", "Readme"),
    ("Conf/x", "conf/X"),
    ("CONF", "conf/x"),
    (NFC, NFD),
    ("straße", "strasse"),
]


# each pair with one way to publish at a push, in turn, and with the other in the root lane
@pytest.mark.parametrize(
    ("one", "other", "publish"),
    [
        pytest.param(*pair, publish, marks=[pytest.mark.root] if (row + column) % 2 else [])
        for row, pair in enumerate(PAIRS)
        for column, publish in enumerate(["files", "symlink"])
    ],
)
def test_twins_are_written_edited_and_dropped_one_by_one(
    hub: SyncEnv, one: str, other: str, publish: str
) -> None:
    to = {"files": hub.dest, "symlink": hub.folder / "web/current"}[publish]
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{to}/"}])
    hub.repo.commit({**OLD, f"nginx/{one}": "one\n", f"nginx/{other}": "other\n"})
    assert hub.plan().code == 0
    assert (
        hub.sync().code == 0
        and (to / one).read_text() == "one\n"
        and (to / other).read_text() == "other\n"
    )
    assert hub.sync().job["status"] == "unchanged"
    hub.repo.commit({f"nginx/{other}": "edited\n"})
    assert (
        hub.sync().code == 0
        and (to / one).read_text() == "one\n"
        and (to / other).read_text() == "edited\n"
    )
    hub.repo.commit({f"nginx/{one}": None})
    assert (
        hub.sync().code == 0 and not (to / one).exists() and (to / other).read_text() == "edited\n"
    )
    assert hub.sync().job["status"] == "unchanged" and leftovers(hub) == []


def test_a_twin_that_comes_later_is_written_beside_the_first(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/README": "one\n"})
    hub.sync()
    hub.repo.commit({"nginx/Readme": "other\n"})
    assert (
        hub.sync().code == 0
        and hub.tree()["README"] == b"one\n"
        and hub.tree()["Readme"] == b"other\n"
    )


def test_a_rename_of_case_alone_removes_the_old_name_and_writes_the_new_one(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/Readme": "one\n"})
    hub.sync()
    hub.repo.commit({"nginx/Readme": None, "nginx/README": "one\n"})
    done = hub.sync()
    assert sorted(
        (change["action"], Path(change["path"]).name) for change in done.job["changes"]
    ) == [("remove", "Readme"), ("write", "README")]
    assert "README" in hub.tree() and "Readme" not in hub.tree()


def test_a_file_edited_here_and_its_twin_are_restored_each(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/README": "one\n", "nginx/Readme": "other\n"})
    hub.sync()
    (hub.dest / "README").write_text("mine")
    (hub.dest / "Readme").unlink()
    assert (
        hub.sync().code == 0
        and hub.tree()["README"] == b"one\n"
        and hub.tree()["Readme"] == b"other\n"
    )


def test_a_plan_of_twins_that_only_a_trial_can_tell_apart_writes_nothing(hub: SyncEnv) -> None:
    hub.repo.commit({**OLD, f"nginx/{NFC}": "one\n", f"nginx/{NFD}": "other\n"})
    before = os.stat(hub.dest)
    done = hub.plan()
    assert (done.code, len(done.job["changes"]), done.job["error"]) == (0, 2, None)
    after = os.stat(hub.dest)
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_a_kill_in_the_middle_of_a_trial_leaves_nothing_after_the_next_run(
    hub: SyncEnv, publish: str
) -> None:
    hub.repo.commit({**OLD, f"nginx/sub/{NFC}": "one\n", f"nginx/sub/{NFD}": "other\n"})
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.folder}/new/www/"}])
    done = subprocess.run(
        [sys.executable, "-c", DIES, "-c", str(hub.config), "sync"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 9, done.stderr
    assert [path.parent for path in leftovers(hub)] == [hub.folder], (
        "in the deepest folder that stood"
    )
    assert hub.sync().code == 0 and leftovers(hub) == []
    assert (hub.folder / "new/www/sub" / NFC).read_text() == "one\n" and (
        hub.folder / "new/www/sub" / NFD
    ).read_text() == "other\n"


@pytest.mark.parametrize("run", ["new", "in sync", "gone back"])
def test_twins_that_the_disk_takes_for_one_fail_every_run_that_lists_them(
    hub: SyncEnv, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.sync()
    twins = hub.repo.commit({"nginx/README": "one\n", "nginx/Readme": "other\n"})
    if run != "new":
        hub.sync()
    if run == "gone back":
        hub.repo.commit({"nginx/README": None})
        hub.sync()
    monkeypatch.setattr(DiskMirror, "distinguishes_names", lambda *_: False)
    before, commands = hub.tree(), ["sync", "plan"] if run != "gone back" else ["rollback"]
    for command in commands:
        done = hub.call(command, "nginx", *(["--to", twins] if command == "rollback" else []))
        assert done.code == 1
        assert (
            "'nginx/README' and 'nginx/Readme' of acme/infra differ only in case or in how their "
            f"letters are composed, and the disk at {hub.dest} does not tell them apart"
        ) in done.out + done.err
        assert "rename one of them, or exclude it" in done.out + done.err and hub.tree() == before


def test_a_trial_that_fails_changes_nothing_and_the_run_says_so_once(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.sync()
    hub.repo.commit(
        {f"nginx/{NFC}": "one\n", f"nginx/{NFD}": "other\n", "nginx/nginx.conf": "two\n"}
    )
    before = hub.tree()
    monkeypatch.setattr(
        DiskMirror,
        "distinguishes_names",
        lambda _self, _folder, _names, _root, intent=None: None if intent is None else False,
    )
    for _ in range(2):
        done = hub.sync()
        assert (done.code, done.job["error"]["kind"], done.job["changes"]) == (1, "mirror", []), (
            done.job
        )
        assert "does not tell them apart" in done.job["error"]["message"] and hub.tree() == before
        assert len(hub.call("history", "--json").json["runs"]) == 2, "equal failures are one line"
    monkeypatch.undo()
    assert hub.sync().code == 0 and hub.tree()[NFC] == b"one\n" and hub.tree()[NFD] == b"other\n"


def test_two_paths_whose_destinations_differ_only_in_case_are_named_by_their_destinations(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.write_config(
        paths=[
            {"from": "nginx/nginx.conf", "to": f"{hub.dest}/x.conf"},
            {"from": "nginx/sites/a.conf", "to": f"{hub.dest}/X.conf"},
        ]
    )
    assert hub.sync().code == 0 and hub.tree() == {"x.conf": b"one\n", "X.conf": b"a\n"}
    monkeypatch.setattr(DiskMirror, "distinguishes_names", lambda *_: False)
    error = hub.plan().job["error"]
    assert (
        f"'{hub.dest}/X.conf' and '{hub.dest}/x.conf'" in error["message"]
        and error["hint"] == "give one of them another to:"
    )
