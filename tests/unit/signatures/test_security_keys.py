"""Signatures of security keys (FIDO), made in software: those that count, and twenty that must not.

ssh-keygen gives the same verdicts.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.signatures.allowed_signers import parse_allowed_signers
from syncd.signatures.signed_object import SignedObject
from syncd.signatures.ssh_keys import SK_ECDSA, SK_ED25519
from syncd.signatures.verify import verify
from syncd.signatures.wire import pack
from tests.support.signing import SecurityKey, needs

PAYLOAD = b"tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n"
KINDS = pytest.mark.parametrize("kind", [SK_ED25519, SK_ECDSA])
KEYS = {kind: SecurityKey(kind) for kind in (SK_ED25519, SK_ECDSA)}
OTHERS = {kind: SecurityKey(kind) for kind in (SK_ED25519, SK_ECDSA)}


def altered(key: SecurityKey, **changes: object) -> SecurityKey:
    """The key with another application, flags or counter, and with the same private halves."""
    made = replace(key, **changes)  # type: ignore[arg-type]
    made.ed25519, made.ecdsa = key.ed25519, key.ecdsa
    return made


def wrapped(key: SecurityKey, made: bytes, end: bytes, algorithm: str | None = None) -> str:
    return key.armored(pack((algorithm or key.kind).encode()) + pack(made) + end)


def made_by(key: SecurityKey) -> bytes:
    return key.raw_signature(key.signed_by_token(key.message(PAYLOAD)))


def other_flags(key: SecurityKey) -> str:
    return wrapped(key, made_by(key), altered(key, flags=5).end)


def other_counter(key: SecurityKey) -> str:
    return wrapped(key, made_by(key), altered(key, counter=8).end)


def no_counter(key: SecurityKey) -> str:
    return wrapped(key, made_by(key), key.end[:1])


def nothing_after_the_signature(key: SecurityKey) -> str:
    return wrapped(key, made_by(key), b"")


def more_after_the_counter(key: SecurityKey) -> str:
    return wrapped(key, made_by(key), key.end + b"\0")


def for_another_application(key: SecurityKey) -> str:
    """A token of the same user signs for a website, and the signature is brought here."""
    return wrapped(key, made_by(altered(key, application=b"https://example.org")), key.end)


def by_a_key_of_another_application(key: SecurityKey) -> str:
    return altered(key, application=b"ssh:other").sign(PAYLOAD)


def with_no_application(key: SecurityKey) -> str:
    return altered(key, application=b"").sign(PAYLOAD)


def of_the_message_itself(key: SecurityKey) -> str:
    """Signed as a plain key signs, without the application, the flags and the counter."""
    return wrapped(key, key.raw_signature(key.message(PAYLOAD)), key.end)


def of_the_digest_of_the_message(key: SecurityKey) -> str:
    digest = hashlib.sha256(key.message(PAYLOAD)).digest()
    return wrapped(key, key.raw_signature(digest), key.end)


def of_the_parts_in_another_order(key: SecurityKey) -> str:
    application = hashlib.sha256(key.application).digest()
    digest = hashlib.sha256(key.message(PAYLOAD)).digest()
    return wrapped(key, key.raw_signature(digest + key.end + application), key.end)


def of_another_payload(key: SecurityKey) -> str:
    return key.sign(PAYLOAD + b"\n")


def of_another_namespace(key: SecurityKey) -> str:
    made = key.raw_signature(key.signed_by_token(key.message(PAYLOAD, "file")))
    return key.armored(pack(key.kind.encode()) + pack(made) + key.end, "file")


def said_to_be_of_git(key: SecurityKey) -> str:
    made = key.raw_signature(key.signed_by_token(key.message(PAYLOAD, "file")))
    return wrapped(key, made, key.end)


def by_another_token(key: SecurityKey) -> str:
    return OTHERS[key.kind].sign(PAYLOAD)


def by_another_token_with_this_key(key: SecurityKey) -> str:
    return wrapped(key, made_by(OTHERS[key.kind]), key.end)


def of_a_plain_algorithm(key: SecurityKey) -> str:
    plain = "ssh-ed25519" if key.kind == SK_ED25519 else "ecdsa-sha2-nistp256"
    return wrapped(key, made_by(key), key.end, plain)


def of_the_other_kind(key: SecurityKey) -> str:
    return wrapped(key, made_by(key), key.end, SK_ECDSA if key.kind == SK_ED25519 else SK_ED25519)


def of_webauthn(key: SecurityKey) -> str:
    """An algorithm that OpenSSH has for browsers, with fields of its own."""
    return wrapped(key, made_by(key), key.end, "webauthn-sk-ecdsa-sha2-nistp256@openssh.com")


def a_plain_key_from_the_same_point(key: SecurityKey) -> str:
    """The public half as a plain key, which has no application: it is not in the file."""
    kind = b"ssh-ed25519" if key.kind == SK_ED25519 else b"ecdsa-sha2-nistp256"
    end = pack(key.application)
    blob = pack(kind) + key.blob[len(pack(key.kind.encode())) : -len(end)]
    made = pack(kind) + pack(key.raw_signature(key.message(PAYLOAD)))
    return key.armored(made, blob=blob)


WAYS: list[Callable[[SecurityKey], str]] = [
    other_flags,
    other_counter,
    no_counter,
    nothing_after_the_signature,
    more_after_the_counter,
    for_another_application,
    by_a_key_of_another_application,
    with_no_application,
    of_the_message_itself,
    of_the_digest_of_the_message,
    of_the_parts_in_another_order,
    of_another_payload,
    of_another_namespace,
    said_to_be_of_git,
    by_another_token,
    by_another_token_with_this_key,
    of_a_plain_algorithm,
    of_the_other_kind,
    of_webauthn,
    a_plain_key_from_the_same_point,
]


def signer_of(key: SecurityKey, signature: str) -> str | None:
    allowed = parse_allowed_signers(key.line('namespaces="git"'))
    assert allowed.problems == ()
    return verify(SignedObject(PAYLOAD, signature, {}, 1_700_000_000), allowed).signer


def accepted_by_ssh_keygen(folder: Path, key: SecurityKey, signature: str) -> bool:
    (folder / "signers").write_text(key.line('namespaces="git"'))
    (folder / "signature").write_text(signature)
    files = ["-f", str(folder / "signers"), "-s", str(folder / "signature")]
    return (
        subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-n", "git", "-I", key.name, *files],
            input=PAYLOAD,
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


@KINDS
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flags": 0x05},  # touched, and the user was verified with a PIN
        {"flags": 0x00},  # no-touch-required: ssh-keygen and git accept it, and so does syncd
        {"counter": 0},  # platforms that do not count
        {"counter": 2**32 - 1},
        {"application": b"ssh:work"},
    ],
    ids=str,
)
@needs("ssh-keygen")
def test_a_signature_of_a_security_key_counts(
    tmp_path: Path, kind: str, changes: dict[str, object]
) -> None:
    key = altered(KEYS[kind], **changes)
    signature = key.sign(PAYLOAD)
    assert signer_of(key, signature) == key.name
    assert accepted_by_ssh_keygen(tmp_path, key, signature)


@KINDS
def test_no_hostile_signature_of_a_security_key_counts(kind: str) -> None:
    key = KEYS[kind]
    assert [way.__name__ for way in WAYS if signer_of(key, way(key)) is not None] == []


@KINDS
@needs("ssh-keygen")
def test_ssh_keygen_refuses_the_same(tmp_path: Path, kind: str) -> None:
    key = KEYS[kind]
    accepted = [way.__name__ for way in WAYS if accepted_by_ssh_keygen(tmp_path, key, way(key))]
    assert accepted == []


@KINDS
def test_each_flipped_bit_of_a_signature_makes_it_another(kind: str) -> None:
    key = KEYS[kind]
    made = pack(key.kind.encode()) + pack(made_by(key)) + key.end
    accepted = []
    for place in range(len(made)):
        flipped = bytearray(made)
        flipped[place] ^= 1 << place % 8
        if signer_of(key, key.armored(bytes(flipped))) is not None:
            accepted.append(place)
    assert accepted == []


@pytest.mark.parametrize("number", [0, 1, 2**255, 2**256 - 1])
def test_numbers_that_are_no_signature_do_not_count(number: int) -> None:
    key = KEYS[SK_ECDSA]
    encoded = pack(number.to_bytes(number.bit_length() // 8 + 1, "big"))
    assert signer_of(key, wrapped(key, encoded * 2, key.end)) is None
