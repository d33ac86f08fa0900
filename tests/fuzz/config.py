"""Fuzzing of the configuration reader: python -m tests.fuzz.config -max_total_time=60

Whatever the bytes are: frozen values or mistakes with places, within a second. Both readers are
tried, libyaml's and the one in Python, whose own code is instrumented too.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.config", "yaml"):
    from syncd.config import yaml_reader
    from syncd.config.load import load_config
    from syncd.config.render_problems import render
    from syncd.errors import ConfigError

FILE = Path(tempfile.mkdtemp(prefix="syncd-fuzz-")) / "config.yaml"
READERS = (yaml_reader._LOADER, yaml_reader.PURE)
SECONDS_AT_MOST = 5.0  # instrumented, and beside other work
EXAMPLE = (Path(__file__).resolve().parents[2] / "config.example.yaml").read_text()


def one(data: bytes) -> None:
    FILE.write_bytes(data)
    began, usual = time.process_time(), yaml_reader._LOADER
    for yaml_reader._LOADER in READERS:
        try:
            load_config(FILE, {"HOME": "/root"})
        except ConfigError as error:
            if not error.problems:
                raise AssertionError("a mistake without a place") from error
            render(error)
    yaml_reader._LOADER = usual
    if time.process_time() - began > SECONDS_AT_MOST:
        raise AssertionError("too slow")


def seeds() -> Iterator[bytes]:
    yield EXAMPLE.encode()
    yield re.sub(r"(?m)^( *)# (?=\S+:)", r"\1", EXAMPLE).encode()


if __name__ == "__main__":
    fuzz(
        one,
        seeds(),
        [
            *re.findall(r"\w+:", EXAMPLE),
            "<<: ",
            "&a ",
            "*a",
            "!!x ",
            "- ",
            "{",
            "[",
            "null",
            "|\\x0a",
            "%YAML",
        ],
    )
