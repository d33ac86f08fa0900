"""`syncd init`: writes a first configuration, or with `--systemd` the drop-in of one.

Nothing that syncd did not write is overwritten: a configuration stays, and a unit or drop-in is
replaced only if its first line says that it is syncd's.
"""

from __future__ import annotations

import os
import pwd
import sys
from contextlib import suppress
from importlib import resources
from pathlib import Path

import click

from syncd.cli.common import Settings, say
from syncd.cli.init_config import write_first_config
from syncd.cli.logging_setup import set_up_logging
from syncd.config.load import find_config, load_config
from syncd.config.model import Config
from syncd.errors import ConfigError, MirrorError
from syncd.output import echo
from syncd.safe_open import make_folders, replace_file
from syncd.systemd_unit import dropin
from syncd.systemd_unit.unit_text import clean

OWN_FIRST_LINE = "# syncd:"
NAME = "50-syncd.conf"
UNIT_DIR = Path("/etc/systemd/system")
UNITS = ("syncd.service", "syncd-root.service", "syncd-sync.service", "syncd-sync.timer")
OWN = {f"etc/systemd/system/{name}": name for name in UNITS} | {
    "etc/sysusers.d/syncd.conf": "sysusers.conf",
    "etc/tmpfiles.d/syncd.conf": "tmpfiles.conf",
}


@click.command(
    name="init", short_help="Write a commented configuration, or the systemd drop-in of one."
)
@click.option(
    "--systemd",
    is_flag=True,
    help=(
        "Print what the unit needs for this configuration, as a drop-in, each line with its reason."
    ),
)
@click.option(
    "--timer",
    is_flag=True,
    help=(
        "With --systemd: for syncd-sync.service and its timer (the cron way) instead of the daemon."
    ),
)
@click.option(
    "--install",
    is_flag=True,
    help="With --systemd: put the units and the drop-in where systemd looks for them.",
)
@click.option(
    "--root",
    default="/",
    metavar="DIR",
    show_default=True,
    help="With --install: the tree to put them into, like an image's.",
)
@click.pass_obj
def command(settings: Settings, systemd: bool, timer: bool, install: bool, root: str) -> int:
    """Write a configuration to start from: to -c FILE, else to /etc/syncd/config.yaml as root and
    to ~/.config/syncd/config.yaml as another user. On a terminal it asks for the identity, the
    repository, the ref, the path and the destination, and checks each answer with GitHub before
    the next question. Elsewhere it writes the commented example. It never overwrites a file.
    """
    if not systemd:
        if timer or install or root != "/":
            raise click.UsageError("--timer, --install and --root go with --systemd")
        return write_first_config(settings)
    config = _load(settings)
    made = dropin.build(config, dropin.SystemFacts(owner_of, program()), timer)
    text = dropin.render(made, config.path)
    if install:
        _install(settings, made, text, Path(root))
    else:
        echo(text, nl=False)
    _next_steps(settings, made, Path(root) if install else None, timer)
    return 0


# --- the service ----------------------------------------------------------------------------------


def _load(settings: Settings) -> Config:
    """Load the configuration as the service will: by an absolute path, with the unit's state
    folder.
    """
    set_up_logging(settings.verbose, settings.quiet)
    path = Path(os.path.abspath(find_config(settings.config, settings.environ)))
    return load_config(path, {**settings.environ, "STATE_DIRECTORY": dropin.DEFAULT_STATE})


def owner_of(path: str) -> str | None:
    """Return the name or number of the path's owner, None if it does not exist."""
    try:
        uid = os.stat(path).st_uid
    except OSError:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def program() -> str:
    """Return the path of the command `syncd`, as the unit has to name it."""
    called = Path(sys.argv[0])
    beside = Path(sys.executable).with_name("syncd")
    found = called if called.name == "syncd" and called.is_file() else beside
    return os.path.realpath(found)


def outdated_dropin(settings: Settings) -> str | None:
    """Return the installed drop-in that does not match the configuration, or None.

    A drop-in of another configuration does not count.
    """
    config = _load(settings)
    for timer in (False, True):
        made = dropin.build(config, dropin.SystemFacts(owner_of, program()), timer)
        file = UNIT_DIR / f"{made.unit}.d" / NAME
        wanted = dropin.render(made, config.path)
        with suppress(OSError):
            found = file.read_text()
            if found.startswith(wanted.splitlines()[0]) and _without_comments(
                found
            ) != _without_comments(wanted):  # of this very configuration
                return str(file)
    return None


