"""OpenPGP signatures that git makes with gpg, verified by gpgv."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from syncd.signatures.allowed_signers import parse_allowed_signers
from syncd.signatures.openpgp import _judge, read_keys
from syncd.signatures.signed_object import SignedObject, parse_commit, parse_tag
from syncd.signatures.verify import verify
from tests.support.signing import GitRepository, needs

pytestmark = needs("git", "gpg", "gpgv")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of gpg with the keys of Ada and Eve."""
    folder = tmp_path_factory.mktemp("gnupg")
    folder.chmod(0o700)
    for name in ("ada", "eve"):
        gpg(folder, "--passphrase", "", "--quick-gen-key", f"{name}@example.org", "ed25519", "sign")
    return folder


def gpg(home: Path, *arguments: str, content: bytes = b"") -> bytes:
    return subprocess.run(
        ["gpg", "--homedir", str(home), "--batch", "--quiet", *arguments],
        input=content,
        capture_output=True,
        check=True,
    ).stdout


def exported(home: Path, *names: str) -> str:
    return gpg(home, "--armor", "--export", *names).decode()


def signature(home: Path, payload: bytes, *options: str, name: str = "ada@example.org") -> str:
    return gpg(home, "-u", name, *options, "--armor", "--detach-sign", content=payload).decode()


def test_commits_and_tags_that_git_signs_with_gpg_count(tmp_path: Path, home: Path) -> None:
    repo = GitRepository.create(tmp_path / "repo", ("user.signingkey", "ada@example.org"))
    commit = repo.commit("Grüße", "-S", GNUPGHOME=str(home))
    repo.git("tag", "-s", "-m", "release", "v1", "HEAD", GNUPGHOME=str(home))
    allowed = parse_allowed_signers(exported(home, "ada@example.org"))
    raw = repo.raw("commit", commit)
    began = time.perf_counter()
    assert verify(parse_commit(raw), allowed).signer == "ada@example.org"
    assert time.perf_counter() - began < 5  # about 0.02 s on an idle machine
    assert verify(parse_tag(repo.raw("tag", "v1")), allowed).signer == "ada@example.org"
    other = verify(parse_commit(raw), parse_allowed_signers(exported(home, "eve@example.org")))
    assert other.signer is None and "can't be checked with the keys" in other.problem
    changed = verify(parse_commit(raw.replace(b"Gr", b"gr")), allowed)
    assert changed.signer is None and "was not made over this content" in changed.problem
    none = verify(parse_commit(raw), parse_allowed_signers(""))
    assert none.signer is None and "has no OpenPGP key" in none.problem


def test_revoked_and_expired_keys_text_and_sha1_signatures_do_not_count(
    tmp_path: Path, home: Path
) -> None:
    payload = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
    mine = tmp_path / "gnupg"
    mine.mkdir(mode=0o700)
    faked = ("--faked-system-time", "20200101T000000")
    for name in ("old", "gone"):
        until = "2021-01-01" if name == "old" else "never"
        gpg(
            mine,
            *faked,
            "--passphrase",
            "",
            "--quick-gen-key",
            f"{name}@example.org",
            "ed25519",
            "sign",
            until,
        )
    made = {
        name: signature(
            mine, payload, "--faked-system-time", "20200601T000000", name=f"{name}@example.org"
        )
        for name in ("old", "gone")
    }
    assert _verdict(mine, payload, made["gone"]) == ("gone@example.org", "")
    [revocation] = [
        file for file in (mine / "openpgp-revocs.d").iterdir() if "gone@" in file.read_text()
    ]
    gpg(mine, "--import", content=revocation.read_text().replace(":-----", "-----").encode())
    cases = {
        "is revoked": _verdict(mine, payload, made["gone"]),
        "has expired": _verdict(mine, payload, made["old"]),
        "can't be checked": _verdict(
            home, payload, signature(home, payload, "--digest-algo", "SHA1")
        ),
        "does not cover line ends": _verdict(home, payload, signature(home, payload, "--textmode")),
        "or there are several": _verdict(
            home, payload, signature(home, payload) + signature(home, payload)
        ),
    }
    for problem, (signer, said) in cases.items():
        assert signer is None and problem in said, problem


def _verdict(home: Path, payload: bytes, made: str) -> tuple[str | None, str]:
    found = verify(SignedObject(payload, made, {}, 0), parse_allowed_signers(exported(home)))
    return found.signer, found.problem


@pytest.mark.parametrize("block", ["", "mDME*", "AAAA"])
def test_a_damaged_key_is_refused(block: str) -> None:
    armor = f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{block}\n-----END PGP PUBLIC KEY BLOCK-----\n"
    with pytest.raises(ValueError, match="an OpenPGP key is"):
        read_keys([armor])


GOOD = "[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 62A7 Ada\n[GNUPG:] VALIDSIG F 2026 1 0 4 0 22 8 00 F\n"


@pytest.mark.parametrize(
    ("exit_status", "output", "expected"),
    [
        (0, GOOD, ("Ada", "")),
        (1, GOOD, (None, "it is damaged, or there are several")),
        (0, GOOD + GOOD, (None, "it is damaged, or there are several")),
        (0, "", (None, "it is damaged, or there are several")),
        (
            0,
            GOOD.replace(" 00 ", " 01 "),
            (None, "it is a signature of text, which does not cover line ends"),
        ),
        (0, GOOD.replace("GOODSIG", "REVKEYSIG"), (None, "the key 62A7 is revoked")),
        (0, GOOD + "[GNUPG:] BADSIG 62A7 Ada\n", (None, "it was not made over this content")),
    ],
)
def test_status_lines_decide(
    exit_status: int, output: str, expected: tuple[str | None, str]
) -> None:
    assert _judge(exit_status, output) == expected
