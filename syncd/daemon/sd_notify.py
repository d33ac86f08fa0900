"""The words that systemd and a service say to each other: ready, reloading, stopping, what is going on, and that it is alive.

Source: sd_notify(3), sd_watchdog_enabled(3). Without a service manager every word goes nowhere, and nothing fails for it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

LOG = logging.getLogger("syncd.daemon")
MAX_STATUS_CHARS = 200


class SdNotify:
    """`watchdog_seconds` is how long systemd waits for a sign of life; None when it does not."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog_seconds(environ)
        self._status = ""
        self._failed = False

    def ready(self, status: str) -> None:
        self._send("READY=1", self._as_status(status))

    def reloading(self) -> None:
        """Always followed by `ready`. The time lets Type=notify-reload tell this reload from an earlier one."""
        self._send(
            "RELOADING=1",
            f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}",
            self._as_status("reading the configuration again"),
        )

    def stopping(self, status: str) -> None:
        self._send("STOPPING=1", self._as_status(status))

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        if text != self._status:
            self._send(self._as_status(text))

    def _as_status(self, text: str) -> str:
        self._status = text
        line = " ".join(text.split())
        return "STATUS=" + (
            line if len(line) <= MAX_STATUS_CHARS else line[: MAX_STATUS_CHARS - 1] + "…"
        )

    def _send(self, *words: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto("\n".join(words).encode(), address)
            self._failed = False
        except OSError as error:
            if not self._failed:
                LOG.warning("can't tell the service manager (%s): %s", words[0], error.strerror)
            self._failed = True


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Only when it is meant for this process, and not inherited from a parent's."""
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000


__all__ = ["SdNotify"]
