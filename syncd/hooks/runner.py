"""Runs the operator's commands, each under a supervisor process of its own.

A command gets a fixed environment, and none of our descriptors, secrets or terminal. It is bounded
in time and output, and ended with everything that it started; its output is redacted. Two hooks of
one job never run at once on this state folder. What a hook's result means is decided elsewhere
(`engine/hook_result.py`).
"""

from __future__ import annotations

import json
import os
import pwd
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.errors import StoppedError, StoreError
from syncd.hooks.staging_dir import StagingDir
from syncd.ports import HookCall, HookResult, StagedFile
from syncd.progress import Wait
from syncd.redaction import redact_end

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_BYTES = 64 << 10
MARGIN_BYTES = 16 << 10  # read beyond the kept end: a secret is masked before it is cut
GRACE_SECONDS = 3.0
LOCK_WAIT_SECONDS = 30.0
SUPERVISOR_MARGIN_SECONDS = 40.0  # beyond limit, grace and lock, before a supervisor is given up
PASSED_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ")
SAME_USER_VARIABLES = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")  # for systemctl --user
POLL_INTERVAL_SECONDS = 0.1  # how soon a signal to us is passed on
ACL = "system.posix_acl_access"  # acl(5): an access list may let through whom the mode does not
VALIDATORS = str(Path(__file__).with_name("validators.py"))
# whatever locale the machine has: file names and arguments are bytes, as in encoding.py
NAMES_ARE_UTF8 = ("-X", "utf8=1")
SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))


class HookUser(Struct, frozen=True):
    """The user that a hook runs as. `ids` is None where that is our own user."""

    name: str
    home: str
    ids: tuple[int, int, tuple[int, ...]] | None


class HookProcessSpec(Struct, frozen=True):
    """What a supervisor is asked to run; its module describes the format."""

    argv: list[str]
    env: dict[str, str]
    ids: tuple[int, int, tuple[int, ...]] | None
    timeout_seconds: float
    locks: list[str]

    def as_line(self) -> bytes:
        """Return the JSON line for the supervisor's stdin."""
        spec = {
            "argv": self.argv,
            "env": self.env,
            "ids": self.ids,
            "timeout": self.timeout_seconds,
            "grace": GRACE_SECONDS,
            "keep": OUTPUT_BYTES + MARGIN_BYTES,
            "locks": self.locks,
            "wait": LOCK_WAIT_SECONDS,
        }
        return json.dumps(spec).encode() + b"\n"


