"""The canary sweep: every credential that a stand gave out, searched for in everything that a
test's commands said, logged and left on disk.

Every stand does it when it is taken down, so that each fault of the suite is a fault of the sweep
too. A credential is looked for raw, URL-encoded, JSON-escaped and in base64 at each of its three
alignments; a private key also line by line. The forms are made here, not by the product.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from urllib.parse import quote

from syncd.cli import logging_setup

ORDINARY = logging_setup.set_up_logging
ALIVE: list[SecretScan] = []  # of the stands that are standing
OPERATORS = (
    "app.pem",
    "token",
)  # beside a configuration: a stand's, also where one stand's folder is in another's
SHORTEST = 10  # shorter texts are found by chance
BATCH_BYTES = 4 << 20
TALLY = os.environ.get(
    "SYNCD_CANARY_TALLY"
)  # a file that gets a line for each sweep: stands, credentials, bytes


@lru_cache(maxsize=1024)  # a token of the simulator is another one in each test, a key is not
def forms(value: str) -> frozenset[bytes]:
    """What a credential may look like in an output, without what depends on its neighbours."""
    found = {
        value,
        quote(value, safe=""),
        quote(value, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
        json.dumps(value)[1:-1],
        repr(value)[1:-1],
    }
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            letters = encode(b"\0" * before + value.encode()).decode().rstrip("=")
            found.add(letters[(before * 8 + 5) // 6 : len(letters) - 1])
    return frozenset(form.encode() for form in found)


def parts(secret: str) -> list[str]:
    """Of a key some of its lines are watched, each by itself: one line is a leak too."""
    if "\n" not in secret:
        return [secret] if len(secret) >= SHORTEST else []
    lines = [line for line in secret.splitlines() if len(line) >= 24 and "PRIVATE KEY" not in line]
    return list(dict.fromkeys([*lines[:2], *lines[len(lines) // 2 :][:1], *lines[-1:]]))


def _batches(texts: Iterable[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the texts in lists of a few megabytes: a credential is looked for in each list once."""
    batch, size = list[tuple[str, bytes]](), 0
    for where, text in texts:
        batch.append((where, text))
        size += len(text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    yield batch


@dataclass
class SecretScan:
    """`watch` what must stay secret, `heard` what was said;
    `search` finds the one in the other, and in files.
    """

    values: dict[str, str] = field(default_factory=dict)  # value -> what it is
    texts: list[tuple[str, bytes]] = field(default_factory=list)
    spared: set[Path] = field(
        default_factory=set
    )  # files and folders where a credential belongs: the operator's own, and a user's login

    def watch(self, secret: str | None, what: str) -> None:
        for value in parts(secret or ""):
            self.values.setdefault(value, what)

    def heard(self, where: str, text: str | bytes) -> None:
        self.texts.append(
            (where, text.encode(errors="surrogateescape") if isinstance(text, str) else text)
        )

    def search(self, *folders: Path) -> list[str]:
        """`WHAT in WHERE` of everything found.

        The credential itself is not named: a failing test has an output, too.
        """
        needles = [(form, what) for value, what in self.values.items() for form in forms(value)]
        found, size = set[str](), 0
        for batch in _batches(chain(self.texts, self._files(folders))):
            everything = b"\0".join(text for _, text in batch)
            size += len(everything)
            there = [(form, what) for form, what in needles if form in everything]
            found |= {
                f"{what} in {where}"
                for form, what in there
                for where, text in batch
                if form in text
            }
        if TALLY:
            with Path(TALLY).open("a") as tally:
                tally.write(f"{len(self.values)} {len(self.texts)} {size} {len(found)}\n")
        return sorted(found)

    def _files(self, folders: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
        spared = {os.fspath(path) for path in self.spared}
        for folder in folders:
            for place, names, files in os.walk(folder):
                for name in (*names, *files):
                    yield f"the name {name!r}", os.fsencode(name)
                if spared.intersection(map(os.fspath, (Path(place), *Path(place).parents))):
                    continue
                for name in files:
                    file = os.path.join(place, name)
                    if file in spared or (name in OPERATORS and "config.yaml" in files):
                        continue
                    try:
                        if stat.S_ISREG(os.lstat(file).st_mode):
                            relative = os.path.relpath(file, folder)
                            yield f"the file {relative}", Path(file).read_bytes()
                    except OSError:  # made unreadable by the test
                        continue


@contextmanager
def alive(canary: SecretScan) -> Iterator[None]:
    ALIVE.append(canary)
    try:
        yield
    finally:
        ALIVE.remove(canary)


def overheard(where: str, text: str) -> None:
    """For whoever hears something and has no stand at hand: a page, a process's log."""
    for canary in list(ALIVE):
        canary.heard(where, text)


@contextmanager
def listening(canary: SecretScan, where: str) -> Iterator[None]:
    """Whatever level a command of this process logs at, the canary hears it at debug,
    through the product's own handler and filter.

    A command may be called while another one runs: then both are heard by who came last.
    """
    said, root, before = io.StringIO(), logging.getLogger(), logging_setup.set_up_logging

    def both(verbose: int, quiet: bool) -> None:
        with redirect_stderr(said):
            ORDINARY(2, False)
        [loud] = root.handlers
        ORDINARY(verbose, quiet)
        [quiet] = root.handlers
        quiet.setLevel(root.level)
        root.handlers.append(loud)
        root.setLevel(logging.DEBUG)

    logging_setup.set_up_logging = both
    try:
        yield
    finally:
        logging_setup.set_up_logging = before
        for handler in root.handlers[1:]:
            if isinstance(handler, logging.StreamHandler) and handler.stream is said:
                root.handlers.remove(handler)
                root.setLevel(root.handlers[0].level)
        canary.heard(f"the log of {where}", said.getvalue())
