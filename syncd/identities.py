"""Defines the identities on each host, and where their secrets are read from.

These are values of the configuration. `github/auth` decides which requests an identity may make,
and renews its tokens.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from msgspec import Struct

from syncd.redaction import Secret


class SecretRef(Struct, frozen=True):
    """Where a secret is read from.

    `kind` is `credential`, `file` or `env`, `value` its name or path.
    """

    kind: str
    value: str


class Identity(Struct, frozen=True):
    """One identity on one host. `api` has no trailing slash."""

    name: str
    api: str = "https://api.github.com"
    ca_file: str | None = None

    @property
    def web_url(self) -> str | None:
        """Return the address of the host's pages, without a trailing slash; None where it has no
        https.

        Source: GitHub's docs: the API is https://api.HOST for github.com and ghe.com, else
        https://HOST/api/v3.
        """
        scheme, _, rest = self.api.partition("://")
        host = rest.partition("/")[0].removeprefix("api.")
        return f"https://{host}" if scheme == "https" and host else None


class AppIdentity(Identity, frozen=True):
    """A GitHub App installation. `issuer` is the client id or the app id, as text."""

    issuer: str = ""
    installation_id: int | None = None
    private_key: SecretRef = SecretRef("file", "")


class TokenIdentity(Identity, frozen=True):
    """A personal access token."""

    token: SecretRef = SecretRef("file", "")


class LoginIdentity(Identity, frozen=True):
    """A user who logs in with `syncd login`."""

    client_id: str = ""


class AnonymousIdentity(Identity, frozen=True):
    """Requests without credentials, for public repositories."""


class FleetIdentity(Identity, frozen=True):
    """The database of a fleet, where an agent's jobs come from. It has no API."""


FLEET = "fleet"  # the name of that identity


class OAuthTokens(Struct, frozen=True):
    """The tokens of a user's login: the access token and, if it expires, the refresh token.

    A refresh token can be used once. The pair belongs to one `api` and `client_id`, and is sent
    nowhere else. Times are aware UTC; None for what does not expire or does not exist. `issued_at`
    is by our own clock; `after` identifies the pair that it replaced.
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
        """Return an identifier of the pair that reveals nothing of it."""
        return hashlib.sha256((self.refresh or self.access).reveal().encode()).hexdigest()[:32]
