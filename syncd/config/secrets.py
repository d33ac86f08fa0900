"""Reads the secrets that the configuration names, and judges them without ever showing them."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from syncd.errors import ConfigError
from syncd.models import Secret, SecretRef

CREDENTIALS = Path("/run/credentials")
UNITS = ("syncd.service", "syncd-root.service", "syncd-sync.service")
LARGEST = 64 << 10
SHORTEST_KEY_BITS = 2048


def read_secret(ref: SecretRef, environ: Mapping[str, str], what: str) -> Secret:
    """The secret's text, without a final newline. Raises ConfigError that says where it was looked for and how to give it."""
    if ref.kind == "env":
        if not environ.get(ref.value):
            raise ConfigError(f"{what}: the environment has no {ref.value}", hint=f"set {ref.value}, or name a file")
        return Secret(environ[ref.value])
    return Secret(_read(_credential(ref.value, environ, what) if ref.kind == "credential" else Path(ref.value), what, private=ref.kind == "file"))


def _credential(name: str, environ: Mapping[str, str], what: str) -> Path:
    """systemd's own folder inside the unit; outside, what systemd has put down for the service."""
    places = [Path(environ["CREDENTIALS_DIRECTORY"])] if environ.get("CREDENTIALS_DIRECTORY") else [CREDENTIALS / unit for unit in UNITS]
    for place in places:
        if os.access(place / name, os.R_OK):
            return place / name
    raise ConfigError(
        f"{what}: there is no credential {name} in {' or '.join(map(str, places))}",
        hint=f"in the unit: LoadCredential={name}:/etc/syncd/{name}; by hand: systemd-run --pty -p LoadCredential={name}:/etc/syncd/{name} syncd sync",
    )


def _read(file: Path, what: str, private: bool) -> str:
    try:
        with open(file, "rb") as opened:
            found = os.fstat(opened.fileno())
            if private and stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
                raise ConfigError(f"{what}: {file} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 600 {file}")
            raw = opened.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{what}: {file} can't be read: {error.strerror}", hint="check the path and who may read it") from error
    if len(raw) > LARGEST:
        raise ConfigError(f"{what}: {file} is too large for a secret")
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what}: {file} is not text") from error
    if not text or "\0" in text:
        raise ConfigError(f"{what}: {file} is empty" if not text else f"{what}: {file} is not text")
    return text


def normalise_key(text: str) -> str:
    """A PEM as the cryptography library wants it: real line ends (also when an environment variable carried `\\n`), and a final one."""
    return text.replace("\\n", "\n").replace("\r\n", "\n").strip() + "\n"


def read_key(ref: SecretRef, environ: Mapping[str, str], what: str) -> Secret:
    """A private key that can sign. Raises ConfigError that says what is wrong with it, never what is in it."""
    key = Secret(normalise_key(read_secret(ref, environ, what).reveal()))
    problem = inspect_key(key)
    if problem:
        raise ConfigError(f"{what}: {problem}", hint="download a private key in the App's settings, and give that file as it is")
    return key


def inspect_key(key: Secret) -> str | None:
    """Why a key can't sign as an App, or None. Only the kind of the mistake is named."""
    text = key.reveal()
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    if "PUBLIC KEY" in first or "CERTIFICATE" in first:
        return "this is a public key or a certificate; the private key is needed"
    if "OPENSSH" in first:
        return "this is a key in OpenSSH's format; the App's own PEM is needed"
    if "ENCRYPTED" in text.upper()[:400]:
        return "the key is encrypted; syncd has nobody to ask for a passphrase"
    if not first.startswith("-----BEGIN"):
        return "this is no PEM private key (it does not begin with -----BEGIN)"
    if "-----END" not in text:
        return "the key is cut off: its last line -----END ...----- is missing"
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "the key is damaged: it is no PEM private key that can be read"
    if not isinstance(loaded, RSAPrivateKey):
        return "this is not an RSA key; GitHub Apps sign with RSA"
    if loaded.key_size < SHORTEST_KEY_BITS:
        return f"the key has {loaded.key_size} bits; at least {SHORTEST_KEY_BITS} are needed"
    return None
