"""Names of one set that some file systems take for one: they are written where the disk tells them apart, and refused elsewhere.

What looking tells is known before anything is planned, in every run. Where it does not tell, a trial
does, right before the first write of names that none of the disk's entries stand for yet.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence

from syncd.colliding_names import CollidingNames, collisions_among, fold
from syncd.errors import UnsafePathError
from syncd.models import Action, ActionKind, Job, WantedFile
from syncd.ports import Mirror

MAX_NAMES_SHOWN = 3


def refuse_collisions(
    job: Job, remote: Mapping[str, WantedFile], mirror: Mirror
) -> tuple[CollidingNames, ...]:
    """The twins of the set that looking does not tell apart or together.

    Raises UnsafePathError for those that the disk takes for one.
    """
    unverified = []
    for twins in collisions_among(remote):
        apart = mirror.distinguishes_names(twins.folder, tuple(twins.names), _root(twins, remote))
        if apart is False:
            raise _refusal(job, twins, remote)
        if apart is None:
            unverified.append(twins)
    return tuple(unverified)


def try_names(
    job: Job,
    unverified: Iterable[CollidingNames],
    steps: Sequence[Action],
    remote: Mapping[str, WantedFile],
    mirror: Mirror,
    intent: str,
) -> UnsafePathError | None:
    """Why these steps can't be carried out: they would write twins that the disk takes for one. Raises MirrorError.

    The intent is noted before: it is what clears up after a crash.
    """
    written = [step.path for step in steps if step.kind in (ActionKind.WRITE, ActionKind.RESTORE)]
    for twins in unverified:
        names = [
            name for name in twins.names if _any_at(written, posixpath.join(twins.folder, name))
        ]
        if len(names) > 1 and not mirror.distinguishes_names(
            twins.folder, names, _root(twins, remote), intent
        ):
            return _refusal(job, twins, remote)
    return None


def _any_at(paths: Sequence[str], place: str) -> bool:
    return any(path == place or path.startswith(f"{place}/") for path in paths)


def _root(twins: CollidingNames, remote: Mapping[str, WantedFile]) -> str:
    """Where links stop being followed: the first of the roots on the way."""
    return min((remote[path].root for path in twins.names.values()), key=len)


def _refusal(job: Job, twins: CollidingNames, remote: Mapping[str, WantedFile]) -> UnsafePathError:
    places = [posixpath.join(twins.folder, name) for name in twins.names]
    sources = [
        _source(place, path, remote[path].source)
        for place, path in zip(places, twins.names.values(), strict=True)
    ]
    upstream = len({fold(source) for source in sources}) == 1
    shown = " and ".join(map(repr, (sources if upstream else places)[:MAX_NAMES_SHOWN]))
    shown += f" and {len(places) - MAX_NAMES_SHOWN} more" if len(places) > MAX_NAMES_SHOWN else ""
    return UnsafePathError(
        f"{shown} of {job.repo} differ only in case or in how their letters are composed,"
        f" and the disk at {twins.folder} does not tell them apart",
        path=places[1],
        hint="rename one of them, or exclude it" if upstream else "give one of them another to:",
    )


def _source(place: str, path: str, source: str) -> str:
    """What of the repository comes to `place`, which is the destination `path` or a folder above it."""
    return source.removesuffix(path[len(place) :])
