"""Network namespaces that can be cut off, for processes that talk to servers on loopback.

A namespace has no loopback of its own: its packets to 127.0.0.0/8 go through a virtual cable to
this machine's. A cut sends them to an address of the link layer that no card has, so they are lost
in silence, as they are when a switch dies: no reset, no error, no answer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

DATABASE, GITHUB = "127.0.0.2", "127.0.0.1"
SUBNET = "10.254.0.0/16"
NO_CARD = "02:00:00:00:00:fe"


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@dataclass
class NetworkNamespaces:
    """A namespace for each name; `prefix` tells those of one stand from those of another."""

    number: int
    made: dict[str, int] = field(default_factory=dict)

    def namespace(self, name: str) -> str:
        """Return the namespace of a name, made at the first call."""
        if name not in self.made:
            self.made[name] = len(self.made) + 1
            self._make(name)
        return self._namespace(name)

    def _namespace(self, name: str) -> str:
        return f"syncd-{os.getpid()}-{self.number}-{name}"

    def _cable(self, name: str) -> str:
        return f"sy{os.getpid() % 100_000}-{self.number}-{self.made[name]}"

    def _addresses(self, name: str) -> tuple[str, str, str]:
        """Return this machine's address, the namespace's, and one that nothing has."""
        block = (os.getpid() % 64) * 512 + self.number * 16 + self.made[name]
        third, fourth = block // 32 % 256, block % 32 * 8
        return tuple(f"10.254.{third}.{fourth + host}" for host in (1, 2, 6))  # type: ignore[return-value]

    def _make(self, name: str) -> None:
        namespace, cable = self._namespace(name), self._cable(name)
        here, there, nothing = self._addresses(name)
        ip("netns", "add", namespace)
        ip("link", "add", cable, "type", "veth", "peer", "name", "cable", "netns", namespace)
        ip("address", "add", f"{here}/29", "dev", cable)
        ip("link", "set", cable, "up")
        (Path("/proc/sys/net/ipv4/conf") / cable / "route_localnet").write_text("1")
        inside = ("-n", namespace)
        ip(*inside, "address", "add", f"{there}/29", "dev", "cable")
        ip(*inside, "link", "set", "cable", "up")
        switch = "echo 1 > /proc/sys/net/ipv4/conf/cable/route_localnet"
        ip("netns", "exec", namespace, "sh", "-c", switch)
        ip(*inside, "neighbour", "add", nothing, "lladdr", NO_CARD, "dev", "cable")
        self.mend(name)

    def cut(self, name: str, from_github: bool) -> None:
        """Lose every packet to the database, and with `from_github` every packet at all."""
        _, there, nothing = self._addresses(name)
        self._route(name, DATABASE, nothing)
        if from_github:
            self._route(name, GITHUB, nothing)
            ip("neighbour", "replace", there, "lladdr", NO_CARD, "dev", self._cable(name))

    def mend(self, name: str) -> None:
        """Lose nothing any more."""
        here, there, _ = self._addresses(name)
        for server in (DATABASE, GITHUB):
            self._route(name, server, here)
        ip("neighbour", "flush", "nud", "all", "to", there, "dev", self._cable(name))

    def _route(self, name: str, server: str, through: str) -> None:
        there = self._addresses(name)[1]
        route = (f"{server}/32", "via", through, "dev", "cable", "src", there)
        ip("-n", self._namespace(name), "route", "replace", *route)

    def remove(self) -> None:
        """Remove the namespaces, with their cables."""
        for name in self.made:
            subprocess.run(["ip", "netns", "delete", self._namespace(name)], capture_output=True)


@contextmanager
def network_namespaces(number: int) -> Iterator[NetworkNamespaces]:
    """Namespaces that are gone after the block; skips the test, with the reason, without root."""
    if os.getuid() != 0:
        pytest.skip("a network namespace needs root")
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        pytest.skip("ip or nsenter is not installed (Debian: apt install iproute2 util-linux)")
    made = NetworkNamespaces(number)
    try:
        try:
            made.namespace("c1")
        except (subprocess.CalledProcessError, OSError) as error:
            pytest.skip(f"no network namespace can be made here: {error}")
        yield made
    finally:
        made.remove()


__all__ = ["DATABASE", "SUBNET", "NetworkNamespaces", "network_namespaces"]
