"""Every answer has limits: a row in the table for each kind, a check of JSON before anything is
built, and work that grows with its input alone.
"""

from __future__ import annotations

import ast
import base64
import gzip
import io
import json
import re
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.deadline import Deadline
from syncd.errors import BadResponseError, SyncdError, TimedOutError, UnsafePathError
from syncd.git_objects import FILE, blob_id
from syncd.github import bounds
from syncd.github.bounds import BOUNDS, BeyondBoundError, Bound, check_json, load_json
from syncd.github.error_responses import failure, parse_error
from syncd.github.file_content import content_of
from syncd.github.path_suggestions import folders_of
from syncd.github.protocol import ERROR_BYTES, BufferedResponse, Request, get
from syncd.github.tarball import TarExtractor
from syncd.github.tree_json import parse_contents, parse_tree
from syncd.github.trees import verify_recursive
from syncd.models import TreeEntry
from syncd.text import closest
from tests.contract.doors import MemoryBlobs
from tests.support.clock import FakeClock

ROOT = Path(__file__).resolve().parents[3]
GITHUB = ROOT / "syncd" / "github"
SHA = "a" * 40
CPU_SECONDS = 3.0  # what is linear here takes a twentieth of it; what is quadratic takes minutes


def cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    with suppress(SyncdError):
        work()
    return time.process_time() - began


# --- every kind has a row -------------------------------------------------------------------------


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """(file, call) of every call of a function or class of this name in syncd/github."""
    for path in sorted(GITHUB.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", getattr(node.func, "attr", None)) == name
            ):
                yield path.name, node


def words(node: ast.AST) -> set[str]:
    return {
        found.value
        for found in ast.walk(node)
        if isinstance(found, ast.Constant) and isinstance(found.value, str)
    }


ROUTE_AT = {
    "get": 2,
    "post": 2,
    "delete": 2,
    "Request": 2,
    "get_request": 1,
    "mapping": 1,
    "pages": 1,
    "repositories": 1,
}


def test_every_request_names_a_row_of_the_table() -> None:
    """A route that is a variable there is a literal where it comes from,
    which is one of the other calls.
    """
    routes = set[str]()
    for name, place in ROUTE_AT.items():
        for file, call in calls(name):
            if len(call.args) <= place or (name == "get" and isinstance(call.func, ast.Attribute)):
                continue
            route = call.args[place]
            if isinstance(route, ast.Constant):
                routes.add(str(route.value))
            else:
                assert isinstance(route, ast.Name) and route.id == "route", (
                    f"{file}:{call.lineno} has a route that can't be read"
                )
            routes |= {
                str(keyword.value.value)
                for keyword in call.keywords
                if keyword.arg == "kind" and isinstance(keyword.value, ast.Constant)
            }
    assert len(routes) >= 16, "the test has lost sight of the requests"
    assert routes <= BOUNDS.keys()


def test_every_row_is_used_by_a_request_or_a_reader() -> None:
    used = {
        word
        for path in GITHUB.rglob("*.py")
        if path.name != "bounds.py"
        for word in words(ast.parse(path.read_text()))
    }
    assert BOUNDS.keys() <= used


def test_a_route_without_a_row_can_not_be_sent() -> None:
    made = get("https://api.test", "/x", "brand-new", "something", None)
    with pytest.raises(KeyError):
        made.max_body_bytes  # noqa: B018


# What reads an answer's body, or a text that a server or another program wrote: file -> the readers
# in it, each with its bound.
READERS = {
    "bounds.py": {"json.loads": "load_json, after check_json"},
    "fetch.py": {".chunks(": "max_body_bytes of the request"},
    "file_content.py": {
        ".chunks(": "max_body_bytes of the request; a JSON answer is decoded as it arrives"
    },
    "protocol.py": {".chunks(": "max_body_bytes; of an error ERROR_BYTES"},
    "resumable.py": {".chunks(": "the pointer's size"},
    "sender.py": {"json.loads": "a message of the outbox, which events.py made"},
    "sessions.py": {"answer.read(": "MAX_ANSWER_BYTES"},
    "tree_json.py": {
        "msgspec.json": "the Decoder below",
        "Decoder(": "a struct without further fields; braces are counted first",
    },
    "tree_reader.py": {".chunks(": "max_body_bytes, and the entries are counted"},
    "exchange.py": {"raw.read1(": "max_body_bytes, and the wire's bytes"},
}
READING = re.compile(
    r"json\.loads|\bDecoder\(|\.chunks\(|msgspec\.json|answer\.read\(|connection\.read\(|raw\.read1?\(|\.readlines?\(|\.iter_content|\.json\(\)|gzip\.|tarfile\."
)


