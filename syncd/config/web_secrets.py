"""Checks the secrets of the listener: passwords, their hashes, the token, the webhook's secret."""

from __future__ import annotations

import re

from syncd.errors import ConfigError
from syncd.redaction import Secret

# what werkzeug.security.generate_password_hash makes with its method scrypt: N, r, p, salt, key.
# Other numbers would let the file decide how much memory a guess of a stranger takes.
PASSWORD_HASH = re.compile(r"scrypt:32768:8:1\$[A-Za-z0-9]{8,64}\$[0-9a-f]{128}")
MIN_WEB_SECRET_CHARACTERS = (
    16  # characters; a shorter one can be guessed through the listener, or from one signed delivery
)


def checked_web_secret(secret: Secret, what: str) -> Secret:
    """Return a password, token or webhook's secret. Raises ConfigError if it can be guessed."""
    if len(secret.reveal()) < MIN_WEB_SECRET_CHARACTERS:
        raise ConfigError(
            f"{what}: it is shorter than {MIN_WEB_SECRET_CHARACTERS} characters and can be guessed",
            id="config/weak-web-secret",
            hint="make another: openssl rand -hex 32",
        )
    return secret


def checked_password_hash(secret: Secret, what: str) -> Secret:
    """Return the hash of a password. Raises ConfigError if `syncd web hash` did not make it."""
    if not PASSWORD_HASH.fullmatch(secret.reveal()):
        raise ConfigError(
            f"{what}: this is no hash of a password",
            id="config/no-password-hash",
            hint="make one: syncd web hash",
        )
    return secret
