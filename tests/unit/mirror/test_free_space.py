"""Which file systems have room for what a plan writes."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from syncd.errors import MirrorError
from syncd.mirror.free_space import check_free_space

GIB = 1 << 30


@pytest.mark.parametrize(
    ("blocks", "free", "error_id"),
    [
        (1_000_000, 500_000, None),
        (1_000_000, 0, "mirror/no-space"),
        (0, 0, None),  # tmpfs with size=0 has no limit, FUSE may not say it
    ],
)
def test_a_file_system_that_states_no_size_is_not_a_full_one(
    blocks: int, free: int, error_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = SimpleNamespace(f_blocks=blocks, f_bavail=free, f_frsize=4096, f_files=0, f_favail=0)
    monkeypatch.setattr(os, "statvfs", lambda place: facts)
    try:
        check_free_space([], [("/", GIB)])
        found = None
    except MirrorError as error:
        found = error.id
    assert found == error_id
