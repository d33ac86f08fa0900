"""Fuzzing of names, destinations, links and patterns: python -m tests.fuzz.paths -max_total_time=60

The input is lines: a path of the repository, a link's target, a pattern. Whatever they are: what is
accepted lies inside the mirror, by a name that can be written, and what is refused is refused by a
name.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from itertools import combinations

from tests.fuzz.harness import fuzz, instrumented

with instrumented(
    "syncd.engine.desired",
    "syncd.patterns",
    "syncd.mirror.paths",
    "syncd.tree_names",
    "pathspec",
):
    from syncd import tree_names
    from syncd.config.value_types import patterns
    from syncd.engine.desired import check_link, desired
    from syncd.errors import SyncdError, UnsafePathError
    from syncd.github.protocol import quote_path
    from syncd.mirror.paths import names_below
    from syncd.patterns import path_filter

from syncd.colliding_names import collisions_among
from syncd.git_objects import EXECUTABLE, FILE, LINK
from syncd.models import Job, Kind, Listing, PathRule, TreeEntry, WantedFile
from syncd.text import in_quotes

ROOT = "/srv/mirror"


def job(rule: PathRule) -> Job:
    return Job(name="j", identity="ops", repo="acme/infra", ref="main", paths=(rule,))


def one(data: bytes) -> None:
    lines = [line.decode("utf-8", "surrogateescape") for line in data.split(b"\n")]
    path, target, pattern, *more = [*lines, "", "", ""]
    _names(path)
    _links(path, target, more)
    _listing(lines, pattern)


def _names(path: str) -> None:
    in_quotes(path)
    if not in_quotes(path).isprintable():
        raise AssertionError("a terminal would act on this")
    try:
        names = names_below(f"{ROOT}/{path}", ROOT)
    except UnsafePathError as error:
        if not error.message.isprintable():
            raise AssertionError(f"a poor message: {error.message!r}") from error
    else:
        if (
            posixpath.normpath(f"{ROOT}/{path}") != f"{ROOT}/{path}"
            or "\0" in path
            or any(len(os.fsencode(name)) > 255 for name in names)
        ):
            raise AssertionError(f"not a name below the mirror: {path!r}")
    if tree_names.unsafe_path_reason(path) is None and (
        posixpath.normpath(path) != path
        or path.startswith(("/", "../"))
        or ".git" in path.casefold().split("/")
    ):
        raise AssertionError(f"the repository's name was let through: {path!r}")
    try:
        address = quote_path(path)
    except UnsafePathError:
        return
    if any(char in address for char in "?# \r\n\\") or "/../" in f"/{address}/":
        raise AssertionError(f"another address: {address!r}")


def _links(path: str, target: str, more: list[str]) -> None:
    """Where a link that is let through leads, walked one name after the other as the kernel does:
    there are no other links here.
    """
    here = f"{ROOT}/{path or 'link'}"
    wanted = {
        f"{ROOT}/{name}": WantedFile(
            "ab" * 20, 0o644, Kind.FILE, None, None, name, 1, "/srv", 0o755
        )
        for name in ("a", "b/c", *more)
        if name
    }
    wanted[here] = WantedFile("cd" * 20, 0o777, Kind.LINK, None, None, path, 1, "/srv", 0o755)
    try:
        check_link(job(PathRule("", ROOT, True)), here, target, wanted)
    except (SyncdError, UnicodeError) as error:
        if isinstance(error, UnicodeError) and target.isprintable():
            raise
        return
    standing = posixpath.dirname(here)
    for part in target.split("/"):
        standing = (
            posixpath.dirname(standing)
            if part == ".."
            else standing
            if part in ("", ".")
            else f"{standing}/{part}"
        )
    if (
        not posixpath.normpath(standing).startswith(f"{ROOT}/")
        and posixpath.normpath(standing) != ROOT
    ):
        raise AssertionError(f"a link out: {here!r} -> {target!r}")


def _listing(names: list[str], pattern: str) -> None:
    modes = (FILE, EXECUTABLE, LINK)
    entries = {
        f"nginx/{name}": TreeEntry(modes[number % 3], f"{number:040d}", 1)
        for number, name in enumerate(names)
        if tree_names.unsafe_path_reason(name) is None
    }
    try:
        rule = PathRule(
            "nginx",
            ROOT,
            True,
            include=patterns([pattern] if pattern.strip() and pattern.isprintable() else []),
        )
        path_filter(rule)
    except ValueError:
        rule = PathRule("nginx", ROOT, True)  # a mistake that check finds
    try:
        found = desired(job(rule), Listing(entries), lambda _owner: (None, None))
    except SyncdError as error:
        if error.kind == "internal":
            raise
        return
    if any(not path.startswith(f"{ROOT}/") for path in found):
        raise AssertionError(f"outside: {sorted(found)}")
    told = {name for twins in collisions_among(found) for name in twins.names}
    for path, other in combinations(found, 2):
        if path.casefold() == other.casefold() and not told.intersection(
            [*path.split("/"), *other.split("/")]
        ):
            raise AssertionError(f"twins that are not judged: {path!r} and {other!r}")


def seeds() -> Iterator[bytes]:
    yield b"sites/a.conf\n../b/c\n*.conf\nREADME\nsites/b"
    yield b"a\nb/c\n!x/**/y"
    yield "é/ü.conf\n./a\n[a-z]/**".encode()
    yield b"../../etc/passwd\n/etc/passwd\n**"
    yield b"b/link\n../a\n\\ x\nREADME\nreadme"
    yield b"caf\xe9\n..\\..\\x\n#x\n.GIT/config"
    yield b"a" * 200 + b"\nb\n" + b"a" + b"*" * 100 + b"eadme"
    yield b"n" * 256 + b"\nb/../../x\n/*/"


if __name__ == "__main__":
    fuzz(
        one,
        seeds(),
        [
            "../",
            "./",
            "..",
            ".git",
            "\\x00",
            "%2e",
            "**/",
            "[!a]",
            "\\xed\\xa0\\x80",
            "a",
            "b/c",
            "//",
        ],
    )
