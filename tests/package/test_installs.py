"""The built wheel, installed with pipx and with uv into a home where nothing is set up.

What syncd needs is downloaded once, each file checked against constraints-hashed.txt. The folder
is the only index that the installers have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from syncd import __version__
from tests.package.conftest import ROOT
from tests.support.packaging_modules import packaging_module

BIN = Path(sys.executable).parent
SET_UP = dict(os.environ)  # before the fixture of all tests takes proxies and the home away
PIPX = ["pipx", "install", "--python", sys.executable]
UV = ["uv", "tool", "install", "--python", sys.executable]

pytestmark = [
    pytest.mark.package,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("ensurepip") is None, reason="Debian's python3-venv is missing"),
]


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of everything that syncd needs, and of pip for pipx."""
    folder = tmp_path_factory.mktemp("downloads")
    supply = packaging_module("supply")
    needed = folder / "needed.txt"
    needed.write_text(supply.HASHED.read_text().partition(supply.SECOND_PART)[0])
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    for chosen in (["--require-hashes", "-r", str(needed)], ["pip"]):
        done = subprocess.run([*pip, *chosen], env=SET_UP, capture_output=True, text=True)
        if "HASHES" in done.stderr:
            pytest.fail(done.stderr)
        if done.returncode:
            pytest.skip(f"no package index can be reached: {done.stderr.splitlines()[-1]}")
    return folder


def clean_home(home: Path, downloads: Path) -> dict[str, str]:
    """An environment with the folder of downloads in place of an index."""
    return {
        "HOME": str(home),
        "PATH": f"{home}/.local/bin:{BIN}:/usr/bin:/bin",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(downloads),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(downloads),
        "UV_OFFLINE": "1",
    }


@pytest.mark.parametrize("installer", [PIPX, UV], ids=["pipx", "uv"])
def test_an_installed_wheel_knows_its_version_and_runs_the_demo(
    installer: list[str], wheel: Path, downloads: Path, tmp_path: Path
) -> None:
    if not (BIN / installer[0]).exists():
        pytest.skip(f"{installer[0]} could not be installed")
    home = tmp_path / "home"
    home.mkdir()
    environment = clean_home(home, downloads)
    command = [*installer, str(wheel)]
    done = subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    syncd = home / ".local/bin/syncd"
    assert syncd.exists(), done.stdout + done.stderr
    for arguments, said in (
        (["--version"], f"syncd {__version__}\n"),
        (["demo"], "304"),
        (["completion", "bash"], "complete"),
    ):
        ran = subprocess.run(
            [syncd, *arguments], env=environment, cwd=home, capture_output=True, text=True
        )
        assert ran.returncode == 0 and said in ran.stdout, ran.stdout + ran.stderr


def test_the_bill_of_materials_of_a_wheel_is_valid_cyclonedx(wheel: Path) -> None:
    validation = pytest.importorskip(
        "cyclonedx.validation.json", reason="cyclonedx-python-lib could not be installed"
    )
    schema = pytest.importorskip("cyclonedx.schema")
    command = [sys.executable, "packaging/supply.py", "sbom", str(wheel)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    judge = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert judge.validate_str(done.stdout) is None
    assert json.loads(done.stdout)["metadata"]["component"]["version"] == __version__
    broken = done.stdout.replace('"bomFormat": "CycloneDX"', '"bomFormat": "other"')
    assert judge.validate_str(broken) is not None
