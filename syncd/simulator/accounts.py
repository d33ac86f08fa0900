"""Apps, installations, tokens and their rules, with the texts of GitHub's errors.

The texts were recorded by clients; github/error_responses.py reads them.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from syncd.simulator.repository import Repository

MAX_TOKEN_REPOSITORIES = 500
RANK = {"read": 1, "write": 2, "admin": 3}


JWT_UNREADABLE = "A JSON web token could not be decoded"
JWT_EXPIRED = (
    "'Expiration time' claim ('exp') must be a numeric value representing the future time "
    "at which the assertion expires"
)
JWT_TOO_LONG = "'Expiration time' claim ('exp') is too far in the future"
JWT_ISSUED_LATER = (
    "'Issued at' claim ('iat') must be an Integer representing the time "
    "that the assertion was issued"
)
JWT_UNCHECKED = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
}
SUSPENDED = "This installation has been suspended"
NOT_ACCESSIBLE = "Resource not accessible by integration"
UNKNOWN_REPOSITORY = (
    "There is at least one repository that does not exist "
    "or is not accessible to the parent installation."
)


class ApiError(Exception):
    """An error response. `more` are members of its body beside the message."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        errors: object = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.errors = status, message, errors
        self.headers, self.more = dict(headers or {}), dict(more or {})


class App(Struct):
    """A GitHub App and its public keys (PEM)."""

    id: int
    client_id: str
    public_keys: list[str]
    slug: str = "acme-ops"
    owner: str = "acme"


class SimInstallation(Struct):
    """An App's installation in one account."""

    id: int
    app: App
    account: str
    permissions: dict[str, str] = field(
        default_factory=lambda: {"contents": "read", "metadata": "read"}
    )
    repositories: list[str] | None = None  # None: all of the account
    suspended: bool = False

    def covers(self, repo: Repository) -> bool:
        """Return whether the installation has access to the repository."""
        if repo.owner.lower() != self.account.lower():
            return False
        chosen = self.repositories
        return chosen is None or repo.name.lower() in {name.lower() for name in chosen}


class Credential(Struct):
    """A token. Times are in epoch seconds."""

    value: str
    kind: str  # installation | personal | user
    key: str  # the rate limit that its requests count against
    installation: SimInstallation | None = None
    repository_ids: frozenset[int] | None = None
    issued: float = 0.0
    expires: float = float("inf")
    revoked: bool = False
    login: str = ""
    client_id: str | None = None  # of the app that a user logged in to
    scope: str = ""
    permissions: Mapping[str, str] | None = None  # None: all that its installation or user has

    def allows(self, name: str, level: str) -> bool:
        """Return whether it was given this permission, and its installation still has it.

        A token of a user is not narrowed here.
        """
        granted = [self.permissions] if self.permissions is not None else []
        if self.installation is not None:
            granted.append(self.installation.permissions)
        return all(RANK.get(one.get(name, ""), 0) >= RANK[level] for one in granted)


