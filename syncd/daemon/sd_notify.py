"""Messages to systemd: ready, reloading, stopping, status and the watchdog's sign of life.

Source: sd_notify(3), sd_watchdog_enabled(3). Without a service manager, nothing is sent and nothing
fails.
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
    """Sends messages to the service manager.

    `watchdog_seconds` is how long systemd waits for a sign of life; None without a watchdog.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_seconds = _watchdog_seconds(environ)
        self._status = ""
        self._failed = False

    def ready(self, status: str) -> None:
        """Report that the daemon is ready, or that a reload has ended."""
        self._send("READY=1", self._as_status(status))

    def reloading(self) -> None:
        """Report a reload; `ready` always follows. The time tells this reload from an earlier one
        (Type=notify-reload).
        """
        self._send(
            "RELOADING=1",
            f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}",
            self._as_status("reading the configuration again"),
        )

    def stopping(self, status: str) -> None:
        """Report that the daemon is stopping."""
        self._send("STOPPING=1", self._as_status(status))

    def alive(self) -> None:
        """Send the watchdog's sign of life."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the status line if it has changed."""
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
                LOG.warning(
                    "syncd can't tell the service manager (%s): %s", words[0], error.strerror
                )
            self._failed = True


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return the watchdog's timeout if it is meant for this process, and not inherited from a
    parent.
    """
    text, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1_000_000


__all__ = ["SdNotify"]
