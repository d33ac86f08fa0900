"""What a configuration needs of its unit beyond what every unit of ours gives: a pure judgment, and its text as a systemd drop-in.

Opens nothing that no job needs, and says beside each line which job does. Knows the disk only through `Ground`, so that a test brings
its own. Sources: systemd.exec(5), systemd.service(5), capabilities(7).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct, field

from syncd.config.model import Config, secrets_of
from syncd.config.yaml_reader import key_text
from syncd.models import Job, PathRule, Publish
from syncd.systemd_unit.hook_requirements import Needs, needs_of

DEFAULT_CONFIG = "/etc/syncd/config.yaml"
DEFAULT_STATE = "/var/lib/syncd"
DEFAULT_PROGRAM = "/usr/bin/syncd"
ENVIRONMENT = "/etc/syncd/environment"
USER = "syncd"
SYSTEM = (
    "/etc",
    "/usr",
    "/boot",
    "/root",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
)  # root's own on every Debian and Fedora
HIDDEN = ("/home", "/root", "/run/user")  # what ProtectHome= hides
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  (what PrivateTmp= replaces; nothing is made there)
ROOT_OWNERS = ("root", "0")
GIVING = ("CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE")
CLOSED_BY_THE_UNIT = "/run"
FIRST_FREE_PORT = 1024


class SystemFacts(Struct, frozen=True):
    """What the judgment asks of the machine. `owner_of` is the name (or number) of who owns a path, None where nothing stands."""

    owner_of: Callable[[str], str | None]
    program: str = DEFAULT_PROGRAM


class Place(Struct, frozen=True):
    """A folder that must be writable, for whom, and with what mode and owner it is made where it does not stand."""

    folder: str
    reason: str
    mode: int
    owner: str | None


class DropIn(Struct):
    """`unit` is what it belongs to, `lines` are (section, text, reason), `why_root` says what the user syncd could not do, `steps` are commands
    to run before the service starts, `remarks` what somebody should know first, and `files` other units that belong to it.
    """

    unit: str
    why_root: list[str] = field(default_factory=list)
    lines: list[tuple[str, str, str]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def as_root(self) -> bool:
        return bool(self.why_root)

    def add(self, text: str, reason: str, section: str = "Service") -> None:
        if (section, text) not in [(one, other) for one, other, _ in self.lines]:
            self.lines.append((section, text, reason))


def judge(config: Config, ground: SystemFacts, timer: bool = False) -> DropIn:
    """The drop-in of this configuration; for syncd-sync.service where a timer is to start it, else for the daemon."""
    places = list(_places(config))
    hooks = [needs for job in config.jobs.values() for needs in needs_of(job)]
    why_root = list(
        dict.fromkeys(
            [
                *_owners(config),
                *_system_folders(places, ground),
                *(needs.why_root for needs in hooks if needs.why_root),
            ]
        )
    )
    made = DropIn(
        "syncd-sync.service" if timer else "syncd-root.service" if why_root else "syncd.service",
        why_root,
    )
    if timer and why_root:
        made.add(
            "User=root",
            "what needs root is named above; every capability stays away but those below",
        )
        made.add("Group=root", "as User=")
        made.add(
            "SystemCallFilter=@chown", "SQLite and hooks of root's call chown on files of their own"
        )
    _command(made, config, ground, timer)
    _state(made, config, ground)
    _hooks(made, hooks)
    _folders(made, places, ground)
    _secrets(made, config, ground)
    _privileges(made, config, places, hooks, ground)
    _listener(made, config)
    return made


# --- who runs it ------------------------------------------------------------------------------------------------------


def _owners(config: Config) -> Iterator[str]:
    for name, job in config.jobs.items():
        for owner in [job.owner, *(rule.owner for rule in job.paths)]:
            if owner and owner.partition(":")[0] != USER:
                yield f"{name}: owner {owner} can be given by root alone"
        if job.hook_user:
            yield f"{name}: only root may run hooks as {job.hook_user}"


def _system_folders(places: Iterable[Place], ground: SystemFacts) -> Iterator[str]:
    for place in places:
        if _inside(place.folder, SYSTEM) and _owner_above(place.folder, ground) != USER:
            yield f"{place.folder} belongs to root"


def _owner_above(path: str, ground: SystemFacts) -> str | None:
    """Whose the deepest folder is that stands there."""
    while path != "/":
        owner = ground.owner_of(path)
        if owner is not None:
            return owner
        path = posixpath.dirname(path)
    return "root"


# --- what it starts and where it remembers ------------------------------------------------------------------------------


def _command(made: DropIn, config: Config, ground: SystemFacts, timer: bool) -> None:
    own_config = str(config.path) != DEFAULT_CONFIG
    if ground.program == DEFAULT_PROGRAM and not own_config:
        return
    start = quoted(ground.program, command=True) + (
        f" -c {quoted(str(config.path), command=True)}" if own_config else ""
    )
    reason = (
        "the configuration is not in its usual place" if own_config else "where syncd is installed"
    )
    made.add("ExecStart=", "an empty line first: a list of commands is replaced, not added to")
    made.add(f"ExecStart={start} {'sync' if timer else 'run'}", reason)
    if not timer:
        made.add("ExecReload=", "as above")
        made.add(
            f"ExecReload={start} -q check --without-secrets",
            "a wrong configuration is refused before the daemon hears of it",
        )
        made.add("ExecReload=/bin/sh -c 'kill -HUP $$MAINPID'", "as in the unit")
    if _inside(ground.program, HIDDEN):
        made.remarks.append(
            f"{ground.program} is hidden from services by ProtectHome=: install syncd where everybody may read, like /opt/syncd"
        )
    if _inside(str(config.path), HIDDEN):
        made.remarks.append(
            f"{config.path} is hidden from services by ProtectHome=: move it to /etc/syncd"
        )


def _state_mode(made: DropIn, config: Config) -> None:
    """systemd sets the mode at each start, also while a hook of a command by hand is running."""
    hook_users = [job.hook_user for job in config.jobs.values() if job.hook_user]
    reasons = [
        f"hook_user {user} passes it on the way to its staged files" for user in hook_users[:1]
    ]
    if config.state_group:
        reasons.append(f"state_group {config.state_group} may read it")
    mode = (0o750 if config.state_group else 0o700) | (0o011 if hook_users else 0)
    if reasons:
        made.add(f"StateDirectoryMode={mode:04o}", "; ".join(reasons))


def _state(made: DropIn, config: Config, ground: SystemFacts) -> None:
    state = str(config.state)
    if _inside(state, ("/var/lib",)) and state != "/var/lib":
        _state_mode(made, config)
    if state == DEFAULT_STATE:
        return
    if _inside(state, ("/var/lib",)) and state != "/var/lib":
        made.add("StateDirectory=", "the state is elsewhere: see state: in the configuration")
        made.add(
            f"StateDirectory={quoted(posixpath.relpath(state, '/var/lib'))}",
            "state: in the configuration; systemd makes it",
        )
        return
    made.add("StateDirectory=", "the state is elsewhere: see state: in the configuration")
    made.add(f"ReadWritePaths=-{quoted(state)}", "state: in the configuration")
    owner = "root" if made.as_root else USER
    if ground.owner_of(state) != owner:
        made.steps.append(f"install -d -m 0700 -o {owner} -g {owner} {shell(state)}")


# --- folders ------------------------------------------------------------------------------------------------------------


def _places(config: Config) -> Iterator[Place]:
    for name, job in config.jobs.items():
        for rule in job.paths:
            yield _place(name, job, rule)


def _place(name: str, job: Job, rule: PathRule) -> Place:
    mode, owner = rule.dir_mode or job.dir_mode, rule.owner or job.owner
    if job.publish is Publish.SYMLINK:
        return Place(
            posixpath.dirname(rule.to),
            f"{name} keeps the link {posixpath.basename(rule.to)} and the trees behind it here",
            mode,
            owner,
        )
    if rule.directory:
        return Place(rule.to, f"{name} mirrors {rule.source}/ here", mode, owner)
    return Place(
        posixpath.dirname(rule.to),
        f"{name} makes a new {posixpath.basename(rule.to)} beside the old one and renames it",
        mode,
        owner,
    )


def _folders(made: DropIn, places: Sequence[Place], ground: SystemFacts) -> None:
    outer = [
        folder
        for folder in dict.fromkeys(place.folder for place in places)
        if not any(_inside(folder, (other.folder,)) for other in places if other.folder != folder)
    ]
    for folder in sorted(outer):
        reason = "; ".join(
            dict.fromkeys(place.reason for place in places if _inside(place.folder, (folder,)))
        )
        if _inside(folder, HIDDEN):
            made.add("ProtectHome=tmpfs", "a mirror is in a home: all the others stay hidden")
            made.add(f"BindPaths=-{quoted(folder)}", reason)
        else:
            made.add(f"ReadWritePaths=-{quoted(folder)}", reason)
        if _inside(folder, TEMPORARY):
            made.add("PrivateTmp=no", f"{folder} is to be seen by others")
        if folder in ("/", *SYSTEM):
            made.remarks.append(
                f"{folder} can be written as a whole, for {reason}; a folder of its own would be safer"
            )
        if any(_inside(own, (folder,)) for own in (ENVIRONMENT, DEFAULT_CONFIG)):
            made.add(
                f"ReadOnlyPaths=-{posixpath.dirname(DEFAULT_CONFIG)}",
                f"it is inside {folder}, and no job writes there",
            )
    for place in sorted(
        {place.folder: place for place in places}.values(), key=lambda place: place.folder
    ):
        if (
            place.folder in outer or ground.owner_of(place.folder) is not None
        ):  # syncd itself makes what is missing further in
            _make(made, place, ground)


def _make(made: DropIn, place: Place, ground: SystemFacts) -> None:
    """The command that gives syncd the folder, where it lacks it: a folder that does not stand when the unit starts stays closed."""
    owner = ground.owner_of(place.folder)
    user, _, group = (place.owner or ("root" if made.as_root else USER)).partition(":")
    if owner is None:
        made.steps.append(
            f"install -d -m {place.mode:04o} -o {user} -g {group or user} {shell(place.folder)}"
        )
    elif not made.as_root and owner != USER:
        made.steps.append(f"chown {USER}: {shell(place.folder)}")


# --- secrets ------------------------------------------------------------------------------------------------------------


def _secrets(made: DropIn, config: Config, ground: SystemFacts) -> None:
    variables = []
    for key, ref in secrets_of(config).items():
        what = key_text(key)
        if ref.kind == "credential":
            name = ref.value.replace("%", "%%")
            made.add(f"LoadCredential={name}:/etc/syncd/{name}", what)
            made.add(
                f"SetCredential={name}:\\n",
                "so that a missing file is a message of syncd's that names it",
            )
            if ground.owner_of(f"/etc/syncd/{ref.value}") is None:
                made.steps.append(
                    f"install -m 0600 {shell(ref.value)} {shell(f'/etc/syncd/{ref.value}')}    # {what}"
                )
        elif ref.kind == "env":
            variables.append(f"{ref.value} ({what})")
        else:
            _file(made, what, ref.value, ground)
    if variables:
        made.add(
            f"EnvironmentFile=-{ENVIRONMENT}",
            f"{', '.join(variables)}; mode 0600, root's, one NAME=value a line",
        )
    for identity in config.identities.values():
        if identity.ca_file is not None and _inside(identity.ca_file, HIDDEN):
            made.add(
                f"BindReadOnlyPaths=-{quoted(identity.ca_file)}", f"github.{identity.name}.ca_file"
            )


def _file(made: DropIn, what: str, path: str, ground: SystemFacts) -> None:
    if _inside(path, HIDDEN):
        made.add(f"BindReadOnlyPaths=-{quoted(path)}", what)
    owner = "root" if made.as_root else USER
    if ground.owner_of(path) not in (owner, None):
        made.remarks.append(
            f"{path} ({what}) must be readable for {owner}: better write {{credential: {posixpath.basename(path)}}}, which systemd reads as root; or: chown {owner} {shell(path)}"
        )


# --- privileges ---------------------------------------------------------------------------------------------------------


def _hooks(made: DropIn, hooks: Sequence[Needs]) -> None:
    for path, reason in (pair for needs in hooks for pair in needs.paths):
        if path == CLOSED_BY_THE_UNIT:
            made.add(
                "ReadOnlyPaths=",
                f"the unit closes {path}, and of one path the stricter line counts",
            )
        made.add(f"ReadWritePaths=-{path}", reason)


def _privileges(
    made: DropIn,
    config: Config,
    places: Sequence[Place],
    hooks: Sequence[Needs],
    ground: SystemFacts,
) -> None:
    wanted: dict[str, str] = {}
    for name, job in config.jobs.items():
        for owner in [job.owner, *(rule.owner for rule in job.paths)]:
            if owner and owner not in ("root", "root:root", "0", "0:0") and made.as_root:
                wanted |= dict.fromkeys(GIVING, f"{name}: owner {owner}") | wanted
        if job.hook_user:
            wanted |= (
                dict.fromkeys(
                    (*GIVING, "CAP_SETUID", "CAP_SETGID", "CAP_KILL"),
                    f"{name}: hook_user {job.hook_user}",
                )
                | wanted
            )
            made.add("SystemCallFilter=@setuid", f"{name}: hook_user {job.hook_user}")
    for place in places:
        owner = ground.owner_of(place.folder)
        if made.as_root and owner is not None and owner not in ROOT_OWNERS:
            wanted |= {"CAP_DAC_OVERRIDE": f"{place.folder} belongs to {owner}"} | wanted
    for needs in hooks:
        wanted |= dict.fromkeys(needs.capabilities, needs.why_root) | wanted
    for capability, reason in wanted.items():
        made.add(f"CapabilityBoundingSet={capability}", reason)


def _listener(made: DropIn, config: Config) -> None:
    if config.web is None:
        return
    kind, _, rest = config.web.listen.partition(":")
    if kind == "fd":
        made.add("Sockets=syncd-web.socket", f"web.listen: {config.web.listen}", section="Service")
        made.files["syncd-web.socket"] = SOCKET.format(name=rest, unit=made.unit)
        made.steps.append("systemctl enable --now syncd-web.socket")
    elif kind == "unix":
        folder = posixpath.dirname(rest)
        if folder == "/run/syncd":
            made.add("RuntimeDirectory=syncd", f"web.listen: {config.web.listen}")
            made.add(
                "RuntimeDirectoryMode=0755", "so that a web server in front can reach the socket"
            )
        else:
            made.add(f"ReadWritePaths=-{quoted(folder)}", f"web.listen: {config.web.listen}")
    elif (port := re.search(r":(\d+)$", config.web.listen)) and 0 < int(
        port.group(1)
    ) < FIRST_FREE_PORT:
        made.add("CapabilityBoundingSet=CAP_NET_BIND_SERVICE", f"web.listen: {config.web.listen}")
        made.add("AmbientCapabilities=CAP_NET_BIND_SERVICE", "as above")


# --- text ---------------------------------------------------------------------------------------------------------------

SOCKET = """\
# syncd: written by `syncd init --systemd`: the socket of web.listen. Another address: systemctl edit syncd-web.socket

