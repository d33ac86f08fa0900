"""The stage of every fault test: a mirror with everything a run can do to a file, a real store,
disk and cache, and a source in memory.

Two sets, `A` and `B`, are brought in turn. Going from either to the other adds, changes, deletes,
changes a mode and a link, makes folders and lets them go, turns a file into a folder and a folder
into a file. Whatever a fault does in between, `shown_wrong` says what must never be seen, and
`heal` that one more run brings the whole set, leaves nothing behind and touched nobody's file.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from syncd.deadline import Deadline
from syncd.engine.context import Options, RunContext
from syncd.engine.run import run_job
from syncd.errors import SyncdError
from syncd.git_objects import EXECUTABLE, FILE, LINK, blob_id
from syncd.mirror.disk_mirror import DiskMirror
from syncd.models import (
    CommitSummary,
    Job,
    Listing,
    Ownership,
    PathRule,
    RunReport,
    RunStatus,
    TreeEntry,
)
from syncd.policies import Limits
from syncd.ports import BlobRequest, Blobs, BlobWriter, Head, ListingCache, Mirror, Pointer
from syncd.store.blobs import BlobCache
from syncd.store.lock import job_lock
from syncd.store.serialization import LEDGER, ledger_row
from syncd.store.store import SqliteStore
from tests.support.clock import FakeClock

Node = bytes | tuple[str, bytes]  # a file, ("exec", bytes) or ("link", target)
Tree = Mapping[str, Node]

JOB = "job"
A: dict[str, Node] = {
    "conf/keep": b"the same in both\n",
    "conf/change": b"old\n" * 50,
    "conf/delete": b"goes\n",
    "conf/mode": b"#!/bin/sh\n",
    "conf/swap/inner": b"a folder first\n",
    "conf/swap/deep/er": b"two levels\n",
    "conf/flip": b"a file first\n",
    "conf/gone/deep/file": b"its folders go with it\n",
    "conf/link": ("link", b"change"),
    "conf/big": b"0123456789abcdef" * 4096,
    "single": b"one\n",
}
B: dict[str, Node] = {
    "conf/keep": b"the same in both\n",
    "conf/change": b"new\n" * 70,
    "conf/add": b"comes\n",
    "conf/mode": ("exec", b"#!/bin/sh\n"),
    "conf/swap": b"a file then\n",
    "conf/flip/inner": b"a folder then\n",
    "conf/flip/deep/er": b"two levels then\n",
    "conf/fresh/deep/file": b"its folders come with it\n",
    "conf/link": ("link", b"keep"),
    "conf/big": b"fedcba9876543210" * 4000,
    "single": b"two\n",
}
BRIDGES = (
    "conf/swap",
    "conf/flip",
)  # where a file gives way to a folder or the reverse, nothing may stand for an instant


def sets(extra: int = 0) -> tuple[dict[str, Node], dict[str, Node]]:
    """The two sets with so many more changing files, each in a folder of its own; past eight the
    writer syncs file systems beside files and folders.
    """
    more = [
        {f"conf/more/d{number:03d}/f": b"%d of %d\n" % (number, side) for number in range(extra)}
        for side in (0, 1)
    ]
    return A | more[0], B | more[1]


def rich(tree: Tree) -> dict[str, TreeEntry]:
    return {
        path: TreeEntry(_git_mode(node), blob_id(_content(node)), len(_content(node)))
        for path, node in tree.items()
    }


def _git_mode(node: Node) -> int:
    return FILE if isinstance(node, bytes) else EXECUTABLE if node[0] == "exec" else LINK


def _content(node: Node) -> bytes:
    return node if isinstance(node, bytes) else node[1]


class MemorySource:
    """A repository whose head is one set; commits are numbered."""

    def __init__(self, trees: Sequence[Tree], meanwhile: Callable[[], None] | None = None) -> None:
        self.meanwhile = (
            meanwhile  # what others do between the look at the disk and the first write
        )
        self.trees = [rich(tree) for tree in trees]
        self.contents = {
            blob_id(_content(node)): _content(node) for tree in trees for node in tree.values()
        }
        self.head = 0

    def resolve(self, repo: str, ref: str | None, known: Head | None, deadline: Deadline) -> Head:
        commit = f"{self.head + 1:040x}"
        return Head(commit, unchanged=known is not None and known.commit == commit)

    def listing(
        self,
        repo: str,
        commit: str,
        rules: Sequence[PathRule],
        memory: ListingCache,
        deadline: Deadline,
        at_most: int | None = None,
        tree: str | None = None,
    ) -> Listing:
        return Listing(self.trees[int(commit, 16) - 1])

    def fetch(
        self,
        repo: str,
        commit: str,
        wanted: Sequence[BlobRequest],
        blobs: Blobs,
        deadline: Deadline,
    ) -> int:
        if self.meanwhile is not None:
            self.meanwhile()
            self.meanwhile = None
        with blobs.bulk_writer() as packed:  # every second one in a pack, as of an archive
            keepers: tuple[BlobWriter, BlobWriter] = (blobs, packed)
            return sum(
                keepers[number % 2].add(
                    one.entry.id, [self.contents[one.entry.id]], len(self.contents[one.entry.id])
                )
                for number, one in enumerate(wanted)
            )

    def listing_version(self, head: Head) -> str | None:
        return None

    def verification(self, repo: str, commit: str, deadline: Deadline) -> tuple[bool, str]:
        return False, "unsigned"

    def commit_summary(self, repo: str, commit: str, deadline: Deadline) -> CommitSummary:
        return CommitSummary("a change", "Ada")

    def commit_object(self, repo: str, commit: str, deadline: Deadline) -> bytes | None:
        return None

    def tag_object(self, repo: str, name: str, deadline: Deadline) -> bytes | None:
        return None

    def history(self, repo: str, commit: str, deadline: Deadline) -> dict[str, bytes]:
        return {}

    def is_descendant(self, repo: str, before: str, commit: str, deadline: Deadline) -> bool:
        return int(before, 16) <= int(commit, 16)

    def fetch_lfs(
        self, repo: str, pointers: Sequence[Pointer], blobs: Blobs, deadline: Deadline
    ) -> dict[Pointer, str]:
        raise AssertionError("no pointers here")


@dataclass
class Scene:
    """`base` holds the destinations, `state` the store, the cache and the trash;
    they may be on different devices.
    """

    base: Path
    state: Path
    trees: tuple[dict[str, Node], dict[str, Node]] = field(default_factory=sets)
    head: int = 0
    foreign: dict[str, tuple[bytes, int, int]] = field(default_factory=dict)
    meanwhile: Callable[[], None] | None = None

    @property
    def job(self) -> Job:
        rules = (
            PathRule("conf", f"{self.base}/one/conf", True),
            PathRule("single", f"{self.base}/two/sub/single", False),
        )
        return Job(JOB, "me", "acme/infra", "main", rules, limits=Limits(delete_share=1.0))

    def begin(self) -> Scene:
        """The first set stands, with files of others beside and between ours."""
        for name in (
            "one/theirs",
            "one/conf/theirs",
            "one/conf/.syncd-0123456789ab-0123456789abcdef",
            "one/conf/.syncd-notes",
            "one/conf/gone/theirs",
            "two/theirs",
        ):
            self._plant(name)
        report = self.run()
        if report.error is not None:
            raise AssertionError(f"the scene can't be set: {report.error}")
        self._plant("one/conf/gone/deep/theirs")  # in a folder that syncd made
        return self

    def _plant(self, name: str) -> None:
        place = self.base / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"not ours: " + name.encode())
        found = place.stat()
        self.foreign[str(place)] = (place.read_bytes(), found.st_ino, found.st_mtime_ns)

    def run(self, head: int | None = None) -> RunReport:
        """One whole run, as the one-shot does it: everything opened, the job brought,
        everything closed.
        """
        source = MemorySource(self.trees, self.meanwhile)
        source.head = self.head if head is None else head
        clock = FakeClock()
        store = SqliteStore.open(self.state)
        try:
            blobs = BlobCache(self.state / "blobs")
            ctx = RunContext(
                source,
                store,
                self.disk(clock),
                blobs,
                clock,
                lambda _: (None, None),
                "scope",
                frozenset({JOB}),
            )
            with job_lock(self.state, JOB), blobs.shared_lock():
                return run_job(self.job, ctx, Deadline(clock, 600.0), Options())
        finally:
            store.close()

    def disk(self, clock: FakeClock) -> Mirror:
        return DiskMirror(self.state / "trash", clock)

    # --- what stands ------------------------------------------------------------------------------

    def path_of(self, source: str) -> Path:
        return self.base / "two/sub/single" if source == "single" else self.base / "one" / source

    def _source_of(self, path: str) -> str:
        return "single" if path.endswith("/single") else os.path.relpath(path, self.base / "one")

    def shown(self) -> dict[str, Node]:
        """Repository path -> what a reader meets at its destination; folders end in `/`.

        Foreign files and temporary files are left out.
        """
        found: dict[str, Node] = {}
        for place, names, files in os.walk(self.base / "one/conf"):
            for name in [*names, *files]:
                path = os.path.join(place, name)
                if path in self.foreign or name.startswith(".syncd-"):
                    continue
                relative = os.path.relpath(path, self.base / "one")
                if os.path.isdir(path) and not os.path.islink(path):
                    found[relative + "/"] = b""
                else:
                    found[relative] = look(path)
        single = self.path_of("single")
        if os.path.lexists(single):
            found["single"] = look(str(single))
        return found

    def expected(self, head: int) -> dict[str, Node]:
        tree = self.trees[head]
        theirs = [
            os.path.relpath(path, self.base / "one") for path in self.foreign if "/conf/" in path
        ]
        folders = {
            parent + "/"
            for path in [*tree, *theirs]
            for parent in _parents(path)
            if parent.startswith("conf/")
        }
        return dict(tree) | dict.fromkeys(folders, b"")

    def shown_wrong(self) -> list[str]:
        """Everything seen right after a fault that must never be seen: neither old nor new,
        or a touched file of others.
        """
        before, after, shown = self.trees[1 - self.head], self.trees[self.head], self.shown()
        wrong = []
        for path in before.keys() | after.keys():
            allowed: list[Node | None] = [before.get(path), after.get(path)]
            if any(path == bridge or path.startswith(bridge + "/") for bridge in BRIDGES):
                allowed.append(None)
            if shown.get(path) not in allowed:
                wrong.append(f"torn: {path}: {str(shown.get(path))[:60]}")
        wrong += [
            f"unknown: {path}"
            for path in shown
            if not path.endswith("/") and path not in before and path not in after
        ]
        return wrong + self.foreign_touched() + self.ledger_leads()

    def foreign_touched(self) -> list[str]:
        wrong = []
        for path, (content, inode, mtime) in self.foreign.items():
            try:
                found = os.stat(path)
                if (Path(path).read_bytes(), found.st_ino, found.st_mtime_ns) != (
                    content,
                    inode,
                    mtime,
                ):
                    wrong.append(f"foreign: {path} was touched")
            except FileNotFoundError:
                wrong.append(f"foreign: {path} is gone")
        return wrong

    def ledger_leads(self) -> list[str]:
        """Ledger rows that claim what the disk does not hold,
        but for what an unfinished intent is about.

        Read without healing anything.
        """
        if not (self.state / "syncd.db").exists():
            return []
        with tempfile.TemporaryDirectory(dir=self.state) as copy:
            for file in self.state.glob("syncd.db*"):
                if file.suffix != ".db-shm" and not file.name.endswith("-shm"):
                    shutil.copy(file, copy)
            connection = sqlite3.connect(f"{copy}/syncd.db")
            try:
                sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
                open_paths = {
                    path
                    for (path,) in connection.execute(
                        "SELECT path FROM intent_action WHERE job = ?", (JOB,)
                    )
                }
                columns = ", ".join(column.name for column in LEDGER)
                rows = {
                    row[0]: ledger_row(row)
                    for row in connection.execute(
                        f"SELECT {columns} FROM file WHERE job = ?", (JOB,)
                    )
                }
            except sqlite3.DatabaseError as error:
                return [f"store: {error}"]
            finally:
                connection.close()
            if sound != "ok":
                return [f"store: {sound}"]
        wrong = []
        for path, row in rows.items():
            if path in open_paths or row.ownership is not Ownership.OWNED:
                continue
            node = look(path) if os.path.islink(path) or os.path.isfile(path) else None
            new = self.trees[self.head].get(self._source_of(path))
            lags = node == new or (
                node is None and any(bridge in path for bridge in BRIDGES)
            )  # a row may be behind the disk, never before it
            if not lags and (node is None or blob_id(_content(node)) != row.entry.blob):
                wrong.append(f"ledger leads: {path}")
        return wrong

    def leftovers(self) -> list[str]:
        return [
            f"left over: {path}"
            for path in _walk(self.base)
            if os.path.basename(path).startswith(".syncd-") and path not in self.foreign
        ]

    def heal(self) -> list[str]:
        """What is still wrong after one more run, which nobody helped: nothing,
        or the promise is broken.
        """
        try:
            report = self.run()
        except SyncdError as error:
            return [f"needs a person: {error}"]
        except Exception as error:
            return [f"traceback: {error!r}"]
        if report.status not in (RunStatus.CHANGED, RunStatus.UNCHANGED):
            return [f"needs a person: {report.error}"]
        shown, expected = self.shown(), self.expected(self.head)
        wrong = [
            f"does not converge: {path}: {str(shown.get(path))[:50]}"
            for path in shown.keys() | expected.keys()
            if shown.get(path) != expected.get(path)
        ]
        return wrong + self.leftovers() + self.foreign_touched()


def look(path: str) -> Node:
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        return ("link", os.fsencode(os.readlink(path)))
    if not stat.S_ISREG(found.st_mode):
        return ("special", b"%o" % stat.S_IFMT(found.st_mode))  # a FIFO would be waited for
    content = Path(path).read_bytes()
    return ("exec", content) if found.st_mode & 0o100 else content


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts))]


def _walk(base: Path) -> list[str]:
    return [
        os.path.join(place, name)
        for place, names, files in os.walk(base)
        for name in [*names, *files]
    ]


class Workbench:
    """A scene in memory-backed folders, or in the given ones, made anew whenever a fault left
    something that a run could not heal.

    `scene` is the kind of scene: what `publish: symlink` does is tried by the same faults with
    another one.
    """

    def __init__(
        self,
        extra: int = 0,
        folder: Path | None = None,
        scene: type[Scene] = Scene,
        base: Path | None = None,
        state: Path | None = None,
        trees: tuple[dict[str, Node], dict[str, Node]] | None = None,
    ) -> None:
        self.folder = Path(
            tempfile.mkdtemp(
                prefix="syncd-fault-",
                dir="/dev/shm" if folder is None and os.path.isdir("/dev/shm") else folder,
            )
        )
        self.kind, self.trees = scene, trees or sets(extra)
        self.base, self.state = base or self.folder / "base", state or self.folder / "state"
        self.scene = self._new()

    def turn(self) -> None:
        """The other set is next, and its content has to be fetched again: every run of one
        direction passes the same lines and calls.
        """
        self.scene.head = 1 - self.scene.head
        shutil.rmtree(self.scene.state / "blobs", ignore_errors=True)
        for file in self.scene.state.glob("cache.db*"):
            file.unlink()

    def _new(self) -> Scene:
        self.clear()
        return self.kind(self.base, self.state, self.trees).begin()

    def renew(self) -> None:
        self.scene = self._new()

    def clear(self) -> None:
        for place in (self.base, self.state):
            with suppress(FileNotFoundError):
                shutil.rmtree(place)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
