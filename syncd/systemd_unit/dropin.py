"""Works out the systemd drop-in that a configuration needs beyond the shipped unit files.

It grants nothing that no job needs, and names beside each line the job that does. It asks the
machine only through `SystemFacts`, so that a test can replace it. Sources: systemd.exec(5),
systemd.service(5), capabilities(7).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct, field

from syncd.config.model import Config, secrets_of
from syncd.config.yaml_reader import key_text
from syncd.models import Job, PathRule
from syncd.policies import Publish
from syncd.systemd_unit.hook_requirements import Needs, needs_of
from syncd.systemd_unit.unit_text import HEADER, SOCKET, clean, quoted, shell

DEFAULT_CONFIG = "/etc/syncd/config.yaml"
DEFAULT_STATE = "/var/lib/syncd"
DEFAULT_PROGRAM = "/usr/bin/syncd"
ENVIRONMENT = "/etc/syncd/environment"
USER = "syncd"
# root's own on every Debian and Fedora
SYSTEM = ("/etc", "/usr", "/boot", "/root", "/bin", "/sbin", "/lib", "/lib64")
HIDDEN = ("/home", "/root", "/run/user")  # what ProtectHome= hides
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  (what PrivateTmp= replaces; nothing is made there)
ROOT_OWNERS = ("root", "0")
OWNERSHIP_CAPABILITIES = ("CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE")
CLOSED_BY_UNIT = "/run"
FIRST_FREE_PORT = 1024


class SystemFacts(Struct, frozen=True):
    """What the drop-in depends on of the machine.

    `owner_of` returns the name (or number) of a path's owner, None where nothing exists.
    """

    owner_of: Callable[[str], str | None]
    program: str = DEFAULT_PROGRAM


class WritableFolder(Struct, frozen=True):
    """A folder that must be writable, and the mode and owner that it is created with."""

    folder: str
    reason: str
    mode: int
    owner: str | None


class DropIn(Struct):
    """The drop-in of one unit.

    `unit` is the unit's name, `lines` are (section, text, reason), and `why_root` says what the
    user syncd could not do. `steps` are commands to run before the service starts, `warnings` what
    the operator should know first, and `files` other units that belong to it.
    """

    unit: str
    why_root: list[str] = field(default_factory=list)
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def as_root(self) -> bool:
        """Return whether the service has to run as root."""
        return bool(self.why_root)

    def add(self, text: str, reason: str, section: str = "Service") -> None:
        """Add a line with its reason, once."""
        if (section, text) not in [(one, other) for one, other, _ in self.lines]:
            self.lines.append((section, text, reason))


def build(config: Config, facts: SystemFacts, timer: bool = False) -> DropIn:
    """Return the drop-in of this configuration.

    With `timer` it is for syncd-sync.service, which a timer starts, else for the daemon.
    """
    places = list(_places(config))
    hooks = [needs for job in config.jobs.values() for needs in needs_of(job)]
    why_root = list(
        dict.fromkeys(
            [
                *_owners(config),
                *_system_folders(places, facts),
                *(needs.why_root for needs in hooks if needs.why_root),
            ]
        )
    )
    drop_in = DropIn(
        "syncd-sync.service" if timer else "syncd-root.service" if why_root else "syncd.service",
        why_root,
    )
    if timer and why_root:
        drop_in.add(
            "User=root",
            "what needs root is named above; no capability is granted but those below",
        )
        drop_in.add("Group=root", "as User=")
        drop_in.add(
            "SystemCallFilter=@chown", "SQLite and root's hooks call chown on their own files"
        )
    _command(drop_in, config, facts, timer)
    _state(drop_in, config, facts)
    if config.state_group:
        drop_in.add(
            f"SupplementaryGroups={quoted(config.state_group)}",
            "state_group: the state is shared with it",
        )
        drop_in.add("SystemCallFilter=@chown", "state_group: files of the state get this group")
    _hooks(drop_in, hooks)
    _folders(drop_in, places, facts)
    _secrets(drop_in, config, facts)
    _privileges(drop_in, config, places, hooks, facts)
    _web_listener(drop_in, config)
    return drop_in


# --- who runs it ----------------------------------------------------------------------------------


def _owners(config: Config) -> Iterator[str]:
    for name, job in config.jobs.items():
        for owner in [job.owner, *(rule.owner for rule in job.paths)]:
            if owner and owner.partition(":")[0] != USER:
                yield f"{name}: owner {owner} can be given by root alone"
        if job.hook_user:
            yield f"{name}: only root may run hooks as {job.hook_user}"


def _system_folders(places: Iterable[WritableFolder], facts: SystemFacts) -> Iterator[str]:
    for place in places:
        if _inside(place.folder, SYSTEM) and _owner_above(place.folder, facts) != USER:
            yield f"{place.folder} belongs to root"


def _owner_above(path: str, facts: SystemFacts) -> str | None:
    """Return the owner of the deepest folder that exists."""
    while path != "/":
        owner = facts.owner_of(path)
        if owner is not None:
            return owner
        path = posixpath.dirname(path)
    return "root"


# --- what it starts and where it remembers --------------------------------------------------------


def _command(drop_in: DropIn, config: Config, facts: SystemFacts, timer: bool) -> None:
    own_config = str(config.path) != DEFAULT_CONFIG
    if facts.program == DEFAULT_PROGRAM and not own_config:
        return
    start = quoted(facts.program, command=True) + (
        f" -c {quoted(str(config.path), command=True)}" if own_config else ""
    )
    reason = (
        "the configuration is not in its usual place" if own_config else "where syncd is installed"
    )
    drop_in.add("ExecStart=", "an empty line first: a list of commands is replaced, not added to")
    drop_in.add(f"ExecStart={start} {'sync' if timer else 'run'}", reason)
    if not timer:
        drop_in.add("ExecReload=", "as above")
        drop_in.add(
            f"ExecReload={start} -q check --without-secrets",
            "a configuration with a mistake fails the reload, and the daemon goes on",
        )
        drop_in.add("ExecReload=/bin/sh -c 'kill -HUP $$MAINPID'", "as in the unit")
    if _inside(facts.program, HIDDEN):
        drop_in.warnings.append(
            f"{facts.program} is hidden from services by ProtectHome=: install syncd where"
            " every user may read, like /opt/syncd"
        )
    if _inside(str(config.path), HIDDEN):
        drop_in.warnings.append(
            f"{config.path} is hidden from services by ProtectHome=: move it to /etc/syncd"
        )


def _state_mode(drop_in: DropIn, config: Config) -> None:
    """Set StateDirectoryMode= if others have to pass or read the state folder.

    systemd sets the mode at each start, also while a hook of a manual command is running.
    """
    hook_users = [job.hook_user for job in config.jobs.values() if job.hook_user]
    reasons = [
        f"hook_user {user} passes it on the way to its staged files" for user in hook_users[:1]
    ]
    if config.state_group:
        reasons.append(f"state_group {config.state_group} may read it")
    mode = (0o750 if config.state_group else 0o700) | (0o011 if hook_users else 0)
    if reasons:
        drop_in.add(f"StateDirectoryMode={mode:04o}", "; ".join(reasons))


def _state(drop_in: DropIn, config: Config, facts: SystemFacts) -> None:
    state = str(config.state)
    if _inside(state, ("/var/lib",)) and state != "/var/lib":
        _state_mode(drop_in, config)
    if state == DEFAULT_STATE:
        return
    if _inside(state, ("/var/lib",)) and state != "/var/lib":
        drop_in.add("StateDirectory=", "the state is elsewhere: see state: in the configuration")
        drop_in.add(
            f"StateDirectory={quoted(posixpath.relpath(state, '/var/lib'))}",
            "state: in the configuration; systemd makes it",
        )
        return
    drop_in.add("StateDirectory=", "the state is elsewhere: see state: in the configuration")
    drop_in.add(f"ReadWritePaths=-{quoted(state)}", "state: in the configuration")
    owner = "root" if drop_in.as_root else USER
    if facts.owner_of(state) != owner:
        drop_in.steps.append(f"install -d -m 0700 -o {owner} -g {owner} {shell(state)}")


# --- folders --------------------------------------------------------------------------------------


def _places(config: Config) -> Iterator[WritableFolder]:
    for name, job in config.jobs.items():
        for rule in job.paths:
            yield _place(name, job, rule)


def _place(name: str, job: Job, rule: PathRule) -> WritableFolder:
    mode, owner = rule.dir_mode or job.dir_mode, rule.owner or job.owner
    if job.publish is Publish.SYMLINK:
        return WritableFolder(
            posixpath.dirname(rule.to),
            f"{name} keeps the link {posixpath.basename(rule.to)} and the trees behind it here",
            mode,
            owner,
        )
    if rule.directory:
        return WritableFolder(rule.to, f"{name} mirrors {rule.source}/ here", mode, owner)
    return WritableFolder(
        posixpath.dirname(rule.to),
        f"{name} makes a new {posixpath.basename(rule.to)} beside the old one and renames it",
        mode,
        owner,
    )


def _folders(drop_in: DropIn, places: Sequence[WritableFolder], facts: SystemFacts) -> None:
    outer = [
        folder
        for folder in dict.fromkeys(place.folder for place in places)
        if not any(_inside(folder, (other.folder,)) for other in places if other.folder != folder)
    ]
    for folder in sorted(outer):
        reasons = [place.reason for place in places if _inside(place.folder, (folder,))]
        _open_folder(drop_in, folder, "; ".join(dict.fromkeys(reasons)))
    by_folder = {place.folder: place for place in places}
    for folder in sorted(by_folder):
        # syncd itself makes missing folders further in
        if folder in outer or facts.owner_of(folder) is not None:
            _create_step(drop_in, by_folder[folder], facts)


def _open_folder(drop_in: DropIn, folder: str, reason: str) -> None:
    """Add the lines that make a folder writable for the service."""
    if _inside(folder, HIDDEN):
        drop_in.add("ProtectHome=tmpfs", "a destination is in a home; all other homes stay hidden")
        drop_in.add(f"BindPaths=-{quoted(folder)}", reason)
    else:
        drop_in.add(f"ReadWritePaths=-{quoted(folder)}", reason)
    if _inside(folder, TEMPORARY):
        drop_in.add("PrivateTmp=no", f"other programs have to see {folder}")
    if folder in ("/", *SYSTEM):
        drop_in.warnings.append(
            f"{folder} can be written as a whole, for {reason}; a folder of its own would be safer"
        )
    if any(_inside(own, (folder,)) for own in (ENVIRONMENT, DEFAULT_CONFIG)):
        drop_in.add(
            f"ReadOnlyPaths=-{posixpath.dirname(DEFAULT_CONFIG)}",
            f"it is inside {folder}, and no job writes there",
        )


def _create_step(drop_in: DropIn, place: WritableFolder, facts: SystemFacts) -> None:
    """Add the command that gives syncd the folder, if it lacks it.

    A folder that does not exist when the unit starts stays closed.
    """
    owner = facts.owner_of(place.folder)
    user, _, group = (place.owner or ("root" if drop_in.as_root else USER)).partition(":")
    if owner is None:
        drop_in.steps.append(
            f"install -d -m {place.mode:04o} -o {user} -g {group or user} {shell(place.folder)}"
        )
    elif not drop_in.as_root and owner != USER:
        drop_in.steps.append(f"chown {USER}: {shell(place.folder)}")


# --- secrets --------------------------------------------------------------------------------------


def _secrets(drop_in: DropIn, config: Config, facts: SystemFacts) -> None:
    variables = []
    for key, ref in secrets_of(config).items():
        what = key_text(key)
        if ref.kind == "credential":
            name = ref.value.replace("%", "%%")
            drop_in.add(f"LoadCredential={name}:/etc/syncd/{name}", what)
            drop_in.add(
                f"SetCredential={name}:\\n",
                "so that syncd reports a missing file by name",
            )
            if facts.owner_of(f"/etc/syncd/{ref.value}") is None:
                drop_in.steps.append(
                    f"install -m 0600 {shell(ref.value)} {shell(f'/etc/syncd/{ref.value}')}    #"
                    f" {what}"
                )
        elif ref.kind == "env":
            variables.append(f"{ref.value} ({what})")
        else:
            _file(drop_in, what, ref.value, facts)
    if variables:
        drop_in.add(
            f"EnvironmentFile=-{ENVIRONMENT}",
            f"{', '.join(variables)}; owner root, mode 0600, one NAME=value per line",
        )
    for identity in config.identities.values():
        if identity.ca_file is not None and _inside(identity.ca_file, HIDDEN):
            drop_in.add(
                f"BindReadOnlyPaths=-{quoted(identity.ca_file)}", f"github.{identity.name}.ca_file"
            )
    for name, job in config.jobs.items():
        file = job.require.signed_by
        if file is not None and _inside(file, HIDDEN):
            drop_in.add(f"BindReadOnlyPaths=-{quoted(file)}", f"jobs.{name}.require.signed_by")


def _file(drop_in: DropIn, what: str, path: str, facts: SystemFacts) -> None:
    if _inside(path, HIDDEN):
        drop_in.add(f"BindReadOnlyPaths=-{quoted(path)}", what)
    owner = "root" if drop_in.as_root else USER
    if facts.owner_of(path) not in (owner, None):
        drop_in.warnings.append(
            f"{path} ({what}) must be readable for {owner}: better write {{credential:"
            f" {posixpath.basename(path)}}}, which systemd reads as root; or: chown {owner}"
            f" {shell(path)}"
        )


# --- privileges -----------------------------------------------------------------------------------


def _hooks(drop_in: DropIn, hooks: Sequence[Needs]) -> None:
    for path, reason in (pair for needs in hooks for pair in needs.paths):
        if path == CLOSED_BY_UNIT:
            drop_in.add(
                "ReadOnlyPaths=",
                f"the unit closes {path}, and of one path the stricter line counts",
            )
        drop_in.add(f"ReadWritePaths=-{path}", reason)


def _privileges(
    drop_in: DropIn,
    config: Config,
    places: Sequence[WritableFolder],
    hooks: Sequence[Needs],
    facts: SystemFacts,
) -> None:
    wanted: dict[str, str] = {}
    for name, job in config.jobs.items():
        for owner in [job.owner, *(rule.owner for rule in job.paths)]:
            if owner and owner not in ("root", "root:root", "0", "0:0") and drop_in.as_root:
                wanted |= dict.fromkeys(OWNERSHIP_CAPABILITIES, f"{name}: owner {owner}") | wanted
        if job.hook_user:
            wanted |= (
                dict.fromkeys(
                    (*OWNERSHIP_CAPABILITIES, "CAP_SETUID", "CAP_SETGID", "CAP_KILL"),
                    f"{name}: hook_user {job.hook_user}",
                )
                | wanted
            )
            drop_in.add("SystemCallFilter=@setuid", f"{name}: hook_user {job.hook_user}")
    for place in places:
        owner = facts.owner_of(place.folder)
        if drop_in.as_root and owner is not None and owner not in ROOT_OWNERS:
            wanted |= {"CAP_DAC_OVERRIDE": f"{place.folder} belongs to {owner}"} | wanted
    for needs in hooks:
        wanted |= dict.fromkeys(needs.capabilities, needs.why_root) | wanted
    for capability, reason in wanted.items():
        drop_in.add(f"CapabilityBoundingSet={capability}", reason)


def _web_listener(drop_in: DropIn, config: Config) -> None:
    if config.web is None:
        return
    kind, _, rest = config.web.listen.partition(":")
    if kind == "fd":
        drop_in.add(
            "Sockets=syncd-web.socket", f"web.listen: {config.web.listen}", section="Service"
        )
        drop_in.files["syncd-web.socket"] = SOCKET.format(name=rest, unit=drop_in.unit)
        drop_in.steps.append("systemctl enable --now syncd-web.socket")
    elif kind == "unix":
        folder = posixpath.dirname(rest)
        if folder == "/run/syncd":
            drop_in.add("RuntimeDirectory=syncd", f"web.listen: {config.web.listen}")
            drop_in.add(
                "RuntimeDirectoryMode=0755", "so that a web server in front can reach the socket"
            )
        else:
            drop_in.add(f"ReadWritePaths=-{quoted(folder)}", f"web.listen: {config.web.listen}")
    elif (port := re.search(r":(\d+)$", config.web.listen)) and 0 < int(
        port.group(1)
    ) < FIRST_FREE_PORT:
        drop_in.add(
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", f"web.listen: {config.web.listen}"
        )
        drop_in.add("AmbientCapabilities=CAP_NET_BIND_SERVICE", "as above")


# --- text -----------------------------------------------------------------------------------------


def render(drop_in: DropIn, config: Path | str) -> str:
    """Return the drop-in as a file, with the reason above every line."""
    parts = [HEADER.format(config=config)]
    parts.append(
        f"# For {drop_in.unit}" + (":" if drop_in.as_root else ": nothing here needs root.")
    )
    parts += [f"#   {one}" for one in drop_in.why_root]
    for section in ("Unit", "Service"):
        inside = [(text, reason) for one, text, reason in drop_in.lines if one == section]
        if inside:
            parts += ["", f"[{section}]"]
            for text, reason in inside:
                parts += [f"# {clean(reason)}", text]
    return "\n".join(parts) + "\n"


def _inside(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
