"""Trees that somebody made to hurt, through the whole command: nothing is written outside, nothing
at all where one is refused, and one clear message.

Each shape stands once directly in the listed folder and once below it, where other requests read
it.
"""

from __future__ import annotations

import json
import resource
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.git_objects import EXECUTABLE, FILE, LINK, SUBMODULE, TREE
from syncd.simulator.faults import Answer
from syncd.simulator.repository import Repository
from tests.support.sync_env import SyncEnv, signatures, sync_env

Raw = list[tuple[int, bytes, str]]
GOOD = {"nginx/nginx.conf": "one\n", "nginx/sites/a.conf": "a\n"}
OUTSIDE = b"/tmp/syncd-hostile-canary"


@dataclass(frozen=True)
class Shape:
    """What a folder holds beside a good file.

    `said` is part of the message; None: it is harmless and stands there exactly as it is named.
    """

    make: Callable[[Repository], Raw]
    said: str | None
    kind: str = "mirror"
    names: tuple[str, ...] = ()


def file(*names: bytes, mode: int = FILE) -> Callable[[Repository], Raw]:
    """Files of these names, each with its own content."""
    return lambda repo: [(mode, name, repo.add_blob(b"content of " + name)) for name in names]


def folder(*names: bytes) -> Callable[[Repository], Raw]:
    """Folders of these names, each with one file `x`."""
    return lambda repo: [
        (TREE, name, repo.add_tree([(FILE, b"x", repo.add_blob(b"x in " + name))]))
        for name in names
    ]


def link(target: bytes, name: bytes = b"link") -> Callable[[Repository], Raw]:
    return lambda repo: [(LINK, name, repo.add_blob(target))]


def both(*parts: Callable[[Repository], Raw]) -> Callable[[Repository], Raw]:
    return lambda repo: [entry for part in parts for entry in part(repo)]


def nested(depth: int, name: bytes = b"d") -> Callable[[Repository], Raw]:
    def make(repo: Repository) -> Raw:
        below: Raw = [(FILE, b"x", repo.add_blob("deep"))]
        for _ in range(depth):
            below = [(TREE, name, repo.add_tree(below))]
        return below

    return make


def climbing(repo: Repository) -> Raw:
    """`a/b/c/up` leads to the top, so `a/b/c/up/../../x` leads two folders above it,
    where the text alone says `a/b/x`.
    """
    inner = repo.add_tree([(LINK, b"up", repo.add_blob("../../.."))])
    middle = repo.add_tree([(TREE, b"c", inner), (FILE, b"x", repo.add_blob("x"))])
    return [
        (TREE, b"a", repo.add_tree([(TREE, b"b", middle)])),
        (LINK, b"out", repo.add_blob("a/b/c/up/../../x")),
    ]


