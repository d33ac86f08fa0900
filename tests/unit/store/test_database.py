"""The database under what happens to files: damage, deletion, a full disk,
others at work on it, other versions.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Connection

from syncd.errors import StoreError
from syncd.store import database as module
from syncd.store import location, migrate, sqlite
from syncd.store.corruption import is_file_damaged
from syncd.store.database import Database
from syncd.store.schema import VERSION

FORK = multiprocessing.get_context("fork")


def count(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM directory").fetchone()[0])


def add(connection: Connection, name: str = "x") -> None:
    connection.exec_driver_sql(
        "INSERT INTO directory (path, job, checksum) VALUES (?, 'j', '')", (name,)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "syncd.db"


@pytest.fixture
def base(file: Path) -> Iterator[Database]:
    made = Database(file)
    yield made
    made.close()


def asides(file: Path) -> list[str]:
    return sorted(one.name for one in file.parent.glob("*.broken-*"))


# --- as it should be ------------------------------------------------------------------------------


def test_it_is_made_private_durable_and_of_this_versions_schema(base: Database, file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    base.write(add)
    assert {stat.S_IMODE(one.stat().st_mode) for one in file.parent.iterdir()} == {0o600}
    pragmas = {
        name: base.read(
            lambda connection, name=name: connection.exec_driver_sql(f"PRAGMA {name}").fetchone()[0]
        )
        for name in ("journal_mode", "synchronous", "foreign_keys", "application_id")
    }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "application_id": migrate.stamp_of(VERSION),
    }
    assert base.notes == []


def test_a_file_that_others_can_read_is_made_private_again(file: Path) -> None:
    Database(file).close()
    file.chmod(0o644)
    Database(file).close()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_write_that_fails_leaves_nothing(base: Database) -> None:
    def half(connection: Connection) -> None:
        add(connection)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        base.write(half)
    assert base.read(count) == 0


def test_only_a_write_of_a_cache_waits_for_the_sync_of_a_later_one(base: Database) -> None:
    def level(connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA synchronous").fetchone()[0])

    def failing(connection: Connection) -> None:
        raise ValueError("a bug")

    normal, full = 1, 2
    assert base.write(level, synced=False) == normal
    assert base.write(level) == full
    with pytest.raises(ValueError, match="a bug"):
        base.write(failing, synced=False)
    assert base.read(level) == full


def test_a_mistake_in_our_own_sql_is_an_error_and_not_damage(base: Database, file: Path) -> None:
    base.write(add)
    with pytest.raises(StoreError, match="no such table"):
        base.read(lambda connection: connection.exec_driver_sql("SELECT * FROM nowhere"))
    assert asides(file) == []


def test_a_closed_store_says_so(base: Database) -> None:
    base.close()
    with pytest.raises(StoreError, match="closed"):
        base.read(count)


def test_many_threads_write_through_one_database(base: Database) -> None:
    threads = [
        threading.Thread(
            target=lambda number=number: [
                base.write(lambda connection, one=one: add(connection, f"{number}-{one}"))
                for one in range(10)
            ]
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert base.read(count) == 80


# --- damage ---------------------------------------------------------------------------------------


def scribble(file: Path, content: bytes) -> None:
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(content)


@pytest.mark.parametrize(
    "content",
    [b"garbage " * 1000, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["garbage", "zeros", "a header and noise"],
)
def test_what_is_no_store_is_set_aside_and_an_empty_one_begun(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    base = Database(file)
    assert base.read(count) == 0 and len(asides(file)) == 1
    assert (file.parent / asides(file)[0]).read_bytes() == content
    assert "set aside as syncd.db.broken-" in base.notes[0]
    base.close()


@pytest.mark.parametrize("content", [b"", b"x"])
def test_an_empty_file_is_a_store_that_knows_nothing_yet(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    base = Database(file)
    assert base.read(count) == 0 and asides(file) == []
    base.close()


def test_a_strangers_database_is_set_aside_whole(file: Path) -> None:
    with closing(sqlite3.connect(file)) as theirs:
        theirs.execute("CREATE TABLE file (theirs)")
        theirs.commit()
    base = Database(file)
    assert base.read(count) == 0
    with closing(sqlite3.connect(file.parent / asides(file)[0])) as theirs:
        assert theirs.execute("SELECT * FROM file").fetchall() == []
    base.close()


def test_damage_met_in_the_middle_of_the_work_is_healed_and_the_work_done(
    base: Database, file: Path
) -> None:
    base.write(add)
    base.close()
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    file.write_bytes(content)
    again = Database(file)
    again.write(add)
    assert again.read(count) == 1 and len(asides(file)) == 1
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE directory",
        "ALTER TABLE directory RENAME COLUMN path TO pbth",
        "DELETE FROM alembic_version",
        "UPDATE alembic_version SET version_num = '0099'",
        "UPDATE alembic_version SET version_num = x'30303032'",
        "PRAGMA application_id = 12",
        "DROP TABLE alembic_version",
        "DROP INDEX file_job",
        "INSERT INTO alembic_version VALUES ('0001')",
    ],
)
def test_a_schema_that_is_not_whole_is_damage(file: Path, change: str) -> None:
    Database(file).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(change)
        connection.commit()
    base = Database(file)
    base.write(add)
    assert base.read(count) == 1
    assert base.read(lambda connection: migrate.version_of(connection)) == VERSION
    assert len(asides(file)) == (
        0 if "INDEX" in change else 1
    )  # without its index the store is slow, and right
    base.close()


def test_text_that_is_no_text_any_more_can_still_be_read_around(base: Database) -> None:
    base.write(add)
    base.write(
        lambda connection: connection.exec_driver_sql(
            "INSERT INTO directory (path, job, checksum) VALUES (CAST(x'ff41' AS TEXT), 'j', '')"
        )
    )
    assert base.read(
        lambda connection: sorted(
            path for (path,) in connection.exec_driver_sql("SELECT path FROM directory")
        )
    ) == ["x", "\ufffdA"]


def test_only_the_last_damaged_files_are_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        monkeypatch.setattr(
            module.time, "strftime", lambda *_, number=number: f"2026010{number}T000000"
        )
        scribble(file, b"garbage")
        Database(file).close()
    assert asides(file) == [f"syncd.db.broken-2026010{number}T000000" for number in (3, 4, 5)]


def test_a_damaged_store_is_set_aside_once_however_many_meet_it(file: Path) -> None:
    first, second = Database(file), Database(file)
    first.write(add)
    content = bytearray(file.read_bytes())
    content[:100] = b"\0" * 100
    with open(file, "r+b") as target:  # the same file, damaged under both
        target.write(content)
    file.with_name("syncd.db-wal").write_bytes(b"")
    first.write(lambda connection: add(connection, "kept"))
    second.write(lambda connection: add(connection, "kept too"))
    assert len(asides(file)) <= 1
    assert first.read(count) == second.read(count) >= 2
    first.close()
    second.close()


def heal_at_once(file: str, barrier: object, number: int) -> None:
    barrier.wait()
    base = Database(Path(file))
    base.write(lambda connection: add(connection, f"from {number}"))
    base.close()
    os._exit(0)


@pytest.mark.parametrize("content", [b"", b"garbage " * 1000], ids=["new", "damaged"])
def test_eight_processes_that_open_at_one_moment_all_work_in_the_same_store(
    file: Path, content: bytes
) -> None:
    for _ in range(3):
        scribble(file, content)
        for one in asides(file):
            (file.parent / one).unlink()
        barrier = FORK.Barrier(8)
        processes = [
            FORK.Process(target=heal_at_once, args=(str(file), barrier, number))
            for number in range(8)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 8
        base = Database(file)
        assert base.read(count) == 8 and len(asides(file)) == (1 if content else 0)
        base.close()


# --- deletion and replacement ---------------------------------------------------------------------


def test_a_store_deleted_under_us_is_begun_anew_and_nothing_goes_into_the_void(
    base: Database, file: Path
) -> None:
    base.write(add)
    for one in file.parent.iterdir():
        one.unlink()
    base.write(lambda connection: add(connection, "after"))
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("SELECT path FROM directory").fetchall() == [("after",)]
    assert "removed or replaced" in base.notes[0]


def test_a_store_deleted_within_a_write_has_the_write_again(base: Database, file: Path) -> None:
    calls = []

    def delete_then_add(connection: Connection) -> None:
        calls.append(1)
        if len(calls) == 1:
            for one in file.parent.iterdir():
                one.unlink()
        add(connection)

    base.write(delete_then_add)
    assert len(calls) == 2 and base.read(count) == 1


def test_a_store_that_is_lost_each_time_is_an_error_in_the_end(base: Database, file: Path) -> None:
    with pytest.raises(StoreError, match="3 times in a row"):
        base.write(lambda connection: [one.unlink() for one in file.parent.iterdir()])


def test_the_whole_state_folder_may_go(tmp_path: Path) -> None:
    import shutil

    base = Database(tmp_path / "state/syncd.db")
    shutil.rmtree(tmp_path / "state")
    base.write(add)
    assert base.read(count) == 1 and stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    base.close()


def test_another_store_put_in_its_place_is_used_from_then_on(
    base: Database, file: Path, tmp_path: Path
) -> None:
    base.write(add)
    other = Database(tmp_path / "other/syncd.db")
    for name in ("a", "b", "c"):
        other.write(lambda connection, name=name: add(connection, name))
    other.close()
    os.replace(tmp_path / "other/syncd.db", file)
    assert base.read(count) == 3


def test_a_second_store_on_one_file_in_one_process_keeps_the_firsts_lock(
    base: Database, file: Path
) -> None:
    """Closing any descriptor of a file lets go of every fcntl lock that this process has on it."""
    seen = []

    def while_locked(connection: Connection) -> None:
        add(connection)
        Database(file).close()
        code = (
            "import sqlite3, sys\ntry:\n"
            " c = sqlite3.connect(sys.argv[1], timeout=0); c.execute('BEGIN IMMEDIATE'); "
            "print('got it')\nexcept sqlite3.OperationalError as e: print(e)"
        )
        seen.append(
            subprocess.run(
                [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
            ).stdout.strip()
        )

    base.write(while_locked)
    assert seen == ["database is locked"]


# --- trouble that passes --------------------------------------------------------------------------


def test_a_store_that_another_process_holds_is_waited_for_and_then_named(
    base: Database, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base.close()
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    again = Database(file)
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert (
            holder.stdout is not None
            and holder.stdin is not None
            and holder.stdout.readline() == b"held\n"
        )
        with pytest.raises(StoreError, match=rf"\(pid {holder.pid}\) holds it") as error:
            again.write(add)
        assert error.value.hint == "wait for it and try again"
        assert again.read(count) == 0, "reading waits for nobody"
        Database(file).close()
        holder.stdin.close()
    again.write(add)
    assert again.read(count) == 1 and asides(file) == []
    again.close()


def test_opening_waits_for_who_is_making_it_ready_but_not_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.2)
    with (
        location.opening_lock(file, 1),
        pytest.raises(StoreError, match="another syncd has been preparing"),
    ):
        Database(file)
    Database(file).close()


def test_a_full_disk_leaves_what_stood_and_names_itself(base: Database, file: Path) -> None:
    base.write(add)
    pages = base.read(
        lambda connection: connection.exec_driver_sql("PRAGMA page_count").fetchone()[0]
    )
    base.read(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))
    with pytest.raises(StoreError, match="full") as error:
        base.write(lambda connection: add(connection, "x" * 20_000))
    assert "free some space" in (error.value.hint or "") and asides(file) == []
    assert base.read(count) == 1
    base.read(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 100000"))
    base.write(lambda connection: add(connection, "x" * 20_000))
    assert base.read(count) == 2


@pytest.mark.parametrize(
    "code",
    [
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR_SHMOPEN,
    ],
)
def test_a_disk_that_refuses_is_not_damage(base: Database, file: Path, code: int) -> None:
    def refuse(connection: Connection) -> None:
        error = sqlite3.OperationalError("refused")
        error.sqlite_errorcode = code
        raise error

    with pytest.raises(StoreError, match="refused"):
        base.write(refuse)
    assert asides(file) == []
    base.write(add)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ])
def test_a_read_that_fails_once_costs_no_memory(base: Database, file: Path, code: int) -> None:
    base.write(add)

    def fail(connection: Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    with pytest.raises(StoreError, match="disk I/O error"):
        base.read(fail)
    assert asides(file) == [] and Database(file).read(count) == 1


def test_a_sound_store_that_was_called_malformed_once_is_asked_again(
    base: Database, file: Path
) -> None:
    """SQLite says so of a read that the disk refused; a ledger is not given up for that."""
    base.write(add)
    left = [1]

    def fail(connection: Connection) -> int:
        if left:
            error = sqlite3.DatabaseError("database disk image is malformed")
            error.sqlite_errorcode = left.pop() and sqlite3.SQLITE_CORRUPT
            raise error
        return count(connection)

    assert base.read(fail) == 1 and asides(file) == []
    left.extend([1, 1])
    assert base.read(fail) == 0 and len(asides(file)) == 1, (
        "called malformed twice it is begun anew"
    )


def test_a_page_that_cant_be_read_when_the_file_is_examined_is_lost() -> None:
    class Unreadable:
        def execute(self, _query: str) -> None:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error

    assert is_file_damaged(cast(sqlite3.Connection, Unreadable()))


@pytest.mark.parametrize("kind", ["folder", "link", "fifo"])
def test_something_else_in_the_stores_place_is_refused_and_left(file: Path, kind: str) -> None:
    {
        "folder": file.mkdir,
        "link": lambda: file.symlink_to("elsewhere"),
        "fifo": lambda: os.mkfifo(file),
    }[kind]()
    with pytest.raises(StoreError, match="is not a file"):
        Database(file)
    assert file.is_symlink() or file.exists()


@pytest.mark.skipif(
    os.geteuid() == 0, reason="root writes everywhere; the root lane mounts it read-only"
)
def test_a_folder_that_cant_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="can't be opened"):
        Database(tmp_path / "state/syncd.db")


MOUNTINFO = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / {place} rw shared:2 - {kind} server:/export rw
31 22 0:41 / {place}-beside rw - ext4 /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("9p", True),
        ("xfs", False),
        ("tmpfs", False),
        ("fuse.bindfs", False),
    ],
)
def test_a_network_file_system_is_refused_by_name_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, refused: bool
) -> None:
    state = tmp_path / "with space"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTINFO.format(place=str(state).replace(" ", "\\040"), kind=kind))
    monkeypatch.setattr(location, "MOUNTS", mounts)
    if refused:
        with pytest.raises(StoreError, match=f"network file system \\({kind}\\)") as error:
            Database(state / "syncd.db")
        assert error.value.hint == "set state: to a folder on a local disk" and not state.exists()
    else:
        Database(state / "syncd.db").close()


# --- other versions -------------------------------------------------------------------------------


def test_a_newer_stores_file_is_refused_and_not_touched(file: Path) -> None:
    Database(file).close()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "UPDATE alembic_version SET version_num = '0999'; PRAGMA application_id = "
            f"{migrate.stamp_of('0999')}; CREATE TABLE later (x);"
        )
    before = file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino
    with pytest.raises(
        StoreError, match=f"newer syncd .schema 0999, this one knows {VERSION}.; it was not touched"
    ):
        Database(file)
    assert (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_ino) == before and asides(
        file
    ) == []
