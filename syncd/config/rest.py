"""PURE: what is right in a configuration that has mistakes, so that mistakes between its parts are told in the same breath.

Takes away as little as possible, and never what another part leans on: a broken identity is still an identity of that name. What can't
be saved is left out, and so is every complaint that could come of its absence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from syncd.config.places import Key

MANY = 100  # mistakes; whoever made more than that has enough to mend
NEEDED = ("repo", "as")


def rest_of(value: dict[str, Any], wrong: Iterable[Key]) -> dict[str, Any] | None:
    """The value without what is wrong at these places, or None where too little would be left. The value itself stays as it is."""
    places = list(wrong)
    jobs, identities = value.get("jobs"), value.get("github")
    if len(places) > MANY or not isinstance(jobs, dict) or not isinstance(identities, dict) or any(place in (("jobs",), ("github",)) for place in places):
        return None
    rest: dict[str, Any] = {**value, "version": "1", "jobs": dict(jobs), "github": dict(identities)}
    for place in places:
        if place[0] == "jobs":
            _mend_job(rest["jobs"], place)
        elif place[0] == "github":
            rest["github"][place[1]] = {"anonymous": True}
        elif place[0] != "version":
            rest.pop(str(place[0]), None)
    return rest if rest["jobs"] else None


def _mend_job(jobs: dict[str, Any], place: Key) -> None:
    name = str(place[1])
    job = jobs.get(name)
    if not isinstance(job, dict):
        jobs.pop(name, None)
        return
    job = jobs[name] = dict(job)
    match place[2:]:
        case ("paths", int(index), *_) if isinstance(job.get("paths"), list):
            job["paths"] = list(job["paths"])
            job["paths"][index] = {"from": "x", "to": f"/.syncd/{name}/{index}"}  # a place that nobody wants: the others keep their numbers
        case (("every" | "cron"), *_):
            job.pop("cron", None)
            job["every"] = "1d"
        case (str(key), *_) if key in job and key not in NEEDED and key != "paths":
            del job[key]
        case _:
            del jobs[name]
