"""The Debian package in a clean Debian with a booted systemd.

It is installed, upgraded, removed and purged; its man pages and completions are used.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd import __version__
from tests.package.conftest import EPOCH, ROOT
from tests.systemd.machine import CannotBoot, Machine, booted, entered, tree, until
from tests.systemd.site import Site
from tests.systemd.site import site as a_site

pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("deb"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a machine is booted"),
]
BEFORE = "0.0.9"
MIRROR = "/srv/web/nginx.conf"
QUICK = {"DPKG_DEB_COMPRESSOR_TYPE": "xz", "DPKG_DEB_COMPRESSOR_LEVEL": "0"}
FIRST = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS")
LAST = ("EXIT STATUS", "FILES", "ENVIRONMENT", "SEE ALSO")
NOT_FOUND = "No matching distribution found"


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    for tool in ("dpkg-buildpackage", "dh"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: debhelper and dpkg-dev build the package")
    folder = tmp_path_factory.mktemp("deb")
    done = subprocess.run(
        [sys.executable, ROOT / "packaging/deb.py", folder],
        env={**os.environ, **QUICK, "SOURCE_DATE_EPOCH": str(EPOCH)},
        capture_output=True,
        text=True,
        check=False,
    )
    if NOT_FOUND in done.stderr:
        pytest.skip(f"pip reaches no package index: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr[-3000:]
    [found] = folder.glob("syncd_*.deb")
    return found


@pytest.fixture(scope="module")
def older(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package as version 0.0.9."""
    folder = tmp_path_factory.mktemp("older")
    subprocess.run(["dpkg-deb", "-R", deb, folder / "tree"], check=True)
    [module] = (folder / "tree/usr/lib/syncd/lib").glob("python3.*/site-packages/syncd/__init__.py")
    for file in (folder / "tree/DEBIAN/control", module):
        text = file.read_text()
        assert __version__ in text
        file.write_text(text.replace(__version__, BEFORE))
    made = folder / "syncd-before.deb"
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "-b", folder / "tree", made], check=True)
    return made


@pytest.fixture(scope="module")
def machine(deb: Path, older: Path) -> Iterator[Machine]:
    """A booted Debian without syncd; both packages are in /root."""

    def bring(root: Path) -> None:
        shutil.copy(deb, root / "root/syncd.deb")
        shutil.copy(older, root / "root/before.deb")

    with contextlib.ExitStack() as stack:
        try:
            scratch = Path(tempfile.mkdtemp(prefix="syncd-machine-"))
            made = stack.enter_context(booted(tree(), bring, scratch))
        except CannotBoot as error:
            pytest.skip(f"no machine can be booted here: {error}")
        yield made


@pytest.fixture
def site(machine: Machine) -> Iterator[Site]:
    with a_site(machine) as made:
        yield made


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """The machine with the package of this checkout."""
    apt(machine, "install", "/root/syncd.deb")
    return machine


def apt(machine: Machine, *arguments: str) -> str:
    """apt-get without questions and recommended packages; the machine has no network."""
    done = machine.run(
        "env", "DEBIAN_FRONTEND=noninteractive",
        "apt-get", "-y", "-q", "--no-install-recommends", *arguments,
        timeout=240,
    )  # fmt: skip
    return done.stdout + done.stderr


def mode_and_owner(machine: Machine, path: str) -> str:
    return machine.run("stat", "-c", "%a %U:%G", path).stdout.strip()


def units(machine: Machine, *states: str) -> list[str]:
    """syncd's units that are in one of the states."""
    found = machine.systemctl("list-units", "--all", "--plain", "--no-legend", "syncd*").stdout
    return [line.split()[0] for line in found.splitlines() if line.split()[2] in states]


