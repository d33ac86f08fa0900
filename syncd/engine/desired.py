"""PURE: from what the repository holds to what shall stand on disk.

Takes a complete listing and a job's rules and policies, and gives the remote snapshot: destination -> Entry. Whatever can't be
written safely, or that a policy refuses, ends the run here, before anything is written; only `skip` goes on without.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Mapping

from syncd.engine.owners import ResolveOwner
from syncd.errors import LimitError, MirrorError, NotFoundError, UnsafePathError
from syncd.git_objects import EXECUTABLE, LINK, SUBMODULE
from syncd.models import (
    Job,
    Kind,
    LedgerRow,
    Lfs,
    Listing,
    PathRule,
    Submodules,
    Symlinks,
    TreeEntry,
    WantedFile,
)
from syncd.patterns import path_filter
from syncd.ports import SMALL_FILE_BYTES, UNKNOWN_SIZE
from syncd.tree_walk import MAX_DEPTH

Snapshot = Mapping[str, WantedFile]

MAX_LINK_BYTES = 4095  # PATH_MAX of Linux, less the NUL
MAX_LFS_POINTER_BYTES = 1024  # git-lfs spec: a pointer is smaller than this
LFS_POINTER_PREFIX = b"version https://git-lfs.github.com/spec/v1\n"


def set_digest(entries: Mapping[str, WantedFile]) -> str:
    """Digest of a set: which destination has which blob, from which path of the repository."""
    digest = hashlib.blake2b(digest_size=16)
    for path, entry in sorted(entries.items()):
        digest.update(f"{path}\0{entry.blob}\0{entry.source}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def desired(job: Job, listing: Listing, resolve_owner: ResolveOwner) -> Snapshot:
    """Destination -> what shall stand there, for every path that the job lists, in path order.

    Names that only some disks take for one are all in it (colliding_names.py judges them). Raises MirrorError for what a policy refuses or for two
    repository paths that want one file, BrakeError past `limits.files` and `limits.size`.
    """
    wanted: dict[str, WantedFile] = {}
    for rule in job.paths:
        owner = rule.owner or job.owner
        uid, gid = resolve_owner(owner or "")
        root, dir_mode = (
            posixpath.dirname(rule.to) or "/",
            rule.dir_mode if rule.dir_mode is not None else job.dir_mode,
        )
        start = _start(rule)
        for source, entry in _selected(job, rule, listing.entries):
            path = f"{rule.to}/{source[start:]}" if rule.directory else rule.to
            new = WantedFile(
                blob=entry.id,
                mode=_mode(job, rule, entry),
                kind=Kind.LINK if entry.mode == LINK else Kind.FILE,
                uid=uid,
                gid=gid,
                source=source,
                size=entry.size,
                root=root,
                dir_mode=dir_mode,
                executable=entry.mode == EXECUTABLE,
                owner=owner,
            )
            other = wanted.setdefault(path, new)
            if other.source != new.source:
                raise MirrorError(
                    f"{other.source} and {new.source} of {job.repo} both want {path}",
                    path=path,
                    hint="exclude one of them, or give it another to:",
                )
    _refuse_files_above_files(wanted)
    check_limits(job, wanted)
    return {path: wanted[path] for path in sorted(wanted)}


def _selected(
    job: Job, rule: PathRule, entries: Mapping[str, TreeEntry]
) -> Iterator[tuple[str, TreeEntry]]:
    """The rule's (repository path, entry) pairs after include, exclude and the policies for links and submodules."""
    chosen = path_filter(rule) if rule.directory and (rule.include or rule.exclude) else None
    start = _start(rule)
    for source, entry in _listed(rule, entries):
        if chosen is not None and not chosen(source[start:]):
            continue
        if source.count("/") > MAX_DEPTH:
            raise _too_deep(job, source)
        if entry.mode == SUBMODULE:
            if job.submodules is Submodules.REFUSE or not rule.directory:
                raise MirrorError(
                    f"{source} of {job.repo} is a submodule",
                    path=source,
                    hint="exclude it, or set submodules: skip to go on without it",
                )
            continue
        if entry.mode == LINK:
            if job.symlinks is Symlinks.REFUSE:
                raise MirrorError(
                    f"{source} of {job.repo} is a symbolic link and the job refuses links",
                    path=source,
                    hint="exclude it, or set symlinks: keep or skip",
                )
            if job.symlinks is Symlinks.SKIP:
                continue
        yield source, entry


def _too_deep(job: Job, source: str) -> UnsafePathError:
    top = "/".join(source.split("/")[:3])
    return UnsafePathError(
        f"{source[:80]}… of {job.repo} is nested deeper than {MAX_DEPTH} folders",
        path=source,
        hint=f"exclude what is below {top}, or make it flatter upstream",
    )


