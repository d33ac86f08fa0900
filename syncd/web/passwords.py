"""Checks passwords and tokens against what the configuration names, as it is at that moment.

A comparison takes the same time whatever the difference, and an unknown user costs as much as a
wrong password. A hash takes about a tenth of a second and 32 MiB of memory (scrypt, N = 32768,
r = 8): one is computed at a time, and a password that was right is remembered for its next use.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from threading import BoundedSemaphore, Lock

from msgspec import Struct
from werkzeug.security import check_password_hash

from syncd.redaction import Secret
from syncd.web.views import taken

MAX_REMEMBERED = 64  # passwords that were right
MAX_WAITING = 2  # hashes: one that is computed, and one that waits for it
# of an unknown user, so that it costs as much as a known one; no password has this hash
UNKNOWN_USER = (
    "scrypt:32768:8:1$WkOV2m8gZvIeQn1x$"
    "5d0b6c9a7d8c4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f"
    "8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0e9f8a7b"
)

Reader = Callable[[], Secret]


class Account(Struct, frozen=True):
    """Whose password was right: a user of `web.users`, or None for `web.password`.

    `proof` changes with the password.
    """

    user: str | None
    proof: str


class Passwords:
    """The passwords of the listener: `web.password` with any user name, and `web.users`.

    Safe to use from many threads.
    """

    def __init__(
        self, password: Reader | None, users: Mapping[str, Reader], token: Reader | None = None
    ) -> None:
        self.users, self._password, self._token = users, password, token
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._guard, self._hashing = Lock(), Lock()
        self._places = BoundedSemaphore(MAX_WAITING)

    @property
    def exist(self) -> bool:
        """Return whether a person can log in."""
        return self._password is not None or bool(self.users)

    @property
    def required(self) -> bool:
        """Return whether a stranger gets nothing."""
        return self.exist or self._token is not None

    def check(self, name: str, given: str) -> Account | None:
        """Return whose password this is; None if it is wrong.

        Raises ConfigError if a secret can't be read now, TooBusyError.
        """
        if self._password is not None and is_equal(given, self._password().reveal()):
            return self.account(None)
        if not self.users:
            return None
        known = name in self.users
        expected = self.users[name]().reveal() if known else UNKNOWN_USER
        return self.account(name) if self._matches(expected, given) and known else None

    def is_token(self, given: str) -> bool:
        """Return whether this is the token. Raises ConfigError if it can't be read now."""
        return self._token is not None and is_equal(given, self._token().reveal())

    def account(self, user: str | None) -> Account | None:
        """Return the account as it is now; None if there is none.

        Raises ConfigError if its secret can't be read now.
        """
        read = self._password if user is None else self.users.get(user)
        return None if read is None else Account(user, self._digest(user or "", read().reveal()))

    def _matches(self, expected: str, given: str) -> bool:
        """Return whether the password has this hash."""
        digest = bytes.fromhex(self._digest(expected, given))
        with self._guard:
            if digest in self._right:
                self._right.move_to_end(digest)
                return True
        with taken(self._places), self._hashing:
            if not check_password_hash(expected, given):
                return False
        with self._guard:
            self._right[digest] = None
            while len(self._right) > MAX_REMEMBERED:
                self._right.popitem(last=False)
        return True

    def _digest(self, *texts: str) -> str:
        text = "\0".join(texts).encode("utf-8", "surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def is_equal(given: str, expected: str) -> bool:
    """Return whether two texts are equal, in a time that does not depend on the difference."""
    digests = [
        hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, expected)
    ]
    return hmac.compare_digest(*digests)


__all__ = ["Account", "Passwords", "Reader", "is_equal"]
