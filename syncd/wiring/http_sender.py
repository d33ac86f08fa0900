"""HTTP sender of notifications: posts through the same client that requests to GitHub use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from syncd.errors import RemoteUnavailableError
from syncd.github.proxies import proxies_of, split_login
from syncd.github.sessions import Route, post_once
from syncd.github.urls import default_ca_file
from syncd.tls import machine_context

Send: TypeAlias = Callable[[str, bytes, Mapping[str, str], float], tuple[int, str | None]]
"""URL, body, headers, timeout in seconds -> status, Retry-After. Raises RemoteUnavailableError."""


def senders(environ: Mapping[str, str]) -> Callable[[str], Send]:
    """Return a function that makes the sender for an address, through the proxy that `environ`
    names for it.
    """
    proxies = proxies_of(environ)
    return lambda address: http_sender(default_ca_file(), proxies.for_url(address))


def http_sender(ca_file: str | None, proxy: str | None) -> Send:
    """Return a sender that trusts the machine's own certificate authorities and those in `ca_file`.

    The machine's authorities count because a company's receivers often have certificates of the
    company's own authority.
    """

    def send(
        url: str, message: bytes, headers: Mapping[str, str], seconds: float
    ) -> tuple[int, str | None]:
        if url.startswith("http:"):  # only loopback: no TLS, and no proxy
            return post_once(Route(None), url, message, headers, seconds)
        try:
            context = machine_context(*filter(None, [ca_file]))
        except OSError as error:
            raise RemoteUnavailableError(f"can't be reached: {error.strerror or error}") from error
        address, login = split_login(proxy) if proxy is not None else ("", None)
        return post_once(Route(context, address, login, context), url, message, headers, seconds)

    return send


__all__ = ["http_sender", "senders"]
