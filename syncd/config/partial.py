"""Keeps the valid part of a configuration that has mistakes.

So `check` also reports mistakes between parts, all at once. What can't be kept is left out or
replaced by a harmless value, so that nothing is reported because of its absence: a broken identity
is still an identity of that name, and the paths of a job keep their numbers. The models and
`cross_checks` find the mistakes.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from syncd.config.yaml_reader import Key

MAX_MISTAKES = 100  # with more, the mistakes between parts can wait
NEEDED = ("repo", "as", "paths")


def valid_part(value: dict[str, Any], mistakes: Iterable[Key]) -> dict[str, Any] | None:
    """Return a copy of the value without what is wrong at these keys.

    Returns None if too little would be left.
    """
    places = list(mistakes)
    sections = (value.get("jobs"), value.get("github"))
    if len(places) > MAX_MISTAKES or not all(isinstance(section, dict) for section in sections):
        return None
    part = {**deepcopy(value), "version": "1"}
    jobs, identities = part["jobs"], part["github"]
    for place in places:
        job = jobs.get(place[1]) if len(place) > 1 and place[0] == "jobs" else None
        match place:
            case ("version", *_):
                pass
            case ("github", name, *_):
                identities[name] = {"anonymous": True}
            case ("jobs", name, "paths", int(index), *_) if job:
                job["paths"][index] = {"from": "x", "to": f"/.syncd/{name}/{index}"}
            case ("jobs", _, "every" | "cron", *_) if job:
                job.pop("cron", None)
                job["every"] = "1d"
            case ("jobs", _, key, *_) if job and key in job and key not in NEEDED:
                del job[key]
            case ("jobs", name, *_):
                jobs.pop(name, None)
            case (key, *_):
                part.pop(str(key), None)
    return part if part.get("jobs") and part.get("github") else None
