"""A backup is a consistent private copy of the store.

A restored one forgets no file, and runs no hook needlessly.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

from syncd.file_lock import acquire, release
from syncd.store.backup import read_backup
from tests.support.old_store import downgraded
from tests.support.sync_env import SyncEnv, signatures


@pytest.fixture
def synced(hub: SyncEnv) -> SyncEnv:
    """A mirror in sync, whose `on_change` has noted one run."""
    hub.write_config(on_change=f"/bin/sh -c 'echo ran >> {hub.folder}/reloads'")
    assert hub.sync().code == 0
    return hub


def reloads(hub: SyncEnv) -> int:
    return len((hub.folder / "reloads").read_text().splitlines())


def backup_of(hub: SyncEnv) -> Path:
    file = hub.folder / "backup.tar"
    made = hub.call("backup", str(file), "--force")
    assert made.code == 0, made.err
    return file


def test_backup_is_one_private_file_that_says_what_it_holds(synced: SyncEnv) -> None:
    file = synced.folder / "backup.tar"
    made = synced.call("backup", str(file), "--json")
    assert made.code == 0, made.err
    assert os.stat(file).st_mode & 0o777 == 0o600
    shown = made.json
    assert next(iter(shown)) == "schema"
    assert (shown["schema"], shown["file"], shown["jobs"], shown["files"]) == (
        "syncd.backup/1",
        str(file),
        1,
        2,
    )
    assert shown["size"] == file.stat().st_size
    with tarfile.open(file) as archive:
        assert sorted(archive.getnames()) == ["backup.json", "syncd.db"]
        summary = json.load(archive.extractfile("backup.json"))  # type: ignore[arg-type]
    assert (summary["schema"], summary["created_at"]) == ("syncd.backup/1", shown["created_at"])
    assert not [one for one in os.listdir(synced.folder) if one.startswith(".backup")]


def test_backup_leaves_the_state_folder_as_it_is(synced: SyncEnv) -> None:
    before = signatures(synced.state)
    backup_of(synced)
    assert signatures(synced.state) == before


def test_backup_never_replaces_a_file_without_force(synced: SyncEnv) -> None:
    file = synced.folder / "mine"
    file.write_text("mine")
    refused = synced.call("-v", "backup", str(file))
    assert (refused.code, file.read_text()) == (2, "mine")
    assert "is there already" in refused.err and "config/backup-exists" in refused.err
    assert synced.call("backup", str(file), "--force").code == 0
    assert read_backup(file)[0].files == 2


PLACES = {
    "dest/backup.tar": "which nginx mirrors",
    "dest/sites/deep.tar": "which nginx mirrors",
    "link/backup.tar": "which nginx mirrors",
    "state/backup.tar": "syncd's own state",
    "state/syncd.db": "syncd's own state",
    "config.yaml": "syncd's configuration",
    "app.pem": "the secret of github.ops.private_key",
}


@pytest.mark.parametrize("place", PLACES)
def test_backup_is_not_written_where_a_job_or_syncd_itself_writes(
    synced: SyncEnv, place: str
) -> None:
    (synced.folder / "link").symlink_to(synced.dest)
    before = signatures(synced.dest), (synced.folder / "app.pem").read_bytes()
    refused = synced.call("backup", str(synced.folder / place), "--force")
    assert refused.code == 2 and PLACES[place] in refused.err, refused.err
    assert (signatures(synced.dest), (synced.folder / "app.pem").read_bytes()) == before


def test_backup_without_a_store_says_that_there_is_nothing_to_copy(hub: SyncEnv) -> None:
    refused = hub.call("-v", "backup", str(hub.folder / "backup.tar"))
    assert refused.code == 1 and "store/nothing-to-back-up" in refused.err
    assert not (hub.folder / "backup.tar").exists() and not hub.state.exists()


def test_backup_of_a_damaged_store_is_refused(synced: SyncEnv) -> None:
    (synced.state / "syncd.db").write_bytes(b"sorry" * 5000)
    refused = synced.call("backup", str(synced.folder / "backup.tar"))
    assert refused.code == 1 and not (synced.folder / "backup.tar").exists()


def test_backups_while_another_connection_writes_are_each_consistent(synced: SyncEnv) -> None:
    """Two rows always change together; every copy has equal values."""
    done, failures = threading.Event(), []

    def write() -> None:
        with closing(sqlite3.connect(synced.state / "syncd.db", isolation_level=None)) as store:
            number = 0
            while not done.is_set():
                number += 1
                try:
                    store.execute("BEGIN IMMEDIATE")
                    for name in ("one", "two"):
                        store.execute(
                            "INSERT OR REPLACE INTO token_expiry VALUES (?, ?)", (name, str(number))
                        )
                    store.execute("COMMIT")
                except sqlite3.Error as error:
                    failures.append(error)
                    return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        pairs = [pair_in(backup_of(synced), synced.folder / "copy.db") for _ in range(8)]
    finally:
        done.set()
        writer.join()
    assert not failures
    assert all(one == two for one, two in pairs)
    assert len(set(pairs)) > 1


def pair_in(file: Path, copy: Path) -> tuple[str, str]:
    copy.write_bytes(read_backup(file)[1]["syncd.db"])
    with closing(sqlite3.connect(copy)) as store:
        found = dict(store.execute("SELECT identity, expires_at FROM token_expiry").fetchall())
    return found.get("one", "-"), found.get("two", "-")


# --- restoring --------------------------------------------------------------------------------


def test_a_restored_store_knows_its_files_again_and_nothing_is_touched(synced: SyncEnv) -> None:
    file, before = backup_of(synced), signatures(synced.dest)
    shutil.rmtree(synced.state)
    restored = synced.call("backup", "--restore", str(file), "--json")
    assert (restored.code, restored.json["former_store"]) == (0, None), restored.err
    assert os.stat(synced.state / "syncd.db").st_mode & 0o777 == 0o600
    done = synced.sync()
    assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", [])
    assert (signatures(synced.dest), reloads(synced)) == (before, 1)
    synced.repo.commit({"nginx/sites/a.conf": None})
    assert synced.sync().job["changes"][0]["action"] == "remove"


def test_a_store_restored_on_another_machine_adopts_equal_files_and_runs_no_hook(
    synced: SyncEnv, tmp_path: Path
) -> None:
    """The other machine has the files with other inodes and times, and files of its own."""
    file = backup_of(synced)
    shutil.copytree(synced.dest, tmp_path / "copy")
    shutil.rmtree(synced.dest)
    (tmp_path / "copy").rename(synced.dest)
    (synced.dest / "theirs").write_text("not ours")
    shutil.rmtree(synced.state)
    before = signatures(synced.dest)
    assert synced.call("backup", "--restore", str(file)).code == 0
    done = synced.sync()
    assert (done.code, done.job["changes"]) == (0, [])
    assert (signatures(synced.dest), reloads(synced)) == (before, 1)


def test_a_store_restored_on_an_empty_machine_writes_every_file_and_reloads_once(
    synced: SyncEnv,
) -> None:
    file, before = backup_of(synced), synced.tree()
    shutil.rmtree(synced.state)
    shutil.rmtree(synced.dest)
    synced.dest.mkdir()
    assert synced.call("backup", "--restore", str(file)).code == 0
    assert synced.sync().code == 0
    assert (synced.tree(), reloads(synced)) == (before, 2)


def test_an_old_backup_removes_nothing_that_later_runs_wrote(synced: SyncEnv) -> None:
    file = backup_of(synced)
    synced.repo.commit({"nginx/new.conf": "new\n", "nginx/nginx.conf": "two\n"})
    assert synced.sync().code == 0
    before = synced.tree()
    assert synced.call("backup", "--restore", str(file), "--force").code == 0
    done = synced.sync()
    assert (done.code, done.job["changes"]) == (0, []), done.out
    assert (synced.tree(), reloads(synced)) == (before, 2)


def test_a_store_is_replaced_only_with_force_and_kept_under_another_name(synced: SyncEnv) -> None:
    file = backup_of(synced)
    assert synced.call("pause", "nginx").code == 0
    refused = synced.call("-v", "backup", "--restore", str(file))
    assert refused.code == 1 and "store/restore-over-store" in refused.err
    assert "paused" in synced.call("status").out
    done = synced.call("backup", "--restore", str(file), "--force", "--json")
    assert done.code == 0, done.err
    assert (synced.state / done.json["former_store"]).is_file()
    assert "paused" not in synced.call("status").out


def test_a_restore_forgets_the_other_daemon_and_its_messages(synced: SyncEnv) -> None:
    with closing(sqlite3.connect(synced.state / "syncd.db", isolation_level=None)) as store:
        store.execute(
            "INSERT INTO heartbeat VALUES ('daemon', 'web01', 7, '2026-01-01', '2026-01-01')"
        )
        store.execute("INSERT INTO backoff VALUES ('nginx', '2099-01-01T00:00:00Z')")
        store.execute("INSERT INTO notification VALUES ('env:HOOK', 'nginx', 'x', '{}', 1, 0)")
    file = backup_of(synced)
    shutil.rmtree(synced.state)
    assert synced.call("backup", "--restore", str(file)).code == 0
    with closing(sqlite3.connect(synced.state / "syncd.db")) as store:
        left = {
            table: store.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("heartbeat", "backoff", "notification", "job", "file")
        }
    assert left == {"heartbeat": 0, "backoff": 0, "notification": 0, "job": 1, "file": 2}


def test_an_accepted_commit_is_restored_where_there_is_none_and_else_stays(
    synced: SyncEnv,
) -> None:
    synced.write_config(require={"fast_forward": True})
    assert synced.sync().code == 0
    file, accepted = backup_of(synced), synced.state / "accepted/nginx"
    first = accepted.read_bytes()
    assert read_backup(file)[0].accepted == ("nginx",)
    synced.repo.commit({"nginx/nginx.conf": "two\n"})
    assert synced.sync().code == 0
    second = accepted.read_bytes()
    assert first != second
    assert synced.call("backup", "--restore", str(file), "--force").code == 0
    assert accepted.read_bytes() == second
    shutil.rmtree(synced.state)
    assert synced.call("backup", "--restore", str(file)).code == 0
    assert accepted.read_bytes() == first


def test_a_backup_of_an_older_schema_is_migrated_when_it_is_restored(synced: SyncEnv) -> None:
    downgraded(synced.state)
    file = synced.folder / "backup.tar"
    made = synced.call("backup", str(file), "--json")
    assert (made.code, made.json["store"]) == (0, "0004"), made.err
    shutil.rmtree(synced.state)
    done = synced.call("backup", "--restore", str(file))
    assert done.code == 0 and "brought to" in done.out, done.err
    assert synced.sync().job["changes"] == []


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def newer(file: Path) -> None:
    """The same backup with a store of a newer syncd, honestly summed."""
    from syncd.store import backup as module

    summary, members = read_backup(file)
    copy = file.with_name("newer.db")
    copy.write_bytes(members["syncd.db"])
    with closing(sqlite3.connect(copy, isolation_level=None)) as store:
        store.execute("UPDATE alembic_version SET version_num = '9999'")
        store.execute(f"PRAGMA application_id = {0x73790000 + 9999}")
        members["syncd.db"] = store.serialize()
    from datetime import UTC, datetime

    file.write_bytes(module._packed(members, summary, datetime.now(UTC)))


BROKEN = {
    "cut": (cut, "is no backup that can be restored"),
    "one bit": (flip, "is damaged"),
    "text": (lambda file: file.write_text("sorry"), "is no backup that can be restored"),
    "missing": (lambda file: file.unlink(), "can't be read"),
    "newer": (newer, "written by a newer syncd"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_backup_that_cannot_be_used_changes_nothing(synced: SyncEnv, damage: str) -> None:
    file = backup_of(synced)
    breaks, text = BROKEN[damage]
    breaks(file)
    before = {
        path: value for path, value in signatures(synced.state).items() if ".lock" not in path
    }
    refused = synced.call("backup", "--restore", str(file), "--force")
    assert refused.code == 1 and text in refused.err, refused.err
    after = {path: value for path, value in signatures(synced.state).items() if ".lock" not in path}
    assert set(after) == set(before)
    assert after[str(synced.state / "syncd.db")] == before[str(synced.state / "syncd.db")]


@pytest.mark.parametrize("lock", ["daemon.lock", "locks/nginx.lock"])
def test_a_store_in_use_is_not_replaced(synced: SyncEnv, lock: str) -> None:
    file = backup_of(synced)
    before = (synced.state / "syncd.db").stat().st_ino
    held = acquire(synced.state / lock)
    try:
        refused = synced.call("backup", "--restore", str(file), "--force")
    finally:
        release(held)
    assert refused.code == 11 and "another syncd" in refused.err
    assert (synced.state / "syncd.db").stat().st_ino == before


def test_a_backup_has_no_login_and_names_it(synced: SyncEnv) -> None:
    synced.identities["me"] = {"login": {"client_id": "Iv1.abc"}, "api": synced.served.url}
    synced.write_config(**{"as": "ops"})
    (synced.state / "logins").mkdir(mode=0o700)
    (synced.state / "logins/me.json").write_text('{"token": "ghu_secret"}')
    file = synced.folder / "backup.tar"
    made = synced.call("backup", str(file))
    assert "nor the logins (me)" in made.out
    assert b"ghu_secret" not in file.read_bytes()
    shutil.rmtree(synced.state)
    assert "syncd login me" in synced.call("backup", "--restore", str(file)).out
