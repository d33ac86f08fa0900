"""`make fleet-demo` tells its story to the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from tests.support.postgresql import binaries

pytestmark = pytest.mark.postgresql

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(binaries() is None, reason="PostgreSQL's server is not installed")
def test_the_demo_ends_with_three_agents_in_sync() -> None:
    demo = [sys.executable, ROOT / "benchmarks/fleet_demo.py"]
    done = subprocess.run(demo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3" in done.stdout and "rollout stopped" in done.stdout
