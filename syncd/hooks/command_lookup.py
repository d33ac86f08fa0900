"""Finds a hook's command before a run needs it: in the hook's own PATH, as the hook's user.

Starts nothing. Problems that only the running program shows, such as a missing library or a policy
of the system, appear when the hook runs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from syncd.hooks.runner import PATH, HookUser, UnrunnableError, find_hook_user, is_closed_to
from syncd.models import Hook, Job

HEAD_BYTES = 256  # the kernel reads as many of a script's first line (BINPRM_BUF_SIZE)
ELF = b"\x7fELF"
MAX_DEPTH = 4  # scripts whose interpreter is a script: execve(2), ELOOP


class MissingCommand(Struct, frozen=True):
    """Why a hook can't be started, and what to do."""

    text: str
    hint: str


def find_missing_command(hook: Hook, user: str | None) -> MissingCommand | None:
    """Return why the hook could not be started now as `user` (None: our own user), or None.

    A check of syncd's own and a program of the staged set (`{staged}/...`) are not looked up. Of a
    shell's text only the shell is.
    """
    if hook.checks or "{staged}" in hook.argv[0]:
        return None
    try:
        return _Search(find_hook_user(user)).find_problem(hook.argv[0])
    except UnrunnableError as error:
        if os.geteuid() == 0 or user is None:
            return MissingCommand(str(error), error.hint)
    return _Search(HookUser(user, "/", None), as_any_user=True).find_problem(hook.argv[0])


def find_missing_commands(jobs: Iterable[Job]) -> Iterator[tuple[Job, str, MissingCommand]]:
    """Yield each hook that could not be started now: its job, its key, and why."""
    for job in jobs:
        for key, hook in hooks_of(job):
            found = find_missing_command(hook, job.hook_user)
            if found is not None:
                yield job, key, found


def hooks_of(job: Job) -> Iterator[tuple[str, Hook]]:
    """Yield each command of the job with the key that it is configured under."""
    if job.validate is not None:
        yield "validate", job.validate
    if job.on_change is not None:
        yield "on_change", job.on_change
    if job.health is not None:
        yield "health", job.health.command


class _Search:
    def __init__(self, user: HookUser, as_any_user: bool = False) -> None:
        self._user = user
        self._as_any_user = as_any_user  # another user runs it, whose rights we can't tell

    def find_problem(self, command: str, depth: int = 0) -> MissingCommand | None:
        """Return why execvpe(3) would not start the command in the folder `/`, or None.

        `depth` is how many scripts name each other as interpreters.
        """
        if "/" in command:
            return self._problem_at(os.path.join("/", command), depth)
        first: MissingCommand | None = None
        for folder in PATH.split(":"):
            place = f"{folder}/{command}"
            if os.path.lexists(place):
                found = self._problem_at(place, depth)
                if found is None:
                    return None
                first = first or found
        return first or MissingCommand(
            f"there is no command '{command}' in {PATH}",
            "install it, or write its whole path; a hook has this PATH, whatever yours is",
        )

    def _problem_at(self, place: str, depth: int) -> MissingCommand | None:
        try:
            found = os.stat(place)
        except OSError as error:
            return self._not_found(place, error)
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            return MissingCommand(f"{place} is {what}, not a command", "name the program itself")
        if not self._may_execute(place, found):
            return self._not_executable(place)
        return self._script(place, depth)

    def _not_executable(self, place: str) -> MissingCommand:
        if os.statvfs(place).f_flag & os.ST_NOEXEC:
            return MissingCommand(
                f"{place} is on a disk that is mounted noexec", "name one elsewhere"
            )
        who = f" by {self._user.name}" if self._user.ids is not None else ""
        return MissingCommand(
            f"{place} can't be executed{who}", f"chmod +x {place}, and see its folders"
        )

    def _not_found(self, place: str, error: OSError) -> MissingCommand | None:
        if error.errno == errno.EACCES:
            if self._as_any_user:
                return None
            return MissingCommand(
                f"{place} can't be looked at: {error.strerror}", "check its folders"
            )
        if os.path.islink(place):
            return MissingCommand(f"{place} is a link that leads nowhere", "correct the link")
        return MissingCommand(f"there is no command {place}", "install it, or correct its path")

    def _may_execute(self, place: str, found: os.stat_result) -> bool:
        if self._as_any_user:
            return bool(found.st_mode & 0o111)
        if self._user.ids is None:
            return os.access(place, os.X_OK)
        real = Path(os.path.realpath(place))
        return not any(is_closed_to(self._user, str(one)) for one in (real, *real.parents))

    def _script(self, place: str, depth: int) -> MissingCommand | None:
        """Return what keeps the kernel from starting a script. Source: execve(2), "Interpreter
        scripts".
        """
        try:
            with open(place, "rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError:  # a program needs no right to be read
            return None
        if not head.startswith(b"#!"):
            if head.startswith(ELF) or b"\0" in head:
                return None
            return MissingCommand(
                f"{place} has no #! line, so only a shell can start it",
                "begin it with a line like #!/bin/sh",
            )
        line = head[2:].partition(b"\n")[0]
        if line.endswith(b"\r"):
            return MissingCommand(f"{place} has Windows line ends", f"sed -i 's/\\r$//' {place}")
        return self._interpreter(place, os.fsdecode(line).split(), depth + 1)

    def _interpreter(self, place: str, words: list[str], depth: int) -> MissingCommand | None:
        name = words[0] if words else ""
        if not name.startswith("/") or depth > MAX_DEPTH:
            return MissingCommand(f"{place} names no program in its #! line", "correct that line")
        reason = self._problem_at(name, depth)
        if reason is None and os.path.basename(name) == "env":
            reason = self._env_command(words[1:], depth)
        if reason is None:
            return None
        return MissingCommand(
            f"the interpreter of {place}: {reason.text}", f"{reason.hint}; or correct the #! line"
        )

    def _env_command(self, words: list[str], depth: int) -> MissingCommand | None:
        """Check what `#!/usr/bin/env NAME` or `env -S NAME=VALUE NAME` starts; other options are
        not read.
        """
        words = words[1:] if words[:1] == ["-S"] else words
        programs = [word for word in words if "=" not in word]
        return (
            self.find_problem(programs[0], depth)
            if programs and not programs[0].startswith("-")
            else None
        )


__all__ = ["MissingCommand", "find_missing_command", "find_missing_commands", "hooks_of"]
