"""What may stand where a file belongs, or happen to it: each fault against a file that is added,
changed and deleted by one run.

Whatever it is, the run ends by itself and without a traceback; every other file of ours is old or
new; nothing outside and nothing of others changes by a byte, an inode or a time; and a run that
could not do its work says so by name, heals when the thing is gone.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from syncd.models import ActionKind, RunReport, RunStatus
from tests.fault.mounts import shell
from tests.fault.points import Tally, ask_child
from tests.fault.scene import Node, Scene

SMALL: tuple[dict[str, Node], dict[str, Node]] = (
    {
        "conf/keep": b"same\n",
        "conf/other": b"old\n",
        "conf/sub/change": b"old\n" * 9,
        "conf/sub/delete": b"goes\n",
        "single": b"one\n",
    },
    {
        "conf/keep": b"same\n",
        "conf/other": b"new\n",
        "conf/sub/change": b"new\n" * 9,
        "conf/sub/add": b"comes\n",
        "conf/new/deep/file": b"comes\n",
        "single": b"two\n",
    },
)
OPERATIONS = ("add", "change", "delete")
FIFO_SECONDS = 1.0
THEIRS = {b"theirs\n", b"edited\n", b"not ours\n"}


@dataclass(frozen=True)
class Ground:
    """One case: the path of the file, its folder, where folders are put aside,
    and a place outside that must not be touched.
    """

    scene: Scene
    path: Path
    outside: Path

    @property
    def parent(self) -> Path:
        return self.path.parent

    @property
    def aside(self) -> Path:
        return self.scene.base / "aside"

    def clear(self) -> None:
        """Nothing stands at the path; whatever it was."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)

    def put_aside(self) -> None:
        self.parent.rename(self.aside)


Plant = Callable[[Ground], object]


@dataclass(frozen=True)
class Fault:
    plant: Plant
    meanwhile: bool = False  # between the look at the disk and the first write
    root: bool = False
    leaves_bytes: bool = False  # it leaves bytes of others, which must not be lost


def at_path(make: Callable[[Path, Path], object]) -> Plant:
    """Something else in the file's place; `make` gets the path and the folder outside."""

    def plant(ground: Ground) -> None:
        ground.clear()
        make(ground.path, ground.outside)

    return plant


def at_parent(make: Callable[[Path, Path], object]) -> Plant:
    """Something else in the place of the file's folder."""

    def plant(ground: Ground) -> None:
        ground.put_aside()
        make(ground.parent, ground.outside)

    return plant


def on_file(act: Callable[[Path], object]) -> Plant:
    """Something done to the file; one that is to be added is there already, with other bytes."""

    def plant(ground: Ground) -> None:
        if not ground.path.exists():
            ground.path.write_bytes(b"theirs\n")
        act(ground.path)

    return plant


