"""Describes the identities under `github:` as pydantic models over plain values."""

from __future__ import annotations

import posixpath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from syncd.config.field_types import AppId, ClientId, Flag, SecretHere, Text, whole_number
from syncd.config.strict_model import Strict


def _meant(host: str) -> str | None:
    """Return the API's address on GitHub's own hosts, which is easily mistaken.

    Source: GitHub's documentation; an Enterprise Server has /api/v3, the others have not.
    """
    if host in ("github.com", "www.github.com", "api.github.com"):
        return "https://api.github.com"
    return f"https://api.{host.removeprefix('api.')}" if host.endswith(".ghe.com") else None


def _on_the_wire(host: str) -> str:
    """Return a host name as the network knows it (IDNA)."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return "it as xn--..."


class LoginModel(Strict):
    """A user's login, `login:`."""

    client_id: ClientId


class IdentityModel(Strict):
    """One identity under `github:`."""

    app_id: AppId | None = None
    client_id: ClientId | None = None
    installation_id: Annotated[int, whole_number(1, 10**15)] | None = None
    private_key: SecretHere | None = None
    token: SecretHere | None = None
    login: LoginModel | None = None
    anonymous: Flag | None = None
    api: Text = "https://api.github.com"
    ca_file: Text | None = None

    @field_validator("api")
    @classmethod
    def _api(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"'{value}' is not an address") from error
        loopback = host in ("localhost", "::1") or (host or "").startswith("127.")
        if (
            not host
            or parts.username
            or parts.query
            or parts.fragment
            or parts.scheme not in ("https", "http")
        ):
            raise ValueError(
                f"'{value}' is not an API address; write it like https://api.github.com or"
                " https://HOST/api/v3"
            )
        if not host.isascii():
            raise ValueError(
                f"'{value}' has a host with letters that the network does not know; write"
                f" {_on_the_wire(host)}"
            )
        if parts.scheme == "http" and not loopback:
            raise ValueError(
                f"'{value}' would send credentials in the clear; use https (http is for loopback"
                " only)"
            )
        path = parts.path.rstrip("/")
        meant = _meant(host)
        if meant is not None and (path or f"https://{host}" != meant):
            raise ValueError(f"'{value}' is not where the API is; write {meant}")
        return value.rstrip("/")

    @field_validator("ca_file")
    @classmethod
    def _ca_file(cls, value: str | None) -> str | None:
        if value is not None and not posixpath.isabs(value):
            raise ValueError(f"'{value}' is not an absolute path")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> IdentityModel:
        app = any(one is not None for one in (self.app_id, self.client_id, self.private_key))
        kinds = [
            name
            for name, used in (
                ("app_id", app),
                ("token", self.token),
                ("login", self.login),
                ("anonymous", self.anonymous),
            )
            if used
        ]
        if len(kinds) != 1:
            found = f"has {' and '.join(kinds)}" if kinds else "names no identity"
            raise ValueError(
                f"{found}; give exactly one of: app_id with private_key, token, login, or"
                " anonymous: true"
            )
        if app and (self.app_id is None) == (self.client_id is None):
            raise ValueError("an App needs exactly one of app_id and client_id")
        if app and self.private_key is None:
            raise ValueError("an App needs its private_key")
        if not app and self.installation_id is not None:
            raise ValueError("installation_id belongs to an App")
        return self
