"""The built files, once for all tests of the package lane."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.packaging_modules import packaging_module

ROOT = Path(__file__).resolve().parents[2]
EPOCH = 1_795_910_400  # 2026-11-29


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `make dist` leaves."""
    folder = tmp_path_factory.mktemp("dist")
    packaging_module("artefacts").dist(ROOT, folder, EPOCH)
    return folder


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    """The built wheel."""
    [found] = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def sdist(dist: Path) -> Path:
    """The built sdist."""
    [found] = dist.glob("*.tar.gz")
    return found
