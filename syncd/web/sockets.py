"""Sockets to listen on, from `web.listen`: an address, a path, or a socket that systemd has opened.

No other process's socket is taken over. A unix socket is never open to more than its owner and
group. A socket that other machines can reach is refused without a password, wherever it came from.

Source of fd:NAME: sd_listen_fds(3): descriptors from 3 on, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from syncd.errors import ConfigError, UnsafePathError
from syncd.safe_open import open_folder

FIRST_DESCRIPTOR = 3
SOCKET_MODE = 0o660
NETWORK_LISTENER_HINT = (
    "others than this machine can reach it, so it needs web.password (and a proxy "
    "with TLS in front: others can read a password in the clear)"
)


class ListenSockets:
    """Bound sockets. `close` closes them and removes a unix socket that syncd made."""

    def __init__(self, sockets: list[socket.socket], made: str | None = None) -> None:
        self.sockets = sockets
        self._made, self._identity = made, _identity(made) if made is not None else None

    @property
    def names(self) -> list[str]:
        """Return the addresses as people write them."""
        return (
            [f"unix:{self._made}"]
            if self._made is not None
            else [_name(one) for one in self.sockets]
        )

    @property
    def local_only(self) -> bool:
        """Return whether all are addresses of this machine alone."""
        return all(_is_local(one) for one in self.sockets)

    @property
    def is_network(self) -> bool:
        """Return whether one of them is a network socket."""
        return any(one.family != socket.AF_UNIX for one in self.sockets)

    def close(self) -> None:
        """Close the sockets, and remove a unix socket that syncd made."""
        self.remove_name()
        for one in self.sockets:
            one.close()

    def remove_name(self) -> None:
        """Remove the name of a unix socket that syncd made, so that no new client can connect."""
        if self._made is not None and _identity(self._made) == self._identity:
            with suppress(OSError, UnsafePathError), _folder_of(self._made) as (folder, name):
                os.unlink(name, dir_fd=folder)


def open_sockets(listen: str, environ: Mapping[str, str], guarded: bool) -> ListenSockets:
    """Return the sockets that `web.listen` names, bound and not yet listening. Raises
    ConfigError.
    """
    if listen.startswith("unix:"):
        return _unix(listen.removeprefix("unix:"))
    opened = ListenSockets(
        _from_systemd(listen.removeprefix("fd:"), environ)
        if listen.startswith("fd:")
        else _network(listen)
    )
    if not guarded and not opened.local_only:
        names = opened.names
        opened.close()
        raise ConfigError(f"web.listen: {listen} is {', '.join(names)}: {NETWORK_LISTENER_HINT}")
    return opened


def _network(listen: str) -> list[socket.socket]:
    host, _, port = listen.rpartition(":")
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            made.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind(address)
    except OSError as error:
        for one in made:
            one.close()
        raise ConfigError(
            f"web.listen: syncd can't listen on {listen}: {error.strerror or error}",
            hint=_hint(error),
            id="config/listen-failed",
        ) from error
    return made


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process listens there; give web.listen another port, or stop that one"
    if error.errno == errno.EACCES:
        return (
            "ports below 1024 need CAP_NET_BIND_SERVICE; give web.listen a higher one, or "
            "use fd:NAME with a systemd socket"
        )
    return "check the address in web.listen"


# --- unix -----------------------------------------------------------------------------------------


def _unix(path: str) -> ListenSockets:
    """Return a socket at `path`, for owner and group.

    It gets its name only when it has its mode, so that no client can connect before.
    """
    new = f"{path}.new"
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path)
        _make_room(new)
        with _folder_of(new) as (folder, name):
            _bind(one, folder, name, os.path.basename(path))
    except UnsafePathError as error:
        one.close()
        raise ConfigError(
            f"web.listen: syncd can't listen on unix:{path}: {error.message}",
            hint=error.hint,
            id="config/listen-unsafe-path",
        ) from error
    except OSError as error:
        one.close()
        raise ConfigError(
            f"web.listen: syncd can't listen on unix:{path}: {error.strerror or error}",
            hint="check that its folder exists and that syncd may write there",
            id="config/listen-path",
        ) from error
    except ConfigError:
        one.close()
        raise
    return ListenSockets([one], path)


def _bind(one: socket.socket, folder: int, name: str, final: str) -> None:
    """Bind the socket and give it its mode and its final name; remove it if that fails.

    The mode is set on the very socket that was made, whatever has its name by then.
    """
    one.bind(f"/proc/self/fd/{folder}/{name}")
    try:
        made = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            found = os.fstat(made)
            if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
                raise OSError(errno.ESTALE, "it was replaced while it was made")
            os.chmod(f"/proc/self/fd/{made}", SOCKET_MODE)
        finally:
            os.close(made)
        os.rename(name, final, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


@contextmanager
def _folder_of(path: str) -> Iterator[tuple[int, str]]:
    folder = open_folder(os.path.dirname(path))
    try:
        yield folder, os.path.basename(path)
    finally:
        os.close(folder)


def _make_room(path: str) -> None:
    """Remove the socket of a dead process at `path`. Raises ConfigError for anything else there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ConfigError(
            f"web.listen: something else than a socket is at {path}",
            hint="give web.listen another path, or move it away",
            id="config/listen-not-a-socket",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with _folder_of(path) as (folder, name):
                os.unlink(name, dir_fd=folder)  # no process listens on it
            return
        except TimeoutError:
            pass
    raise ConfigError(
        f"web.listen: another process listens at unix:{path}",
        hint="is another syncd running? give web.listen another path, or stop that one",
        id="config/listen-in-use",
    )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


# --- systemd --------------------------------------------------------------------------------------


def _from_systemd(name: str, environ: Mapping[str, str]) -> list[socket.socket]:
    """Return every descriptor that systemd passed under this name.

    A .socket unit with several addresses gives several.
    """
    try:
        ours, count = (
            int(environ.get("LISTEN_PID", "")) == os.getpid(),
            int(environ.get("LISTEN_FDS", "")),
        )
    except ValueError:
        ours, count = False, 0
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    chosen = (
        [FIRST_DESCRIPTOR + index for index, one in enumerate(names[:count]) if one == name]
        if ours
        else []
    )
    if not chosen:
        given = f"; it gave {', '.join(names[:count])}" if ours and count else ""
        raise ConfigError(
            f"web.listen: systemd gave no socket named {name}{given}",
            hint=f"in syncd-web.socket: FileDescriptorName={name}, and start the socket unit",
            id="config/no-systemd-socket",
        )
    return [_adopted(descriptor, name) for descriptor in chosen]


def _adopted(descriptor: int, name: str) -> socket.socket:
    try:
        copy = os.dup(descriptor)  # a reload opens it again
        one = socket.socket(fileno=copy)
    except OSError as error:
        raise ConfigError(
            f"web.listen: what systemd gave as {name} is no socket: {error.strerror}",
            hint="in syncd-web.socket: ListenStream=",
            id="config/wrong-systemd-socket",
        ) from error
    os.set_inheritable(descriptor, False)
    if one.type != socket.SOCK_STREAM or one.family not in (
        socket.AF_UNIX,
        socket.AF_INET,
        socket.AF_INET6,
    ):
        one.close()
        raise ConfigError(
            f"web.listen: what systemd gave as {name} is no stream socket",
            hint="in syncd-web.socket: ListenStream=",
            id="config/wrong-systemd-socket",
        )
    return one


def _is_local(one: socket.socket) -> bool:
    return (
        one.family == socket.AF_UNIX
        or ipaddress.ip_address(one.getsockname()[0].partition("%")[0]).is_loopback
    )


def _name(one: socket.socket) -> str:
    if one.family == socket.AF_UNIX:
        return f"unix:{one.getsockname()}"
    host, port = one.getsockname()[:2]
    return f"http://[{host}]:{port}/" if one.family == socket.AF_INET6 else f"http://{host}:{port}/"