class UnrunnableError(Exception):
    """The command can't be run at all; `hint` says what to do."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class HookRunner:
    """Implements the engine's Hooks port with processes.

    `environ` is our own environment; a few of its variables are passed on, see PASSED_VARIABLES.
    """

    def __init__(self, state_dir: Path, environ: Mapping[str, str]) -> None:
        self._state_dir, self._environ = state_dir, environ
        self._lock, self._running = threading.Lock(), 0

    @property
    def running(self) -> int:
        """Return how many hooks are running now."""
        return self._running

    def validate(
        self, call: HookCall, files: Sequence[StagedFile], deadline: Deadline
    ) -> HookResult:
        """Run a validator on the staged set. Raises StoreError, StoppedError."""
        try:
            user = find_hook_user(call.user)
            with StagingDir(self._state_dir, call.jobs[0], user.ids) as place:
                place.write_files(files, deadline)
                return self._run(call, user, place, place.tree, deadline)
        except UnrunnableError as error:
            return HookResult(problem=str(error), hint=error.hint)

    def run(self, call: HookCall, deadline: Deadline) -> HookResult:
        """Run a hook after the files are in place. Raises StoreError, StoppedError."""
        try:
            user = find_hook_user(call.user)
            with StagingDir(self._state_dir, call.jobs[0], user.ids) as place:
                return self._run(call, user, place, "/", deadline)
        except UnrunnableError as error:
            return HookResult(problem=str(error), hint=error.hint)

    def _run(
        self, call: HookCall, user: HookUser, place: StagingDir, staged: str, deadline: Deadline
    ) -> HookResult:
        changes = place.add_file("changes.json", call.changes)
        env = (
            environment(self._environ, user)
            | dict(call.facts)
            | {
                "SYNCD_STAGED": staged,
                "SYNCD_CHANGES": changes,
            }
        )
        place.grant_access()
        require_reachable(user, place.folder)
        argv = [
            substitute_staged(part, staged, call.hook.shell)
            for part in call.hook.argv or validators_argv(call.hook.checks)
        ]
        spec = HookProcessSpec(argv, env, user.ids, call.timeout_seconds, self._locks(call.jobs))
        with self._count_running():
            end = _run_supervised(spec, deadline)
        if end.status != 0:
            # if a folder was closed meanwhile, that has failed, and not the commit
            require_reachable(user, place.folder)
        return end

    @contextmanager
    def _count_running(self) -> Iterator[None]:
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def _locks(self, jobs: Sequence[str]) -> list[str]:
        """Return one lock file per job, in an order that all processes agree on."""
        place = self._state_dir / "locks"
        try:
            os.makedirs(place, mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{place} can't be made: {error.strerror}",
                id="store/not-writable",
                hint="the state folder must be writable by the user who runs syncd",
            ) from error
        return sorted(
            str(place / f"hook-{sha256(job.encode()).hexdigest()[:32]}.lock") for job in jobs
        )


def find_hook_user(user: str | None) -> HookUser:
    """Look up `hook_user` on this machine; None is our own user. Raises UnrunnableError."""
    try:
        found = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        if not user:
            return HookUser(str(os.geteuid()), "/", None)
        raise UnrunnableError(
            f"this machine knows no user {user}", "create it, or correct hook_user:"
        ) from error
    if found.pw_uid == os.geteuid():
        return HookUser(found.pw_name, found.pw_dir, None)
    if os.geteuid() != 0:
        raise UnrunnableError(
            f"only root may run a hook as {user}", "run syncd as root, or leave hook_user: out"
        )
    return HookUser(
        found.pw_name,
        found.pw_dir,
        (found.pw_uid, found.pw_gid, tuple(os.getgrouplist(found.pw_name, found.pw_gid))),
    )


def require_reachable(user: HookUser, folder: str) -> None:
    """Raise UnrunnableError if a folder above `folder` does not let the hook's user through.

    Otherwise a validator would fail for that reason, and seem to reject the commit.
    """
    for above in map(str, Path(folder).parents):
        if is_closed_to(user, above):
            raise UnrunnableError(
                f"{user.name} can't reach its files: {above} does not let others through",
                f"chmod o+x {above}, or set state: to a folder like /var/lib/syncd",
            )


def is_closed_to(user: HookUser, place: str) -> bool:
    """Return whether the mode keeps the user from executing the file or passing the folder."""
    if user.ids is None:
        return False
    uid, gid, groups = user.ids
    found = os.stat(place)
    bit = 0o100 if found.st_uid == uid else 0o010 if found.st_gid in {gid, *groups} else 0o001
    return not found.st_mode & bit and ACL not in os.listxattr(place)


def environment(environ: Mapping[str, str], user: HookUser) -> dict[str, str]:
    """Return a hook's environment, without the SYNCD_ variables.

    It is an allow-list, so that no secret of ours is ever passed on.
    """
    names = PASSED_VARIABLES if user.ids else PASSED_VARIABLES + SAME_USER_VARIABLES
    kept = {name: environ[name] for name in names if environ.get(name)}
    return {
        "PATH": PATH,
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
    } | kept


def substitute_staged(part: str, staged: str, shell: bool) -> str:
    """Return one argument with `{staged}` filled in.

    That is the folder of the staged set, or `/` once the files are in place.
    """
    if staged == "/":
        return part.replace("{staged}/", "/").replace("{staged}", "/")
    return part.replace("{staged}", shlex.quote(staged) if shell else staged)


def validators_argv(names: Sequence[str]) -> list[str]:
    """Return the command line that runs these built-in checks on the staged set."""
    import yaml  # only for jobs that validate with them

    return [
        sys.executable,
        "-I",
        *NAMES_ARE_UTF8,
        VALIDATORS,
        str(Path(yaml.__file__).parents[1]),
        "{staged}",
        *names,
    ]


def _run_supervised(spec: HookProcessSpec, deadline: Deadline) -> HookResult:
    try:
        supervisor = _start_supervisor()
    except OSError as error:
        return HookResult(
            problem=f"no process could be started: {error.strerror}",
            hint="look at the limits of processes and memory (TasksMax=, MemoryMax=)",
        )
    try:
        answer = _Supervision(supervisor, spec).wait_for_answer(deadline)
    finally:
        _end(supervisor)
    if deadline.hook_stop.is_set() and answer.get("ended") == "stopped":
        raise StoppedError("syncd was stopped by a signal while a hook was running; it was ended")
    return _result_of(answer, spec.argv[0])


def _start_supervisor() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", *NAMES_ARE_UTF8, SUPERVISOR],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LANG": "C.UTF-8"},
        close_fds=True,
        start_new_session=True,
        bufsize=0,
    )


def _result_of(answer: Mapping[str, object], command: str) -> HookResult:
    """Return what the supervisor's answer means for the run."""
    output = _redacted_output(answer.get("output"))
    refusal = answer.get("error")
    if refusal == "no such command":
        return HookResult(
            problem=f"there is no command {command!r}",
            hint=f"install it, or write its whole path; hooks look in {PATH}",
        )
    if refusal or answer.get("ended") == "stopped":
        return HookResult(
            problem=str(refusal or "its supervisor was asked to stop"),
            hint="the next run tries again",
            output=output,
        )
    status, number = answer.get("status"), answer.get("signal")
    return HookResult(
        status if isinstance(status, int) else None,
        number if isinstance(number, int) else None,
        answer.get("ended") == "timeout",
        output=output,
    )


