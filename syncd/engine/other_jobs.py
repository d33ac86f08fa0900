"""What the other configured jobs list. This is asked when a file changes from one job to another.

A file that one job drops while another one lists it is handed over, not removed. The configuration
decides first what a job lists; where that leaves it open (directories that overlap), the job's
repository is asked for what it holds now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from syncd.deadline import Deadline
from syncd.engine.coverage import Coverage, coverage_of, folders_above, real_path, roots_of
from syncd.errors import SyncdError
from syncd.models import Job, RealFolder, WantedFile

Resolve = Callable[[Iterable[str]], Mapping[str, RealFolder]]
Wanted = Callable[[Job, Deadline], Mapping[str, WantedFile]]


class OtherJobs:
    """Tells which job lists a destination. Made for one run: answers are kept for its length.

    `wanted` gives a job's whole wanted set at its present commit; `resolve` gives real paths of
    directories.
    """

    def __init__(self, jobs: Mapping[str, Job], resolve: Resolve, wanted: Wanted) -> None:
        self._jobs, self._resolve, self._wanted = jobs, resolve, wanted
        self._coverage: dict[str, Coverage] = {}
        self._lists: dict[str, frozenset[str] | SyncdError] = {}

    def lists(self, name: str, real: str, deadline: Deadline) -> bool:
        """Return whether the job lists the destination.

        Raises SyncdError when its repository can't tell.
        """
        if not self._coverage_of(name).covers(real):
            return False
        if name not in self._lists:
            self._lists[name] = self._ask(self._jobs[name], deadline)
        found = self._lists[name]
        if isinstance(found, SyncdError):
            raise found
        return real in found

    def listing(
        self, me: str, reals: Mapping[str, str], deadline: Deadline
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return which of these destinations (path -> real path) another job than `me` lists.

        The first mapping is path -> the job that lists it, the second path -> the job that may list
        it and could not be asked. A path that no other job lists is in neither.
        """
        listed: dict[str, str] = {}
        unknown: dict[str, str] = {}
        for name in self._candidates(me, reals):
            for path, real in reals.items():
                if path in listed:
                    continue
                try:
                    if self.lists(name, real, deadline):
                        listed[path] = name
                        unknown.pop(path, None)
                except SyncdError:
                    unknown[path] = name
        return listed, unknown

    def _candidates(self, me: str, reals: Mapping[str, str]) -> list[str]:
        folders, files = folders_above(reals.values()), frozenset(reals.values())
        others = (name for name in self._jobs if name != me)
        return [name for name in others if self._may_reach(name, folders, files)]

    def _may_reach(self, name: str, folders: frozenset[str], files: frozenset[str]) -> bool:
        """Return True also for a job whose destinations can't be resolved now: `lists` raises for
        it.
        """
        try:
            return self._coverage_of(name).reaches_into(folders, files)
        except SyncdError:
            return True

    def _coverage_of(self, name: str) -> Coverage:
        if name not in self._coverage:
            self._coverage[name] = coverage_of(self._jobs[name], self._resolve)
        return self._coverage[name]

    def _ask(self, job: Job, deadline: Deadline) -> frozenset[str] | SyncdError:
        try:
            wanted = self._wanted(job, deadline)
        except SyncdError as error:
            deadline.check()  # a stop or the end of this run's time says nothing of the other job
            return error
        resolved = self._resolve(roots_of(wanted))
        return frozenset(real_path(path, entry.root, resolved) for path, entry in wanted.items())
