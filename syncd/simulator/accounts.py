"""Apps, installations, tokens and their rules, with the texts GitHub refuses with (recorded by clients; github/protocol.py reads them)."""

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


class ApiError(Exception):
    """`more` are members of the answer's body beside the message."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        errors: object = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers, self.errors = (
            status,
            message,
            dict(headers or {}),
            errors,
        )
        self.more = dict(more or {})


class App(Struct):
    id: int
    client_id: str
    public_keys: list[str]
    slug: str = "acme-ops"


class SimInstallation(Struct):
    id: int
    app: App
    account: str
    permissions: dict[str, str] = field(
        default_factory=lambda: {"contents": "read", "metadata": "read"}
    )
    repositories: list[str] | None = None  # None: all of the account
    suspended: bool = False

    def covers(self, repo: Repository) -> bool:
        return repo.owner.lower() == self.account.lower() and (
            self.repositories is None
            or repo.name.lower() in {name.lower() for name in self.repositories}
        )


class Credential(Struct):
    value: str
    kind: str  # installation | personal | user
    key: str  # whose rate limit it spends
    installation: SimInstallation | None = None
    repository_ids: frozenset[int] | None = None
    issued: float = 0.0
    expires: float = float("inf")
    revoked: bool = False
    login: str = ""
    client_id: str | None = None  # of the app that a user logged in to
    scope: str = ""


class Accounts:
    """Who exists and what they hold. Times are the server's, in epoch seconds."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.installations: dict[int, SimInstallation] = {}
        self.credentials: dict[str, Credential] = {}
        self.token_seconds = 3600.0
        self.long_tokens = False
        self.lag_seconds = 0.0  # how long a new token is refused
        self.lag_status = 401  # or 403; 404: private repositories are absent meanwhile
        self.suspended_users: set[str] = set()  # logins
        self.token_policies: dict[
            str, str
        ] = {}  # account in small letters -> what GitHub says to every token of a person

    def add_app(self, app_id: int, client_id: str = "") -> str:
        """A new App with a fresh key; the private key as PEM text."""
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
        installation = SimInstallation(
            installation_id, self.apps[str(app_id)], account, repositories=repositories
        )
        self.installations[installation_id] = installation
        return installation

    def add_personal_token(
        self, value: str, login: str = "ada", expires: float = float("inf")
    ) -> None:
        self.credentials[value] = Credential(
            value, "personal", f"user:{login}", expires=expires, login=login
        )

    def app_of(self, authorization: str, now: float) -> App:
        """The App that signed. Raises ApiError with GitHub's texts."""
        import jwt

        scheme, _, token = authorization.partition(" ")
        broken = ApiError(401, "A JSON web token could not be decoded")
        if scheme.lower() != "bearer" or token.count(".") != 2:
            raise broken
        try:
            claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError as error:
            raise broken from error
        if "iss" not in claims:
            raise ApiError(401, "Missing 'issuer' claim ('iss') in assertion")
        app = self.apps.get(str(claims["iss"]))
        if app is None:
            if not str(claims["iss"]).isdigit():
                raise ApiError(401, "'Issuer' claim ('iss') must be an Integer")
            raise ApiError(404, "Integration not found")  # actions/create-github-app-token issue 76
        if not app.public_keys:
            raise ApiError(401, "Integration must generate a public key")
        off = {
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
            "verify_aud": False,
            "verify_iss": False,
        }
        if not any(_signed(token, key, off) for key in app.public_keys):
            raise broken
        expires, issued = claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int) or expires <= now:
            raise ApiError(
                401,
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
            )
        if expires > now + 600:
            raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future")
        if not isinstance(issued, int) or issued > now:
            raise ApiError(
                401,
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            )
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
        """A token as the body asks for it; `stateless` says which form, where the request did."""
        installation = self.installations.get(installation_id)
        if installation is None or installation.app is not app:
            raise ApiError(404, "Not Found")
        if installation.suspended:
            raise ApiError(403, "This installation has been suspended")
        permissions = dict(installation.permissions)
        for name, level in (body.get("permissions") or {}).items():
            if RANK.get(installation.permissions.get(name, ""), 0) < RANK.get(level, 9):
                raise ApiError(
                    422, "The permissions requested are not granted to this installation."
                )
        if body.get("permissions"):
            permissions = {**body["permissions"], "metadata": "read"}
        chosen = _chosen(installation, body, repos)
        tail = (
            f"_{app.id}_{'.'.join(secrets.token_urlsafe(n) for n in (30, 225, 120))}"
            if (self.long_tokens if stateless is None else stateless)
            else "_" + secrets.token_hex(18)
        )
        made = Credential(
            f"ghs{tail}",
            "installation",
            f"installation:{installation_id}",
            installation,
            frozenset(repo.id for repo in chosen) if chosen else None,
            now,
            now + self.token_seconds,
        )
        self.credentials[made.value] = made
        return made, chosen, permissions

    def credential(self, authorization: str | None, now: float) -> Credential | None:
        """Who a request comes from; None for nobody. Raises ApiError for a credential that is no good (now)."""
        if not authorization:
            return None
        found = self.credentials.get(_token(authorization))
        if found is None or found.revoked or now >= found.expires:
            raise ApiError(401, "Bad credentials")
        if found.kind == "installation" and now - found.issued < self.lag_seconds:
            if self.lag_status == 404:
                return replace(found, repository_ids=frozenset())
            raise ApiError(
                self.lag_status,
                "Bad credentials"
                if self.lag_status == 401
                else "Resource not accessible by integration",
            )
        if found.installation is not None and found.installation.suspended:
            raise ApiError(403, "This installation has been suspended")
        if found.login in self.suspended_users:
            raise ApiError(403, "Sorry. Your account was suspended.")
        return found

    def can_read(self, who: Credential | None, repo: Repository) -> bool:
        """Whether the repository is there for `who`. Raises ApiError for a refusal that has words of its own."""
        if repo.blocked:
            status, reason, address = repo.blocked
            raise ApiError(
                status,
                "Repository access blocked",
                more={"block": {"reason": reason, "html_url": address}},
            )
        if (
            who is not None
            and who.installation is None
            and repo.owner.lower() in self.token_policies
        ):
            raise ApiError(403, self.token_policies[repo.owner.lower()])
        if (
            who is None
            or (who.installation is not None and not who.installation.covers(repo))
            or (who.repository_ids is not None and repo.id not in who.repository_ids)
        ):
            return not repo.private
        if who.installation is not None and "contents" not in who.installation.permissions:
            raise ApiError(
                403,
                "Resource not accessible by integration",
                {"x-accepted-github-permissions": "contents=read"},
            )
        return True


def _chosen(
    installation: SimInstallation, body: Mapping[str, Any], repos: Mapping[str, Repository]
) -> list[Repository] | None:
    """The repositories that a mint names, by name without owner or by number; None for all of the installation's."""
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
    if len(found) > MAX_TOKEN_REPOSITORIES or any(
        repo is None or not installation.covers(repo) for repo in found
    ):
        raise ApiError(
            422,
            "There is at least one repository that does not exist or is not accessible to the parent installation.",
        )
    return [repo for repo in found if repo is not None]


def _signed(token: str, key: str, options: Mapping[str, bool]) -> bool:
    import jwt

    try:
        jwt.decode(token, key, algorithms=["RS256"], options=dict(options))  # type: ignore[arg-type]
    except jwt.PyJWTError:
        return False
    return True


def _token(authorization: str) -> str:
    """The token of `Bearer TOKEN`, `token TOKEN`, or `Basic` as git sends it, where it is the password."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
