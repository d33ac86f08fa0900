"""PURE: where a request may go: which redirects are followed, with whose credential, and through which proxy (see also proxies.py).

Promises: our credential goes to the origin it was made for and to no other; nothing inside this machine or its cloud is reached
because a server said so.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import quote, urljoin, urlsplit

from syncd.errors import BadResponseError

PORTS = {"https": 443, "http": 80}
NAT64 = ipaddress.IPv6Network(
    "64:ff9b::/96"
)  # RFC 6052: IPv4 addresses as a network without IPv4 sees them
DATA_RESIDENCY = re.compile(r"api\.[a-z0-9-]+\.ghe\.com\Z")
URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"  # left as they are: an address is encoded already, save what a careless server forgot

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def default_ca_file() -> str:
    """The file of certificate authorities that a server is judged by where `ca_file` says nothing."""
    import certifi

    return certifi.where()


def same_origin(one: str, other: str) -> bool:
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def web_of(api: str) -> str:
    """The address that serves git, LFS and logins for an API: its own origin, save where GitHub documents another one.

    Source: docs: github.com for api.github.com, SUBDOMAIN.ghe.com for api.SUBDOMAIN.ghe.com, HOST for HOST/api/v3.
    """
    scheme, host, port = _origin(api)
    documented = host == "api.github.com" or DATA_RESIDENCY.match(host or "") is not None
    if documented and (scheme, port) == ("https", 443):
        return f"https://{(host or '').removeprefix('api.')}"
    return f"{scheme}://{urlsplit(api).netloc}"


def display_host(web: str) -> str:
    """The host of an address, with its port, as people write it."""
    return urlsplit(web).netloc


def hosts_of(api: str) -> frozenset[str]:
    """The hosts of an API itself: where it answers, and where it serves git."""
    return frozenset(
        host for address in (api, web_of(api)) if (host := urlsplit(address).hostname) is not None
    )


def may_send_credential(api: str, url: str) -> bool:
    """Whether a request to `url` may carry a credential of an identity whose API is `api`. The only place that decides it.

    That is so for the API's own origin and for the one that serves its git and its logins. All other hosts get none, whoever names
    them: those of archives (codeload), raw files, uploads and LFS storage answer without one, or with one that GitHub's answer holds.
    """
    try:
        return _origin(url) in (_origin(api), _origin(web_of(api)))
    except ValueError:
        return False


def target(url: str, location: str, subject: str) -> str:
    """The absolute address that an answer from `url` sends us to. Raises BadResponseError when it is none."""
    try:
        found = urljoin(
            url, quote(location.encode("latin-1", "replace"), safe=URL_CHARACTERS)
        )  # header bytes come as latin-1
        _origin(found)
    except ValueError as error:
        raise BadResponseError(
            f"asked for {subject}: redirected to something that is no address",
            hint="nothing was changed",
        ) from error
    return found.partition("#")[0]


def check_redirect(url: str, found: str, subject: str, allowed: bool) -> None:
    """Raises BadResponseError unless a request to `url` may be sent on to the other origin of `found`.

    Allowed are https, and http where both ends are on this machine. Never with a name in the address, never to a link-local address
    (cloud metadata), never from outside to this machine, never from https to http.
    """
    ours, theirs = urlsplit(url), urlsplit(found)
    here, there = is_loopback(ours.hostname or ""), is_loopback(theirs.hostname or "")
    address = address_of(theirs.hostname or "")
    safe = theirs.scheme == "https" or (theirs.scheme == "http" and ours.scheme == "http" and there)
    inside = (there and not here) or (
        address is not None
        and (address.is_link_local or address.is_multicast or address.is_unspecified)
    )
    if not allowed or not safe or inside or theirs.username is not None or not theirs.hostname:
        raise BadResponseError(
            f"asked for {subject}: redirected to {theirs.scheme}://{theirs.hostname or ''}, which is refused",
            hint="check api:, and what stands between here and GitHub",
        )


def kind_of(peer: str) -> str:
    """The kind of an address: `loopback`, `link-local`, `private`, `public`, or `none` for what no server answers from."""
    address = address_of(peer)
    if isinstance(address, ipaddress.IPv6Address) and address in NAT64:
        address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address is None or address.is_multicast or address.is_unspecified:
        return "none"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    return "public" if address.is_global else "private"


def check_peer(peer: str, own_kinds: Collection[str], host: str, subject: str) -> None:
    """Raises BadResponseError unless the address `peer`, which answers for a `host` that a server named, may be asked.

    Allowed are public addresses, and those of the kinds from which the API itself answers. Where it answers through a proxy, its kind is
    not known (`own_kinds` is empty), and a host that needs none is one that NO_PROXY names: it may have a private address.
    """
    kind = kind_of(peer)
    if kind == "public" or kind in own_kinds or (kind == "private" and not own_kinds):
        return
    raise BadResponseError(
        f"asked for {subject}: GitHub's answer leads to {host}, which is at the {kind} address {peer}, and is refused",
        hint="check api:, the name server, and what stands between here and GitHub",
    )


def is_loopback(host: str) -> bool:
    """Whether the host is this machine itself."""
    address, host = address_of(host), host.lower().rstrip(".")
    return (
        host == "localhost"
        or host.endswith(".localhost")
        or (address is not None and address.is_loopback)
    )


def address_of(host: str) -> Address | None:
    """The address that a host is written as, in any spelling a resolver takes (`127.1`, `2852039166`, `0xa9fea9fe`, `::ffff:...`)."""
    found, host = None, host.rstrip(".")
    with suppress(ValueError):
        found = ipaddress.ip_address(host.partition("%")[0])
    if found is None and host[:1].isdigit():
        with suppress(OSError):
            found = ipaddress.ip_address(socket.inet_aton(host))
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