NFC, NFD = (unicodedata.normalize(form, "é.conf").encode() for form in ("NFC", "NFD"))
SHAPES: dict[str, Shape] = {
    "..": Shape(file(b".."), "is named '..'"),
    ".": Shape(file(b"."), "is named '.'"),
    ".. as a folder": Shape(folder(b".."), "is named '..'"),
    ". as a folder": Shape(folder(b"."), "is named '.'"),
    "no name": Shape(file(b""), "is named ''"),
    ".git": Shape(file(b".git"), "git's own folder"),
    ".git as a folder": Shape(folder(b".git"), "git's own folder"),
    ".GIT": Shape(folder(b".GIT"), "git's own folder"),
    ".gIt": Shape(file(b".gIt"), "git's own folder"),
    ".git as a link": Shape(link(b"nginx.conf", b".git"), "git's own folder"),
    ".git as a submodule": Shape(
        lambda repo: [(SUBMODULE, b".git", "ab" * 20)], "git's own folder"
    ),
    "a slash in a name": Shape(file(b"a/b"), "holds a slash"),
    "a way out in a name": Shape(file(b"../../out"), "holds a slash"),
    "an absolute name": Shape(file(OUTSIDE), "holds a slash"),
    "a slash at the end": Shape(file(b"a/"), "holds a slash"),
    "a slash in a folder's name": Shape(folder(b"a/../.."), "holds a slash"),
    "NUL": Shape(file(b"a\0b"), "control character"),
    "a line end": Shape(file(b"a\nb"), "control character"),
    "an escape": Shape(file(b"a\x1b[2Jb"), "control character"),
    "DEL": Shape(file(b"a\x7fb"), "control character"),
    "a C1 control": Shape(file("a\x9bb".encode()), "control character"),
    "a control character in a folder's name": Shape(folder(b"a\rb"), "control character"),
    "256 bytes": Shape(file(b"n" * 256), "more than 255 bytes"),
    "256 bytes in 128 letters": Shape(file("é".encode() * 128), "more than 255 bytes"),
    "a path of more than 4,095 bytes": Shape(nested(17, b"n" * 250), "longer than a path can be"),
    "not UTF-8": Shape(file(b"caf\xe9.conf"), "not UTF-8"),
    "not UTF-8, as a folder": Shape(folder(b"caf\xe9"), "not UTF-8"),
    "a lone surrogate": Shape(file(b"\xed\xa0\x80"), "not UTF-8"),
    "overlong": Shape(file(b"\xc0\xae\xc0\xae"), "not UTF-8"),
    "a link out and a folder, twins in case": Shape(
        both(link(OUTSIDE, b"Evil"), folder(b"evil")), "not one of the job's own files"
    ),
    "the same name twice": Shape(file(b"same", b"same"), "two entries named"),
    "the same name with two contents": Shape(
        both(file(b"same"), lambda repo: [(FILE, b"same", repo.add_blob("other"))]),
        "two entries named",
    ),
    "the same folder twice": Shape(folder(b"same", b"same"), "do not hash", "bad_response"),
    "a file and a folder of one name": Shape(
        both(file(b"same"), folder(b"same")), "two entries named"
    ),
    "a link and a folder of one name": Shape(
        both(link(OUTSIDE, b"same"), folder(b"same")), "two entries named"
    ),
    "a link out": Shape(
        link(b"../../../../../../../../../../tmp/syncd-hostile-canary"),
        "not one of the job's own files",
    ),
    "a link out by one": Shape(link(b"../../dest-canary"), "not one of the job's own files"),
    "an absolute link": Shape(link(OUTSIDE), "not one of the job's own files"),
    "an absolute link to a file of the job": Shape(
        link(b"/nginx.conf"), "not one of the job's own files"
    ),
    "a link to nothing": Shape(link(b"nothing-here"), "not one of the job's own files"),
    "an empty link": Shape(link(b""), "not one of the job's own files"),
    "a link to itself": Shape(link(b"link"), "not one of the job's own files"),
    "a link with a NUL": Shape(link(b"fine.conf\0"), "not one of the job's own files"),
    "a link of 5,000 bytes": Shape(
        link(b"./" * 2500 + b"fine.conf"), "not one of the job's own files"
    ),
    "a link that is not UTF-8": Shape(link(b"caf\xe9"), "is a link to"),
    "a link through a file": Shape(
        link(b"fine.conf/../fine.conf"), "not one of the job's own files"
    ),
    "links that lead out one after the other": Shape(climbing, "not one of the job's own files"),
    "a submodule beside it": Shape(lambda repo: [(SUBMODULE, b"module", "ab" * 20)], None),
    "a mode that is none": Shape(file(b"x", mode=0o100000), "makes no sense", "bad_response"),
    "setuid": Shape(file(b"x", mode=0o104755), "makes no sense", "bad_response"),
    "a device": Shape(file(b"x", mode=0o060000), "makes no sense", "bad_response"),
    # harmless on Linux, whatever they would be elsewhere; names that a disk takes for one are
    # refused on that disk (test_twins.py)
    "twins in case": Shape(file(b"README", b"readme"), None, names=("README", "readme")),
    "twins in case, folders": Shape(
        both(
            folder(b"Conf"),
            lambda repo: [(TREE, b"conf", repo.add_tree([(FILE, b"X", repo.add_blob("other"))]))],
        ),
        None,
        names=("Conf/x", "conf/X"),
    ),
    "twins in composition": Shape(file(NFC, NFD), None, names=(NFC.decode(), NFD.decode())),
    "twins in folding": Shape(
        file("straße".encode(), b"strasse"), None, names=("straße", "strasse")
    ),
    "a good link and a folder, twins in case": Shape(
        both(link(b"fine.conf", b"Evil"), folder(b"evil")), None, names=("Evil", "evil/x")
    ),
    "a file and a folder, twins in case": Shape(
        both(file(b"CONF"), folder(b"conf")), None, names=("CONF", "conf/x")
    ),
    "backslashes": Shape(file(b"..\\..\\x"), None, names=("..\\..\\x",)),
    "names of another system": Shape(
        file(b"con", b"aux.txt", b"a:b", b"git~1", b"dot.", b"space "),
        None,
        names=("con", "aux.txt", "a:b", "git~1", "dot.", "space "),
    ),
    "255 bytes": Shape(file(b"n" * 255), None, names=("n" * 255,)),
    "a true replacement character": Shape(file("caf\ufffd".encode()), None, names=("caf\ufffd",)),
    "an option": Shape(
        file(b"--help", b"-rf", b"*", b"$(x)", b"`x`", b"~", b"%s", b"{staged}"),
        None,
        names=("--help", "-rf", "*", "$(x)", "`x`", "~", "%s", "{staged}"),
    ),
    "names that turn the line around": Shape(
        file("a\u202etxt.exe".encode()), None, names=("a\u202etxt.exe",)
    ),
    "names like our own": Shape(
        file(b".syncd-0123456789abcdef", b".syncd", b"syncd.db"),
        None,
        names=(".syncd-0123456789abcdef", ".syncd", "syncd.db"),
    ),
    "many dots": Shape(
        file(b"...", b"..a", b"a..", b".gitx", b".git.", b".gitmodules"),
        None,
        names=("...", "..a", "a..", ".gitx", ".git.", ".gitmodules"),
    ),
    "a group's write bit": Shape(file(b"x", mode=0o100664), None, names=("x",)),
    "executable": Shape(file(b"x", mode=EXECUTABLE), None, names=("x",)),
    "sixty folders deep": Shape(nested(60), None, names=("d/" * 60 + "x",)),
    "a link to a folder": Shape(
        both(link(b"more"), folder(b"more")), None, names=("link", "more/x")
    ),
}
EXITS = {"mirror": 1, "bad_response": 5, "limit": 6}


