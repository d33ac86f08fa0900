"""Checks what only the whole configuration shows.

These are names that point nowhere, two paths for one file, and destinations that would overwrite
syncd itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from syncd.colliding_names import fold, is_same_path
from syncd.config.model import Config
from syncd.config.yaml_reader import Key
from syncd.errors import Problem
from syncd.identities import FLEET, AnonymousIdentity, AppIdentity, FleetIdentity
from syncd.models import Job, PathRule
from syncd.patterns import path_filter
from syncd.policies import Lfs, Publish, Require
from syncd.protected_paths import ProtectedPaths, canonical, identity_of
from syncd.text import did_you_mean

ProblemFactory = Callable[[Key, str], Problem]
MAX_SHOWN = 3


def check_config(
    config: Config, problem_at: ProblemFactory, protected: ProtectedPaths
) -> list[Problem]:
    """Return every problem between parts of the configuration."""
    return [
        *_identities(config, problem_at),
        *_fleet(config, problem_at),
        *_reporters(config, problem_at),
        *_destinations(config, problem_at, protected),
        *_collisions(config, problem_at),
        *_symlink_folders(config, problem_at, protected),
        *_freezes(config, problem_at),
        *_web(config, problem_at),
    ]


def _identities(config: Config, problem_at: ProblemFactory) -> Iterator[Problem]:
    for name, job in {**config.jobs, **config.polled_jobs}.items():
        if not job.identity:
            yield problem_at(
                ("jobs", name),
                f"'as' is required: there are several identities ({', '.join(config.identities)})",
            )
        elif job.identity not in config.identities:
            yield problem_at(
                ("jobs", name, "as"),
                f"there is no identity '{job.identity}' under github:"
                + did_you_mean(
                    job.identity, config.identities, f"; there are {', '.join(config.identities)}"
                ),
            )


def _fleet(config: Config, problem_at: ProblemFactory) -> Iterator[Problem]:
    """Yield what a fleet can't do, or not on this side of it."""
    fleet = config.fleet
    for name, job in {**config.jobs, **config.polled_jobs}.items():
        if job.rollout is not None and (fleet is None or not fleet.role.controls):
            yield problem_at(("jobs", name, "rollout"), "only a controller of a fleet has rollouts")
        if job.where and fleet is None:
            text = "without fleet: there are no agents to choose from; remove it"
            yield problem_at(("jobs", name, "where"), text)
    if fleet is None:
        return
    if fleet.role.mirrors and not isinstance(config.identities[FLEET], FleetIdentity):
        text = f"'{FLEET}' names the fleet's database on an agent; give the identity another name"
        yield problem_at(("github", FLEET), text)
    for name, job in {**config.jobs, **fleet.published}.items():
        if job.require != Require() and not fleet.role.controls:
            text = "the controllers judge commits before they publish; move this to their file"
            yield problem_at(("jobs", name, "require"), text)
        if job.lfs is Lfs.FETCH:
            text = "contents of Git LFS do not travel through a fleet; use refuse or pointer"
            yield problem_at(("jobs", name, "lfs"), text)


def _reporters(config: Config, problem_at: ProblemFactory) -> Iterator[Problem]:
    """Yield identities that may not set statuses: a token that reads is never sent to write."""
    readers = {job.identity for job in (*config.jobs.values(), *config.polled_jobs.values())}
    for name, job in config.jobs.items():
        reporter = job.report.identity
        if reporter is None or not job.report.status:
            continue
        identity = config.identities.get(reporter)
        if identity is None:
            text = f"there is no identity '{reporter}' under github:"
            text += did_you_mean(reporter, config.identities)
        elif isinstance(identity, AnonymousIdentity):
            text = f"'{reporter}' is anonymous, and only who signs in may set a status"
        elif reporter in readers and not isinstance(identity, AppIdentity):
            text = (
                f"'{reporter}' has one token, with which jobs read; "
                "give an identity of its own, with statuses: write, or a GitHub App"
            )
        else:
            continue
        yield problem_at(("jobs", name, "report", "as"), text)


def _destinations(
    config: Config, problem_at: ProblemFactory, protected: ProtectedPaths
) -> Iterator[Problem]:
    """Yield rules through which a commit could change syncd itself."""
    for name, job in config.jobs.items():
        for index, rule in enumerate(job.paths):
            text = _inside(rule, protected) or (
                _above(rule, protected) if job.publish is Publish.FILES else None
            )
            if text is not None:
                problem = problem_at(("jobs", name, "paths", index, "to"), "")
                yield replace(problem, text=text)  # not shortened: its end is for pasting


def _inside(rule: PathRule, protected: ProtectedPaths) -> str | None:
    for to in _spellings(rule.to, protected):
        place = protected.containing(to) if rule.directory else protected.find(to)
        if place is not None:
            return f"'{rule.to}' is {place.what} ({place.path}); a mirror must not write there"
    return None


def _above(rule: PathRule, protected: ProtectedPaths) -> str | None:
    """Describe a folder rule that reaches something protected, with the exclude line that leaves it
    out.
    """
    if not rule.directory:
        return None
    chosen: Callable[[str], bool] | None = None
    places: dict[str, None] = {}
    missing: dict[str, None] = {}
    for to in _spellings(rule.to, protected):
        for probe in protected.probes():
            tries = [_relative(path, to) for path in probe.paths]
            if None in tries:
                continue
            chosen = chosen or path_filter(rule)
            if any(chosen(path) for path in tries if path is not None):
                places[f"{probe.place.what} ({probe.place.path})"] = None
                missing[f"/{_relative(probe.pattern, to)}"] = None
    if not missing:
        return None
    named = ", ".join(list(places)[:MAX_SHOWN]) + (
        f" and {len(places) - MAX_SHOWN} more" if len(places) > MAX_SHOWN else ""
    )
    exclude = ", ".join(
        json.dumps(pattern, ensure_ascii=False) for pattern in (*rule.exclude, *missing)
    )
    return (
        f"'{rule.to}/' is above {named}; a commit must not change that: leave it out with exclude:"
        f" [{exclude}]"
    )


