"""An archive gives what is whole and unaltered, whatever else is in it,
and ends where it stops to make sense.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import BadResponseError, StoreError
from syncd.git_objects import EXECUTABLE, FILE, LINK, blob_id
from syncd.github.tarball import (
    BLOCK_BYTES,
    TarExtractor,
    TarStream,
    parse_pax_records,
    read_members,
)
from syncd.models import TreeEntry
from tests.contract.doors import MemoryBlobs

PLENTY = 1 << 30
TOP = "acme-infra-1f3ac90"

paths = st.lists(
    st.text(
        st.characters(exclude_categories=["C"], exclude_characters="/"), min_size=1, max_size=60
    ).filter(lambda name: name not in (".", "..")),
    min_size=1,
    max_size=4,
).map("/".join)


def packed(
    files: dict[str, bytes], links: dict[str, str] | None = None, style: int = tarfile.PAX_FORMAT
) -> bytes:
    """What `git archive` makes of these."""
    made = io.BytesIO()
    with tarfile.open(
        fileobj=made,
        mode="w",
        format=style,
        pax_headers={"comment": "1" * 40} if style == tarfile.PAX_FORMAT else None,
    ) as tar:
        folder = tarfile.TarInfo(TOP)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for path, content in files.items():
            member = tarfile.TarInfo(f"{TOP}/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(f"{TOP}/{path}")
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return made.getvalue()


def pieces(body: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def wanted(files: dict[str, bytes], links: dict[str, str] | None = None) -> dict[str, TreeEntry]:
    found = {
        path: TreeEntry(FILE, blob_id(content), len(content)) for path, content in files.items()
    }
    return found | {
        path: TreeEntry(LINK, blob_id(target.encode())) for path, target in (links or {}).items()
    }


def unpack(tar: bytes, entries: dict[str, TreeEntry], blobs: MemoryBlobs, size: int = 1000) -> int:
    return TarExtractor(entries, blobs, PLENTY).read(pieces(gzip.compress(tar), size))


@settings(max_examples=60)
@given(
    st.dictionaries(paths, st.binary(max_size=1500), max_size=6),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.integers(1, 3000),
)
def test_every_wanted_file_is_kept(files: dict[str, bytes], style: int, size: int) -> None:
    blobs = MemoryBlobs()
    kept = unpack(packed(files, style=style), wanted(files), blobs, size)
    assert set(blobs.content) == {blob_id(content) for content in files.values()}
    assert kept == sum(map(len, blobs.content.values()))


def test_links_give_their_target_and_executables_their_bytes() -> None:
    files, links = {"run.sh": b"#!/bin/sh\n"}, {"live": "../etc/" + "x" * 200, "short": "run.sh"}
    blobs = MemoryBlobs()
    entries = wanted(files, links) | {"run.sh": TreeEntry(EXECUTABLE, blob_id(files["run.sh"]))}
    unpack(packed(files, links), entries, blobs)
    assert set(blobs.content.values()) == {b"#!/bin/sh\n", links["live"].encode(), b"run.sh"}


def test_what_is_not_wanted_is_left_and_reading_ends_at_the_last_wanted() -> None:
    files = {"a": b"a" * 5000, "b": b"b", "c": b"c"}
    taken: list[int] = []

    def counted(body: bytes) -> Iterator[bytes]:
        for piece in pieces(body, 64):
            taken.append(len(piece))
            yield piece

    blobs = MemoryBlobs()
    body = gzip.compress(
        packed(
            {
                **files,
                **{
                    f"z{number}": bytes(range(256)) * 40 + str(number).encode()
                    for number in range(50)
                },
            }
        ),
        0,
    )
    TarExtractor(wanted({"b": b"b"}), blobs, PLENTY).read(counted(body))
    assert list(blobs.content.values()) == [b"b"]
    assert sum(taken) < len(body) / 10


def test_an_altered_member_is_left_and_the_next_is_kept() -> None:
    blobs = MemoryBlobs()
    unpack(
        packed({"a": b"altered", "b": b"right"}), wanted({"a": b"as in git", "b": b"right"}), blobs
    )
    assert list(blobs.content.values()) == [b"right"]


def test_a_member_of_another_kind_is_left() -> None:
    blobs = MemoryBlobs()
    assert (
        unpack(
            packed({"link": b"target"}, {"file": "target"}),
            wanted({"file": b"target"}, {"link": "target"}),
            blobs,
        )
        == 0
    )
    assert not blobs.content


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_or_cut_archive_never_gives_wrong_bytes(data: st.DataObject) -> None:
    files = {f"folder/file{number}": bytes([number]) * 700 for number in range(8)} | {
        "long/" * 30 + "name": b"x"
    }
    body = bytearray(
        gzip.compress(packed(files, {"l": "t"}))
        if data.draw(st.booleans())
        else packed(files, {"l": "t"})
    )
    zipped = body[:2] == b"\x1f\x8b"
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        if data.draw(st.booleans()):
            body[at] ^= data.draw(st.integers(1, 255))
        else:
            del body[at:]
        if not body:
            break
    blobs = MemoryBlobs()
    unpacking = TarExtractor(wanted(files, {"l": "t"}), blobs, PLENTY)
    try:
        unpacking.read(pieces(bytes(body) if zipped else gzip.compress(bytes(body))))
    except BadResponseError:
        pass
    else:
        assert blobs.content
    assert all(blob_id(content) == identity for identity, content in blobs.content.items())
    assert unpacking.kept_bytes == sum(map(len, blobs.content.values()))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        gzip.compress(b"", mtime=0),  # the time of making is no part of a test's name
        gzip.compress(b"x" * 100, mtime=0),
        gzip.compress(b"x" * BLOCK_BYTES, mtime=0),
        gzip.compress(packed({"a": bytes(range(256)) * 40}), 0, mtime=0)[:5000],
    ],
)
def test_what_is_no_archive_is_a_bad_response(body: bytes) -> None:
    with pytest.raises(BadResponseError):
        TarExtractor(wanted({"b": b"2"}), MemoryBlobs(), PLENTY).read(pieces(body))


def test_a_bomb_ends_at_its_limit_and_is_never_whole_in_memory() -> None:
    body = gzip.compress(packed({"bomb": b"\0" * (40 << 20)}))
    tracemalloc.start()
    with pytest.raises(BadResponseError, match="more than is worth it"):
        TarExtractor(wanted({"a": b"1"}), MemoryBlobs(), 20 << 20).read(pieces(body, 1 << 16))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 << 20


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK]
)
def test_a_huge_extended_header_is_refused_before_it_is_read(kind: bytes) -> None:
    member = tarfile.TarInfo("huge")
    member.type, member.size = kind, 1 << 30
    header = member.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(BadResponseError, match="extended header"):
        list(read_members(TarStream(iter([header, b"\0" * 4096]), PLENTY)))


@pytest.mark.parametrize(
    "body",
    [
        b"x",
        b"0 \n",
        b"5 a=b",
        b"99 a=b\n",
        b"6 ab\n",
        b"-1 a=b\n",
        b"9" * 40 + b" a=b\n",
        b" a=b\n",
        b"2 a=b\n",
    ],
)
def test_records_that_make_no_sense_are_refused(body: bytes) -> None:
    with pytest.raises(BadResponseError):
        parse_pax_records(body)


@given(st.binary(max_size=80))
def test_any_bytes_are_records_or_a_bad_response(body: bytes) -> None:
    try:
        parse_pax_records(body)
    except BadResponseError:
        return


def test_our_own_disk_failing_is_not_the_archives_fault() -> None:
    class Full(MemoryBlobs):
        def add(self, blob: str, chunks: object, size: int | None) -> int:
            raise StoreError("no space left")

    with pytest.raises(StoreError):
        unpack(packed({"a": b"1"}), wanted({"a": b"1"}), Full())


def test_an_archive_that_git_made_is_read(tmp_path: Path) -> None:
    files = {
        "a b/é.conf": b"one\n",
        "deep/" * 25 + "file-with-a-long-name.conf": b"two\n",
        "x" * 150: b"three\n",
    }
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "link").symlink_to("y" * 150)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    body = subprocess.run(
        [*git, "archive", "--format=tar.gz", f"--prefix={TOP}/", "HEAD"],
        check=True,
        capture_output=True,
    ).stdout
    blobs = MemoryBlobs()
    TarExtractor(wanted(files, {"link": "y" * 150}), blobs, PLENTY).read(pieces(body))
    assert set(blobs.content.values()) == {*files.values(), b"y" * 150}