def test_a_package_is_installed_upgraded_removed_and_purged_and_mirrors_stay(site: Site) -> None:
    machine = site.machine
    apt(machine, "install", "/root/before.deb")
    assert BEFORE in machine.run("syncd", "--version").stdout
    assert mode_and_owner(machine, "/etc/syncd") == "750 root:syncd"
    assert machine.run("ls", "/etc/syncd").stdout == "config.yaml.example\n"
    assert machine.path("/usr/lib/systemd/system/syncd.service").exists()
    assert machine.systemctl("is-enabled", "syncd.service", check=False).stdout == "disabled\n"
    assert units(machine, "active", "failed") == []

    steps = site.install()
    assert steps[-2:] == ["systemctl enable syncd.service", "systemctl restart syncd.service"]
    written = machine.run("find", "/etc/systemd/system", "-type", "f", "-name", "*syncd*").stdout
    assert written == "/etc/systemd/system/syncd.service.d/50-syncd.conf\n"
    site.until_text(MIRROR, "one\n")
    machine.run("chmod", "0755", "/etc/syncd")
    first = machine.path(MIRROR).stat()
    pid = machine.show("syncd.service", "MainPID")

    said = apt(machine, "install", "/root/syncd.deb")
    assert "not empty" not in said, said
    assert __version__ in machine.run("syncd", "--version").stdout
    assert machine.show("syncd.service", "ActiveState") == "active"
    assert machine.show("syncd.service", "MainPID") != pid
    assert mode_and_owner(machine, "/etc/syncd") == "755 root:syncd"
    until("in sync", lambda: site.status().get("web", {}).get("state") == "in_sync")
    assert machine.path(MIRROR).stat().st_ino == first.st_ino
    assert machine.path(MIRROR).stat().st_mtime_ns == first.st_mtime_ns
    assert "web" in machine.run("syncd", "history").stdout, "what the version before did"
    site.repo.commit({"nginx/nginx.conf": "two\n"})
    site.until_text(MIRROR, "two\n")

    apt(machine, "remove", "syncd")
    assert units(machine, "active", "failed") == []
    left = machine.run("find", "/usr", "/etc", "/var/lib/syncd", "-name", "*syncd*").stdout
    assert "/usr/" not in left and "/var/lib/syncd" in left.splitlines(), left
    assert site.text("/etc/syncd/config.yaml") and site.text(MIRROR) == "two\n"

    apt(machine, "purge", "syncd")
    left = machine.run("find", "/usr", "/etc", "/var/lib", "/run", "-name", "*syncd*").stdout
    assert left == "", left
    assert units(machine, "active", "failed") == []
    assert site.text(MIRROR) == "two\n" and site.text("/srv/web/sites/a.conf") == "a\n"
    assert mode_and_owner(machine, MIRROR).endswith("syncd:syncd")


def test_lintian_finds_no_error_and_no_warning(deb: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", deb],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout == "", done.stdout + done.stderr


def test_each_lintian_override_has_its_reason_above_it() -> None:
    lines = (ROOT / "packaging/debian/syncd.lintian-overrides").read_text().splitlines()
    overrides = [number for number, line in enumerate(lines) if line.startswith("syncd: ")]
    assert overrides
    assert [lines[number] for number in overrides if not lines[number - 1].startswith("# ")] == []


def test_no_file_names_the_folder_of_the_build(
    deb: Path,
) -> None:
    folder = deb.parent / "content"
    subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    named = [
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file()
        and file.suffix != ".so"
        and any(
            part in file.read_bytes()
            for part in (str(ROOT).encode(), tempfile.gettempdir().encode() + b"/syncd-deb")
        )
    ]
    assert named == []


def test_man_shows_the_program_and_a_command(installed: Machine) -> None:
    for page, headings in (
        ("syncd", [*FIRST, "COMMANDS", *LAST]),
        ("syncd-trash-restore", [*FIRST, *LAST]),
    ):
        shown = installed.run("env", "MANPAGER=cat", "MANWIDTH=80", "man", "--warnings", page)
        assert re.findall(r"^[A-Z][A-Z ]+$", shown.stdout, re.MULTILINE) == headings
        assert shown.stderr == ""


@pytest.mark.parametrize(
    ("shell", "prepare"),
    [
        (("bash", "--norc", "-i"), ". /usr/share/bash-completion/bash_completion"),
        (("zsh", "-f", "-i"), "autoload -U compinit && compinit -u -D"),
        (("fish", "--private"), "true"),
    ],
    ids=["bash", "zsh", "fish"],
)
def test_a_shell_completes_a_command(
    installed: Machine, shell: tuple[str, ...], prepare: str
) -> None:
    process, terminal = pty.fork()
    if process == 0:
        inside = ["env", "TERM=vt100", "PS1=% ", *shell]
        command = entered(installed.pid, *inside)
        os.execvp(command[0], command)
    try:
        os.write(terminal, f"{prepare}; echo rea''dy\n".encode())
        read_until(terminal, r"\bready")
        os.write(terminal, b"syncd vers\t")
        read_until(terminal, r"vers.*ion")  # the rest of the word comes from the shell
        os.write(terminal, b"\n")
        read_until(terminal, rf"syncd {re.escape(__version__)}")
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


def read_until(terminal: int, pattern: str, seconds: float = 60.0) -> None:
    """Read what a terminal shows until the pattern is in it."""
    ends, seen = time.monotonic() + seconds, ""
    while not re.search(pattern, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen), re.DOTALL):
        assert time.monotonic() < ends, f"{pattern} is not in {seen!r}"
        seen += os.read(terminal, 65536).decode(errors="replace")
