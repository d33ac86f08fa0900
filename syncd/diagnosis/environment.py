"""Describes what syncd runs on, for a bug report: versions, store, file systems, proxies, locale.

No fact fails the others: what cannot be found out is said in its place. Nothing is written or
migrated, GitHub is not asked, and there is no content of a configuration, no secret and no password
in it.
"""

from __future__ import annotations

import locale
import os
import platform
import re
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path

from syncd.config.load import find_config, load_config
from syncd.config.model import Config
from syncd.diagnosis.destinations import folder_of
from syncd.errors import SyncdError
from syncd.github.proxies import proxies_of, split_login
from syncd.mirror.destination_facts import destination_facts
from syncd.store.foreign_store import read_schema
from syncd.store.schema import VERSION
from syncd.store.store import FILE_NAME
from syncd.text import one_line
from syncd.time_zones import has_time_zones

SYSTEMD = Path("/run/systemd/system")  # exists where systemd is the init system: sd_booted(3)
SYSTEMCTL_SECONDS = 5.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_FOLDERS = 20
LOCALE_VARIABLES = ("LC_ALL", "LC_CTYPE", "LANG", "LANGUAGE", "PYTHONUTF8", "PYTHONIOENCODING")
REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+")

Fact = tuple[str, str]  # what, and its value


def describe(config: str | None, environ: Mapping[str, str]) -> list[Fact]:
    """Return the facts, in the order in which they are shown. Raises nothing."""
    facts = [
        ("installed in", one_line(os.path.dirname(os.path.dirname(__file__)))),
        ("Python", f"{platform.python_version()}, {sys.executable}"),
        ("SQLite", sqlite3.sqlite_version),
        ("OpenSSL", ssl.OPENSSL_VERSION),
        ("libraries", _or_why(_libraries)),
        ("system", _or_why(_system)),
        ("user", f"uid {os.geteuid()}, gid {os.getegid()}"),
        ("systemd", _or_why(lambda: _systemd(environ))),
        ("locale", _or_why(lambda: _locale(environ))),
        ("time zones", "yes" if has_time_zones() else "none: install tzdata"),
        ("proxies", _or_why(lambda: _proxies(environ))),
    ]
    return [*facts, *_configured(config, environ)]


def _or_why(fact: Callable[[], str]) -> str:
    """Return the fact, or why it is not known."""
    try:
        return one_line(fact())
    except SyncdError as error:
        return f"unknown: {one_line(error.message)}"
    except OSError as error:
        return f"unknown: {error.strerror or error}"
    except Exception as error:  # noqa: BLE001  (a report without one fact is better than none)
        return f"unknown: {type(error).__name__}"


def _libraries() -> str:
    """Return the installed version of each library that syncd requires."""
    names = [
        found[0]
        for line in metadata.requires("syncd") or []
        if "extra ==" not in line and (found := REQUIREMENT.match(line))
    ]
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _system() -> str:
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return ", ".join(filter(None, (name, platform.platform(), platform.machine())))


def _systemd(environ: Mapping[str, str]) -> str:
    """Return systemd's version, and whether it runs the machine and started this process."""
    if not SYSTEMD.is_dir():
        return "not running"
    said = subprocess.run(
        ["systemctl", "--version"],
        capture_output=True,
        timeout=SYSTEMCTL_SECONDS,
        env={"PATH": SYSTEM_PATH},
        check=False,
        text=True,
    ).stdout
    under = "started by it" if environ.get("INVOCATION_ID") else "not started by it"
    return f"{said.partition(chr(10))[0] or 'unknown version'}, {under}"


def _locale(environ: Mapping[str, str]) -> str:
    """Return the variables that are set, and the encodings that follow."""
    found = [f"{name}={environ[name]}" for name in LOCALE_VARIABLES if name in environ]
    output = getattr(sys.stdout, "encoding", None)
    return ", ".join(
        (
            *found,
            f"file names {sys.getfilesystemencoding()}",
            f"output {output}",
            f"locale's own {locale.getencoding()}",
        )
    )


def _proxies(environ: Mapping[str, str]) -> str:
    """Return the proxies, each without its login, and what NO_PROXY excepts."""
    proxies = proxies_of(environ)
    shown = []
    for scheme, proxy in proxies.by_scheme.items():
        address, login = split_login(proxy)
        shown.append(f"{scheme} {address}{' with a login' if login else ''}")
    if not shown:
        return "none"
    direct = [entry.rpartition("@")[2] for entry in proxies.no_proxy]
    return ", ".join([*shown, *([f"not for {' '.join(direct)}"] if direct else [])])


def _configured(explicit: str | None, environ: Mapping[str, str]) -> Iterator[Fact]:
    """Yield the path of the configuration, its store and its file systems."""
    try:
        path = find_config(explicit, environ)
    except SyncdError as error:
        yield "configuration", one_line(error.message)
        return
    try:
        config = load_config(path, environ)
    except SyncdError as error:
        yield "configuration", f"{one_line(str(path))}, not usable: {_without_content(error)}"
        return
    yield (
        "configuration",
        f"{one_line(str(path))}, {len(config.jobs)} jobs, {len(config.identities)} identities",
    )
    yield "store", _or_why(lambda: _store(config.state))
    yield from _file_systems(config)


def _without_content(error: SyncdError) -> str:
    """Return why a configuration can't be used, without what it holds."""
    count = len(getattr(error, "problems", ()))
    if not count:
        return one_line(error.message)
    return f"{count} {'mistake' if count == 1 else 'mistakes'}, see syncd check"


def _store(state: Path) -> str:
    file = state / FILE_NAME
    if not state.exists():
        return f"{file}, none yet"
    found = read_schema(file)
    return f"{file}, schema {found or 'none'} (this version's is {VERSION})"


def _file_systems(config: Config) -> Iterator[Fact]:
    """Yield the file systems of the state and of the destinations, each folder once."""
    folders = {str(config.state): "state"}
    for job in config.jobs.values():
        for rule in job.paths:
            folders.setdefault(folder_of(job, rule), "destination")
    for folder, what in list(folders.items())[:MAX_FOLDERS]:
        yield f"{what} on", _or_why(partial(_file_system, folder))
    if len(folders) > MAX_FOLDERS:
        yield "destination on", f"and {len(folders) - MAX_FOLDERS} more"


def _file_system(folder: str) -> str:
    facts = destination_facts(folder)
    new = "" if facts.exists else ", does not exist yet"
    read_only = ", read-only" if facts.read_only else ""
    return f"{facts.file_system or 'unknown'} ({folder}, mounted at {facts.mount}{read_only}{new})"


__all__ = ["describe"]
