"""The checks without a command: broken files are named with their place, good ones pass whatever
they hold, hostile ones cost little.
"""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path

import pytest

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.hooks.runner import HookRunner
from syncd.hooks.validators import MAX_NAMED, find_problems
from syncd.models import Hook, Kind
from syncd.ports import HookCall, HookResult, StagedFile

ALL = ("json", "yaml", "toml", "xml")


def judged(tree: Path, name: str, content: bytes, names: tuple[str, ...] = ALL) -> list[str]:
    (tree / "etc").mkdir()
    (tree / "etc" / name).write_bytes(content)
    return find_problems(names, str(tree))


def whole(
    state: Path, files: dict[str, bytes], names: tuple[str, ...] = ALL, seconds: float = 20.0
) -> HookResult:
    """The checks as a job runs them: a process under a guard."""
    state.mkdir(mode=0o700)
    staged = [
        StagedFile(path, Kind.FILE, 0o644, lambda content=content: BytesIO(content))
        for path, content in files.items()
    ]
    return HookRunner(state, {}).validate(
        HookCall(Hook("check", checks=names), ("job",), {}, "{}", seconds),
        staged,
        Deadline(SystemClock(), 60),
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"a": [1, 2.5e3, null, "\\u00e9"]}'),
        ("bom.json", b"\xef\xbb\xbf{}"),
        ("long.json", b"1" * 10_000),
        ("A.JSON", b"[]"),
        ("a.yaml", b"a: &x [1, 2]\nb: *x\n---\nsecond: !Tag {c: d}\n"),
        ("tags.yml", b"!Ref thing\n"),
        ("empty.yaml", b""),
        ("a.toml", b'[a]\nb = 1979-05-27T07:32:00Z\nc = "x"\n'),
        ("a.xml", b'<?xml version="1.0"?><a b="c"><!-- d --><e/></a>'),
        ("doctype.xml", b'<!DOCTYPE a SYSTEM "a.dtd"><a/>'),
        ("a.conf", b"{ not: [any, of these"),
        ("json", b"no suffix, so not looked at"),
    ],
)
def test_what_can_be_read_passes(tmp_path: Path, name: str, content: bytes) -> None:
    assert judged(tmp_path, name, content) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", b'{"a": 1,\n "b": }', "line 2, column 7: Expecting value"),
        ("a.json", b"{'a': 1}", "line 1, column 2"),
        ("a.json", b'{"a": NaN}', "NaN is not JSON"),
        ("a.json", b"\xff\xfe", "byte 0: not UTF-8"),
        ("a.json", b"", "line 1, column 1"),
        ("a.yaml", b"a: [1, 2\nb: 3\n", "line 2"),
        ("a.yaml", b"a:\n\t- b\n", "line 2, column 1"),
        ("a.yml", b"b: *nothing\n", "*nothing has no &nothing before it"),
        ("a.yml", b"a: &x 1\n---\nb: *x\n", "*x has no &x before it"),
        ("a.yaml", b"a: \xff\n", "a.yaml: "),
        ("a.toml", b"[a\n", "line 1"),
        ("a.toml", b"a = 1\na = 2\n", "line 2"),
        ("a.xml", b"<a><b></a>", "line 1, column 9: mismatched tag"),
        ("a.xml", b"", "no element found"),
        ("a.xml", b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "it declares the entity 'x'"),
    ],
)
def test_what_can_not_be_read_is_named_with_its_place(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (problem,) = judged(tmp_path, name, content)
    assert problem.startswith(f"/etc/{name}: ") and said in problem


HOSTILE = {
    "/deep.json": b"[" * 200_000,
    "/bomb.yaml": b"a: &a [x,x]\n"
    + b"".join(
        b"b%d: &b%d [*%s,*%s]\n" % (n, n, p, p)
        for n, p in enumerate([b"a", *(b"b%d" % n for n in range(60))])
    ),
    "/bomb.xml": b'<!DOCTYPE a [<!ENTITY a0 "x">'
    + b"".join(b'<!ENTITY a%d "&a%d;&a%d;">' % (n, n - 1, n - 1) for n in range(1, 60))
    + b"]><a>&a59;</a>",
    "/deep.xml": b"<a>" * 100_000,
    "/deep.toml": b"a = " + b"[" * 100_000,
    "/number.json": b"9" * 5_000_000,
    "/nul.json": b"\0" * 1_000_000,
    "/many.json": b"[" + b"[],[]," * 2_500_000 + b"[]]",
    "/large.json": b" " * ((16 << 20) + 1),
}


def test_hostile_files_are_judged_like_others_at_a_cost_that_their_size_explains(
    tmp_path: Path,
) -> None:
    end = whole(tmp_path / "state", HOSTILE)
    named = {line.partition(":")[0] for line in end.output.splitlines()}
    assert end.status == 1 and named == HOSTILE.keys() - {
        "/bomb.yaml",
        "/number.json",
        "/many.json",
    }, end.output
    assert "16 MiB" in end.output


@pytest.mark.parametrize(
    ("name", "content"), [("/a.yaml", b"[" * 1_000_000), ("/a.toml", b"a." * 1_000_000 + b"a = 1")]
)
def test_a_file_that_makes_its_reader_quadratic_is_ended_at_the_hooks_limit(
    tmp_path: Path, name: str, content: bytes
) -> None:
    began = time.monotonic()
    assert whole(tmp_path / "state", {name: content}, seconds=0.5).timed_out
    assert time.monotonic() - began < 5


def test_only_the_named_checks_look_and_links_are_not_followed(tmp_path: Path) -> None:
    assert judged(tmp_path, "a.json", b"broken", ("yaml", "toml")) == []
    (tmp_path / "etc/b.json").symlink_to("a.json")
    (tmp_path / "etc/gone.json").symlink_to("nothing")
    assert [line.partition(":")[0] for line in find_problems(ALL, str(tmp_path))] == ["/etc/a.json"]


def test_many_broken_files_are_counted_not_all_listed_and_odd_names_are_printed(
    tmp_path: Path,
) -> None:
    end = whole(
        tmp_path / "state", {f"/etc/{number:03d} \udcff.json": b"{" for number in range(50)}
    )
    assert (
        end.status == 1
        and end.output.count("/etc/") == MAX_NAMED
        and end.output.endswith("and 40 more\n")
        and "/etc/000 \ufffd.json: line 1" in end.output
    )


def test_good_files_pass(tmp_path: Path) -> None:
    assert whole(
        tmp_path / "state",
        {"/a.json": b"{}", "/b.yaml": b"a: 1", "/c.toml": b"", "/d.xml": b"<a/>", "/e": b"\xff"},
    ) == HookResult(status=0)
