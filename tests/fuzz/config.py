"""Coverage-guided fuzzing of the configuration reader: python -m tests.fuzz.config -max_total_time=60"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["syncd.config", "yaml"]):
    from syncd.config.load import load_config
    from syncd.config.show import render
    from syncd.errors import ConfigError

FILE = Path(tempfile.mkdtemp(prefix="syncd-fuzz-")) / "config.yaml"


def one(data: bytes) -> None:
    FILE.write_bytes(data)
    try:
        load_config(FILE, {"HOME": "/root"})
    except ConfigError as error:
        render(error)


if __name__ == "__main__":
    seeds = Path(tempfile.mkdtemp(prefix="syncd-seeds-"))
    (seeds / "example").write_bytes((Path(__file__).resolve().parents[2] / "config.example.yaml").read_bytes())
    atheris.Setup([*sys.argv, str(seeds)], one)
    atheris.Fuzz()