def put(repo: Repository, entries: Raw, below: bool) -> None:
    """The commit of main holds the entries beside a good file, in nginx/ or one level below it."""
    tree = repo.add_tree([*entries, (FILE, b"fine.conf", repo.add_blob("fine\n"))])
    if below:
        tree = repo.add_tree(
            [(TREE, b"below", tree), (FILE, b"nginx.conf", repo.add_blob("two\n"))]
        )
    repo.refs["refs/heads/main"] = repo.add_commit(
        repo.add_tree([(TREE, b"nginx", tree)]), (repo.head(),)
    )


def surroundings(hub: SyncEnv) -> Any:
    """Everything in the stand's folder that is not syncd's own."""
    return {
        path: found
        for path, found in signatures(hub.folder).items()
        if not path.startswith(str(hub.state))
    }


def test_there_are_more_than_forty_of_them() -> None:
    assert sum(shape.said is not None for shape in SHAPES.values()) >= 40


@pytest.fixture(scope="module")
def good_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncEnv]:
    """A stand in sync, as each shape finds it and leaves it."""
    with sync_env(tmp_path_factory.mktemp("hub"), GOOD, as_app=False) as made:
        yield made


# every third of them at a push, the others in the root lane
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.root] if number % 3 else [])
        for number, name in enumerate(SHAPES)
    ],
)
def test_a_hostile_shape_is_refused_by_name_or_stands_exactly_as_it_is(
    good_stand: SyncEnv, name: str
) -> None:
    hub, shape = good_stand, SHAPES[name]
    assert hub.sync().code == 0
    good, before = hub.repo.head(), surroundings(hub)
    for below in (False, True):
        put(hub.repo, shape.make(hub.repo), below)
        done = hub.sync()
        if shape.said is None:
            assert done.code == 0, done.job["error"]
            prefix = "below/" if below else ""
            extra = {"nginx.conf"} if below else set()
            assert (
                set(hub.tree()) == {f"{prefix}{one}" for one in (*shape.names, "fine.conf")} | extra
            )
            assert hub.sync().job["status"] == "unchanged"
            continue
        error = done.job["error"]
        assert (done.code, error["kind"]) == (EXITS[shape.kind], shape.kind), error
        assert shape.said in error["message"], error
        assert (
            error["message"].isprintable()
            and len(error["message"]) < 600
            and "Traceback" not in done.err
        )
        assert surroundings(hub) == before
    assert not Path(OUTSIDE.decode()).exists()
    hub.repo.refs["refs/heads/main"] = good
    assert hub.sync("--allow-delete", "100").code == 0 and set(hub.tree()) == {
        "nginx.conf",
        "sites/a.conf",
    }


def test_a_submodule_is_refused_where_the_job_says_so(hub: SyncEnv) -> None:
    hub.write_config(submodules="refuse")
    put(hub.repo, [(SUBMODULE, b"module", "ab" * 20)], False)
    done = hub.sync()
    assert (
        done.code == 1
        and "nginx/module of acme/infra is a submodule" in done.job["error"]["message"]
    )


