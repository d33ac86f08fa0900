"""What the fuzz targets share. A target is a module with `one(data)`, which raises for what must not be, and `seeds()`, inputs to begin with.

With atheris: python -m tests.fuzz.NAME -max_total_time=60 (coverage-guided). Without it the same targets are tried with mutated seeds by
tests/unit/test_fuzz_targets.py, so that none of them rots.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

TARGETS = ("config", "answers", "archive", "headers", "rows", "paths", "webhook", "walk")


def instrumented(*packages: str) -> AbstractContextManager[object]:
    """What is imported meanwhile tells the fuzzer which lines it reached; only in a fuzzing process."""
    if not getattr(sys.modules["__main__"], "__spec__", None) or not str(sys.modules["__main__"].__spec__.name).startswith("tests.fuzz."):  # type: ignore[union-attr]
        return nullcontext()
    import atheris

    return atheris.instrument_imports(include=list(packages))  # type: ignore[no-any-return]


def fuzz(one: Callable[[bytes], None], seeds: Iterable[bytes], words: Iterable[str] = ()) -> None:
    """Never returns: atheris ends the process, with status 0 when the time was up and nothing was found."""
    import atheris

    folder = Path(tempfile.mkdtemp(prefix="syncd-seeds-"))
    for number, seed in enumerate(seeds):
        (folder / f"{number:03d}").write_bytes(seed)
    arguments = [*sys.argv, str(folder)]
    if words:
        dictionary = Path(tempfile.mkdtemp(prefix="syncd-words-")) / "words"
        dictionary.write_text("".join(f'"{word}"\n' for word in sorted(set(words))))
        arguments.insert(1, f"-dict={dictionary}")
    os.environ.setdefault("HOME", "/root")
    atheris.Setup(arguments, one)
    atheris.Fuzz()


def mutated(seeds: Sequence[bytes], count: int, seed: int = 1) -> Iterator[bytes]:
    """The seeds, and `count` inputs made of them by cutting, flipping, repeating and crossing."""
    rng = random.Random(seed)
    yield from seeds
    for _ in range(count):
        raw = bytearray(rng.choice(seeds))
        for _ in range(rng.choice([1, 1, 2, 4, 16])):
            at = rng.randrange(len(raw) + 1)
            match rng.randrange(6):
                case 0 if raw:
                    raw[at % len(raw)] ^= 1 << rng.randrange(8)
                case 1:
                    del raw[at : at + rng.randrange(1, 30)]
                case 2:
                    raw[at:at] = rng.choice([b"\0", b"\xff", b"..", b"/", b'"', b"9" * 40, b"\xed\xa0\x80", b"{}", b"[", b"null", b"-1", b"\r\n", b"%2e", b"\x1b["])
                case 3:
                    del raw[at:]
                case 4:
                    other = rng.choice(seeds)
                    raw[at:] = other[rng.randrange(len(other) + 1) :]
                case _:
                    raw[at:at] = rng.randbytes(rng.randrange(1, 8))
        yield bytes(raw)