[Socket]
ListenStream=127.0.0.1:8480
FileDescriptorName={name}
Service={unit}

[Install]
WantedBy=sockets.target
"""
HEAD = "# syncd: written by `syncd init --systemd` from {config}; write it again after changes there. Lines of your own belong in another drop-in."


def render(made: DropIn, config: Path | str) -> str:
    """The drop-in as a file, the reason above every line."""
    parts = [HEAD.format(config=config)]
    parts.append(f"# For {made.unit}" + (":" if made.as_root else ": nothing here needs root."))
    parts += [f"#   {one}" for one in made.why_root]
    for section in ("Unit", "Service"):
        inside = [(text, reason) for one, text, reason in made.lines if one == section]
        if inside:
            parts += ["", f"[{section}]"]
            for text, reason in inside:
                parts += [f"# {clean(reason)}", text]
    return "\n".join(parts) + "\n"


def quoted(path: str, command: bool = False) -> str:
    """A path as systemd takes it back: specifiers doubled, and in quotes where it must be."""
    text = path.replace("%", "%%")
    if command:
        text = text.replace("$", "$$")
    if re.fullmatch(r"[\w./@%:+,~$-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shell(path: str) -> str:
    import shlex

    return shlex.quote(path)


def clean(text: str) -> str:
    """No name of the configuration's ends the comment's line."""
    return re.sub(r"[\x00-\x1f\x7f\\]", "?", text)


def _inside(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
