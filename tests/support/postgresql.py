"""A throw-away PostgreSQL cluster in a temporary folder: a unix socket, and no password; a standby
of it, and a pooler before it.

The server refuses to run as root, so root starts it as another user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

POOLER = """
[databases]
{databases}
[pgbouncer]
listen_addr =
listen_port = 5432
unix_socket_dir = {folder}
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = 2
max_client_conn = 300
admin_users = {user}
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
    host: str = ""  # an address where it listens besides, if any
    port: int = 5432  # of the socket too

    def address(self, database: str = "postgres", login: str | None = None) -> str:
        place = f"host={self.folder}&port={self.port}"
        return f"postgresql://{login or self.user}@/{database}?{place}"

    def tcp_address(self, database: str, login: str) -> str:
        """The address for a process that can't see the socket."""
        return f"postgresql://{login}@{self.host}:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(statement)

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        import psycopg

        command = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder]
        listen = ["-c", f"listen_addresses={self.host}", "-c", f"port={self.port}"]
        self.process = _popen([*command, *listen], self.folder, self.user)
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
        """Kill every process of the server with -9, as a power cut would."""
        server = self.process.pid
        os.kill(server, signal.SIGKILL)  # first: it would start others again
        for one in _children(server):
            os.kill(one, signal.SIGKILL)
        self.process.wait(30)

    def end(self) -> None:
        """End the server and every connection at once; it leaves no shared memory behind."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)  # "immediate shutdown"
            self.process.wait(30)
            return
        lock = self.folder / "data/postmaster.pid"  # line 7: key and id of the shared memory
        if lock.exists():
            memory = lock.read_text().splitlines()[6].split()[1]
            subprocess.run(["ipcrm", "-m", memory], check=False, capture_output=True)

    def detach(self) -> None:
        """Let a standby follow its primary no more: what is committed from now on is lost to it."""
        self.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.execute("SELECT pg_reload_conf()")
        while self.query("SELECT count(*) FROM pg_stat_wal_receiver") != 0:
            time.sleep(0.02)

    def promote(self) -> None:
        """Make a standby the primary, and wait until it is."""
        assert self.query("SELECT pg_promote()") is True

    def query(self, statement: str, database: str = "postgres") -> object:
        """The first column of the first row."""
        import psycopg

        with psycopg.connect(self.address(database), autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
        return None if row is None else row[0]


@contextmanager
def cluster(host: str = "", clients: str = "") -> Iterator[Cluster]:
    """A cluster of its own; skips the test, with the reason, where no server is installed.

    With `host` it listens there too, for this machine and the addresses `clients`.
    """
    pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's server is not installed (Debian: apt install postgresql)")
    user = _user()
    with _folder(user) as folder:
        initdb = [programs / "initdb", "-D", folder / "data", "-A", "trust", "-U", user]
        _run_as(user, *initdb, "--no-sync", "--no-locale", "-E", "UTF8")
        (folder / "data/postgresql.conf").write_text(SETTINGS)
        port = _free_port(host) if host else Cluster.port
        if clients:
            with open(folder / "data/pg_hba.conf", "a") as rules:
                rules.write(f"host all all {clients} trust\n")
        given = Cluster(folder, programs, user, None, host, port)  # type: ignore[arg-type]
        with _running(given) as made:
            yield made


@contextmanager
def standby(primary: Cluster) -> Iterator[Cluster]:
    """A hot standby that streams from the cluster, without holding its commits back."""
    with _folder(primary.user) as folder:
        copy = [primary.programs / "pg_basebackup", "-D", folder / "data", "-h", primary.folder]
        _run_as(primary.user, *copy, "-U", primary.user, "-R", "-c", "fast", "--no-sync")
        with _running(replace(primary, folder=folder)) as made:
            yield made


@contextmanager
def pooler(cluster: Cluster, mode: str, logins: Iterable[str], *entries: str) -> Iterator[Path]:
    """The folder of the socket of a pgbouncer before the cluster; skips where there is none.

    `entries` are of its section `[databases]`; without any, each database has its own name.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian: apt install pgbouncer)")
    with _folder(cluster.user) as folder:
        databases = "\n".join(entries or (f"* = host={cluster.folder}",))
        settings = POOLER.format(databases=databases, folder=folder, mode=mode, user=cluster.user)
        (folder / "pgbouncer.ini").write_text(settings)
        (folder / "users").write_text("".join(f'"{one}" ""\n' for one in logins))
        (folder / "log").touch()
        process = _popen([program, folder / "pgbouncer.ini"], folder, cluster.user)
        try:
            wait_for(folder / ".s.PGSQL.5432", process)
            yield folder
        finally:
            process.kill()
            process.wait(30)


def wait_for(socket: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server has made its socket."""
    deadline = time.monotonic() + START_SECONDS
    while not socket.exists():
        assert process.poll() is None and time.monotonic() < deadline, socket
        time.sleep(0.02)


@contextmanager
def _folder(user: str) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="syncd-pg-", dir="/tmp"))  # a socket's path is short
    try:
        shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(made: Cluster) -> Iterator[Cluster]:
    (made.folder / "log").touch()
    made.start()
    try:
        yield made
    finally:
        made.end()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _children(process: int) -> list[int]:
    return [
        int(status.parent.name)
        for status in Path("/proc").glob("[0-9]*/stat")
        if _parent(status) == process
    ]


def _parent(status: Path) -> int:
    try:
        return int(status.read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


def _run_as(user: str, *command: str | Path) -> None:
    given = user if os.getuid() == 0 else None
    subprocess.run(command, check=True, capture_output=True, cwd="/", user=given)


def _user() -> str:
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    names = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _popen(command: list[str | Path], folder: Path, user: str) -> subprocess.Popen[bytes]:
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd="/", user=user if os.getuid() == 0 else None
        )
