"""A race against another user: uid 65534 owns a folder that root works in, and swaps a folder in it
with a link that leads out.

Most kinds are about folders below `to`. `parents` is about those above it: root makes and removes
folders in `home`, which is theirs. `staging` is about what a hook left: root removes it while they
swap folders in it.

Every operation goes through the product's own mirror while renameat2(2) exchanges the two as fast
as it can. Whether an operation is done or refused is luck; that nothing outside changes, by name,
inode, mode, times or bytes, is not.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from syncd.errors import MirrorError, StoreError
from syncd.git_objects import blob_id
from syncd.hooks import staging_dir
from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.scan import scan_entry
from syncd.models import Action, ActionKind, Kind, LedgerRow, LocalFile, Stat, WantedFile
from syncd.store.blobs import BlobCache
from tests.fault.mounts import no_root as missing
from tests.fault.points import Tally
from tests.support.clock import FakeClock

__all__ = ["BELOW", "KINDS", "missing", "race"]

NOBODY = 65534
AT_FDCWD, EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
ONE, TWO = b"one\n", b"two\n"
INTENT = "0123456789ab"
SWAPS = (("mirror/sub", "mirror/evil"),)
SWAPS_OF = {
    "parents": (
        ("home/site", "home/evil"),
        ("home/site/new", "home/site/evil"),
        ("home/evil/new", "home/evil/evil"),
    ),
    "staging": (
        ("staging/left/tree/sub", "staging/left/tree/evil"),
        ("staging/left/tree/again", "staging/left/tree/evil"),
        ("staging/left/again", "staging/left/evil"),
    ),
}
MAKES = (
    "staging/left/tree/sub/again",
    "staging/left/tree/again",
    "staging/left/again",
)  # so that nothing is empty when it is removed


class Arena:
    """`mirror/sub` and the link `mirror/evil` to `outside`, which holds under each name what the
    operation would reach if it followed the link.
    """

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(
                prefix="syncd-race-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None
            )
        )
        self.root, self.outside = self.folder / "mirror", self.folder / "outside"
        self.folder.chmod(0o755)
        for place in (self.root, self.root / "sub", self.outside):
            place.mkdir()
        self.lay_out()
        os.symlink(self.outside, self.root / "evil")
        for place in (self.root, self.root / "sub"):
            os.chown(place, NOBODY, NOBODY)
        self.inside = os.open(
            self.root / "sub", os.O_RDONLY | os.O_DIRECTORY
        )  # stays the real folder, whatever its name is
        self.home, self.staging = self.folder / "home", self.folder / "staging"
        for place in (self.home, self.home / "site", self.staging):
            place.mkdir()
        os.symlink(self.outside, self.home / "evil")
        for place in (self.home, self.home / "site"):
            os.chown(place, NOBODY, NOBODY)
        self.site = os.open(self.home / "site", os.O_RDONLY | os.O_DIRECTORY)
        self.blobs = BlobCache(self.folder / "blobs")
        for content in (ONE, TWO):
            self.blobs.add(blob_id(content), [content], len(content))
        self.mirror = DiskMirror(self.folder / "trash", FakeClock())
        self.stood = self.signature()

    def lay_out(self) -> None:
        for name in ("replace", "delete", "chmod"):
            (self.outside / name).write_bytes(ONE)
            (self.outside / name).chmod(0o600)
        for name in ("rmdir", "chmod_folder", "new"):
            (self.outside / name).mkdir(mode=0o700)
        self.outside.chmod(0o711)

    def signature(self) -> list[tuple[str, int, int, int, int, int]]:
        with os.scandir(self.outside) as found:
            names = sorted(entry.name for entry in found)
        stats = [(name, os.lstat(self.outside / name)) for name in [".", *names]]
        return [
            (name, one.st_ino, one.st_mode, one.st_mtime_ns, one.st_ctime_ns, one.st_size)
            for name, one in stats
        ]

    def restore(self) -> None:
        shutil.rmtree(self.outside)
        self.outside.mkdir()
        self.lay_out()
        self.stood = self.signature()

    def close(self) -> None:
        os.close(self.inside)
        os.close(self.site)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- operations -------------------------------------------------------------------------------

    def entry(self, content: bytes, mode: int = 0o644) -> WantedFile:
        return WantedFile(blob_id(content), mode, root=str(self.root), size=len(content))

    def present(self, name: str, content: bytes | None) -> None:
        """What really stands in our folder before the operation: a file of these bytes,
        or nothing.
        """
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.inside)
        if content is not None:
            with open(
                os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self.inside),
                "wb",
                buffering=0,
            ) as file:
                file.write(content)

    def act_on_folder(self, path: str, folder: int) -> bool:
        """Whether the open `folder`, whose mode is another, got the wanted one at `path`."""
        os.fchmod(folder, 0o700)
        found = os.fstat(folder)
        have = LocalFile(
            Kind.DIRECTORY,
            None,
            0o700,
            found.st_uid,
            found.st_gid,
            Stat(found.st_dev, found.st_ino, 0, 0, 0),
        )
        step = Action(
            ActionKind.MODE,
            path,
            WantedFile("", 0o755, Kind.DIRECTORY, root=str(self.root), dir_mode=0o755),
            None,
            have,
            "race",
        )
        try:
            applied = self.mirror.apply(INTENT, [step], self.blobs, frozenset(), {})
        except MirrorError:
            return False
        return applied.outcomes[path].error is None and os.fstat(folder).st_mode & 0o777 == 0o755

    def act(self, verb: ActionKind, name: str, want: WantedFile | None) -> bool:
        """Whether the operation was done."""
        path = f"{self.root}/sub/{name}"
        have = scan_entry(self.inside, name, path, None, time.time_ns) if "/" not in name else None
        had = LedgerRow(self.entry(ONE, 0o600), have.stat) if have is not None else None
        try:
            applied = self.mirror.apply(
                INTENT, [Action(verb, path, want, had, have, "race")], self.blobs, frozenset(), {}
            )
        except MirrorError:
            return False
        return applied.outcomes[path].error is None


def create(arena: Arena) -> bool:
    arena.present("create", None)
    return arena.act(ActionKind.WRITE, "create", arena.entry(TWO))


def replace(arena: Arena) -> bool:
    arena.present("replace", ONE)
    return arena.act(ActionKind.WRITE, "replace", arena.entry(TWO))


def delete(arena: Arena) -> bool:
    arena.present("delete", ONE)
    return arena.act(ActionKind.REMOVE, "delete", None) and not _stands(arena, "delete")


def chmod(arena: Arena) -> bool:
    arena.present("chmod", ONE)
    return arena.act(ActionKind.MODE, "chmod", arena.entry(ONE, 0o640))


def chmod_folder(arena: Arena) -> bool:
    with suppress(FileExistsError):
        os.mkdir("chmod_folder", dir_fd=arena.inside)
    folder = os.open("chmod_folder", os.O_RDONLY | os.O_DIRECTORY, dir_fd=arena.inside)
    try:
        return arena.act_on_folder(f"{arena.root}/sub/chmod_folder", folder)
    finally:
        os.close(folder)


def chmod_swapped(arena: Arena) -> bool:
    return arena.act_on_folder(f"{arena.root}/sub", arena.inside)


def mkdir(arena: Arena) -> bool:
    shutil.rmtree("mkdir", ignore_errors=True, dir_fd=arena.inside)
    return arena.act(ActionKind.WRITE, "mkdir/file", arena.entry(TWO))


def rmdir(arena: Arena) -> bool:
    with suppress(FileExistsError):
        os.mkdir("rmdir", dir_fd=arena.inside)
    arena.mirror.remove_empty_directories([(str(arena.root), f"{arena.root}/sub/rmdir")])
    return not _stands(arena, "rmdir")


def parents(arena: Arena) -> bool:
    """Root makes a folder in a folder of theirs, writes below it,
    and removes it when it is empty again.
    """
    _empty(arena.site)
    os.symlink(arena.outside, "evil", dir_fd=arena.site)
    root = f"{arena.home}/site/new"
    want = WantedFile(blob_id(TWO), 0o644, root=root, size=len(TWO))
    try:
        applied = arena.mirror.apply(
            INTENT,
            [Action(ActionKind.WRITE, f"{root}/parents", want, None, None, "race")],
            arena.blobs,
            frozenset(),
            {},
        )
        done = applied.outcomes[f"{root}/parents"].error is None
    except MirrorError:
        done = False
    _empty(arena.site)
    with suppress(FileExistsError):
        os.mkdir("new", dir_fd=arena.site)
    arena.mirror.remove_empty_directories([(f"{root}/deeper", root)])
    return done


def staging(arena: Arena) -> bool:
    """Root removes what a hook left, while its user swaps folders in it and makes new ones."""
    left = arena.staging / "left"
    (left / "tree/sub/deep").mkdir(parents=True)
    (left / "tree/sub/file").write_bytes(ONE)
    for place in (left, left / "tree"):
        os.symlink(arena.outside, place / "evil")
    for place in (left / "tree/sub", left / "tree", left):
        os.chown(place, NOBODY, NOBODY, follow_symlinks=False)
    with suppress(MirrorError, StoreError, OSError):
        staging_dir.remove(str(left))
    done = not os.path.lexists(left)
    while os.path.lexists(left):  # for the next one; they may still be at it
        os.rename(left, arena.staging / "aside")
        shutil.rmtree(arena.staging / "aside", ignore_errors=True)
    return done


def _empty(folder: int) -> None:
    """What is in the folder is gone, but for what comes while it is emptied."""
    while names := _names(folder):
        for name in names:
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
            shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def _names(folder: int) -> list[str]:
    anew = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        return os.listdir(anew)
    finally:
        os.close(anew)


def _stands(arena: Arena, name: str) -> bool:
    try:
        os.stat(name, dir_fd=arena.inside, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


BELOW = ("create", "replace", "delete", "chmod", "chmod_folder", "chmod_swapped", "mkdir", "rmdir")
KINDS: dict[str, Callable[[Arena], bool]] = {
    act.__name__: act
    for act in (
        create,
        replace,
        delete,
        chmod,
        chmod_folder,
        chmod_swapped,
        mkdir,
        rmdir,
        parents,
        staging,
    )
}


def race(
    points: int, _seed: int = 0, kinds: tuple[str, ...] = tuple(KINDS), stop_at_first: bool = False
) -> Tally:
    """So many operations of each kind, as root, against the other user."""
    tally, began = Tally("symlink race by another uid"), time.monotonic()
    arena = Arena()
    racer, swaps = 0, None
    try:
        for kind in kinds:
            if swaps != SWAPS_OF.get(kind, SWAPS):
                swaps = SWAPS_OF.get(kind, SWAPS)
                _end(racer)
                racer = _start_racer(arena.folder, swaps)
            for number in range(points):
                done = KINDS[kind](arena)
                tally.points += 1
                tally.ends[f"{kind} {'done' if done else 'refused'}"] += 1
                if arena.signature() != arena.stood:
                    tally.violations.append(
                        f"{kind} {number}: outside: {sorted(os.listdir(arena.outside))}"
                    )
                    if stop_at_first:
                        return tally
                    arena.restore()
    finally:
        _end(racer)
        arena.close()
        tally.seconds = time.monotonic() - began
    return tally


def _end(racer: int) -> None:
    if racer:
        os.kill(racer, signal.SIGKILL)
        os.waitpid(racer, 0)


def _start_racer(folder: Path, swaps: tuple[tuple[str, str], ...]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.chdir(folder)
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
        pairs = [(one.encode(), other.encode()) for one, other in swaps]
        makes = MAKES if swaps == SWAPS_OF["staging"] else ()
        while os.getppid() > 1:
            for _ in range(1000):
                for one, other in pairs:
                    renameat2(AT_FDCWD, one, AT_FDCWD, other, EXCHANGE)
                for place in makes:
                    with suppress(OSError):
                        os.mkdir(place)
    finally:
        os._exit(1)
