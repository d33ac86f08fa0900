"""Lists what common hooks need of their service, each tried in a booted system (tests/systemd).

A command that is not in the table gets nothing; docs/systemd.md says how to run such a command
beside the service instead.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator

from msgspec import Struct

from syncd.hooks.command_lookup import hooks_of
from syncd.models import Hook, Job

SHELLS = ("sh", "bash", "dash")
WRAPPERS = ("exec", "nice", "env", "command", "sudo")
SYSTEMD_CLIENTS = ("systemctl", "service", "invoke-rc.d", "systemd-run", "deb-systemd-invoke")


class Needs(Struct, frozen=True):
    """What one program needs.

    `why_root` is a sentence, empty where the user syncd can do it; `paths` are (folder, reason)
    that it must write.
    """

    why_root: str
    capabilities: tuple[str, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()


def needs_of(job: Job) -> Iterator[Needs]:
    """Yield what each known program in the job's hooks needs."""
    for key, hook in hooks_of(job):
        for words in commands(hook):
            program = posixpath.basename(words[0])
            what = f"{job.name}: {key} runs {program}"
            if program in SYSTEMD_CLIENTS and "--user" not in words:
                yield Needs(f"{what}, which systemd lets only root do")
            if program == "nginx":
                yield Needs(
                    f"{what}, which binds ports and opens logs of others",
                    ("CAP_NET_BIND_SERVICE", "CAP_CHOWN", "CAP_DAC_OVERRIDE"),
                    (
                        (
                            "/run",
                            (
                                f"{what}, which opens its pid file for writing, "
                                "and a restart of nginx makes a new one"
                            ),
                        ),
                        ("/var/log/nginx", f"{what}, which opens the logs for writing"),
                        (
                            "/var/lib/nginx",
                            f"{what}, which makes its folders for bodies and proxies",
                        ),
                    ),
                )


def commands(hook: Hook) -> Iterator[list[str]]:
    """Yield the words of each simple command of a hook, as far as no shell is needed to
    read them.
    """
    argv = list(hook.argv)
    if (
        len(argv) > 2
        and posixpath.basename(argv[0]) in SHELLS
        and argv[1].startswith("-")
        and argv[1].endswith("c")
    ):
        for part in re.split(r"&&|\|\||[;|&\n(){}]", argv[2]):
            yield from _simple(part)
    elif argv:
        yield argv


def _simple(text: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError:
        words = text.split()
    while words and (
        re.match(r"\w+=", words[0])
        or words[0] in WRAPPERS
        or words[0] in ("if", "then", "else", "do", "!", "while", "until")
    ):
        words = words[1:]
    if words:
        yield words
