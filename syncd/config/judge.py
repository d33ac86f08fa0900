"""What only the whole configuration shows: names that point nowhere, two paths for one file, destinations that would eat syncd itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from syncd.config.model import Config
from syncd.config.places import Key
from syncd.errors import Problem
from syncd.models import Job, PathRule, Publish
from syncd.suggest import did_you_mean
from syncd.twins import fold, one_place

Mark = Callable[[Key, str], Problem]


def judge(config: Config, mark: Mark) -> list[Problem]:
    return [*_identities(config, mark), *_destinations(config, mark), *_collisions(config, mark), *_switches(config, mark), *_web(config, mark)]


def _identities(config: Config, mark: Mark) -> Iterator[Problem]:
    for name, job in config.jobs.items():
        if not job.identity:
            yield mark(("jobs", name), f"'as' is required: there are several identities ({', '.join(config.identities)})")
        elif job.identity not in config.identities:
            yield mark(("jobs", name, "as"), f"there is no identity '{job.identity}' under github:" + did_you_mean(job.identity, config.identities, f"; there are {', '.join(config.identities)}"))


def _destinations(config: Config, mark: Mark) -> Iterator[Problem]:
    own = [(os.path.realpath(config.state), "syncd's own state"), (os.path.realpath(config.path), "syncd's configuration")]
    own += [(os.path.abspath(config.state), "syncd's own state"), (os.path.abspath(config.path), "syncd's configuration")]
    for name, job in config.jobs.items():
        for index, rule in enumerate(job.paths):
            to = os.path.abspath(rule.to)
            for place, what in own:
                folder_of_files = not config.path.is_dir() and what.endswith("configuration")
                inside = to == place or (not folder_of_files and to.startswith(place + "/")) or (rule.directory and place.startswith(to + "/") and not folder_of_files and what.endswith("state"))
                if inside:
                    yield mark(("jobs", name, "paths", index, "to"), f"'{rule.to}' is {what} ({place}); a mirror must not write there")
                    break


def _collisions(config: Config, mark: Mark) -> Iterator[Problem]:
    """Two paths that would write one file, where that can be seen without the repository."""
    seen: dict[str, list[tuple[Job, int, PathRule]]] = {}
    for name, job in config.jobs.items():
        for index, rule in enumerate(job.paths):
            alike = seen.setdefault(fold(rule.to), [])
            first = next((one for one in alike if one[2].to == rule.to or one_place(one[2].to, rule.to)), None)
            if first is None:
                alike.append((job, index, rule))
                continue
            other, other_index, other_rule = first
            if rule.directory and other_rule.directory and (other.name != name or other_rule.source != rule.source) and not _surely_same(rule, other_rule):
                continue  # overlapping folders are fine until two files want one name, which only the repository shows
            spelling = "" if rule.to == other_rule.to else f" (as '{other_rule.to}', which is the same place on this disk)"
            yield mark(("jobs", name, "paths", index, "to"), f"'{rule.to}' is written by jobs.{other.name}.paths[{other_index}] too{spelling}; one file has one owner")


def _surely_same(one: PathRule, other: PathRule) -> bool:
    return one.source == other.source and not (one.include or one.exclude or other.include or other.exclude)


def _switches(config: Config, mark: Mark) -> Iterator[Problem]:
    """With publish: symlink the folder above the link is syncd's own: nothing else of the configuration may be in it."""
    links = {name: job.paths[0].to for name, job in config.jobs.items() if job.publish is Publish.SYMLINK}
    for name, to in links.items():
        folder = os.path.dirname(to)
        if folder == "/":
            yield mark(("jobs", name, "paths", 0, "to"), f"'{to}/' would make / a folder of syncd's own; give the link a folder, like /srv{to}/current/")
            continue
        for place, what in ((config.state, "syncd's own state"), (config.path, "syncd's configuration")):
            if f"{os.path.realpath(place)}/".startswith(f"{os.path.realpath(folder)}/"):
                yield mark(("jobs", name, "paths", 0, "to"), f"{what} ({place}) is in {folder}, which has to be the link's own folder; give the link another one")
        for other, job in config.jobs.items():
            for index, rule in enumerate(job.paths):
                if other != name and f"{rule.to}/".startswith(f"{folder}/"):
                    yield mark(("jobs", other, "paths", index, "to"), f"'{rule.to}' is in {folder}, which is the own folder of jobs.{name} (publish: symlink)")


def _web(config: Config, mark: Mark) -> Iterator[Problem]:
    """A listener that others can reach has a password. What a name stands for, and what systemd opens, only shows when it is opened."""
    web = config.web
    if web is None or web.password is not None or web.listen.startswith(("unix:", "fd:")):
        return
    host = web.listen.rpartition(":")[0].strip("[]")
    if host != "localhost" and not host.startswith("127.") and host != "::1":
        yield mark(("web", "listen"), f"'{web.listen}' can be reached by others, so it needs web.password (and a proxy with TLS in front: a password in the clear is everybody's)")
