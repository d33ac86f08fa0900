"""The scene of `publish: symlink`: the same two sets behind one link.

Whatever dies, the link shows one set or the other, whole, and no tree is left over.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec.structs import replace

from syncd.mirror.disk_mirror import DiskMirror
from syncd.mirror.symlink_publish import mirror_for
from syncd.models import Job, PathRule
from syncd.policies import Publish
from syncd.ports import Mirror
from tests.fault.scene import Node, Scene, look
from tests.support.clock import FakeClock

KEEP = 3
TREE = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{12}")


class SwitchedScene(Scene):
    """`base/app/current` is the link; there is nothing of others,
    because the folder above it is syncd's own.
    """

    @property
    def job(self) -> Job:
        return replace(
            super().job,
            paths=(PathRule("conf", f"{self.base}/app/current", True),),
            publish=Publish.SYMLINK,
            keep=KEEP,
        )

    def disk(self, clock: FakeClock) -> Mirror:
        return mirror_for(self.job, DiskMirror(self.state / "trash", clock), clock)

    def begin(self) -> Scene:
        self.base.mkdir(parents=True)
        report = self.run()
        if report.error is not None:
            raise AssertionError(f"the scene can't be set: {report.error}")
        return self

    def shown(self) -> dict[str, Node]:
        """What a reader meets who opens the folder by the link once."""
        link = self.base / "app/current"
        return _tree(Path(os.path.realpath(link))) if link.is_dir() else {}

    def expected(self, head: int) -> dict[str, Node]:
        return {path: node for path, node in self.trees[head].items() if path.startswith("conf/")}

    def shown_wrong(self) -> list[str]:
        shown = self.shown()
        if shown in (self.expected(0), self.expected(1)):
            return []
        return [f"torn: neither set is behind the link, whole: {sorted(shown)}"]

    def ledger_leads(self) -> list[str]:
        return []  # rows are about what is behind the link, which is one set or the other

    def leftovers(self) -> list[str]:
        """Names that are not ours to leave, and trees past the last ones or that are no whole
        set.
        """
        names = [name for name in os.listdir(self.base / "app") if name != "current"]
        wrong = [f"left over: {name}" for name in names if not TREE.fullmatch(name)]
        trees = [name for name in names if TREE.fullmatch(name)]
        wrong += [f"left over: {len(trees)} trees"] if len(trees) > KEEP else []
        wrong += [
            f"left over: {name} is no whole set"
            for name in trees
            if _tree(self.base / "app" / name) not in (self.expected(0), self.expected(1))
        ]
        return wrong


def _tree(folder: Path) -> dict[str, Node]:
    return {
        f"conf/{os.path.relpath(os.path.join(place, name), folder)}": look(
            os.path.join(place, name)
        )
        for place, _, names in os.walk(folder)
        for name in names
    }