def test_every_reader_of_answers_is_known_and_has_a_bound() -> None:
    found = dict[str, set[str]]()
    for path in sorted([*GITHUB.rglob("*.py"), *(ROOT / "syncd" / "notifications").glob("*.py")]):
        code = "\n".join(line.partition("  #")[0] for line in path.read_text().splitlines())
        for name in READING.findall(code):
            found.setdefault(path.name, set()).add(name)
    assert found == {file: set(names) for file, names in READERS.items()}


def test_every_row_of_the_table_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "development" / "bounds.md").read_text()
    for kind, bound in BOUNDS.items():
        assert f"`{kind}`" in text, f"docs/development/bounds.md has no row for {kind}"
        if bound.items:
            assert re.search(rf"`{kind}`.*\| {bound.items:,} \| {bound.depth} \|", text), (
                f"the row of {kind} is not that of bounds.py"
            )


def test_every_test_that_the_documentation_of_bounds_names_exists() -> None:
    text = (ROOT / "docs" / "development" / "bounds.md").read_text()
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", text)
    assert named
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"


# --- JSON -----------------------------------------------------------------------------------------

SMALL = Bound(1 << 20, 10, 4, None, "a test")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


def measured(value: object) -> tuple[int, int]:
    """(commas and openers, levels) of a JSON value, by looking at the value itself."""
    if not isinstance(value, (list, dict)):
        return 0, 0
    inner = [measured(one) for one in (value.values() if isinstance(value, dict) else value)]
    return 1 + max(0, len(inner) - 1) + sum(items for items, _ in inner), 1 + max(
        (depth for _, depth in inner), default=0
    )


@given(values, st.booleans())
def test_items_and_levels_are_counted_outside_of_strings(value: object, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    items, depth = measured(value)
    check_json(body, Bound(1 << 20, items, depth, None, ""))
    for smaller, why in (
        (Bound(1 << 20, items - 1, 99, None, ""), "values"),
        (Bound(1 << 20, 10**6, depth - 1, None, ""), "levels"),
    ):
        if isinstance(value, (list, dict)):
            with pytest.raises(BeyondBoundError, match=why):
                check_json(body, smaller)


@pytest.mark.parametrize(
    "text", ['"' + "\\\\" * 5 + '"', '"\\\\\\"[[[[[[["', '"[[[[[[', '"\\"[[[[[[[[\\"", 1', '"a\\']
)
def test_brackets_inside_of_strings_do_not_count(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for window in (1, 2, 3, 7, 1 << 20):
        monkeypatch.setattr(bounds, "WINDOW", window)
        check_json(f"[{text}".encode(), SMALL)
        with pytest.raises(BeyondBoundError, match="levels"):
            check_json(f"[[[[[{text}".encode(), SMALL)


@pytest.mark.parametrize(
    "body",
    [b"[" * 200_000, b'{"a":' * 200_000, b"[[],[],[" * 100_000],
    ids=["lists", "objects", "mixed"],
)
def test_json_of_many_levels_is_refused_before_it_is_built(body: bytes) -> None:
    with pytest.raises(BeyondBoundError, match=r"levels|values"):
        load_json(body, "repositories")
    with pytest.raises(BadResponseError, match=r"more than 32 levels|more than 200000 values"):
        parse_contents(body, "x")


def test_sixty_kilobytes_of_gzip_do_not_become_gigabytes() -> None:
    """64 MiB of empty objects, which would be 22 million values of 70 bytes each."""
    body = b'{"tree": [' + b"{}," * (21 << 20) + b'{}], "sha": "x"}'
    assert len(gzip.compress(body, 1)) < 400 << 10
    tracemalloc.start()
    try:
        with pytest.raises(BadResponseError, match="more than 2000000 values"):
            parse_tree(body, "the tree of x", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


# --- texts ----------------------------------------------------------------------------------------

HUGE = "x" * (20 << 20)


@pytest.mark.parametrize(
    "answer",
    [
        {"type": HUGE},
        {"type": "dir", "sha": HUGE},
        [{"name": HUGE, "type": "file", "sha": "1"}],
        [{"name": "a", "type": HUGE, "sha": 1}],
    ],
    ids=["type", "sha", "name", "entry"],
)
def test_an_error_keeps_little_of_a_servers_text(
    answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BOUNDS, "contents", Bound(64 << 20, 100, 9, None, ""))
    with pytest.raises(SyncdError) as caught:
        parse_contents(json.dumps(answer).encode(), "x")
    assert len(caught.value.message) < 1024


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "a", "mode": HUGE, "type": "blob", "sha": SHA},
        {"path": HUGE, "mode": "100644", "type": "blob", "sha": "0"},
        {"truncated": HUGE},
    ],
)
def test_an_error_about_a_tree_keeps_little_of_a_servers_text(entry: dict[str, str]) -> None:
    body = (
        {"sha": SHA, "tree": [], **entry}
        if "truncated" in entry
        else {"sha": SHA, "tree": [entry], "truncated": False}
    )
    with pytest.raises(SyncdError) as caught:
        parse_tree(json.dumps(body).encode(), "x", 10)
    assert len(caught.value.message) < 1024


