"""Contents that are kept many in a file: as safe as each in its own, whatever is cut, flipped, removed or swept meanwhile."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from syncd.errors import BadResponseError, StoreError
from syncd.objects import EMPTY_BLOB, blob_id
from syncd.store import packs
from syncd.store.blobs import FRESH_SECONDS, PACKED_BYTES, STALE_SECONDS, BlobCache

DAY = STALE_SECONDS + 1
SOME = [b"", b"one\n", b"two two\n", bytes(range(256)) * 5, b"five\n"]


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    (tmp_path / "state").mkdir(mode=0o700)
    return BlobCache(tmp_path / "state/blobs")


def pack(cache: BlobCache, contents: list[bytes]) -> list[str]:
    with cache.packing() as into:
        for content in contents:
            assert into.add(blob_id(content), [content[:3], content[3:]], len(content)) == len(content)
    return [blob_id(content) for content in contents]


def content_of(cache: BlobCache, blob: str) -> bytes | None:
    try:
        with cache.open(blob) as content:
            return content.read()
    except KeyError:
        return None


def files(cache: BlobCache, kind: str = "*") -> list[Path]:
    return sorted((cache.directory / "packs").glob(f"*.{kind}"))


def grow_old(cache: BlobCache) -> None:
    for file in [*files(cache), *cache.directory.glob("??/*")]:
        os.utime(file, (time.time() - DAY,) * 2)


def again(cache: BlobCache) -> BlobCache:
    """As another process sees it."""
    return BlobCache(cache.directory)


# --- in and out -------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=12))
def test_what_goes_in_comes_out_while_more_is_put_there_and_afterwards(tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]) -> None:
    cache = BlobCache(tmp_path_factory.mktemp("state") / "blobs")
    with cache.packing() as into:
        for count, content in enumerate(contents):
            assert into.add(blob_id(content), iter([content]), len(content)) == len(content)
            assert into.has(blob_id(content))
            for reader in (cache, again(cache)):
                assert [content_of(reader, blob_id(one)) for one in contents[: count + 1]] == contents[: count + 1]
    assert [content_of(again(cache), blob_id(one)) for one in contents] == contents
    assert again(cache).verify() == (len(set(contents)), [])
    assert len(files(cache)) == (2 if contents else 0), "many in one file, and none where there is nothing"


def test_what_is_large_or_of_unknown_size_is_a_file_of_its_own(cache: BlobCache) -> None:
    large = bytes(PACKED_BYTES + 1)
    with cache.packing() as into:
        into.add(blob_id(large), [large], len(large))
        into.add(blob_id(b"?"), [b"?"], None)
    assert len(list(cache.directory.glob("??/*"))) == 2 and not files(cache)


@pytest.mark.parametrize(("chunks", "size"), [([b"one"], 4), ([b"onf\n"], 4), ([b"one\n", b"more"], 4), ([], 4)], ids=["cut", "flipped", "longer", "nothing"])
def test_what_does_not_hash_to_its_name_is_refused_and_leaves_nothing(cache: BlobCache, chunks: list[bytes], size: int) -> None:
    with cache.packing() as into:
        with pytest.raises(BadResponseError):
            into.add(blob_id(b"one\n"), chunks, size)
        assert not into.has(blob_id(b"one\n"))
        into.add(blob_id(b"two\n"), [b"two\n"], 4)
    assert again(cache).verify() == (1, [])


def test_a_download_that_breaks_off_keeps_what_was_whole_and_its_error_is_its_own(cache: BlobCache) -> None:
    def broken() -> Iterator[bytes]:
        yield b"on"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError), cache.packing() as into:
        into.add(blob_id(b"whole\n"), [b"whole\n"], 6)
        into.add(blob_id(b"one\n"), broken(), 4)
    assert content_of(again(cache), blob_id(b"whole\n")) == b"whole\n" and not cache.has(blob_id(b"one\n"))


def test_a_full_pack_is_followed_by_the_next(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "PACK_BYTES", 1290)
    blobs = pack(cache, SOME)
    assert [content_of(again(cache), blob) for blob in blobs] == SOME and len(files(cache, "pack")) == 2
    assert max(file.stat().st_size for file in files(cache, "pack")) <= 1290


def test_packs_are_private_whatever_the_mask(cache: BlobCache) -> None:
    before = os.umask(0)
    try:
        pack(cache, SOME)
    finally:
        os.umask(before)
    assert {oct(stat.S_IMODE(path.lstat().st_mode)) for path in (cache.directory, cache.directory / "packs")} == {"0o700"}
    assert {oct(stat.S_IMODE(path.lstat().st_mode)) for path in files(cache)} == {"0o600"}


def test_a_name_that_is_no_id_is_not_here(cache: BlobCache) -> None:
    pack(cache, SOME)
    for name in ("0" * 39, "x" * 40, "é" * 40):
        assert not cache.has(name) and content_of(cache, name) is None
        cache.drop(name)


# --- others, and the disk ---------------------------------------------------------------------------------------------


def test_a_writer_that_is_killed_leaves_what_it_had_recorded(cache: BlobCache) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom syncd.objects import blob_id\nfrom syncd.store.blobs import BlobCache\n"
        "with BlobCache(Path(sys.argv[1])).packing() as into:\n for one in (b'a', b'b'):\n  into.add(blob_id(one), [one], 1)\n os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(cache.directory)]).returncode == -9
    assert [content_of(cache, blob_id(one)) for one in (b"a", b"b")] == [b"a", b"b"] and cache.verify() == (2, [])


def test_what_others_bring_is_found_at_the_next_use_and_what_they_remove_is_missed(cache: BlobCache) -> None:
    assert not cache.has(blob_id(b"one\n"))
    pack(again(cache), [b"one\n"])
    with cache.used():
        assert cache.has(blob_id(b"one\n"))
        assert content_of(cache, blob_id(b"one\n")) == b"one\n"
    assert cache.has(blob_id(b"one\n"))
    shutil.rmtree(cache.directory)
    with pytest.raises(KeyError):
        cache.open(blob_id(b"one\n"))
    assert not cache.has(blob_id(b"one\n"))
    pack(cache, [b"one\n"])
    assert content_of(cache, blob_id(b"one\n")) == b"one\n"


def test_each_use_begins_with_what_is_there_then(cache: BlobCache) -> None:
    pack(cache, SOME)
    with cache.used():
        assert cache.has(blob_id(SOME[1]))
    shutil.rmtree(cache.directory)
    with cache.used():
        assert not cache.has(blob_id(SOME[1]))


@pytest.mark.parametrize("kind", ["pack", "index"])
def test_whatever_a_crash_tears_is_noticed_and_can_be_had_again(tmp_path: Path, kind: str) -> None:
    whole = BlobCache(tmp_path / "whole")
    blobs = pack(whole, SOME)
    (file,) = files(whole, kind)
    size = file.stat().st_size
    for left in [*range(0, size, 7), size]:
        for zeroed in (False, True):  # a file system may give back the length without the content
            cache = BlobCache(tmp_path / "torn")
            shutil.copytree(whole.directory, cache.directory)
            with open(cache.directory / "packs" / file.name, "r+b") as torn:
                torn.truncate(left)
                torn.truncate(size if zeroed else left)
            found = [content_of(cache, blob) for blob in blobs]
            assert all(content in (wanted, None) for content, wanted in zip(found, SOME, strict=True)) and (left < size or None not in found)
            assert [cache.has(blob) for blob in blobs] == [content is not None for content in found]
            pack(cache, [content for content in SOME if not cache.has(blob_id(content))])
            assert [content_of(again(cache), blob) for blob in blobs] == SOME
            shutil.rmtree(cache.directory)


@settings(max_examples=200)
@given(st.data())
def test_a_flipped_bit_anywhere_costs_a_content_and_never_gives_another(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    cache = BlobCache(tmp_path_factory.mktemp("state") / "blobs")
    blobs = pack(cache, SOME)
    file = data.draw(st.sampled_from(files(cache)))
    body = bytearray(file.read_bytes())
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(body)
    reader = again(cache)
    count, damaged = reader.verify(drop=True)
    assert count == len(SOME) and len(damaged) <= 1
    found = [content_of(reader, blob) for blob in blobs]
    assert found.count(None) == 1 or file.suffix == ".index", "an offset of nothing points where it likes"
    assert all(content in (wanted, None) for content, wanted in zip(found, SOME, strict=True))
    assert again(cache).verify()[1] == [], "it was struck out for everybody"


def test_what_is_dropped_is_gone_for_everybody_from_whatever_holds_it(cache: BlobCache) -> None:
    one, two = pack(cache, [b"one\n", b"two\n"])
    pack(cache, [b"one\n"])
    cache.add(one, [b"one\n"], 4)
    cache.drop(one)
    assert [content_of(reader, blob) for reader in (cache, again(cache)) for blob in (one, two)] == [None, b"two\n"] * 2
    assert not cache.has(one) and not again(cache).has(one)


def failing(code: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def spoil(cache: BlobCache, place: int = 0) -> None:
    """A bit of the first content of every pack is another."""
    for file in files(cache, "pack"):
        body = bytearray(file.read_bytes())
        body[place] ^= 1
        file.write_bytes(body)


def test_where_it_cannot_be_struck_out_what_is_brought_anew_serves_instead(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = pack(cache, [b"one\n", b"two\n"])
    spoil(cache)
    monkeypatch.setattr(packs.os, "pwrite", failing(errno.ENOSPC))
    for _ in range(2):
        with cache.used():
            assert content_of(cache, one) in (None, b"one\n")
            if not cache.has(one):
                cache.add(one, [b"one\n"], 4)
            assert content_of(cache, one) == b"one\n" and content_of(cache, two) == b"two\n"


def test_an_index_that_can_not_be_opened_costs_no_other_content(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = pack(cache, [b"one\n", b"two\n"])
    with monkeypatch.context() as patch:
        patch.setattr(packs, "nofollow", failing(errno.ENFILE))
        cache.drop(one)
    assert content_of(again(cache), two) == b"two\n"


def test_what_the_disk_does_not_give_back_is_damaged_once(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = pack(cache, [b"one\n", b"two\n"])
    real = os.pread

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if (size, offset) == (4, 0):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, size, offset)

    monkeypatch.setattr(packs.os, "pread", pread)
    assert cache.verify(drop=True) == (2, [one])
    assert cache.verify() == (1, []) and not again(cache).has(one) and content_of(cache, two) == b"two\n"


def test_a_pack_that_can_not_be_opened_now_is_not_here_now_and_nothing_of_it_is_given_up(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = pack(cache, [b"one\n"])
    with cache.used():
        assert cache.has(one)
        with monkeypatch.context() as patch:
            patch.setattr(packs, "nofollow", failing(errno.EMFILE))
            assert content_of(cache, one) is None
        assert not cache.has(one), "so that it is fetched in this run"
    with cache.used():
        assert content_of(cache, one) == b"one\n"


@pytest.mark.parametrize(("offset", "size"), [(1 << 63, 4), ((1 << 64) - 1, 4), (0, (1 << 32) - 1), (4, 1), (0, 0)])
def test_an_index_that_points_anywhere_gives_nothing_else_and_ends_in_no_error(cache: BlobCache, offset: int, size: int) -> None:
    (one,) = pack(cache, [b"one\n"])
    (index,) = files(cache, "index")
    index.write_bytes(packs.RECORD.pack(bytes.fromhex(one), offset, size))
    found = content_of(again(cache), one)
    assert found == (b"one\n" if offset == 0 and size else None), "what is longer than there is ends where that does"
    assert again(cache).has(one) == (found is not None)


def test_halves_of_packs_stay_beside_others_who_may_be_making_them(cache: BlobCache) -> None:
    pack(cache, SOME)
    files(cache, "index")[0].unlink()
    grow_old(cache)
    with again(cache).used():
        os.utime(cache.directory / "lock", (time.time() - DAY,) * 2)
        assert cache.sweep(set) == 0
    assert len(files(cache)) == 1


def test_what_is_damaged_in_a_pack_and_whole_in_its_own_file_is_whole(cache: BlobCache) -> None:
    (one,) = pack(cache, [b"one\n"])
    cache.add(one, [b"one\n"], 4)
    spoil(cache)
    assert content_of(again(cache), one) == b"one\n" and content_of(again(cache), one) == b"one\n"


def test_a_cache_that_is_removed_while_a_pack_is_filled_is_missed_at_once_and_begun_anew(cache: BlobCache) -> None:
    with cache.used(), cache.packing() as into:
        for count, content in enumerate(SOME):
            if count == 3:
                shutil.rmtree(cache.directory)
                assert not any(into.has(blob_id(gone)) for gone in SOME)
            into.add(blob_id(content), [content], len(content))
        assert [content_of(cache, blob_id(content)) for content in SOME] == [None, None, None, *SOME[3:]]
    assert again(cache).verify() == (2, [])


def test_jobs_that_come_and_go_beside_it_make_nobody_read_every_index_again(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = pack(cache, [b"one\n"])
    looks, real = list[str](), packs.Packs._records
    monkeypatch.setattr(packs.Packs, "_records", lambda self, name: looks.append(name) or real(self, name))
    with cache.used():
        for _ in range(5):
            with cache.used():
                assert cache.has(one)
        assert len(looks) == 1
    with cache.used():
        assert cache.has(one) and len(looks) == 2


@pytest.mark.parametrize("kind", ["content", "record"])
def test_a_full_disk_is_the_stores_trouble_and_what_came_before_stays(cache: BlobCache, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    real, full = os.pwrite, [False]

    def pwrite(descriptor: int, content: bytes, offset: int) -> int:
        if full[0] and (len(content) == packs.RECORD.size) == (kind == "record"):
            real(descriptor, bytes(content)[:1], offset)  # some of it was taken
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, content, offset)

    monkeypatch.setattr(packs.os, "pwrite", pwrite)
    with cache.packing() as into:
        into.add(blob_id(b"one\n"), [b"one\n"], 4)
        full[0] = True
        with pytest.raises(StoreError, match="No space left") as error:
            into.add(blob_id(b"two\n"), [b"two\n"], 4)
        assert "free some space" in (error.value.hint or "") and not cache.has(blob_id(b"two\n")) and not again(cache).has(blob_id(b"two\n"))
        full[0] = False
        into.add(blob_id(b"three\n"), [b"three\n"], 6)
    assert [content_of(again(cache), blob_id(one)) for one in (b"one\n", b"two\n", b"three\n")] == [b"one\n", None, b"three\n"]
    assert again(cache).verify() == (2, [])


@pytest.mark.parametrize("what", ["the folder", "the pack", "the index", "closing"])
def test_whatever_our_disk_refuses_is_the_stores_trouble(cache: BlobCache, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    real_open, real_close = os.open, os.close
    opened: list[int] = []

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open_(path: str, *rest: int) -> int:
        if str(path).endswith("." + what.removeprefix("the ")):
            refuse()
        opened.append(real_open(path, *rest))
        return opened[-1]

    def close(descriptor: int) -> None:
        real_close(descriptor)
        refuse()

    if what == "the folder":
        monkeypatch.setattr(packs.os, "makedirs", refuse)
    elif what == "closing":
        monkeypatch.setattr(packs.os, "close", close)
    else:
        monkeypatch.setattr(packs.os, "open", open_)
    with pytest.raises(StoreError, match="can't keep a download"), cache.packing() as into:
        into.add(blob_id(b"one\n"), [b"one\n"], 4)
    monkeypatch.undo()
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    assert not files(cache) or what == "closing", "neither half"
    pack(cache, [b"one\n"])
    assert content_of(again(cache), blob_id(b"one\n")) == b"one\n"


# --- bounded ----------------------------------------------------------------------------------------------------------


def test_a_pack_stays_while_it_is_young_or_something_of_it_is_in_use(cache: BlobCache) -> None:
    blobs = pack(cache, SOME)
    assert cache.sweep(set) == 0 and cache.has(blobs[1]), "a run that failed goes on with it"
    grow_old(cache)
    assert cache.sweep(lambda: {blobs[3]}) == 0 and all(cache.has(blob) for blob in blobs), "most of its bytes are in use"
    size = sum(file.stat().st_size for file in files(cache))
    assert cache.sweep(set) == size and not files(cache) and not cache.has(blobs[3])


def test_of_a_pack_that_is_mostly_useless_what_is_in_use_is_copied(cache: BlobCache) -> None:
    blobs = pack(cache, SOME)
    pack(cache, [b"six\n" * 100, b"seven\n"])
    grow_old(cache)
    before = sum(file.stat().st_size for file in files(cache))
    kept = {blobs[1], blobs[4], blob_id(b"seven\n"), EMPTY_BLOB, blob_id(b"never here")}
    freed = cache.sweep(lambda: kept)
    assert freed == before - sum(file.stat().st_size for file in files(cache)) > 1000
    assert len(files(cache)) == 2, "of two packs one was made"
    assert again(cache).verify() == (4, []) and [content_of(cache, blob) for blob in (blobs[1], blobs[4])] == [b"one\n", b"five\n"]
    grow_old(cache)
    assert cache.sweep(lambda: kept) == 0


def test_what_was_damaged_is_not_copied(cache: BlobCache) -> None:
    blobs = pack(cache, SOME)
    (file,) = files(cache, "pack")
    body = bytearray(file.read_bytes())
    body[0] ^= 1
    file.write_bytes(body)
    grow_old(cache)
    cache.sweep(lambda: {blobs[1], blobs[4]})
    assert again(cache).verify() == (1, []) and content_of(cache, blobs[4]) == b"five\n" and not cache.has(blobs[1])


def test_what_is_copied_is_on_disk_before_the_original_goes(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = pack(cache, SOME)
    grow_old(cache)
    done, fsync, unlink = list[str](), os.fsync, os.unlink

    def syncing(descriptor: int) -> None:
        done.append("synced " + Path(os.readlink(f"/proc/self/fd/{descriptor}")).suffix)
        fsync(descriptor)

    def removing(path: str) -> None:
        done.append("removed " + Path(path).suffix)
        unlink(path)

    monkeypatch.setattr(packs.os, "fsync", syncing)
    monkeypatch.setattr(packs.os, "unlink", removing)
    cache.sweep(lambda: {blobs[1]})
    assert done == ["synced .pack", "synced .index", "synced ", "removed .index", "removed .pack"]


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_where_the_disk_does_not_take_the_copy_all_is_as_before_and_it_is_tried_again_a_day_later(cache: BlobCache, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    blobs = pack(cache, SOME)
    pack(cache, [b"useless\n"])
    grow_old(cache)
    with monkeypatch.context() as patch:
        patch.setattr(packs.os, call, failing(errno.ENOSPC))
        with pytest.raises(OSError, match="No space left"):
            cache.sweep(lambda: {blobs[1]})
    assert len(files(cache)) == 2, "no half of a copy, and the useless one is gone"
    assert not cache.stale() and cache.stale(time.time() + DAY), "a disk that refuses is not asked at every turn"
    assert again(cache).verify() == (len(SOME), [])


def test_a_pack_that_can_not_be_looked_at_keeps_no_other_from_going(cache: BlobCache) -> None:
    pack(cache, SOME)
    (index,) = files(cache, "index")
    content = index.read_bytes()
    index.unlink()
    index.symlink_to("elsewhere")
    pack(cache, [b"useless\n"])
    for file in files(cache):
        os.utime(file, (time.time() - DAY,) * 2, follow_symlinks=False)
    with pytest.raises(OSError, match="symbolic link"):
        cache.sweep(set)
    assert len(files(cache)) == 2 and index in files(cache)
    index.unlink()
    index.write_bytes(content)
    assert again(cache).verify() == (len(SOME), [])


def test_what_several_brought_at_the_same_time_is_kept_once(cache: BlobCache) -> None:
    for _ in range(3):
        blobs = pack(again(cache), SOME)
    assert len(files(cache)) == 6
    grow_old(cache)
    assert cache.sweep(lambda: set(blobs)) and len(files(cache)) == 2
    assert [content_of(cache, blob) for blob in blobs] == SOME


def test_beside_others_no_pack_is_copied_and_only_useless_ones_go(cache: BlobCache) -> None:
    blobs = pack(cache, SOME)
    pack(cache, [b"useless\n"])
    grow_old(cache)
    with again(cache).used():
        os.utime(cache.directory / "lock", (time.time() - DAY,) * 2)
        before = files(cache)
        assert cache.sweep(lambda: {blobs[1]})
    assert len(files(cache)) == 2 and set(files(cache)) < set(before) and all(cache.has(blob) for blob in blobs)


def test_a_pack_that_is_read_from_is_in_use_again(cache: BlobCache) -> None:
    blobs = pack(cache, SOME)
    grow_old(cache)
    assert content_of(cache, blobs[1]) == b"one\n"
    assert cache.sweep(set) == 0 and all(cache.has(blob) for blob in blobs)
    (file,) = files(cache, "pack")
    os.utime(file, (time.time() - FRESH_SECONDS / 2,) * 2)
    before = file.stat().st_mtime_ns
    assert content_of(cache, blobs[1]) == b"one\n" and file.stat().st_mtime_ns == before, "once an hour is enough"


def test_halves_of_packs_go_when_nobody_is_there_to_finish_them(cache: BlobCache) -> None:
    blobs = pack(cache, SOME)
    pack(cache, [b"one more\n"])
    index_gone, pack_gone = files(cache, "index")[0], files(cache, "pack")[1]
    index_gone.unlink()
    pack_gone.unlink()
    for blob in [*blobs, blob_id(b"one more\n")]:
        assert not again(cache).has(blob) and content_of(again(cache), blob) is None
    assert cache.sweep(set) == 0 and len(files(cache)) == 2
    grow_old(cache)
    assert cache.sweep(set) and not files(cache)


def test_of_a_clock_that_was_put_back_nothing_stays_for_ever(cache: BlobCache) -> None:
    pack(cache, SOME)
    for file in files(cache):
        os.utime(file, (time.time() + 2 * DAY,) * 2)
    assert cache.sweep(set) and not files(cache)


def test_of_what_is_in_two_packs_that_which_came_last_is_kept(cache: BlobCache) -> None:
    """It was brought anew because the other was damaged, and that could not be struck out."""
    for _ in range(4):
        blobs = pack(again(cache), SOME)
        spoil(cache, 3)
    pack(again(cache), SOME)
    newest = max(files(cache, "pack"), key=lambda file: file.stat().st_mtime_ns)
    for file in files(cache):
        os.utime(file, (time.time() - DAY - (file.stem != newest.stem) * DAY,) * 2)
    cache.sweep(lambda: set(blobs))
    assert [content_of(again(cache), blob) for blob in blobs] == SOME and len(files(cache)) == 2


class CacheOverTime(RuleBasedStateMachine):
    """Whatever comes in, is damaged, dropped or swept, in any order and from two processes' sight: what is read is what its id says, and what is
    in use and undamaged is there."""

    blobs = Bundle("blobs")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(f"/dev/shm/syncd-packs-{os.getpid()}-{random.getrandbits(40):x}" if os.path.isdir("/dev/shm") else f"/tmp/syncd-packs-{random.getrandbits(40):x}")
        self.folder.mkdir()
        self.cache, self.other = BlobCache(self.folder / "blobs"), BlobCache(self.folder / "blobs")
        self.here: dict[str, bytes] = {}
        self.users = 0

    @rule(target=blobs, contents=st.lists(st.binary(max_size=40), min_size=1, max_size=5), by_other=st.booleans(), packed=st.booleans())
    def comes(self, contents: list[bytes], by_other: bool, packed: bool) -> object:
        cache = self.other if by_other else self.cache
        with cache.packing() as into:
            for content in contents:
                (into if packed else cache).add(blob_id(content), [content], len(content))
        self.here.update({blob_id(content): content for content in contents})
        return multiple(*(blob_id(content) for content in contents))

    @rule(blob=blobs)
    def is_read(self, blob: str) -> None:
        content_of(self.other, blob)  # from what it remembers: proven, or nothing
        for cache in (self.cache, self.other):
            with cache.used():
                assert content_of(cache, blob) == self.here.get(blob)

    @rule(blob=consumes(blobs))
    def is_dropped(self, blob: str) -> None:
        self.other.drop(blob)
        self.here.pop(blob, None)

    @rule(keep=st.sets(blobs), old=st.booleans(), alone=st.booleans())
    def is_swept(self, keep: set[str], old: bool, alone: bool) -> None:
        if old:
            grow_old(self.cache)
        if alone:
            self.cache.sweep(lambda: keep)
        else:
            with self.other.used():
                os.utime(self.cache.directory / "lock", (time.time() - DAY,) * 2)
                self.cache.sweep(lambda: keep)
        if old:
            kept = {blob: content for blob, content in self.here.items() if again(self.cache).has(blob)}
            assert keep & self.here.keys() <= kept.keys()
            self.here = kept  # of what nobody uses, whatever shares a pack with what somebody uses may stay

    @rule()
    def is_begun_anew(self) -> None:
        with self.cache.used():
            pass

    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        seen = again(self.cache)
        assert {blob for blob in self.here if seen.has(blob)} == self.here.keys()
        count, damaged = seen.verify(drop=True)
        assert not damaged and count >= len(self.here)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


TestCacheOverTime = CacheOverTime.TestCase
TestCacheOverTime.settings = settings(max_examples=60, stateful_step_count=15)
