"""Power cuts: a file system on a loop image is shut down while a run is at work on it,
mounted again and looked at.

The shutdown ioctl drops what was not on the disk: with the log written and the data not, or
neither. The ledger lies on the same device or on another one, which is cut at the same moment, some
moments differently, or not at all. ext4 is mounted without its own guess at what a rename means
(`noauto_da_alloc`), so that only what syncd asks for is safe. Source: XFS_IOC_GOINGDOWN and
EXT4_IOC_SHUTDOWN, one number in both (linux/fs/xfs/xfs_fs.h, linux/fs/ext4/ext4.h).
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncd.mirror.syscalls import syncfs
from tests.fault.mounts import no_root, privately, shell
from tests.fault.points import DONE, TRACEBACK, Tally, ending
from tests.fault.scene import Scene, Workbench

SHUTDOWN = 0x8004587D
LOG_WRITTEN, NOTHING_WRITTEN, LEFT_ALONE = 1, 2, 0
SIZE_BYTES = 400 << 20  # what mkfs.xfs needs at least; the image has holes
OPTIONS = {"ext4": ("-o", "noauto_da_alloc"), "xfs": ()}
UMOUNT_TRIES = 200
# the share of cuts that wait for the run's end: only they can show something lost that was reported
AFTER_SUCCESS = 0.25


def missing() -> str:
    tools = [
        tool
        for tool in ("losetup", "mkfs.xfs", "mkfs.ext4")
        if shutil.which(tool) is None and not os.path.exists(f"/usr/sbin/{tool}")
    ]
    return no_root() or ", ".join(tools)


class Device:
    """A file system of ours on a loop device, mounted at `place`."""

    def __init__(self, folder: Path, name: str, kind: str) -> None:
        self.kind, self.place, self._image = kind, folder / name, folder / f"{name}.img"
        self.place.mkdir()
        with open(self._image, "wb") as image:
            image.truncate(SIZE_BYTES)
        shell(f"mkfs.{kind}", "-q", self._image)
        self._loop = shell("losetup", "-f", "--show", self._image)
        self.mount()

    def mount(self) -> None:
        shell("mount", *OPTIONS[self.kind], self._loop, self.place)

    def sync(self) -> None:
        descriptor = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            syncfs(descriptor)
        finally:
            os.close(descriptor)

    def cut(self, how: int) -> None:
        descriptor = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if how != LEFT_ALONE:
                fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", how))
        finally:
            os.close(descriptor)

    def umount(self) -> None:
        for _ in range(UMOUNT_TRIES):
            if subprocess.run(["umount", str(self.place)], capture_output=True).returncode == 0:
                return
            time.sleep(0.02)  # the kernel lets go of the dead process's files when it gets to it
        shell("umount", self.place)

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.place)], capture_output=True)
        subprocess.run(["losetup", "-d", self._loop], capture_output=True)
        self._image.unlink()


@contextmanager
def devices(kind: str, apart: bool) -> Iterator[list[Device]]:
    """The mirror's device and, `apart`, the state's own."""
    folder = Path(
        tempfile.mkdtemp(
            prefix="syncd-power-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
        )
    )
    made: list[Device] = []
    try:
        for name in ("mirror", "state")[: 2 if apart else 1]:
            made.append(Device(folder, name, kind))
        yield made
    finally:
        for one in made:
            one.close()
        shutil.rmtree(folder, ignore_errors=True)


def power_cuts(
    kind: str,
    apart: bool,
    points: int | None,
    seed: int,
    seconds: float | None = None,
    stop_at_first: bool = False,
    extra: int = 0,
    scene: type[Scene] = Scene,
) -> Tally:
    """So many cuts, each at a random moment of a run and a little past it,
    both ways between the two sets.
    """
    return privately(
        lambda: _power_cuts(kind, apart, points, seed, seconds, stop_at_first, extra, scene)
    )


def _power_cuts(
    kind: str,
    apart: bool,
    points: int | None,
    seed: int,
    seconds: float | None,
    stop_at_first: bool,
    extra: int,
    scene: type[Scene],
) -> Tally:
    tally, rng = (
        Tally(f"power cuts, {kind}, store on {'another' if apart else 'the same'} device"),
        random.Random(seed),
    )
    with (
        devices(kind, apart) as disks,
        Workbench(
            extra, scene=scene, base=disks[0].place / "base", state=disks[-1].place / "state"
        ) as bench,
    ):
        began = time.monotonic()
        window = _usual_seconds(bench) * 1.2
        while (points is None or tally.points < points) and (
            seconds is None or time.monotonic() - began < seconds
        ):
            bench.turn()
            for disk in disks:
                disk.sync()  # the set that stood is on disk: what is lost now is of this run
            told = _run_and_cut(
                bench.scene,
                disks,
                rng,
                None if rng.random() < AFTER_SUCCESS else rng.random() * window,
            )
            tally.points += 1
            tally.ends["after success" if told else "in the run"] += 1
            _judge(tally, bench, told)
            if stop_at_first and tally.violations:
                break
        tally.seconds = time.monotonic() - began
    return tally


def _usual_seconds(bench: Workbench) -> float:
    spent = []
    for _ in range(4):
        bench.turn()
        began = time.monotonic()
        bench.scene.run()
        spent.append(time.monotonic() - began)
    return sorted(spent)[1]


def _run_and_cut(
    scene: Scene, disks: list[Device], rng: random.Random, after_seconds: float | None
) -> bool:
    """Whether the run had reported success when the power went;
    without `after_seconds` it goes at that moment.
    """
    reading, writing = os.pipe()
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        code = TRACEBACK
        try:
            # memory that SQLite maps goes with the disk: a death like any other here
            faulthandler.disable()
            os.read(ready, 1)
            code = ending(scene)
            if code == DONE:
                os.write(writing, b"D")
        finally:
            os._exit(code)
    os.close(writing)
    os.write(go, b"g")
    select.select([reading], [], [], after_seconds)
    for number, disk in enumerate(disks):
        disk.cut(
            rng.choice((LOG_WRITTEN, NOTHING_WRITTEN))
            if number == 0
            else rng.choice((LOG_WRITTEN, NOTHING_WRITTEN, LEFT_ALONE))
        )
    os.set_blocking(reading, False)
    try:
        told = os.read(reading, 1) == b"D"
    except BlockingIOError:
        told = False
    for descriptor in (reading, ready, go):
        os.close(descriptor)
    os.waitpid(child, 0)
    for disk in disks:
        disk.umount()
        disk.mount()
    return told


def _judge(tally: Tally, bench: Workbench, told: bool) -> None:
    scene, where = bench.scene, f"cut {tally.points} towards {'AB'[bench.scene.head]}"
    wrong = scene.shown_wrong()
    if told:
        shown, expected = scene.shown(), scene.expected(scene.head)
        wrong += [
            f"lost after success: {path}" for path in expected if shown.get(path) != expected[path]
        ]
    wrong += scene.heal()
    tally.violations += [f"{where}: {one}" for one in wrong]
    if wrong:
        bench.renew()
