"""SSH signatures of files, as git makes them with `gpg.format = ssh`.

Source: OpenSSH's PROTOCOL.sshsig.
"""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode

from msgspec import Struct

from syncd.signatures.ssh_keys import Certificate, PublicKey, is_signed_by, read_key
from syncd.signatures.wire import Reader, WireError, pack

BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
MAGIC, VERSION = b"SSHSIG", 1
NAMESPACE = "git"  # of every signature that git makes: git-config(1), gpg.format
HASHES = {"sha256": hashlib.sha256, "sha512": hashlib.sha512}


class SshSignature(Struct, frozen=True):
    """A signature that was read, and not yet verified."""

    key: PublicKey | Certificate
    namespace: str
    hash_name: str
    signature: bytes

    @property
    def plain_key(self) -> PublicKey:
        """The key that made the signature."""
        return self.key.key if isinstance(self.key, Certificate) else self.key

    def is_over(self, payload: bytes) -> bool:
        """Return whether its key has made the signature over the payload. Raises WireError."""
        digest = HASHES[self.hash_name](payload).digest()
        parts = (self.namespace.encode(), b"", self.hash_name.encode(), digest)
        signed = MAGIC + b"".join(map(pack, parts))
        return is_signed_by(self.plain_key, self.signature, signed)


def read_signature(armored: str) -> SshSignature:
    """Return the signature in an armored text. Raises WireError for one that is damaged, not in
    git's namespace, or made with another hash than SHA-2.
    """
    reader = Reader(_without_armor(armored))
    if reader.take(len(MAGIC)) != MAGIC or reader.number(4) != VERSION:
        raise WireError("it is no SSH signature of version 1")
    key = read_key(reader.string())
    namespace = reader.text()
    reader.string()  # reserved; it is signed as empty, whatever it is
    hash_name = reader.text()
    signature = reader.string()
    reader.end()
    if namespace != NAMESPACE:
        raise WireError(f"it was made for {namespace[:60]!r} and not for 'git'")
    if hash_name not in HASHES:
        raise WireError(f"its hash is {hash_name[:60]!r}; it has to be sha256 or sha512")
    return SshSignature(key, namespace, hash_name, signature)


def _without_armor(armored: str) -> bytes:
    text = armored.strip()
    if not (text.startswith(f"{BEGIN}\n") and text.endswith(f"\n{END}")):
        raise WireError("it is cut off")
    content = "".join(text[len(BEGIN) : -len(END)].split())
    try:
        return b64decode(content, validate=True)
    except binascii.Error as error:
        raise WireError("it is no base64") from error
