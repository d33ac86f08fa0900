"""Stores the tokens of users who logged in: one file for each identity, 0600 in a 0700 folder.

They are the only secrets that syncd stores. It has to: a refresh token works once and returns the
next one, so a lost token means that a person logs in again.

- A new pair is on disk, synced, before it is used.
- At most one process at a time is between requesting a pair and saving it. A process that dies
  there leaves a note that says so.
- The answer is written whole to `NAME.next` as soon as it arrives. Where the rename was not
  reached, the next process takes that file over. Only a death before that write loses a pair.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from syncd.deadline import Deadline
from syncd.errors import StoreError
from syncd.file_lock import acquire_polling, release
from syncd.folder_sync import sync_folder
from syncd.identities import OAuthTokens
from syncd.redaction import Secret
from syncd.store.access import check_process_is_owner, make_state_folder
from syncd.store.location import locks_on
from syncd.store.lock import safe_name

FORMAT = 1
MAX_PAIR_BYTES = 4096
POLL_INTERVAL_SECONDS = 0.05
MAX_BYTES = 64 << 10
DISK_HINT = "the state folder must be on a disk with room, and writable by the user who runs syncd"


class OAuthTokenFile:
    """One identity's tokens. No file or folder is created before there is something to save."""

    def __init__(self, state_dir: Path, identity: str) -> None:
        self._folder, self._identity = state_dir / "logins", identity
        name = safe_name(identity)
        self.file = self._folder / f"{name}.json"
        self._next, self._note, self._lock = (
            self._folder / f"{name}.{suffix}" for suffix in ("next", "asking", "lock")
        )

    def load(self) -> OAuthTokens | None:
        """Return the saved pair; None where there is no login.

        Raises StoreError for a file that cannot be trusted.
        """
        text = self._read(self.file)
        if text is None:
            return None
        pair = _decode(text)
        if pair is None:
            raise StoreError(
                f"{self.file} is damaged: it does not hold a pair of tokens",
                id="store/login-damaged",
                hint=f"run: syncd login {self._identity}",
            )
        return pair

    @contextmanager
    def exclusive_lock(self, deadline: Deadline) -> Iterator[None]:
        """Keep other processes from requesting or saving a pair during the block.

        Raises StoreError, and what `Deadline.wait` raises.
        """
        check_process_is_owner(self._folder.parent)

        def wait() -> None:
            deadline.wait(POLL_INTERVAL_SECONDS)

        try:
            make_state_folder(self._folder.parent)
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            descriptor = acquire_polling(self._lock, wait)
        except OSError as error:
            raise self._not_saved(error) from error
        try:
            self._finish_interrupted_save()
            yield
        finally:
            release(descriptor)

    def _not_saved(self, error: OSError) -> StoreError:
        return StoreError(
            f"the login of {self._identity} can't be saved in {self._folder}: {error.strerror}",
            id="store/login-not-saved",
            hint=DISK_HINT,
        )

    def holder(self) -> int | None:
        """Return the pid of the process that is between requesting and saving, if the kernel lists
        it.
        """
        return next((pid for _, pid in locks_on(self._lock) if pid > 0), None)

    def interrupted_request(self, pair: OAuthTokens) -> Mapping[str, str] | None:
        """Return `pid` and `at` of a process that requested the pair after this one and never saved
        it.

        None where there was no such process.
        """
        with suppress(ValueError, StoreError):
            note = json.loads(self._read(self._note) or "null")
            if isinstance(note, dict) and note.get("mark") == pair.mark:
                return {name: str(note.get(name)) for name in ("pid", "at")}
        return None

    def begin_request(self, pair: OAuthTokens, now: datetime) -> None:
        """Note on disk that the next pair is being requested, and reserve room for it.

        Raises StoreError; the pair must not be requested then.
        """
        note = json.dumps(
            {"mark": pair.mark, "pid": os.getpid(), "at": now.isoformat(timespec="seconds")}
        ).encode()
        try:
            self._write(self._note, note)
            # As long as a pair can become: a full disk shows now, before the request.
            self._write(self._next, b" " * MAX_PAIR_BYTES)
            self._sync_folder()
        except OSError as error:
            raise self._not_saved(error) from error

    def end_request(self, pair: OAuthTokens) -> None:
        """Remove the note: GitHub refused, and no pair was lost."""
        for file in (self._note, self._next):
            with suppress(OSError):
                os.unlink(file)

    def save(self, pair: OAuthTokens) -> None:
        """Save the pair durably in its place. Raises StoreError."""
        try:
            self._write(self._next, _encode(pair))
            os.replace(self._next, self.file)
            self._sync_folder()
        except OSError as error:
            raise StoreError(
                (
                    f"the new login of {self._identity} can't be saved in {self._folder}: "
                    f"{error.strerror}"
                ),
                id="store/login-not-saved",
                hint=f"{DISK_HINT}; then run: syncd login {self._identity}",
            ) from error
        with suppress(OSError):
            os.unlink(self._note)  # it is about the previous pair

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_folder(descriptor)
        finally:
            os.close(descriptor)

    def delete(self) -> bool:
        """Remove the login from disk. Return False when there was none. Raises StoreError."""
        found = self.file.exists()
        try:
            for file in (self._next, self._note, self.file):
                with suppress(FileNotFoundError):
                    os.unlink(file)
            if found:
                self._sync_folder()
        except OSError as error:
            raise StoreError(
                (
                    f"the login of {self._identity} can't be removed from {self._folder}: "
                    f"{error.strerror}"
                ),
                id="store/login-not-removed",
                hint="remove the file yourself",
            ) from error
        return found

    def _finish_interrupted_save(self) -> None:
        """Move a pair that was written whole into its place, if it follows the pair there.

        That pair is the valid one; the one in place has been used up.
        """
        with suppress(StoreError, OSError):
            text = self._read(self._next)
            pair = _decode(text) if text is not None else None
            before = self.load() if pair is not None else None
            if pair is not None and before is not None and pair.after == before.mark:
                descriptor = os.open(self._next, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.replace(self._next, self.file)
                self._sync_folder()
                with suppress(OSError):
                    os.unlink(self._note)

    @staticmethod
    def _write(file: Path, content: bytes) -> None:
        """Write and sync the file.

        A process that dies during it leaves all of the content, or nothing usable.

        The file is overwritten in its place, not replaced: `begin_request` has reserved its room.
        """
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.ftruncate(descriptor, len(content))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _read(self, file: Path) -> str | None:
        try:
            with open(
                os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK), "rb"
            ) as opened:
                found = os.fstat(opened.fileno())
                # Root may read the files of the state's owner.
                root = os.geteuid() == 0
                owner = os.stat(self._folder.parent).st_uid if root else os.geteuid()
                if not stat.S_ISREG(found.st_mode) or found.st_uid != owner:
                    raise StoreError(
                        f"{file} is not a regular file that belongs to this user",
                        id="store/login-foreign-file",
                        hint=f"remove it, and run: syncd login {self._identity}",
                    )
                if found.st_mode & 0o077:
                    raise StoreError(
                        f"other users can read {file}, which holds the login "
                        f"(mode {stat.S_IMODE(found.st_mode):04o})",
                        id="store/login-exposed",
                        hint=f"run: syncd login {self._identity}",
                    )
                return opened.read(MAX_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"{file} can't be read: {error.strerror}",
                id="store/login-not-readable",
                hint="syncd must own its state folder",
            ) from error


