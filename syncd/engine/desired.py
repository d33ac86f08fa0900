"""Turn what the repository holds into what has to be on disk.

Takes a complete listing and a job's rules and policies, and returns the remote snapshot:
destination -> WantedFile. A path that cannot be written safely, or that a policy refuses, ends the
run here, before anything is written; only `skip` goes on without it. Pure: no I/O.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Iterator, Mapping

from syncd.engine.owners import ResolveOwner
from syncd.errors import LimitError, MirrorError, NotFoundError, UnsafePathError
from syncd.git_objects import EXECUTABLE, LINK, SUBMODULE
from syncd.models import Job, Kind, LedgerRow, Listing, PathRule, TreeEntry, WantedFile
from syncd.patterns import path_filter
from syncd.policies import Lfs, Submodules, Symlinks
from syncd.ports import SMALL_FILE_BYTES, UNKNOWN_SIZE
from syncd.tree_walk import MAX_DEPTH

Snapshot = Mapping[str, WantedFile]

MAX_LINK_BYTES = 4095  # PATH_MAX of Linux, less the NUL
MAX_LFS_POINTER_BYTES = 1024  # source: git-lfs spec, a pointer is smaller than this
LFS_POINTER_PREFIX = b"version https://git-lfs.github.com/spec/v1\n"


def set_digest(entries: Mapping[str, WantedFile]) -> str:
    """Return the digest of a set: which destination has which blob, from which repository path."""
    digest = hashlib.blake2b(digest_size=16)
    for path, entry in sorted(entries.items()):
        digest.update(f"{path}\0{entry.blob}\0{entry.source}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def desired(job: Job, listing: Listing, resolve_owner: ResolveOwner) -> Snapshot:
    """Return destination -> what has to be there, for every path that the job lists, in path order.

    Names that only some disks take for one are all in it (colliding_names.py judges them), and it
    may be past the job's limits (`set_limit_error`). Raises MirrorError for what a policy refuses
    or for two repository paths that want one file.
    """
    wanted: dict[str, WantedFile] = {}
    for rule in job.paths:
        for path, new in _entries_of(job, rule, listing, resolve_owner):
            other = wanted.setdefault(path, new)
            if other.source != new.source:
                raise MirrorError(
                    f"{other.source} and {new.source} of {job.repo} both want {path}",
                    path=path,
                    id="mirror/two-sources",
                    hint="exclude one of them, or give it another to:",
                )
    _refuse_files_above_files(wanted)
    return {path: wanted[path] for path in sorted(wanted)}


def _entries_of(
    job: Job, rule: PathRule, listing: Listing, resolve_owner: ResolveOwner
) -> Iterator[tuple[str, WantedFile]]:
    """Yield (destination, wanted file) for everything that one rule lists."""
    owner = rule.owner or job.owner
    uid, gid = resolve_owner(owner or "")
    root = posixpath.dirname(rule.to) or "/"
    dir_mode = rule.dir_mode if rule.dir_mode is not None else job.dir_mode
    start = _start(rule)
    for source, entry in selected(job, rule, listing.entries):
        path = f"{rule.to}/{source[start:]}" if rule.directory else rule.to
        yield (
            path,
            WantedFile(
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
            ),
        )


def selected(
    job: Job, rule: PathRule, entries: Mapping[str, TreeEntry]
) -> Iterator[tuple[str, TreeEntry]]:
    """Yield the rule's (repository path, entry) pairs after include, exclude and the policies."""
    chosen = path_filter(rule) if rule.directory and (rule.include or rule.exclude) else None
    start = _start(rule)
    for source, entry in _listed(rule, entries):
        if chosen is not None and not chosen(source[start:]):
            continue
        if source.count("/") > MAX_DEPTH:
            raise _too_deep(job, source)
        if not _is_skipped(job, rule, source, entry):
            yield source, entry


def _is_skipped(job: Job, rule: PathRule, source: str, entry: TreeEntry) -> bool:
    """Return whether a policy leaves out this submodule or link.

    Raises MirrorError where one refuses it.
    """
    if entry.mode == SUBMODULE:
        if job.submodules is Submodules.REFUSE or not rule.directory:
            raise MirrorError(
                f"{source} of {job.repo} is a submodule",
                path=source,
                id="mirror/submodule",
                hint="exclude it, or set submodules: skip to go on without it",
            )
        return True
    if entry.mode == LINK and job.symlinks is Symlinks.REFUSE:
        raise MirrorError(
            f"{source} of {job.repo} is a symbolic link and the job refuses links",
            path=source,
            id="mirror/link-refused",
            hint="exclude it, or set symlinks: keep or skip",
        )
    return entry.mode == LINK and job.symlinks is Symlinks.SKIP


def _too_deep(job: Job, source: str) -> UnsafePathError:
    top = "/".join(source.split("/")[:3])
    return UnsafePathError(
        f"{source[:80]}… of {job.repo} is nested deeper than {MAX_DEPTH} folders",
        path=source,
        id="mirror/too-deep",
        hint=f"exclude what is below {top}, or make it flatter upstream",
    )


