"""Names of one set that some file systems take for one.

They are written where the disk keeps them apart, and refused elsewhere. What looking at the disk
shows is known before anything is planned, in every run. Where it does not show it, a trial does,
right before the first write of names of which the disk has none yet.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence

from msgspec import Struct

from syncd.colliding_names import CollidingNames, collisions_among, fold
from syncd.errors import UnsafePathError
from syncd.models import Action, ActionKind, Job, WantedFile
from syncd.ports import Mirror

MAX_NAMES_SHOWN = 3  # in a message


class UnverifiedNames(Struct, frozen=True):
    """Colliding names of a job's set of which it is not known whether the disk keeps them apart."""

    job: Job
    remote: Mapping[str, WantedFile]
    collisions: tuple[CollidingNames, ...]


def refuse_collisions(
    job: Job, remote: Mapping[str, WantedFile], mirror: Mirror
) -> tuple[CollidingNames, ...]:
    """Return the colliding names of the set of which looking does not show whether the disk keeps
    them apart.

    Raises UnsafePathError for those that the disk takes for one.
    """
    unverified = []
    for collision in collisions_among(remote):
        distinct = mirror.distinguishes_names(
            collision.folder, tuple(collision.names), _root(collision, remote)
        )
        if distinct is False:
            raise _refusal(job, collision, remote)
        if distinct is None:
            unverified.append(collision)
    return tuple(unverified)


def try_names(
    unverified: UnverifiedNames, actions: Sequence[Action], mirror: Mirror, intent: str
) -> UnsafePathError | None:
    """Return why these actions cannot be carried out: they write names that the disk takes for one.

    A trial in the directory shows it. The intent is stored before: it is what clears up after a
    crash. Raises MirrorError.
    """
    written = [
        action.path for action in actions if action.kind in (ActionKind.WRITE, ActionKind.RESTORE)
    ]
    for collision in unverified.collisions:
        folder = collision.folder
        names = [name for name in collision.names if _any_at(written, posixpath.join(folder, name))]
        if len(names) < 2:
            continue
        root = _root(collision, unverified.remote)
        if not mirror.distinguishes_names(folder, names, root, intent):
            return _refusal(unverified.job, collision, unverified.remote)
    return None


def _any_at(paths: Sequence[str], place: str) -> bool:
    return any(path == place or path.startswith(f"{place}/") for path in paths)


def _root(collision: CollidingNames, remote: Mapping[str, WantedFile]) -> str:
    """Return where links stop being followed: the first of the roots on the way."""
    return min((remote[path].root for path in collision.names.values()), key=len)


def _refusal(
    job: Job, collision: CollidingNames, remote: Mapping[str, WantedFile]
) -> UnsafePathError:
    places = [posixpath.join(collision.folder, name) for name in collision.names]
    sources = [
        _source(place, path, remote[path].source)
        for place, path in zip(places, collision.names.values(), strict=True)
    ]
    in_repository = len({fold(source) for source in sources}) == 1
    shown = " and ".join(map(repr, (sources if in_repository else places)[:MAX_NAMES_SHOWN]))
    shown += f" and {len(places) - MAX_NAMES_SHOWN} more" if len(places) > MAX_NAMES_SHOWN else ""
    return UnsafePathError(
        f"{shown} of {job.repo} differ only in case or in how their letters are composed,"
        f" and the disk at {collision.folder} does not tell them apart",
        path=places[1],
        id="mirror/colliding-names",
        hint="rename one of them, or exclude it"
        if in_repository
        else "give one of them another to:",
    )


def _source(place: str, path: str, source: str) -> str:
    """Return what of the repository comes to `place`: the destination `path` or a directory above
    it.
    """
    return source.removesuffix(path[len(place) :])
