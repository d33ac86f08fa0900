"""The tokens of users who logged in: one file for each identity, 0600 in a 0700 folder, and the only secrets that syncd keeps.

They have to be kept: a refresh token works once and gives the next one, so whoever forgets it logs in again by hand. Promises: a new
pair is on disk, synced, before anybody uses it; at most one process of all is between asking for a pair and keeping it; and a process that
dies there leaves a note that says so. Which steps are safe: the answer is written whole to `NAME.next` as soon as it is here, and that file
is taken over by the next process where the rename was not reached. Only a death before that write loses a pair.
"""

from __future__ import annotations

import fcntl
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
from syncd.identities import OAuthTokens
from syncd.redaction import Secret
from syncd.store.access import make_state_folder, refuse_stranger
from syncd.store.location import locks_on, sync_folder
from syncd.store.lock import safe_name

FORMAT = 1
POLL_INTERVAL_SECONDS = 0.05
MAX_BYTES = 64 << 10
HINT = "the state folder must be on a disk with room, and writable by the user who runs syncd"


class OAuthTokenFile:
    """One identity's pair. Nothing is made before something is to be kept."""

    def __init__(self, state_dir: Path, identity: str) -> None:
        self._folder, self._identity = state_dir / "logins", identity
        name = safe_name(identity)
        self.file = self._folder / f"{name}.json"
        self._next, self._note, self._lock = (
            self._folder / f"{name}.{suffix}" for suffix in ("next", "asking", "lock")
        )

    def load(self) -> OAuthTokens | None:
        """The pair that is kept; None where nobody has logged in. Raises StoreError for a file that can't be believed."""
        text = self._read(self.file)
        if text is None:
            return None
        pair = _decoded(text)
        if pair is None:
            raise StoreError(
                f"{self.file} is damaged: it is no pair of tokens",
                hint=f"run: syncd login {self._identity}",
            )
        return pair

    @contextmanager
    def exclusive_lock(self, deadline: Deadline) -> Iterator[None]:
        """No other process asks for a pair, or keeps one, while the block runs. Raises as `Patience.check` does, and StoreError.

        The kernel lets go of the lock when its holder dies.
        """
        refuse_stranger(self._folder.parent)
        try:
            make_state_folder(self._folder.parent)
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            descriptor = os.open(
                self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise StoreError(
                f"can't keep the login of {self._identity} in {self._folder}: {error.strerror}",
                hint=HINT,
            ) from error
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    deadline.wait(POLL_INTERVAL_SECONDS)
                except OSError as error:
                    raise StoreError(
                        f"can't lock {self._lock}: {error.strerror}", hint=HINT
                    ) from error
            self._take_over()
            yield
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """The pid of the process that is between asking and keeping, where the kernel tells."""
        return next((pid for _, pid in locks_on(self._lock) if pid > 0), None)

    def interrupted_request(self, pair: OAuthTokens) -> Mapping[str, str] | None:
        """What a process left that asked for the pair after this one and never got to keep it: `pid` and `at`; None when there was none."""
        with suppress(ValueError, StoreError):
            note = json.loads(self._read(self._note) or "null")
            if isinstance(note, dict) and note.get("mark") == pair.mark:
                return {name: str(note.get(name)) for name in ("pid", "at")}
        return None

    def begin_request(self, pair: OAuthTokens, now: datetime) -> None:
        """From here on the next pair is asked for: noted on the disk, and room made for it. Raises StoreError, and nothing was asked."""
        note = json.dumps(
            {"mark": pair.mark, "pid": os.getpid(), "at": now.isoformat(timespec="seconds")}
        ).encode()
        try:
            self._write(self._note, note)
            self._write(
                self._next, b" " * 4096
            )  # as long as a pair may become: a full disk is met now
            sync_folder(self._folder)
        except OSError as error:
            raise StoreError(
                f"can't keep the login of {self._identity}: {error.strerror}", hint=HINT
            ) from error

    def end_request(self, pair: OAuthTokens) -> None:
        """GitHub refused: no pair was lost."""
        for file in (self._note, self._next):
            with suppress(OSError):
                os.unlink(file)

    def save(self, pair: OAuthTokens) -> None:
        """The pair is on disk, synced, and in its place. Raises StoreError."""
        try:
            self._write(self._next, _encoded(pair))
            os.replace(self._next, self.file)
            sync_folder(self._folder)
        except OSError as error:
            raise StoreError(
                f"can't keep the new login of {self._identity} in {self._folder}: {error.strerror}",
                hint=f"{HINT}; then run: syncd login {self._identity}",
            ) from error
        with suppress(OSError):
            os.unlink(self._note)  # it speaks of the pair before

    def delete(self) -> bool:
        """Nothing of the login is on disk any more. False when there was nothing."""
        found = self.file.exists()
        try:
            for file in (self._next, self._note, self.file):
                with suppress(FileNotFoundError):
                    os.unlink(file)
            if found:
                sync_folder(self._folder)
        except OSError as error:
            raise StoreError(
                f"can't remove the login of {self._identity} from {self._folder}: {error.strerror}",
                hint="remove the file yourself",
            ) from error
        return found

    def _take_over(self) -> None:
        """A pair that was written whole and not yet put into its place follows the one in place: it is the living one."""
        with suppress(StoreError, OSError):
            text = self._read(self._next)
            pair = _decoded(text) if text is not None else None
            before = self.load() if pair is not None else None
            if pair is not None and before is not None and pair.after == before.mark:
                descriptor = os.open(self._next, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                os.replace(self._next, self.file)
                sync_folder(self._folder)
                with suppress(OSError):
                    os.unlink(self._note)

    @staticmethod
    def _write(file: Path, content: bytes) -> None:
        """The file holds the content, synced; one write, so that a death leaves all of it or nothing of use."""
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
                owner = (
                    os.stat(self._folder.parent).st_uid if os.geteuid() == 0 else os.geteuid()
                )  # root may look
                if not stat.S_ISREG(found.st_mode) or found.st_uid != owner:
                    raise StoreError(
                        f"{file} is not a file of this user's",
                        hint=f"remove it, and run: syncd login {self._identity}",
                    )
                if found.st_mode & 0o077:
                    raise StoreError(
                        f"{file} can be read by others (mode {stat.S_IMODE(found.st_mode):04o}), and so can the login",
                        hint=f"run: syncd login {self._identity}",
                    )
                return opened.read(MAX_BYTES).decode("utf-8", "replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"can't read {file}: {error.strerror}", hint="syncd must own its state folder"
            ) from error


def login_expires_at(pairs: OAuthTokenFile) -> datetime | None:
    """When somebody has to log in again at the latest; None where it does not end, or nobody is logged in."""
    try:
        pair = pairs.load()
    except StoreError:
        return None
    if pair is None:
        return None
    return pair.refresh_expires_at if pair.refresh is not None else pair.access_expires_at


def _encoded(pair: OAuthTokens) -> bytes:
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


def _decoded(text: str) -> OAuthTokens | None:
    """The pair, or None for anything that is not a whole one."""
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
