"""Runs the operator's commands: each under a guard of its own, with a fixed environment, without our descriptors, secrets or terminal.

Promises: bounded in time and output, ended with everything it started, redacted, and never two hooks of one job at once on this
state folder. What a verdict means is not decided here.
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
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.errors import StoppedError, StoreError
from syncd.hooks.staging_dir import StagingDir
from syncd.ports import HookCall, HookResult, StagedFile
from syncd.redaction import redact_end

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_BYTES = 64 << 10
MARGIN_BYTES = (
    16 << 10
)  # read beyond the kept end, so that a secret cut at its start is still whole when it is masked
GRACE_SECONDS = 3.0
LOCK_WAIT_SECONDS = 30.0
GUARD_SECONDS = 40.0  # what a guard may take beyond limit, grace and lock before it is given up
PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "TZ")
OF_THE_SAME_USER = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")  # systemctl --user asks for them
LISTEN_SECONDS = 0.1  # how soon a signal to us is passed on
ACL = "system.posix_acl_access"  # acl(5): an access list may let through whom the mode does not
VALIDATORS = str(Path(__file__).with_name("validators.py"))
NAMES_ARE_UTF8 = (
    "-X",
    "utf8=1",
)  # whatever locale the machine has: file names and arguments are bytes, as in encoding.py
SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))


class HookUser(Struct, frozen=True):
    """Who a hook runs as. `ids` is None where that is us."""

    name: str
    home: str
    ids: tuple[int, int, tuple[int, ...]] | None


class HookProcessSpec(Struct, frozen=True):
    """What a guard is told; see its opening paragraph."""

    argv: list[str]
    env: dict[str, str]
    ids: tuple[int, int, tuple[int, ...]] | None
    timeout_seconds: float
    locks: list[str]

    def as_line(self) -> bytes:
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


class Unrunnable(Exception):
    """The command can't be run at all; `hint` says what to do."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class HookRunner:
    """The engine's Hooks over real processes. `environ` is ours: a few names of it are passed on, see PASSED_ON."""

    def __init__(self, state_dir: Path, environ: Mapping[str, str]) -> None:
        self._state_dir, self._environ = state_dir, environ
        self._guard, self._running = threading.Lock(), 0

    @property
    def running(self) -> int:
        """How many hooks are running now."""
        return self._running

    def validate(
        self, call: HookCall, files: Sequence[StagedFile], deadline: Deadline
    ) -> HookResult:
        try:
            person = person_of(call.user)
            with StagingDir(self._state_dir, call.jobs[0], person.ids) as place:
                place.lay(files, deadline)
                return self._run(call, person, place, place.tree, deadline)
        except Unrunnable as error:
            return HookResult(problem=str(error), hint=error.hint)

    def run(self, call: HookCall, deadline: Deadline) -> HookResult:
        try:
            person = person_of(call.user)
            with StagingDir(self._state_dir, call.jobs[0], person.ids) as place:
                return self._run(call, person, place, "/", deadline)
        except Unrunnable as error:
            return HookResult(problem=str(error), hint=error.hint)

    def _run(
        self, call: HookCall, person: HookUser, place: StagingDir, staged: str, deadline: Deadline
    ) -> HookResult:
        changes = place.note("changes.json", call.changes)
        env = (
            environment(self._environ, person)
            | dict(call.facts)
            | {"SYNCD_STAGED": staged, "SYNCD_CHANGES": changes}
        )
        place.give()
        check_reach(person, place.folder)
        argv = [
            placed(part, staged, call.hook.shell)
            for part in call.hook.argv or checking(call.hook.checks)
        ]
        errand = HookProcessSpec(
            argv, env, person.ids, call.timeout_seconds, self._locks(call.jobs)
        )
        with self._counted():
            end = _guarded(errand, deadline)
        if end.status != 0:
            check_reach(
                person, place.folder
            )  # closed meanwhile: then that has failed, not the commit
        return end

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._guard:
            self._running += 1
        try:
            yield
        finally:
            with self._guard:
                self._running -= 1

    def _locks(self, jobs: Sequence[str]) -> list[str]:
        """One file a job, in an order that all agree on."""
        place = self._state_dir / "locks"
        try:
            os.makedirs(place, mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"can't make {place}: {error.strerror}",
                hint="the state folder must be writable by the user who runs syncd",
            ) from error
        return sorted(
            str(place / f"hook-{sha256(job.encode()).hexdigest()[:32]}.lock") for job in jobs
        )


def person_of(user: str | None) -> HookUser:
    """Who `hook_user` is on this machine. Raises Unrunnable."""
    try:
        found = pwd.getpwnam(user) if user else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        if not user:
            return HookUser(str(os.geteuid()), "/", None)
        raise Unrunnable(
            f"this machine knows no user {user}", "create it, or correct hook_user:"
        ) from error
    if found.pw_uid == os.geteuid():
        return HookUser(found.pw_name, found.pw_dir, None)
    if os.geteuid() != 0:
        raise Unrunnable(
            f"only root may run a hook as {user}", "run syncd as root, or leave hook_user: out"
        )
    return HookUser(
        found.pw_name,
        found.pw_dir,
        (found.pw_uid, found.pw_gid, tuple(os.getgrouplist(found.pw_name, found.pw_gid))),
    )


