"""What each job accepted last, kept apart from the database: one that is lost, or comes back old, forgets no line of history.

Only of jobs that asked for it (`require: {fast_forward: true}`). A file that is damaged or gone leaves what the database knows; losing both is
a first meeting.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from syncd.errors import StoreError
from syncd.git_objects import is_object_id
from syncd.store.checksum import checksum, matches

FOLDER = "accepted"
MAX_BYTES = 4096


class AcceptedCommits:
    """One small file a job in `STATE/accepted/`, replaced whole. In memory nothing is kept."""

    def __init__(self, state_dir: Path | None, read_only: bool = False) -> None:
        self._read_only = read_only
        self._folder = state_dir / FOLDER if state_dir is not None else None

    def load(self, job: str) -> tuple[str, str] | None:
        """(the line of history, its last accepted commit), or None where none was kept or it is not whole."""
        if self._folder is None:
            return None
        try:
            with open(
                os.open(
                    self._folder / job, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                ),
                "rb",
            ) as file:
                line, commit, mark = json.loads(file.read(MAX_BYTES))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        whole = (
            isinstance(line, str)
            and isinstance(commit, str)
            and is_object_id(commit)
            and matches(mark, job, line, commit)
        )
        return (line, commit) if whole else None

    def save(self, job: str, line: str, commit: str, begin: bool) -> None:
        """`load` gives it back, also after a crash; without `begin` only where something was kept before. Raises StoreError."""
        if (
            self._folder is None
            or self._read_only
            or self.load(job) == (line, commit)
            or not (begin or os.path.lexists(self._folder / job))
        ):
            return
        temporary = self._folder / f".{job}.{os.getpid()}"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            with open(
                os.open(
                    temporary,
                    os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC,
                    0o600,
                ),
                "w",
            ) as file:
                json.dump([line, commit, checksum(job, line, commit)], file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._folder / job)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise StoreError(
                f"can't keep in {self._folder} which commit was accepted: {error.strerror}",
                hint="check the disk of the state folder",
            ) from error

    def delete(self, job: str) -> None:
        if self._folder is not None and not self._read_only:
            with suppress(OSError):
                os.unlink(self._folder / job)