def _socket(path: Path, _outside: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _full_folder(path: Path, _outside: Path) -> None:
    path.mkdir()
    (path / "theirs").write_bytes(b"not ours\n")


def _bind(path: Path, outside: Path) -> None:
    path.touch()
    shell("mount", "--bind", outside / "change", path)


def _read_only(ground: Ground) -> None:
    shell("mount", "--bind", ground.parent, ground.parent)
    shell("mount", "-o", "remount,ro,bind", ground.parent)


def _second_name(ground: Ground) -> None:
    if not ground.path.exists():
        ground.path.write_bytes(b"theirs\n")
    os.link(ground.path, ground.scene.base / "aside")


FAULTS: dict[str, Fault] = {
    "a link to a file outside": Fault(
        at_path(lambda path, outside: path.symlink_to(outside / "change"))
    ),
    "a relative link to a file outside": Fault(
        at_path(
            lambda path, outside: path.symlink_to(os.path.relpath(outside / "change", path.parent))
        )
    ),
    "a link to another file of ours": Fault(at_path(lambda path, _: path.symlink_to("../keep"))),
    "a dangling link": Fault(at_path(lambda path, outside: path.symlink_to(outside / "nothing"))),
    "a link to itself": Fault(at_path(lambda path, _: path.symlink_to(path.name))),
    "a link to a folder outside": Fault(at_path(lambda path, outside: path.symlink_to(outside))),
    "an empty folder": Fault(at_path(lambda path, _: path.mkdir())),
    "a folder with a file of others": Fault(at_path(_full_folder)),
    "a FIFO": Fault(at_path(lambda path, _: os.mkfifo(path))),
    "a socket": Fault(at_path(_socket)),
    "a hardlink of a file outside": Fault(
        at_path(lambda path, outside: os.link(outside / "change", path))
    ),
    "a second name of our file": Fault(_second_name),
    "other bytes": Fault(on_file(lambda path: path.write_bytes(b"edited\n"))),
    "nothing in it": Fault(on_file(lambda path: path.write_bytes(b""))),
    "another mode": Fault(on_file(lambda path: path.chmod(0o600))),
    "permissions 000": Fault(on_file(lambda path: path.chmod(0))),
    "nothing": Fault(lambda ground: ground.clear()),
    "a file in its folder's place": Fault(
        at_parent(lambda parent, _: parent.write_bytes(b"theirs\n"))
    ),
    "a link to outside in its folder's place": Fault(
        at_parent(lambda parent, outside: parent.symlink_to(outside))
    ),
    "a link to our own in its folder's place": Fault(
        at_parent(lambda parent, _: parent.symlink_to("../aside"))
    ),
    "a dangling link in its folder's place": Fault(
        at_parent(lambda parent, outside: parent.symlink_to(outside / "nothing"))
    ),
    "a loop in its folder's place": Fault(
        at_parent(lambda parent, _: parent.symlink_to(parent.name))
    ),
    "a FIFO in its folder's place": Fault(at_parent(lambda parent, _: os.mkfifo(parent))),
    "an empty folder in its folder's place": Fault(at_parent(lambda parent, _: parent.mkdir())),
    "its folder gone": Fault(lambda ground: shutil.rmtree(ground.parent)),
    "its folder without permissions": Fault(lambda ground: ground.parent.chmod(0)),
    "its folder writable by everybody": Fault(lambda ground: ground.parent.chmod(0o777)),
    "edited while running": Fault(
        on_file(lambda path: path.write_bytes(b"edited\n")), meanwhile=True, leaves_bytes=True
    ),
    "deleted while running": Fault(lambda ground: ground.clear(), meanwhile=True),
    "a link to outside put there while running": Fault(
        at_path(lambda path, outside: path.symlink_to(outside / "change")), meanwhile=True
    ),
    "a FIFO put there while running": Fault(
        at_path(lambda path, _: os.mkfifo(path)), meanwhile=True
    ),
    "a folder put there while running": Fault(
        at_path(_full_folder), meanwhile=True, leaves_bytes=True
    ),
    "its folder swapped with a link to outside while running": Fault(
        at_parent(lambda parent, outside: parent.symlink_to(outside)), meanwhile=True
    ),
    "its folder deleted while running": Fault(
        lambda ground: shutil.rmtree(ground.parent), meanwhile=True
    ),
    "its folder moved away while running": Fault(at_parent(lambda parent, _: None), meanwhile=True),
    "a character device": Fault(
        at_path(lambda path, _: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))), root=True
    ),
    "a block device": Fault(
        at_path(lambda path, _: os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(7, 250))), root=True
    ),
    "another owner": Fault(on_file(lambda path: os.chown(path, 65534, 65534)), root=True),
    "immutable": Fault(on_file(lambda path: shell("chattr", "+i", path)), root=True),
    "append-only": Fault(on_file(lambda path: shell("chattr", "+a", path)), root=True),
    "its folder immutable": Fault(lambda ground: shell("chattr", "+i", ground.parent), root=True),
    "made immutable while running": Fault(
        on_file(lambda path: shell("chattr", "+i", path)), root=True, meanwhile=True
    ),
    "a file mounted there": Fault(at_path(_bind), root=True),
    "its folder mounted read-only": Fault(_read_only, root=True),
    "another file system mounted over its folder": Fault(
        lambda ground: shell("mount", "-t", "tmpfs", "tmpfs", ground.parent), root=True
    ),
    "its folder mounted read-only while running": Fault(_read_only, root=True, meanwhile=True),
}


