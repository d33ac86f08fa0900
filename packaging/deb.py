"""Builds the Debian package: `dev deb [FOLDER]` leaves syncd_VERSION_ARCHITECTURE.deb in dist/.

The tree below /usr/lib/syncd is a virtual environment of the system's Python: syncd's wheel and the
wheels of constraints-hashed.txt, each checked against its hash. Installing the package needs no
network. debhelper makes the maintainer scripts from packaging/debian. Needs debhelper and dpkg-dev,
and pip's usual way to a package index.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import artefacts
import man
import supply

from syncd import __version__

HERE = Path(__file__).resolve().parents[1]
DEBIAN, UNITS = HERE / "packaging/debian", HERE / "systemd"
BUILD_TOOLS = ("dpkg-buildpackage", "dh")
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/syncd",
    "zsh": "usr/share/zsh/vendor-completions/_syncd",
    "fish": "usr/share/fish/vendor_completions.d/syncd.fish",
}
# Isolated (-I): no PYTHONPATH and no package of a user's own has a say in what root runs.
COMMAND = """#!/usr/lib/syncd/bin/python3 -I
from syncd.__main__ import run_process

run_process()
"""


def main() -> int:
    """Build the package and print its path."""
    missing = [tool for tool in BUILD_TOOLS if shutil.which(tool) is None]
    if missing:
        print(
            f"install debhelper and dpkg-dev first: {', '.join(missing)} not found", file=sys.stderr
        )
        return 1
    with tempfile.TemporaryDirectory(prefix="syncd-deb-") as folder:
        source = Path(folder, "syncd")
        moment = build_time()
        prepare(source, moment)
        install_tree(source / "root", moment)
        build_environment = {**os.environ, "SOURCE_DATE_EPOCH": str(int(moment.timestamp()))}
        # -d: nothing is compiled, so build-essential is not needed
        run("dpkg-buildpackage", "-b", "-d", "-us", "-uc", "-nc", cwd=source, env=build_environment)
        target = Path(*sys.argv[1:2] or [HERE / "dist"])
        target.mkdir(exist_ok=True)
        for file in Path(folder).glob("*.deb"):
            print(shutil.copy2(file, target / file.name))
    return 0


def run(*command: object, cwd: Path = HERE, env: Mapping[str, str] | None = None) -> str:
    """Run a build step and return its output; what it says goes to stderr if it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nfailed: {' '.join(map(str, command))}")
    return done.stdout


def build_time() -> datetime:
    """SOURCE_DATE_EPOCH, else the time of the last commit, else now.

    So two builds of one commit are equal.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None and (HERE / ".git").exists() and shutil.which("git"):
        given = run("git", "log", "-1", "--format=%ct").strip()
    return datetime.fromtimestamp(int(given), UTC) if given else datetime.now(UTC)


def package_version() -> str:
    """The version with the release that it is built for, like 0.1.0+deb12.

    The package of a newer Debian is the newer one.
    """
    system = platform.freedesktop_os_release()
    short = {"debian": "deb"}.get(system["ID"], system["ID"])
    return f"{__version__}+{short}{system.get('VERSION_ID', '')}"


# --- the source tree for debhelper ----------------------------------------------------------------


def prepare(source: Path, moment: datetime) -> None:
    """debian/ with the changelog and the files of systemd/, and the documents."""
    shutil.copytree(DEBIAN, source / "debian")
    for unit in UNITS.glob("*.[st]*"):
        target = unit.name if unit.stem == "syncd" else f"syncd.{unit.name}"
        shutil.copy(unit, source / "debian" / target)
    shutil.copy(UNITS / "sysusers.conf", source / "debian/syncd.sysusers")
    (source / "debian/changelog").write_text(changelog(moment))
    for name in ("CHANGELOG.md", "README.md", "SECURITY.md"):
        shutil.copy(HERE / name, source / name)
    left_out = shutil.ignore_patterns("development", "__pycache__", "conf.py")
    shutil.copytree(HERE / "docs", source / "docs", ignore=left_out)


def changelog(moment: datetime) -> str:
    """The package's changelog: one entry, which points to CHANGELOG.md."""
    control = (DEBIAN / "control").read_text()
    maintainer = control.partition("Maintainer: ")[2].partition("\n")[0]
    return (
        f"syncd ({package_version()}) stable; urgency=medium\n\n"
        f"  * Version {__version__}; its changes are in changelog.gz (CHANGELOG.md).\n\n"
        f" -- {maintainer}  {format_datetime(moment)}\n"
    )


# --- what the package installs --------------------------------------------------------------------


def install_tree(root: Path, moment: datetime) -> None:
    """Everything but the units: the program, completions, man pages and the example."""
    virtual_environment(root / "usr/lib/syncd", moment)
    write(root / "usr/bin/syncd", COMMAND, 0o755)
    write(root / "etc/syncd/config.yaml.example", (HERE / "config.example.yaml").read_text())
    for shell, place in COMPLETIONS.items():
        write(root / place, run(sys.executable, "-m", "syncd", "completion", shell))
    for name, page in man.pages(f"{moment:%Y-%m-%d}").items():
        write(root / "usr/share/man/man1" / name, page)


def write(file: Path, content: str, mode: int = 0o644) -> None:
    """Write a file and the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    file.chmod(mode)


def virtual_environment(place: Path, moment: datetime) -> None:
    """A virtual environment of the system's Python with syncd and what it needs.

    It has no commands but python3.
    """
    python = Path("/usr/bin/python3").resolve()
    site = place / "lib" / python.name / "site-packages"
    site.mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin/python3").symlink_to(python)
    write(place / "pyvenv.cfg", f"home = {python.parent}\ninclude-system-site-packages = false\n")
    with tempfile.TemporaryDirectory() as folder:
        needed = Path(folder, "requirements.txt")
        needed.write_text(supply.HASHED.read_text().partition(supply.SECOND_PART)[0])
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        [wheel] = artefacts.build(HERE, Path(folder), int(moment.timestamp()), ("wheel",))
        install = (
            *pip,
            "--python",
            place / "bin/python3",
            "install",
            "-q",
            "--no-deps",
            "--no-compile",
        )
        run(*install, "--require-hashes", "--only-binary", ":all:", "-r", needed)
        run(*install, "--no-index", wheel)
    records = [*site.glob("*.dist-info/direct_url.json"), *site.glob("*.dist-info/RECORD")]
    for file in [*records, *(place / "bin").iterdir()]:
        if file.name != "python3":  # scripts that name the build's folder, and records of them
            file.unlink()


if __name__ == "__main__":
    sys.exit(main())
