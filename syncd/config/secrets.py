"""Reads and checks the secrets that the configuration names, without ever showing them.

How the text of a private key is normalised is in pem.py.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from syncd.config.model import Config, secrets_of
from syncd.config.web_secrets import checked_password_hash, checked_web_secret
from syncd.errors import ConfigError, Problem
from syncd.identities import SecretRef
from syncd.owners import nearest_owner
from syncd.pem import normalise_key
from syncd.redaction import Secret
from syncd.trusted_path import (
    TrustProblem,
    open_checked,
    problems_for_owner,
    secret_exposure,
    state_owner,
)

if TYPE_CHECKING:
    from syncd.config.cross_checks import ProblemFactory
    from syncd.config.yaml_reader import Key

CREDENTIALS = Path("/run/credentials")
UNITS = ("syncd.service", "syncd-root.service", "syncd-sync.service")
MAX_SECRET_BYTES = 64 << 10
MIN_KEY_BITS = 2048


def check_secrets(
    config: Config, environ: Mapping[str, str], problem_at: ProblemFactory
) -> list[Problem]:
    """Return the problems of all secrets and authorities, each at its key, without their
    content.
    """
    from syncd.config.yaml_reader import (
        key_text,
    )  # it loads the YAML reader, which a run whose configuration was judged before does without

    found = [
        problem_at(
            key,
            error.message.removeprefix(f"{key_text(key)}: ")
            + (f"; {error.hint}" if error.hint else ""),
        )
        for key, error in secret_errors(config, environ)
    ]
    files = [str(file) for file in config.files]
    return sorted(
        found, key=lambda problem: (files.index(problem.file), problem.line, problem.column)
    )


def secret_errors(config: Config, environ: Mapping[str, str]) -> Iterator[tuple[Key, ConfigError]]:
    """Yield each secret and authority that can't be used, with the reason, without its content."""
    from syncd.config.yaml_reader import key_text  # as in check_secrets

    owner = state_owner(config.state)
    for key, ref in secrets_of(config).items():
        try:
            _check(key, key_text(key), ref, environ, owner)
        except ConfigError as error:
            yield key, error
    for name, identity in config.identities.items():
        if identity.ca_file is not None:
            problem = inspect_authority(identity.ca_file, owner)
            if problem is not None:
                where: Key = ("github", name, "ca_file")
                yield where, ConfigError(f"{key_text(where)}: {problem}", id="config/ca-file")
    yield from _signers_errors(config, owner)


def _signers_errors(config: Config, owner: int | None) -> Iterator[tuple[Key, ConfigError]]:
    """Yield each file of allowed signers that can't be used, with the reason."""
    from syncd.config.yaml_reader import key_text  # as in check_secrets

    for name, job in config.jobs.items():
        if job.require.signed_by is not None:
            from syncd.signatures.signers_file import read_signers  # most configurations have none

            try:
                read_signers(job.require.signed_by, owner)
            except ConfigError as error:
                where: Key = ("jobs", name, "require", "signed_by")
                text = f"{key_text(where)}: {error.message.removeprefix('signed_by: ')}"
                yield where, ConfigError(text, id=error.id, hint=error.hint)


def doubts_about_files(config: Config, owner: int | None) -> dict[Key, list[TrustProblem]]:
    """Return who else may write the secrets and authorities that are files.

    A file that does not exist is left out.
    """
    named: dict[Key, str] = {
        key: ref.value for key, ref in secrets_of(config).items() if ref.kind == "file"
    }
    named |= {
        ("github", name, "ca_file"): one.ca_file
        for name, one in config.identities.items()
        if one.ca_file is not None
    }
    named |= {
        ("jobs", name, "require", "signed_by"): job.require.signed_by
        for name, job in config.jobs.items()
        if job.require.signed_by is not None
    }
    found: dict[Key, list[TrustProblem]] = {}
    for key, file in named.items():
        with suppress(OSError):
            descriptor, doubts = open_checked(file, os.O_RDONLY | os.O_NONBLOCK)
            os.close(descriptor)
            found[key] = problems_for_owner(doubts, owner)
    return found


def _check(
    key: Key, what: str, ref: SecretRef, environ: Mapping[str, str], owner: int | None
) -> None:
    if key[-1] == "private_key":
        read_key(ref, environ, what, owner)
    elif key[0] == "github":
        read_token(ref, environ, what, owner)
    elif key[0] == "web":
        read_web_secret(ref, environ, what, owner)
    else:
        secret = read_secret(ref, environ, what, owner)
        problem = inspect_address(secret) if key[0] == "notify" else None
        if problem:
            raise ConfigError(
                f"{what}: {problem}",
                id="config/notify-address",
                hint="write the address alone into its file or variable",
            )


