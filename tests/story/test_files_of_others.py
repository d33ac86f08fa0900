"""Files of others at a destination: other names of one file are left as they are,
and a huge file costs no reading.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.mirror.sparse import copy_sparse
from syncd.simulator.repository import Link
from tests.support.sync_env import SyncEnv, sync_env

MIB = 1 << 20
TIB = 1 << 40


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        yield made
        for place in made.dest.iterdir():
            if place.is_file() and place.stat().st_size > 1 << 30:
                place.unlink()  # before credentials are searched for


@contextmanager
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The size of every read of a descriptor while the block runs."""
    read, counts = os.read, list[int]()

    def counted(descriptor: int, size: int) -> bytes:
        found = read(descriptor, size)
        counts.append(len(found))
        assert sum(counts) < 64 * MIB, "a huge file is read"
        return found

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", counted)
        yield counts


def huge(place: Path) -> int:
    """A file without a block, as large as the file system allows."""
    for size in (8 * TIB, TIB):
        try:
            place.touch()
            os.truncate(place, size)
        except OSError:
            continue
        return size
    pytest.skip("no sparse files here")


def signature(place: Path) -> tuple[int, int, int, int, bytes]:
    found = place.stat()
    return found.st_ino, found.st_mode, found.st_uid, found.st_gid, place.read_bytes()


def test_only_the_mode_differs_and_a_second_name_keeps_its_mode(hub: SyncEnv) -> None:
    other = hub.folder / "other"
    other.write_text("one\n")
    other.chmod(0o600)
    os.link(other, hub.dest / "nginx.conf")
    before = signature(other)
    done = hub.sync()
    assert done.code == 0, done.err
    assert [
        change["action"]
        for change in done.job["changes"]
        if change["path"] == f"{hub.dest}/nginx.conf"
    ] == ["mode"]
    made = (hub.dest / "nginx.conf").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_nlink, made.st_ino != before[0]) == (0o644, 1, True)
    assert (hub.dest / "nginx.conf").read_text() == "one\n"
    assert signature(other) == before
    assert hub.sync().job["changes"] == []
    assert sorted(os.listdir(hub.dest)) == ["nginx.conf", "sites"]


def test_a_second_name_keeps_its_bytes_when_the_content_differs(hub: SyncEnv) -> None:
    other = hub.folder / "other"
    other.write_text("theirs\n")
    os.link(other, hub.dest / "nginx.conf")
    before = signature(other)
    assert hub.sync().code == 0
    assert (hub.dest / "nginx.conf").read_text() == "one\n"
    assert signature(other) == before


@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_a_second_name_of_a_file_that_syncd_wrote_keeps_the_old_mode(
    hub: SyncEnv, publish: str
) -> None:
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/live/"}])
    assert hub.sync().code == 0
    os.link(hub.dest / "live/nginx.conf", hub.folder / "other")
    before = signature(hub.folder / "other")
    hub.write_config(mode="0600")
    assert hub.sync().code == 0
    assert stat.S_IMODE((hub.dest / "live/nginx.conf").stat().st_mode) == 0o600
    assert signature(hub.folder / "other") == before


@pytest.mark.root
def test_a_second_name_keeps_its_owner_when_only_the_owner_differs(hub: SyncEnv) -> None:
    other = hub.folder / "other"
    other.write_text("one\n")
    other.chmod(0o644)
    os.chown(other, 65534, 65534)
    os.setxattr(other, "user.note", b"kept")
    os.utime(other, ns=(1_000_000_007, 1_000_000_007))
    os.link(other, hub.dest / "nginx.conf")
    before = signature(other)
    hub.write_config(owner="1234:1235")
    assert hub.sync().code == 0
    made = (hub.dest / "nginx.conf").stat()
    assert (made.st_uid, made.st_gid, made.st_mtime_ns) == (1234, 1235, 1_000_000_007)
    assert os.getxattr(hub.dest / "nginx.conf", "user.note") == b"kept"
    assert signature(other) == before


@pytest.mark.root
def test_a_replaced_second_name_keeps_the_owner_that_nobody_asked_about(hub: SyncEnv) -> None:
    other = hub.folder / "other"
    other.write_text("one\n")
    other.chmod(0o600)
    os.chown(other, 65534, 65534)
    os.link(other, hub.dest / "nginx.conf")
    assert hub.sync().code == 0
    made = (hub.dest / "nginx.conf").stat()
    assert (made.st_uid, stat.S_IMODE(made.st_mode)) == (65534, 0o644)


