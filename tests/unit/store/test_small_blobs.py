"""Small contents in the table of `cache.db`: verified on the way out, whatever is cut,
flipped, removed or evicted meanwhile.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from syncd.errors import BadResponseError, StoreError
from syncd.git_objects import EMPTY_BLOB, blob_id
from syncd.store.blobs import FRESH_SECONDS, STALE_SECONDS, BlobCache
from syncd.store.read_only_cache import ReadOnlyCache
from syncd.store.small_blobs import MAX_SMALL_BYTES, SmallBlobs

DAY = STALE_SECONDS + 1
SOME = [b"", b"one\n", b"two two\n", bytes(range(256)) * 5, b"five\n"]
IDS = [blob_id(content) for content in SOME]


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    (tmp_path / "state").mkdir(mode=0o700)
    return BlobCache(tmp_path / "state/blobs")


def put(cache: BlobCache, contents: list[bytes]) -> list[str]:
    with cache.shared_lock(), cache.bulk_writer() as into:
        for content in contents:
            assert into.add(blob_id(content), [content[:3], content[3:]], len(content)) == len(
                content
            )
    return [blob_id(content) for content in contents]


def content_of(cache: BlobCache, blob: str) -> bytes | None:
    try:
        with cache.open(blob) as content:
            return content.read()
    except KeyError:
        return None


def file_of(cache: BlobCache) -> Path:
    return cache.directory.parent / "cache.db"


def again(cache: BlobCache) -> BlobCache:
    """The cache as another process sees it."""
    return BlobCache(cache.directory)


def change(cache: BlobCache, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file_of(cache), isolation_level=None)) as connection:
        connection.execute(statement, values)


def grow_old(cache: BlobCache) -> None:
    if file_of(cache).exists():
        change(cache, "UPDATE content SET used_at = ?", time.time() - DAY)
    for file in cache.directory.glob("??/*"):
        os.utime(file, (time.time() - DAY,) * 2)


# --- in and out -----------------------------------------------------------------------------------


def test_what_is_written_in_bulk_is_read_by_everyone_and_makes_no_files(cache: BlobCache) -> None:
    put(cache, SOME)
    for reader in (cache, again(cache), ReadOnlyCache(cache.directory)):
        assert [content_of(reader, blob) for blob in IDS] == SOME
        assert all(reader.has(blob) for blob in IDS)
    assert again(cache).verify() == (len(SOME), [])
    assert not list(cache.directory.glob("??/*"))


def test_a_writer_has_what_it_added_before_its_batch_is_written(cache: BlobCache) -> None:
    with cache.bulk_writer() as into:
        into.add(IDS[1], [SOME[1]], len(SOME[1]))
        assert into.has(IDS[1]) and not into.has(IDS[2])


def test_many_contents_are_written_in_batches(cache: BlobCache) -> None:
    contents = [b"%d\n" % number for number in range(600)]
    with cache.bulk_writer() as into:
        for number, content in enumerate(contents, start=1):
            into.add(blob_id(content), [content], len(content))
            assert len(SmallBlobs(file_of(cache)).ids()) == number // 250 * 250
    assert len(SmallBlobs(file_of(cache)).ids()) == 600


def test_what_is_large_or_of_unknown_size_is_a_file_of_its_own(cache: BlobCache) -> None:
    large = bytes(MAX_SMALL_BYTES + 1)
    with cache.bulk_writer() as into:
        into.add(blob_id(large), [large], len(large))
        into.add(blob_id(b"?"), [b"?"], None)
    assert len(list(cache.directory.glob("??/*"))) == 2
    assert not file_of(cache).exists()


@pytest.mark.parametrize(
    ("chunks", "size"),
    [([b"one"], 4), ([b"onf\n"], 4), ([b"one\n", b"more"], 4), ([], 4)],
    ids=["cut", "flipped", "longer", "nothing"],
)
def test_content_that_does_not_match_its_id_is_refused(
    cache: BlobCache, chunks: list[bytes], size: int
) -> None:
    with cache.bulk_writer() as into:
        with pytest.raises(BadResponseError):
            into.add(blob_id(b"one\n"), chunks, size)
        assert not into.has(blob_id(b"one\n"))
        into.add(blob_id(b"two\n"), [b"two\n"], 4)
    assert again(cache).verify() == (1, [])


def test_a_download_that_breaks_off_keeps_what_was_whole(cache: BlobCache) -> None:
    def broken() -> Iterator[bytes]:
        yield b"on"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError), cache.bulk_writer() as into:
        into.add(IDS[2], [SOME[2]], len(SOME[2]))
        into.add(IDS[1], broken(), 4)
    assert content_of(again(cache), IDS[2]) == SOME[2]
    assert not cache.has(IDS[1])


def test_the_table_is_private_whatever_the_mask(cache: BlobCache) -> None:
    before = os.umask(0)
    try:
        with cache.shared_lock():
            put(cache, SOME)
            modes = {
                stat.S_IMODE(file.lstat().st_mode)
                for file in file_of(cache).parent.glob("cache.db*")
            }
    finally:
        os.umask(before)
    assert modes == {0o600}


@pytest.mark.parametrize("blob", ["../../etc/passwd", "A" * 40, "a" * 39])
def test_a_text_that_is_no_id_is_not_here(cache: BlobCache, blob: str) -> None:
    put(cache, SOME)
    assert not cache.has(blob)
    cache._small.discard(blob)
    assert cache.verify() == (len(SOME), [])


def test_a_cache_without_small_contents_loads_no_sqlalchemy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom syncd.store.blobs import BlobCache\n"
        "from syncd.git_objects import blob_id\n"
        "cache = BlobCache(Path(sys.argv[1]) / 'blobs')\n"
        "with cache.shared_lock():\n"
        " cache.add(blob_id(b'a'), [b'a'], 1); cache.open(blob_id(b'a')).close(); cache.has('b' * "
        "40)\n"
        "sys.exit('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 0


# --- crashes and damage ---------------------------------------------------------------------------


def test_a_writer_that_is_killed_leaves_its_finished_batches(cache: BlobCache) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom syncd.git_objects import blob_id\n"
        "from syncd.store.blobs import BlobCache\n"
        "with BlobCache(Path(sys.argv[1])).bulk_writer() as into:\n"
        " for number in range(300):\n  one = b'%d' % number\n"
        "  into.add(blob_id(one), [one], len(one))\n"
        " os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cache.directory)])
    assert done.returncode == -signal.SIGKILL
    assert cache.verify() == (250, [])


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE content SET content = x'6f6e66' WHERE length(content) = 4",
        "UPDATE content SET content = 7 WHERE length(content) = 4",
        "UPDATE content SET content = 'one' WHERE length(content) = 4",
    ],
)
def test_a_damaged_content_is_dropped_and_can_be_stored_again(cache: BlobCache, harm: str) -> None:
    put(cache, SOME)
    change(cache, harm)
    reader = again(cache)
    assert reader.verify() == (5, [IDS[1]])
    assert content_of(reader, IDS[1]) is None
    put(reader, [SOME[1]])
    assert content_of(again(cache), IDS[1]) == SOME[1]
    assert content_of(reader, IDS[2]) == SOME[2]


def test_a_content_that_is_damaged_in_the_table_is_found_in_its_own_file(cache: BlobCache) -> None:
    put(cache, SOME)
    cache.add(IDS[1], [SOME[1]], len(SOME[1]))
    change(cache, "UPDATE content SET content = x'00'")
    assert content_of(again(cache), IDS[1]) == SOME[1]


@pytest.mark.parametrize("harm", ["noise", "zeros", "empty", "another table", "a text"])
def test_a_damaged_file_costs_its_contents_and_is_begun_anew_at_the_next_use(
    cache: BlobCache, harm: str
) -> None:
    put(cache, SOME)
    file = file_of(cache)
    size = file.stat().st_size
    for name in file.parent.glob("cache.db-*"):
        name.unlink()
    if harm == "another table":
        change(cache, "DROP TABLE content")
        change(cache, "CREATE TABLE content (other TEXT)")
    else:
        content = {
            "noise": os.urandom(size),
            "zeros": bytes(size),
            "empty": b"",
            "a text": b"hello\n",
        }
        file.write_bytes(content[harm])
    reader = again(cache)
    with reader.shared_lock():
        assert [content_of(reader, blob) for blob in IDS] == [None] * len(IDS)
        put(reader, SOME)
        assert [content_of(reader, blob) for blob in IDS] == SOME
    later = again(cache)
    with later.shared_lock():
        put(later, [b"later"])
        assert content_of(later, blob_id(b"later")) == b"later"
        assert [content_of(later, blob) for blob in IDS] == SOME
    assert not file.with_name("cache.db.damaged").exists()


def test_a_damaged_file_that_is_first_written_to_costs_nothing(cache: BlobCache) -> None:
    file_of(cache).write_bytes(os.urandom(8192))
    with cache.bulk_writer() as into:
        into.add(IDS[1], [SOME[1]], len(SOME[1]))
    assert content_of(cache, IDS[1]) == SOME[1]


def test_a_damaged_file_that_another_process_has_removed_is_begun_anew(cache: BlobCache) -> None:
    file_of(cache).write_bytes(os.urandom(8192))
    with cache.shared_lock():
        assert not cache.has(IDS[1])
    with again(cache).shared_lock():
        assert not file_of(cache).exists()
    with cache.shared_lock():
        put(cache, SOME)
    assert cache._small.ids() == sorted(IDS)


@settings(max_examples=40)
@given(data=st.data())
def test_a_flipped_bit_anywhere_never_gives_another_content(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("state")
    cache = BlobCache(folder / "blobs")
    put(cache, SOME)
    cache._small.close()
    body = bytearray(file_of(cache).read_bytes())
    place = data.draw(st.integers(0, len(body) * 8 - 1))
    body[place // 8] ^= 1 << place % 8
    file_of(cache).write_bytes(body)
    reader = again(cache)
    with reader.shared_lock():
        for blob, content in zip(IDS, SOME, strict=True):
            assert content_of(reader, blob) in (None, content)
        put(reader, SOME)
        assert [content_of(reader, blob) for blob in IDS] == SOME


def test_a_file_that_is_removed_under_a_user_is_begun_anew(cache: BlobCache) -> None:
    with cache.shared_lock():
        put(cache, SOME)
        for file in file_of(cache).parent.glob("cache.db*"):
            file.unlink()
        assert content_of(cache, IDS[1]) == SOME[1], "what is open still gives what it had"
        put(cache, SOME)
        assert [content_of(again(cache), blob) for blob in IDS] == SOME


def test_a_link_in_the_place_of_the_file_is_not_followed(cache: BlobCache, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"")
    file_of(cache).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        put(cache, SOME)
    assert (tmp_path / "elsewhere").read_bytes() == b""


def test_a_full_disk_is_reported_and_what_came_before_stays(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(cache, SOME[:2])

    def full(*_: object) -> bool:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(SmallBlobs, "write", full)
    with pytest.raises(StoreError, match=r"a download can't be kept.*disk is full"):
        put(cache, SOME)
    assert content_of(again(cache), IDS[1]) == SOME[1]


def test_a_disk_that_refuses_the_file_is_reported(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refused(path: object, *rest: int, **more: int) -> int:
        if str(path).endswith("cache.db"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *rest, **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StoreError, match="No space left"):
        put(cache, SOME)


# --- many at once ---------------------------------------------------------------------------------


def test_thirty_two_writers_at_once_lose_nothing(cache: BlobCache) -> None:
    failures: list[BaseException] = []

    def bring(number: int) -> None:
        try:
            put(
                again(cache) if number % 2 else cache,
                [b"%d %d" % (number, one) for one in range(300)],
            )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert cache.verify() == (32 * 300, [])


# --- eviction -------------------------------------------------------------------------------------


def test_a_sweep_evicts_what_is_old_and_not_in_use(cache: BlobCache) -> None:
    put(cache, SOME)
    assert cache.evict_unused(set) == 0, "a content younger than a day stays"
    grow_old(cache)
    freed = cache.evict_unused(lambda: {IDS[1]})
    assert freed == sum(map(len, SOME)) - len(SOME[1])
    assert cache._small.ids() == [IDS[1]]


def test_evicted_contents_give_their_room_back(cache: BlobCache) -> None:
    put(cache, [os.urandom(50_000) for _ in range(40)])
    cache._small.close()
    before = file_of(cache).stat().st_size
    grow_old(cache)
    cache.evict_unused(set)
    cache._small.close()
    assert before > 2_000_000
    assert file_of(cache).stat().st_size < 100_000


def test_a_content_that_is_read_counts_as_used(cache: BlobCache) -> None:
    put(cache, SOME)
    grow_old(cache)
    assert content_of(again(cache), IDS[2]) == SOME[2]
    cache.evict_unused(set)
    assert cache._small.ids() == [IDS[2]]


def test_a_fresh_content_is_read_without_a_write(cache: BlobCache) -> None:
    put(cache, SOME)
    used = time.time() - FRESH_SECONDS + 60
    change(cache, "UPDATE content SET used_at = ?", used)
    content_of(cache, IDS[2])
    with closing(sqlite3.connect(file_of(cache))) as connection:
        assert connection.execute("SELECT DISTINCT used_at FROM content").fetchall() == [(used,)]


def test_contents_of_a_clock_that_was_set_back_do_not_stay_for_ever(cache: BlobCache) -> None:
    put(cache, SOME)
    change(cache, "UPDATE content SET used_at = ?", time.time() + 2 * DAY)
    cache.evict_unused(set)
    assert cache._small.ids() == []


@pytest.mark.parametrize("read_only", [True, False], ids=["verify", "borrowed"])
def test_a_command_that_only_looks_changes_nothing(cache: BlobCache, read_only: bool) -> None:
    put(cache, SOME)
    cache._small.close()
    before = {
        file: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in file_of(cache).parent.glob("cache.db*")
    }
    if read_only:
        assert again(cache).verify() == (len(SOME), [])
    else:
        borrowed = ReadOnlyCache(cache.directory)
        assert [content_of(borrowed, blob) for blob in IDS] == SOME
        borrowed.close()
    assert {
        file: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in file_of(cache).parent.glob("cache.db*")
    } == before


def test_what_a_command_that_only_looks_downloads_stays_in_its_private_folder(
    cache: BlobCache,
) -> None:
    borrowed = ReadOnlyCache(cache.directory)
    with borrowed.bulk_writer() as into:
        into.add(IDS[1], [SOME[1]], len(SOME[1]))
    assert content_of(borrowed, IDS[1]) == SOME[1]
    assert borrowed.small_file.parent == borrowed.directory
    assert stat.S_IMODE(borrowed.directory.stat().st_mode) == 0o700
    borrowed.close()
    assert not borrowed.directory.exists()
    assert not cache.has(IDS[1])


# --- pack files of older versions -----------------------------------------------------------------


def test_pack_files_of_an_older_version_are_taken_in(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs = cache.directory / "packs"
    packs.mkdir(parents=True)
    record = struct.Struct(">20sQI")
    body, index = b"", b""
    for content in SOME:
        index += record.pack(bytes.fromhex(blob_id(content)), len(body), len(content))
        body += content
    index += record.pack(bytes(20), 0, 4) + record.pack(os.urandom(20), 1 << 60, 1 << 30) + b"cut"
    (packs / "one.pack").write_bytes(body)
    (packs / "one.index").write_bytes(index)
    (packs / "half.pack").write_bytes(b"half")
    unlink, here = Path.unlink, []

    def removed(path: Path, missing_ok: bool = False) -> None:
        here.append([content_of(again(cache), blob) for blob in IDS])
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", removed)
    with cache.shared_lock():
        assert [content_of(cache, blob) for blob in IDS] == SOME
    assert here == [SOME] * 3, "everything is there before anything is removed"
    assert not packs.exists()
    assert again(cache).verify() == (len(SOME), [])


# --- everything in any order ----------------------------------------------------------------------


class CacheOverTime(RuleBasedStateMachine):
    """Contents come, are damaged, dropped or swept, in any order and from two processes: what is
    read matches its id, and what is in use and undamaged is there.
    """

    blobs = Bundle("blobs")

    def __init__(self) -> None:
        super().__init__()
        base = "/dev/shm" if os.path.isdir("/dev/shm") else "/tmp"
        self.folder = Path(f"{base}/syncd-cache-{os.getpid()}-{random.getrandbits(40):x}")
        self.folder.mkdir()
        self.cache, self.other = BlobCache(self.folder / "blobs"), BlobCache(self.folder / "blobs")
        self.here: dict[str, bytes] = {}

    @rule(
        target=blobs,
        contents=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
        by_other=st.booleans(),
        in_bulk=st.booleans(),
    )
    def comes(self, contents: list[bytes], by_other: bool, in_bulk: bool) -> object:
        cache = self.other if by_other else self.cache
        with cache.bulk_writer() as into:
            for content in contents:
                (into if in_bulk else cache).add(blob_id(content), [content], len(content))
        self.here.update({blob_id(content): content for content in contents})
        return multiple(*(blob_id(content) for content in contents))

    @rule(blob=blobs)
    def is_read(self, blob: str) -> None:
        for cache in (self.other, self.cache):
            with cache.shared_lock():
                assert content_of(cache, blob) == self.here.get(blob)

    @rule(blob=consumes(blobs))
    def is_dropped(self, blob: str) -> None:
        self.other.discard(blob)
        self.here.pop(blob, None)

    @rule(keep=st.sets(blobs), alone=st.booleans())
    def is_swept(self, keep: set[str], alone: bool) -> None:
        grow_old(self.cache)
        if alone:
            self.cache.evict_unused(lambda: keep)
        else:
            with self.other.shared_lock():
                os.utime(self.cache.directory / "lock", (time.time() - DAY,) * 2)
                self.cache.evict_unused(lambda: keep)
        kept = {blob: one for blob, one in self.here.items() if again(self.cache).has(blob)}
        assert keep & self.here.keys() <= kept.keys()
        self.here = kept

    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        seen = again(self.cache)
        assert {blob for blob in self.here if seen.has(blob)} == self.here.keys()
        count, damaged = seen.verify(discard_damaged=True)
        assert not damaged
        assert count >= len(self.here)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestCacheOverTime = CacheOverTime.TestCase
TestCacheOverTime.settings = settings(max_examples=30, stateful_step_count=15)

assert blob_id(b"") == EMPTY_BLOB