def names(root: bool) -> list[str]:
    return [name for name, fault in FAULTS.items() if fault.root is root]


class Yard:
    """One small scene for many cases: each begins with the first set and ends with it."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder / "outside"
        self.outside.mkdir()
        for name in OPERATIONS:
            (self.outside / name).write_bytes(SMALL[0].get(f"conf/sub/{name}", b"outside\n"))  # type: ignore[arg-type]
        self.scene = Scene(folder / "base", folder / "state", SMALL).begin()
        self.scene.head = 1
        self.usual_seconds = self.scene.run().seconds
        self.scene.head = 0
        self.scene.run()

    def case(self, name: str, operation: str) -> tuple[list[str], str]:
        """What was wrong, and how the run ended in words."""
        fault, scene = FAULTS[name], self.scene
        shutil.rmtree(scene.state / "trash", ignore_errors=True)  # the same bytes are kept once
        scene.head = 1
        ground = Ground(scene, scene.base / "one/conf/sub" / operation, self.outside)
        if fault.meanwhile:
            scene.meanwhile = lambda: (fault.plant(ground), None)[1]
        else:
            fault.plant(ground)
        stood, theirs = self._outside(), self._bytes_of_others()
        report = ask_child(scene.run)
        scene.meanwhile = None
        wrong = [] if self._outside() == stood else [f"outside was touched: {self._outside()}"]
        wrong += [
            f"blocked: {report.seconds:.1f} s"
            for _ in "."
            if "FIFO" in name and report.seconds > FIFO_SECONDS + self.usual_seconds
        ]
        wrong += (
            []
            if self._bytes_of_others() >= theirs + self._planted(fault)
            else ["lost: bytes of others are neither in their place nor in the trash"]
        )
        wrong += (
            self._others_wrong(f"conf/sub/{operation}", "folder" in name)
            + scene.foreign_touched()
            + self._honest(report, operation)
        )
        self._undo(ground)
        wrong += scene.heal()
        scene.head = 0
        shutil.rmtree(scene.base / "aside", ignore_errors=True)
        wrong += scene.heal()
        actions = ", ".join(sorted({change.action.value for change in report.changes}))
        said = report.error.message if report.error else actions
        return wrong, f"{report.status.value}: {said}"

    def _bytes_of_others(self) -> int:
        """How many files of other people's bytes there are, in their place or in the trash."""
        return sum(
            content in THEIRS
            for place in (self.scene.base, self.scene.state / "trash")
            for content in _contents(place)
        )

    def _planted(self, fault: Fault) -> int:
        """Such files that came while the run was under way, and could not be counted before it."""
        return 1 if fault.meanwhile and fault.leaves_bytes else 0

    def _outside(self) -> list[tuple[str, bytes, int, int, int]]:
        """Names, bytes, inodes, modes and times; not ctime, which making a hardlink moves."""
        found = [(one, one.lstat()) for one in sorted(self.outside.iterdir())]
        return [
            (one.name, one.read_bytes(), stats.st_ino, stats.st_mode, stats.st_mtime_ns)
            for one, stats in found
        ]

    def _others_wrong(self, target: str, whole_folder: bool) -> list[str]:
        """Every file of ours but the one that is tried is old or new;
        where its folder was swapped, so are its neighbours tried.
        """
        shown = self.scene.shown()
        return [
            f"torn: {path}: {str(shown.get(path))[:60]}"
            for path in SMALL[0].keys() | SMALL[1].keys()
            if path != target
            and not (whole_folder and path.startswith("conf/sub/"))
            and shown.get(path) not in (SMALL[0].get(path), SMALL[1].get(path))
        ]

    def _honest(self, report: RunReport, operation: str) -> list[str]:
        """A success means that the new set stands, or that what was left is named."""
        if report.status not in (RunStatus.CHANGED, RunStatus.UNCHANGED):
            error = report.error
            return (
                []
                if error is not None and str(self.scene.base) in error.message
                else [f"says no place: {error}"]
            )
        path = f"conf/sub/{operation}"
        shown, wanted = self.scene.shown().get(path), SMALL[1].get(path)
        named = any(
            change.action is ActionKind.KEEP and change.path.endswith(path)
            for change in report.changes
        )
        return (
            []
            if shown == wanted or (operation == "delete" and named)
            else [f"success, and yet {path} is {str(shown)[:60]}"]
        )

    def _undo(self, ground: Ground) -> None:
        """The operator takes away what was in the way; what the run has put right already stays."""
        was_mounted = _is_mounted(ground.parent)
        for place in (ground.path, ground.parent):
            while _is_mounted(place):
                shell("umount", place)
            if (
                ground.scene.base.stat().st_uid == os.geteuid() == 0
                and place.exists()
                and not place.is_symlink()
            ):
                subprocess.run(["chattr", "-i", "-a", str(place)], capture_output=True)
        aside = ground.aside
        if aside.is_dir():
            with suppress(FileNotFoundError):
                if not ground.parent.is_dir() or ground.parent.is_symlink():
                    ground.parent.unlink()
            if not ground.parent.exists():
                aside.rename(ground.parent)
        aside.unlink(missing_ok=True) if not aside.is_dir() else None
        if ground.parent.is_dir():
            ground.parent.chmod(0o755)
            wanted = SMALL[1].get(f"conf/sub/{ground.path.name}")
            if was_mounted:
                # What the mount hid and nobody could see. The rest stays: an empty folder would
                # read as a mount that is gone.
                (ground.parent / "delete").unlink(missing_ok=True)
            elif self.scene.shown().get(f"conf/sub/{ground.path.name}") != wanted or (
                wanted is None and os.path.lexists(ground.path)
            ):
                ground.clear()


