"""Client names, and what web servers in front may say about a request.

A web server in front is believed only if `web.trusted_proxies` has its address: when it names the
client, the scheme and the host. Everything else of these headers is written by strangers. An IPv6
client counts by its /64, which is what one subscriber has. The name grants no access: it decides
whose connections and failures are counted together, and the history shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

MAX_CONNECTIONS_PER_CLIENT = 20  # of one client that reaches the listener itself
LOCAL = "this machine"
UNIX = "unix"  # the entry of web.trusted_proxies for every client of a unix socket

Address = IPv4Address | IPv6Address
Header = Callable[[str], str | None]


class Proxies:
    """The web servers in front: whom to believe, and below which path prefix they serve syncd.

    `trusted` are networks, and `unix` for every client of a unix socket.
    """

    def __init__(self, trusted: Sequence[str] = (), prefix: str = "/") -> None:
        self.prefix = prefix.rstrip("/")
        self._unix = UNIX in trusted
        self._networks = tuple(ip_network(one) for one in trusted if one != UNIX)

    def trusts(self, peer: str | None) -> bool:
        """Return whether the headers of this peer are believed.

        `peer` is the address of the connection; no address for a unix socket.
        """
        return self._trusts(_address(peer or ""))

    def client(self, peer: str | None, forwarded: str | None) -> str:
        """Return the client's name: the last address of X-Forwarded-For that no proxy has."""
        at = _address(peer or "")
        for said in reversed((forwarded or "").split(",")):
            before = _address(said.strip()) if self._trusts(at) else None
            if before is None:
                break
            at = before
        return LOCAL if at is None or is_local(at) else _named(at)

    def host(self, peer: str | None, header: Header) -> str:
        """Return the name under which the client asked: `name` or `name:port`."""
        said = _last(header("X-Forwarded-Host")) if self.trusts(peer) else ""
        return said or header("Host") or ""

    def is_https(self, peer: str | None, header: Header) -> bool:
        """Return whether a trusted web server says that the client used TLS."""
        return self.trusts(peer) and _last(header("X-Forwarded-Proto")).lower() == "https"

    def spellings(self, path: str) -> tuple[str, str]:
        """Return a path as it arrives if the web server in front removes the prefix, and if not."""
        return path, self.prefix + path

    def _trusts(self, address: Address | None) -> bool:
        if address is None:
            return self._unix
        return any(address in one for one in self._networks)


def client_name(peer: str | None) -> str:
    """Return the name of the connection's own client. `peer` is empty for a unix socket."""
    return Proxies().client(peer, None)


def is_local(address: Address) -> bool:
    """Return whether this is an address of this machine alone."""
    return address.is_loopback


def _last(values: str | None) -> str:
    return (values or "").rpartition(",")[2].strip()


def _address(text: str) -> Address | None:
    """Return the address in `text`, which may have a port; None if there is none."""
    bare = text[1:].partition("]")[0] if text.startswith("[") else text
    bare = bare.partition(":")[0] if bare.count(":") == 1 else bare
    try:
        found = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _named(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, 64), strict=False))


__all__ = ["LOCAL", "MAX_CONNECTIONS_PER_CLIENT", "Proxies", "client_name", "is_local"]
