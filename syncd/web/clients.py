"""Client names: for whom a connection or a request is counted.

Only a peer on this machine (usually a web server in front) is believed when it names its client,
and only the last address of its X-Forwarded-For, which it wrote itself. An IPv6 client counts by
its /64, which is what one subscriber has. The name grants no access: it only decides whose
connections and failures are counted together.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

MAX_CONNECTIONS_PER_CLIENT = 20  # of one client that reaches the listener itself
LOCAL = "this machine"

Address = IPv4Address | IPv6Address


def client_name(peer: str | None, forwarded: str = "") -> str:
    """Return the client's name. `peer` is the address of the connection; empty for a unix
    socket.
    """
    address = _address(peer or "")
    if address is not None and not is_local(address):
        return _named(address)
    said = _address(forwarded.rpartition(",")[2].strip())
    return LOCAL if said is None or said.is_loopback else _named(said)


def is_local(address: Address) -> bool:
    """Return whether this is an address of this machine alone."""
    return address.is_loopback


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


__all__ = ["LOCAL", "MAX_CONNECTIONS_PER_CLIENT", "client_name", "is_local"]
