"""Requests to the simulator: one on its way to a response, and one as it was recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct, field

from syncd.simulator.accounts import Credential
from syncd.simulator.faults import Answer

MEDIA_TYPES = ("raw", "object", "sha")

Route = tuple[str, Callable[[], Answer]]  # the name of a route, and what answers the request


class RecordedRequest(Struct, frozen=True):
    """One request as it was counted."""

    route: str
    method: str
    path: str
    status: int
    credential: str | None
    headers: Mapping[str, str] = field(default_factory=dict)


class SimRequest(Struct):
    """One request on its way to a response."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str
    prefix: str = ""
    who: Credential | None = None

    @property
    def authorization(self) -> str:
        """Return the Authorization header, or an empty text."""
        return self.headers.get("authorization", "")

    def media(self) -> str | None:
        """Return `raw`, `object` or `sha` when the Accept header asks for that media type."""
        accept = self.headers.get("accept", "")
        for kind in MEDIA_TYPES:
            if f"vnd.github.{kind}" in accept or f"vnd.github.v3.{kind}" in accept:
                return kind
        return None

    def url(self, path: str) -> str:
        """Return the address of an API path on the host that this request was sent to."""
        return f"{self.origin}{self.prefix}{path}"