def login_expires_at(pairs: OAuthTokenFile) -> datetime | None:
    """Return when the user has to log in again at the latest; None where the login does not end, or
    there is none.
    """
    try:
        pair = pairs.load()
    except StoreError:
        return None
    if pair is None:
        return None
    return pair.refresh_expires_at if pair.refresh is not None else pair.access_expires_at


def _encode(pair: OAuthTokens) -> bytes:
    def when(moment: datetime | None) -> str | None:
        return moment.isoformat() if moment is not None else None

    value = {
        "format": FORMAT,
        "api": pair.api,
        "client_id": pair.client_id,
        "login": pair.login,
        "access": pair.access.reveal(),
        "issued_at": when(pair.issued_at),
        "access_expires_at": when(pair.access_expires_at),
        "refresh": pair.refresh.reveal() if pair.refresh is not None else None,
        "refresh_expires_at": when(pair.refresh_expires_at),
        "after": pair.after,
    }
    return (json.dumps(value) + "\n").encode()


def _decode(text: str) -> OAuthTokens | None:
    """Return the pair; None for anything that is not a whole one."""
    try:
        found: Any = json.loads(text.partition("\n")[0])
        if found["format"] != FORMAT or not all(
            isinstance(found[name], str)
            for name in ("api", "client_id", "login", "access", "after")
        ):
            return None
        ends = [
            datetime.fromisoformat(found[name]) if found[name] is not None else None
            for name in ("access_expires_at", "refresh_expires_at")
        ]
        issued = datetime.fromisoformat(found["issued_at"])
        refresh = Secret(found["refresh"]) if isinstance(found["refresh"], str) else None
        if any(one is not None and one.tzinfo is None for one in (issued, *ends)):
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return OAuthTokens(
        found["api"],
        found["client_id"],
        found["login"],
        Secret(found["access"]),
        issued,
        ends[0],
        refresh,
        ends[1],
        found["after"],
    )


__all__ = ["OAuthTokenFile", "login_expires_at"]
