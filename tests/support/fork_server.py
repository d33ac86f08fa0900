"""syncd as a process, without the third of a second in which Python starts and imports it.

A server process has imported all of syncd, and forks a child for each command; another one does so
for the supervisors of hooks. The child is a
process like any other: child of this process, with its own id, signals, exit code, arguments,
environment, working directory and descriptors. It differs from a started Python in what Python does
before `syncd.__main__`, and in what is imported. So tests of the start, of imports, of locales, of
costs and of limits, and tests that read /proc/PID/cmdline, start Python instead.
"""

from __future__ import annotations

import atexit
import ctypes
import fcntl
import gc
import importlib
import io
import os
import pickle
import pkgutil
import runpy
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SYNCD = str(Path(sys.executable).with_name("syncd"))
MODULE = [sys.executable, "-m", "syncd"]
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
DESCRIPTORS, LENGTH_BYTES = 3, 8
LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")  # the first that is there decides: locale(7)
UTF_8 = ("", "C", "POSIX", "C.UTF-8", "en_US.UTF-8")  # of these Python makes UTF-8
PASSED_ON = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")


class ForkedSyncd(subprocess.Popen[Any]):
    """What `subprocess.Popen(command, ...)` is, for a command that is syncd.

    With `on_terminal`, standard input becomes the controlling terminal of a new session.
    """

    def __init__(self, command: Sequence[Any], *, on_terminal: bool = False, **options: Any):
        self._on_terminal = on_terminal
        super().__init__([os.fspath(part) for part in command], **options)

    def _execute_child(self, args: Any, *options: Any) -> None:
        """Fork the server instead of this process: the one step of Popen that is another here."""
        cwd, env = options[4:6]
        pipes = options[9:15]
        try:
            given = [
                pipe if pipe != -1 else number
                for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))
            ]
            self.pid = server().fork(_Start(args, cwd, env, self._on_terminal), given)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run_forked(
    command: Sequence[Any],
    *,
    input: str | bytes | None = None,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """What `subprocess.run(command, ...)` is, for a command that is syncd; output is captured."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        pipes["stdin"] = subprocess.PIPE
    with ForkedSyncd(command, **pipes | options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class _Start:
    """A command, checked: what only a start of Python can do is refused."""

    def __init__(
        self, command: list[Any], cwd: Any, env: Mapping[str, str] | None, on_terminal: bool
    ) -> None:
        self.arguments = [os.fsdecode(part) for part in command]
        self.by_script = self.arguments[0] == SYNCD
        if not self.by_script and self.arguments[:3] != MODULE:
            raise ValueError(f"not a command line of syncd: {self.arguments}")
        self.folder = os.path.abspath(cwd or os.getcwd())
        self.environ = dict(os.environ if env is None else env)
        self.on_terminal = on_terminal
        self.umask = os.umask(0o022)
        os.umask(self.umask)
        locale = next((self.environ[name] for name in LOCALE if self.environ.get(name)), "")
        python = [name for name in self.environ if name.startswith("PYTHON")]
        if locale not in UTF_8 or set(python) - set(PASSED_ON):
            raise ValueError(f"start Python for the locale {locale!r} and {python}")

    def take_place(self, descriptors: Sequence[int]) -> None:
        """Make this process look as if Python had just started it."""
        if self.on_terminal:
            os.setsid()
        _take_over(descriptors, self.folder, self.environ)
        if self.on_terminal:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        os.umask(self.umask)
        time.tzset()
        sys.orig_argv = self.arguments
        package = str(ROOT / "syncd/__main__.py")
        sys.argv = self.arguments if self.by_script else [package, *self.arguments[3:]]
        sys.path[0] = os.path.dirname(SYNCD) if self.by_script else self.folder


@dataclass
class _SupervisorStart:
    environ: dict[str, str]

    def take_place(self, descriptors: Sequence[int]) -> None:
        """Make this process look as syncd starts a supervisor."""
        os.setsid()
        _take_over(descriptors, "/", self.environ)


def _take_over(descriptors: Sequence[int], folder: str, environ: Mapping[str, str]) -> None:
    """Have these descriptors as standard streams and no others, this folder and environment."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(DESCRIPTORS, os.sysconf("SC_OPEN_MAX"))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _stream(number: int) -> io.TextIOWrapper:
    """Return a standard stream as Python makes it in a UTF-8 locale."""
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    raw.name = ("<stdin>", "<stdout>", "<stderr>")[number]  # type: ignore[assignment]
    buffered = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    errors = "backslashreplace" if number == 2 else "surrogateescape"
    at_once = bool(os.environ.get("PYTHONUNBUFFERED"))
    by_line = number == 2 or raw.isatty()
    return io.TextIOWrapper(
        buffered, "utf-8", errors, line_buffering=by_line, write_through=at_once
    )


class ForkedSupervisor(subprocess.Popen[bytes]):
    """The supervisor of a hook, which syncd starts with Python for each hook."""

    def _execute_child(self, args: Any, *options: Any) -> None:
        pipes = options[9:15]
        try:
            given = [pipes[0], pipes[3], pipes[5]]
            self.pid = supervisors().fork(_SupervisorStart(options[5]), given)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _Subprocess:
    """The module `subprocess` as `syncd.hooks.runner` sees it while supervisors are forked."""

    def __init__(self) -> None:
        self._owner = os.getpid()

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, *arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        """Start a supervisor; in a fork of this process, whose server is another's, with Python."""
        kind = ForkedSupervisor if os.getpid() == self._owner else subprocess.Popen
        return kind(*arguments, **options)


def forked_supervisors() -> AbstractContextManager[Any]:
    """While the block runs, the supervisors of hooks that this process runs are forked."""
    from unittest.mock import patch

    from syncd.hooks import runner

    return patch.object(runner, "subprocess", _Subprocess())


class ForkServer:
    """A server of this process. It ends when the other end of its socket is closed."""

    def __init__(self, *command: str) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        names = ("PATH", "HOME")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *command, str(theirs.fileno())],
                cwd=ROOT,
                env={name: os.environ[name] for name in names if name in os.environ},
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def fork(self, start: Any, descriptors: list[int]) -> int:
        """Return the id of a new child of this process that runs the command."""
        data = pickle.dumps(start)
        with self._lock, _adopting():
            head = len(data).to_bytes(LENGTH_BYTES)
            socket.send_fds(self._socket, [head], descriptors)
            self._socket.sendall(data)
            return int.from_bytes(_received(self._socket, LENGTH_BYTES))

    def close(self) -> None:
        """End the server."""
        self._socket.close()
        self._process.wait()


