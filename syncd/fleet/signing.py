"""Ed25519 signatures of revisions: a stolen database cannot make an agent write a file.

Keys are those of `ssh-keygen -t ed25519`: a private key in OpenSSH's format, or as PEM, and public
keys as the line of the `.pub` file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from syncd.errors import ConfigError
from syncd.redaction import Secret

PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]+={0,2}( .*)?")


class Signer:
    """A private key that signs revisions."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public_key(self) -> str:
        """Return the public half, as `trust:` takes it."""
        public = self._key.public_key()
        return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

    def sign(self, text: bytes) -> bytes:
        """Return the signature of the text."""
        return self._key.sign(text)


def read_signer(key: Secret) -> Signer:
    """Return what signs with a private key. Raises ConfigError, which never shows it."""
    text = key.reveal().encode() + b"\n"
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in text else load_pem_private_key
    try:
        found = load(text, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable("it is no private key without a passphrase") from error
    if not isinstance(found, Ed25519PrivateKey):
        raise _unusable("it is no Ed25519 key")
    return Signer(found)


def _unusable(reason: str) -> ConfigError:
    return ConfigError(
        f"fleet.sign: {reason}",
        id="config/fleet-key",
        hint="make one: ssh-keygen -t ed25519 -N '' -f fleet.key",
    )


def read_public_key(text: str) -> Ed25519PublicKey:
    """Return a public key from the line of a `.pub` file. Raises ValueError."""
    if not PUBLIC_KEY.fullmatch(text):
        raise ValueError("write the line of the .pub file that ssh-keygen -t ed25519 makes")
    try:
        found = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("the key is damaged: it is not what ssh-keygen made") from error
    if not isinstance(found, Ed25519PublicKey):
        raise ValueError("it is no Ed25519 key")
    return found


class TrustedKeys:
    """The public keys whose revisions an agent applies."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._keys = [read_public_key(line) for line in lines]

    def signed(self, text: bytes, signature: bytes) -> bool:
        """Return whether one of the keys made the signature of the text."""
        for key in self._keys:
            try:
                key.verify(signature, text)
            except InvalidSignature:
                continue
            return True
        return False


__all__ = ["Signer", "TrustedKeys", "read_public_key", "read_signer"]
