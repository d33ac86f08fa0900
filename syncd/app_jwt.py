"""The JSON Web Token with which a GitHub App asks for an installation token.

Shared by the full run (github/auth/app_signer.py) and the nothing-to-do check (fastpath/check.py).
PyJWT and cryptography are loaded at the first signature, because a run with a valid token needs
neither.
Source: GitHub docs, "Generating a JSON Web Token (JWT) for a GitHub App".
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

BACKDATE_SECONDS = 60  # docs: protects against clock drift
LIFETIME_SECONDS = 540  # docs: at most 600 ahead of GitHub's clock


def app_jwt(issuer: str, private_key: str, now: float) -> str:
    """Return a JWT for the App whose client or App id is `issuer`.

    `private_key` is PEM; `now` is GitHub's time in seconds since 1970.
    Raises ValueError for a text that can't sign: it is not an unencrypted RSA key in PEM form.
    """
    import jwt

    issued_at = int(now)
    claims = {
        "iat": issued_at - BACKDATE_SECONDS,
        "exp": issued_at + LIFETIME_SECONDS,
        "iss": issuer,
    }
    try:
        return jwt.encode(claims, _loaded(private_key), algorithm="RS256")
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise ValueError("the private key can't sign") from error


@lru_cache(maxsize=4)
def _loaded(private_key: str) -> Any:
    """Load the key. Whether it can sign was checked when it was read (config/secrets.py)."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(private_key.encode(), None, unsafe_skip_rsa_key_validation=True)
