"""The fingerprint of a key, compared with what GitHub's documentation tells a person to type."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest

from syncd.github.auth.fingerprint import key_fingerprint
from syncd.redaction import Secret
from syncd.simulator.github import GitHub
from tests.support.sync_env import app_with_known_key


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl computes the expectation")
def test_the_fingerprint_is_what_openssl_says() -> None:
    key = app_with_known_key(GitHub(), 12345)
    public = ["openssl", "rsa", "-pubout", "-outform", "DER"]
    der = subprocess.run(public, input=key.encode(), capture_output=True, check=True).stdout
    digest = ["openssl", "sha256", "-binary"]
    hashed = subprocess.run(digest, input=der, capture_output=True, check=True).stdout
    assert key_fingerprint(Secret(key)) == f"SHA256:{base64.b64encode(hashed).decode()}"


def test_a_text_that_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        key_fingerprint(Secret("nothing"))
