"""A directory that was just made: when another one may be in its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.errors import UnsafePathError
from syncd.safe_open import check_just_made


def check(above: Path) -> None:
    """Check `above/made` as the writer does."""
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (above / "made", above)]
    try:
        check_just_made(*folders, str(above / "made"))
    finally:
        for folder in folders:
            os.close(folder)


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_another_job_may_fill_a_new_directory_that_nobody_else_can_replace(
    tmp_path: Path, mode: int
) -> None:
    (tmp_path / "above/made/of-another-job").mkdir(parents=True)
    (tmp_path / "above").chmod(mode)
    check(tmp_path / "above")


@pytest.mark.root
@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o775, 0), (0o755, 12345)])
def test_a_filled_directory_is_refused_where_another_user_can_replace_it(
    tmp_path: Path, mode: int, owner: int
) -> None:
    (tmp_path / "above/made/of-another-user").mkdir(parents=True)
    (tmp_path / "above").chmod(mode)
    os.chown(tmp_path / "above", owner, owner)
    with pytest.raises(UnsafePathError, match="was replaced while syncd made it"):
        check(tmp_path / "above")
