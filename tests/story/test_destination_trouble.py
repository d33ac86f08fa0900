"""What stands at, above or below a destination and keeps a file from being written: named before anything changes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from syncd.mirror import expected
from tests.support.stand import Stand, tree_of


def test_files_that_are_gone_from_a_disk_with_another_device_number_are_put_back(
    hub: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of an old machine, or a disk that was renumbered: nothing was ever mounted there."""
    real = expected.stat_of
    with monkeypatch.context() as patched:
        patched.setattr(
            expected, "stat_of", lambda found: replace(real(found), device=found.st_dev + 1)
        )
        assert hub.sync().code == 0
    for file in hub.dest.rglob("*.conf"):
        file.unlink()
    assert hub.sync().code == 0
    assert tree_of(hub.dest) == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