def test_no_error_is_longer_than_can_be_stored() -> None:
    error = SyncdError("m" * (20 << 20), hint="h" * (20 << 20))
    assert len(error.message) < 20_000 and len(error.hint or "") < 20_000


def test_a_refusal_keeps_little_of_its_body() -> None:
    body = json.dumps({"message": HUGE, "documentation_url": HUGE}).encode()
    error = failure(
        Request("GET", "https://x", "head", "x"),
        parse_error(BufferedResponse(403, {}, "https://x", body)),
        FakeClock().now(),
    )
    assert len(str(error)) < 1024 and len(body) > ERROR_BYTES


# --- names ----------------------------------------------------------------------------------------

SLASHES = "a/" * (350 << 10) + "a"


def tree_of(*paths: str) -> bytes:
    return json.dumps(
        {
            "sha": SHA,
            "tree": [
                {"path": path, "mode": "100644", "type": "blob", "sha": SHA} for path in paths
            ],
            "truncated": False,
        }
    ).encode()


@pytest.mark.parametrize(
    "path",
    [SLASHES, "x" * (700 << 10), "é" * 3000],
    ids=["slashes", "one name", "bytes, not letters"],
)
def test_a_path_that_no_system_call_takes_is_refused_by_its_length(path: str) -> None:
    def work() -> None:
        with pytest.raises(UnsafePathError, match="longer than a path can be") as caught:
            verify_recursive(parse_tree(tree_of("b", path), "x", 100), SHA, "x")
        assert len(caught.value.message) < 1024 and len(caught.value.path or "") <= 255

    assert cpu(work) < CPU_SECONDS
    with pytest.raises(UnsafePathError, match="longer than a path can be"):
        parse_contents(
            json.dumps(
                {"type": "dir", "sha": SHA, "entries": [{"name": path, "type": "file", "sha": SHA}]}
            ).encode(),
            "x",
        )


def test_entries_of_folders_that_are_not_listed_cost_little() -> None:
    answer = parse_tree(
        tree_of(*(f"{number}/" + "a/" * 2000 for number in range(5000))), "x", 10_000
    )
    assert cpu(lambda: verify_recursive(answer, SHA, "x")) < CPU_SECONDS
    assert cpu(lambda: folders_of((row.path, False) for row in answer.rows)) < CPU_SECONDS


def test_a_suggestion_costs_little_whatever_the_names_are() -> None:
    assert (
        cpu(
            lambda: closest(
                "nginx.conf", ["x" * (700 << 10), *("nginxconf" * 14 for _ in range(50_000))]
            )
        )
        < CPU_SECONDS
    )
    assert cpu(lambda: closest("x" * (700 << 10), ["x" * (700 << 10)])) < CPU_SECONDS
    assert closest("nginx.comf", ["apache.conf", "nginx.conf"]) == "nginx.conf"


