"""Collects the paths that a commit can never change.

Contract section 1: "A commit can never change syncd's own configuration, keys, tokens, ca_file,
state, units, credentials or executable". They come from the configuration, the environment and the
program's own files. Each path is resolved here, with every link on the way to it: replacing such a
link changes where it leads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.machinery import all_suffixes

from msgspec import Struct
from msgspec.structs import replace

from syncd.config.model import Config, secrets_of
from syncd.config.program import Program, this_program
from syncd.protected_paths import (
    Identity,
    ProtectedNames,
    ProtectedPaths,
    ProtectedPlace,
    identity_of,
    with_parents,
)

MAX_LINKS = 40  # as many as Linux follows (path_resolution(7))
UNITS = "syncd's systemd units"
CREDENTIALS = "syncd's systemd credentials"
PYTHON = "what syncd's Python imports"
CONFIGURATION = "syncd's configuration"
TYPE_WIDE = (
    "service.d",
    "timer.d",
    "socket.d",
)  # drop-ins for every unit of a type: systemd.unit(5)


class SystemPlaces(Struct, frozen=True):
    """Where systemd and syncd look for files of syncd on this machine; tests set `root`.

    Sources: systemd.unit(5) "Unit File Load Path", systemd.exec(5) "LoadCredential=" (252).
    """

    root: str = ""
    configuration: str = "/etc/syncd"
    units: tuple[str, ...] = (
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
        "/etc/systemd/user",
    )
    more_units: tuple[str, ...] = (
        "/etc/systemd/system.control",
        "/run/systemd/system.control",
        "/run/systemd/transient",
        "/etc/systemd/system.attached",
        "/run/systemd/system.attached",
        "/run/systemd/generator",
        "/run/systemd/generator.early",
        "/run/systemd/generator.late",
        "/run/systemd/user",
        "/usr/local/lib/systemd/user",
        "/usr/lib/systemd/user",
        "/lib/systemd/user",
        "/usr/local/share/systemd/user",
        "/usr/share/systemd/user",
    )
    credentials: str = "/run/credentials"
    credstores: tuple[str, ...] = (
        "/etc/credstore",
        "/etc/credstore.encrypted",
        "/run/credstore",
        "/run/credstore.encrypted",
        "/usr/lib/credstore",
        "/usr/lib/credstore.encrypted",
    )


SYSTEM = SystemPlaces()


class NamedPlace(Struct, frozen=True):
    """A path as it is named, before its links are resolved."""

    path: str
    what: str
    is_folder: bool = False
    at_check: bool = True


def protected_paths(
    config: Config,
    environ: Mapping[str, str],
    program: Program | None = None,
    system: SystemPlaces | None = None,
) -> ProtectedPaths:
    """Return every path that a commit can never change.

    Reads links and the identities of folders, and opens no file.
    """
    system = system or SYSTEM
    program = program or this_program()
    links = Links()
    named = (
        *_configured(config, environ),
        *_own_folders(environ, system),
        *_credentials(config, environ, system),
    )
    shared = [*_shared(environ, system), *_modules(program)]
    found = [*links.places(named), *_installed(program), *links.places(_commands(environ))]
    found += [place for one in shared for place in links.to(one.folder, one.what, one.at_check)]
    places = tuple(dict.fromkeys(found))
    names = tuple(
        dict.fromkeys(replace(one, folder=links.resolve(one.folder)[-1]) for one in shared)
    )
    return ProtectedPaths(places, names, _identities(places, names))


class Links:
    """Resolves paths that have most of their folders in common, and reads each link once."""

    def __init__(self) -> None:
        self._targets: dict[str, str | None] = {}
        self._resolved: dict[str, list[str]] = {}

    def places(self, named: Iterable[NamedPlace]) -> Iterator[ProtectedPlace]:
        """Yield each place by its real path, and each link on the way to it."""
        for one in named:
            yield from self.to(one.path, one.what, one.at_check)
            real = self.resolve(one.path)[-1]
            yield ProtectedPlace(real, one.what, one.is_folder, one.at_check)

    def to(self, path: str, what: str, at_check: bool) -> Iterator[ProtectedPlace]:
        """Yield each link on the way to a path."""
        for link in self.resolve(path)[:-1]:
            yield ProtectedPlace(link, f"a link on the way to {what}", at_check=at_check)

    def resolve(self, path: str) -> list[str]:
        """Return the real path of each link that leads to `path`, in order, then its own."""
        if path not in self._resolved:
            self._resolved[path] = _resolved(path, self._target)
        return self._resolved[path]

    def _target(self, path: str) -> str | None:
        if path not in self._targets:
            self._targets[path] = _target(path)
        return self._targets[path]


def _target(path: str) -> str | None:
    """Return where a link leads; None for what is no link, not there, or not to be looked at."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def _resolved(path: str, target_of: Callable[[str], str | None]) -> list[str]:
    found: list[str] = []
    rest, at = os.path.abspath(path).split("/")[::-1], "/"
    while rest:
        name = rest.pop()
        if name in ("", "."):
            continue
        if name == "..":
            at = os.path.dirname(at)
            continue
        here = f"{at.rstrip('/')}/{name}"
        target = target_of(here)
        if target is None:
            at = here
            continue
        found.append(here)
        if len(found) > MAX_LINKS:
            break
        at = "/" if target.startswith("/") else at
        rest.extend(target.split("/")[::-1])
    return [*found, at]


