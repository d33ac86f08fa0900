"""Edits of equal size right after a sync, on file systems whose stamps move in whole seconds:
real ones, on images.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from syncd.mirror.scan import stat_of
from tests.fault.mounts import EXFAT_TOOLS, EXT4_TOOLS, exfat, ext4_in_seconds, lacking, privately
from tests.support.sync_env import sync_env

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

TRIES = int(os.environ.get("SYNCD_CLOCK_TRIES", "20"))
Mount = Callable[[Path, Path], AbstractContextManager[Path]]


@pytest.mark.parametrize(
    ("mount", "tools"),
    [(ext4_in_seconds, EXT4_TOOLS), (exfat, EXFAT_TOOLS)],
    ids=["ext4-128", "exfat"],
)
@pytest.mark.parametrize("edit", ["in place", "by a new file"])
def test_an_edit_of_equal_size_right_after_a_sync_is_noticed_on_whole_seconds(
    mount: Mount, tools: tuple[str, ...], edit: str
) -> None:
    missing = lacking(*tools)
    if missing:
        pytest.skip(f"needs {missing}")
    unnoticed, hidden = privately(lambda: _tries(mount, edit == "in place"))
    assert unnoticed == []
    assert hidden >= TRIES // 2 or edit != "in place", "the stamps are finer than this is about"


def _tries(mount: Mount, in_place: bool) -> tuple[list[int], int]:
    """Which edits went unnoticed, and how many of all left lstat as it was."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mount(Path(folder, "image"), Path(folder, "mounted")) as place,
    ):
        return _edit_after_each_sync(Path(folder, "stand"), place, in_place)


def _edit_after_each_sync(folder: Path, place: Path, in_place: bool) -> tuple[list[int], int]:
    unnoticed, hidden = [], 0
    folder.mkdir()
    with sync_env(folder, as_app=False) as hub:
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
