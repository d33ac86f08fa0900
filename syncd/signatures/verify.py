"""Decides whether an object is signed by one of the allowed signers.

A signature counts under the rules of `git verify-commit` with `gpg.ssh.allowedSignersFile`: the key
is in the file, the line allows git's namespace, and the time that the committer or tagger wrote is
within `valid-after` and `valid-before`. Unlike there, certificates with critical options, SHA-1 and
RSA keys of less than 2,048 bits never count.
"""

from __future__ import annotations

from syncd.signatures.allowed_signers import AllowedSigners, Signer, matches, matches_list
from syncd.signatures.openpgp import find_signer, read_keys
from syncd.signatures.signed_object import SignedObject
from syncd.signatures.ssh_keys import USER_CERTIFICATE, Certificate, PublicKey
from syncd.signatures.ssh_signature import BEGIN as SSH_BEGIN
from syncd.signatures.ssh_signature import NAMESPACE, read_signature
from syncd.signatures.verdict import UNSIGNED, Verdict
from syncd.signatures.wire import WireError

PGP_BEGIN = "-----BEGIN PGP SIGNATURE-----"
MAX_SIGNATURE_CHARACTERS = 64 << 10


def verify(signed: SignedObject, allowed: AllowedSigners) -> Verdict:
    """Return whether the object is signed by one of the allowed signers.

    Raises GpgvMissingError for an OpenPGP signature on a machine without gpgv.
    """
    signature = signed.signature
    if signature is None:
        return Verdict(None, UNSIGNED)
    if len(signature) > MAX_SIGNATURE_CHARACTERS:
        return Verdict(None, "its signature is too long")
    if signature.startswith(SSH_BEGIN):
        return _verify_ssh(signature, signed, allowed)
    if signature.startswith(PGP_BEGIN):
        return _verify_openpgp(signature, signed, allowed)
    return Verdict(None, "its signature is neither SSH's nor OpenPGP's")


def _verify_openpgp(signature: str, signed: SignedObject, allowed: AllowedSigners) -> Verdict:
    if not allowed.openpgp_keys:
        return Verdict(None, "its signature is OpenPGP's, and the file has no OpenPGP key")
    signer, problem = find_signer(read_keys(allowed.openpgp_keys), signature, signed.payload)
    return Verdict(signer, f"its OpenPGP signature does not count: {problem}" if problem else "")


def _verify_ssh(signature: str, signed: SignedObject, allowed: AllowedSigners) -> Verdict:
    try:
        found = read_signature(signature)
        if not found.is_over(signed.payload):
            return Verdict(None, "its SSH signature was not made over this content")
    except WireError as error:
        return Verdict(None, f"its SSH signature can't be read: {error}")
    problem = f"its SSH key {found.plain_key.fingerprint} is not in the file"
    for signer in allowed.signers:
        name, reason = _name_of(signer, found.key, signed.signed_at)
        if name is not None:
            return Verdict(name)
        problem = f"its SSH key does not count: line {signer.line}: {reason}" if reason else problem
    return Verdict(None, problem)


def _name_of(
    signer: Signer, key: PublicKey | Certificate, signed_at: int
) -> tuple[str | None, str]:
    """Return the name that the line gives the key; or None, and why not where the key is meant."""
    if isinstance(key, Certificate):
        if not signer.is_authority or signer.key != key.authority:
            return None, ""
        names, reason = _names_of_certificate(signer, key, signed_at)
    else:
        if signer.is_authority or signer.key != key:
            return None, ""
        names, reason = [name for name in signer.principals.split(",") if name], ""
    if signer.namespaces is not None and not matches_list(NAMESPACE, signer.namespaces):
        return None, f"namespaces={signer.namespaces!r} does not allow 'git'"
    if signer.valid_after is not None and signed_at < signer.valid_after:
        return None, "it was signed before valid-after"
    if signer.valid_before is not None and signed_at > signer.valid_before:
        return None, "it was signed after valid-before"
    listed = [name for name in names if matches_list(name, signer.principals)]
    if listed:
        return listed[0], ""
    return None, reason or "no principal of it is allowed"


def _names_of_certificate(
    signer: Signer, certificate: Certificate, signed_at: int
) -> tuple[list[str], str]:
    """Return the principals of the certificate that the line lists; or none, and why."""
    if certificate.kind != USER_CERTIFICATE:
        return [], "its certificate is not one of a user"
    if certificate.has_critical_options:
        return [], "its certificate has critical options"
    if not certificate.valid_after <= signed_at < certificate.valid_before:
        return [], "it was signed outside the time of its certificate"
    patterns = signer.principals.split(",")
    names = certificate.principals
    found = [name for name in names if any(matches(name, pattern) for pattern in patterns)]
    return found, "its certificate has no principal that the line lists"
