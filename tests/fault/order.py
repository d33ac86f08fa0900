"""What must be on disk before what: one run's calls in their order,
against the rules that a power cut would judge it by.

A file is synced, with its final mode, before it gets its name; every folder whose names changed is
synced before the ledger is told; the intent is noted before the first change. The root lane cuts
the power for real; this finds the same mistakes at each push.
"""

from __future__ import annotations

import os
import stat
from typing import Any

import syncd.mirror.filesystem_sync
import syncd.mirror.syscalls
import syncd.mirror.write
from syncd.store.store import SqliteStore
from tests.fault.points import ask_child, ending
from tests.fault.scene import Scene


def order_wrong(scene: Scene) -> list[str]:
    """Every breach of the order in one run of the scene, which is made in a child."""
    return ask_child(lambda: _Watch(scene).run())


class _Watch:
    def __init__(self, scene: Scene) -> None:
        self.scene, self.base = scene, str(scene.base)
        self.wrong: list[str] = []
        self.clock = 0
        self.born: dict[str, int] = {}
        self.synced: dict[str, int] = {}
        self.whole: dict[int, int] = {}
        self.changed: dict[str, int] = {}
        self.modes: dict[str, int] = {}
        self.mode_changes: dict[str, int] = {}
        self.intended = False

    def run(self) -> list[str]:
        self._patch()
        ending(self.scene)
        for path, mode in self.modes.items():
            if os.path.isfile(path) and stat.S_IMODE(os.lstat(path).st_mode) != mode:
                self.wrong.append(f"order: {path} got its mode after its name")
        return self.wrong

    def _patch(self) -> None:
        real = {
            name: getattr(os, name)
            for name in ("open", "fsync", "rename", "unlink", "mkdir", "rmdir", "symlink", "chmod")
        }
        syncfs, into_nothing = (
            syncd.mirror.syscalls.syncfs,
            syncd.mirror.syscalls.rename_noreplace,
        )
        begin_intent, record = SqliteStore.begin_intent, SqliteStore.record

        def opened(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if flags & os.O_CREAT:
                self._birth(_at(dir_fd, path))
            return int(real["open"](path, flags, mode, dir_fd=dir_fd))

        def fsync(descriptor: int) -> None:
            real["fsync"](descriptor)
            self.synced[_at(descriptor)] = self._tick()

        def sync_all(descriptor: int) -> None:
            syncfs(descriptor)
            self.whole[os.fstat(descriptor).st_dev] = self._tick()

        def rename(
            old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
        ) -> None:
            self._naming(_at(src_dir_fd, old), _at(dst_dir_fd, new))
            real["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        def fresh(folder: int, old: str, new: str) -> None:
            self._naming(_at(folder, old), _at(folder, new))
            into_nothing(folder, old, new)

        def changing(name: str) -> Any:
            def call(path: Any, *arguments: Any, dir_fd: int | None = None, **named: Any) -> Any:
                place = _at(dir_fd, path)
                result = real[name](path, *arguments, dir_fd=dir_fd, **named)
                self._change(place, temporary_too=False)  # a refusal changes nothing
                return result

            return call

        def chmod(path: Any, mode: int, **named: Any) -> None:
            real["chmod"](path, mode, **named)
            if str(path).startswith("/proc/self/fd/"):
                self.mode_changes[os.readlink(path)] = self._tick()

        def noted(store: SqliteStore, *arguments: Any) -> None:
            begin_intent(store, *arguments)
            self.intended = True

        def told(store: SqliteStore, *arguments: Any) -> None:
            self._telling()
            record(store, *arguments)

        os.open, os.fsync, os.rename, os.chmod = opened, fsync, rename, chmod  # type: ignore[assignment]
        for name in ("unlink", "mkdir", "rmdir"):
            setattr(os, name, changing(name))
        for module in (syncd.mirror.syscalls, syncd.mirror.filesystem_sync, syncd.mirror.write):
            for name, value in (("syncfs", sync_all), ("rename_noreplace", fresh)):
                if hasattr(module, name):
                    setattr(module, name, value)
        SqliteStore.begin_intent, SqliteStore.record = noted, told  # type: ignore[method-assign]

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    def _ours(self, path: str) -> bool:
        return path.startswith(self.base + "/")

    def _birth(self, path: str) -> None:
        if self._ours(path):
            self.born[path] = self._tick()

    def _naming(self, old: str, new: str) -> None:
        if not self._ours(new):
            return
        found = os.lstat(old)
        if stat.S_ISREG(found.st_mode):
            if max(self.synced.get(old, 0), self.whole.get(found.st_dev, 0)) <= self.born.get(
                old, 0
            ):
                self.wrong.append(f"order: {new} got its name before its bytes were synced")
            self.modes[new] = stat.S_IMODE(found.st_mode)
        self._change(new, temporary_too=True)

    def _change(self, path: str, temporary_too: bool) -> None:
        if not self._ours(path) or (
            os.path.basename(path).startswith(".syncd-") and not temporary_too
        ):
            return
        if not self.intended and not os.path.isdir(path):
            self.wrong.append(f"order: {path} changed before the intent was noted")
        self.changed[os.path.dirname(path)] = self._tick()

    def _telling(self) -> None:
        for folder, at in self.changed.items():
            if (
                os.path.isdir(folder)
                and max(self.synced.get(folder, 0), self.whole.get(os.stat(folder).st_dev, 0)) < at
            ):
                self.wrong.append(
                    f"order: the ledger was told before the names in {folder} were synced"
                )
        for path, at in self.mode_changes.items():
            if max(self.synced.get(path, 0), *self.whole.values(), 0) < at:
                self.wrong.append(
                    f"order: the ledger was told before the mode of {path} was synced"
                )


def _at(folder: int | None, name: Any = None) -> str:
    text = os.fsdecode(name) if name is not None else ""
    if folder is None:
        return os.path.abspath(text)
    place = os.readlink(f"/proc/self/fd/{folder}")
    return f"{place}/{text}" if text else place
