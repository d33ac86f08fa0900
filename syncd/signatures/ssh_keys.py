"""Public keys and certificates of SSH, and the signatures that they made.

Sources: RFC 4253, section 6.6; RFC 5656; RFC 8332; RFC 8709; OpenSSH's PROTOCOL.certkeys and
PROTOCOL.u2f. DSA, SHA-1 and RSA keys of less than 2,048 bits are not accepted.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from msgspec import Struct

from syncd.signatures.wire import Reader, WireError, pack

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16_384  # as OpenSSH; a larger one costs time and means nothing
USER_CERTIFICATE = 1

ED25519, RSA = "ssh-ed25519", "ssh-rsa"
SK_ED25519, SK_ECDSA = "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"
# kind of key -> how many strings follow it in the key's blob
FIELDS = {
    ED25519: 1,
    RSA: 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    SK_ED25519: 2,
    SK_ECDSA: 3,
}
CERTIFICATES = {
    f"{kind.removesuffix('@openssh.com')}-cert-v01@openssh.com": kind for kind in FIELDS
}
RSA_HASHES: dict[str, hashes.HashAlgorithm] = {
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
}
CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "nistp256": (ec.SECP256R1(), hashes.SHA256()),
    "nistp384": (ec.SECP384R1(), hashes.SHA384()),
    "nistp521": (ec.SECP521R1(), hashes.SHA512()),
}


class PublicKey(Struct, frozen=True):
    """A plain key. Two keys are the same when their blobs are."""

    kind: str
    blob: bytes

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` shows it."""
        from base64 import b64encode

        digest = b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")
        return f"SHA256:{digest}"


class Certificate(Struct, frozen=True):
    """A key that an authority vouches for. Its own signature was verified when it was read.

    `valid_after` and `valid_before` are Unix seconds; the end does not belong to the time.
    """

    key: PublicKey
    authority: PublicKey
    kind: int
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    has_critical_options: bool


def read_key(blob: bytes) -> PublicKey | Certificate:
    """Return the key or the certificate in a blob. Raises WireError for any other content."""
    reader = Reader(blob)
    kind = reader.text()
    if kind in CERTIFICATES:
        return _read_certificate(reader, CERTIFICATES[kind])
    if kind not in FIELDS:
        raise WireError(f"keys of the kind {kind[:60]!r} are not supported")
    reader.skip_strings(FIELDS[kind])
    reader.end()
    return PublicKey(kind, blob)


def _read_certificate(reader: Reader, kind: str) -> Certificate:
    """Source: PROTOCOL.certkeys; the signature is over everything before it."""
    reader.string()  # the nonce
    key = PublicKey(kind, pack(kind.encode()) + reader.skip_strings(FIELDS[kind]))
    reader.number(8)  # the serial number
    use = reader.number(4)
    reader.string()  # the name of the certificate
    principals = Reader(reader.string()).strings()
    valid_after, valid_before = reader.number(8), reader.number(8)
    critical = reader.string()
    reader.skip_strings(2)  # extensions; reserved
    authority = read_key(reader.string())
    if isinstance(authority, Certificate):
        raise WireError("the authority of its certificate is a certificate itself")
    signed = reader.read_so_far()
    signature = reader.string()
    reader.end()
    if not is_signed_by(authority, signature, signed):
        raise WireError("its certificate is not signed by the authority that it names")
    return Certificate(
        key,
        authority,
        use,
        tuple(one.decode("utf-8", "replace") for one in principals),
        valid_after,
        valid_before,
        bool(critical),
    )


def is_signed_by(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Return whether the key made the signature over the data.

    Raises WireError for a signature that is damaged, or of another kind than the key.
    """
    reader = Reader(signature)
    algorithm, made = reader.text(), reader.string()
    if key.kind in (SK_ED25519, SK_ECDSA):
        flags_and_counter = reader.take(5)
        reader.end()
        data = _signed_by_token(key, flags_and_counter, data)
    reader.end()
    if algorithm not in RSA_HASHES if key.kind == RSA else algorithm != key.kind:
        raise WireError(f"a key of the kind {key.kind} makes no {algorithm[:60]!r} signature")
    try:
        _verify(key, algorithm, made, data)
    except InvalidSignature:
        return False
    except WireError:
        raise
    except (ValueError, UnsupportedAlgorithm) as error:
        raise WireError("its key can't be used") from error
    return True


def _signed_by_token(key: PublicKey, flags_and_counter: bytes, data: bytes) -> bytes:
    """Return what a hardware token has signed. Source: PROTOCOL.u2f, "SSH U2F Signatures"."""
    application = Reader(key.blob)
    application.skip_strings(FIELDS[key.kind])  # the kind counts as one: what is left is the last
    name = application.string()
    return hashlib.sha256(name).digest() + flags_and_counter + hashlib.sha256(data).digest()


def _verify(key: PublicKey, algorithm: str, signature: bytes, data: bytes) -> None:
    """Raise InvalidSignature, or ValueError for a key or signature that can't be used."""
    fields = Reader(key.blob)
    fields.string()
    if key.kind in (ED25519, SK_ED25519):
        Ed25519PublicKey.from_public_bytes(fields.string()).verify(signature, data)
    elif key.kind == RSA:
        _verify_rsa(fields, algorithm, signature, data)
    else:
        _verify_ecdsa(fields, key.kind, signature, data)


def _verify_rsa(fields: Reader, algorithm: str, signature: bytes, data: bytes) -> None:
    exponent, modulus = fields.positive(), fields.positive()
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        raise WireError(f"its RSA key has {modulus.bit_length()} bits")
    key = RSAPublicNumbers(exponent, modulus).public_key()
    padded = signature.rjust((key.key_size + 7) // 8, b"\0")  # OpenSSH adds zeros that are missing
    key.verify(padded, data, PKCS1v15(), RSA_HASHES[algorithm])


def _verify_ecdsa(fields: Reader, kind: str, signature: bytes, data: bytes) -> None:
    curve_name = fields.text()
    if curve_name not in CURVES or f"-{curve_name}" not in kind:
        raise WireError("the curve of its key is not the one that the key's kind names")
    curve, algorithm = CURVES[curve_name]
    key = ec.EllipticCurvePublicKey.from_encoded_point(curve, fields.string())
    numbers = Reader(signature)
    r, s = numbers.positive(), numbers.positive()
    numbers.end()
    key.verify(encode_dss_signature(r, s), data, ec.ECDSA(algorithm))
