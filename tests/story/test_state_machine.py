"""Whatever happens in whatever order - pushes, edits, kills, rollbacks, pauses, changed policies, a
lost store - the promises hold after every step.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.engine.context import Options, RunContext
from syncd.engine.rollback import rollback_target
from syncd.engine.run import run_job
from syncd.errors import SyncdError
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.symlink_publish import mirror_for
from syncd.models import Job, Ownership, PathRule, RunReport, RunStatus, Trigger
from syncd.policies import Drift, Limits, Prune, Publish
from syncd.ports import Pause
from syncd.store.blobs import BlobCache
from syncd.store.store import SqliteStore
from tests.fault.points import FAILED, in_child, kill_self_at_line
from tests.fault.scene import MemorySource, Node, look
from tests.support.clock import FakeClock

FOLDERS = (".", "d", "e", "e/f", "skip")
NAMES = ("a", "b", "d/x", "d/y", "e/f/g", "skip/me")
CONTENTS: tuple[Node, ...] = (b"one\n", b"two\n", b"three\n", ("exec", b"#!/bin/sh\n"))
ALWAYS = ("always", b"here\n")


@dataclass(frozen=True)
class Folders:
    """What stands: each folder's mode, which are ours by the store, and which hold something of the
    set, or are yet to be made: whoever changes another's mode is not known.
    """

    modes: dict[str, int]
    ours: set[str]
    in_use: set[str]


class Mirror(RuleBasedStateMachine):
    """The model: every tree ever pushed, what a person last put where,
    and what a run may therefore leave behind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(
            tempfile.mkdtemp(
                prefix="syncd-machine-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
            )
        )
        self.dest, self.state = self.folder / "dest", self.folder / "state"
        self.make_place()
        self.clock = FakeClock()
        self.trees: list[dict[str, Node]] = [dict([ALWAYS])]
        self.at = 0
        self.job = replace(self.basis, paths=(PathRule("", str(self.dest), True),))
        self.put: dict[
            str, Node | None
        ] = {}  # what a person did to a name, and no run has answered since
        self.touched: set[str] = (
            set()
        )  # folders whose mode a person changed, and no run has answered since
        self.own: dict[str, tuple[bytes, int, int]] = {}
        self.left_alone = False
        self.nobodys: set[str] = set()

    basis = Job("job", "me", "acme/infra", "main", (), limits=Limits(delete_share=1.0))

    def make_place(self) -> None:
        self.dest.mkdir()

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what happens -----------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), content=st.sampled_from(CONTENTS))
    def push(self, name: str, content: Node) -> None:
        self.trees.append({**self.trees[self.at], name: content})
        self.at = len(self.trees) - 1

    @rule(name=st.sampled_from(NAMES))
    def drop(self, name: str) -> None:
        self.trees.append(
            {path: node for path, node in self.trees[self.at].items() if path != name}
        )
        self.at = len(self.trees) - 1

    @rule()
    def force_push_back(self) -> None:
        self.at = max(0, self.at - 1)

    @rule(name=st.sampled_from(NAMES), number=st.integers(0, 3))
    def edit(self, name: str, number: int) -> None:
        place = self.dest / name
        if place.parent.is_dir() and not place.is_dir():
            place.write_bytes(b"edited %d\n" % number)
            self.put[name] = look(str(place))

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        if (self.dest / name).is_file():
            (self.dest / name).unlink()
            self.put[name] = None

    @rule(name=st.sampled_from(NAMES), mode=st.sampled_from((0o600, 0o755)))
    def chmod(self, name: str, mode: int) -> None:
        if (self.dest / name).is_file():
            (self.dest / name).chmod(mode)
            self.put[name] = look(str(self.dest / name))

    @rule(name=st.sampled_from(FOLDERS), mode=st.sampled_from((0o700, 0o711)))
    def chmod_a_folder(self, name: str, mode: int) -> None:
        if name in self._modes():
            (self.dest / name).chmod(mode)
            self.touched.add(name)

    @rule(name=st.sampled_from(("mine", "d/mine", ".syncd-0123456789ab-0123456789abcdef")))
    def file_of_my_own(self, name: str) -> None:
        place = self.dest / name
        if place.parent.is_dir():
            place.write_bytes(b"mine\n")
            self.own[name] = (b"mine\n", self.inode_of(place.stat()), place.stat().st_mtime_ns)

    @rule(
        drift=st.sampled_from(Drift),
        prune=st.sampled_from(Prune),
        exclude=st.booleans(),
        dir_mode=st.sampled_from((0o755, 0o750)),
    )
    def change_configuration(
        self, drift: Drift, prune: Prune, exclude: bool, dir_mode: int
    ) -> None:
        rule = PathRule("", str(self.dest), True, exclude=("skip/",) if exclude else ())
        self.job = replace(self.job, drift=drift, prune=prune, paths=(rule,), dir_mode=dir_mode)

    @rule()
    def lose_the_store(self) -> None:
        """What a killed run left is nobody's then: a name that looks like ours is no proof,
        and nothing is removed on doubt.
        """
        shutil.rmtree(self.state, ignore_errors=True)
        self.left_alone = False
        self.nobodys |= {
            name for name in self._all() if os.path.basename(name).startswith(".syncd-")
        }

    @rule()
    def lose_the_cache(self) -> None:
        shutil.rmtree(self.state / "blobs", ignore_errors=True)
        for file in self.state.glob("cache.db*"):
            file.unlink()

    @rule(minutes=st.sampled_from((None, 5)))
    def pause(self, minutes: int | None) -> None:
        self._change_state(pause=Pause("by hand"))
        self.left_alone = True

    @rule()
    def resume(self) -> None:
        self._change_state(pause=None, held=False)
        self.left_alone = False

    @rule(line=st.integers(1, 4000))
    def a_run_that_is_killed(self, line: int) -> None:
        before = self._shown()
        in_child(lambda: kill_self_at_line(line, lambda: self._ending(Options())))
        shown = self._shown()
        for name in NAMES:  # whole: what stood there, or what the head has
            assert shown.get(name) in (before.get(name), self._wanted().get(name)), name
        self.put = {
            name: node for name, node in self.put.items() if shown.get(name) == before.get(name)
        }

    @rule()
    def a_run(self) -> None:
        self._run_and_judge(Options())

    @rule()
    def a_rollback(self) -> None:
        with self._ctx() as (_, store):
            try:
                back = rollback_target(self.job, store.sets("job"), store.state("job"), None)
            except SyncdError:
                return
        before, folders = self._shown(), self._folders()
        report = self._run(Options(trigger=Trigger.ROLLBACK, rollback_set=back))
        if report.status not in (RunStatus.CHANGED, RunStatus.UNCHANGED):
            assert self._may_fail(report), report.error
            return
        assert report.commit == back.commit
        self.left_alone = True
        shown = self._shown()
        if self.job.drift is Drift.RESTORE:
            for path, entry in back.files.items():
                name = os.path.relpath(path, self.dest)
                assert shown.get(name) == self.trees[int(back.commit, 16) - 1].get(name), name
                assert entry.blob
        self._judge_folders(
            folders,
            {os.path.relpath(path, self.dest) for path in back.files},
            {entry.dir_mode for entry in back.files.values()},
        )
        self._judge_removals(before, {os.path.relpath(path, self.dest) for path in back.files})
        self._answered()

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def files_of_others_are_untouched(self) -> None:
        for name, (content, inode, mtime) in self.own.items():
            found = (self.dest / name).stat()
            assert ((self.dest / name).read_bytes(), self.inode_of(found), found.st_mtime_ns) == (
                content,
                inode,
                mtime,
            ), name

    def inode_of(self, found: os.stat_result) -> int:
        return found.st_ino

    @invariant()
    def every_file_is_whole_and_somebodys(self) -> None:
        for name, node in self._shown().items():
            known = [tree.get(name) for tree in self.trees]
            content = node if isinstance(node, bytes) else node[1]
            contents = [
                one if isinstance(one, bytes) else one[1] for one in known if one is not None
            ]
            assert content in contents or content.startswith(b"edited "), (name, node)

    @precondition(lambda self: self.state.exists())
    @invariant()
    def what_is_kept_beside_the_mirror_is_private(self) -> None:
        for place, names, files in os.walk(self.state):
            for name in names:
                assert os.stat(os.path.join(place, name)).st_mode & 0o077 == 0, name
            for name in files:
                assert os.stat(os.path.join(place, name)).st_mode & 0o077 == 0, name

    # --- how --------------------------------------------------------------------------------------

    def _run_and_judge(self, options: Options) -> None:
        before, recorded, folders = self._shown(), self._recorded(), self._folders()
        report = self._run(options)
        if self.left_alone:
            assert (
                report.status is RunStatus.SKIPPED
                and self._shown() == before
                and self._folders() == folders
            )
            return
        if report.status not in (RunStatus.CHANGED, RunStatus.UNCHANGED):
            assert self._may_fail(report), report.error
            return
        wanted, shown = self._wanted(), self._shown()
        for name, node in wanted.items():
            if self.job.drift is Drift.RESTORE or name not in self.put:
                assert shown.get(name) == node or (
                    self.job.drift is not Drift.RESTORE and recorded.get(name) is None
                ), (name, node, shown.get(name), report.changes)
            elif self.job.drift is Drift.KEEP:
                assert shown.get(name) in (before.get(name), node), (name, report.changes)
                if self.put[name] != node and isinstance(self.put[name], bytes):
                    assert shown.get(name) == before.get(name), "keep keeps"
        self._judge_removals(before, set(wanted))
        self._judge_folders(folders, set(wanted), {self.job.dir_mode})
        shown_folders = self._folders()
        assert not [
            name
            for name in self._all()
            if os.path.basename(name).startswith(".syncd-")
            and name not in {*self.own, *self.nobodys}
        ], "nothing of ours is left over"
        again = self._run(options)
        assert (
            again.status is RunStatus.UNCHANGED
            and self._shown() == shown
            and self._folders() == shown_folders
        ), again.changes
        self._answered()

    def _judge_removals(self, before: dict[str, Node], wanted: set[str]) -> None:
        """Nothing went but what was ours, unedited, and dropped;
        nothing at all under `prune: off`.
        """
        shown = self._shown()
        for name, node in before.items():
            if name not in shown and name not in wanted:
                assert self.job.prune is Prune.TRACKED, name
                assert any(
                    _content(tree[name]) == _content(node) for tree in self.trees if name in tree
                ), name

    def _judge_folders(self, before: Folders, wanted: set[str], modes: set[int]) -> None:
        """Each folder that syncd made and that holds something wanted is as asked, but for what a
        person did and a policy leaves; no other one's mode has changed.
        """
        after = self._folders()
        for name, mode in after.modes.items():
            if name not in after.ours:
                assert before.modes.get(name, mode) == mode, f"{name} was never ours"
            elif any(path.startswith("" if name == "." else f"{name}/") for path in wanted) and (
                self.job.drift is Drift.RESTORE
                or (name not in self.touched and name in before.in_use)
            ):
                assert {mode} <= modes, f"{name} is {mode:o}, asked were {modes}"

    def _answered(self) -> None:
        if self.job.drift is Drift.RESTORE:
            self.put.clear()
            self.touched.clear()

    def _may_fail(self, report: RunReport) -> bool:
        """A file of a person's own where a folder belongs; a path edited into the way."""
        return report.error is not None and report.error.kind == "mirror"

    def _wanted(self) -> dict[str, Node]:
        excluded = any(rule.exclude for rule in self.job.paths)
        return {
            name: node
            for name, node in self.trees[self.at].items()
            if not (excluded and name.startswith("skip/"))
        }

    def _all(self) -> list[str]:
        return [
            os.path.relpath(os.path.join(place, name), self.dest)
            for place, _, files in os.walk(self.dest)
            for name in files
        ]

    def _shown(self) -> dict[str, Node]:
        return {
            name: look(str(self.dest / name))
            for name in self._all()
            if name not in self.own and not os.path.basename(name).startswith(".syncd-")
        }

    def _recorded(self) -> dict[str, object]:
        with self._ctx() as (_, store):
            return {
                os.path.relpath(path, self.dest): row
                for path, row in store.load_ledger("job").items()
            }

    def _modes(self) -> dict[str, int]:
        """Every folder below the destination, and that itself, with its mode."""
        top = os.path.realpath(self.dest)
        return {
            os.path.relpath(place, top): os.stat(place).st_mode & 0o7777
            for place, _, _ in os.walk(top)
        }

    def _folders(self) -> Folders:
        with self._ctx() as (_, store):
            ours = {os.path.relpath(path, self.dest) for path in store.folders("job")}
            rows = {
                os.path.relpath(path, self.dest)
                for path, row in store.load_ledger("job").items()
                if row.ownership is not Ownership.UNLISTED
            }
        modes = self._modes()
        return Folders(
            modes,
            ours,
            {
                name
                for name in FOLDERS
                if name not in modes
                or name == "."
                or any(path.startswith(f"{name}/") for path in rows)
            },
        )

    def _change_state(self, **changes: object) -> None:
        with self._ctx() as (_, store):
            store.change_state("job", lambda state: replace(state, **changes))  # type: ignore[arg-type]

    def _run(self, options: Options) -> RunReport:
        with self._ctx() as (ctx, _):
            return run_job(self.job, ctx, Deadline(self.clock, 600.0), options)

    def _ending(self, options: Options) -> int:
        return (
            0 if self._run(options).status in (RunStatus.CHANGED, RunStatus.UNCHANGED) else FAILED
        )

    def _ctx(self) -> _Open:
        return _Open(self)