def test_a_link_of_one_path_is_not_the_way_to_the_files_of_another(hub: SyncEnv) -> None:
    outside = hub.folder / "outside"
    outside.mkdir()
    put(hub.repo, [(LINK, b"into", hub.repo.add_blob(str(outside)))], False)
    hub.repo.refs["refs/heads/files"] = hub.repo.head()
    for path in (
        {"from": "nginx/fine.conf", "to": f"{hub.dest}/into/fine.conf"},
        {"from": "nginx/", "to": f"{hub.dest}/into/", "exclude": ["into"]},
    ):
        hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/"}, path])
        done = hub.sync()
        assert done.code == 1 and done.job["error"]["kind"] == "mirror", done.job
        assert not any(outside.iterdir()) and hub.tree() == {}


@pytest.mark.parametrize("answer", ["a folder that holds itself", "a folder that holds the root"])
def test_a_tree_that_goes_in_circles_does_not_hash_and_is_not_followed(
    hub: SyncEnv, answer: str
) -> None:
    hub.sync()
    before, root = surroundings(hub), hub.repo.commits[hub.repo.head()].tree

    def circle(told: Answer) -> Answer:
        body = json.loads(told.body)
        body["truncated"] = hub.github.count("tree") == 0  # so that it is asked level by level
        body["tree"] = [
            {
                "path": "again",
                "mode": "040000",
                "type": "tree",
                "sha": body["sha"] if "itself" in answer else root,
            }
        ]
        return replace(told, body=json.dumps(body).encode())

    hub.repo.commit({"nginx/sites/b.conf": "b\n"})
    hub.github.add_fault("tree", circle, times=1000)
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (
        5,
        "bad_response",
    ) and "do not hash" in done.job["error"]["message"], done.job["error"]
    assert hub.github.count("tree") <= 3 and surroundings(hub) == before


@pytest.mark.parametrize(
    ("depth", "said"),
    [
        (2040, "nested deeper than 100 folders"),
        (3000, "nested deeper than 100 folders"),
        (10_000, "nested deeper than 100 folders"),
    ],
)
def test_a_tree_too_deep_for_any_disk_is_refused_with_few_requests(
    hub: SyncEnv, depth: int, said: str
) -> None:
    hub.sync()
    before, entries = surroundings(hub), nested(depth)(hub.repo)
    put(hub.repo, entries, False)
    hub.github.tree_limit = 50 if depth > 2040 else 100_000
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror") and said in done.job["error"][
        "message"
    ], done.job["error"]
    assert done.job["error"]["message"].isprintable() and len(done.job["error"]["message"]) < 600
    assert hub.github.count() < 250 and surroundings(hub) == before


def test_a_million_files_are_given_up_while_they_come(hub: SyncEnv) -> None:
    hub.sync()
    taken = 0

    def million(told: Answer) -> Answer:
        def pieces() -> Iterator[bytes]:
            nonlocal taken
            yield b'{"sha":"%s","truncated":false,"tree":[' % (b"a" * 40)
            for number in range(1_000_000):
                taken = number
                yield b'{"path":"f%07d","mode":"100644","type":"blob","sha":"%040d","size":1},' % (
                    number,
                    number,
                )
            yield b'{"path":"last","mode":"100644","type":"blob","sha":"%040d","size":1}]}' % 7

        return replace(told, pieces=pieces(), declared_length=None)

    hub.repo.commit({"nginx/sites/b.conf": "b\n"})
    hub.write_config(limits={"files": "1000"})
    before = surroundings(hub)
    hub.github.add_fault("tree", million)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (6, "limit"), done.job["error"]
    assert (
        "more than 20,000 files and folders" in done.job["error"]["message"]
        and "limits: files" in done.job["error"]["hint"]
    )
    assert taken < 200_000, "the rest was never read"
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 100 << 10
        and surroundings(hub) == before
    )


def test_more_files_than_the_job_may_list_are_refused_also_where_patterns_choose(
    hub: SyncEnv,
) -> None:
    hub.sync()
    hub.repo.commit({f"nginx/more/f{number:03d}.conf": "x" for number in range(120)})
    hub.write_config(
        limits={"files": "100"},
        paths=[{"from": "nginx/", "to": f"{hub.dest}/", "include": ["*.conf"]}],
    )
    before = surroundings(hub)
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (
        6,
        "limit",
    ) and "limits.files: 100" in done.job["error"]["message"]
    assert surroundings(hub) == before
