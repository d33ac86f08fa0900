"""Secrets and keys: what is wrong with one is named, what is in it never."""

from __future__ import annotations

import base64
import os
import pickle
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from syncd.config.secrets import inspect_key, read_key, read_secret, read_token
from syncd.errors import ConfigError
from syncd.identities import SecretRef
from syncd.pem import normalise_key
from syncd.redaction import Secret
from syncd.trusted_path import secret_exposure

KEY = rsa.generate_private_key(65537, 2048)
PKCS1 = KEY.private_bytes(
    s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.NoEncryption()
).decode()
PKCS8 = KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()

BAD = {
    "encrypted": (
        KEY.private_bytes(
            s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x")
        ).decode(),
        "encrypted",
    ),
    "encrypted, old form": (
        KEY.private_bytes(
            s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.BestAvailableEncryption(b"x")
        ).decode(),
        "encrypted",
    ),
    "public": (
        KEY.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo).decode(),
        "public",
    ),
    "short": (
        rsa.generate_private_key(65537, 1024)
        .private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        .decode(),
        "1024 bits",
    ),
    "elliptic": (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
        .decode(),
        "not an RSA key",
    ),
    "openssh": (
        KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, s.NoEncryption()).decode(),
        "OpenSSH",
    ),
    "first line only": (PKCS1.splitlines()[0], "cut off"),
    "cut": (PKCS1[:500], "cut off"),
    "damaged": (PKCS1[:300] + "AAAA" + PKCS1[340:], "damaged"),
    "a token": ("ghp_" + "x" * 36, "no PEM"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_key_that_can_not_sign_is_named_and_never_shown(name: str) -> None:
    text, said = BAD[name]
    problem = inspect_key(Secret(normalise_key(text)))
    assert problem is not None and said in problem
    assert not any(
        line in problem
        for line in text.splitlines()
        if len(line) > 20 and not line.startswith("-----")
    )


@pytest.mark.parametrize(
    "form", [s.PrivateFormat.TraditionalOpenSSL, s.PrivateFormat.PKCS8], ids=["PKCS 1", "PKCS 8"]
)
def test_a_key_that_is_damaged_anywhere_is_refused_or_signs_as_itself(
    form: s.PrivateFormat,
) -> None:
    der, rng = KEY.private_bytes(s.Encoding.DER, form, s.NoEncryption()), random.Random(2048)
    refused = 0
    for _ in range(300):
        damaged, at = bytearray(der), rng.randrange(len(der))
        damaged[at] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            damaged[at : at + 100] = bytes(len(damaged[at : at + 100]))
        name = "RSA PRIVATE KEY" if form is s.PrivateFormat.TraditionalOpenSSL else "PRIVATE KEY"
        text = (
            f"-----BEGIN {name}-----\n{base64.encodebytes(damaged).decode()}-----END {name}-----\n"
        )
        if inspect_key(Secret(text)) is None:
            loaded = s.load_pem_private_key(
                text.encode(), None, unsafe_skip_rsa_key_validation=True
            )
            assert isinstance(loaded, rsa.RSAPrivateKey)
            KEY.public_key().verify(
                loaded.sign(b"x", padding.PKCS1v15(), hashes.SHA256()),
                b"x",
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        else:
            refused += 1
    assert 100 < refused < 300


ONE_LINE = "".join(PKCS1.splitlines()[1:-1])
GOOD = {
    "PKCS 1": PKCS1,
    "PKCS 8": PKCS8,
    "CRLF": PKCS1.replace("\n", "\r\n"),
    "CR": PKCS1.replace("\n", "\r"),
    "no final line end": PKCS1.rstrip("\n"),
    "literal \\n": PKCS1.replace("\n", "\\n"),
    "literal \\r\\n": PKCS1.replace("\n", "\\r\\n"),
    "blank lines before it": "\n\n" + PKCS8,
    "blank lines in it": PKCS1.replace("\n", "\n\n"),
    "indented lines": PKCS1.replace("\n", "\n    "),
    "line ends that became spaces": PKCS1.replace("\n", " "),
    "its base64 in one line": (
        f"-----BEGIN RSA PRIVATE KEY-----\n{ONE_LINE}\n-----END RSA PRIVATE KEY-----"
    ),
    "a byte order mark": "\ufeff" + PKCS1,
    "double quotes": f'"{PKCS1}"',
    "single quotes and literal \\n": "'" + PKCS1.replace("\n", "\\n") + "'",
    "base64 of the whole": base64.b64encode(PKCS1.encode()).decode(),
    "base64 of the whole, in lines": base64.encodebytes(PKCS8.encode()).decode(),
    "base64 of the whole with a byte order mark and CRLF": base64.b64encode(
        b"\xef\xbb\xbf" + PKCS1.replace("\n", "\r\n").encode()
    ).decode(),
}


@pytest.mark.parametrize("name", GOOD)
def test_every_usual_form_of_a_good_key_is_read_as_the_key(tmp_path: Path, name: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(GOOD[name].encode())
    file.chmod(0o600)
    for ref in (SecretRef("file", str(file)), SecretRef("env", "KEY")):
        found = read_key(ref, {"KEY": GOOD[name]}, "github.ops.private_key").reveal()
        assert found in (PKCS1, PKCS8)


BAD_FORMS = {
    "only the base64": (
        "\n".join(PKCS8.splitlines()[1:-1]),
        "its lines -----BEGIN ...----- and -----END ...----- are missing",
    ),
    "base64 of something else": (
        base64.b64encode(b"a certificate request").decode(),
        "this is no PEM private key",
    ),
    "base64 of a public key": (
        base64.b64encode(BAD["public"][0].encode()).decode(),
        "this is a public key",
    ),
    "base64 of an encrypted key": (
        base64.b64encode(BAD["encrypted"][0].encode()).decode(),
        "the key is encrypted",
    ),
    "an encrypted key whose line ends were escaped": (
        BAD["encrypted, old form"][0].replace("\n", "\\n"),
        "the key is encrypted",
    ),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_a_key_in_a_form_that_is_no_key_is_named_for_what_it_is(name: str) -> None:
    text, said = BAD_FORMS[name]
    with pytest.raises(ConfigError) as caught:
        read_key(SecretRef("env", "KEY"), {"KEY": text}, "github.ops.private_key")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["ghp_secret", "ghp_secret\n", "  ghp_secret\r\n", "\ufeffghp_secret", "\tghp_secret "]
)
def test_a_secret_from_the_environment_is_stripped_as_one_from_a_file(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "token"
    file.write_bytes(text.encode())
    file.chmod(0o600)
    for ref in (SecretRef("file", str(file)), SecretRef("env", "TOKEN")):
        assert read_secret(ref, {"TOKEN": text}, "github.bot.token").reveal() == "ghp_secret"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("   \n", "the environment's TOKEN is empty"),
        ("caf\udce9", "the environment's TOKEN is not text"),
        ('"ghp_canary"', "is in quotes"),
        ("'ghp_canary'", "is in quotes"),
        ("ghp_canary\\n", "holds a backslash"),
    ],
)
def test_a_token_that_can_not_be_one_is_named_and_not_shown(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_token(SecretRef("env", "TOKEN"), {"TOKEN": text}, "github.bot.token")
    assert said in str(caught.value) and "canary" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_secret_that_was_saved_as_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(
        ("\ufeff" if encoding == "utf-16-be" else "").encode(encoding)
        + "ghp_secret\n".encode(encoding)
    )
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="is UTF-16") as caught:
        read_secret(SecretRef("file", str(file)), {}, "github.bot.token")
    assert caught.value.hint == "save it as UTF-8"


# mode -> what is wrong with it where the file's group is root's or one of this process, and where
# it is another
MODES = {
    0o400: (None, None),
    0o600: (None, None),
    0o440: (None, "can be read by group 54321"),
    0o640: (None, "can be read by group 54321"),
    0o604: ("can be read by others", "can be read by others"),
    0o644: ("can be read by others", "can be read by others"),
    0o444: ("can be read by others", "can be read by others"),
    0o602: ("can be written by others", "can be written by others"),
    0o601: ("can be run by others", "can be run by others"),
    0o660: ("can be written by its group", "can be written by its group"),
    0o620: ("can be written by its group", "can be written by its group"),
}


@pytest.mark.parametrize("mode", MODES)
def test_who_may_read_a_secret_is_judged_by_mode_and_group(
    mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(
        os, "getgroups", lambda: [1000, 2000]
    )  # 2000: a supplementary group, as fsGroup gives one
    ours, anothers = MODES[mode]
    for gid in (0, 1000, 2000):
        assert (
            secret_exposure(os.stat_result((0o100000 | mode, 0, 0, 1, 0, gid, 0, 0, 0, 0))) == ours
        )
    found = secret_exposure(os.stat_result((0o100000 | mode, 0, 0, 1, 0, 54321, 0, 0, 0, 0)))
    assert found == anothers if anothers is None else (found or "").startswith(anothers)


@pytest.mark.parametrize(
    ("mode", "good"),
    [
        (0o600, True),
        (0o400, True),
        (0o440, True),
        (0o640, True),
        (0o604, False),
        (0o644, False),
        (0o660, False),
    ],
)
def test_a_secret_that_others_may_read_is_refused_with_the_remedy(
    tmp_path: Path, mode: int, good: bool
) -> None:
    file = tmp_path / "token"
    file.write_text("ghp_secretsecretsecret\n")
    file.chmod(mode)
    if good:
        assert (
            read_secret(SecretRef("file", str(file)), {}, "x").reveal() == "ghp_secretsecretsecret"
        )
        return
    with pytest.raises(ConfigError) as caught:
        read_secret(SecretRef("file", str(file)), {}, "github.bot.token")
    assert caught.value.hint == f"chmod 600 {file}" and "secretsecret" not in str(caught.value)


def test_credentials_come_from_systemd_and_a_missing_one_gives_the_line_to_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.pem").write_text("text")
    assert (
        read_secret(
            SecretRef("credential", "app.pem"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}, "x"
        ).reveal()
        == "text"
    )
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
    shown = (
        (f"{secret} {secret!r} {secret:>20} {[secret]} {{'a': secret}}")
        + str(secret)
        + "%s" % secret  # noqa: UP031
    )
    assert "verysecret" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("uid", "hint"),
    [
        (0, "chmod 600 FILE"),
        (65534, "only root may read it: run syncd as that user"),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="the file is to be root's")
def test_a_file_that_may_not_be_read_names_its_mode_or_who_may(
    tmp_path: Path, uid: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "token"
    file.write_text("secret")
    monkeypatch.setattr("syncd.config.secrets.open_checked", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(ConfigError) as raised:
        read_secret(SecretRef("file", str(file)), {}, "github.bot.token")
    assert raised.value.hint == hint.replace("FILE", str(file))