@cache
def server() -> ForkServer:
    """Return this process's server of syncd, started at the first call."""
    return ForkServer("-m", "tests.support.fork_server", "syncd")


@cache
def supervisors() -> ForkServer:
    """Return this process's server of supervisors, started at the first call."""
    return ForkServer("-I", "-S", "-X", "utf8=1", __file__, "supervisor")


class _adopting:
    """An orphan among the descendants becomes a child of this process while the block runs."""

    def __enter__(self) -> None:
        self._set(1)

    def __exit__(self, *_error: object) -> None:
        self._set(0)

    @staticmethod
    def _set(value: int) -> None:
        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, value, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


# --- the server's own process ---------------------------------------------------------------------


def _serve(connection: socket.socket) -> None:
    """Fork for each request. Returns in a child, ready to be syncd."""
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, LENGTH_BYTES, DESCRIPTORS)
        if not head:
            os._exit(0)
        start = pickle.loads(_received(connection, int.from_bytes(head)))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            grandchild = os.fork()  # an orphan as soon as its parent has ended
            if grandchild == 0:
                start.take_place(descriptors)
                return
            os.write(writer, grandchild.to_bytes(LENGTH_BYTES))
            os._exit(0)
        os.waitpid(child, 0)
        connection.sendall(os.read(reader, LENGTH_BYTES))
        for descriptor in (reader, writer, *descriptors):
            os.close(descriptor)


def _import_everything() -> None:
    import syncd

    for module in pkgutil.walk_packages(syncd.__path__, "syncd."):
        with suppress(Exception):  # what an optional dependency is for
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for name in ("utf_8_sig", "idna", "ascii", "latin_1"):
        importlib.import_module(f"encodings.{name}")


def _main(program: str, descriptor: int) -> None:
    sys.path.append(str(ROOT))
    if program == "supervisor":
        from syncd.hooks import supervisor
        from tests.support import fork_server  # noqa: F401  (what is sent refers to it)

        _serve(socket.socket(fileno=descriptor))
        os._exit(supervisor.main())
    _import_everything()
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=descriptor))
    try:
        runpy.run_module("syncd", run_name="__main__", alter_sys=False)
    except SystemExit as error:
        _end(error.code)


def _end(code: object) -> None:
    """End as Python does, but for taking each of two thousand modules apart.

    That takes longer than most commands do.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
