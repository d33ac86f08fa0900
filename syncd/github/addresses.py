"""PURE: where a request may go: which redirects are followed, with whose credential, and through which proxy.

Promises: our credential goes to the origin it was made for and to no other; nothing inside this machine or its cloud is reached
because a server said so.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import quote, unquote, urljoin, urlsplit

from msgspec import Struct

from syncd.errors import BadResponseError

PORTS = {"https": 443, "http": 80}
URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"  # left as they are: an address is encoded already, save what a careless server forgot

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxies(Struct, frozen=True):
    """Proxies as the operator set them: by scheme, and the hosts that need none (names with what is below them, addresses, networks, `*`)."""

    by_scheme: Mapping[str, str]
    none_for: tuple[str, ...] = ()

    def __repr__(self) -> str:  # an address may hold a password
        return f"Proxies(none_for={self.none_for!r})"

    def for_url(self, url: str) -> str | None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme)
        if _is_loopback(host) or any(_covers(one, host, port) for one in self.none_for):
            return None
        return self.by_scheme.get(parts.scheme) or None

    def passwords(self) -> list[str]:
        """Each as it is written, and as it is meant where that differs."""
        written = [password for proxy in self.by_scheme.values() if (password := urlsplit(proxy if "://" in proxy else f"http://{proxy}").password)]
        return [*written, *(meant for password in written if (meant := unquote(password)) != password)]


def is_address(proxy: str) -> bool:
    """Can a proxy be reached by what is written there?"""
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = parts.port
    except ValueError:
        return False
    plain = proxy.isascii() and proxy.isprintable() and " " not in proxy
    return plain and bool(parts.hostname) and port != 0 and parts.path in ("", "/") and not parts.query and not parts.fragment


def split_login(proxy: str) -> tuple[str, str | None]:
    """A proxy's address without the name and password in it, and those as `name:password`, meant and not encoded; None where there are none."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return address, f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None


def authorities() -> str:
    """The file of certificate authorities that a server is judged by where `ca_file` says nothing."""
    import certifi

    return certifi.where()


def _covers(rule: str, host: str, port: int | None) -> bool:
    """Does one entry of NO_PROXY mean this host? Entries are `host`, `.host`, `host:port`, an address, a network, or `*`."""
    address, network = _address(host), None
    with suppress(ValueError):
        network = ipaddress.ip_network(rule.strip("[]"), strict=False)
    if network is not None:
        return address is not None and address.version == network.version and address in network
    name, _, only = rule.lower().rpartition(":") if rule.rpartition(":")[2].isdecimal() else (rule.lower(), "", "")
    name = name.lstrip(".")
    return (not only or int(only) == port) and (name == "*" or (bool(name) and (host == name or host.endswith("." + name))))


def same_origin(one: str, other: str) -> bool:
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def target(url: str, location: str, subject: str) -> str:
    """The absolute address that an answer from `url` sends us to. Raises BadResponseError when it is none."""
    try:
        found = urljoin(url, quote(location.encode("latin-1", "replace"), safe=URL_CHARACTERS))  # header bytes come as latin-1
        _origin(found)
    except ValueError as error:
        raise BadResponseError(f"asked for {subject}: redirected to something that is no address", hint="nothing was changed") from error
    return found.partition("#")[0]


def check_elsewhere(url: str, found: str, subject: str, allowed: bool) -> None:
    """Raises BadResponseError unless a request to `url` may be sent on to the other origin of `found`.

    Allowed are https, and http where both ends are on this machine. Never with a name in the address, never to a link-local address
    (cloud metadata), never from outside to this machine, never from https to http.
    """
    ours, theirs = urlsplit(url), urlsplit(found)
    here, there = _is_loopback(ours.hostname or ""), _is_loopback(theirs.hostname or "")
    address = _address(theirs.hostname or "")
    safe = theirs.scheme == "https" or (theirs.scheme == "http" and ours.scheme == "http" and there)
    inside = (there and not here) or (address is not None and (address.is_link_local or address.is_multicast or address.is_unspecified))
    if not allowed or not safe or inside or theirs.username is not None or not theirs.hostname:
        raise BadResponseError(
            f"asked for {subject}: redirected to {theirs.scheme}://{theirs.hostname or ''}, which is refused",
            hint="check api:, and what stands between here and GitHub",
        )


def _is_loopback(host: str) -> bool:
    address, host = _address(host), host.lower().rstrip(".")
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _address(host: str) -> Address | None:
    """The address that a host is written as, in any spelling a resolver takes (`127.1`, `2852039166`, `0xa9fea9fe`, `::ffff:...`)."""
    found, host = None, host.rstrip(".")
    with suppress(ValueError):
        found = ipaddress.ip_address(host.partition("%")[0])
    if found is None and host[:1].isdigit():
        with suppress(OSError):
            found = ipaddress.ip_address(socket.inet_aton(host))
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