def read_secret(
    ref: SecretRef, environ: Mapping[str, str], what: str, owner: int | None = None
) -> Secret:
    """Read a secret's text, without a byte order mark and surrounding white space.

    `owner` is the user of the state, whose files root reads when it inspects that state. Raises
    ConfigError that says where it was looked for and how to provide it.
    """
    if ref.kind == "env":
        if not environ.get(ref.value):
            raise ConfigError(
                f"{what}: the environment has no {ref.value}",
                id="config/secret-variable-missing",
                hint=f"set {ref.value}, or name a file",
            )
        return Secret(
            _decode(os.fsencode(environ[ref.value]), what, f"the environment's {ref.value}")
        )
    if ref.kind == "file":
        return Secret(_read(Path(ref.value), what, owner, private=True))
    file = _credential(ref.value, environ, what)
    if _is_blank(
        file
    ):  # what the unit's SetCredential= gives where LoadCredential='s file is missing
        raise ConfigError(
            f"{what}: the credential {ref.value} is empty",
            id="config/credential-empty",
            hint=(
                f"the file that LoadCredential={ref.value}: names is missing, empty or no file; put"
                " it there and restart the service"
            ),
        )
    return Secret(_read(file, what, owner, private=False))


def _credential(name: str, environ: Mapping[str, str], what: str) -> Path:
    """Return the credential's file: in the unit's own folder, or outside in those of
    syncd's units.
    """
    places = (
        [Path(environ["CREDENTIALS_DIRECTORY"])]
        if environ.get("CREDENTIALS_DIRECTORY")
        else [CREDENTIALS / unit for unit in UNITS]
    )
    for place in places:
        if os.access(place / name, os.R_OK):
            return place / name
    raise ConfigError(
        f"{what}: there is no credential {name} in {' or '.join(map(str, places))}",
        id="config/credential-missing",
        hint=(
            f"in the unit: LoadCredential={name}:/etc/syncd/{name}; by hand: systemd-run --pty -p"
            f" LoadCredential={name}:/etc/syncd/{name} syncd sync"
        ),
    )


def _is_blank(file: Path) -> bool:
    try:
        return file.is_file() and not file.read_bytes()[:2].strip()
    except OSError:  # reading it says why
        return False


def _read(file: Path, what: str, owner: int | None, private: bool) -> str:
    try:
        descriptor, doubts = open_checked(
            file, os.O_RDONLY | os.O_NONBLOCK
        )  # a pipe without a writer would wait for one
        with open(descriptor, "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(
                    f"{what}: {file} is no regular file",
                    id="config/secret-no-file",
                    hint="name the file that holds the secret",
                )
            if private and (problem := secret_exposure(found)) is not None:
                raise ConfigError(
                    f"{what}: {file} {problem} (mode {stat.S_IMODE(found.st_mode):04o})",
                    id="config/secret-exposed",
                    hint=f"chmod 600 {file}",
                )
            _refuse_doubts(problems_for_owner(doubts, owner), what)
            raw = opened.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        refused = isinstance(error, PermissionError)
        hint = _who_may_read(file) if refused else "check the path and who may read it"
        raise ConfigError(
            f"{what}: {file} can't be read: {error.strerror}",
            id="config/secret-not-readable",
            hint=hint,
        ) from error
    if len(raw) > MAX_SECRET_BYTES:
        raise ConfigError(f"{what}: {file} is too large for a secret")
    return _decode(raw, what, str(file))


def _who_may_read(file: Path) -> str:
    """Return the remedy for a file that this process may not read."""
    try:
        is_ours = os.stat(file).st_uid == os.geteuid()
    except OSError:  # in a folder that it may not enter
        is_ours = False
    if is_ours:
        return f"chmod 600 {file}"
    return f"only {nearest_owner(file)} may read it: run syncd as that user"


def _refuse_doubts(doubts: list[TrustProblem], what: str) -> None:
    """Raise ConfigError that names each path another user may write, and the command to fix it."""
    if doubts:
        raise ConfigError(
            f"{what}: " + "; ".join(f"{one.path} {one.text}" for one in doubts),
            id="config/secret-writable-by-others",
            hint="; ".join(one.fix for one in doubts),
        )


def _decode(raw: bytes, what: str, place: str) -> str:
    """Return the text in `raw`, read from `place`. Raises ConfigError if it is empty or no
    UTF-8.
    """
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):  # as PowerShell's `>` writes files
        raise ConfigError(
            f"{what}: {place} is UTF-16, not UTF-8 text",
            id="config/secret-not-utf8",
            hint="save it as UTF-8",
        )
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what}: {place} is not text") from error
    if not text or "\0" in text:
        raise ConfigError(
            f"{what}: {place} is empty" if not text else f"{what}: {place} is not text"
        )
    return text


