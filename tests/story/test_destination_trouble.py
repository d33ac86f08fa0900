"""What stands at, above or below a destination and keeps a file from being written:
named before anything changes.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.mirror import expected_state
from tests.support.sync_env import CommandResult, SyncEnv, signatures, tree_of


def error_of(done: CommandResult) -> dict[str, str]:
    error: dict[str, str] = done.job["error"]
    return error


def doctor_says(hub: SyncEnv) -> tuple[int, str]:
    done = hub.call("doctor")
    return done.code, done.out + done.err


@pytest.mark.parametrize("publish", ["files", "symlink"])
@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/nowhere/at/all", "/nowhere/at/all"),
        ("../gone", "{folder}/gone"),
        ("missing", "{dest}/missing"),
    ],
)
def test_a_link_above_to_that_leads_nowhere_is_named_with_what_to_make(
    hub: SyncEnv, publish: str, target: str, place: str
) -> None:
    (hub.dest / "link").symlink_to(target)
    hub.write_config(
        publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/link/www/site/"}]
    )
    expected = place.format(folder=hub.folder, dest=hub.dest)
    for done in (hub.plan(), hub.sync()):
        error = error_of(done)
        assert (done.code, error["kind"]) == (1, "mirror")
        assert f"{hub.dest}/link is a link to {target}, which does not exist" in error["message"]
        assert f"mkdir -p {expected}" in error["hint"]
    code, text = doctor_says(hub)
    assert code != 0 and f"{hub.dest}/link is a link to {target}" in text
    assert os.listdir(hub.dest) == ["link"]


def test_a_link_above_to_that_leads_to_itself_is_named(hub: SyncEnv) -> None:
    (hub.dest / "link").symlink_to("link")
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/link/www/"}])
    error = error_of(hub.sync())
    assert f"{hub.dest}/link" in error["message"] and "a link" in error["hint"]
    assert doctor_says(hub)[0] != 0


def test_a_link_above_to_that_has_come_to_lead_nowhere_removes_nothing(hub: SyncEnv) -> None:
    (hub.folder / "real").mkdir()
    (hub.dest / "link").symlink_to(hub.folder / "real")
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/link/www/"}])
    assert hub.sync().code == 0
    (hub.folder / "real").rename(hub.folder / "away")
    hub.repo.commit({"nginx/sites/a.conf": None})
    assert "which does not exist" in error_of(hub.sync())["message"]
    (hub.folder / "away").rename(hub.folder / "real")
    assert hub.sync().code == 0 and sorted(tree_of(hub.folder / "real/www")) == ["nginx.conf"]


@pytest.mark.parametrize("publish", ["files", "symlink"])
@pytest.mark.parametrize("what", ["hidden file", "hidden folder", "edited file", "deep file"])
def test_a_folder_that_becomes_a_file_is_looked_into_before_a_file_goes(
    hub: SyncEnv, publish: str, what: str
) -> None:
    hub.repo.commit({"nginx/d/one": "1\n", "nginx/d/sub/two": "2\n"})
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/app/current/"}])
    assert hub.sync().code == 0
    top = hub.dest / "app/current/d"
    if what == "hidden folder":
        (top / ".theirs").mkdir()
    else:
        name = {"hidden file": ".theirs", "edited file": "one", "deep file": "sub/.theirs"}[what]
        (top / name).write_text("theirs\n")
    hub.repo.commit(
        {
            "nginx/d/one": None,
            "nginx/d/sub/two": None,
            "nginx/d": "a file\n",
            "nginx/nginx.conf": "new\n",
        }
    )
    before, stood = tree_of(top), signatures(top)
    for done in (hub.plan(), hub.sync(), hub.sync()):
        assert done.code == 1 and done.job["changes"] == []
        assert (
            f"{top}" in error_of(done)["message"]
            and "in the way of a file" in error_of(done)["message"]
        )
    assert tree_of(top) == before and signatures(top) == stood
    assert (hub.dest / "app/current/nginx.conf").read_text() == "one\n"


def test_a_folder_of_others_that_holds_only_our_files_does_not_become_a_file(hub: SyncEnv) -> None:
    (hub.dest / "sites").mkdir()
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/sites/a.conf": None, "nginx/sites": "a file\n"})
    done = hub.sync()
    assert done.code == 1 and "syncd replaces no folder it did not make" in error_of(done)["hint"]
    assert (hub.dest / "sites/a.conf").read_text() == "a\n"


def test_a_folder_of_ours_that_holds_nothing_else_becomes_a_file(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/d/one": "1\n", "nginx/d/sub/two": "2\n"})
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/d/one": None, "nginx/d/sub/two": None, "nginx/d": "a file\n"})
    assert hub.sync().code == 0 and (hub.dest / "d").read_text() == "a file\n"


def put(kind: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
        return
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


# every second of the eight at a push, the others in the root lane
@pytest.mark.parametrize(
    ("publish", "kind", "new"),
    [
        pytest.param(
            publish, kind, new, marks=[pytest.mark.root] if (row + column + new) % 2 else []
        )
        for row, publish in enumerate(["files", "symlink"])
        for column, kind in enumerate(["fifo", "socket"])
        for new in (True, False)
    ],
)
def test_a_special_file_at_a_destination_is_refused_by_name(
    hub: SyncEnv, kind: str, new: bool, publish: str
) -> None:
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/app/current/"}])
    assert hub.sync().code == 0
    place = hub.dest / "app/current" / ("new" if new else "nginx.conf")
    put(kind, place)
    hub.repo.commit({"nginx/new": "new\n"})
    stood = os.lstat(place)
    for done in (hub.plan(), hub.sync()):
        error = error_of(done)
        assert (done.code, error["kind"]) == (1, "mirror")
        assert f"a device, socket or FIFO is at {place}" in error["message"]
    assert (os.lstat(place).st_ino, os.lstat(place).st_mode) == (stood.st_ino, stood.st_mode)
    place.unlink()
    assert hub.sync().code == 0 and stat.S_ISREG(os.lstat(place).st_mode)


@pytest.mark.parametrize("drift", ["report", "keep"])
def test_a_special_file_that_a_policy_leaves_is_named_in_the_plan(hub: SyncEnv, drift: str) -> None:
    hub.write_config(drift=drift)
    put("fifo", hub.dest / "nginx.conf")
    for done in (hub.plan(), hub.sync()):
        kept = [one["path"] for one in done.job["changes"] if one["action"] == "keep"]
        assert (done.code, kept) == (0, [f"{hub.dest}/nginx.conf"])


def test_a_special_file_in_the_place_of_a_dropped_file_stays_and_is_named(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    put("socket", hub.dest / "sites/a.conf")
    hub.repo.commit({"nginx/sites/a.conf": None})
    done = hub.sync()
    assert [one["action"] for one in done.job["changes"]] == ["keep"] and done.code == 0
    assert stat.S_ISSOCK(os.lstat(hub.dest / "sites/a.conf").st_mode)


def test_files_that_are_gone_from_a_disk_with_another_device_number_are_put_back(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of an old machine, or a disk that was renumbered:
    nothing was ever mounted there.
    """
    real = expected_state.stat_of
    with monkeypatch.context() as patched:
        patched.setattr(
            expected_state, "stat_of", lambda found: replace(real(found), device=found.st_dev + 1)
        )
        assert hub.sync().code == 0
    for file in hub.dest.rglob("*.conf"):
        file.unlink()
    assert hub.sync().code == 0
    assert tree_of(hub.dest) == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
