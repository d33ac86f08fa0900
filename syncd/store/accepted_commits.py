"""Stores the last accepted commit of each job in files of their own, apart from the database.

A database that is lost or restored from an old backup then forgets no accepted commit. Only jobs
with `require: {fast_forward: true}` have such a file. Where it is damaged or missing, the
database's own record counts; where both are lost, the next commit is accepted as the first one.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from syncd.errors import StoreError
from syncd.git_objects import is_object_id
from syncd.private_file import replace_private_file
from syncd.store.checksum import checksum, matches
from syncd.store.location import open_nofollow

DIRECTORY = "accepted"
MAX_BYTES = 4096


class AcceptedCommits:
    """One small file for each job in `STATE/accepted/`. A store in memory keeps nothing."""

    def __init__(self, state_dir: Path | None, read_only: bool = False) -> None:
        self._read_only = read_only
        self._directory = state_dir / DIRECTORY if state_dir is not None else None

    def load(self, job: str) -> tuple[str, str] | None:
        """Return the history (repository and ref) and its last accepted commit; None without a
        valid file.
        """
        if self._directory is None:
            return None
        try:
            flags = os.O_RDONLY | os.O_NONBLOCK
            with open(open_nofollow(self._directory / job, flags), "rb") as file:
                history, commit, stored_checksum = json.loads(file.read(MAX_BYTES))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        is_valid = (
            isinstance(history, str)
            and isinstance(commit, str)
            and is_object_id(commit)
            and matches(stored_checksum, job, history, commit)
        )
        return (history, commit) if is_valid else None

    def save(self, job: str, history: str, commit: str, begin: bool) -> None:
        """Save the commit durably.

        Without `begin`, only replace a file that exists. Raises StoreError.
        """
        if self._directory is None or self._read_only or self.load(job) == (history, commit):
            return
        if not begin and not os.path.lexists(self._directory / job):
            return
        content = json.dumps([history, commit, checksum(job, history, commit)]).encode()
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            replace_private_file(self._directory / job, content)
        except OSError as error:
            raise StoreError(
                f"the accepted commit can't be saved in {self._directory}: {error.strerror}",
                id="store/accepted-commit-not-saved",
                hint="check the disk of the state folder",
            ) from error

    def delete(self, job: str) -> None:
        """Remove the job's file, if there is one."""
        if self._directory is not None and not self._read_only:
            with suppress(OSError):
                os.unlink(self._directory / job)
