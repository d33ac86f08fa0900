"""Downloads that broke off: continued where the host can, verified whole,
and never left behind for long.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.simulator import faults
from syncd.simulator.faults import Answer
from syncd.store.partial_downloads import create_locked
from tests.fault.points import in_child
from tests.support.sync_env import SyncEnv

BIG = bytes(range(256)) * 4096  # 1 MiB
FIRST = 300_000


@pytest.fixture
def large(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> SyncEnv:
    """nginx/data.bin is kept in LFS."""
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr("syncd.github.auth.credentials.FRESH_TOKEN_SECONDS", 0.0)
    hub.repo.commit({"nginx/data.bin": hub.repo.lfs_pointer(BIG)})
    hub.write_config(lfs="fetch")
    return hub


def broken_off(after: int) -> faults.FaultEffect:
    """The connection closes after so many bytes of the declared length."""
    return lambda answer: replace(
        answer, body=answer.body[:after], declared_length=len(answer.body), end="close"
    )


def kill_at(hub: SyncEnv, after: int, times: int = 1) -> None:
    """`times` runs are killed by SIGKILL when so many more bytes have come."""
    for _ in range(times):
        hub.github.add_fault("lfs_object", broken_off(after))

        def killed() -> int:
            Deadline.wait = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
            return hub.sync().code

        in_child(killed)


def asked_for(hub: SyncEnv) -> list[tuple[int, str | None]]:
    """The downloads: status, and the range that was asked for."""
    asked = [one for one in hub.github.requests if one.route == "lfs_object"]
    return [(one.status, one.headers.get("range")) for one in asked]


def partials(hub: SyncEnv) -> list[Path]:
    return [one for one in hub.state.glob("blobs/partial/*") if one.suffix != ".json"]


def temporary(hub: SyncEnv) -> list[Path]:
    """Everything of the cache that is no blob."""
    found = [*hub.state.glob("blobs/partial/*"), *hub.state.glob("blobs/??/tmp-*")]
    return sorted(found)


def done(hub: SyncEnv) -> None:
    """A run brings the whole content and leaves nothing else."""
    result = hub.sync()
    assert result.code == 0, result.job["error"]
    assert hub.tree()["data.bin"] == BIG and temporary(hub) == []


def test_a_download_goes_on_after_two_kills_and_one_partial_file_is_kept(large: SyncEnv) -> None:
    kill_at(large, FIRST, times=2)
    (partial,) = partials(large)
    assert partial.stat().st_size == 2 * FIRST
    done(large)
    assert asked_for(large) == [(206, f"bytes={2 * FIRST}-")]


def test_a_connection_that_is_lost_goes_on_in_the_same_run(large: SyncEnv) -> None:
    large.github.add_fault("lfs_object", broken_off(FIRST))
    large.github.add_fault("lfs_object", broken_off(FIRST), skip=1)
    done(large)
    statuses = [status for status, _ in asked_for(large)]
    assert statuses[0] == 200 and set(statuses[1:]) == {206}


def test_a_partial_file_that_is_damaged_is_discarded_and_the_whole_asked_for_once(
    large: SyncEnv,
) -> None:
    kill_at(large, FIRST)
    partials(large)[0].write_bytes(b"x" * FIRST)
    done(large)
    assert asked_for(large) == [(206, f"bytes={FIRST}-"), (200, None)]


def test_content_that_is_wrong_twice_fails_and_leaves_nothing(large: SyncEnv) -> None:
    kill_at(large, FIRST)
    partials(large)[0].write_bytes(b"x" * FIRST)
    large.github.add_fault("lfs_object", faults.corrupt(), skip=1)
    failed = large.sync()
    assert (failed.code, failed.job["error"]["kind"]) == (5, "bad_response")
    assert len(asked_for(large)) == 2 and temporary(large) == []


def answered(**headers: str) -> faults.FaultEffect:
    """The answer with other headers."""
    return lambda answer: replace(answer, headers={**answer.headers, **headers})


@pytest.mark.parametrize("host", ["no ranges", "no ETag", "a weak ETag", "another unit"])
def test_nothing_is_kept_from_a_host_that_can_not_continue(large: SyncEnv, host: str) -> None:
    act = {
        "no ETag": faults.without_headers("etag"),
        "a weak ETag": answered(etag='W/"abc"'),
        "another unit": answered(**{"accept-ranges": "none"}),
        "no ranges": faults.without_headers(),
    }[host]
    large.github.lfs_ranges = host != "no ranges"
    large.github.add_fault("lfs_object", act)
    kill_at(large, FIRST)
    assert partials(large) == [] or partials(large)[0].with_suffix(".json").exists() is False
    done(large)
    assert asked_for(large) == [(200, None)]


def test_content_that_has_another_etag_by_now_comes_whole(large: SyncEnv) -> None:
    kill_at(large, FIRST)
    note = partials(large)[0].with_suffix(".json")
    note.write_text(note.read_text().replace('"etag":"\\"', '"etag":"\\"old-'))
    done(large)
    assert asked_for(large) == [(200, f"bytes={FIRST}-")]


@pytest.mark.parametrize(
    "content_range", [f"bytes 0-{len(BIG) - 1}/{len(BIG)}", f"bytes {FIRST}-5/9", "", "nonsense"]
)
def test_another_part_than_was_asked_for_is_not_appended(
    large: SyncEnv, content_range: str
) -> None:
    kill_at(large, FIRST)
    large.github.add_fault("lfs_object", answered(**{"content-range": content_range}))
    done(large)
    assert asked_for(large) == [(206, f"bytes={FIRST}-"), (200, None)]


def test_a_range_that_can_not_be_satisfied_is_asked_for_whole(large: SyncEnv) -> None:
    kill_at(large, FIRST)
    large.github.add_fault("lfs_object", lambda _: Answer(416))
    done(large)
    assert asked_for(large) == [(416, f"bytes={FIRST}-"), (200, None)]


@pytest.mark.parametrize("days", [1.01, -1.01])
def test_a_partial_file_older_than_a_day_is_gone_at_the_next_start(
    large: SyncEnv, days: float
) -> None:
    kill_at(large, FIRST)
    at = time.time() - days * 86400
    os.utime(partials(large)[0], (at, at))
    large.github.add_fault("lfs", faults.status(404), times=9)
    large.sync()
    assert temporary(large) == []


def test_a_partial_file_that_the_disk_can_not_finish_is_gone_at_the_next_start(
    large: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_at(large, FIRST)
    real = os.statvfs

    def full(place: Any) -> os.statvfs_result:
        found = list(real(place))
        found[4] = 100  # f_bavail
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", full)
    large.github.add_fault("lfs", faults.status(404), times=9)
    large.sync()
    assert temporary(large) == []


def test_temporary_files_of_dead_runs_are_gone_at_the_next_start_and_others_stay(
    large: SyncEnv,
) -> None:
    kill_at(large, FIRST)
    large.github.add_fault("lfs", faults.status(404), times=9)
    for name in ("ab/tmp-dead", "partial/tmp-dead", "ab/tmp-alive"):
        (large.state / "blobs/ab").mkdir(exist_ok=True)
        (large.state / "blobs" / name).write_bytes(b"half")
    (large.state / "blobs/ab/tmp-alive").unlink()
    lock = create_locked(str(large.state / "blobs/ab/tmp-alive"))
    large.sync()
    os.close(lock)
    (partial,) = partials(large)
    assert temporary(large) == sorted(
        [large.state / "blobs/ab/tmp-alive", partial, partial.with_suffix(".json")]
    )
    assert partial.stat().st_mode & 0o777 == 0o600
    assert partial.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_of_the_repository_itself_is_never_asked_for_in_parts(large: SyncEnv) -> None:
    """GitHub promises no ranges for the contents of a repository."""
    large.repo.commit({"nginx/plain.bin": BIG})
    large.github.add_fault("contents", broken_off(FIRST))
    assert large.sync().code == 0 and large.tree()["plain.bin"] == BIG
    assert not [
        one for one in large.github.requests if one.route != "lfs_object" and "range" in one.headers
    ]
