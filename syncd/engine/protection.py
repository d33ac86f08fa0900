"""Protected destinations: a run writes nothing there, and removes nothing there.

Contract section 1, "A commit can never change syncd's own configuration". The check of the
configuration has seen the rules; this sees every destination by its real path, and so also what a
link, a bind mount or a pattern hid from it.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from syncd.engine.job_ledger import JobLedger
from syncd.errors import MirrorError
from syncd.models import Job, Ownership, PathRule, WantedFile
from syncd.patterns import escape_pattern
from syncd.policies import Publish
from syncd.ports import Mirror
from syncd.protected_paths import Identity, ProtectedPaths, ProtectedPlace, canonical, with_parents

MAX_PATTERNS_SHOWN = 20  # in a hint


class ProtectedMatch(Struct, frozen=True):
    """A destination that leads to a protected place.

    It does so by `real`: its own real path, or what that is called without a bind mount.
    """

    place: ProtectedPlace
    real: str


def exclude_protected(
    job: Job,
    protected: ProtectedPaths,
    mirror: Mirror,
    remote: Mapping[str, WantedFile],
    own: JobLedger,
) -> JobLedger:
    """Return the job's rows without those of protected places, with notes on what the job gave up.

    A row there was written by an earlier version: the file stays as it is, and the plan forgets the
    row. Raises MirrorError when the commit wants a protected place; nothing has been changed then.
    """
    if not protected:
        return own
    real = {**own.reals, **own.elsewhere, **_real_link(job, mirror)}
    folders = {path.rpartition("/")[0] or "/" for path in real.values()}
    hits = find_protected(protected, real, mirror.identities(with_parents(folders)))
    refuse_protected(job, remote, hits)
    rows = {
        path: replace(row, ownership=Ownership.FOREIGN)
        for path, row in own.recorded.items()
        if path in hits
    }
    if not rows:
        return own
    return replace(own, recorded={**own.recorded, **rows}, notes=(*own.notes, *_notes(rows, hits)))


def _notes(rows: Iterable[str], hits: Mapping[str, ProtectedMatch]) -> tuple[str, ...]:
    paths = sorted(rows)
    if not paths:
        return ()
    more = f" (and {len(paths) - 1} more)" if len(paths) > 1 else ""
    return (
        f"{paths[0]} is {hits[paths[0]].place.what}: it stays as it is, "
        f"and the job no longer owns it{more}",
    )


def _real_link(job: Job, mirror: Mirror) -> dict[str, str]:
    """Return the real path of the link of `publish: symlink`, which every change replaces."""
    if job.publish is not Publish.SYMLINK:
        return {}
    link = job.paths[0].to
    folder = posixpath.dirname(link)
    return {link: mirror.resolve([folder])[folder].join(f"/{posixpath.basename(link)}")}


def find_protected(
    protected: ProtectedPaths, real: Mapping[str, str], identities: Mapping[str, Identity]
) -> dict[str, ProtectedMatch]:
    """Return those of the destinations that lead to a protected place.

    `real` is destination -> real path; `identities` has device and inode of every directory above
    one of those, where it exists.
    """
    near: dict[str, list[str]] = {}
    found: dict[str, ProtectedMatch] = {}
    for path, place in real.items():
        folder, _, name = place.rpartition("/")
        if folder not in near:
            near[folder] = _near(protected, folder or "/", identities)
        for one in near[folder]:
            spelled = posixpath.join(one, name)
            hit = protected.find(spelled)
            if hit is not None:
                found.setdefault(path, ProtectedMatch(hit, spelled))
    return found


def _near(protected: ProtectedPaths, folder: str, identities: Mapping[str, Identity]) -> list[str]:
    """Return the names of the directory under which a file in it could be protected; mostly
    none.
    """
    names = dict.fromkeys((folder, canonical(folder, protected.identities, identities.get)))
    return [name for name in names if protected.near(name)]


def refuse_protected(
    job: Job, remote: Mapping[str, WantedFile], hits: Mapping[str, ProtectedMatch]
) -> None:
    """Raise MirrorError when a protected place is wanted, with the `exclude:` line that leaves all
    of them out.
    """
    wanted = [path for path in hits if path in remote or _is_own_link(job, path)]
    if not wanted:
        return
    path, hit = wanted[0], hits[wanted[0]]
    source = f"{remote[path].source} of {job.repo}" if path in remote else f"the link of {job.name}"
    relation = "is above" if hit.place.path.startswith(f"{hit.real}/") else "is"
    where = "" if hit.place.path == path else f" ({hit.place.path})"
    more = f" (and {len(wanted) - 1} more)" if len(wanted) > 1 else ""
    raise MirrorError(
        f"{source} would be written to {path}, which {relation} {hit.place.what}{where}; "
        f"a commit never changes that, and nothing was changed{more}",
        path=path,
        id="mirror/protected-path",
        hint=_exclude_hint(job, path, {one: hits[one] for one in wanted}),
    )


def _is_own_link(job: Job, path: str) -> bool:
    return job.publish is Publish.SYMLINK and path == job.paths[0].to


def _exclude_hint(job: Job, path: str, hits: Mapping[str, ProtectedMatch]) -> str:
    rule = _rule_of(job, path)
    patterns = dict.fromkeys(
        _pattern(rule, one, hit) for one, hit in hits.items() if _rule_of(job, one) == rule
    )
    if rule is None or not rule.directory or None in patterns:
        return f"give that path of {job.name} another to:, or remove it from the job"
    shown = [
        json.dumps(pattern, ensure_ascii=False)
        for pattern in (*rule.exclude, *filter(None, list(patterns)[:MAX_PATTERNS_SHOWN]))
    ]
    return f"at the path of {job.name} with to: {rule.to}/ write exclude: [{', '.join(shown)}]"


def _rule_of(job: Job, path: str) -> PathRule | None:
    """Return the rule that lists the destination: of several the one that reaches deepest."""
    rules: Iterable[PathRule] = (
        rule
        for rule in job.paths
        if path == rule.to or (rule.directory and path.startswith(f"{rule.to}/"))
    )
    return max(rules, key=lambda rule: len(rule.to), default=None)


def _pattern(rule: PathRule | None, path: str, hit: ProtectedMatch) -> str | None:
    """Return the pattern that leaves the protected place out; None where all of the rule is in
    it.
    """
    surplus = hit.real.count("/") - hit.place.path.count("/")
    excluded = path.rsplit("/", surplus)[0] if surplus > 0 else path
    if rule is None or not excluded.startswith(f"{rule.to}/"):
        return None
    return escape_pattern(excluded[len(rule.to) :]) + ("/" if excluded != path else "")
