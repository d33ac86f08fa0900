"""Coverage-guided fuzzing of the configuration reader: python -m tests.fuzz.config -max_total_time=60

Whatever the bytes are: frozen values or mistakes with places, within a second. Both readers are tried, libyaml's and the one in Python,
whose own code is instrumented too.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["syncd.config", "yaml"]):
    from syncd.config import places
    from syncd.config.load import load_config
    from syncd.config.show import render
    from syncd.errors import ConfigError

FILE = Path(tempfile.mkdtemp(prefix="syncd-fuzz-")) / "config.yaml"
READERS = (places._LOADER, places.PURE)
SECONDS_AT_MOST = 5.0  # instrumented, and beside other work


def one(data: bytes) -> None:
    FILE.write_bytes(data)
    began = time.process_time()
    for places._LOADER in READERS:
        try:
            load_config(FILE, {"HOME": "/root"})
        except ConfigError as error:
            if not error.problems:
                raise AssertionError("a mistake without a place") from error
            render(error)
    if time.process_time() - began > SECONDS_AT_MOST:
        raise AssertionError("too slow")


if __name__ == "__main__":
    example = (Path(__file__).resolve().parents[2] / "config.example.yaml").read_text()
    seeds, words = Path(tempfile.mkdtemp(prefix="syncd-seeds-")), Path(tempfile.mkdtemp(prefix="syncd-words-")) / "words"
    (seeds / "example").write_text(example)
    (seeds / "uncommented").write_text(re.sub(r"(?m)^( *)# (?=\S+:)", r"\1", example))
    words.write_text("".join(f'"{word}"\n' for word in sorted({*re.findall(r"\w+:", example), "<<: ", "&a ", "*a", "!!x ", "- ", "{", "[", "null", "|\\x0a", "%YAML"})))
    atheris.Setup([*sys.argv, f"-dict={words}", str(seeds)], one)
    atheris.Fuzz()
