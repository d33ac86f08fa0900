"""`syncd check` and the secrets that a configuration names: each mistake at its key, what to do,
and never what is in them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from syncd.cli.main import run

KEY = rsa.generate_private_key(65537, 2048)
PEM = KEY.private_bytes(s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, s.NoEncryption())
CONFIG = """version: 1
github:
  ops:
    app_id: 12345
    private_key: {folder}/app.pem
  bot: {{token: {{file: {folder}/bot.token}}}}
jobs:
  nginx: {{as: ops, repo: acme/infra, every: 5m, paths: [{{from: nginx/, to: {folder}/dest/}}]}}
"""
TOKEN = b"ghp_canaryinthetoken0000000000000000000\n"


def checked(
    folder: Path,
    key: bytes | None = PEM,
    token: bytes | None = TOKEN,
    mode: int = 0o600,
    text: str = CONFIG,
) -> tuple[int, list[str], str]:
    """Exit, the mistakes' first lines, and all that was said."""
    for name, content in (("app.pem", key), ("bot.token", token)):
        file = folder / name
        if content is not None:
            file.write_bytes(content)
            file.chmod(mode)
    (folder / "config.yaml").write_text(text.format(folder=folder))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["-c", str(folder / "config.yaml"), "check"])
    said = out.getvalue() + err.getvalue()
    return (
        code,
        [
            line
            for line in said.splitlines()
            if line.startswith(f"{folder}/config.yaml:") and ": good" not in line
        ],
        said,
    )


def test_good_secrets_are_good(tmp_path: Path) -> None:
    assert checked(tmp_path)[:2] == (0, [])


def pem(
    key: object, form: s.PrivateFormat, encryption: s.KeySerializationEncryption = s.NoEncryption()
) -> bytes:
    return key.private_bytes(s.Encoding.PEM, form, encryption)  # type: ignore[attr-defined]


