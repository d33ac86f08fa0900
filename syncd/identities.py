"""Who syncd is on each host, and where its secrets are read from: values of the configuration.

Which requests an identity may make, and how its tokens are renewed, is the concern of `github/auth`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from msgspec import Struct

from syncd.redaction import Secret


class SecretRef(Struct, frozen=True):
    """Where a secret is read from: `kind` is `credential`, `file` or `env`, `value` its name or path."""

    kind: str
    value: str


class Identity(Struct, frozen=True):
    """Who we are on one host. `api` has no trailing slash."""

    name: str
    api: str = "https://api.github.com"
    ca_file: str | None = None


class AppIdentity(Identity, frozen=True):
    """A GitHub App installation. `issuer` is the client id or the app id, as text."""

    issuer: str = ""
    installation_id: int | None = None
    private_key: SecretRef = SecretRef("file", "")


class TokenIdentity(Identity, frozen=True):
    token: SecretRef = SecretRef("file", "")


class LoginIdentity(Identity, frozen=True):
    client_id: str = ""


class AnonymousIdentity(Identity, frozen=True):
    pass


class OAuthTokens(Struct, frozen=True):
    """What a user's login gave: the token to ask with and, where it ends, the one that gives the next pair, once.

    Belongs to one `api` and `client_id`, and is sent nowhere else. Times are aware UTC; None for what does not end or is not there.
    `issued_at` is by our own clock; `after` marks the pair that it replaced.
    """

    api: str
    client_id: str
    login: str
    access: Secret
    issued_at: datetime
    access_expires_at: datetime | None = None
    refresh: Secret | None = None
    refresh_expires_at: datetime | None = None
    after: str = ""

    @property
    def mark(self) -> str:
        """Which pair this is, without showing anything of it."""
        return hashlib.sha256((self.refresh or self.access).reveal().encode()).hexdigest()[:32]