# --- archives -------------------------------------------------------------------------------------


def header(kind: bytes, content: bytes) -> bytes:
    info = tarfile.TarInfo("top/x")
    info.type, info.size = kind, len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + b"\0" * (-len(content) % 512)


def unpack(archive: bytes, check: Callable[[], None] = lambda: None, most: int = 1 << 30) -> int:
    return TarExtractor({"wanted": TreeEntry(FILE, SHA, 1)}, MemoryBlobs(), most, check).read(
        iter([archive])
    )


def test_an_archive_of_21_kilobytes_does_not_outrun_the_time_of_a_run() -> None:
    records = b"6 a=b\n" * (1_000_000 // 6)
    archive = gzip.compress(b"".join(header(b"x", records) for _ in range(20)))
    assert len(archive) < 100 << 10
    assert cpu(lambda: unpack(archive)) < CPU_SECONDS


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_archive_has_few_extended_headers_before_a_file(kind: bytes) -> None:
    archive = gzip.compress(header(kind, b"6 a=b\n") * 9)
    with pytest.raises(BadResponseError, match="more than 8 extended headers"):
        unpack(archive)


def test_an_archive_of_many_members_looks_at_the_deadline() -> None:
    archive = gzip.compress(header(b"5", b"") * 3000 + b"\0" * 1024)
    looks = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise TimedOutError("over")

    with pytest.raises(TimedOutError):
        unpack(archive, check)


def test_a_name_in_an_archive_is_bounded() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("top/" + "n" * 20_000))
    with pytest.raises(BadResponseError, match="a name of 20004 bytes"):
        unpack(archive.getvalue())


# --- files in JSON --------------------------------------------------------------------------------


class Served:
    def __init__(self, body: bytes, piece: int) -> None:
        self.status, self.url, self.headers, self._body, self._piece = (
            200,
            "https://x",
            {"content-type": "application/json"},
            body,
            piece,
        )

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), self._piece):
            yield self._body[start : start + self._piece]

    def close(self) -> None:
        """Nothing is held."""


def in_json(content: bytes, indent: int | None = None) -> bytes:
    return json.dumps(
        {
            "name": "a",
            "sha": blob_id(content),
            "size": len(content),
            "content": base64.encodebytes(content).decode(),
            "encoding": "base64",
        },
        indent=indent,
    ).encode()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("piece", [1, 3, 61, 4096, 1 << 20])
def test_a_large_file_in_json_is_decoded_as_it_arrives(
    piece: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BOUNDS, "file_json", Bound(1000, 100, 9, None, ""))
    for length in (1500, 1501, 1502, 5000):
        content = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
        assert (
            b"".join(content_of(Served(in_json(content, indent), piece), blob_id(content), "x"))
            == content
        )


def test_a_large_json_file_served_as_itself_is_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BOUNDS, "file_json", Bound(1000, 100, 9, None, ""))
    body = json.dumps([{"a": number} for number in range(500)]).encode()
    assert b"".join(content_of(Served(body, 61), blob_id(body), "x")) == body


def test_a_large_file_in_json_takes_little_memory() -> None:
    content = bytes(range(256)) * (32 << 12)
    served = Served(in_json(content), 128 << 10)
    tracemalloc.start()
    try:
        assert sum(map(len, content_of(served, blob_id(content), "x"))) == len(content) == 32 << 20
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", [b"", b"AAA", b"\\"])
def test_a_large_file_in_json_that_is_cut_is_an_error(
    end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BOUNDS, "file_json", Bound(100, 100, 9, None, ""))
    with pytest.raises(BadResponseError):
        list(content_of(Served(b'{"content": "' + b"AAAA" * 100 + end, 61), SHA, "x"))


def test_a_patience_that_is_over_is_noticed_by_an_archive() -> None:
    clock = FakeClock()
    over = Deadline(clock, 0)
    with pytest.raises(TimedOutError):
        unpack(gzip.compress(header(b"5", b"") + b"\0" * 1024), over.check)