def _content(node: Node) -> bytes:
    return node if isinstance(node, bytes) else node[1]


class _Open:
    """Everything opened anew, as each command does it, and closed again."""

    def __init__(self, machine: Mirror) -> None:
        self.machine = machine

    def __enter__(self) -> tuple[RunContext, SqliteStore]:
        machine = self.machine
        source = MemorySource(machine.trees)
        source.head = machine.at
        self.store = SqliteStore.open(machine.state)
        disk = mirror_for(
            machine.job, DiskMirror(machine.state / "trash", machine.clock), machine.clock
        )
        return RunContext(
            source,
            self.store,
            disk,
            BlobCache(machine.state / "blobs"),
            machine.clock,
            lambda _: (None, None),
            "scope",
            frozenset({"job"}),
        ), self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


class Switched(Mirror):
    """The same behind one link: everybody reads and edits the live tree.

    A file of others is carried over, and so is another inode.
    """

    basis = replace(Mirror.basis, publish=Publish.SYMLINK, keep=3)

    def make_place(self) -> None:
        self.dest = self.folder / "app/current"

    def inode_of(self, found: os.stat_result) -> int:
        return 0

    @invariant()
    def the_folder_holds_the_link_and_whole_trees(self) -> None:
        if self.dest.parent.is_dir():
            trees = [
                name
                for name in os.listdir(self.dest.parent)
                if name != "current" and not name.startswith(".syncd-")
            ]
            assert self.dest.is_dir() or not os.path.lexists(self.dest), (
                "the link never leads nowhere"
            )
            assert os.path.lexists(self.dest) or not self._ran_well, "and never goes"
            assert len(trees) <= self.basis.keep + 2, (
                "the last ones, and what killed runs left until the next"
            )

    def _run(self, options: Options) -> RunReport:
        report = super()._run(options)
        self._ran_well = self._ran_well or report.status in (RunStatus.CHANGED, RunStatus.UNCHANGED)
        if report.status is RunStatus.CHANGED:
            names = [name for name in os.listdir(self.dest.parent) if name != "current"]
            assert len(names) <= self.basis.keep, f"older trees and leftovers are gone: {names}"
        return report

    _ran_well = False


EXAMPLES = os.environ.get("SYNCD_MACHINE_EXAMPLES")  # more, and others each time, for a long look


def looked_at(examples: int) -> settings:
    return settings(
        max_examples=int(EXAMPLES or examples),
        stateful_step_count=25,
        deadline=None,
        derandomize=EXAMPLES is None,
        database=None,
    )


TestMirror = Mirror.TestCase
TestMirror.settings = looked_at(20)
TestSwitched = Switched.TestCase
TestSwitched.settings = looked_at(8)