def _redacted_output(text: object) -> str:
    """Return the last OUTPUT_BYTES of the output as UTF-8, without secrets."""
    raw = text.encode("latin-1") if isinstance(text, str) else b""
    output = redact_end(raw.decode("utf-8", "replace"), OUTPUT_BYTES)
    return output.encode()[-OUTPUT_BYTES:].decode(errors="ignore")


class _Supervision:
    """The exchange with one supervisor.

    The specification goes to its stdin; one line about the start and one about the end come back.
    """

    def __init__(self, supervisor: subprocess.Popen[bytes], spec: HookProcessSpec) -> None:
        self._process, self._spec = supervisor, spec
        self._ends_at = (
            time.monotonic() + spec.timeout_seconds + LOCK_WAIT_SECONDS + SUPERVISOR_MARGIN_SECONDS
        )
        self._hook_pid = 0

    def wait_for_answer(self, deadline: Deadline) -> dict[str, object]:
        """Return the supervisor's final answer.

        A supervisor that gives none is ended, and so is the hook, as far as its process id is
        known.
        """
        if self._process.stdin is None or self._process.stdout is None:
            return {"error": "the supervisor has no pipes"}
        try:
            self._process.stdin.write(self._spec.as_line())
        except OSError:
            return {"error": "the supervisor could not be started"}
        with ExitStack() as lock_wait:  # it first waits for the locks of the jobs' hooks
            deadline.progress.waiting(Wait.OTHER_HOOK)
            lock_wait.callback(deadline.progress.resumed)
            received = self._received(self._process.stdout.fileno(), deadline, lock_wait)
        return _final_answer(received) or self._kill_hook()

    def _received(self, stdout: int, deadline: Deadline, lock_wait: ExitStack) -> bytes:
        """Return what the supervisor says until its final answer; close `lock_wait` at its first
        words.
        """
        received, asked_to_stop = b"", False
        while received.count(b"\n") < (2 if self._hook_pid else 1):
            if deadline.hook_stop.is_set() and not asked_to_stop:
                asked_to_stop = True
                self._ask_to_stop()
            if time.monotonic() > self._ends_at:
                break
            if not select.select([stdout], [], [], POLL_INTERVAL_SECONDS)[0]:
                continue
            chunk = os.read(stdout, 1 << 20)
            if not chunk:
                break
            received += chunk
            lock_wait.close()
            self._read_pid(received)
        return received

    def _ask_to_stop(self) -> None:
        """Close its stdin: the supervisor ends the hook, then answers."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _read_pid(self, received: bytes) -> None:
        if not self._hook_pid and b"\n" in received:
            self._hook_pid = json.loads(received.split(b"\n")[0]).get("pid", 0)

    def _kill_hook(self) -> dict[str, object]:
        if self._hook_pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._hook_pid, signal.SIGKILL)
        return {"error": "its supervisor died"}


def _final_answer(received: bytes) -> dict[str, object] | None:
    """Return the answer that says how the hook ended, or None."""
    for line in reversed(received.split(b"\n")[:-1]):
        answer: dict[str, object] = json.loads(line)
        if "status" in answer:
            return answer
    return None


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Close the supervisor's pipes, and wait for it to end; kill it after the grace period."""
    for pipe in (supervisor.stdin, supervisor.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        supervisor.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
