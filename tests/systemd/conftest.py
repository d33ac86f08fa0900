"""One booted machine for the whole session, and for each test a site on it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.machine import CannotBoot, Machine, booted, built_wheel, install, tree
from tests.systemd.site import Site
from tests.systemd.site import site as a_site


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Skips, with the reason, where no machine can be booted."""
    try:
        base, wheel = tree(), built_wheel(tmp_path_factory.mktemp("wheel"))
        scratch = Path(tempfile.mkdtemp(prefix="syncd-machine-"))
        made = booted(base, lambda root: install(root, wheel), scratch)
        up = made.__enter__()
    except CannotBoot as error:
        pytest.skip(f"no machine can be booted here: {error}")
    try:
        yield up
    finally:
        made.__exit__(None, None, None)


@pytest.fixture
def site(machine: Machine) -> Iterator[Site]:
    with a_site(machine) as made:
        yield made