def _configured(config: Config, environ: Mapping[str, str]) -> Iterator[NamedPlace]:
    """Yield the configuration itself, and what it names."""
    yield NamedPlace(str(config.path), CONFIGURATION, os.path.isdir(config.path))
    for file in config.files:
        yield NamedPlace(str(file), CONFIGURATION)
    if environ.get("SYNCD_CONFIG"):
        yield NamedPlace(
            environ["SYNCD_CONFIG"],
            "the configuration that $SYNCD_CONFIG names",
            os.path.isdir(environ["SYNCD_CONFIG"]),
        )
    yield NamedPlace(str(config.state), "syncd's own state", True)
    for key, ref in secrets_of(config).items():
        if ref.kind == "file":
            yield NamedPlace(ref.value, f"the secret of {'.'.join(map(str, key))}")
    for endpoint in config.endpoints():
        if endpoint.address.kind == "file":
            yield NamedPlace(endpoint.address.value, "an address of notify")
    for name, identity in config.identities.items():
        if identity.ca_file:
            yield NamedPlace(identity.ca_file, f"the certificate authority of github.{name}")
    for name, job in config.jobs.items():
        if job.require.signed_by:
            yield NamedPlace(job.require.signed_by, f"the allowed signers of jobs.{name}")


def _own_folders(environ: Mapping[str, str], system: SystemPlaces) -> Iterator[NamedPlace]:
    """Yield where syncd looks for a configuration: a new one there may take precedence."""
    yield NamedPlace(system.root + system.configuration, CONFIGURATION, True)
    home = _home(environ, "XDG_CONFIG_HOME", ".config")
    if home:
        yield NamedPlace(f"{home}/syncd", CONFIGURATION, True)


def _credentials(
    config: Config, environ: Mapping[str, str], system: SystemPlaces
) -> Iterator[NamedPlace]:
    if environ.get("CREDENTIALS_DIRECTORY"):
        yield NamedPlace(environ["CREDENTIALS_DIRECTORY"], CREDENTIALS, True)
    refs = [*secrets_of(config).values(), *(endpoint.address for endpoint in config.endpoints())]
    for name in dict.fromkeys(ref.value for ref in refs if ref.kind == "credential"):
        for store in system.credstores:
            yield NamedPlace(f"{system.root}{store}/{name}", f"syncd's credential {name}")


def _shared(environ: Mapping[str, str], system: SystemPlaces) -> Iterator[ProtectedNames]:
    """Yield folders of systemd that hold files of syncd beside others."""
    config, data = (
        _home(environ, "XDG_CONFIG_HOME", ".config"),
        _home(environ, "XDG_DATA_HOME", ".local/share"),
    )
    usual = [
        *(system.root + folder for folder in system.units),
        *([f"{config}/systemd/user"] if config else []),
    ]
    more = [
        *(system.root + folder for folder in system.more_units),
        *([f"{data}/systemd/user"] if data else []),
    ]
    for folder in usual:
        yield ProtectedNames(folder, UNITS, "syncd", TYPE_WIDE)
    for folder in more:
        yield ProtectedNames(folder, UNITS, "syncd", TYPE_WIDE, at_check=False)
    yield ProtectedNames(system.root + system.credentials, CREDENTIALS, "syncd")


def _home(environ: Mapping[str, str], variable: str, usual: str) -> str | None:
    return environ.get(variable) or (f"{environ['HOME']}/{usual}" if environ.get("HOME") else None)


@lru_cache(maxsize=4)
def _installed(program: Program) -> tuple[ProtectedPlace, ...]:
    """Return the program's own places, resolved once: the process has loaded what was there."""
    named = [NamedPlace(program.package, "syncd's program", True)]
    named += [NamedPlace(path, "syncd's program") for path in (program.command,) if path]
    named += [NamedPlace(path, "syncd's Python") for path in program.interpreters]
    named += [
        NamedPlace(path, PYTHON, not path.endswith(".zip"))
        for path in (program.environment, *program.import_folders)
        if path
    ]
    named += [NamedPlace(path, PYTHON, os.path.isdir(path)) for path in program.linked]
    for folder in {os.path.dirname(path) for path in program.interpreters}:
        for beside in (
            folder,
            os.path.dirname(folder),
        ):  # the first file that Python looks for: docs.python.org, `site`
            named.append(
                NamedPlace(f"{beside.rstrip('/')}/pyvenv.cfg", "syncd's Python", at_check=False)
            )
    return tuple(Links().places(named))


def _commands(environ: Mapping[str, str]) -> Iterator[NamedPlace]:
    """Yield each `syncd` in the search path, and each path where one would be found before it."""
    for folder in dict.fromkeys((*environ.get("PATH", "").split(":"), "/usr/bin")):
        if folder.startswith("/"):
            command = f"{folder.rstrip('/')}/syncd"
            yield NamedPlace(command, "syncd's program", at_check=os.path.isfile(command))


def _modules(program: Program) -> Iterator[ProtectedNames]:
    if program.started_in:
        yield ProtectedNames(
            program.started_in, PYTHON, suffixes=tuple(all_suffixes()), at_check=False
        )


def _identities(
    places: Iterable[ProtectedPlace], names: Iterable[ProtectedNames]
) -> dict[Identity, str]:
    """Return the identity of each protected folder and of each folder above a protected place.

    Under whatever name, as through a bind mount, such a folder leads to the same place.
    """
    found: dict[Identity, str] = {}
    for folder in sorted(
        {"/", *with_parents([place.path for place in places] + [one.folder for one in names])}
    ):
        identity = identity_of(folder)
        if identity is not None:
            found.setdefault(identity, folder)
    return found