class Accounts:
    """Apps, installations, tokens and users. Times are the server's, in epoch seconds."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.installations: dict[int, SimInstallation] = {}
        self.credentials: dict[str, Credential] = {}
        self.token_seconds = 3600.0
        self.long_tokens = False
        self.lag_seconds = 0.0  # how long a new token is refused
        self.lag_status = 401  # or 403; 404: private repositories are absent meanwhile
        self.suspended_users: set[str] = set()  # logins
        # account in lower case -> what GitHub says to every token of a person
        self.token_policies: dict[str, str] = {}

    def add_app(self, app_id: int, client_id: str = "") -> str:
        """Add an App, or a key to it; return the new private key as PEM text."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        key = rsa.generate_private_key(65537, 2048)
        public = (
            key.public_key()
            .public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            .decode()
        )
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode()
        app = self.apps.get(str(app_id)) or App(app_id, client_id or f"Iv23li{app_id}", [])
        app.public_keys.append(public)
        self.apps[str(app_id)] = self.apps[app.client_id] = app
        return private

    def install(
        self, app_id: int, account: str, installation_id: int, repositories: list[str] | None = None
    ) -> SimInstallation:
        """Install an App in an account, for all of its repositories or for those named."""
        installation = SimInstallation(
            installation_id, self.apps[str(app_id)], account, repositories=repositories
        )
        self.installations[installation_id] = installation
        return installation

    def add_personal_token(
        self, value: str, login: str = "ada", expires: float = float("inf")
    ) -> None:
        """Add a personal access token with this value."""
        self.credentials[value] = Credential(
            value, "personal", f"user:{login}", expires=expires, login=login
        )

    def app_of(self, authorization: str, now: float) -> App:
        """Return the App that signed a JSON web token. Raises ApiError with GitHub's texts."""
        import jwt

        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or token.count(".") != 2:
            raise ApiError(401, JWT_UNREADABLE)
        try:
            claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise ApiError(401, JWT_UNREADABLE) from error
        app = self._issuer(claims)
        if not any(_signed(token, key) for key in app.public_keys):
            raise ApiError(401, JWT_UNREADABLE)
        _check_times(claims, now)
        return app

    def _issuer(self, claims: Mapping[str, Any]) -> App:
        if "iss" not in claims:
            raise ApiError(401, "Missing 'issuer' claim ('iss') in assertion")
        issuer = str(claims["iss"])
        app = self.apps.get(issuer)
        if app is None and not issuer.isdigit():
            raise ApiError(401, "'Issuer' claim ('iss') must be an Integer")
        if app is None:
            raise ApiError(404, "Integration not found")  # actions/create-github-app-token issue 76
        if not app.public_keys:
            raise ApiError(401, "Integration must generate a public key")
        return app

    def create_installation_token(
        self,
        app: App,
        installation_id: int,
        body: Mapping[str, Any],
        repos: Mapping[str, Repository],
        now: float,
        stateless: bool | None = None,
    ) -> tuple[Credential, list[Repository] | None, dict[str, str]]:
        """Create a token as the body asks for it; return it, its repositories and its permissions.

        `stateless` says which form of token, where the request named one. There are six parameters,
        because the request's parts are read by the caller.
        """
        installation = self.installations.get(installation_id)
        if installation is None or installation.app is not app:
            raise ApiError(404, "Not Found")
        if installation.suspended:
            raise ApiError(403, SUSPENDED)
        permissions = _granted(installation, body)
        chosen = _chosen(installation, body, repos)
        long = self.long_tokens if stateless is None else stateless
        made = Credential(
            _token_value(app, long),
            "installation",
            f"installation:{installation_id}",
            installation,
            frozenset(repo.id for repo in chosen) if chosen else None,
            now,
            now + self.token_seconds,
            permissions=permissions,
        )
        self.credentials[made.value] = made
        return made, chosen, permissions

    def credential(self, authorization: str | None, now: float) -> Credential | None:
        """Return the credential of a request; None for an anonymous one.

        Raises ApiError for a credential that is not valid (now).
        """
        if not authorization:
            return None
        found = self.credentials.get(_token(authorization))
        if found is None or found.revoked or now >= found.expires:
            raise ApiError(401, "Bad credentials")
        if found.kind == "installation" and now - found.issued < self.lag_seconds:
            if self.lag_status == 404:
                return replace(found, repository_ids=frozenset())
            text = "Bad credentials" if self.lag_status == 401 else NOT_ACCESSIBLE
            raise ApiError(self.lag_status, text)
        if found.installation is not None and found.installation.suspended:
            raise ApiError(403, SUSPENDED)
        if found.login in self.suspended_users:
            raise ApiError(403, "Sorry. Your account was suspended.")
        return found

    def can_read(
        self, who: Credential | None, repo: Repository, permission: str = "contents"
    ) -> bool:
        """Return whether the repository exists for `who`, for an endpoint of this permission.

        Raises ApiError where GitHub refuses with a text of its own.
        """
        if repo.blocked:
            status, reason, address = repo.blocked
            block = {"reason": reason, "html_url": address}
            raise ApiError(status, "Repository access blocked", more={"block": block})
        if who is None:
            return not repo.private
        policy = self.token_policies.get(repo.owner.lower())
        if who.installation is None and policy is not None:
            raise ApiError(403, policy)
        if (who.installation is not None and not who.installation.covers(repo)) or (
            who.repository_ids is not None and repo.id not in who.repository_ids
        ):
            return not repo.private
        if not who.allows(permission, "read"):
            headers = {"x-accepted-github-permissions": f"{permission}=read"}
            raise ApiError(403, NOT_ACCESSIBLE, headers)
        return True


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires, issued = claims.get("exp"), claims.get("iat")
    if not isinstance(expires, int) or expires <= now:
        raise ApiError(401, JWT_EXPIRED)
    if expires > now + 600:
        raise ApiError(401, JWT_TOO_LONG)
    if not isinstance(issued, int) or issued > now:
        raise ApiError(401, JWT_ISSUED_LATER)


def _token_value(app: App, long: bool) -> str:
    if not long:
        return "ghs_" + secrets.token_hex(18)
    return f"ghs_{app.id}_{'.'.join(secrets.token_urlsafe(n) for n in (30, 225, 120))}"


def _granted(installation: SimInstallation, body: Mapping[str, Any]) -> dict[str, str]:
    """Return the permissions of a new token. Raises ApiError for more than the installation has."""
    asked = body.get("permissions")
    if not asked:
        return dict(installation.permissions)
    for name, level in asked.items():
        if RANK.get(installation.permissions.get(name, ""), 0) < RANK.get(level, 9):
            text = "The permissions requested are not granted to this installation."
            raise ApiError(422, text)
    return {**asked, "metadata": "read"}


def _chosen(
    installation: SimInstallation, body: Mapping[str, Any], repos: Mapping[str, Repository]
) -> list[Repository] | None:
    """Return the repositories that a token request names; None for all of the installation's.

    They are named by name without owner, or by number.
    """
    if body.get("repositories") is None and body.get("repository_ids") is None:
        return None
    found = [
        repos.get(f"{installation.account}/{name}".lower()) if "/" not in name else None
        for name in body.get("repositories") or ()
    ]
    found += [
        next((repo for repo in repos.values() if repo.id == number), None)
        for number in body.get("repository_ids") or ()
    ]
    covered = [repo for repo in found if repo is not None and installation.covers(repo)]
    if len(found) > MAX_TOKEN_REPOSITORIES or len(covered) < len(found):
        raise ApiError(422, UNKNOWN_REPOSITORY)
    return covered


def _signed(token: str, key: str) -> bool:
    import jwt

    try:
        options = dict(JWT_UNCHECKED)
        jwt.decode(token, key, algorithms=["RS256"], options=options)  # type: ignore[arg-type]
    except jwt.PyJWTError:
        return False
    return True


def _token(authorization: str) -> str:
    """Return the token of `Bearer TOKEN` or `token TOKEN`, or the password of `Basic` (git)."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