def _contents(place: Path) -> Iterator[bytes]:
    for folder, _, files in os.walk(place):
        for file in files:
            found = Path(folder, file)
            if stat.S_ISREG(found.lstat().st_mode) and found.stat().st_nlink == 1:
                yield found.read_bytes()


def _is_mounted(place: Path) -> bool:
    return any(
        line.split()[4] == str(place)
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )


@contextmanager
def yard(folder: Path) -> Iterator[Yard]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield Yard(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def all_places(rooted: bool) -> Tally:
    tally, began = Tally("things where a file belongs"), time.monotonic()
    with (
        tempfile.TemporaryDirectory(
            dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        ) as folder,
        yard(Path(folder) / "yard") as one,
    ):
        for name in [*names(root=False), *(names(root=True) if rooted else ())]:
            for operation in OPERATIONS:
                wrong, how = one.case(name, operation)
                tally.points += 1
                tally.ends[how.partition(":")[0]] += 1
                tally.violations += [f"{name}, {operation}: {what}" for what in wrong]
    tally.seconds = time.monotonic() - began
    return tally


def vanished(folder: Path, meanwhile: bool, moved_on: bool) -> list[str]:
    """What is wrong when the mount that holds the destinations goes, before a run or during it, and
    comes back: for a child with mounts of its own.
    """
    folder.mkdir()
    real, base = folder / "real", folder / "base"
    for place in (real, base / "one"):
        place.mkdir(parents=True)
    shell("mount", "-t", "tmpfs", "tmpfs", real)
    shell("mount", "--bind", real, base / "one")
    scene = Scene(base, folder / "state", SMALL).begin()
    scene.head = 1 if moved_on else 0
    if meanwhile:
        scene.meanwhile = lambda: (shell("umount", "-l", base / "one"), None)[1]
    else:
        shell("umount", base / "one")
    report = ask_child(scene.run)
    scene.meanwhile = None
    wrong = [f"bare mount point: {name} was put there" for name in os.listdir(base / "one")]
    if not meanwhile:
        wrong += (
            []
            if report.error is not None and "mount" in report.error.message
            else [f"not named: {report.status} {report.error}"]
        )
        wrong += [
            f"removed: {change.path}"
            for change in report.changes
            if change.action is ActionKind.REMOVE
        ]
    shell("mount", "--bind", real, base / "one")
    wrong += scene.heal()
    shell("umount", base / "one")
    shell("umount", real)
    shutil.rmtree(folder)
    return wrong
