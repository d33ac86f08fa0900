"""Secrets and keys: what is wrong with one is named, what is in it never."""

from __future__ import annotations

import base64
import pickle
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from syncd.config.secrets import inspect_key, normalise_key, read_key, read_secret
from syncd.errors import ConfigError
from syncd.models import Secret, SecretRef

KEY = rsa.generate_private_key(65537, 2048)
PKCS1 = KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.NoEncryption()).decode()
PKCS8 = KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()

BAD = {
    "encrypted": (KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x")).decode(), "encrypted"),
    "encrypted, old form": (KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.BestAvailableEncryption(b"x")).decode(), "encrypted"),
    "public": (KEY.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo).decode(), "public"),
    "short": (rsa.generate_private_key(65537, 1024).private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode(), "1024 bits"),
    "elliptic": (ec.generate_private_key(ec.SECP256R1()).private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode(), "not an RSA key"),
    "openssh": (KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption()).decode(), "OpenSSH"),
    "first line only": (PKCS1.splitlines()[0], "cut off"),
    "cut": (PKCS1[:500], "cut off"),
    "damaged": (PKCS1[:300] + "AAAA" + PKCS1[340:], "damaged"),
    "a token": ("ghp_" + "x" * 36, "no PEM"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_key_that_can_not_sign_is_named_and_never_shown(name: str) -> None:
    text, said = BAD[name]
    problem = inspect_key(Secret(normalise_key(text)))
    assert problem is not None and said in problem
    assert not any(line in problem for line in text.splitlines() if len(line) > 20 and not line.startswith("-----"))


@pytest.mark.parametrize("form", [s.PrivateFormat.TraditionalOpenSSL, s.PrivateFormat.PKCS8], ids=["PKCS 1", "PKCS 8"])
def test_a_key_that_is_damaged_anywhere_is_refused_or_signs_as_itself(form: s.PrivateFormat) -> None:
    der, rng = KEY.private_bytes(s.Encoding.DER, form, s.NoEncryption()), random.Random(2048)
    refused = 0
    for _ in range(300):
        damaged, at = bytearray(der), rng.randrange(len(der))
        damaged[at] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            damaged[at : at + 100] = bytes(len(damaged[at : at + 100]))
        name = "RSA PRIVATE KEY" if form is s.PrivateFormat.TraditionalOpenSSL else "PRIVATE KEY"
        text = f"-----BEGIN {name}-----\n{base64.encodebytes(damaged).decode()}-----END {name}-----\n"
        if inspect_key(Secret(text)) is None:
            loaded = s.load_pem_private_key(text.encode(), None, unsafe_skip_rsa_key_validation=True)
            assert isinstance(loaded, rsa.RSAPrivateKey)
            KEY.public_key().verify(loaded.sign(b"x", padding.PKCS1v15(), hashes.SHA256()), b"x", padding.PKCS1v15(), hashes.SHA256())
        else:
            refused += 1
    assert 100 < refused < 300


@pytest.mark.parametrize("text", [PKCS1, PKCS8, PKCS1.replace("\n", "\r\n"), PKCS1.rstrip("\n"), PKCS1.replace("\n", "\\n"), "\n\n" + PKCS8])
def test_every_usual_form_of_a_good_key_is_understood(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(text.encode())
    file.chmod(0o600)
    assert read_key(SecretRef("file", str(file)), {}, "github.ops.private_key").reveal().startswith("-----BEGIN")
    assert read_key(SecretRef("env", "KEY"), {"KEY": text}, "github.ops.private_key")


@pytest.mark.parametrize(("mode", "good"), [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o644, False)])
def test_a_secret_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, mode: int, good: bool) -> None:
    file = tmp_path / "token"
    file.write_text("ghp_secretsecretsecret\n")
    file.chmod(mode)
    if good:
        assert read_secret(SecretRef("file", str(file)), {}, "x").reveal() == "ghp_secretsecretsecret"
        return
    with pytest.raises(ConfigError) as caught:
        read_secret(SecretRef("file", str(file)), {}, "github.bot.token")
    assert caught.value.hint == f"chmod 600 {file}" and "secretsecret" not in str(caught.value)


def test_credentials_come_from_systemd_and_a_missing_one_gives_the_line_to_run(tmp_path: Path) -> None:
    (tmp_path / "app.pem").write_text("text")
    assert read_secret(SecretRef("credential", "app.pem"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}, "x").reveal() == "text"
    with pytest.raises(ConfigError) as caught:
        read_secret(SecretRef("credential", "other"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}, "x")
    assert "systemd-run" in (caught.value.hint or "")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"a\0b", b"\xff\xfe", b"x" * 100_000])
def test_what_is_no_secret_is_said_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(ConfigError):
        read_secret(SecretRef("file", str(file)), {}, "x")


def test_a_secret_is_never_printed_formatted_or_pickled() -> None:
    secret = Secret("ghs_verysecret")
    shown = f"{secret} {secret!r} {secret:>20} {[secret]} {{'a': secret}}" + str(secret) + "%s" % secret  # noqa: UP031
    assert "verysecret" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
