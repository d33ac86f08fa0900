"""Keys that sign commits as git does: SSH keys made here, and the programs of git itself.

`SshKey.sign` makes SSHSIG signatures without a program, so that a thousand of them cost little;
tests/unit/signatures compares them with ssh-keygen's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import textwrap
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from syncd.signatures.wire import pack

BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips a test where a program is missing; .ci/run installs all of them."""
    missing = [one for one in programs if shutil.which(one) is None]
    return pytest.mark.skipif(bool(missing), reason=f"there is no {', '.join(missing)}")


def armored(blob: bytes) -> str:
    """The armored text of a signature's bytes."""
    lines = textwrap.wrap(b64encode(blob).decode(), 70)
    return "\n".join([BEGIN, *lines, END, ""])


@dataclass
class SshKey:
    """An Ed25519 key that signs in SSH's way."""

    name: str = "ada@example.org"
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def blob(self) -> bytes:
        raw = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return pack(b"ssh-ed25519") + pack(raw)

    @property
    def public(self) -> str:
        """The key as in a `.pub` file, without a comment."""
        return f"ssh-ed25519 {b64encode(self.blob).decode()}"

    def line(self, options: str = "") -> str:
        """The key's line in a file of allowed signers."""
        return " ".join(filter(None, [self.name, options, self.public])) + "\n"

    def signature_blob(
        self, payload: bytes, namespace: str = "git", hash_name: str = "sha512"
    ) -> bytes:
        digest = hashlib.new(hash_name, payload).digest()
        head = (namespace.encode(), b"", hash_name.encode())
        signed = b"SSHSIG" + b"".join(map(pack, (*head, digest)))
        made = pack(b"ssh-ed25519") + pack(self.private.sign(signed))
        version = (1).to_bytes(4, "big")
        return b"SSHSIG" + version + b"".join(map(pack, (self.blob, *head, made)))

    def sign(self, payload: bytes) -> str:
        """The armored signature that git would put into a commit."""
        return armored(self.signature_blob(payload))

    def write(self, folder: Path) -> Path:
        """Write the private and the public key; return the path of the private one."""
        file = folder / f"key-{self.name.partition('@')[0]}"
        file.write_bytes(
            self.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        )
        file.chmod(0o600)
        file.with_name(f"{file.name}.pub").write_text(f"{self.public} {self.name}\n")
        return file


@dataclass
class SecurityKey:
    """A FIDO key whose private half is here, so that it signs without a token.

    Source: OpenSSH's PROTOCOL.u2f: the token signs SHA-256 of the application, the flags, the
    counter, and SHA-256 of the message; the last flag says that somebody touched it.
    """

    kind: str
    name: str = "ada@example.org"
    application: bytes = b"ssh:"
    flags: int = 1
    counter: int = 7

    def __post_init__(self) -> None:
        self.ed25519 = Ed25519PrivateKey.generate()
        self.ecdsa = ec.generate_private_key(ec.SECP256R1())

    @property
    def blob(self) -> bytes:
        if "ed25519" in self.kind:
            point = [self.ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)]
        else:
            public = self.ecdsa.public_key()
            format_ = PublicFormat.UncompressedPoint
            point = [b"nistp256", public.public_bytes(Encoding.X962, format_)]
        return b"".join(map(pack, (self.kind.encode(), *point, self.application)))

    def line(self, options: str = "") -> str:
        """The key's line in a file of allowed signers."""
        public = f"{self.kind} {b64encode(self.blob).decode()}"
        return " ".join(filter(None, [self.name, options, public])) + "\n"

    def raw_signature(self, data: bytes) -> bytes:
        """What the token's key itself makes of the data."""
        if "ed25519" in self.kind:
            return self.ed25519.sign(data)
        numbers = decode_dss_signature(self.ecdsa.sign(data, ec.ECDSA(hashes.SHA256())))
        return b"".join(pack(_mpint(one)) for one in numbers)

    def signed_by_token(self, message: bytes) -> bytes:
        """The data that the token signs for a message."""
        digest = hashlib.sha256(message).digest()
        return hashlib.sha256(self.application).digest() + self.end + digest

    @property
    def end(self) -> bytes:
        """The flags and the counter, as they are signed and as they end the signature."""
        return bytes([self.flags]) + self.counter.to_bytes(4, "big")

    def message(self, payload: bytes, namespace: str = "git") -> bytes:
        """What SSH asks the token to sign for a payload."""
        head = (namespace.encode(), b"", b"sha512", hashlib.sha512(payload).digest())
        return b"SSHSIG" + b"".join(map(pack, head))

    def armored(self, made: bytes, namespace: str = "git", blob: bytes | None = None) -> str:
        """The armored signature around `made`: the algorithm, what the key made, flags, counter."""
        parts = (blob or self.blob, namespace.encode(), b"", b"sha512", made)
        return armored(b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(pack, parts)))

    def sign(self, payload: bytes) -> str:
        """The armored signature that git would put into a commit."""
        made = self.raw_signature(self.signed_by_token(self.message(payload)))
        return self.armored(pack(self.kind.encode()) + pack(made) + self.end)


def _mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


@dataclass(frozen=True)
class GitRepository:
    """A repository of git's own, whose objects are read as git wrote them."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, *config: tuple[str, str]) -> GitRepository:
        made = cls(folder)
        folder.mkdir()
        made.git("init", "-q", "-b", "main")
        for key, value in config:
            made.git("config", key, value)
        return made

    def git(self, *arguments: str, content: bytes | None = None, **environ: str) -> str:
        """Run git; return its output without the last line end."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.folder,
            input=content,
            capture_output=True,
            check=True,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": "Ada Lovelace",
                "GIT_AUTHOR_EMAIL": "ada@example.org",
                "GIT_COMMITTER_NAME": "Grace Hopper",
                "GIT_COMMITTER_EMAIL": "grace@example.org",
                **environ,
            },
        )
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def commit(self, message: str, *options: str, **environ: str) -> str:
        self.git("commit", "-q", "--allow-empty", "-m", message, *options, **environ)
        return self.git("rev-parse", "HEAD")

    def raw(self, kind: str, name: str) -> bytes:
        """The object as it is stored."""
        return subprocess.run(
            ["git", "cat-file", kind, name], cwd=self.folder, capture_output=True, check=True
        ).stdout

    def objects(self) -> list[tuple[str, str]]:
        """(kind, id) of every object."""
        listed = self.git(
            "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"
        )
        return [
            (kind, name) for kind, _, name in (row.partition(" ") for row in listed.splitlines())
        ]


def ssh_config(key: Path, *more: tuple[str, str]) -> Sequence[tuple[str, str]]:
    """The configuration with which git signs by this SSH key."""
    return (("gpg.format", "ssh"), ("user.signingkey", str(key)), *more)
