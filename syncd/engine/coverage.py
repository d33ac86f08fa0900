"""Which destinations a job lists by its configuration alone, whatever the repository holds.

Pure: no I/O, except for the lookups that are passed in.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from syncd.colliding_names import fold
from syncd.models import Job, LedgerRow, PathRule, RealFolder, WantedFile
from syncd.patterns import path_filter
from syncd.ports import Mirror


class _CoveredPath(Struct, frozen=True):
    """One configured path: its real destination, and which paths below it are listed."""

    real: str
    directory: bool
    lists: Callable[[str], bool]


class Coverage(Struct, frozen=True):
    """The destinations that a job's `paths:` can reach. All paths are real paths."""

    places: Sequence[_CoveredPath]

    def covers(self, real: str) -> bool:
        """Return whether the job's configuration lists this real path."""
        return any(_covers(place, real) for place in self.places)

    def reaches_into(self, folders: frozenset[str], files: frozenset[str]) -> bool:
        """Return whether one of these files, or a file below one of these directories, may be
        covered.
        """
        return any(place.real in (folders if place.directory else files) for place in self.places)


def coverage_of(job: Job, resolve: Callable[[Iterable[str]], Mapping[str, RealFolder]]) -> Coverage:
    """Return the job's coverage. `resolve` says where each of the given directories really is."""
    folders = {posixpath.dirname(rule.to) or "/" for rule in job.paths}
    resolved = resolve(folders)
    return Coverage(tuple(_place(rule, resolved) for rule in job.paths))


def real_path(path: str, root: str, resolved: Mapping[str, RealFolder]) -> str:
    """Return the real path of `path`, which is below `root`: links are followed down to `root`
    alone.
    """
    return resolved[root].join(path[len(root.rstrip("/")) :])


def with_mounts(rows: Mapping[str, LedgerRow], mirror: Mirror) -> dict[str, LedgerRow]:
    """Return the rows with the mount point that each file is below. Raises MirrorError."""
    points = mirror.mount_points({posixpath.dirname(path) for path in rows})
    return {
        path: replace(row, mount=points.get(posixpath.dirname(path))) for path, row in rows.items()
    }


def roots_of(entries: Mapping[str, WantedFile]) -> frozenset[str]:
    """Return the roots of these entries."""
    return frozenset({entry.root for entry in entries.values()})


def folders_above(paths: Iterable[str]) -> frozenset[str]:
    """Return every directory above these paths, without `/`."""
    found: set[str] = set()
    for path in paths:
        folder = path[: path.rfind("/")]
        while folder and folder not in found:
            found.add(folder)
            folder = folder[: folder.rfind("/")]
    return frozenset(found)


def renamed_jobs(
    new: Mapping[str, Coverage], removed: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """Return new job name -> the removed job that it is.

    A rename is a new job whose paths list every destination of one removed job, and no destination
    of another one, while no other new job lists any of them. `removed` has each removed job's
    destinations as real paths.
    """
    reached = {
        name: {old for old, paths in removed.items() if any(map(coverage.covers, paths))}
        for name, coverage in new.items()
    }
    found = {}
    for name, coverage in new.items():
        if len(reached[name]) != 1:
            continue
        old = next(iter(reached[name]))
        claimed_once = sum(old in others for others in reached.values()) == 1
        if claimed_once and all(map(coverage.covers, removed[old])):
            found[name] = old
    return found


def _place(rule: PathRule, resolved: Mapping[str, RealFolder]) -> _CoveredPath:
    root = posixpath.dirname(rule.to) or "/"
    real = real_path(rule.to, root, resolved)
    return _CoveredPath(
        real, rule.directory, path_filter(_folded(rule) if resolved[root].ignores_case else rule)
    )


def _folded(rule: PathRule) -> PathRule:
    """Return the rule with patterns for real paths of a disk that ignores case."""
    return replace(
        rule, include=tuple(map(fold, rule.include)), exclude=tuple(map(fold, rule.exclude))
    )


def _covers(place: _CoveredPath, real: str) -> bool:
    if not place.directory:
        return real == place.real
    start = f"{place.real}/"
    return real.startswith(start) and place.lists(real[len(start) :])