def read_key(
    ref: SecretRef, environ: Mapping[str, str], what: str, owner: int | None = None
) -> Secret:
    """Read a private key that can sign. Raises ConfigError that never shows its content."""
    key = Secret(normalise_key(read_secret(ref, environ, what, owner).reveal()))
    problem = inspect_key(key)
    if problem:
        raise ConfigError(
            f"{what}: {problem}",
            id="config/unusable-key",
            hint="download a private key in the App's settings, and give that file as it is",
        )
    return key


def read_token(
    ref: SecretRef, environ: Mapping[str, str], what: str, owner: int | None = None
) -> Secret:
    """Read a token that can be sent. Raises ConfigError that never shows its content."""
    token = read_secret(ref, environ, what, owner)
    problem = inspect_token(token)
    if problem:
        raise ConfigError(
            f"{what}: {problem}",
            id="config/unusable-token",
            hint="write the token alone into its file or variable",
        )
    return token


def read_web_secret(
    ref: SecretRef, environ: Mapping[str, str], what: str, owner: int | None = None
) -> Secret:
    """Read a secret of the listener: a hash where `what` ends in `.hash`.

    `owner` is the user of the state. Raises ConfigError if it can be guessed, is no hash, or if
    another user may write it.
    """
    secret = read_secret(ref, environ, what, owner)
    is_hash = what.endswith(".hash")
    return checked_password_hash(secret, what) if is_hash else checked_web_secret(secret, what)


@lru_cache(maxsize=4)  # it is read again whenever something is to be signed
def inspect_key(key: Secret) -> str | None:
    """Return why a key can't sign as an App, or None. Names only the kind of the mistake."""
    text = key.reveal()
    first = text.lstrip().splitlines()[0] if text.strip() else ""
    if "PUBLIC KEY" in first or "CERTIFICATE" in first:
        return "this is a public key or a certificate; the private key is needed"
    if "OPENSSH" in first:
        return "this is a key in OpenSSH's format; the App's own PEM is needed"
    if "ENCRYPTED" in text.upper()[:400]:
        return "the key is encrypted; syncd can't ask for a passphrase"
    if first.startswith("MII"):
        return "its lines -----BEGIN ...----- and -----END ...----- are missing"
    if not first.startswith("-----BEGIN"):
        return "this is no PEM private key (it does not begin with -----BEGIN)"
    if "-----END" not in text:
        return "the key is cut off: its last line -----END ...----- is missing"
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        # a signature that its own public half confirms says what the library's validation would, in
        # 1 ms instead of 30 (docs/decisions/0007-what-a-tick-costs.md)
        loaded = load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
        if not isinstance(loaded, RSAPrivateKey):
            return "this is not an RSA key; GitHub Apps sign with RSA"
        if loaded.key_size < MIN_KEY_BITS:
            return f"the key has {loaded.key_size} bits; at least {MIN_KEY_BITS} are needed"
        loaded.public_key().verify(
            loaded.sign(b"", PKCS1v15(), SHA256()), b"", PKCS1v15(), SHA256()
        )
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        return "the key is damaged: it is no PEM private key that can sign"
    return None


def inspect_token(token: Secret) -> str | None:
    """Return why a text can't be a token, or None.

    Source: GitHub says only that tokens are opaque; a header carries visible ASCII.
    """
    text = token.reveal()
    if text.startswith("-----BEGIN"):
        return "this is a key or a certificate; a token is needed"
    if text[:1] in ("'", '"') or text[-1:] in ("'", '"'):
        return "is in quotes"
    if "\\" in text:
        return "holds a backslash (a line end that was written as \\n?)"
    if not all("!" <= letter <= "~" for letter in text):
        return "holds a space, a line end or another character that no token has"
    return None


def inspect_address(address: Secret) -> str | None:
    """Return why a text can't be an address for notifications, or None."""
    text = address.reveal()
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "this is not an address"
    if not all("!" <= letter <= "~" for letter in text):
        return "holds a space, a line end or another character that no address has"
    if parts.scheme not in ("https", "http") or not host:
        return "this is not an address; it must begin with https:// and name a host"
    if parts.scheme == "http" and not _is_loopback(host):
        return "this would send messages in the clear; use https (http is for loopback only)"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def inspect_authority(ca_file: str, owner: int | None = None) -> str | None:
    """Return why a file can't be a certificate authority, or None.

    `owner` is the user of the state.
    """
    import ssl

    from syncd.tls import client_context

    try:
        descriptor, doubts = open_checked(ca_file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if left := problems_for_owner(doubts, owner):
                return "; ".join(map(str, left))
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):  # reading it would wait for a writer
                return f"{ca_file} is a pipe; name a file"
            client_context(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
    except ssl.SSLError:
        return (
            f"{ca_file} holds no certificate that can be read; it must be PEM, beginning with"
            " -----BEGIN CERTIFICATE-----"
        )
    except OSError as error:
        return f"{ca_file} can't be read: {error.strerror}"
    return None