def _listed(rule: PathRule, entries: Mapping[str, TreeEntry]) -> Iterator[tuple[str, TreeEntry]]:
    if not rule.directory:
        if rule.source not in entries:
            raise NotFoundError(
                f"{rule.source} is not there", hint="correct from:, or remove the path from the job"
            )
        yield rule.source, entries[rule.source]
        return
    prefix = f"{rule.source}/" if rule.source else ""
    for source, entry in entries.items():
        if source.startswith(prefix):
            yield source, entry


def _start(rule: PathRule) -> int:
    """Where in a repository path begins what is below `from`."""
    return len(rule.source) + 1 if rule.source else 0


def _mode(job: Job, rule: PathRule, entry: TreeEntry) -> int:
    if entry.mode == LINK:
        return 0o777
    given = rule.mode if rule.mode is not None else job.mode
    if given is not None:
        return given
    return 0o755 if entry.mode == EXECUTABLE else 0o644


def _refuse_files_above_files(wanted: Mapping[str, WantedFile]) -> None:
    """A file where another path needs a folder is refused by name."""
    seen: set[str] = set()
    for path in wanted:
        parent = path.rpartition("/")[0]
        while len(parent) > 1 and parent not in seen:
            seen.add(parent)
            if parent in wanted:
                raise MirrorError(
                    f"{wanted[parent].source} wants {parent} as a file, and {wanted[path].source} needs it as a folder",
                    path=parent,
                    hint="give one of them another to:",
                )
            parent = posixpath.dirname(parent)


def max_listed(job: Job) -> int | None:
    """How many files and folders a listing may have before it can only break `limits.files`, so that a million is not read to its end.

    Only where every file counts, so not with patterns or skipped links. Ten for each file leaves room for the folders on its way.
    """
    if job.symlinks is Symlinks.SKIP or any(rule.include or rule.exclude for rule in job.paths):
        return None
    return 10_000 + 10 * job.limits.files


def check_limits(job: Job, wanted: Mapping[str, WantedFile]) -> None:
    """Raises BrakeError past `limits.files` and `limits.size`."""
    if len(wanted) > job.limits.files:
        raise LimitError(
            f"the job lists {len(wanted)} files, more than limits.files: {job.limits.files}; nothing was changed",
            hint=f"if that is right, set limits: {{files: {len(wanted)}}} or more",
        )
    total = sum(entry.size or 0 for entry in wanted.values())
    if total > job.limits.size_bytes:
        raise LimitError(
            f"the job lists {total} bytes, more than limits.size: {job.limits.size_bytes}; nothing was changed",
            hint=f"if that is right, set limits: {{size: {total}}} or more",
        )


def check_link(job: Job, path: str, target: str, wanted: Mapping[str, WantedFile]) -> None:
    """Raises UnsafePathError unless the link at `path` is relative and leads to one of the job's own files or folders.

    `..` may only come first: after a name it would lead up from wherever that name leads, if that is a link too, and so out.
    """
    entry = wanted[path]
    landing = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    relative = (
        bool(target)
        and not target.startswith("/")
        and "\0" not in target
        and len(os.fsencode(target)) <= MAX_LINK_BYTES
    )
    names = [part for part in target.split("/") if part not in ("", ".")]
    straight = ".." not in names[_count_up(names) :]
    inside = any(landing == rule.to or landing.startswith(rule.to + "/") for rule in job.paths)
    if (
        relative
        and straight
        and inside
        and landing != path
        and (landing in wanted or any(other.startswith(landing + "/") for other in wanted))
    ):
        return
    raise UnsafePathError(
        f"{entry.source} of {job.repo} is a link to {target[:200]!r}, which is not one of the job's own files",
        path=path,
        hint="list its target too, or exclude the link, or set symlinks: skip",
    )


def _count_up(names: list[str]) -> int:
    return next((index for index, name in enumerate(names) if name != ".."), len(names))


def check_lfs(job: Job, entry: WantedFile, start: bytes) -> None:
    """Raises MirrorError when the content is a Git LFS pointer and the job refuses them. `start` is the whole content of a small file."""
    if job.lfs is Lfs.REFUSE and start.startswith(LFS_POINTER_PREFIX):
        raise MirrorError(
            f"{entry.source} of {job.repo} is kept in Git LFS; the repository holds only a pointer to it",
            path=entry.source,
            hint="set lfs: fetch to mirror the content, or lfs: pointer to mirror the pointer",
        )


def expected_size(want: WantedFile | None, row: LedgerRow | None) -> int | None:
    """The size that is wanted, where that is more than is read anyway and not what the ledger says."""
    if want is None or (row is not None and want.size in (row.entry.size, row.upstream.size)):
        return None
    return (
        UNKNOWN_SIZE if want.size is None else want.size if want.size > SMALL_FILE_BYTES else None
    )
