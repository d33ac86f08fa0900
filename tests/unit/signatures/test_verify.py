"""Which signatures count: git's own, made with ssh-keygen, and a table of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.signatures.allowed_signers import parse_allowed_signers
from syncd.signatures.signed_object import SignedObject, parse_commit, parse_tag
from syncd.signatures.verify import verify
from tests.support.signing import GitRepository, SshKey, armored, needs, ssh_config

PAYLOAD = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
SIGNED_AT = 1_700_000_000  # 2023-11-14T22:13:20Z


def signed(key: SshKey, signature: str | None = None, at: int = SIGNED_AT) -> SignedObject:
    return SignedObject(PAYLOAD, signature or key.sign(PAYLOAD), {}, at)


@pytest.fixture(scope="module")
def ada() -> SshKey:
    return SshKey()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", ""),
        ('namespaces="git"', ""),
        ('namespaces="file,git"', ""),
        ('namespaces="g*"', ""),
        ('valid-after="20231114221320Z"', ""),
        ('valid-before="20231114221320Z"', ""),
        ('valid-after="20230101",valid-before="20240101"', ""),
        ('NAMESPACES="git"', ""),
        ('namespaces="file"', "does not allow 'git'"),
        ('namespaces="*,!git"', "does not allow 'git'"),
        ('valid-after="20231114221321Z"', "before valid-after"),
        ('valid-before="20231114221319Z"', "after valid-before"),
        ('valid-before="20200101"', "after valid-before"),
        ("cert-authority", "is not in the file"),
    ],
)
def test_options_of_a_line_decide_whether_its_key_counts(
    ada: SshKey, options: str, problem: str
) -> None:
    allowed = parse_allowed_signers(ada.line(options))
    assert allowed.problems == ()
    verdict = verify(signed(ada), allowed)
    assert (verdict.signer, problem in verdict.problem) == (None if problem else ada.name, True)


def test_a_signature_of_another_key_namespace_payload_or_hash_does_not_count(ada: SshKey) -> None:
    allowed = parse_allowed_signers(ada.line())
    blob = ada.signature_blob(PAYLOAD)
    cases = {
        "is not in the file": SshKey("eve@example.org").sign(PAYLOAD),
        "not made over this content": ada.sign(PAYLOAD + b" "),
        "made for 'file'": armored(ada.signature_blob(PAYLOAD, "file")),
        "its hash is 'sha1'": armored(blob.replace(b"\0\0\0\6sha512", b"\0\0\0\4sha1")),
        "it is cut off": armored(blob[:-1]),
        "there is more after its end": armored(blob + b"\0"),
        "no SSH signature of version 1": armored(blob.replace(b"\0\0\0\1", b"\0\0\0\2", 1)),
        "neither SSH's nor OpenPGP's": "-----BEGIN SIGNED MESSAGE-----\nAA==\n",
        "it is no base64": armored(blob).replace("\n", "\n*", 1),
        "is too long": armored(blob) + "\n" * 70_000,
    }
    for problem, signature in cases.items():
        verdict = verify(signed(ada, signature), allowed)
        assert verdict.signer is None and problem in verdict.problem, problem
    assert verify(signed(ada), allowed).signer == ada.name
    assert "has no signature" in verify(SignedObject(PAYLOAD, None, {}, 0), allowed).problem


def test_a_later_line_may_allow_what_an_earlier_one_does_not(ada: SshKey) -> None:
    lines = ada.line('namespaces="file"') + SshKey("eve@example.org").line() + ada.line()
    assert verify(signed(ada), parse_allowed_signers(lines)).signer == ada.name


# --- git with ssh-keygen --------------------------------------------------------------------------

KEY_TYPES = [("ed25519",), ("ecdsa", "-b", "256"), ("ecdsa", "-b", "384"), ("ecdsa", "-b", "521")]
KEY_TYPES += [("rsa", "-b", "2048")]


def keygen(folder: Path, *arguments: str) -> Path:
    import subprocess

    file = folder / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-N", "", "-C", "ada", "-f", str(file), "-t", *arguments], check=True
    )
    return file


@needs("git", "ssh-keygen")
@pytest.mark.parametrize("kind", KEY_TYPES, ids=lambda kind: "-".join(kind))
def test_commits_and_tags_that_git_signs_with_ssh_count(
    tmp_path: Path, kind: tuple[str, ...]
) -> None:
    key = keygen(tmp_path, *kind)
    public = key.with_name("key.pub").read_text()
    signers = tmp_path / "signers"
    signers.write_text(f'ada@example.org,grace@example.org namespaces="git" {public}')
    repo = GitRepository.create(tmp_path / "repo", *ssh_config(key))
    commit = repo.commit("Grüße", "-S")
    repo.git("tag", "-s", "-m", "release", "v1", "HEAD")
    allowed = parse_allowed_signers(signers.read_text())
    assert allowed.problems == ()
    assert verify(parse_commit(repo.raw("commit", commit)), allowed).signer == "ada@example.org"
    assert verify(parse_tag(repo.raw("tag", "v1")), allowed).signer == "ada@example.org"
    repo.git("config", "gpg.ssh.allowedSignersFile", str(signers))
    repo.git("verify-commit", commit)  # git agrees
    raw = repo.raw("commit", commit)
    assert verify(parse_commit(raw.replace(b"Gr", b"gr")), allowed).signer is None


@needs("git", "ssh-keygen")
@pytest.mark.parametrize(
    ("options", "principals", "problem"),
    [
        ("-n ada@example.org", "*@example.org", ""),
        ("-n ada@example.org", "ada@example.org", ""),
        ("-n eve@example.com,ada@example.org", "*@example.org", ""),
        ("-n ada@example.org -V 20200101:20990101", "*", ""),
        ("-n ada@example.org -V 20200101:20210101", "*", "outside the time"),
        ("-n eve@example.com", "*@example.org", "no principal"),
        ("-n ada@example.org", "*@example.org,!ada@example.org", "no principal"),
        ("-h -n ada@example.org", "*", "not one of a user"),
        ("-n ada@example.org -O force-command=true", "*", "critical options"),
    ],
)
def test_a_certificate_counts_within_its_time_for_its_principals(
    tmp_path: Path, options: str, principals: str, problem: str
) -> None:
    import subprocess

    authority, user = tmp_path / "ca", tmp_path / "user"
    authority.mkdir()
    user.mkdir()
    ca, key = keygen(authority, "ed25519"), keygen(user, "ecdsa")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", str(ca), "-I", "id", *options.split(), f"{key}.pub"], check=True
    )
    repo = GitRepository.create(tmp_path / "repo", *ssh_config(user / "key-cert.pub"))
    commit = repo.commit("signed", "-S")
    line = f"{principals} cert-authority {ca.with_name('key.pub').read_text()}"
    found = verify(parse_commit(repo.raw("commit", commit)), parse_allowed_signers(line))
    assert (found.signer is None, problem in found.problem) == (bool(problem), True), found
    plain = line.replace("cert-authority ", "")
    assert (
        verify(parse_commit(repo.raw("commit", commit)), parse_allowed_signers(plain)).signer
        is None
    )


@needs("ssh-keygen")
def test_rsa_keys_of_1024_bits_and_sha1_do_not_count(tmp_path: Path) -> None:
    import subprocess

    key = keygen(tmp_path, "rsa", "-b", "1024")
    data = tmp_path / "payload"
    data.write_bytes(PAYLOAD)
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "git", str(data)],
        check=True,
        capture_output=True,
    )
    signature = (tmp_path / "payload.sig").read_text()
    allowed = parse_allowed_signers(f"ada {key.with_name('key.pub').read_text()}")
    assert "1024 bits" in verify(SignedObject(PAYLOAD, signature, {}, 0), allowed).problem
