"""What earlier versions wrote is read as what it meant, and what is written now they can read: the
texts here are theirs, letter by letter.
"""

from __future__ import annotations

import json
import zlib
from datetime import UTC, datetime

import pytest

from syncd.engine import undo_plan
from syncd.engine.rejection import hook_config_digest
from syncd.engine.undo_plan import Before, Undo
from syncd.models import (
    Hook,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    PathRule,
    Stat,
    TreeEntry,
    WantedFile,
)
from syncd.policies import Drift, Lfs, Limits, Prune, Publish, Require, Submodules, Symlinks
from syncd.store import serialization

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ONE, TWO, THREE = "ab" * 20, "cd" * 20, "ef" * 20
ENTRY = WantedFile(ONE, 0o644, Kind.FILE, 0, 0, "nginx/x", 7, "/srv", 0o755, TWO, True)
LINK = WantedFile(THREE, 0o755, Kind.LINK, source="über/ключ 🔑", root="/srv/é")
STAT = Stat(2**64 - 1, 2**63 + 5, 3, 1795899600123456789, 5)
ENTRY_TEXT = f'["{ONE}",420,"file",0,0,"nginx/x",7,"/srv",493,"{TWO}",true]'
LINK_TEXT = (
    f'["{THREE}",493,"link",null,null,"\\u00fcber/\\u043a\\u043b\\u044e\\u0447 '
    '\\ud83d\\udd11",null,"/srv/\\u00e9",493,null,null]'
)
STAT_TEXT = "[18446744073709551615,9223372036854775813,3,1795899600123456789,5]"

JOB = Job(
    "web",
    "ops",
    "acme/infra",
    "main",
    (
        PathRule(
            "nginx",
            "/etc/nginx/conf.d",
            True,
            ("*.conf",),
            ("old/", "é*"),
            0o640,
            "www-data:adm",
            0o750,
        ),
        PathRule("motd", "/etc/motd", False),
    ),
    60.0,
    "*/5 * * * *",
    3.0,
    False,
    Prune.OFF,
    Drift.REPORT,
    Symlinks.SKIP,
    Submodules.REFUSE,
    Lfs.FETCH,
    "root:root",
    0o600,
    0o711,
    Limits(0.25, None, 5, 7, True),
    Publish.SYMLINK,
    3,
    Hook("nginx -t", ("nginx", "-t")),
    Hook(
        "systemctl reload nginx | cat",
        ("sh", "-c", "systemctl reload nginx | cat"),
        True,
        ("json",),
    ),
    undo_on_failure=True,
    require=Require(True, True),
    timeout_seconds=11.0,
    hook_timeout_seconds=12.0,
    hook_user="www-data",
)


SET_TEXT = f'{{"/srv/\\u00fcber":{LINK_TEXT},"/srv/x":{ENTRY_TEXT},"/srv/y":["{ONE}",420,"file"]}}'
SET = {"/srv/über": LINK, "/srv/x": ENTRY, "/srv/y": WantedFile(ONE, 0o644)}


def test_a_set_of_an_earlier_version_is_read() -> None:
    assert serialization.files_from_bytes(zlib.compress(SET_TEXT.encode("ascii"), 1)) == SET


def test_a_set_is_what_upstream_has_without_what_prune_off_left() -> None:
    ledger = {
        "/srv/x": LedgerRow(ENTRY, STAT),
        "/srv/edited": LedgerRow(ENTRY, STAT, Ownership.OWNED, LINK),
        "/srv/gone": LedgerRow(LINK, None, Ownership.UNLISTED),
    }
    assert serialization.files_from_bytes(serialization.set_to_bytes(ledger)) == {
        "/srv/x": ENTRY,
        "/srv/edited": LINK,
    }