BAD_KEYS: dict[str, tuple[bytes, str]] = {
    "encrypted": (
        pem(KEY, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x")),
        "the key is encrypted",
    ),
    "public": (
        KEY.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo),
        "this is a public key",
    ),
    "short": (
        pem(rsa.generate_private_key(65537, 1024), s.PrivateFormat.PKCS8),
        "the key has 1024 bits",
    ),
    "OpenSSH": (pem(KEY, s.PrivateFormat.OpenSSH), "OpenSSH's format"),
    "elliptic": (
        pem(ec.generate_private_key(ec.SECP256R1()), s.PrivateFormat.PKCS8),
        "not an RSA key",
    ),
    "cut": (PEM[:700], "the key is cut off"),
    "damaged": (PEM[:300] + b"AAAA" + PEM[340:], "the key is damaged"),
    "a token": (TOKEN, "this is no PEM private key"),
    "empty": (b"\n", "is empty"),
    "DER": (
        KEY.private_bytes(s.Encoding.DER, s.PrivateFormat.PKCS8, s.NoEncryption()),
        "is not text",
    ),
    "a book": (b"x" * 100_000, "is too large"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_key_that_can_not_sign_is_shown_at_its_place(tmp_path: Path, name: str) -> None:
    content, said = BAD_KEYS[name]
    code, mistakes, whole = checked(tmp_path, key=content)
    assert code == 2 and len(mistakes) == 1
    assert (
        mistakes[0].startswith(f"{tmp_path}/config.yaml:5:18: github.ops.private_key: ")
        and said in mistakes[0]
    ), mistakes
    assert not [
        line
        for line in content.decode("latin-1").splitlines()
        if len(line) > 20 and not line.startswith("-----") and line in whole
    ]


BAD_TOKENS = {
    "two lines": (b"ghp_canary\nghp_other\n", "a line end"),
    "a word before it": (b"token ghp_canary\n", "holds a space"),
    "a letter that no token has": ("ghp_canäry".encode(), "another character"),
    "a key": (PEM, "this is a key or a certificate"),
    "nothing": (b"", "is empty"),
    "binary": (b"\x80\xfe\x00", "is not text"),
    "UTF-16": ("ghp_canary\n".encode("utf-16"), "is UTF-16, not UTF-8 text; save it as UTF-8"),
    "in quotes": (b'"ghp_canary"\n', "is in quotes"),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_text_that_is_no_token_is_shown_at_its_place(tmp_path: Path, name: str) -> None:
    content, said = BAD_TOKENS[name]
    code, mistakes, whole = checked(tmp_path, token=content)
    assert code == 2 and len(mistakes) == 1 and "canary" not in whole
    assert (
        mistakes[0].startswith(f"{tmp_path}/config.yaml:6:9: github.bot.token: ")
        and said in mistakes[0]
    ), mistakes


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda file: file.unlink(), "can't be read: No such file or directory"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "Is a directory"),
    "a pipe": (lambda file: (file.unlink(), os.mkfifo(file, 0o600)), "is no regular file"),
    "a device": (lambda file: (file.unlink(), file.symlink_to("/dev/zero")), "is no regular file"),
    "a link to nothing": (
        lambda file: (file.unlink(), file.symlink_to("/nonexistent")),
        "No such file",
    ),
    "a link in a circle": (lambda file: (file.unlink(), file.symlink_to(file)), "Too many levels"),
    "readable by the world": (
        lambda file: file.chmod(0o644),
        "can be read by others (mode 0644); chmod 600",
    ),
    "writable by the group": (
        lambda file: file.chmod(0o660),
        "can be written by its group (mode 0660); chmod 600",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_as_a_secret_should_be_is_shown_with_what_to_do(
    tmp_path: Path, name: str
) -> None:
    checked(tmp_path)
    spoil, said = FILES[name]
    spoil(tmp_path / "bot.token")
    code, mistakes, _ = checked(tmp_path, token=None)
    assert code == 2 and len(mistakes) == 1, mistakes
    assert (
        mistakes[0].startswith(
            f"{tmp_path}/config.yaml:6:9: github.bot.token: {tmp_path}/bot.token "
        )
        and said in mistakes[0]
    ), mistakes


@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_a_secret_that_its_own_group_may_read_is_good(tmp_path: Path, mode: int) -> None:
    assert checked(tmp_path, mode=mode)[:2] == (0, [])


@pytest.mark.root
def test_a_secret_that_a_strange_group_may_read_is_refused_and_the_group_is_named(
    tmp_path: Path,
) -> None:
    checked(tmp_path)
    os.chown(tmp_path / "bot.token", -1, 54321)
    (tmp_path / "bot.token").chmod(0o640)
    code, mistakes, _ = checked(tmp_path, token=None)
    assert code == 2 and len(mistakes) == 1
    assert (
        "can be read by group 54321, which is neither root's nor one of this process (mode 0640); "
        "chmod 600"
    ) in mistakes[0], mistakes


def test_all_of_them_are_said_at_once_in_the_order_of_the_file_with_a_caret(tmp_path: Path) -> None:
    text = CONFIG.replace(
        "app_id: 12345", "app_id: 12345\n    ca_file: /nonexistent/ghe.pem"
    ).replace("{{file: {folder}/bot.token}}", "{{env: NOT_SET}}")
    code, mistakes, said = checked(tmp_path, key=b"no key", text=text)
    assert code == 2 and [line.split(": ")[1] for line in mistakes] == [
        "github.ops.ca_file",
        "github.ops.private_key",
        "github.bot.token",
    ]
    assert (
        "the environment has no NOT_SET" in mistakes[2]
        and f"    private_key: {tmp_path}/app.pem\n                     ^" in said
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no certificate", "holds no certificate"),
        (b"", "holds no certificate"),
        (PEM, "holds no certificate"),
    ],
)
def test_an_authority_that_is_none_is_shown_at_its_place(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    code, mistakes, _ = checked(
        tmp_path,
        text=CONFIG.replace("app_id: 12345", "app_id: 12345\n    ca_file: {folder}/ca.pem"),
    )
    assert (
        code == 2
        and mistakes[0].startswith(
            f"{tmp_path}/config.yaml:5:14: github.ops.ca_file: {tmp_path}/ca.pem "
        )
        and said in mistakes[0]
    )


def test_a_mistake_in_one_of_several_files_names_that_file(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "10-who.yaml").write_text(
        f"version: 1\ngithub:\n  ops: {{app_id: 1, private_key: {tmp_path}/nothing.pem}}\n"
    )
    (folder / "20-what.yaml").write_text(
        f"jobs:\n  a: {{repo: a/b, every: 1m, paths: [{{from: x, to: {tmp_path}/x}}]}}\n"
    )
    err = io.StringIO()
    with redirect_stderr(err):
        assert run(["-c", str(folder), "check"]) == 2
    assert err.getvalue().startswith(f"{folder}/10-who.yaml:3:33: github.ops.private_key: ")


def test_a_credential_that_systemd_has_not_put_down_gives_the_line_to_run(tmp_path: Path) -> None:
    code, mistakes, _ = checked(
        tmp_path, text=CONFIG.replace("{folder}/app.pem", "{{credential: app.pem}}")
    )
    assert (
        code == 2
        and "systemd-run --pty -p LoadCredential=app.pem:" in mistakes[0]
        and ":5:5: github.ops.private_key" in mistakes[0]
    )


def test_a_credential_whose_file_is_missing_in_the_unit_is_named_and_so_is_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given/app.pem").write_text("\n")  # what SetCredential= stands in with
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "given"))
    code, mistakes, _ = checked(
        tmp_path, text=CONFIG.replace("{folder}/app.pem", "{{credential: app.pem}}")
    )
    assert (
        code == 2
        and "the credential app.pem is empty" in mistakes[0]
        and "LoadCredential=app.pem:" in mistakes[0]
    )


def test_a_check_without_secrets_opens_none_and_still_sees_every_other_mistake(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.format(folder=tmp_path))
    for text, code in ((CONFIG, 0), (CONFIG.replace("every:", "evry:"), 2)):
        (tmp_path / "config.yaml").write_text(text.format(folder=tmp_path))
        assert (
            run(["-c", str(tmp_path / "config.yaml"), "-q", "check", "--without-secrets"]) == code
        )
    assert run(["-c", str(tmp_path / "config.yaml"), "check", "--online", "--without-secrets"]) == 2


def test_an_authority_that_is_a_pipe_is_a_mistake_and_waits_for_nobody(tmp_path: Path) -> None:
    from syncd.config.secrets import inspect_authority

    os.mkfifo(tmp_path / "ca.pem", 0o600)
    assert (
        inspect_authority(str(tmp_path / "ca.pem")) == f"{tmp_path}/ca.pem is a pipe; name a file"
    )


WEB = """web:
  listen: 127.0.0.1:8480
  password: {{env: PASSWORD}}
  webhook: {{path: /github, secret: {{file: {folder}/hook}}}}
"""


def test_a_web_password_or_webhook_secret_that_can_be_guessed_is_a_mistake_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "x" * 15)
    (tmp_path / "hook").write_text(" 0123456789abcde \n")
    (tmp_path / "hook").chmod(0o600)
    code, lines, said = checked(tmp_path, text=CONFIG + WEB)
    assert code == 2 and [line.split(": ", 2)[1] for line in lines] == [
        "web.password",
        "web.webhook.secret",
    ]
    assert all("is shorter than 16 characters and can be guessed" in line for line in lines)
    assert "openssl rand -hex 32" in said and "0123456789" not in said and "xxxx" not in said
    (tmp_path / "hook").write_text("0123456789abcdef")
    monkeypatch.setenv("PASSWORD", "x" * 16)
    assert checked(tmp_path, text=CONFIG + WEB)[:2] == (0, [])
