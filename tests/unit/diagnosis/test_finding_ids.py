"""The ids of findings: docs/doctor.md has a row with the level of each, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[3]
ID = re.compile(r'"(doctor/[a-z-]+)"')
ROW = re.compile(r"^\| `(doctor/[a-z-]+)` \| (ok|warning|error) \| (.+) \| (.+) \|$", re.MULTILINE)


def test_the_page_has_one_row_for_each_id_of_the_code_and_no_other() -> None:
    code = {
        found for path in (ROOT / "syncd").rglob("*.py") for found in ID.findall(path.read_text())
    }
    rows = [row[0] for row in ROW.findall((ROOT / "docs/doctor.md").read_text())]
    assert len(rows) == len(set(rows)) and len(rows) > 50
    assert set(rows) == code
