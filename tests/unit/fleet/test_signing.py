"""Keys of a fleet: as ssh-keygen and openssl write them, and no others."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from syncd.errors import ConfigError
from syncd.fleet.signing import TrustedKeys, read_public_key, read_signer
from syncd.redaction import Secret

KEY = Ed25519PrivateKey.generate()
LINE = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def written(format: PrivateFormat) -> str:
    return KEY.private_bytes(Encoding.PEM, format, NoEncryption()).decode()


@pytest.mark.parametrize("format", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_a_key_of_ssh_keygen_or_openssl_signs_what_its_public_line_verifies(
    format: PrivateFormat,
) -> None:
    signer = read_signer(Secret(written(format).strip()))  # as a secret is read: without its end
    other = Ed25519PrivateKey.generate().public_key()
    other_line = other.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    trusted = TrustedKeys([other_line, f"{signer.public_key} controller@ops"])
    assert trusted.signed(b"text", signer.sign(b"text"))
    assert not trusted.signed(b"other", signer.sign(b"text"))
    assert not trusted.signed(b"text", b"")
    assert not TrustedKeys([other_line]).signed(b"text", signer.sign(b"text"))


def test_a_private_key_that_cannot_sign_is_refused_without_being_shown() -> None:
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    other = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for text in ("nothing", locked.decode(), other.decode(), written(PrivateFormat.OpenSSH)[:120]):
        with pytest.raises(ConfigError, match=r"fleet\.sign: it is no") as found:
            read_signer(Secret(text))
        assert text not in found.value.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-rsa AAAA",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "LINE cut",
        "options LINE",
        "LINE LINE",
    ],
)
def test_a_line_that_is_no_public_key_is_refused(text: str) -> None:
    """`LINE` stands for a good one, whose key differs from test to test."""
    text = text.replace("LINE cut", LINE[:-8]).replace("LINE LINE", f"{LINE}\n{LINE}")
    with pytest.raises(ValueError, match=r"key|line"):
        read_public_key(text.replace("LINE", LINE))
