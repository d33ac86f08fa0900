"""A throw-away PostgreSQL cluster in a temporary folder: a unix socket, and no password.

The server refuses to run as root, so root starts it as another user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

START_SECONDS = 60.0
SETTINGS = """
listen_addresses = ''
fsync = off
full_page_writes = off
max_connections = 300
shared_buffers = 32MB
dynamic_shared_memory_type = mmap
log_min_messages = warning
"""


def binaries() -> Path | None:
    """The folder of the server's programs: Debian's newest, or that of PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if places:
        return places[-1].parent
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def _version(initdb: Path) -> int:
    return int(initdb.parts[-3]) if initdb.parts[-3].isdigit() else 0


@dataclass
class Cluster:
    """A running server. `address` names one database of it, as one login."""

    folder: Path
    programs: Path
    user: str
    process: subprocess.Popen[bytes]

    def address(self, database: str = "postgres", login: str | None = None) -> str:
        return f"postgresql://{login or self.user}@/{database}?host={self.folder}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(statement)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        import psycopg

        self.process = _popen(self.programs / "postgres", self.folder, self.user)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.address(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                log = (self.folder / "log").read_text()
                assert self.process.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.02)

    def kill(self) -> None:
        """End the server and every connection at once, as a power cut would."""
        self.process.send_signal(signal.SIGQUIT)  # "immediate shutdown"
        self.process.wait(30)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster of its own; skips the test, with the reason, where no server is installed."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt install postgresql)")
    user = _user()
    folder = Path(tempfile.mkdtemp(prefix="syncd-pg-", dir="/tmp"))  # a socket's path is short
    try:
        shutil.chown(folder, user)
        initdb = [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", user]
        subprocess.run(
            [*initdb, "--no-sync", "--no-locale", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd="/",
            user=user if os.getuid() == 0 else None,
        )
        (folder / "data/postgresql.conf").write_text(SETTINGS)
        (folder / "log").touch()
        made = Cluster(folder, programs, user, None)  # type: ignore[arg-type]
        made.start()
        try:
            yield made
        finally:
            made.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str:
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    names = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _popen(program: Path, folder: Path, user: str) -> subprocess.Popen[bytes]:
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            [program, "-D", folder / "data", "-k", folder],
            stdout=log,
            stderr=log,
            cwd="/",
            user=user if os.getuid() == 0 else None,
        )
