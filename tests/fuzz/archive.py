"""Fuzzing of the archive reader: python -m tests.fuzz.archive -max_total_time=60

The input is the tar stream inside the compression (or, after a `z`, the compressed bytes
themselves). Whatever it is: wanted members with exactly their bytes, or an error with a name; and
no more is unpacked than may be.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterator

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.github"):
    from syncd.errors import SyncdError
    from syncd.github.tarball import TarExtractor

from syncd.git_objects import FILE, LINK, blob_id
from syncd.models import TreeEntry
from tests.contract.doors import MemoryBlobs

FILES = {"a.conf": b"a\n", "sites/b.conf": b"b" * 700, "sites/é": b"", "n" * 150: b"long\n"}
WANTED = {
    path: TreeEntry(FILE, blob_id(content), len(content)) for path, content in FILES.items()
} | {"link": TreeEntry(LINK, blob_id(b"a.conf"))}
IDS = {blob_id(content): content for content in (*FILES.values(), b"a.conf")}
AT_MOST = 1 << 20


def one(data: bytes) -> None:
    raw = data[1:] if data[:1] == b"z" else gzip.compress(data[1:], 1)
    blobs = MemoryBlobs()
    try:
        TarExtractor(WANTED, blobs, AT_MOST).read(
            raw[start : start + 400] for start in range(0, len(raw), 400)
        )
    except SyncdError as error:
        if error.kind == "internal":
            raise
    if any(IDS.get(identity) != content for identity, content in blobs.content.items()):
        raise AssertionError("other bytes were taken")


def packed(style: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=style) as tar:
        for path, content in FILES.items():
            member = tarfile.TarInfo(f"acme-infra-1f3ac90/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("acme-infra-1f3ac90/link")
        link.type, link.linkname = tarfile.SYMTYPE, "a.conf"
        tar.addfile(link)
    return made.getvalue()


def seeds() -> Iterator[bytes]:
    for style in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        try:
            tar = packed(style)
        except ValueError:  # a name too long for the old form
            continue
        yield b"t" + tar
        yield b"z" + gzip.compress(tar)


if __name__ == "__main__":
    fuzz(
        one,
        seeds(),
        [
            "path=",
            "linkpath=",
            "size=",
            "ustar",
            "ustar  ",
            "././@LongLink",
            "pax_global_header",
            "..",
            "/",
        ],
    )