@pytest.mark.root
def test_a_second_name_of_a_link_keeps_its_owner(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/link": Link("nginx.conf")}, "a link")
    assert hub.sync().code == 0
    os.link(hub.dest / "link", hub.folder / "other", follow_symlinks=False)
    hub.write_config(owner="1234:1235")
    assert hub.sync().code == 0
    assert os.lstat(hub.dest / "link").st_uid == 1234
    assert os.lstat(hub.folder / "other").st_uid == os.geteuid()


def test_a_huge_file_of_others_is_neither_read_nor_copied_and_the_job_says_why(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = huge(hub.dest / "nginx.conf")
    with bytes_read(monkeypatch):
        done = hub.sync()
    assert done.code == 1 and done.job["error"]["kind"] == "mirror"
    assert (
        f"{hub.dest}/nginx.conf is not syncd's, and can't be kept before it is replaced ({size} "
        "bytes): trash: has room for 1073741824 bytes; nothing was replaced"
    ) in done.job["error"]["message"]
    assert os.listdir(hub.dest) == ["nginx.conf"]
    assert (hub.dest / "nginx.conf").stat().st_size == size
    assert (
        sum(place.stat().st_size for place in (hub.state / "trash").rglob("*") if place.is_file())
        < MIB
    )


def test_a_huge_file_in_the_place_of_ours_is_not_read_by_any_command(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.sync().code == 0
    (hub.dest / "nginx.conf").unlink()
    size = huge(hub.dest / "nginx.conf")
    with bytes_read(monkeypatch):
        for command in (["plan"], ["verify"], ["explain", f"{hub.dest}/nginx.conf"], ["sync"]):
            done = hub.call(*command)
            assert "nginx.conf" in done.out + done.err, command
        hub.repo.commit({"nginx/nginx.conf": None}, "gone")
        assert hub.call("sync").code == 0
    assert (hub.dest / "nginx.conf").stat().st_size == size


def test_with_drift_keep_a_huge_file_is_left_and_not_read(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.write_config(drift="keep")
    huge(hub.dest / "nginx.conf")
    with bytes_read(monkeypatch):
        assert hub.sync().code == 0
        assert [change["action"] for change in hub.sync().job["changes"]] == ["keep"]


def test_a_large_file_that_is_right_is_still_adopted(hub: SyncEnv) -> None:
    content = b"x" * (2 * MIB)
    hub.repo.commit({"nginx/large": content}, "large")
    (hub.dest / "large").write_bytes(content)
    (hub.dest / "large").chmod(0o644)
    inode = (hub.dest / "large").stat().st_ino
    assert hub.sync().code == 0
    assert (hub.dest / "large").stat().st_ino == inode


def test_a_large_file_of_others_is_kept_in_the_trash_without_its_holes(hub: SyncEnv) -> None:
    place = hub.dest / "nginx.conf"
    place.touch()
    os.truncate(place, 24 * MIB)
    with open(place, "r+b") as file:
        file.seek(12 * MIB)
        file.write(b"theirs")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    assert hub.sync().code == 0
    [kept] = (hub.state / "trash/contents").iterdir()
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == digest
    assert kept.stat().st_size == 24 * MIB and kept.stat().st_blocks * 512 < 2 * MIB
    assert place.read_text() == "one\n"


def test_a_large_file_of_others_is_back_after_a_failed_reload(hub: SyncEnv) -> None:
    theirs = b"y" * (2 * MIB)
    (hub.dest / "nginx.conf").write_bytes(theirs)
    hub.write_config(on_change="false", undo_on_failure=True)
    assert hub.sync().job["error"]["kind"] == "hook"
    assert (hub.dest / "nginx.conf").read_bytes() == theirs


def test_an_undo_does_not_read_a_huge_file_that_came_meanwhile(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = hub.folder / "reload"
    command.write_text(
        f"#!/bin/sh\nrm {hub.dest}/nginx.conf; truncate -s 1T {hub.dest}/nginx.conf; exit 1\n"
    )
    command.chmod(0o755)
    hub.write_config(on_change=str(command), undo_on_failure=True)
    with bytes_read(monkeypatch):
        assert hub.sync().job["error"]["kind"] == "hook"
    assert (hub.dest / "nginx.conf").stat().st_size == TIB


def test_a_copy_without_holes_is_byte_equal(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with open(one, "wb") as file:
        for at, text in ((0, b"start"), (3 * MIB, b"middle"), (5 * MIB, b"end")):
            file.seek(at)
            file.write(text)
        file.truncate(6 * MIB)
    with open(one, "rb") as reading, open(other, "wb") as writing:
        copy_sparse(reading.fileno(), writing.fileno(), 6 * MIB)
    assert other.read_bytes() == one.read_bytes()
    assert other.stat().st_blocks <= one.stat().st_blocks + 8


@pytest.mark.parametrize("size", [0, 3])
def test_a_copy_takes_no_more_than_was_there(tmp_path: Path, size: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abcdef")
    with open(one, "rb") as reading, open(other, "wb") as writing:
        copy_sparse(reading.fileno(), writing.fileno(), size)
    assert other.read_bytes() == b"abcdef"[:size]


def test_a_file_that_grows_while_it_is_read_is_not_read_without_end(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, read = hub.dest / "nginx.conf", os.read
    place.write_bytes(b"x" * MIB)
    reads: list[int] = []

    def grows(descriptor: int, size: int) -> bytes:
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == str(place):
            reads.append(size)
            with open(place, "ab") as file:
                file.write(b"x" * 4096)
        assert len(reads) < 30, "it is read without end"
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", grows)
    assert hub.sync().job["error"]["message"] == f"{place} changes faster than it can be read"


@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_the_report_has_the_id_of_a_large_file_that_was_taken_over(
    hub: SyncEnv, publish: str
) -> None:
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": f"{hub.dest}/live/"}])
    assert hub.sync().code == 0
    (hub.dest / "live/nginx.conf").write_bytes(b"y" * (2 * MIB))
    [planned] = hub.plan().job["changes"]
    [done] = hub.sync().job["changes"]
    assert planned["before"] is None
    assert done["before"] == hashlib.sha1(b"blob 2097152\0" + b"y" * (2 * MIB)).hexdigest()


def test_a_huge_file_that_stays_is_not_laid_out_for_validate(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.write_config(drift="keep", validate="true")
    size = huge(hub.dest / "nginx.conf")
    with bytes_read(monkeypatch):
        done = hub.sync()
    assert done.job["error"]["kind"] == "mirror"
    assert (
        f"{hub.dest}/nginx.conf has {size}" in done.job["error"]["message"]
        and "limits.size" in done.job["error"]["hint"]
    )
    assert os.listdir(hub.dest) == ["nginx.conf"]
