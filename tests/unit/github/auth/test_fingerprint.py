"""The fingerprint of an App's key, beside what GitHub's own instructions compute."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from syncd.github.auth.fingerprint import key_fingerprint
from syncd.redaction import Secret


def openssl(*arguments: str, given: bytes) -> bytes:
    return subprocess.run(
        ["openssl", *arguments], input=given, capture_output=True, check=True
    ).stdout


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_the_fingerprint_is_the_one_that_github_shows(form: str) -> None:
    """Source: GitHub docs, "Managing private keys for GitHub Apps", with openssl as it is there."""
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        getattr(serialization.PrivateFormat, form),
        serialization.NoEncryption(),
    )
    public = openssl("rsa", "-pubout", "-outform", "DER", given=pem)
    digest = openssl("sha256", "-binary", given=public)
    shown = f"SHA256:{base64.b64encode(digest).decode()}"
    assert key_fingerprint(Secret(pem.decode())) == shown
