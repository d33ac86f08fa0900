"""Edits of equal size right after a sync, on file systems whose stamps move in whole seconds: real ones, on images."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.mirror.scan import stat_of
from tests.fault.mounts import no_root, privately, shell
from tests.support.stand import stand

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

TRIES = 50
IMAGE_BYTES = 64 << 20
EXT4 = ("mkfs.ext4", "-q", "-I", "128")  # inodes without room for more than seconds
EXFAT = ("mkfs.exfat",)


def mount_ext4(image: Path, place: Path) -> None:
    shell("mount", "-o", "loop", image, place)


def mount_exfat(image: Path, place: Path) -> None:
    """By FUSE. It keeps no modes: every file has the one of the mount."""
    loop = shell("losetup", "-f", "--show", image)
    shell("mount.exfat-fuse", "-o", "fmask=0133,dmask=0022", loop, place)
    shell("losetup", "-d", loop)  # when it is unmounted


@pytest.mark.parametrize(
    ("make", "mount"), [(EXT4, mount_ext4), (EXFAT, mount_exfat)], ids=["ext4-128", "exfat"]
)
@pytest.mark.parametrize("edit", ["in place", "by a new file"])
def test_an_edit_of_equal_size_right_after_a_sync_is_noticed_on_whole_seconds(
    make: tuple[str, ...], mount: Callable[[Path, Path], None], edit: str
) -> None:
    needed = (make[0], "losetup", *(("mount.exfat-fuse",) if make is EXFAT else ()))
    missing = no_root() or ", ".join(one for one in needed if not shutil.which(one))
    if missing:
        pytest.skip(f"needs {missing}")
    unnoticed, hidden = privately(lambda: _tries(make, mount, edit == "in place"))
    assert unnoticed == []
    assert hidden >= TRIES // 2 or edit != "in place", "the stamps are finer than this is about"


def _tries(
    make: tuple[str, ...], mount: Callable[[Path, Path], None], in_place: bool
) -> tuple[list[int], int]:
    """Which edits went unnoticed, and how many of all left lstat as it was."""
    with tempfile.TemporaryDirectory() as folder:
        image, place = Path(folder, "image"), Path(folder, "mounted")
        with open(image, "wb") as file:
            file.truncate(IMAGE_BYTES)
        shell(*make, image)
        place.mkdir()
        mount(image, place)
        try:
            return _edit_after_each_sync(Path(folder, "stand"), place, in_place)
        finally:
            shell("umount", place)


def _edit_after_each_sync(folder: Path, place: Path, in_place: bool) -> tuple[list[int], int]:
    unnoticed, hidden = [], 0
    folder.mkdir()
    with stand(folder, as_app=False) as hub:
        hub.write_config(paths=[{"from": "nginx/", "to": f"{place}/to/"}])
        file = place / "to/nginx.conf"
        for count in range(TRIES):
            hub.repo.commit({"nginx/nginx.conf": f"ours {count:03d}\n"})
            assert hub.sync().code == 0
            before = stat_of(os.lstat(file))
            _edit(file, f"edit {count:03d}\n", in_place)
            hidden += stat_of(os.lstat(file)) == before
            done = hub.sync()
            assert done.code == 0, done
            if file.read_text() != f"ours {count:03d}\n":
                unnoticed.append(count)
    return unnoticed, hidden


def _edit(file: Path, text: str, in_place: bool) -> None:
    if in_place:
        with open(file, "r+") as opened:
            opened.write(text)
    else:  # ext4 often gives the new file the number of the one that has just gone
        file.unlink()
        file.write_text(text)