def _spellings(to: str, protected: ProtectedPaths) -> list[str]:
    """Return the real paths that a destination leads to.

    These are the path with the links above it resolved, with itself resolved, and through bind
    mounts.
    """
    parent = os.path.realpath(os.path.dirname(to))
    real = [os.path.join(parent, os.path.basename(to)), os.path.realpath(to)]
    return list(
        dict.fromkeys(
            (*real, *(canonical(path, protected.identities, identity_of) for path in real))
        )
    )


def _relative(path: str, folder: str) -> str | None:
    """Return the path relative to the folder, or None if it is not below. Case is ignored."""
    if not fold(path).startswith(f"{fold(folder)}/"):
        return None
    return "/".join(path.split("/")[len(folder.split("/")) :])


def _collisions(config: Config, problem_at: ProblemFactory) -> Iterator[Problem]:
    """Yield paths that would write one file, as far as that shows without the repository."""
    seen: dict[str, list[tuple[Job, int, PathRule, str]]] = {}
    for name, job in config.jobs.items():
        for index, rule in enumerate(job.paths):
            real = _real_path(rule.to)
            alike = seen.setdefault(fold(real), [])
            first = next(
                (one for one in alike if one[3] == real or is_same_path(one[3], real)), None
            )
            if first is None:
                alike.append((job, index, rule, real))
                continue
            other, other_index, other_rule, _ = first
            if (
                rule.directory
                and other_rule.directory
                and (other.name != name or other_rule.source != rule.source)
                and not _surely_same(rule, other_rule)
            ):
                # overlapping folders are fine until two files want one name, which only the
                # repository shows
                continue
            spelling = (
                ""
                if rule.to == other_rule.to
                else f" (as '{other_rule.to}', which is the same place on this disk)"
            )
            yield problem_at(
                ("jobs", name, "paths", index, "to"),
                f"'{rule.to}' is written by jobs.{other.name}.paths[{other_index}] too{spelling};"
                " one file has one owner",
            )


def _real_path(to: str) -> str:
    """Return the destination with every link above it resolved; a published link is kept."""
    return os.path.join(os.path.realpath(os.path.dirname(to)), os.path.basename(to))


def _surely_same(one: PathRule, other: PathRule) -> bool:
    return one.source == other.source and not (
        one.include or one.exclude or other.include or other.exclude
    )


def _symlink_folders(
    config: Config, problem_at: ProblemFactory, protected: ProtectedPaths
) -> Iterator[Problem]:
    """Yield what is in the folder above a published link.

    With publish: symlink that folder is syncd's own, so nothing else of the configuration may be in
    it.
    """
    links = {
        name: job.paths[0].to for name, job in config.jobs.items() if job.publish is Publish.SYMLINK
    }
    for name, to in links.items():
        folder = os.path.dirname(to)
        if folder == "/":
            yield problem_at(
                ("jobs", name, "paths", 0, "to"),
                f"'{to}/' would make / a folder of syncd's own; give the link a folder, like"
                f" /srv{to}/current/",
            )
            continue
        real = os.path.realpath(folder)
        own = fold(real)
        for place in protected.places:
            if place.at_check and f"{fold(place.path)}/".startswith(f"{own}/"):
                yield problem_at(
                    ("jobs", name, "paths", 0, "to"),
                    f"{place.what} ({place.path}) is in {folder}, which has to be the link's own"
                    " folder; give the link another one",
                )
        for other, job in config.jobs.items():
            for index, rule in enumerate(job.paths):
                if other != name and f"{_real_path(rule.to)}/".startswith(f"{real}/"):
                    yield problem_at(
                        ("jobs", other, "paths", index, "to"),
                        f"'{rule.to}' is in {folder}, which is the own folder of jobs.{name}"
                        " (publish: symlink)",
                    )


def _freezes(config: Config, problem_at: ProblemFactory) -> Iterator[Problem]:
    for name, job in config.jobs.items():
        for index, freeze in enumerate(job.apply.freezes):
            if freeze.ends_at <= freeze.begins_at:
                yield problem_at(
                    ("jobs", name, "apply", "freeze", index, "to"),
                    f"the freeze ends at {freeze.ends_at:%Y-%m-%dT%H:%M:%SZ}, before it begins "
                    f"({freeze.begins_at:%Y-%m-%dT%H:%M:%SZ}); 'to' comes after 'from'",
                )


def _web(config: Config, problem_at: ProblemFactory) -> Iterator[Problem]:
    """Yield a listener that others can reach and that has no password, and actions of strangers.

    What a host name means, and what systemd opens, only shows when it is opened.
    """
    web = config.web
    if web is not None and web.actions and not (web.password or web.users):
        yield problem_at(
            ("web", "actions"),
            "actions are for people who logged in, so they need web.users or web.password",
        )
    if web is None or web.is_guarded or web.listen.startswith(("unix:", "fd:")):
        return
    host = web.listen.rpartition(":")[0].strip("[]")
    if host != "localhost" and not host.startswith("127.") and host != "::1":
        yield problem_at(
            ("web", "listen"),
            f"'{web.listen}' can be reached by others, so it needs web.password (and a proxy with"
            " TLS in front: others can read a password in the clear)",
        )
