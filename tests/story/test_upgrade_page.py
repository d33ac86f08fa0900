"""docs/upgrade.md: an older syncd meets a newer store, with and without a backup."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.store.schema import VERSION
from tests.support.sync_env import SyncEnv, signatures

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).parents[2] / "docs/upgrade.md").read_text()


def make_newer(hub: SyncEnv) -> str:
    """Let a later version have migrated the store; return its schema."""
    newer = f"{int(VERSION) + 1:04d}"
    with closing(sqlite3.connect(hub.state / "syncd.db")) as store, store:
        (stamp,) = store.execute("PRAGMA application_id").fetchone()
        store.execute("UPDATE alembic_version SET version_num = ?", (newer,))
        store.execute(f"PRAGMA application_id = {stamp + 1}")
    return newer


@pytest.fixture
def newer(hub: SyncEnv) -> str:
    """A machine after an upgrade, with a backup from before it."""
    assert hub.call("sync").code == 0
    assert hub.call("backup", str(hub.folder / "before.tar")).code == 0
    return make_newer(hub)


def test_an_older_syncd_refuses_the_store_as_the_page_shows(hub: SyncEnv, newer: str) -> None:
    refused = hub.call("sync")
    (shown,) = (part for part in PAGE.split("\n\n") if "was written by a newer syncd" in part)
    expected = " ".join(shown.split()).replace("0007", newer).replace("0006", VERSION)
    assert (refused.code, " ".join(refused.err.split())) == (1, expected)
    check = hub.call("migrate", "--check")
    assert check.code == 1 and newer in check.out and VERSION in check.out


def test_a_downgrade_with_a_backup_keeps_the_history(hub: SyncEnv, newer: str) -> None:
    before = signatures(hub.dest)
    restored = hub.call("backup", "--restore", "--force", str(hub.folder / "before.tar"))
    assert restored.code == 0 and "syncd.db.replaced-" in restored.out
    assert hub.call("sync").code == 0 and signatures(hub.dest) == before
    assert "nginx" in hub.call("history").out


def test_a_downgrade_without_a_backup_adopts_equal_files(hub: SyncEnv, newer: str) -> None:
    before = signatures(hub.dest)
    (hub.state / "syncd.db").rename(hub.folder / "syncd.db")
    assert hub.call("sync").code == 0 and signatures(hub.dest) == before
    assert "nginx" not in hub.call("history").out
    assert hub.call("rollback", "nginx").code == 1
