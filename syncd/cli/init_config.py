"""Writes the first configuration: where it goes, who may read it, and which command comes next.

The text comes from the questions of `wizard`, or is the commented example.
"""

from __future__ import annotations

import grp
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

from syncd.cache_file import find_default_config
from syncd.cli.common import Settings, say
from syncd.cli.folding import terminal_columns
from syncd.config.convert import default_state
from syncd.config.load import SYSTEM
from syncd.errors import ConfigError
from syncd.mirror.free_space import nearest_existing_dir
from syncd.owners import owner_name
from syncd.safe_open import make_folders, open_folder
from syncd.systemd_unit.unit_text import shell
from syncd.trusted_path import state_owner

SERVICE_GROUP = "syncd"
DECLINED = 1


def write_first_config(settings: Settings) -> int:
    """Write the first configuration, and print the next commands; return the exit code.

    Raises ConfigError where there is one, or where it can't be written.
    """
    place = _place(settings)
    if os.path.lexists(place):
        raise _exists_error(settings, place)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        _write_new(place, example(), 0o644, None)
        say(settings, f"wrote {place}")
        _say_next(settings, place, ["check --online", "plan --diff", "sync"])
        return 0
    return _ask_and_write(settings, place)


def example() -> str:
    """Return config.example.yaml, from the wheel or from the checkout."""
    inside = resources.files("syncd") / "config.example.yaml"
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[2] / "config.example.yaml").read_text(encoding="utf-8")


def _ask_and_write(settings: Settings, place: Path) -> int:
    from syncd.cli.logging_setup import set_up_logging
    from syncd.cli.wizard.run import run_wizard

    _check_writable(place)
    set_up_logging(settings.verbose, settings.quiet)
    made = run_wizard(place, settings.environ)
    if made is None:
        return DECLINED
    mode, group = _access()
    _write_new(place, made.text, mode, group)
    say(settings, f"\nwrote {place} ({mode:04o})")
    login = ["login me"] if made.kind == "login" else []
    check = [] if made.confirmed else ["check --online"]
    _say_next(settings, place, [*login, *check, "plan", "sync"])
    return 0


# --- the file -------------------------------------------------------------------------------------


def _place(settings: Settings) -> Path:
    if settings.config:
        given = Path(settings.config)
        return given / "config.yaml" if given.is_dir() else given
    if os.geteuid() == 0:
        return SYSTEM
    home = (
        settings.environ.get("XDG_CONFIG_HOME")
        or f"{settings.environ.get('HOME') or Path.home()}/.config"
    )
    return Path(home) / "syncd" / "config.yaml"


def _exists_error(settings: Settings, place: Path) -> ConfigError:
    return ConfigError(
        f"{place} is there already, and stays as it is",
        id="config/exists",
        hint=f"edit it, then: {_command(settings, place)} check; or name another file: syncd -c"
        " FILE init",
    )


def _check_writable(place: Path) -> None:
    """Raise ConfigError before the first question if the answers could not be written."""
    folder = nearest_existing_dir(str(place.absolute().parent))
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise _not_writable_error(place, "Permission denied")


def _not_writable_error(place: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{place} can't be written: {reason}",
        id="config/not-writable",
        hint="name another place with -c, or run it as who may write there",
    )


def _access() -> tuple[int, int | None]:
    """Return the mode of the file, and its group.

    A user's own is for the user alone. As root, the service's user has to read it: its group may,
    or everyone where there is no such group yet. It holds no secret, only the paths of secrets.
    """
    if os.geteuid() != 0:
        return 0o600, None
    with suppress(KeyError):
        return 0o640, grp.getgrnam(SERVICE_GROUP).gr_gid
    return 0o644, None


def _write_new(place: Path, text: str, mode: int, group: int | None) -> None:
    """Create the file as a whole, or not at all; never over another one."""
    content = text.encode()
    try:
        make_folders(os.path.abspath(place.parent), 0o755)
        folder = open_folder(place.parent)
        try:
            _create(folder, place.name, content, mode, group)
        finally:
            os.close(folder)
    except OSError as error:
        raise _not_writable_error(place, str(error.strerror)) from error


def _create(folder: int, name: str, content: bytes, mode: int, group: int | None) -> None:
    """Create the file in the open `folder`; remove it where it can't be written. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, mode)
            file.write(content)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


# --- what comes next ------------------------------------------------------------------------------

REMARKS = {
    "login me": "in any browser",
    "check --online": "every mistake, and whether GitHub agrees",
    "plan": "what a sync would do; nothing is written",
    "plan --diff": "what a sync would do; nothing is written",
}


def _say_next(settings: Settings, place: Path, commands: list[str]) -> None:
    say(settings, "next:")
    for line in _aligned(settings, place, commands):
        say(settings, f"  {line}")
    if str(place) == str(SYSTEM):
        say(settings, "and as a service:\n  syncd init --systemd --install")


def _aligned(settings: Settings, place: Path, commands: list[str]) -> Iterator[str]:
    """Yield the commands, with remarks beside them, or below where the terminal is too narrow."""
    lines = [f"{_command(settings, place)} {command}" for command in commands]
    remarks = [f"# {REMARKS[command]}" if command in REMARKS else "" for command in commands]
    width, columns = max(map(len, lines)), terminal_columns(err=True)
    is_narrow = columns is not None and width + max(map(len, remarks)) + 5 > columns
    for line, remark in zip(lines, remarks, strict=True):
        if is_narrow and remark:
            yield line
            yield f"  {remark}"
        else:
            yield f"{line:<{width}}   {remark}".rstrip()


def _command(settings: Settings, place: Path) -> str:
    """Return `syncd` as it has to be called for this configuration and its state.

    With -c where the file is not found without it, and as the state's owner where that is another
    user.
    """
    found = None if settings.environ.get("SYNCD_CONFIG") else find_default_config(settings.environ)
    own = os.path.lexists(place) and found == str(place)
    option = "" if own else f" -c {shell(str(settings.config or place))}"
    owner = state_owner(default_state(place, settings.environ))
    prefix = "" if owner in (None, os.geteuid()) else f"sudo -u {owner_name(owner or 0)} "
    return f"{prefix}syncd{option}"
