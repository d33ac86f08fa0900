"""Bytes that syncd replaces but never wrote are kept here for some days: nobody loses an edit to a takeover.

One folder per run; each file 0600 in 0700 beside a JSON line that says where it stood. Kept until `prune`, whatever happens to the run.
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from syncd.mirror.kernel import sync_folder
from syncd.models import Kind, Local

RETENTION = timedelta(days=7)
STAMP = "%Y%m%dT%H%M%S"


class Trash:
    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, folder: int, name: str, path: str, local: Local, now: datetime, intent: str) -> None:
        """The bytes (or the link text) of `name` in the open `folder` are in the trash, on disk. Special files have no bytes to keep."""
        if local.kind not in (Kind.FILE, Kind.LINK):
            return
        place = self.directory / f"{now.strftime(STAMP)}-{intent}"
        for private in (self.directory, place):  # makedirs gives its mode to the last folder alone
            os.makedirs(private, mode=0o700, exist_ok=True)
        number = len(os.listdir(place)) // 2
        with open(place / f"{number:06d}", "xb", opener=_private) as kept:
            if local.kind is Kind.LINK:
                kept.write(os.fsencode(os.readlink(name, dir_fd=folder)))
            else:
                source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                with open(source, "rb") as content:
                    shutil.copyfileobj(content, kept)
            kept.flush()
            os.fsync(kept.fileno())
        facts = {"path": path, "kind": local.kind.value, "blob": local.blob, "mode": f"{local.mode:04o}", "uid": local.uid, "gid": local.gid, "at": now.isoformat()}
        with open(place / f"{number:06d}.json", "x", opener=_private) as note:
            json.dump(facts, note)
            note.flush()
            os.fsync(note.fileno())
        for directory in (place, self.directory, self.directory.parent):  # the names too: the bytes are about to lose their only other one
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sync_folder(descriptor)
            finally:
                os.close(descriptor)

    def entries(self) -> list[dict[str, object]]:
        """What is kept: the facts of each file and, as `file`, where its bytes are."""
        found = []
        for note in sorted(self.directory.glob("*/*.json")):
            try:
                facts = json.loads(note.read_text())
            except (OSError, ValueError):
                continue  # a note cut short by a crash: its bytes are pruned with their folder
            found.append({**facts, "file": str(note.with_suffix(""))})
        return found

    def prune(self, now: datetime) -> int:
        """Runs' folders older than the retention are gone; how many."""
        gone = 0
        for place in self.directory.glob("*-*") if self.directory.is_dir() else ():
            if place.name[: place.name.index("-")] < (now - RETENTION).strftime(STAMP):
                shutil.rmtree(place, ignore_errors=True)
                gone += 1
        return gone


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
