"""A thousand signatures that must not count, made from a seed; ssh-keygen agrees on a sample."""

from __future__ import annotations

import random
import subprocess
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.git_objects import object_id
from syncd.signatures.allowed_signers import parse_allowed_signers
from syncd.signatures.signed_object import ObjectError, SignedObject, parse_commit
from syncd.signatures.verify import verify
from syncd.simulator.repository import signed_commit
from tests.support.signing import BEGIN, END, SshKey, armored, needs

SEED = 24
SIGNED_AT = 1_700_000_000
ADA, BOB, EVE = (SshKey(f"{name}@example.org") for name in ("ada", "bob", "eve"))
OLD = SshKey("old@example.org")  # its line ends before the commits
SIGNERS = ADA.line('namespaces="git"') + BOB.line() + OLD.line('valid-before="20200101Z"')


def payload(chance: random.Random, tree: str | None = None) -> bytes:
    tree = tree or f"{chance.getrandbits(160):040x}"
    person = f"Ada <ada@example.org> {SIGNED_AT} +0000"
    subject = f"change {chance.randrange(10**9)}"
    return f"tree {tree}\nauthor {person}\ncommitter {person}\n\n{subject}\n".encode()


def bytes_of(signature: str) -> bytes:
    return b64decode("".join(signature.strip()[len(BEGIN) : -len(END)].split()))


def by_another_key(chance: random.Random) -> bytes:
    content = payload(chance)
    return commit(content, EVE.sign(content))


def swapped(chance: random.Random) -> bytes:
    return commit(payload(chance), ADA.sign(payload(chance)))


def expired(chance: random.Random) -> bytes:
    content = payload(chance)
    return commit(content, OLD.sign(content))


def in_another_namespace(chance: random.Random) -> bytes:
    content = payload(chance)
    namespace = chance.choice(["file", "Git", "git\0", "", "git ", "email"])
    return commit(content, armored(ADA.signature_blob(content, namespace)))


def truncated(chance: random.Random) -> bytes:
    content = payload(chance)
    signature = ADA.sign(content)
    if chance.random() < 0.5:
        blob = ADA.signature_blob(content)
        return commit(content, armored(blob[: chance.randrange(len(blob))]))
    return commit(content, signature[: chance.randrange(len(BEGIN), len(signature) - 2)])


def bit_flipped(chance: random.Random) -> bytes:
    content = payload(chance)
    blob = bytearray(ADA.signature_blob(content))
    place = chance.randrange(len(blob))
    blob[place] ^= 1 << chance.randrange(8)
    return commit(content, armored(bytes(blob)))


def key_replaced(chance: random.Random) -> bytes:
    """Eve's signature that names Ada's key."""
    content = payload(chance)
    return commit(content, armored(EVE.signature_blob(content).replace(EVE.blob, ADA.blob)))


def content_changed(chance: random.Random) -> bytes:
    """A real commit whose bytes were changed after it was signed, so that its id is another."""
    content = payload(chance)
    whole = bytearray(commit(content, ADA.sign(content)))
    end = content.index(b"\n\n")
    place = chance.choice([*range(5, 45), *range(len(whole) - 8, len(whole) - 1)])
    assert place < end or place > end
    whole[place] = ord("f") if whole[place] != ord("f") else ord("0")
    return bytes(whole)


def signed_twice(chance: random.Random) -> bytes:
    content = payload(chance)
    once = commit(content, ADA.sign(content)).decode()
    return signed_commit(once, EVE.sign(content)).encode()


def commit(content: bytes, signature: str) -> bytes:
    return signed_commit(content.decode(), signature).encode("utf-8", "surrogatepass")


WAYS: list[Callable[[random.Random], bytes]] = [
    by_another_key,
    swapped,
    expired,
    in_another_namespace,
    truncated,
    bit_flipped,
    key_replaced,
    content_changed,
    signed_twice,
]


def parsed(raw: bytes) -> SignedObject | None:
    try:
        return parse_commit(raw)
    except ObjectError:
        return None


def test_a_thousand_forged_signatures_are_refused() -> None:
    chance, allowed = random.Random(SEED), parse_allowed_signers(SIGNERS)
    assert allowed.problems == ()
    accepted = []
    for number in range(1000):
        way = WAYS[number % len(WAYS)]
        raw = way(chance)
        found = parsed(raw)
        if found is not None and verify(found, allowed).signer is not None:
            accepted.append((way.__name__, object_id("commit", raw)))
    assert accepted == []
    good = payload(chance)
    found = parsed(commit(good, ADA.sign(good)))
    assert found is not None and verify(found, allowed).signer == ADA.name


@needs("ssh-keygen")
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_ssh_keygen_gives_the_same_verdict(
    tmp_path: Path, way: Callable[[random.Random], bytes]
) -> None:
    chance, allowed = random.Random(SEED + 1), parse_allowed_signers(SIGNERS)
    signers = tmp_path / "signers"
    signers.write_text(SIGNERS)
    for number in range(6):
        raw = way(chance) if number else _good(chance)
        found = parsed(raw)
        if found is None:
            continue  # git has no word on two signatures that both count
        ours = verify(found, allowed).signer
        assert (ours is not None) == _accepts(tmp_path, signers, found), raw.decode("utf-8")
        assert (ours is not None) == (number == 0)


def _good(chance: random.Random) -> bytes:
    content = payload(chance)
    return commit(content, BOB.sign(content))


def _accepts(folder: Path, signers: Path, signed: SignedObject) -> bool:
    """Whether ssh-keygen, asked as git asks it, finds a good signature."""
    file = folder / "signature"
    file.write_text(signed.signature or "")
    at = ["-Overify-time=20231114221320Z", "-s", str(file), "-f", str(signers)]
    found = subprocess.run(
        ["ssh-keygen", "-Y", "find-principals", *at], capture_output=True, check=False
    )
    return any(
        subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-n", "git", "-I", principal, *at],
            input=signed.payload,
            capture_output=True,
            check=False,
        ).returncode
        == 0
        for principal in found.stdout.decode().split()
    )
