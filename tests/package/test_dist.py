"""`make dist`: wheel and sdist have equal bytes each time, and everything that they need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

from syncd import __version__
from tests.package.conftest import EPOCH, ROOT
from tests.support.packaging_modules import packaging_module

pytestmark = pytest.mark.package

# what a program without it would miss first; by its name in the sdist and in the wheel
NEEDED = {
    "syncd/py.typed": "syncd/py.typed",
    "syncd/__main__.py": "syncd/__main__.py",
    "syncd/web/templates/status.html": "syncd/web/templates/status.html",
    "syncd/web/static/syncd.css": "syncd/web/static/syncd.css",
    "syncd/web/static/syncd.js": "syncd/web/static/syncd.js",
    "migrations/env.py": "syncd/_migrations/env.py",
    "migrations/versions/0001_first.py": "syncd/_migrations/versions/0001_first.py",
    "systemd/syncd.service": "syncd/_systemd/syncd.service",
    "systemd/sysusers.conf": "syncd/_systemd/sysusers.conf",
    "config.example.yaml": "syncd/config.example.yaml",
    "LICENSE": f"syncd-{__version__}.dist-info/licenses/LICENSE",
}
ONLY_IN_THE_SDIST = {
    ".ci/run",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "constraints-hashed.txt",
    "constraints.txt",
    "dev",
    "docs/start.md",
    "packaging/artefacts.py",
    "pyproject.toml",
    "tests/conftest.py",
}


@pytest.fixture(scope="module")
def artefacts() -> ModuleType:
    return packaging_module("artefacts")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source tree as another machine has it: other times, and a strict umask."""
    ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "dist")
    shutil.copytree(ROOT, tmp_path / "source", ignore=ignored)
    for file in (tmp_path / "source").rglob("*"):
        file.chmod(file.stat().st_mode & 0o700)
        os.utime(file, (1, 1))
    return tmp_path / "source"


def names_in(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_two_builds_have_equal_bytes(
    artefacts: ModuleType, dist: Path, source: Path, tmp_path: Path
) -> None:
    artefacts.dist(source, tmp_path / "again", EPOCH)
    names = sorted(file.name for file in dist.iterdir())
    assert names == [
        "SHA256SUMS",
        "constraints-hashed.txt",
        "constraints.txt",
        f"syncd-{__version__}-py3-none-any.whl",
        f"syncd-{__version__}.tar.gz",
    ]
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (dist / name).read_bytes(), name


def test_another_time_makes_another_file(
    artefacts: ModuleType, wheel: Path, tmp_path: Path
) -> None:
    [later] = artefacts.build(ROOT, tmp_path, EPOCH + 60, ["wheel"])
    assert later.read_bytes() != wheel.read_bytes()


def test_the_wheel_has_what_the_program_needs_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert set(NEEDED.values()) <= names
    assert {name.partition("/")[0] for name in names} == {
        "syncd",
        f"syncd-{__version__}.dist-info",
    }
    assert not [name for name in names if name.endswith(".pyc") or "__pycache__" in name]


def test_the_sdist_has_what_the_program_needs_and_the_means_to_test_it(sdist: Path) -> None:
    names = names_in(sdist)
    assert set(NEEDED) | ONLY_IN_THE_SDIST <= names
    assert not [name for name in names if name.startswith((".git/", ".venv", "dist"))]


def test_a_wheel_that_lacks_a_file_is_refused_by_name(
    artefacts: ModuleType, wheel: Path, sdist: Path, source: Path
) -> None:
    (source / "migrations/versions/9999_later.py").write_text("")
    with pytest.raises(
        artefacts.BuildError, match=r"lacks \['syncd/_migrations/versions/9999_later.py'\]"
    ):
        artefacts.check_contents(source, wheel, sdist)


def test_an_sdist_that_builds_another_wheel_is_refused(
    artefacts: ModuleType, wheel: Path, source: Path, tmp_path: Path
) -> None:
    with open(source / "syncd/__init__.py", "a") as file:
        file.write("CHANGED = True\n")
    [changed] = artefacts.build(source, tmp_path / "changed", EPOCH, ["sdist"])
    with pytest.raises(artefacts.BuildError, match="the sdist builds another wheel"):
        artefacts.check_rebuilt(wheel, changed, EPOCH)


@pytest.mark.skipif(find_spec("twine") is None, reason="twine could not be installed")
def test_twine_finds_nothing(wheel: Path, sdist: Path) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", wheel, sdist]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_without_twine_the_metadata_are_checked_by_themselves(
    artefacts: ModuleType, monkeypatch: pytest.MonkeyPatch, wheel: Path, sdist: Path, source: Path
) -> None:
    monkeypatch.setattr(artefacts, "find_spec", lambda _name: None)
    artefacts.check_metadata(wheel, sdist)
    project = source / "pyproject.toml"
    project.write_text(project.read_text().replace('readme = "README.md"\n', ""))
    made = artefacts.build(source, source / "dist", EPOCH)
    with pytest.raises(artefacts.BuildError, match="no description"):
        artefacts.check_metadata(*made)


def test_the_sums_are_as_sha256sum_reads_them(dist: Path) -> None:
    command = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    done = subprocess.run(command, cwd=dist, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": OK") == 4


def test_the_time_of_a_build_is_that_of_the_commit(
    artefacts: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    moment = {"GIT_AUTHOR_DATE": "@1700000000 +0000", "GIT_COMMITTER_DATE": "@1700000000 +0000"}
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for arguments in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *arguments], cwd=tmp_path, env={**os.environ, **moment}, check=True)
    assert artefacts.build_time(tmp_path) == 1700000000
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12")
    assert artefacts.build_time(tmp_path) == 12
