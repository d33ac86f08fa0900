"""The tarball of a commit, as `git archive` makes it.

Its top folder is named after repository and commit; the commit id is in a global header.
"""

from __future__ import annotations

import gzip
import io
import tarfile

from syncd.git_objects import EXECUTABLE, LINK, SUBMODULE, TREE
from syncd.simulator.repository import Commit, Repository


def tarball(repo: Repository, commit: Commit) -> bytes:
    """Return the commit as a gzip'ed tar.

    Paths in `export_ignore` are left out and those in `export_subst` are altered, as git does it
    for these attributes.
    """
    top = f"{repo.owner}-{repo.name}-{commit.id[:7]}"
    packed = io.BytesIO()
    with tarfile.open(
        fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": commit.id}
    ) as archive:
        for path, mode, identity in repo.walk(commit.tree):
            if path in repo.export_ignore or mode in (TREE, SUBMODULE):
                continue
            member = tarfile.TarInfo(f"{top}/{path}")
            member.mtime = commit.at
            if mode == LINK:
                member.type, member.linkname = tarfile.SYMTYPE, repo.blobs[identity].decode()
                archive.addfile(member)
                continue
            content = repo.blobs[identity]
            if path in repo.export_subst:
                content = content.replace(b"$Format:%H$", commit.id.encode())
            member.size, member.mode = len(content), 0o775 if mode == EXECUTABLE else 0o664
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), 1)