def _listed(rule: PathRule, entries: Mapping[str, TreeEntry]) -> Iterator[tuple[str, TreeEntry]]:
    if not rule.directory:
        if rule.source not in entries:
            raise NotFoundError(
                f"{rule.source} is not there",
                id="not_found/listed-path",
                hint="correct from:, or remove the path from the job",
            )
        yield rule.source, entries[rule.source]
        return
    prefix = f"{rule.source}/" if rule.source else ""
    for source, entry in entries.items():
        if source.startswith(prefix):
            yield source, entry


def _start(rule: PathRule) -> int:
    """Return where in a repository path the part below `from` begins."""
    return len(rule.source) + 1 if rule.source else 0


def _mode(job: Job, rule: PathRule, entry: TreeEntry) -> int:
    if entry.mode == LINK:
        return 0o777
    given = rule.mode if rule.mode is not None else job.mode
    if given is not None:
        return given
    return 0o755 if entry.mode == EXECUTABLE else 0o644


def _refuse_files_above_files(wanted: Mapping[str, WantedFile]) -> None:
    """Raise MirrorError for a file where another path needs a directory."""
    seen: set[str] = set()
    for path in wanted:
        parent = path.rpartition("/")[0]
        while len(parent) > 1 and parent not in seen:
            seen.add(parent)
            if parent in wanted:
                raise MirrorError(
                    f"{wanted[parent].source} wants {parent} as a file, "
                    f"and {wanted[path].source} needs it as a folder",
                    path=parent,
                    id="mirror/file-above-file",
                    hint="give one of them another to:",
                )
            parent = posixpath.dirname(parent)


def max_listed(job: Job) -> int | None:
    """Return how many entries a listing may have before it can only exceed `limits.files`.

    So a listing of a million is not read to its end. None where not every file counts, which is so
    with patterns and with skipped links. Ten for each file leave room for the directories above it.
    """
    if job.symlinks is Symlinks.SKIP or any(rule.include or rule.exclude for rule in job.paths):
        return None
    return 10_000 + 10 * job.limits.files


def set_limit_error(job: Job, wanted: Mapping[str, WantedFile]) -> LimitError | None:
    """Return the error of a set past `limits.files` or `limits.size`; None within them."""
    if len(wanted) > job.limits.files:
        return LimitError(
            f"the job lists {len(wanted)} files, more than limits.files: {job.limits.files}; "
            "nothing was changed",
            id="limit/too-many-files",
            hint=f"if that is right, set limits: {{files: {len(wanted)}}} or more",
        )
    total = sum(entry.size or 0 for entry in wanted.values())
    if total > job.limits.size_bytes:
        return LimitError(
            f"the job lists {total} bytes, more than limits.size: {job.limits.size_bytes}; "
            "nothing was changed",
            id="limit/too-many-bytes",
            hint=f"if that is right, set limits: {{size: {total}}} or more",
        )
    return None


def check_link(job: Job, path: str, target: str, wanted: Mapping[str, WantedFile]) -> None:
    """Raise UnsafePathError unless the link at `path` leads to one of the job's own files or
    directories.
    """
    if _is_plain_relative(target) and _leads_inside(job, path, target, wanted):
        return
    raise UnsafePathError(
        f"{wanted[path].source} of {job.repo} is a link to {target[:200]!r}, "
        "which is not one of the job's own files",
        path=path,
        id="mirror/link-leads-out",
        hint="list its target too, or exclude the link, or set symlinks: skip",
    )


def _is_plain_relative(target: str) -> bool:
    """Return whether the target is relative and has `..` only at its start.

    After a name, `..` would lead up from wherever that name leads if it is a link too, and so out.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    if len(os.fsencode(target)) > MAX_LINK_BYTES:
        return False
    names = [part for part in target.split("/") if part not in ("", ".")]
    first_name = next((at for at, name in enumerate(names) if name != ".."), len(names))
    return ".." not in names[first_name:]


def _leads_inside(job: Job, path: str, target: str, wanted: Mapping[str, WantedFile]) -> bool:
    """Return whether the target is another of the job's own files, or a directory above one."""
    landing = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    inside = any(landing == rule.to or landing.startswith(rule.to + "/") for rule in job.paths)
    if not inside or landing == path:
        return False
    return landing in wanted or any(other.startswith(landing + "/") for other in wanted)


def check_lfs(job: Job, entry: WantedFile, start: bytes) -> None:
    """Raise MirrorError when the content is a Git LFS pointer and the job refuses these.

    `start` is the content up to the size that a pointer may have.
    """
    if job.lfs is Lfs.REFUSE and start.startswith(LFS_POINTER_PREFIX):
        raise MirrorError(
            f"{entry.source} of {job.repo} is kept in Git LFS; "
            "the repository holds only a pointer to it",
            path=entry.source,
            id="mirror/lfs-refused",
            hint="set lfs: fetch to mirror the content, or lfs: pointer to mirror the pointer",
        )


def expected_size(want: WantedFile | None, row: LedgerRow | None) -> int | None:
    """Return the wanted size where a scan needs it: a large file with a size that the ledger does
    not have.
    """
    if want is None or (row is not None and want.size in (row.entry.size, row.upstream.size)):
        return None
    if want.size is None:
        return UNKNOWN_SIZE
    return want.size if want.size > SMALL_FILE_BYTES else None
