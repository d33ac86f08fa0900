"""The walks of two jobs' destinations on file systems that ignore case,
or whose clock moves in whole seconds.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.fault.mounts import EXFAT_TOOLS, EXT4_TOOLS, UNCACHED, exfat, ext4_in_seconds, lacking
from tests.story.test_destination_machine import NAMES, PLACES, SOURCES, Destinations
from tests.story.test_state_machine import looked_at

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]


class InSeconds(Destinations):
    """On ext4 with 128-byte inodes an edit right after a run leaves every stamp as it was."""

    def make_place(self) -> None:
        self.mounted = ExitStack()
        self.mounted.enter_context(self.mount(self.folder / "image", self.folder / "dest"))
        self.make_folders()

    def mount(self, image: Path, place: Path) -> AbstractContextManager[Path]:
        return ext4_in_seconds(image, place)

    def make_folders(self) -> None:
        super().make_place()

    def teardown(self) -> None:
        self.mounted.close()
        super().teardown()

    @rule(source=st.sampled_from(SOURCES), name=st.sampled_from(NAMES[1:]))
    def edit_in_the_same_step(self, source: str, name: str) -> None:
        """An edit of equal size right after a run: the next run puts the file back."""
        self.run_and_judge(source)
        path = self.key(f"{self.folder}/dest/{self.places[source]}/x/{name}")
        if path not in self.wanted_by(source):
            return
        spelled = self.as_committed(f"{source}/{name}").removeprefix(source)
        with open(f"{self.folder}/dest/{self.spelled[source]}/x{spelled}", "r+b") as file:
            file.write(b"X" * len(self.wanted()[path]))
        self.run(source)
        assert self.contents().get(path) == self.wanted()[path], f"the edit of {name} was missed"


class IgnoringCase(InSeconds):
    """On exFAT a commit renames files and folders only in case,
    and `to:` is spelled in other cases.
    """

    keeps_owners = False
    keeps_inodes = False  # FUSE numbers a file anew when it has forgotten it

    def mount(self, image: Path, place: Path) -> AbstractContextManager[Path]:
        return exfat(image, place, UNCACHED)

    def make_folders(self) -> None:
        """This disk has no links: the other spellings are other cases."""
        for name in PLACES:
            (self.folder / "dest" / name).mkdir()

    def spellings(self, place: str) -> tuple[str, ...]:
        return place, place.lower(), place

    def key(self, path: str) -> str:
        top = f"{self.folder}/dest"
        return top + path.removeprefix(top).lower() if path.startswith(top) else path.lower()

    def read(self, path: str) -> bytes:
        """What the disk holds: the kernel caches a file under each of its spellings by itself."""
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.read()

    @rule(source=st.sampled_from(SOURCES), name=st.sampled_from(NAMES[1:]))
    def rename_only_in_case(self, source: str, name: str) -> None:
        tree = dict(self.trees[-1])
        spelled = self.as_committed(f"{source}/{name}")
        content = tree.pop(spelled, None)
        if content is not None:
            below = spelled.removeprefix(f"{source}/")
            other = below.upper() if below == name else name
            tree[f"{source}/{other}"] = content
        self.trees.append(tree)


def walks(machine: type[Destinations]) -> type:
    case = machine.TestCase
    case.settings = looked_at(5)
    return case


@pytest.mark.skipif(bool(lacking(*EXT4_TOOLS)), reason="needs root and mkfs.ext4")
class TestInSeconds(walks(InSeconds)):  # type: ignore[misc]
    """A seeded sample; SYNCD_MACHINE_EXAMPLES asks for more."""


@pytest.mark.skipif(bool(lacking(*EXFAT_TOOLS)), reason="needs root and exfat-fuse")
class TestIgnoringCase(walks(IgnoringCase)):  # type: ignore[misc]
    """A seeded sample; SYNCD_MACHINE_EXAMPLES asks for more."""
