"""Describes the listener, `web:`, as pydantic models over plain values."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import Field, field_validator

from syncd.config.field_types import Flag, SecretHere, Text, validated
from syncd.config.strict_model import Strict

OWN_PATHS = (
    "api",
    "fleet",
    "healthz",
    "jobs",
    "login",
    "logout",
    "metrics",
    "readyz",
    "runs",
    "static",
)


def _is_plain_path(value: str) -> bool:
    """Return whether this is a path of plain names, like /github."""
    plain = re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", value) is not None
    return plain and not {".", ".."} & set(value.split("/"))


def _proxy(value: Any) -> str:
    """Parse a network, an address or `unix`, which is every client of a unix socket."""
    try:
        if value == "unix":
            return "unix"
        return str(ip_network(value if isinstance(value, str) else ""))
    except ValueError as error:
        raise ValueError(
            f"'{str(value)[:40]}' is not a network; write it like 127.0.0.1, 10.0.0.0/8, "
            "2001:db8::/32 or unix"
        ) from error


class WebUserModel(Strict):
    """One user of the listener, an entry of `web.users:`."""

    hash: SecretHere


class WebhookModel(Strict):
    """The webhook, `web.webhook:`."""

    path: Text
    secret: SecretHere

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if not _is_plain_path(value) or value.split("/")[1] in OWN_PATHS:
            raise ValueError(f"'{value}' can't be the webhook's path; write it like /github")
        return value


class WebModel(Strict):
    """The listener, `web:`."""

    listen: Text
    password: SecretHere | None = None
    users: dict[str, WebUserModel] = Field(default_factory=dict)
    token: SecretHere | None = None
    prefix: Text = "/"
    trusted_proxies: list[Annotated[str, validated(_proxy, type="string")]] = Field(
        default_factory=list
    )
    show_diffs: Flag = False
    actions: Flag = False
    webhook: WebhookModel | None = None

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        if re.fullmatch(r"unix:/.+|fd:[A-Za-z0-9_.-]+", value):
            return value
        found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(\d{1,5})", value)
        if found is None or not 0 <= int(found.group(2)) <= 65535:
            raise ValueError(
                f"'{value}' is not a listening address; write 127.0.0.1:8480,"
                " unix:/run/syncd/web.sock or fd:NAME"
            )
        return value

    @field_validator("prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if value != "/" and not _is_plain_path(value.removesuffix("/")):
            raise ValueError(f"'{value[:60]}' can't be the listener's prefix; write it like /syncd")
        return value if value == "/" else value.removesuffix("/")

    @field_validator("users")
    @classmethod
    def _users(cls, value: dict[str, WebUserModel]) -> dict[str, WebUserModel]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}", name):
                raise ValueError(
                    f"'{name[:40]}' is not a user name; write up to 64 letters, digits, "
                    "and any of _ . @ + -"
                )
        return value
