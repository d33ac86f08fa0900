"""What the fuzz targets share.

A target is a module with `one(data)`, which raises for what must not be, and `seeds()`, inputs to
begin with.

With atheris: python -m tests.fuzz.NAME -max_total_time=60 (coverage-guided). Without it the same
targets are tried with mutated seeds by tests/unit/test_fuzz_targets.py, so that none of them rots.
"""

from __future__ import annotations

import importlib.util
import os
import random
import resource
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

TARGETS = (
    "config",
    "answers",
    "archive",
    "headers",
    "rows",
    "paths",
    "webhook",
    "walk",
    "diffs",
    "redaction",
)


def instrumented(*packages: str) -> AbstractContextManager[object]:
    """What is imported meanwhile tells the fuzzer which lines it reached;
    only in a fuzzing process.
    """
    if not getattr(sys.modules["__main__"], "__spec__", None) or not str(
        sys.modules["__main__"].__spec__.name
    ).startswith("tests.fuzz."):  # type: ignore[union-attr]
        return nullcontext()
    try:
        import atheris
    except ImportError:
        return nullcontext()
    return atheris.instrument_imports(include=list(packages))  # type: ignore[no-any-return]


def fuzz(one: Callable[[bytes], None], seeds: Iterable[bytes], words: Iterable[str] = ()) -> None:
    """Never returns: atheris ends the process, with status 0 when the time was up and nothing was
    found.

    Where atheris is not installed, mutated seeds are tried for the same time instead.
    """
    seeds = list(seeds)
    if importlib.util.find_spec("atheris") is None:
        _without_coverage(one, seeds)
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


def _without_coverage(one: Callable[[bytes], None], seeds: Sequence[bytes]) -> NoReturn:
    """Mutated seeds until `-max_total_time` is over; `-seed` chooses which."""
    options = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
    ends, count = time.monotonic() + float(options.get("max_total_time", 60)), 0
    for data in mutated(seeds, sys.maxsize, int(options.get("seed", 1))):
        if time.monotonic() > ends:
            break
        try:
            one(data)
        except BaseException:
            sys.stderr.write(f"input {count}: {data[:2000]!r}\n")
            raise
        count += 1
    measured = getattr(sys.modules["__main__"], "MEASURED", None)
    sys.stderr.write(
        f"Done {count} runs without coverage; {measured.said() if measured else ''} process "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB\n"
    )
    sys.exit(0)


class Measured:
    """The longest time and the largest memory of one input; more than the bound is a finding.

    Memory is looked at in every 16th input.
    """

    def __init__(self, seconds: float, peak_bytes: int) -> None:
        self.seconds, self.peak_bytes = seconds, peak_bytes
        self.longest_seconds, self.largest_bytes, self._count = 0.0, 0, 0

    def __enter__(self) -> None:
        self._count += 1
        if self._count % 16 == 1:
            tracemalloc.start()
        self._began = time.process_time()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        took = time.process_time() - self._began
        if tracemalloc.is_tracing():
            self.largest_bytes = max(self.largest_bytes, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        else:
            self.longest_seconds = max(self.longest_seconds, took)
        if kind is None and (
            self.longest_seconds > self.seconds or self.largest_bytes > self.peak_bytes
        ):
            raise AssertionError(self.said())

    def said(self) -> str:
        return (
            f"longest input {self.longest_seconds:.2f} s (at most {self.seconds:.0f}), memory "
            f"{self.largest_bytes >> 20} MiB (at most {self.peak_bytes >> 20})"
        )


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
                    raw[at:at] = rng.choice(
                        [
                            b"\0",
                            b"\xff",
                            b"..",
                            b"/",
                            b'"',
                            b"9" * 40,
                            b"\xed\xa0\x80",
                            b"{}",
                            b"[",
                            b"null",
                            b"-1",
                            b"\r\n",
                            b"%2e",
                            b"\x1b[",
                        ]
                    )
                case 3:
                    del raw[at:]
                case 4:
                    other = rng.choice(seeds)
                    raw[at:] = other[rng.randrange(len(other) + 1) :]
                case _:
                    raw[at:at] = rng.randbytes(rng.randrange(1, 8))
        yield bytes(raw)
