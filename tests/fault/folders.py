"""The scene of folders' modes: going from either set to the other changes `dir_mode` too, and
whatever dies half-way is nobody's drift.

The job only reports drift, so what the next run took for somebody's doing would stay as it is for
good.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from msgspec.structs import replace

from syncd.models import Job, RunReport
from syncd.policies import Drift
from syncd.store.store import SqliteStore
from tests.fault.scene import JOB, Scene
from tests.fault.switched import SwitchedScene

MODES = (0o755, 0o750)


@dataclass
class FolderScene(Scene):
    others: dict[str, int] = field(
        default_factory=dict
    )  # folders that syncd did not make, and their modes

    @property
    def job(self) -> Job:
        return replace(super().job, dir_mode=MODES[self.head], drift=Drift.REPORT)

    def run(self, head: int | None = None) -> RunReport:
        self.others = self.others or self._modes()  # what stands before the first run
        return super().run(head)

    def shown_wrong(self) -> list[str]:
        modes = self._modes()
        wrong = [
            f"torn: {path} has mode {mode:o}"
            for path, mode in modes.items()
            if path not in self.others and mode not in (*MODES, 0o700)
        ]
        return super().shown_wrong() + wrong + self._others_touched(modes)

    def heal(self) -> list[str]:
        wrong, modes, ours = super().heal(), self._modes(), self._ours()
        holding = {
            os.path.dirname(str(self.path_of(source))) for source in self.trees[self.head]
        }  # the others are left alone
        asked = {
            path
            for path in modes.keys() & ours
            if any(one == path or one.startswith(f"{path}/") for one in holding)
        }
        wrong += [
            f"does not converge: {path} has mode {modes[path]:o}"
            for path in sorted(asked)
            if modes[path] != MODES[self.head]
        ]
        wrong += [
            f"forgotten: {path} is ours and nobody knows"
            for path in modes.keys() - ours - self.others.keys()
        ]
        return wrong + self._others_touched(modes)

    def _others_touched(self, modes: dict[str, int]) -> list[str]:
        return [
            f"foreign: {path} has mode {modes.get(path, 0):o}"
            for path, mode in self.others.items()
            if modes.get(path) != mode
        ]

    def _ours(self) -> frozenset[str]:
        store = SqliteStore.open(self.state)
        try:
            return store.folders(JOB)
        finally:
            store.close()

    def _modes(self) -> dict[str, int]:
        return {
            place: os.stat(place).st_mode & 0o7777
            for top in ("one", "two")
            for place, _, _ in os.walk(self.base / top)
        }


class SwitchedFolderScene(SwitchedScene):
    """The same behind one link: a new mode is a new tree, and every folder of it,
    and the one above the link, is ours.
    """

    @property
    def job(self) -> Job:
        return replace(super().job, dir_mode=MODES[self.head], drift=Drift.REPORT)

    def heal(self) -> list[str]:
        wrong, above = super().heal(), self.base / "app"
        folders = [
            str(above),
            *(place for place, _, _ in os.walk(os.path.realpath(above / "current"))),
        ]
        return wrong + [
            f"does not converge: {path} has mode {os.stat(path).st_mode & 0o7777:o}"
            for path in folders
            if os.stat(path).st_mode & 0o7777 != MODES[self.head]
        ]


__all__ = ["MODES", "FolderScene", "SwitchedFolderScene"]
