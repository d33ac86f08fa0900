"""The fingerprint of a private key, as GitHub shows it beside each key of an App.

Source: docs "Managing private keys for GitHub Apps", "Verifying private keys": the SHA-256 of the
public key in DER form, in base64.
"""

from __future__ import annotations

import base64
import hashlib

from syncd.redaction import Secret


def key_fingerprint(key: Secret) -> str:
    """Return the fingerprint of a private key in PEM, such as `SHA256:Yx3...=`.

    Raises ValueError for a text that is no private key.
    """
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    loaded = load_pem_private_key(key.reveal().encode(), None, unsafe_skip_rsa_key_validation=True)
    public = loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode()
