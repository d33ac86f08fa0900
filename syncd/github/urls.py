"""Where a request may go: which redirects are followed, and which hosts get a credential.

Our credential goes to the origin it was made for and to no other. No address inside this machine
or its cloud is reached because a server named it. The operator's proxies are in proxies.py. Pure:
no I/O.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from syncd.errors import BadResponseError

PORTS = {"https": 443, "http": 80}
NAT64 = ipaddress.IPv6Network(
    "64:ff9b::/96"
)  # RFC 6052: IPv4 addresses as a network without IPv4 sees them
DATA_RESIDENCY = re.compile(r"api\.[a-z0-9-]+\.ghe\.com\Z")
# Not quoted again: an address is encoded already, except for what a careless server left out.
URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def default_ca_file() -> str:
    """Return the file of certificate authorities for servers without a `ca_file`."""
    import certifi

    return certifi.where()


def same_origin(one: str, other: str) -> bool:
    """Return whether two URLs have the same scheme, host and port; False for one that is none."""
    try:
        return _origin(one) == _origin(other)
    except ValueError:
        return False


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def web_origin(api: str) -> str:
    """Return the address that serves git, LFS and logins for an API.

    It is the API's own origin, except where GitHub documents another one.

    Source: docs: github.com for api.github.com, SUBDOMAIN.ghe.com for api.SUBDOMAIN.ghe.com, HOST
    for HOST/api/v3.
    """
    scheme, host, port = _origin(api)
    documented = host == "api.github.com" or DATA_RESIDENCY.match(host or "") is not None
    if documented and (scheme, port) == ("https", 443):
        return f"https://{(host or '').removeprefix('api.')}"
    return f"{scheme}://{urlsplit(api).netloc}"


def display_host(web: str) -> str:
    """Return the host of an address, with its port, for messages."""
    return urlsplit(web).netloc


def hosts_of(api: str) -> frozenset[str]:
    """Return the hosts of an API itself: where it answers, and where it serves git."""
    return frozenset(
        host
        for address in (api, web_origin(api))
        if (host := urlsplit(address).hostname) is not None
    )


def may_send_credential(api: str, url: str) -> bool:
    """Return whether a request to `url` may carry a credential of an identity with this `api`.

    This is the only place that decides it. Allowed are the API's own origin and the one that
    serves its git and its logins. All other hosts get none, whichever answer names them: those of
    archives (codeload), raw files, uploads and LFS storage answer without one, or with one that
    GitHub's answer holds.
    """
    try:
        return _origin(url) in (_origin(api), _origin(web_origin(api)))
    except ValueError:
        return False


def redirect_url(url: str, location: str, subject: str) -> str:
    """Return the absolute address that an answer from `url` redirects to.

    Raises BadResponseError when it is none.
    """
    try:
        found = urljoin(
            url, quote(location.encode("latin-1", "replace"), safe=URL_CHARACTERS)
        )  # header bytes come as latin-1
        _origin(found)
    except ValueError as error:
        raise BadResponseError(
            f"the request for {subject} was redirected to something that is no address",
            id="bad_response/redirect-target",
            hint="nothing was changed",
        ) from error
    return found.partition("#")[0]


def check_redirect(url: str, found: str, subject: str, allowed: bool) -> None:
    """Raise BadResponseError unless a request to `url` may be sent to the other origin of `found`.

    Allowed are https, and http where both ends are on this machine. Never allowed are a user name
    in the address, a link-local address (cloud metadata), this machine from outside, http after
    https, and a port that is none.
    """
    ours, theirs = urlsplit(url), urlsplit(found)
    here, there = is_loopback(ours.hostname or ""), is_loopback(theirs.hostname or "")
    address = address_of(theirs.hostname or "")
    is_valid = bool(theirs.hostname) and theirs.username is None and _has_valid_port(theirs)
    safe = theirs.scheme == "https" or (theirs.scheme == "http" and ours.scheme == "http" and there)
    inside = (there and not here) or (
        address is not None
        and (address.is_link_local or address.is_multicast or address.is_unspecified)
    )
    if not allowed or not safe or inside or not is_valid:
        raise BadResponseError(
            f"the request for {subject} was redirected to "
            f"{theirs.scheme}://{theirs.hostname or ''}, "
            "which is refused",
            id="bad_response/redirect-refused",
            hint="check api:, and what is between this machine and GitHub",
        )


def _has_valid_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def address_kind(peer: str) -> str:
    """Return the kind of an address.

    It is `loopback`, `link-local`, `private`, `public`, or `none` for what no server answers from.
    """
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
    """Raise BadResponseError unless `peer`, the address of a server-named `host`, is allowed.

    Allowed are public addresses, and those of the kinds from which the API itself answers. Where
    the API answers through a proxy, its kind is not known (`own_kinds` is empty), and a host that
    needs no proxy is one that NO_PROXY names: it may have a private address.
    """
    kind = address_kind(peer)
    if kind == "public" or kind in own_kinds or (kind == "private" and not own_kinds):
        return
    raise BadResponseError(
        f"the answer for {subject} leads to {host}, which is at the {kind} address "
        f"{peer} and is refused",
        id="bad_response/peer-refused",
        hint="check api:, the name server, and what is between this machine and GitHub",
    )


def is_loopback(host: str) -> bool:
    """Return whether the host is this machine itself."""
    address, host = address_of(host), host.lower().rstrip(".")
    return (
        host == "localhost"
        or host.endswith(".localhost")
        or (address is not None and address.is_loopback)
    )


def address_of(host: str) -> Address | None:
    """Return the IP address that a host is written as, in any spelling that a resolver accepts.

    For example `127.1`, `2852039166`, `0xa9fea9fe`, `::ffff:...`. None for a name.
    """
    found, host = None, host.rstrip(".")
    with suppress(ValueError):
        found = ipaddress.ip_address(host.partition("%")[0])
    if found is None and host[:1].isdigit():
        with suppress(OSError):
            found = ipaddress.ip_address(socket.inet_aton(host))
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
