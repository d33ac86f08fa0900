"""Reads the file of allowed signers: who may write it, what is in it, and whether it changed.

As root, a file that another user may write is refused, as it decides which commits are obeyed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from msgspec import Struct

from syncd.errors import ConfigError
from syncd.signatures.signed_object import SignedObject
from syncd.signatures.verdict import Verdict
from syncd.trusted_path import open_checked, problems_for_owner

if TYPE_CHECKING:  # it loads cryptography, which most runs do without
    from syncd.signatures.allowed_signers import AllowedSigners

MAX_FILE_BYTES = 4 << 20


class SignersFile(Struct, frozen=True):
    """What was read from the file; `digest` changes with its content."""

    allowed: AllowedSigners
    digest: str


def read_signers(file: str, owner: int | None) -> SignersFile:
    """Return the content of the file; `owner` is the user of the state.

    Raises ConfigError for a file that can't be read or used, or that another user may write.
    """
    from syncd.signatures.allowed_signers import parse_allowed_signers
    from syncd.signatures.openpgp import read_keys

    content = _read(file, owner)
    try:
        text = content.decode("utf-8-sig")
        allowed = parse_allowed_signers(text)
        read_keys(allowed.openpgp_keys)
    except ValueError as error:
        raise _unusable(f"{file} can't be used: {error}") from error
    if allowed.problems:
        line, problem = allowed.problems[0]
        raise _unusable(f"{file}:{line}: {problem}")
    if allowed.is_empty:
        raise _unusable(f"{file} names no key")
    return SignersFile(allowed, hashlib.sha256(content).hexdigest())


def _unusable(text: str) -> ConfigError:
    return ConfigError(
        f"signed_by: {text}",
        id="config/signers-file",
        hint="each line is PRINCIPAL KEYTYPE KEY, as in ssh-keygen(1), or part of an armored "
        "OpenPGP key; try it with: syncd check",
    )


def _read(file: str, owner: int | None) -> bytes:
    try:
        descriptor, doubts = open_checked(file, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as opened:
            if left := problems_for_owner(doubts, owner):
                raise ConfigError(
                    f"signed_by: {left[0].path} {left[0].text}",
                    id="config/signers-file-writable",
                    hint=left[0].fix,
                )
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise _unusable(f"{file} is no regular file")
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unusable(f"{file} can't be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise _unusable(f"{file} is larger than {MAX_FILE_BYTES >> 20} MiB")
    return content


class SignersFiles:
    """The `Signers` of ports: reads a file anew for each question. Safe to use from many threads.

    `owner` is the user of the state, who may write a file that root reads.
    """

    def __init__(self, owner: int | None) -> None:
        self._owner = owner

    def digest(self, file: str) -> str:
        """Return a digest of the file's content; empty for one that can't be used."""
        try:
            return read_signers(file, self._owner).digest
        except ConfigError:
            return ""

    def verify(self, file: str, signed: SignedObject) -> Verdict:
        """Return whether the object is signed by one of the signers in the file.

        Raises ConfigError for a file that can't be used, and for an OpenPGP signature on a machine
        without gpgv.
        """
        from syncd.signatures.openpgp import GpgvMissingError
        from syncd.signatures.verify import verify

        allowed = read_signers(file, self._owner).allowed
        try:
            return verify(signed, allowed)
        except GpgvMissingError as error:
            raise ConfigError(
                f"an OpenPGP signature can't be verified: {error}",
                id="config/no-gpgv",
                hint="install it: apt install gpgv",
            ) from error
