"""The blob cache: proven on the way in and out, private, bounded,
and never emptied under somebody who uses it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from syncd.errors import BadResponseError, StoreError
from syncd.git_objects import CHUNK_BYTES, blob_id
from syncd.store import blob_files, cache_table
from syncd.store.blobs import STALE_SECONDS, BlobCache

ONE = b"one\n"
DAY = STALE_SECONDS + 1


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    (tmp_path / "state").mkdir(mode=0o700)
    return BlobCache(tmp_path / "state/blobs")


def kept(cache: BlobCache, content: bytes = ONE) -> str:
    blob = blob_id(content)
    cache.add(blob, [content], len(content))
    return blob


def file_of(cache: BlobCache, blob: str) -> Path:
    return cache.directory / blob[:2] / blob[2:]


def left(cache: BlobCache) -> list[str]:
    return sorted(str(file.relative_to(cache.directory)) for file in cache.directory.glob("??/*"))


# --- in and out -----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=200), max_size=6), st.booleans())
def test_what_goes_in_comes_out_however_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes], sized: bool
) -> None:
    cache = BlobCache(tmp_path_factory.mktemp("state") / "blobs")
    content = b"".join(chunks)
    assert cache.add(blob_id(content), chunks, len(content) if sized else None) == len(content)
    with cache.open(blob_id(content)) as opened:
        assert opened.read() == content
    assert cache.has(blob_id(content)) and left(cache) == [
        f"{blob_id(content)[:2]}/{blob_id(content)[2:]}"
    ]


def test_sync_reaches_the_file_its_folders_and_the_table(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = kept(cache), blob_id(b"small\n")
    cache.add_small({small: b"small\n"})
    synced: list[str] = []
    levels: list[str] = []
    real_fsync, real_pragma = os.fsync, cache_table.pragma

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real_fsync(descriptor)

    def pragma(connection: Connection, statement: str) -> object:
        levels.append(statement)
        return real_pragma(connection, statement)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(cache_table, "pragma", pragma)
    cache.sync([large, small, large])
    file, state = file_of(cache, large), cache.directory.parent
    assert synced == [str(file), str(file.parent), str(cache.directory), str(state)]
    assert levels == ["synchronous=FULL", "synchronous=NORMAL"]


def test_a_sync_that_the_disk_refuses_is_named(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = kept(cache)

    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match="can't be kept"):
        cache.sync([blob])


def test_a_content_longer_than_a_chunk_comes_out_whole(cache: BlobCache) -> None:
    content = os.urandom(CHUNK_BYTES + 17)
    with cache.open(kept(cache, content)) as opened:
        assert opened.read() == content


def test_content_known_by_its_sha256_is_proven_by_that_and_kept_under_its_git_id(
    cache: BlobCache,
) -> None:
    with cache.partial_download(hashlib.sha256(ONE).hexdigest(), 4) as download:
        assert download.complete([ONE]) == blob_id(ONE)
    assert cache.has(blob_id(ONE)) and len(left(cache)) == 1
    with (
        pytest.raises(BadResponseError),
        cache.partial_download(hashlib.sha256(b"other").hexdigest(), 4) as download,
    ):
        download.complete([ONE])
    assert len(left(cache)) == 1


@pytest.mark.parametrize(
    ("chunks", "size"),
    [
        ([b"two\n"], 4),
        ([b"one"], 4),
        ([ONE, b"x"], 4),
        ([ONE], 5),
        ([], 4),
        ([b"x" * 100] * 3, 4),
        ([b"two\n"], None),
        ([], None),
    ],
    ids=[
        "other bytes",
        "cut",
        "longer",
        "a wrong size",
        "nothing",
        "endless",
        "other bytes of unknown size",
        "nothing of unknown size",
    ],
)
def test_what_does_not_hash_to_its_name_is_refused_and_leaves_nothing(
    cache: BlobCache, chunks: list[bytes], size: int | None
) -> None:
    with pytest.raises(BadResponseError):
        cache.add(blob_id(ONE), chunks, size)
    assert not cache.has(blob_id(ONE)) and left(cache) == [] and cache.added == 0


def test_a_download_that_breaks_off_leaves_nothing_and_its_error_is_its_own(
    cache: BlobCache,
) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"on"
        raise ConnectionResetError("cut")

    with pytest.raises(ConnectionResetError):
        cache.add(blob_id(ONE), breaks(), 4)
    assert left(cache) == []


def test_adding_twice_is_adding_once(cache: BlobCache) -> None:
    assert kept(cache) == kept(cache)
    assert len(left(cache)) == 1


@pytest.mark.parametrize(
    "harm",
    [b"", b"on", b"onf\n", b"one\n\n", None],
    ids=["emptied", "cut", "flipped", "longer", "unreadable"],
)
def test_a_damaged_blob_is_noticed_before_a_byte_is_given_and_is_gone(
    cache: BlobCache, harm: bytes | None
) -> None:
    blob = kept(cache)
    file_of(cache, blob).unlink()
    if harm is None:
        file_of(cache, blob).symlink_to(__file__)
    else:
        file_of(cache, blob).write_bytes(harm)
    with pytest.raises(KeyError):
        cache.open(blob)
    if harm is not None:
        assert not cache.has(blob)
    kept(cache)
    cache.open(blob).close()


def test_what_was_never_here_is_a_key_error(cache: BlobCache) -> None:
    assert not cache.has(blob_id(ONE))
    with pytest.raises(KeyError):
        cache.open(blob_id(ONE))


def test_the_cache_is_private_whatever_the_mask(cache: BlobCache) -> None:
    before = os.umask(0)
    try:
        blob = kept(cache)
        with cache.shared_lock():
            pass
        cache.evict_unused(lambda: {blob})
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(cache.directory.parent)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in [cache.directory, *cache.directory.rglob("*")]
    }
    assert set(modes.values()) == {"0o700", "0o600"}
    assert {path for path, mode in modes.items() if mode == "0o700"} == {
        "blobs",
        f"blobs/{blob[:2]}",
    }


def test_a_cache_removed_while_it_is_used_is_made_again(cache: BlobCache) -> None:
    kept(cache)
    shutil.rmtree(cache.directory)
    cache.open(kept(cache)).close()


def test_a_full_disk_is_the_stores_trouble_and_says_what_to_do(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def full(path: str, flags: int, *rest: int) -> int:
        if "tmp-" in str(path):
            raise OSError(28, "No space left on device", path)
        return real(path, flags, *rest)

    monkeypatch.setattr("syncd.store.blobs.os.open", full)
    with pytest.raises(StoreError, match="No space left") as error:
        kept(cache)
    assert "free some space" in (error.value.hint or "")


def test_a_disk_that_reports_at_the_closing_what_a_write_came_to_is_the_stores_trouble(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(FileIO):
        def close(self) -> None:
            closed = self.closed
            super().close()
            if not closed:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(blob_files, "FileIO", Refusing)
    with pytest.raises(StoreError, match="a download can't be kept"):
        kept(cache)
    monkeypatch.undo()
    assert not cache.has(blob_id(ONE)) and not list(cache.directory.glob("??/*"))
    kept(cache)


@pytest.mark.parametrize("what", ["the lock", "the folder", "a new file"])
def test_whatever_our_disk_refuses_is_the_stores_trouble(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    if what == "the lock":
        monkeypatch.setattr(fcntl, "flock", refuse)
    elif what == "the folder":
        monkeypatch.setattr(os, "stat", refuse)
    else:
        monkeypatch.setattr(blob_files, "FileIO", refuse)
    with pytest.raises(StoreError), cache.shared_lock():
        kept(cache)


def test_every_blob_can_be_read_again_and_the_damaged_ones_are_named(cache: BlobCache) -> None:
    assert cache.verify() == (0, [])
    good, bad = kept(cache), kept(cache, b"two\n")
    file_of(cache, bad).write_bytes(b"tw0\n")
    (cache.directory / good[:2] / "tmp-0123").write_bytes(b"half")
    assert cache.verify() == (2, [bad])
    assert cache.verify(discard_damaged=True) == (2, [bad])
    assert cache.verify() == (1, [])


# --- bounded --------------------------------------------------------------------------------------


def test_a_sweep_leaves_what_is_in_use_and_nothing_else(cache: BlobCache) -> None:
    mine, other, young = (
        kept(cache),
        kept(cache, b"other\n"),
        kept(cache, b"of a run that failed and will go on with it\n"),
    )
    for blob in (mine, other):
        os.utime(file_of(cache, blob), (time.time() - DAY,) * 2)
    (cache.directory / mine[:2] / "tmp-0123").write_bytes(b"a run that died")
    assert cache.added == 3
    assert cache.evict_unused(lambda: {mine}) == len(b"other\n") + len(b"a run that died")
    assert (
        left(cache) == sorted(f"{blob[:2]}/{blob[2:]}" for blob in (mine, young))
        and not cache.has(other)
        and cache.added == 0
    )
    os.utime(file_of(cache, young), (time.time() + 2 * DAY,) * 2)
    assert cache.evict_unused(lambda: {mine}) and not cache.has(young), (
        "from before the clock was put back"
    )


def test_nothing_is_swept_under_somebody_who_uses_it_in_this_process_or_another(
    cache: BlobCache,
) -> None:
    blob = kept(cache)
    with BlobCache(cache.directory).shared_lock():
        assert cache.evict_unused(set) == 0 or cache.has(blob)
        assert cache.has(blob)
    code = (
        "import sys\nfrom pathlib import Path\nfrom syncd.store.blobs import BlobCache\n"
        "with BlobCache(Path(sys.argv[1])).shared_lock():\n print('using', flush=True)\n"
        " sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(cache.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as user:
        assert (
            user.stdout is not None
            and user.stdin is not None
            and user.stdout.readline() == b"using\n"
        )
        cache.evict_unused(set)
        assert cache.has(blob)
        assert cache.evict_unused(set) is None, "a second look within the day costs nothing"
        user.kill()
    os.utime(file_of(cache, blob), (time.time() - DAY,) * 2)
    cache.evict_unused(set)
    assert not cache.has(blob), "a user that was killed holds nothing"


def test_where_somebody_always_uses_it_what_nobody_touched_for_a_day_goes(cache: BlobCache) -> None:
    old, fresh, again = kept(cache), kept(cache, b"fresh\n"), kept(cache, b"again\n")
    for blob in (old, again):
        os.utime(file_of(cache, blob), (time.time() - DAY,) * 2)
    cache.open(again).close()  # a run found it here and will need it
    with cache.shared_lock():
        os.utime(cache.directory / "lock", (time.time() - DAY,) * 2)  # it was begun a day ago
        cache.evict_unused(set)
    assert [cache.has(blob) for blob in (old, fresh, again)] == [False, True, True]


def test_what_can_not_be_removed_keeps_nothing_else_and_no_later_day(cache: BlobCache) -> None:
    blob = kept(cache)
    with cache.bulk_writer() as into:
        into.add(blob_id(b"packed\n"), [b"packed\n"], 7)
    (cache.directory / "ab/stray").mkdir(parents=True)
    for file in cache.directory.glob("??/*"):
        os.utime(file, (time.time() - DAY,) * 2)
    with closing(
        sqlite3.connect(cache.directory.parent / "cache.db", isolation_level=None)
    ) as table:
        table.execute("UPDATE content SET used_at = used_at - ?", (DAY,))
    with pytest.raises(OSError, match="directory"):
        cache.evict_unused(set)
    assert not cache.has(blob) and not cache.has(blob_id(b"packed\n"))
    assert not cache.is_eviction_due() and cache.is_eviction_due(time.time() + DAY)


def test_it_is_swept_once_a_day_even_if_nothing_came_in(cache: BlobCache) -> None:
    assert not cache.is_eviction_due(), "where there is no cache there is nothing to do"
    kept(cache)
    assert cache.is_eviction_due()
    cache.evict_unused(set)
    assert (
        not cache.is_eviction_due()
        and cache.is_eviction_due(time.time() + DAY)
        and cache.is_eviction_due(time.time() - DAY)
    ), "a clock that was put back does not stop it"


def test_what_was_begun_just_now_is_not_swept_before_a_day_has_passed(cache: BlobCache) -> None:
    with cache.shared_lock():
        kept(cache)
    assert (
        not cache.is_eviction_due()
        and not cache.is_eviction_due(seconds=3600.0)
        and cache.is_eviction_due(time.time() + DAY)
    )


def test_using_makes_no_state_where_there_is_none(tmp_path: Path) -> None:
    with BlobCache(tmp_path / "state/blobs").shared_lock():
        pass
    assert not (tmp_path / "state").exists()


def test_the_start_of_a_content_is_given_as_far_as_it_is_here(cache: BlobCache) -> None:
    blob = kept(cache, b"one two\n")
    assert (
        cache.read_prefix(blob, 3),
        cache.read_prefix(blob, 100),
        cache.read_prefix(None, 3),
        cache.read_prefix(blob_id(b"never came"), 3),
    ) == (b"one", b"one two\n", b"", None)
