"""The file of a login: whole or not at all, for its owner alone,
taken over where a death came between writing and renaming.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.errors import StoppedError, StoreError
from syncd.identities import OAuthTokens
from syncd.redaction import Secret
from syncd.store.oauth_tokens import OAuthTokenFile, login_expires_at

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PAIR = OAuthTokens(
    "https://api.test",
    "Iv1.a",
    "ada",
    Secret("ghu_one"),
    NOW,
    NOW + timedelta(hours=8),
    Secret("ghr_one"),
    NOW + timedelta(days=183),
)
NEXT = replace(PAIR, access=Secret("ghu_two"), refresh=Secret("ghr_two"), after=PAIR.mark)


def deadline() -> Deadline:
    return Deadline(SystemClock(), 60)


@pytest.fixture
def kept(tmp_path: Path) -> OAuthTokenFile:
    made = OAuthTokenFile(tmp_path, "me")
    with made.exclusive_lock(deadline()):
        made.save(PAIR)
    return made


def test_what_is_kept_is_given_back_and_is_its_owners_alone(kept: OAuthTokenFile) -> None:
    assert kept.load() == PAIR and login_expires_at(kept) == PAIR.refresh_expires_at
    assert {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in kept.file.parent.iterdir()
    } == {"me.json": 0o600, "me.lock": 0o600}
    assert stat.S_IMODE(kept.file.parent.stat().st_mode) == 0o700


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    assert OAuthTokenFile(tmp_path, "me").load() is None and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["..", "../../etc/x", "a/b", "", "x" * 300, "ä"])
def test_any_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    assert OAuthTokenFile(tmp_path, name).file.resolve().parent == (tmp_path / "logins").resolve()


def test_a_death_before_the_answer_leaves_a_note_of_who_asked_and_when(
    kept: OAuthTokenFile,
) -> None:
    kept.begin_request(PAIR, NOW)
    again = OAuthTokenFile(kept.file.parent.parent, "me")
    with again.exclusive_lock(deadline()):
        assert again.load() == PAIR and again.interrupted_request(PAIR) == {
            "pid": str(os.getpid()),
            "at": "2026-11-23T12:00:00+00:00",
        }
        assert again.interrupted_request(NEXT) is None
        again.save(NEXT)
        assert again.interrupted_request(NEXT) is None and again.load() == NEXT


def test_a_refusal_takes_the_note_away(kept: OAuthTokenFile) -> None:
    kept.begin_request(PAIR, NOW)
    kept.end_request(PAIR)
    assert kept.interrupted_request(PAIR) is None and kept.load() == PAIR


def whole(pair: OAuthTokens, tmp_path: Path) -> bytes:
    other = OAuthTokenFile(tmp_path / "scratch", "me")
    with other.exclusive_lock(deadline()):
        other.save(pair)
    return other.file.read_bytes()


def test_a_pair_that_was_written_and_not_renamed_is_taken_over_from_whatever_length_it_was_whole(
    kept: OAuthTokenFile, tmp_path: Path
) -> None:
    content = whole(NEXT, tmp_path)
    beside = kept.file.with_suffix(".next")
    for length in range(0, len(content) + 1, 7):
        kept.file.write_bytes(whole(PAIR, tmp_path))
        kept.begin_request(PAIR, NOW)
        beside.write_bytes(content[:length] + b" " * (4096 - length))
        with kept.exclusive_lock(deadline()):
            assert kept.load() == PAIR and kept.interrupted_request(PAIR) is not None, length
    beside.write_bytes(content + b" " * (4096 - len(content)))
    with kept.exclusive_lock(deadline()):
        assert kept.load() == NEXT and not beside.exists()


def test_a_pair_that_follows_another_one_is_not_taken_over(
    kept: OAuthTokenFile, tmp_path: Path
) -> None:
    kept.file.with_suffix(".next").write_bytes(whole(replace(NEXT, after="another"), tmp_path))
    with kept.exclusive_lock(deadline()):
        assert kept.load() == PAIR


@pytest.mark.parametrize("make", ["link", "folder", "fifo"])
def test_what_is_no_file_of_ours_is_not_followed_and_never_waited_for(
    kept: OAuthTokenFile, tmp_path: Path, make: str
) -> None:
    real = kept.file.read_bytes()
    kept.file.unlink()
    if make == "link":
        (tmp_path / "elsewhere").write_bytes(real)
        kept.file.symlink_to(tmp_path / "elsewhere")
    elif make == "folder":
        kept.file.mkdir()
    else:
        os.mkfifo(kept.file, 0o600)
    with pytest.raises(StoreError):
        kept.load()
    assert login_expires_at(kept) is None


def test_a_full_disk_is_met_before_anything_is_asked_and_after_it_the_old_pair_stands(
    kept: OAuthTokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left"):
        kept.begin_request(PAIR, NOW)
    with pytest.raises(StoreError, match="No space left"):
        kept.save(NEXT)
    monkeypatch.undo()
    assert kept.load() == PAIR


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "logins").write_text("in the way")
    with (
        pytest.raises(StoreError, match="the login of me can't be saved"),
        OAuthTokenFile(tmp_path, "me").exclusive_lock(deadline()),
    ):
        pass


def test_waiting_for_another_process_ends_with_a_signal(kept: OAuthTokenFile) -> None:
    stop = threading.Event()
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with (
            pytest.raises(StoppedError),
            OAuthTokenFile(kept.file.parent.parent, "me").exclusive_lock(
                Deadline(SystemClock(), 60, stop)
            ),
        ):
            pass

    with kept.exclusive_lock(deadline()):
        assert kept.holder() == os.getpid()
        thread = threading.Thread(target=second)
        thread.start()
        assert entered.wait(30)
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_forgetting_leaves_nothing_and_says_whether_there_was_something(
    kept: OAuthTokenFile,
) -> None:
    kept.begin_request(PAIR, NOW)
    assert (
        kept.delete()
        and not kept.delete()
        and [path.name for path in kept.file.parent.iterdir()] == ["me.lock"]
    )


def test_secrets_are_in_the_file_and_nowhere_else(kept: OAuthTokenFile) -> None:
    found = json.loads(kept.file.read_text())
    assert (found["access"], found["refresh"]) == ("ghu_one", "ghr_one")
    assert "ghu_one" not in repr(PAIR) and "ghr_one" not in repr(PAIR) and "ghr" not in PAIR.mark
