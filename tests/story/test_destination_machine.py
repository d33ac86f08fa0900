"""Two jobs whose destinations are respelled, swapped, renamed and moved, in whatever order they
run: no wanted file is ever missing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.context import Options, RunContext
from syncd.engine.other_jobs import OtherJobs
from syncd.engine.run import run_job
from syncd.engine.upstream import wanted_set
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.spelling import resolve
from syncd.models import Job, PathRule, RunReport, RunStatus
from syncd.policies import Limits, Prune
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from syncd.stored_jobs import follow_renames
from tests.fault.points import FAILED, in_child, kill_self_at_line
from tests.fault.scene import MemorySource, Node
from tests.story.test_state_machine import looked_at
from tests.support.clock import FakeClock

SOURCES = ("a", "b")
NAMES = ("one", "two", "d/three")
SHARED = "one"  # the file that one of the two jobs lists by its own name
PLACES = ("P", "Q")
DONE = (RunStatus.CHANGED, RunStatus.UNCHANGED)


class Destinations(RuleBasedStateMachine):
    """The model: what each job lists now, and under which real path every file of that belongs."""

    keeps_owners = os.geteuid() == 0
    keeps_inodes = True

    def __init__(self) -> None:
        super().__init__()
        memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self.folder = Path(tempfile.mkdtemp(prefix="syncd-machine-", dir=memory))
        self.make_place()
        self.clock = FakeClock()
        first: dict[str, Node] = {
            f"{source}/{name}": b"1\n" for source in SOURCES for name in NAMES
        }
        self.trees: list[dict[str, Node]] = [first]
        self.names = {"a": "a", "b": "b"}  # which job name lists which source folder
        self.places = {"a": "P", "b": "Q"}
        self.spelled = {"a": "P", "b": "Q"}
        self.shared_by = "a"
        self.prune = Prune.TRACKED
        self.ids: tuple[int, int] | tuple[None, None] = (None, None)
        self.count = 0
        self.run_all(("a", "b"))

    def make_place(self) -> None:
        for name in PLACES:
            (self.folder / "dest" / name).mkdir(parents=True)
            (self.folder / "dest" / f"to-{name}").symlink_to(name)
        (self.folder / "dest/to-all").symlink_to(".")

    def spellings(self, place: str) -> tuple[str, ...]:
        return place, f"to-{place}", f"to-all/{place}"

    def key(self, path: str) -> str:
        """The path as this disk compares it."""
        return path

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what happens -----------------------------------------------------------------------------

    @rule(source=st.sampled_from(SOURCES), name=st.sampled_from(NAMES), content=st.integers(0, 3))
    def push(self, source: str, name: str, content: int) -> None:
        path = self.as_committed(f"{source}/{name}")
        self.trees.append({**self.trees[-1], path: b"%d\n" % content})

    def as_committed(self, path: str) -> str:
        """The path as the newest commit spells it, where it has it."""
        return next((one for one in self.trees[-1] if self.key(one) == self.key(path)), path)

    @rule(source=st.sampled_from(SOURCES), name=st.sampled_from(NAMES[1:]))
    def drop(self, source: str, name: str) -> None:
        tree = dict(self.trees[-1])
        tree.pop(self.as_committed(f"{source}/{name}"), None)
        self.trees.append(tree)

    @rule(source=st.sampled_from(SOURCES), number=st.integers(0, 2))
    def respell(self, source: str, number: int) -> None:
        self.spelled[source] = self.spellings(self.places[source])[number]

    @rule(source=st.sampled_from(SOURCES))
    def rename(self, source: str) -> None:
        self.count += 1
        self.names[source] = f"{source}{self.count}"

    @rule()
    def swap(self) -> None:
        self.places = {"a": self.places["b"], "b": self.places["a"]}
        self.spelled = {"a": self.spelled["b"], "b": self.spelled["a"]}

    @rule()
    def move_the_shared_path(self) -> None:
        self.shared_by = "b" if self.shared_by == "a" else "a"

    @rule(prune=st.sampled_from(Prune))
    def change_prune(self, prune: Prune) -> None:
        self.prune = prune

    @precondition(lambda self: self.keeps_owners)
    @rule(chown=st.booleans())
    def renumber_the_owner(self, chown: bool) -> None:
        before = self.ids
        self.ids = (4712, 4712) if before == (4711, 4711) else (4711, 4711)
        for path in self.on_disk() if chown else ():  # whose keys are paths, where owners are kept
            if (os.lstat(path).st_uid, os.lstat(path).st_gid) == before:
                os.chown(path, *self.ids)

    @rule(order=st.sampled_from((("a", "b"), ("b", "a"), ("a",), ("b",))))
    def run_all(self, order: tuple[str, ...]) -> None:
        for source in order:
            self.run_and_judge(source)
        if len(order) == 2:
            assert [self.run(source).changes for source in order] == [(), ()], (
                "a second run finds all done"
            )

    @rule(source=st.sampled_from(SOURCES), line=st.integers(1, 5000))
    def a_run_that_is_killed(self, source: str, line: int) -> None:
        before = self.contents()

        def work() -> int:
            return 0 if self.run(source).status in DONE else FAILED

        in_child(lambda: kill_self_at_line(line, work))
        self.judge_what_is_there(before)

    # --- what must hold ---------------------------------------------------------------------------

    def run_and_judge(self, source: str) -> None:
        before, stats = self.contents(), self.on_disk()
        with watched_removals(set(self.wanted()), self.key):
            report = self.run(source)
        assert report.status in DONE, report.error
        after, now = self.contents(), self.on_disk()
        for path, content in self.wanted_by(source).items():
            assert after.get(path) == content, (path, report)
            if before.get(path) == content and self.keeps_inodes:
                assert now[path].st_ino == stats[path].st_ino, f"{path} was right and was touched"
                owned = self.ids in ((None, None), (stats[path].st_uid, stats[path].st_gid))
                assert not owned or now[path].st_ctime_ns == stats[path].st_ctime_ns, path
            if self.ids != (None, None):
                assert (now[path].st_uid, now[path].st_gid) == self.ids, path
        self.judge_what_is_there(before)

    def judge_what_is_there(self, before: dict[str, bytes]) -> None:
        after, wanted = self.contents(), self.wanted()
        for path in before:
            assert path in after or path not in wanted, f"{path} is wanted and gone"
        for path, content in after.items():
            known = {node for tree in self.trees for node in tree.values()}
            assert content in known or os.path.basename(path).startswith(".syncd-"), path

    # --- how --------------------------------------------------------------------------------------

    def jobs(self) -> dict[str, Job]:
        return {self.names[source]: self.job(source) for source in SOURCES}

    def job(self, source: str) -> Job:
        """Its folder, without the file `one`; `a/one` is listed by the job that `shared_by`
        names.
        """
        to = f"{self.folder}/dest/{self.spelled[source]}/x"
        rules = [PathRule(source, to, True, exclude=(f"/{SHARED}",))]
        owners = {"b"} if source == "b" else set()
        owners |= {"a"} if source == self.shared_by else set()
        for owner in sorted(owners):
            rules.append(PathRule(f"{owner}/{SHARED}", self.shared_path(owner), False))
        owner_text = None if self.ids == (None, None) else "web"
        limits = Limits(delete_share=1.0, empty=True)
        return Job(
            self.names[source],
            "me",
            "acme/infra",
            "main",
            tuple(rules),
            limits=limits,
            prune=self.prune,
            owner=owner_text,
        )

    def shared_path(self, owner: str) -> str:
        return f"{self.folder}/dest/S/{owner}-{SHARED}"

    def wanted_by(self, source: str) -> dict[str, bytes]:
        """Real path -> content of everything that the job lists now."""
        found: dict[str, bytes] = {}
        tree = self.trees[-1]
        place = self.places[source]
        for path, content in tree.items():
            name = path.removeprefix(f"{source}/")
            if name != path and name != SHARED and isinstance(content, bytes):
                found[self.key(f"{self.folder}/dest/{place}/x/{name}")] = content
        for path_rule in self.job(source).paths:
            content = tree.get(path_rule.source)
            if not path_rule.directory and isinstance(content, bytes):
                found[self.key(path_rule.to)] = content
        return found

    def wanted(self) -> dict[str, bytes]:
        return self.wanted_by("a") | self.wanted_by("b")

    def on_disk(self) -> dict[str, os.stat_result]:
        found = {}
        for place, _, files in os.walk(self.folder / "dest"):
            for name in files:
                path = os.path.join(place, name)
                found[self.key(path)] = os.lstat(path)
        return found

    def contents(self) -> dict[str, bytes]:
        found = {}
        for place, _, files in os.walk(self.folder / "dest"):
            for name in files:
                path = os.path.join(place, name)
                found[self.key(path)] = self.read(path)
        return found

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def run(self, source: str) -> RunReport:
        jobs = self.jobs()
        with self.opened(jobs) as store:
            store.rename(self.names[source])
            ctx = self.run_context(store, jobs)
            return run_job(self.job(source), ctx, Deadline(self.clock, 600.0), Options())

    @contextmanager
    def opened(self, jobs: dict[str, Job]) -> Iterator[SqliteStore]:
        store = SqliteStore.open(self.folder / "state")
        try:
            follow_renames(jobs, store)
            yield store
        finally:
            store.close()

    def run_context(self, store: SqliteStore, jobs: dict[str, Job]) -> RunContext:
        memory = MemorySource(self.trees)
        memory.head = len(self.trees) - 1
        disk = DiskMirror(self.folder / "state/trash", self.clock)
        blobs = BlobCache(self.folder / "state/blobs")
        ids = self.ids
        ctx = RunContext(
            memory,
            store,
            disk,
            blobs,
            self.clock,
            lambda text: ids if text else (None, None),
            "scope",
            frozenset(jobs),
        )
        others = OtherJobs(jobs, resolve, lambda job, deadline: wanted_set(job, ctx, deadline))
        return replace(ctx, others=others)


@contextmanager
def watched_removals(wanted: set[str], key: Callable[[str], str]) -> Iterator[None]:
    """While the block runs, no name of a wanted file is unlinked."""
    unlink = os.unlink

    def watched(name: str, *, dir_fd: int | None = None) -> None:
        place = os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else ""
        assert key(os.path.join(place, name)) not in wanted, f"{name} is removed and a job lists it"
        unlink(name, dir_fd=dir_fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", watched)
        yield


TestDestinations = Destinations.TestCase
TestDestinations.settings = looked_at(10)
