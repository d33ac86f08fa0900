"""The operator's proxies, from the environment's variables, and the hosts that need none.

The names of the variables and their order are those of Python's
`urllib.request.getproxies_environment`, which requests uses too: the lower-case name wins over the
upper-case one, also where it is empty (for curl an empty variable means no proxy). Pure: no I/O.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from syncd.errors import ConfigError
from syncd.github.urls import PORTS, address_of, is_loopback

SCHEMES = ("http", "https")
HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\Z")
MAX_SHOWN_CHARACTERS = 60

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class DirectHost(Struct, frozen=True):
    """One entry of NO_PROXY: a host with its subdomains, or a network; `port` where it has one.

    An empty host covers every host.
    """

    host: str = ""
    network: Network | None = None
    port: int | None = None

    def covers(self, host: str, port: int | None) -> bool:
        """Return whether this host and port need no proxy."""
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            address = address_of(host)
            return (
                address is not None
                and address.version == self.network.version
                and address in self.network
            )
        name = host.lower().rstrip(".")
        return not self.host or name == self.host or name.endswith("." + self.host)


class Proxies(Struct, frozen=True):
    """The operator's proxies, by scheme, and the entries of NO_PROXY.

    An entry that is not understood covers no host.
    """

    by_scheme: Mapping[str, str]
    no_proxy: tuple[str, ...] = ()

    def __repr__(self) -> str:  # an address may hold a password
        return f"Proxies(no_proxy={self.no_proxy!r})"

    def for_url(self, url: str) -> str | None:
        """Return the proxy for a request to `url`, or None."""
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme)
        if is_loopback(host) or any(
            one.covers(host, port) for one in map(direct_host, self.no_proxy) if one is not None
        ):
            return None
        return self.by_scheme.get(parts.scheme) or None

    def passwords(self) -> list[str]:
        """Return each password as it is written, and decoded where that differs."""
        written = [
            password
            for proxy in self.by_scheme.values()
            if (password := urlsplit(proxy if "://" in proxy else f"http://{proxy}").password)
        ]
        return [
            *written,
            *(meant for password in written if (meant := unquote(password)) != password),
        ]

    def warnings(self) -> list[str]:
        """Return a warning about entries of NO_PROXY that are not understood.

        Empty where there is no proxy.
        """
        unknown = [shown(entry) for entry in self.no_proxy if direct_host(entry) is None]
        if not unknown or not self.by_scheme:
            return []
        return [
            f"NO_PROXY: {', '.join(unknown)} is not understood, so it keeps no host from the "
            "proxy; "
            "write HOST, .DOMAIN, *.DOMAIN, HOST:PORT, an address, a network (10.0.0.0/8) or *, "
            "separated by commas or spaces"
        ]


def proxies_of(environ: Mapping[str, str]) -> Proxies:
    """Return the operator's proxies, from the variables that every tool reads.

    Raises ConfigError for one that can't be used.
    """
    everything = variable(environ, "all_proxy")
    found = {scheme: variable(environ, f"{scheme}_proxy") or everything for scheme in SCHEMES}
    by_scheme = {scheme: proxy for scheme, proxy in found.items() if proxy}
    for scheme, proxy in by_scheme.items():
        kind = proxy.partition("://")[0].lower() if "://" in proxy else "http"
        if kind not in SCHEMES:
            raise ConfigError(
                f"the environment's {scheme} proxy is one of kind {kind[:20]!r}, which syncd does "
                "not support",
                id="config/proxy-kind",
                hint="set HTTPS_PROXY to an http:// or https:// proxy, or unset it",
            )
        if not is_address(proxy):
            raise ConfigError(
                f"the environment's {scheme} proxy is no address",
                id="config/proxy-address",
                hint="write it like http://USER:PASSWORD@HOST:PORT, and what is no letter or digit "
                "of a password as %XX",
            )
    return Proxies(by_scheme, tuple(split(variable(environ, "no_proxy"))))


def variable(environ: Mapping[str, str], name: str) -> str:
    """Return the value of a proxy variable (`name` in lower case); empty where it is unset."""
    return (environ[name] if name in environ else environ.get(name.upper(), "")).strip()


def split(no_proxy: str) -> Iterable[str]:
    """Return the entries of NO_PROXY, separated by commas or white space, as for curl."""
    return filter(None, re.split(r"[,\s]+", no_proxy))


@lru_cache(maxsize=1024)
def direct_host(entry: str) -> DirectHost | None:
    """Return what one entry of NO_PROXY covers.

    `HOST`, `.HOST` and `*.HOST` with their subdomains, each with `:PORT`, an address, a network, or
    `*`. None for an entry of another form.
    """
    name, port = _port_apart(entry.lower())
    try:
        return DirectHost(network=ipaddress.ip_network(name.strip("[]"), strict=False), port=port)
    except ValueError:
        pass
    if name == "*":
        return DirectHost(port=port)
    name = name.removeprefix("*").lstrip(".") if name.startswith(("*.", ".")) else name
    name = name.rstrip(".")
    if (
        not HOST_NAME.match(name) or name.replace(".", "").isdecimal()
    ):  # digits alone are an address that is none
        return None
    return DirectHost(name, port=port)


def _port_apart(entry: str) -> tuple[str, int | None]:
    """Split `HOST:PORT` or `[ADDRESS]:PORT` into name and port.

    Other entries, such as an IPv6 address without brackets, have no port.
    """
    name, colon, port = entry.rpartition(":")
    if (
        not colon
        or not port.isascii()
        or not port.isdecimal()
        or (":" in name and not name.endswith("]"))
    ):
        return entry, None
    return name, int(port)


def shown(entry: str) -> str:
    """Return an entry for messages: printable, short, without user name and password."""
    return ascii(entry.rpartition("@")[2][:MAX_SHOWN_CHARACTERS])


def is_address(proxy: str) -> bool:
    """Return whether the text is an address at which a proxy can be reached."""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = parts.port
    except ValueError:
        return False
    plain = proxy.isascii() and proxy.isprintable() and " " not in proxy
    return (
        plain
        and bool(parts.hostname)
        and port != 0
        and parts.path in ("", "/")
        and not parts.query
        and not parts.fragment
    )


def split_login(proxy: str) -> tuple[str, str | None]:
    """Return a proxy's address without its login, and the login as decoded `name:password`.

    The login is None where there is none.
    """
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return (
        address,
        f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None,
    )


__all__ = ["Proxies", "is_address", "proxies_of", "split_login"]