def _without_comments(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def shipped(name: str) -> str:
    """Return the content of a file that comes with syncd, from the wheel or from the checkout."""
    inside = resources.files("syncd") / "_systemd" / name
    if inside.is_file():
        return inside.read_text()
    return (Path(__file__).resolve().parents[2] / "systemd" / name).read_text()


def packaged(root: Path) -> bool:
    """Return whether a package brought the units and the user; copies in /etc would hide them."""
    return (root / "usr/lib/systemd/system/syncd.service").exists()


def _install(settings: Settings, made: dropin.DropIn, text: str, root: Path) -> None:
    """Write the units, the user and the drop-in to where systemd looks for them.

    Where a package brought the units and the user, only the drop-in is written.
    Raises ConfigError before anything that syncd did not write is replaced.
    """
    folder = root / "etc/systemd/system"
    files = {} if packaged(root) else {root / name: shipped(source) for name, source in OWN.items()}
    files |= {folder / name: content for name, content in made.files.items()}
    files[folder / f"{made.unit}.d" / NAME] = text
    strangers = [
        str(file)
        for file in files
        if file.exists() and not file.read_text(errors="replace").startswith(OWN_FIRST_LINE)
    ]
    if strangers:
        raise ConfigError(
            f"syncd did not write {', '.join(strangers)}, and does not replace it",
            id="config/foreign-unit",
            hint="move it away; lines of your own go into another drop-in, like 60-local.conf",
        )
    for file, content in files.items():
        if file.exists() and file.read_text() == content:
            continue
        try:
            _replace(file, content)
        except OSError as error:
            raise MirrorError(
                f"{file} can't be written: {error.strerror}",
                path=str(file),
                id="mirror/unit-not-writable",
                hint="run it as root, or into another tree with --root",
            ) from error
        say(settings, f"wrote {file}")


def _replace(file: Path, content: str) -> None:
    make_folders(os.path.abspath(file.parent), 0o755)
    replace_file(file, content.encode(), 0o644)


def _next_steps(
    settings: Settings, made: dropin.DropIn, installed: Path | None, timer: bool
) -> None:
    """Say what is left to do; `installed` is the tree that the units were put into."""
    if made.as_root and not timer:
        say(
            settings,
            "this configuration needs syncd-root.service:\n"
            + "\n".join(f"  {clean(one)}" for one in made.why_root),
        )
    for remark in made.warnings:
        say(settings, f"! {clean(remark)}")
    if installed is None:
        say(
            settings,
            f"it belongs to /etc/systemd/system/{made.unit}.d/{NAME}; as root, `syncd init"
            f" --systemd{' --timer' if timer else ''} --install` puts it there, with the units",
        )
        if made.steps:
            say(
                settings,
                "before it starts, as root:\n"
                + "\n".join(f"  {clean(step)}" for step in made.steps),
            )
        return
    unit = "syncd-sync.timer" if timer else made.unit
    others = [
        one
        for one in ("syncd.service", "syncd-root.service", "syncd-sync.timer")
        if one != unit and os.path.lexists(_wanted_by(one))
    ]
    steps = [*_units_steps(installed), "systemctl daemon-reload", *made.steps]
    steps += [
        f"systemctl disable --now {one}    # one of them runs the jobs, not two" for one in others
    ]
    steps += [f"systemctl enable {unit}", f"systemctl restart {unit}"]
    say(settings, "next, as root:\n" + "\n".join(f"  {clean(step)}" for step in steps))


def _units_steps(root: Path) -> list[str]:
    """Return the commands that make the user, or remove copies that hide a package's files."""
    if not packaged(root):
        return ["systemd-sysusers", "systemd-tmpfiles --create /etc/tmpfiles.d/syncd.conf"]
    hiding = [f"/{name}" for name in OWN if (root / name).exists()]
    return [f"rm {' '.join(hiding)}    # they hide the package's own"] if hiding else []


def _wanted_by(unit: str) -> str:
    target = "timers" if unit.endswith(".timer") else "multi-user"
    return f"/etc/systemd/system/{target}.target.wants/{unit}"