@pytest.mark.parametrize(
    "text", ["", "null", "[]", SET_TEXT[:-1], SET_TEXT.replace('"file"', '"fifo"')]
)
def test_a_set_that_does_not_read_back_whole_is_damage(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        serialization.files_from_bytes(zlib.compress(text.encode("ascii"), 1))


LISTING_TEXT = f'[["\\u00fcber",33188,"{ONE}",7],["x",57344,"{TWO}",null]]'
LISTING = {"über": TreeEntry(0o100644, ONE, 7), "x": TreeEntry(0o160000, TWO)}


def test_a_listing_of_an_earlier_version_is_read_and_what_is_written_now_it_can_read() -> None:
    assert (
        serialization.listing_from_bytes(zlib.compress(LISTING_TEXT.encode("ascii"), 1)) == LISTING
    )
    assert json.loads(zlib.decompress(serialization.listing_to_bytes(LISTING))) == json.loads(
        LISTING_TEXT
    )


def test_a_name_that_is_no_utf_8_is_remembered_as_a_server_told_it() -> None:
    text = f'[["x\\udcff",57344,"{TWO}",null],["\\u00fcber",33188,"{ONE}",7]]'
    listing = {"x\udcff": TreeEntry(0o160000, TWO), "über": TreeEntry(0o100644, ONE, 7)}
    assert serialization.listing_from_bytes(zlib.compress(text.encode("ascii"), 1)) == listing
    assert zlib.decompress(serialization.listing_to_bytes(listing)).decode() == text
    for harmed in (text[:-1], text.replace("57344", '"57344"'), text + "[" * 100_000):
        with pytest.raises((ValueError, TypeError)):
            serialization.listing_from_bytes(zlib.compress(harmed.encode("ascii"), 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "7",
        LISTING_TEXT[:-1],
        LISTING_TEXT.replace(",7]", "]"),
        LISTING_TEXT.replace(",7]", ",7,8]"),
    ],
)
def test_a_listing_that_does_not_read_back_whole_is_damage(text: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        serialization.listing_from_bytes(zlib.compress(text.encode("ascii"), 1))


def test_a_way_back_of_an_earlier_version_is_read_and_writes_back_the_same() -> None:
    entry = {
        "blob": ONE,
        "mode": 420,
        "kind": "file",
        "uid": 0,
        "gid": 0,
        "source": "nginx/x",
        "size": 7,
        "root": "/srv",
        "dir_mode": 493,
        "pointer": TWO,
        "executable": True,
    }
    link = {
        "blob": THREE,
        "mode": 493,
        "kind": "link",
        "uid": None,
        "gid": None,
        "source": "",
        "size": None,
        "root": "/",
        "dir_mode": 493,
        "pointer": None,
        "executable": None,
    }
    stat = {
        "device": 2**64 - 1,
        "inode": 2**63 + 5,
        "size": 3,
        "mtime_ns": 1795899600123456789,
        "ctime_ns": 5,
    }
    there = {
        "local": {
            "kind": "file",
            "blob": TWO,
            "mode": 420,
            "uid": 0,
            "gid": 0,
            "stat": stat,
            "problem": None,
            "hint": None,
        },
        "row": {"entry": entry, "stat": None, "standing": "met", "wanted": link},
        "root": "/srv",
        "dir_mode": 493,
        "in_ledger_only": False,
        "is_folder": False,
    }
    folder = {
        "local": None,
        "row": None,
        "root": "/",
        "dir_mode": 0o700,
        "in_ledger_only": True,
        "is_folder": True,
    }
    text = json.dumps(
        {
            "commit": "a" * 40,
            "digest": "d",
            "files": 2,
            "places": {"/srv/é": there, "/srv/f": folder},
        },
        separators=(",", ":"),
    )
    row = LedgerRow(ENTRY, None, Ownership.FOREIGN, WantedFile(THREE, 0o755, Kind.LINK))
    value = Undo(
        "a" * 40,
        "d",
        2,
        {
            "/srv/é": Before(LocalFile(Kind.FILE, TWO, 0o644, 0, 0, STAT), row, "/srv"),
            "/srv/f": Before(None, None, "/", 0o700, True, True),
        },
    )
    assert (
        undo_plan.from_text(text) == value
        and undo_plan.from_text(undo_plan.to_text(value)) == value
    )


def test_a_jobs_digest_is_the_one_that_installed_ledgers_hold() -> None:
    assert JOB.digest == "c99abc8d1331ebb7a6842869112829f18cb34b6f446fb854d3b4b4fd4c2c4c5a"
    assert (
        Job("web", "ops", "acme/infra", None, ()).digest
        == "ffed51ebe7808aa3c96287f7898bc02274d8f33e7232c9f4b75f71ed28a6dc06"
    )
    assert (
        hook_config_digest(JOB)
        == "c8d8b861f8c52396d133f5664126de91a27c5f5594604b6b84af36177b3b9cb4"
    )
