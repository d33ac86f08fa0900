"""Whatever is written into a configuration: frozen values or mistakes with places, nothing else."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config.load import load_config
from syncd.config.model import Config
from syncd.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
GOOD = yaml.safe_load((ROOT / "config.example.yaml").read_text())
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "5m",
            "/",
            "/srv/x/",
            "a/b",
            "50%",
            "0644",
            "9" * 400,
            "\x00",
            "é",
            "🙂",
            "* * * * *",
        ]
    ),
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def judged(file: Path) -> Config | ConfigError:
    try:
        return load_config(file, {"HOME": str(file.parent)})
    except ConfigError as error:
        assert all(problem.file and problem.text for problem in error.problems)
        return error


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at]
    for key, item in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        found += places(item, (*at, key))
    return found


@pytest.mark.fuzz
@settings(max_examples=300)
@given(st.integers(0, 10_000), anything, st.booleans())
def test_any_value_at_any_place_is_judged(
    tmp_path: Path, where: int, value: Any, remove: bool
) -> None:
    changed = copy.deepcopy(GOOD)
    spots = places(changed)[1:]
    *above, last = spots[where % len(spots)]
    holder = changed
    for key in above:
        holder = holder[key]
    if remove:
        del holder[last]
    else:
        holder[last] = value
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(changed, allow_unicode=True), errors="surrogatepass")
    judged(file)


@pytest.mark.fuzz
@settings(max_examples=300)
@given(
    st.binary(max_size=200)
    | st.text(alphabet="abc:{}[]&*<-!|>'\"# \n\t0", max_size=120).map(str.encode)
)
def test_any_bytes_are_judged(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(raw)
    judged(file)


def test_bytes_flipped_in_a_good_configuration_are_judged(tmp_path: Path) -> None:
    rng, good = random.Random(3), (ROOT / "config.example.yaml").read_bytes()
    file = tmp_path / "config.yaml"
    for _ in range(150):
        raw = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        file.write_bytes(raw)
        judged(file)