def check_reach(person: HookUser, folder: str) -> None:
    """Raises Unrunnable when a folder above does not let the hook's user through: a validator would fail for that, and seem to judge the commit."""
    for above in map(str, Path(folder).parents):
        if closed_to(person, above):
            raise Unrunnable(
                f"{person.name} can't reach its files: {above} does not let others through",
                f"chmod o+x {above}, or set state: to a folder like /var/lib/syncd",
            )


def closed_to(person: HookUser, place: str) -> bool:
    """Whether the mode keeps the hook's user from executing the file, or from passing the folder."""
    if person.ids is None:
        return False
    uid, gid, groups = person.ids
    found = os.stat(place)
    bit = 0o100 if found.st_uid == uid else 0o010 if found.st_gid in {gid, *groups} else 0o001
    return not found.st_mode & bit and ACL not in os.listxattr(place)


def environment(environ: Mapping[str, str], person: HookUser) -> dict[str, str]:
    """Everything a hook gets beside the SYNCD_ names: an allow-list, so that no secret of ours is ever among it."""
    names = PASSED_ON if person.ids else PASSED_ON + OF_THE_SAME_USER
    kept = {name: environ[name] for name in names if environ.get(name)}
    return {
        "PATH": PATH,
        "HOME": person.home,
        "USER": person.name,
        "LOGNAME": person.name,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
    } | kept


def placed(part: str, staged: str, shell: bool) -> str:
    """One argument with `{staged}` filled in: the folder of the staged set, or `/` once the files are in place."""
    if staged == "/":
        return part.replace("{staged}/", "/").replace("{staged}", "/")
    return part.replace("{staged}", shlex.quote(staged) if shell else staged)


def checking(names: Sequence[str]) -> list[str]:
    """The program that looks at the staged set for these built-in checks."""
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


def _guarded(errand: HookProcessSpec, deadline: Deadline) -> HookResult:
    try:
        guard = subprocess.Popen(
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
    except OSError as error:
        return HookResult(
            problem=f"no process could be started: {error.strerror}",
            hint="look at the limits of processes and memory (TasksMax=, MemoryMax=)",
        )
    try:
        answer = _Thread(guard, errand).follow(deadline)
    finally:
        _end(guard)
    if deadline.hook_stop.is_set() and answer.get("ended") == "stopped":
        raise StoppedError("stopped by a signal while a hook was running; it was ended")
    text = answer.get("output")
    output = redact_end(
        text.encode("latin-1").decode("utf-8", "replace") if isinstance(text, str) else "",
        OUTPUT_BYTES,
    )
    output = output.encode()[-OUTPUT_BYTES:].decode(errors="ignore")
    refusal = answer.get("error")
    if refusal == "no such command":
        return HookResult(
            problem=f"there is no command {errand.argv[0]!r}",
            hint=f"install it, or write its whole path; hooks look in {PATH}",
        )
    if refusal or answer.get("ended") == "stopped":
        return HookResult(
            problem=str(refusal or "its guard was told to stop"),
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


class _Thread:
    """What hangs between us and a guard: the errand goes down, one line about the beginning and one about the end come up."""

    def __init__(self, guard: subprocess.Popen[bytes], errand: HookProcessSpec) -> None:
        self._guard, self._errand = guard, errand
        self._ends_at = (
            time.monotonic() + errand.timeout_seconds + LOCK_WAIT_SECONDS + GUARD_SECONDS
        )
        self._hook_pid = 0

    def follow(self, deadline: Deadline) -> dict[str, object]:
        """The guard's last word. A guard that gives none is ended, and so is what it started as far as we know it."""
        if self._guard.stdin is None or self._guard.stdout is None:
            return {"error": "the guard has no pipes"}
        try:
            self._guard.stdin.write(self._errand.as_line())
        except OSError:
            return {"error": "the guard could not be started"}
        heard, told = b"", False
        while heard.count(b"\n") < (2 if self._hook_pid else 1):
            if deadline.hook_stop.is_set() and not told:
                told = True
                self._guard.stdin.close()  # it hangs on this: the hook is ended, then we hear of it
            if time.monotonic() > self._ends_at:
                break
            if not select.select([self._guard.stdout], [], [], LISTEN_SECONDS)[0]:
                continue
            chunk = os.read(self._guard.stdout.fileno(), 1 << 20)
            if not chunk:
                break
            heard += chunk
            self._note_pid(heard)
        return _last_word(heard) or self._give_up()

    def _note_pid(self, heard: bytes) -> None:
        if not self._hook_pid and b"\n" in heard:
            self._hook_pid = json.loads(heard.split(b"\n")[0]).get("pid", 0)

    def _give_up(self) -> dict[str, object]:
        if self._hook_pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._hook_pid, signal.SIGKILL)
        return {"error": "its guard died"}


def _last_word(heard: bytes) -> dict[str, object] | None:
    """The answer that says how it ended; None when none came."""
    for line in reversed(heard.split(b"\n")[:-1]):
        answer: dict[str, object] = json.loads(line)
        if "status" in answer:
            return answer
    return None


def _end(guard: subprocess.Popen[bytes]) -> None:
    """The guard is gone, its pipes too."""
    for pipe in (guard.stdin, guard.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        guard.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
