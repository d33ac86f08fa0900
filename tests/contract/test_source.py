"""What every Source promises, told of GitHubSource through both doors to the simulator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.errors import (
    AuthError,
    BadResponseError,
    ConfigError,
    LimitError,
    NotFoundError,
    RemoteError,
    RemoteUnavailableError,
    StoppedError,
    SyncdError,
    TimedOutError,
    UnsafePathError,
)
from syncd.git_objects import EXECUTABLE, FILE, LINK, SUBMODULE, TREE, blob_id
from syncd.github.client import GitHubSource
from syncd.github.error_responses import TooLargeError
from syncd.github.file_content import MAX_BLOB_BYTES
from syncd.github.protocol import Transport
from syncd.github.request_cache import SingleFlight
from syncd.models import PathRule, TreeEntry
from syncd.ports import BlobRequest, Head
from syncd.simulator import faults
from syncd.simulator.github import GitHub
from syncd.simulator.repository import Declared, File, Link, Node, Repository, Submodule
from tests.contract.doors import (
    TOKEN,
    Memory,
    MemoryBlobs,
    QuickClock,
    deadline,
    memory_door,
    socket_door,
)
from tests.support.bombs import gzip_of_zeros

REPO = "acme/infra"
Door = Callable[[GitHub], AbstractContextManager[tuple[Transport, str]]]


@dataclass
class House:
    github: GitHub
    repo: Repository
    source: GitHubSource
    memory: Memory
    blobs: MemoryBlobs

    def head(self, ref: str | None = "main", known: Head | None = None) -> Head:
        return self.source.with_cache(SingleFlight()).resolve(REPO, ref, known, deadline())

    def listing(self, *rules: str, commit: str | None = None) -> dict[str, TreeEntry]:
        return dict(
            self.source.with_cache(SingleFlight())
            .listing(
                REPO,
                commit or self.repo.head(),
                [rule(text) for text in rules],
                self.memory,
                deadline(),
            )
            .entries
        )

    def fetch(self, entries: dict[str, TreeEntry]) -> int:
        wanted = [BlobRequest(path, entry) for path, entry in entries.items()]
        return self.source.fetch(REPO, self.repo.head(), wanted, self.blobs, deadline())

    def cost(self) -> dict[str, int]:
        routes = self.github.routes()
        self.github.forget_requests()
        return routes

    def truth(self, prefix: str = "") -> dict[str, tuple[int, str]]:
        walked = self.repo.walk(self.repo.commits[self.repo.head()].tree)
        return {
            path: (mode, identity)
            for path, mode, identity in walked
            if mode != TREE and path.startswith(prefix)
        }


def rule(text: str) -> PathRule:
    return PathRule(text.rstrip("/"), "/srv/" + text.rstrip("/"), text.endswith("/"))


def bare(entries: dict[str, TreeEntry]) -> dict[str, tuple[int, str]]:
    return {path: (entry.mode, entry.id) for path, entry in entries.items()}


FILES = {
    "nginx/nginx.conf": "worker_processes 4;\n",
    "nginx/sites/a b#c?d%25+é.conf": "server {}\n",
    "nginx/sites/run.sh": File(b"#!/bin/sh\n", executable=True),
    "nginx/sites/current": Link("a b#c?d%25+é.conf"),
    "nginx/empty": "",
    "certs/public.pem": "pem\n",
    "certs/other.pem": "other\n",
    "README": "hello\n",
    "vendor": Submodule("1" * 40),
}


@pytest.fixture(params=[memory_door, socket_door], ids=["memory", "sockets"])
def door(request: pytest.FixtureRequest) -> Door:
    found: Door = request.param
    return found


@pytest.fixture
def ctx(door: Door) -> Iterator[House]:
    yield from opened(door)


@pytest.fixture
def near() -> Iterator[House]:
    """In memory only, for what the wire has no part in."""
    yield from opened(memory_door)


def opened(door: Door) -> Iterator[House]:
    github = GitHub()
    github.accounts.add_personal_token(TOKEN)
    repo = github.add_repo(REPO, FILES, private=False)
    with door(github) as (transport, api):
        source = GitHubSource(transport, api, max_concurrent=4)
        yield House(github, repo, source, Memory(), MemoryBlobs())
        source.close()


class TestResolve:
    def test_a_branch_is_its_commit_and_known_again_by_one_request_answered_304(
        self, ctx: House
    ) -> None:
        head = ctx.head()
        assert (head.commit, head.form, head.unchanged) == (ctx.repo.head(), "heads/main", False)
        ctx.cost()
        again = ctx.head(known=head)
        assert again.unchanged and again.commit == head.commit
        assert [one.status for one in ctx.github.requests] == [304]

    @pytest.mark.parametrize(
        ("ref", "form"),
        [
            (None, "HEAD"),
            ("HEAD", "HEAD"),
            ("refs/heads/main", "heads/main"),
            ("refs/tags/v1", "tags/v1"),
            ("v1", "tags/v1"),
            ("annotated", "tags/annotated"),
        ],
    )
    def test_every_spelling_of_a_ref_resolves(
        self, near: House, ref: str | None, form: str
    ) -> None:
        near.repo.tag("v1", near.repo.head())
        near.repo.tag("annotated", near.repo.head(), annotated=True)
        head = near.head(ref)
        assert (head.commit, head.form) == (near.repo.head(), form)

    def test_a_tag_costs_one_request_at_rest(self, near: House) -> None:
        near.repo.tag("v1", near.repo.head())
        head = near.head("v1")
        assert near.cost() == {"head": 2}
        assert near.head("v1", head).unchanged
        assert near.cost() == {"head": 1}

    @pytest.mark.parametrize("annotated", [False, True])
    @pytest.mark.parametrize("name", ["live", "feature/x", "a b#c?d%25"])
    def test_a_name_that_is_both_a_branch_and_a_tag_is_a_config_error(
        self, near: House, name: str, annotated: bool
    ) -> None:
        first = near.repo.head()
        near.repo.tag(name, first, annotated)
        near.repo.commit({"x": "y"}, branch=name, parents=[first])
        with pytest.raises(ConfigError) as found:
            near.head(name)
        assert f"refs/heads/{name} and refs/tags/{name}" in found.value.message
        assert near.head(f"refs/tags/{name}").commit == first

    def test_a_full_commit_id_must_come_back_as_it_was_asked(self, near: House) -> None:
        commit = near.repo.head()
        assert near.head(commit).commit == commit
        near.github.etags = "none"
        near.github.add_fault("head", faults.other_content(b"2" * 40))
        with pytest.raises(BadResponseError):
            near.head(commit)

    def test_a_ref_with_odd_characters_is_encoded(self, ctx: House) -> None:
        made = ctx.repo.commit({"x": "y"}, branch="feature/a#b%25?c")
        assert ctx.head("feature/a#b%25?c").commit == made

    def test_three_absences_have_three_texts(self, near: House) -> None:
        with pytest.raises(NotFoundError, match=r"no branch, tag or commit 'nosuch' in acme/infra"):
            near.head("nosuch")
        with pytest.raises(AuthError, match="not there, or this identity may not see it"):
            near.source.resolve("acme/gone", "main", None, deadline())
        near.github.add_repo("acme/empty", private=False)
        with pytest.raises(NotFoundError, match="acme/empty is empty"):
            near.source.resolve("acme/empty", "main", None, deadline())

    @pytest.mark.parametrize("ref", ["../../../user", "a/../b", "a//b", "."])
    def test_a_ref_that_would_lead_to_another_endpoint_is_never_asked_for(
        self, near: House, ref: str
    ) -> None:
        with pytest.raises(NotFoundError, match="no branch, tag or commit"):
            near.head(ref)
        assert near.cost() == {}

    @pytest.mark.parametrize("style", ["hash", "none"])
    def test_other_etags_or_none_cost_a_request_and_nothing_else(
        self, near: House, style: str
    ) -> None:
        near.github.etags = style
        head = near.head()
        again = near.head(known=head)
        assert again.unchanged and again.commit == head.commit

    def test_a_json_commit_is_understood(self, ctx: House) -> None:
        ctx.github.plain_json = True
        assert ctx.head().commit == ctx.repo.head()

    def test_callers_at_the_same_time_share_one_request_and_each_learns_whether_it_changed(
        self, near: House
    ) -> None:
        known = near.head("refs/heads/main")
        near.cost()
        with ThreadPoolExecutor(8) as pool:
            asked = [
                pool.submit(
                    near.source.resolve,
                    REPO,
                    "refs/heads/main",
                    known if number % 2 else None,
                    deadline(),
                )
                for number in range(8)
            ]
            heads = [one.result() for one in asked]
        assert near.cost() == {"head": 1}
        assert [head.unchanged for head in heads] == [bool(number % 2) for number in range(8)]

    def test_the_first_callers_error_is_shared(self, near: House) -> None:
        for _ in range(3):
            with pytest.raises(AuthError):
                near.source.resolve("acme/gone", None, None, deadline())
        assert near.cost() == {"head": 1}

    def test_a_caller_who_was_stopped_leaves_the_question_to_the_next(self, near: House) -> None:
        stopped = threading.Event()
        stopped.set()
        with pytest.raises(StoppedError):
            near.source.resolve(REPO, "main", None, Deadline(QuickClock(), 60, stopped))
        assert near.source.resolve(REPO, "main", None, deadline()).commit == near.repo.head()


class TestListing:
    def test_a_folder_is_everything_below_it_with_modes(self, ctx: House) -> None:
        found = ctx.listing("nginx/")
        assert bare(found) == ctx.truth("nginx/")
        assert (
            found["nginx/sites/run.sh"].mode == EXECUTABLE
            and found["nginx/sites/current"].mode == LINK
        )
        assert ctx.cost() == {"contents": 1, "tree": 1}

    def test_the_root_is_everything(self, ctx: House) -> None:
        found = ctx.listing("/")
        assert bare(found) == ctx.truth()
        assert found["vendor"].mode == SUBMODULE

    def test_files_of_one_folder_cost_one_request(self, ctx: House) -> None:
        found = ctx.listing("certs/public.pem", "certs/other.pem")
        assert bare(found) == ctx.truth("certs/")
        assert ctx.cost() == {"contents": 1}

    def test_files_and_folders_at_the_root_cost_one_request_to_find(self, near: House) -> None:
        near.repo.commit({"vendor": None})
        near.listing("README", "nginx/", "certs/")
        near.cost()
        near.repo.commit({"src/elsewhere.py": "1"})
        near.listing("README", "nginx/", "certs/")
        assert near.cost() == {"contents": 1}

    def test_a_commit_elsewhere_costs_one_request(self, near: House) -> None:
        near.listing("nginx/")
        near.cost()
        near.repo.commit({"src/elsewhere.py": "1"})
        assert bare(near.listing("nginx/")) == near.truth("nginx/")
        assert near.cost() == {"contents": 1}

    def test_a_flat_folder_is_proven_by_its_own_id_without_a_second_request(
        self, near: House
    ) -> None:
        near.repo.commit(
            {f"flat/{number}.conf": str(number) for number in range(40)}
            | {"flat/reload": File(b"#!", executable=True)}
        )
        assert bare(near.listing("flat/")) == near.truth("flat/")
        assert near.cost() == {"contents": 1}

    @pytest.mark.parametrize("count", [999, 1000, 1001, 1300])
    def test_a_folder_around_the_contents_limit_is_whole(self, near: House, count: int) -> None:
        near.repo.commit({f"many/{number:04d}": str(number) for number in range(count)})
        assert len(near.listing("many/")) == count
        near.cost()
        near.memory.trees.clear()
        assert len(near.listing("many/0000", f"many/{count - 1:04d}")) == 2

    def test_exactly_a_thousand_entries_are_never_taken_as_the_whole(self, near: House) -> None:
        near.repo.commit({f"many/{number:04d}": str(number) for number in range(1000)})
        near.listing("many/")
        assert near.cost() == {"contents": 1, "tree": 1}

    def test_a_truncated_tree_is_walked_and_whole(self, near: House) -> None:
        near.repo.commit(
            {f"big/{a}/{b}/{c}": f"{a}{b}{c}" for a in range(4) for b in range(3) for c in range(6)}
            | {"big/top": "t"}
        )
        near.github.tree_limit = 20
        assert bare(near.listing("big/")) == near.truth("big/")
        near.cost()
        near.repo.commit({"big/0/0/0": "changed"})
        assert bare(near.listing("big/")) == near.truth("big/")
        assert near.cost() == {
            "contents": 1,
            "tree": 5,
        }  # two levels that were cut, each once recursive and once flat, and what changed

    def test_one_folder_beyond_what_github_lists_is_refused(self, near: House) -> None:
        near.repo.commit({f"big/{number}": str(number) for number in range(1100)})
        near.github.tree_limit = 1050
        with pytest.raises(BadResponseError, match="more entries in one folder than GitHub lists"):
            near.listing("big/")

    def test_nested_rules_are_read_from_the_outer_folder(self, near: House) -> None:
        found = near.listing("nginx/", "nginx/sites/", "nginx/empty")
        assert bare(found) == near.truth("nginx/")
        assert near.cost() == {"contents": 1, "tree": 1}

    def test_plain_arrays_and_json_are_understood(self, ctx: House) -> None:
        ctx.github.plain_json = True
        assert bare(ctx.listing("nginx/", "certs/public.pem", "README")) == {
            path: entry
            for path, entry in ctx.truth().items()
            if path.startswith("nginx/") or path in ("certs/public.pem", "README")
        }
        assert bare(ctx.listing("/")) == ctx.truth()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("nosuch/", r"no folder 'nosuch' in acme/infra at \w{7}"),
            ("nosuch/file", r"'nosuch/file' is not in acme/infra"),
            ("nginx/nosuch", r"'nginx/nosuch' is not in acme/infra"),
            ("nosuch", r"'nosuch' is not in acme/infra"),
            ("nginx/sites/deeper/", "no folder 'nginx/sites/deeper'"),
            ("nginx", "'nginx' is a folder"),
            ("nginx/sites", "'nginx/sites' is a folder"),
            ("README/", "'README' is a file, not a folder"),
            ("README/below", "'README/below' is not in .*: 'README' is a file"),
            ("nginx/sites/current/", "is a (file|symbolic link), not a folder"),
            ("vendor/", "'vendor' is a submodule, not a folder"),
        ],
    )
    def test_a_listed_path_that_is_missing_or_something_else_is_named(
        self, near: House, text: str, message: str
    ) -> None:
        with pytest.raises(NotFoundError, match=message):
            near.listing(text)
        with pytest.raises(NotFoundError, match=message):
            near.listing("certs/", text)
        if text not in (
            "README/",
            "README/below",
            "nginx/sites/current/",
            "vendor/",
            "nosuch/",
            "nosuch/file",
        ):
            with pytest.raises(NotFoundError):
                near.listing("/", text)

    @pytest.mark.parametrize(
        ("others", "text", "begins", "cost"),
        [
            # the spelling, in the last part, the first and all
            ((), "Nginx/", "did you mean nginx/? correct", {"contents": 2}),
            ((), "nginx/Sites/", "did you mean nginx/sites/? correct", {"contents": 2, "tree": 1}),
            ((), "NGINX/SITES/", "did you mean nginx/sites/? correct", {"contents": 2, "tree": 1}),
            (
                (),
                "Deep/Er/Still/",
                "did you mean deep/er/still/? correct",
                {"contents": 2, "tree": 1},
            ),
            (
                (),
                "caf\u00e9/",
                (
                    "did you mean cafe\u0301/? (its letters are composed in another way: copy it "
                    "from here) correct"
                ),
                {"contents": 2},
            ),
            ((), "readme", "did you mean README? correct", {"contents": 1, "tree": 1}),
            ((), "certs/Public.pem", "did you mean certs/public.pem? correct", {"contents": 1}),
            (
                (),
                "Certs/public.pem",
                "did you mean certs/public.pem? correct",
                {"contents": 2, "tree": 1},
            ),
            (
                (),
                "Certs/PUBLIC.pem",
                "did you mean certs/public.pem? correct",
                {"contents": 2, "tree": 1},
            ),
            # the other kind
            ((), "Nginx", "did you mean nginx/? correct", {"contents": 1, "tree": 1}),
            ((), "ReadMe/", "did you mean README? correct", {"contents": 2}),
            # nearly
            ((), "ngnix/", "did you mean nginx/? correct", {"contents": 2}),
            ((), "certs/pubic.pem", "did you mean certs/public.pem? correct", {"contents": 1}),
            ((), "ngnix/site/", "did you mean nginx/sites/? correct", {"contents": 2, "tree": 1}),
            # nothing is alike
            (
                (),
                "quite-another/",
                "was it moved, emptied or removed upstream? correct",
                {"contents": 2},
            ),
            (
                (),
                "nginx/quite-another/",
                "was it moved, emptied or removed upstream? correct",
                {"contents": 2, "tree": 1},
            ),
            # what was read for other paths is not asked for again
            (("/",), "Nginx/", "did you mean nginx/? correct", {"contents": 1, "tree": 1}),
            (("nginx/", "deep/"), "Nginx/", "did you mean nginx/? correct", {"contents": 2}),
            (("deep/",), "deep/Er/", "did you mean deep/er/? correct", {"contents": 1, "tree": 1}),
        ],
    )
    def test_a_missing_path_that_is_spelled_otherwise_is_suggested(
        self, near: House, others: tuple[str, ...], text: str, begins: str, cost: dict[str, int]
    ) -> None:
        near.repo.commit({"deep/er/still/file": "x", "cafe\u0301/menu": "x"})
        near.cost()
        with pytest.raises(NotFoundError) as raised:
            near.listing(*others, text)
        hint = raised.value.hint or ""
        assert hint.startswith(begins) and hint.endswith(
            ("its file stays until then", "its files stay until then")
        )
        assert near.cost() == cost

    def test_a_suggestion_costs_one_request_for_a_commit_and_none_where_that_fails(
        self, near: House
    ) -> None:
        ticks = [near.source.with_cache(SingleFlight()) for _ in range(3)]
        near.github.add_fault("tree", faults.html(), times=1)
        said = []
        for tick in ticks:
            with pytest.raises(NotFoundError) as raised:
                tick.listing(
                    REPO, near.repo.head(), [rule("nginx/Sites/")], near.memory, deadline()
                )
            said.append("did you mean nginx/sites/?" in (raised.value.hint or ""))
        assert said == [False, True, True] and near.cost() == {"contents": 6, "tree": 2}

    def test_a_suggestion_that_could_not_be_looked_for_is_looked_for_when_github_is_asked_again(
        self, near: House
    ) -> None:
        clock = QuickClock()

        def hint(text: str, urgent: bool = False) -> str:
            with pytest.raises(NotFoundError) as raised:
                near.source.with_cache(SingleFlight()).listing(
                    REPO,
                    near.repo.head(),
                    [rule(text)],
                    near.memory,
                    Deadline(clock, 60, interactive=urgent),
                )
            return raised.value.hint or ""

        hint("Nginx/")
        clock.wait(threading.Event(), 61)
        assert "did you mean nginx/?" in hint("Nginx/")
        near.cost()
        assert "did you mean nginx/?" in hint("Nginx/") and "did you mean" not in hint(
            "Nginx/nginx.conf"
        )
        assert near.cost() == {}, "the folder is known to be missing, and nothing is asked"
        assert "did you mean nginx/nginx.conf?" in hint("Nginx/nginx.conf", urgent=True)

    def test_a_link_to_a_folder_is_not_a_folder(self, near: House) -> None:
        near.repo.commit({"live": Link("nginx")})
        with pytest.raises(NotFoundError, match="'live' is a symbolic link, not a folder"):
            near.listing("live/")

    def test_a_repository_that_is_hidden_by_now_is_not_a_missing_path(self, near: House) -> None:
        commit = near.repo.head()
        near.github.repos.clear()
        with pytest.raises(AuthError, match="not there any more"):
            near.listing("nginx/", commit=commit)
        with pytest.raises(AuthError):
            near.listing("/", commit=commit)

    def test_a_tree_that_github_named_and_does_not_find_removes_nothing(self, near: House) -> None:
        near.github.add_fault("tree", faults.status(404, "Not Found"), times=9)
        with pytest.raises(BadResponseError, match="does not find tree"):
            near.listing("nginx/")

    @pytest.mark.parametrize(
        "entry",
        [
            (FILE, b".."),
            (FILE, b"."),
            (FILE, b".git"),
            (FILE, b".GIT"),
            (FILE, b".Git"),
            (FILE, b"a\nb"),
            (FILE, b"\x1b[2J"),
            (FILE, b"x\x7f"),
            (FILE, b"\xff\xfe"),
            (FILE, b"x" * 256),
            (FILE, "é".encode() * 128),
            (FILE, b"a/b"),
            (FILE, "\x85".encode()),
            (TREE, b".git"),
            (TREE, b".."),
            (TREE, b"\xff"),
            (LINK, b".git"),
            (LINK, b".."),
        ],
    )
    @pytest.mark.parametrize("deep", [False, True])
    def test_a_hostile_name_is_refused_by_name(
        self, near: House, entry: tuple[int, bytes], deep: bool
    ) -> None:
        blob = near.repo.add_blob("evil")
        mode, name = entry
        inner = near.repo.add_tree([(FILE, b"inner", blob)])
        bad = near.repo.add_tree(
            [(mode, name, inner if mode == TREE else blob), (FILE, b"fine", blob)]
        )
        middle = near.repo.add_tree([(TREE, b"deep", bad), (FILE, b"ok", blob)]) if deep else bad
        commit = near.repo.add_commit(near.repo.add_tree([(TREE, b"conf", middle)]))
        near.repo.refs["refs/heads/main"] = commit
        for rules in (["conf/"], ["/"]):
            near.memory.trees.clear()
            with pytest.raises(UnsafePathError) as caught:
                near.listing(*rules)
            assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
        near.github.tree_limit = 2
        with pytest.raises(UnsafePathError):
            near.listing("conf/")
        assert not near.memory.trees

    @pytest.mark.parametrize("twin", [FILE, TREE])
    def test_twins_of_one_name_are_refused(self, near: House, twin: int) -> None:
        one, other = near.repo.add_blob("one"), near.repo.add_blob("other")
        inner = near.repo.add_tree([(FILE, b"inner", one)])
        bad = near.repo.add_tree(
            [(FILE, b"same", one), (twin, b"same", other if twin == FILE else inner)]
        )
        near.repo.refs["refs/heads/main"] = near.repo.add_commit(
            near.repo.add_tree([(TREE, b"conf", bad)])
        )
        with pytest.raises(UnsafePathError, match="two entries named 'same'"):
            near.listing("conf/")
        with pytest.raises(UnsafePathError, match="two entries named 'same'"):
            near.listing("conf/same")

    def test_a_hostile_neighbour_does_not_stop_a_listed_file(self, near: House) -> None:
        blob = near.repo.add_blob("fine")
        bad = near.repo.add_tree([(FILE, b".git", blob), (FILE, b"fine", blob)])
        near.repo.refs["refs/heads/main"] = near.repo.add_commit(
            near.repo.add_tree([(TREE, b"conf", bad)])
        )
        assert bare(near.listing("conf/fine")) == {"conf/fine": (FILE, blob)}

    def test_too_many_entries_stop_early(self, near: House) -> None:
        near.repo.commit({f"big/{a}/{b}": f"{a}{b}" for a in range(10) for b in range(30)})
        near.source._max_entries = 200
        with pytest.raises(LimitError, match="more than 200"):
            near.listing("big/")
        near.github.tree_limit = 50
        with pytest.raises(LimitError, match="more than 200"):
            near.listing("big/")

    def test_a_listing_of_millions_is_given_up_while_it_comes(self, near: House) -> None:
        taken = 0

        def endless() -> Iterator[bytes]:
            nonlocal taken
            yield b'{"tree":['
            while True:
                taken += 1
                yield b'{"path":"%d","mode":"100644","type":"blob","sha":"%040d"},' % (taken, taken)

        near.source._max_entries = 5000
        near.github.add_fault("tree", lambda answer: replace(answer, pieces=endless()))
        with pytest.raises(LimitError, match="more than 5,000"):
            near.listing("nginx/")
        assert taken == 5001


class TestFetch:
    def test_every_kind_of_file_comes_with_its_own_bytes(self, ctx: House) -> None:
        entries = ctx.listing("nginx/", "README")
        ctx.cost()
        brought = ctx.fetch(entries)
        assert {
            identity for _, identity in ctx.truth("nginx/").values()
        } <= ctx.blobs.content.keys()
        assert brought == sum(len(content) for content in ctx.blobs.content.values())
        assert ctx.cost() == {"contents": 5, "blob": 1}  # the link by its id
        assert ctx.fetch(entries) == 0 and ctx.cost() == {}

    def test_identical_files_are_fetched_once(self, near: House) -> None:
        near.repo.commit({f"same/{number}": "same" for number in range(150)})
        near.fetch(near.listing("same/"))
        assert near.cost() == {"contents": 2}

    def test_submodules_are_never_fetched(self, near: House) -> None:
        assert near.fetch({"vendor": TreeEntry(SUBMODULE, "1" * 40)}) == 0
        assert near.cost() == {}

    def test_many_files_come_by_the_archive(self, ctx: House) -> None:
        ctx.repo.commit(
            {f"many/{number // 50}/{number}": f"file {number}\n" * 40 for number in range(500)}
            | {"many/link": Link("0/0"), "many/x": File(b"", executable=True)}
        )
        entries = ctx.listing("many/")
        ctx.cost()
        ctx.fetch(entries)
        assert ctx.cost() == {"repo": 1, "tarball": 1, "codeload": 1}
        assert all(ctx.blobs.has(entry.id) for entry in entries.values())
        assert all(one.credential is None for one in ctx.github.requests if one.route == "codeload")

    def test_what_the_archive_leaves_out_or_alters_comes_singly(self, near: House) -> None:
        near.repo.commit(
            {f"many/{number}": f"file {number}" for number in range(150)}
            | {"many/version": "$Format:%H$", "many/hidden": "not exported"}
        )
        near.repo.export_ignore.add("many/hidden")
        near.repo.export_subst.add("many/version")
        entries = near.listing("many/")
        near.cost()
        near.fetch(entries)
        assert near.cost() == {"repo": 1, "tarball": 1, "codeload": 1, "contents": 2}
        assert all(near.blobs.has(entry.id) for entry in entries.values())

    @pytest.mark.parametrize(
        "wrong",
        [
            faults.status(500),
            faults.status(404, "Not Found"),
            faults.html(),
            faults.html(503),
            faults.reset(),
            faults.reset_in_body(500),
            faults.cut(500),
            faults.cut_silently(500),
            faults.cut_silently(0),
            faults.corrupt(0.3),
            faults.corrupt(0.9),
            faults.other_content(),
            faults.bomb(60 << 20),
        ],
    )
    @pytest.mark.parametrize("route", ["tarball", "codeload"])
    def test_a_broken_archive_costs_time_only(
        self, near: House, wrong: faults.FaultEffect, route: str
    ) -> None:
        near.repo.commit({f"many/{number}": f"file {number}" * 20 for number in range(120)})
        entries = near.listing("many/")
        near.github.add_fault(route, wrong, times=9)
        near.fetch(entries)
        assert all(near.blobs.has(entry.id) for entry in entries.values())

    def test_a_file_beyond_what_github_serves_is_refused_by_name_before_anything_is_asked(
        self, near: House
    ) -> None:
        near.repo.commit({"images/huge.bin": Declared("3" * 40, MAX_BLOB_BYTES + 1)})
        entries = near.listing("images/")
        near.cost()
        with pytest.raises(
            TooLargeError,
            match=r"'images/huge.bin' of acme/infra has 104,857,601 bytes.*up to 100 MB",
        ):
            near.fetch(entries)
        assert near.cost() == {}

    def test_too_large_for_contents_comes_by_its_id(self, near: House) -> None:
        content = bytes(range(256)) * 5000
        near.repo.commit({"big.bin": content})
        near.github.add_fault("contents", faults.status(403, "too large"), times=0)
        entries = near.listing("big.bin")
        body = (
            b'{"message":"This API returns blobs up to 1 MB in '
            b'size.","errors":[{"resource":"Blob","field":"data","code":"too_large"}]}'
        )
        near.github.add_fault(
            "contents",
            lambda answer: faults.Answer(403, {"content-type": "application/json"}, body),
        )
        near.cost()
        near.fetch(entries)
        assert (
            near.cost() == {"contents": 1, "blob": 1}
            and near.blobs.content[blob_id(content)] == content
        )

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"text\n",
            b"\x00\xff\x80binary",
            b'{"encoding": "base64", "content": "aGk="}',
            b"[]",
            b"x" * 100_000,
        ],
    )
    def test_json_where_raw_was_asked_for_is_understood(self, ctx: House, content: bytes) -> None:
        ctx.repo.commit({"file": content, "link": Link("README")})
        ctx.github.plain_json = True
        entries = ctx.listing("file", "link")
        ctx.fetch(entries)
        assert (
            ctx.blobs.content[blob_id(content)] == content
            and ctx.blobs.content[blob_id(b"README")] == b"README"
        )

    def test_a_json_file_served_under_its_own_type_is_the_file(self, near: House) -> None:
        content = b'{"encoding": "none", "content": "", "a": 1}'
        near.repo.commit({"package.json": content})
        entries = near.listing("package.json")
        near.github.add_fault(
            "contents",
            lambda answer: faults.Answer(200, {"content-type": "application/json"}, answer.body),
        )
        near.fetch(entries)
        assert near.blobs.content[blob_id(content)] == content

    def test_encoding_none_falls_back_to_the_blob(self, near: House) -> None:
        near.repo.commit({"file": "text"})
        entries = near.listing("file")
        near.github.add_fault(
            "contents",
            lambda answer: faults.Answer(
                200,
                {"content-type": "application/json"},
                b'{"encoding":"none","content":"","size":4}',
            ),
        )
        near.fetch(entries)
        assert near.blobs.has(blob_id(b"text"))

    def test_other_bytes_are_asked_for_once_more_by_id_and_then_refused(self, near: House) -> None:
        near.repo.commit({"file": "text"})
        entries = near.listing("file")
        near.github.add_fault("contents", faults.other_content(), times=9)
        near.cost()
        near.fetch(entries)
        assert near.cost() == {"contents": 1, "blob": 1}
        near.blobs.content.clear()
        near.github.add_fault("blob", faults.other_content(), times=9)
        with pytest.raises(
            BadResponseError, match=r"request for 'file' of acme/infra at \w{7} with"
        ):
            near.fetch(entries)
        assert not near.blobs.content

    def test_a_wrong_size_in_a_listing_does_not_stand_in_the_way(self, near: House) -> None:
        near.repo.commit({"file": "text"})
        near.fetch({"file": TreeEntry(FILE, blob_id(b"text"), 3)})
        assert near.blobs.has(blob_id(b"text"))

    def test_the_first_error_ends_it_and_what_was_verified_stays(self, near: House) -> None:
        near.repo.commit({f"few/{number}": f"{number}" for number in range(60)})
        entries = near.listing("few/")
        near.cost()
        for route in ("contents", "blob"):
            near.github.add_fault(
                route,
                faults.status(401, "Bad credentials"),
                times=999,
                skip=10 if route == "contents" else 0,
            )
        with pytest.raises(AuthError):
            near.fetch(entries)
        assert len(near.blobs.content) == 10
        assert sum(near.cost().values()) < 30

    def test_a_signal_ends_a_fetch(self, near: House) -> None:
        near.repo.commit({f"few/{number}": f"{number}" for number in range(60)})
        entries = near.listing("few/")
        stop = threading.Event()
        near.github.call_before("contents", near.github.count("contents") + 20, stop.set)
        wanted = [BlobRequest(path, entry) for path, entry in entries.items()]
        with pytest.raises(StoppedError):
            near.source.fetch(
                REPO, near.repo.head(), wanted, near.blobs, Deadline(QuickClock(), 60, stop)
            )
        assert 0 < len(near.blobs.content) < 60

    def test_jobs_that_want_the_same_blob_at_the_same_time_fetch_it_once(self, near: House) -> None:
        near.repo.commit({f"few/{number}": f"{number}" for number in range(40)})
        entries = near.listing("few/")
        near.cost()
        with ThreadPoolExecutor(6) as pool:
            for one in [pool.submit(near.fetch, entries) for _ in range(6)]:
                one.result()
        assert near.cost() == {"contents": 40}


class TestCost:
    def test_five_of_five_thousand_cost_eight_and_a_first_sync_six(self, near: House) -> None:
        files = {
            f"conf/g{number // 100:02d}/host-{number:04d}.conf": f"host {number}\n"
            for number in range(5000)
        }
        near.repo.commit(files)
        head = near.head()
        near.fetch(near.listing("conf/"))
        assert near.cost() == {"head": 2, "contents": 1, "tree": 1, "tarball": 1, "codeload": 1}
        near.repo.commit({path: "changed " + path for path in list(files)[::1000]})
        near.head(known=head)
        near.fetch(near.listing("conf/"))
        assert near.cost() == {"head": 1, "contents": 6, "tree": 1}

    def test_one_big_file_costs_four(self, near: House) -> None:
        near.repo.commit({"data/image.bin": b"\0" * 3_000_000})
        near.head()
        near.fetch(near.listing("data/image.bin"))
        assert near.cost() == {"head": 2, "contents": 2}


BOMB = gzip_of_zeros(70)  # mebibytes, a bit more than any JSON may have


def bomb(answer: faults.Answer) -> faults.Answer:
    return faults.Answer(200, {**answer.headers, "content-encoding": "gzip"}, BOMB)


WRONGS: dict[str, tuple[faults.FaultEffect, type[SyncdError]]] = {
    "corrupt": (faults.corrupt(), BadResponseError),
    "cut": (faults.cut(), RemoteUnavailableError),
    "cut_silently": (faults.cut_silently(), BadResponseError),
    "html": (faults.html(), BadResponseError),
    "wrong-content": (faults.other_content(), BadResponseError),
    "wrong-json": (
        faults.other_content(b'{"sha": 5, "tree": {}, "entries": [null], "content": []}'),
        BadResponseError,
    ),
    "array": (faults.other_content(b"[1, 2]"), BadResponseError),
    "deep": (faults.other_content(b"[" * 100_000), BadResponseError),
    "reset": (faults.reset(), RemoteUnavailableError),
    "reset-in-body": (faults.reset_in_body(), RemoteUnavailableError),
    "502": (faults.status(502), RemoteUnavailableError),
    "html-503": (faults.html(503), RemoteUnavailableError),
    "bomb": (bomb, BadResponseError),
}


ON_THE_WIRE = {
    "corrupt",
    "cut",
    "html",
    "reset",
    "reset-in-body",
    "502",
    "bomb",
}  # the others are only bytes to read


@pytest.mark.parametrize(
    ("name", "door"),
    [
        pytest.param(name, one, id=f"{name}-{one.__name__}")
        for name in WRONGS
        for one in (memory_door, socket_door)
        if one is memory_door or name in ON_THE_WIRE
    ],
    indirect=["door"],
)
@pytest.mark.parametrize("route", ["head", "contents", "tree", "blob"])
def test_trouble_on_the_way_is_never_wrong_bytes_and_the_next_run_converges(
    ctx: House, route: str, name: str
) -> None:
    wrong, kind = WRONGS[name]
    ctx.repo.commit({"nginx/nginx.conf": "changed\n" * 30})
    scripted = [
        ctx.github.add_fault(one, wrong, times=999)
        for one in ({route, "contents"} if route == "blob" else {route})
    ]
    if route == "blob":
        for one in scripted:
            one.skip = 0 if one.route == "blob" else 1

    def run() -> None:
        head = ctx.head()
        entries = (
            ctx.source.with_cache(SingleFlight())
            .listing(REPO, head.commit, [rule("nginx/")], ctx.memory, deadline())
            .entries
        )
        ctx.fetch(dict(entries))

    with pytest.raises(RemoteError) as caught:
        run()
    assert isinstance(caught.value, kind), caught.value
    assert all(blob_id(content) == identity for identity, content in ctx.blobs.content.items())
    ctx.github.faults.clear()
    run()
    assert ctx.blobs.content.keys() >= {identity for _, identity in ctx.truth("nginx/").values()}


@pytest.mark.parametrize("route", ["head", "contents", "tree", "blob", "codeload"])
def test_a_dripping_answer_ends_with_the_runs_time(route: str) -> None:
    for ctx in opened(socket_door):
        ctx.repo.commit(
            {f"many/{number}": f"{number}" for number in range(110)}
            | {"many/deep/link": Link("x" * 40)}
        )
        entries = ctx.listing("many/") if route in ("blob", "codeload") else {}
        ctx.memory.trees.clear()
        ctx.github.add_fault(route, faults.drip(0.05), times=9)
        if route == "blob":
            entries = {path: entry for path, entry in entries.items() if entry.mode == LINK}
        short = Deadline(SystemClock(), 0.4)
        with pytest.raises(TimedOutError):
            ctx.source.with_cache(SingleFlight()).resolve(REPO, "main", None, short)
            ctx.source.with_cache(SingleFlight()).listing(
                REPO, ctx.repo.head(), [rule("many/")], ctx.memory, short
            )
            ctx.source.fetch(
                REPO,
                ctx.repo.head(),
                [BlobRequest(path, entry) for path, entry in entries.items()],
                ctx.blobs,
                short,
            )
        assert not ctx.blobs.content


@pytest.mark.parametrize("wrong", [faults.endless(), faults.gigantic()])
@pytest.mark.parametrize("route", ["head", "contents", "tree", "codeload"])
def test_an_answer_without_end_is_bounded(route: str, wrong: faults.FaultEffect) -> None:
    for ctx in opened(socket_door):
        ctx.repo.commit({f"many/{number // 60}/{number}": f"{number}" for number in range(110)})
        ctx.github.add_fault(route, wrong, times=9)
        if route == "codeload":
            entries = ctx.listing("many/")
            ctx.fetch(entries)
            assert all(ctx.blobs.has(entry.id) for entry in entries.values())
            continue
        with pytest.raises(RemoteError) as caught:
            ctx.head()
            ctx.listing("many/")
        assert caught.value.exit_code == 5


parts = st.sampled_from(["a", "b", "c.sh", "é", "#"])
trees_of_files = st.dictionaries(
    st.lists(parts, min_size=1, max_size=4).map("/".join),
    st.one_of(
        st.sampled_from(["", "one", "two"]),
        st.builds(lambda: File(b"x", executable=True)),
        st.just(Link("a")),
        st.just(Submodule("7" * 40)),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda files: {
        path: node
        for path, node in files.items()
        if not any(path.startswith(other + "/") for other in files)
    }
)


@settings(max_examples=60, deadline=None)
@given(trees_of_files, st.data())
def test_any_rules_list_exactly_what_git_holds(files: dict[str, Node], data: st.DataObject) -> None:
    for ctx in opened(memory_door):
        ctx.repo.commit(files, whole=True)
        ctx.github.plain_json = data.draw(st.booleans(), label="plain_json")
        ctx.github.tree_limit = data.draw(st.sampled_from([5, 100_000]), label="tree_limit")
        folders = sorted(
            {
                "/".join(path.split("/")[:depth])
                for path in files
                for depth in range(path.count("/") + 1)
            }
        )
        rules = data.draw(
            st.lists(
                st.sampled_from(sorted(files))
                | st.sampled_from(folders).map(lambda folder: folder + "/"),
                min_size=1,
                max_size=4,
            ),
            label="rules",
        )
        truth = ctx.truth()
        expected = {
            path: entry
            for path, entry in truth.items()
            if any(
                path == text or text == "/" or (text.endswith("/") and path.startswith(text))
                for text in rules
            )
        }
        assert bare(ctx.listing(*rules)) == expected
        assert bare(ctx.listing(*rules)) == expected  # and again, from memory
        ctx.fetch(ctx.listing(*rules))
        assert set(ctx.blobs.content) == {
            identity for mode, identity in expected.values() if mode != SUBMODULE
        }


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_answers_are_the_truth_or_a_named_error(data: st.DataObject) -> None:
    edits = data.draw(
        st.lists(
            st.tuples(st.floats(0, 1), st.integers(0, 60), st.binary(max_size=4)),
            min_size=1,
            max_size=3,
        )
    )

    def mutated(answer: faults.Answer) -> faults.Answer:
        body = bytearray(answer.body)
        for share, length, instead in edits:
            at = int(share * len(body))
            body[at : at + length] = instead
        return replace(answer, body=bytes(body))

    for ctx in opened(memory_door):
        route = data.draw(st.sampled_from(["head", "contents", "tree", "blob"]))
        ctx.github.plain_json = data.draw(st.booleans())
        ctx.github.add_fault(route, mutated, times=1, skip=data.draw(st.integers(0, 2)))
        try:
            head = ctx.head()
            entries = ctx.listing("nginx/", "certs/public.pem", commit=head.commit)
            ctx.fetch(entries)
        except SyncdError:
            pass
        else:
            assert bare(entries) == ctx.truth("nginx/") | ctx.truth("certs/public.pem")
        assert all(blob_id(content) == identity for identity, content in ctx.blobs.content.items())


# --- what several ask at once ---------------------------------------------------------------------


def test_jobs_of_one_tick_ask_equal_questions_once(near: House) -> None:
    near.repo.commit({f"wide/{number:03d}": "x" for number in range(150)})
    head, tick = near.repo.head(), near.source.with_cache(SingleFlight())
    for _ in range(3):
        for text in ("nginx/", "certs/public.pem", "wide/"):
            assert tick.listing(REPO, head, [rule(text)], near.memory, deadline()).entries
    assert near.cost() == {"contents": 3, "tree": 1}


@pytest.mark.parametrize("route", ["contents", "tree"])
def test_jobs_of_one_tick_share_what_failed_and_the_next_tick_asks_again(
    near: House, route: str
) -> None:
    head, tick = near.repo.head(), near.source.with_cache(SingleFlight())
    near.github.add_fault(route, faults.html(), times=1)
    for _ in range(3):
        with pytest.raises(BadResponseError):
            tick.listing(REPO, head, [rule("nginx/")], near.memory, deadline())
    assert near.github.count(route) == 1
    assert near.listing("nginx/")


def test_a_path_that_a_commit_does_not_have_is_asked_for_once_a_tick_once_an_hour_and_by_every_hand(
    near: House,
) -> None:
    clock = QuickClock()

    def look(tick: GitHubSource, urgent: bool) -> None:
        for text, told in (("nowhere/", "no folder 'nowhere'"), ("nowhere/file", "nowhere/file")):
            with pytest.raises(NotFoundError, match=told):
                tick.listing(
                    REPO,
                    near.repo.head(),
                    [rule(text)],
                    near.memory,
                    Deadline(clock, 60, interactive=urgent),
                )

    tick = near.source.with_cache(SingleFlight())
    look(tick, urgent=True)
    look(tick, urgent=True)
    assert near.cost() == {"contents": 2}, (
        "the path, and the root that tells it from a hidden repository"
    )
    look(near.source.with_cache(SingleFlight()), urgent=False)
    assert near.cost() == {"contents": 2}, "said once, it may be what GitHub has not replicated yet"
    clock.wait(threading.Event(), 61)
    for _ in range(2):
        look(near.source.with_cache(SingleFlight()), urgent=False)
    assert near.cost() == {"contents": 2}, "said again, it is believed"
    look(near.source.with_cache(SingleFlight()), urgent=True)
    assert near.cost() == {"contents": 2}
    clock.wait(threading.Event(), 3700)
    look(near.source.with_cache(SingleFlight()), urgent=False)
    assert near.cost() == {"contents": 2}
    near.repo.commit({"nowhere/file": "here\n"})
    assert (
        near.source.with_cache(SingleFlight())
        .listing(
            REPO,
            near.repo.head(),
            [rule("nowhere/")],
            near.memory,
            Deadline(clock, 60, interactive=False),
        )
        .entries
    )
