"""`make live` against the simulator: each open point is answered; its report has no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.simulator.github import GitHub
from syncd.simulator.repository import File, Link, Submodule
from syncd.simulator.server import serve
from tests.live import corrections, open_points
from tests.live.__main__ import ask_all, main
from tests.live.settings import settings_of
from tests.support.secret_scan import SecretScan, alive
from tests.support.sync_env import WatchedGitHub, app_with_known_key
from tests.support.writable_github import WritableGitHub

ROOT = Path(__file__).parents[2]
# what the simulator does; a server may answer otherwise
READ_ANSWERS = {
    "contents-etag-of-two-tokens": "yes",
    "commit-etag-of-two-tokens": "yes",
    "object-etag-of-a-directory": "no",
    "changed-symlink-target-is-304": "yes",
    "large-file-in-json": "yes",
    "fresh-token-is-accepted": "yes",
    "revoked-token-is-refused": "yes",
    "raw-directory": "yes",
    "raw-submodule": "yes",
    "newer-api-version-is-selected": "other",
    "lfs-batch": "yes",
    "short-name-means-the-branch": "yes",
    "limits-of-jwt-requests": "yes",
    "push-of-an-annotated-tag": "not applicable",
    "delivery-names-the-number": "not applicable",
    "tokens-are-stateless-by-default": "no",
    "lfs-batch-with-a-stateless-token": "yes",
    "git-over-https-with-a-stateless-token": "not applicable",
    "token-narrowed-by-permissions": "yes",
    "padded-modes": "not applicable",
    "ids-have-40-digits": "yes",
    "server-knows-the-newer-version": "not applicable",
    "unknown-app-is-named": "yes",
    "fresh-token-reaches-a-private-repository": "yes",
    "limit-without-headers": "not applicable",
    "repository-limits": "not applicable",
    "status-needs-a-permission": "not applicable",
    "syncd-unchanged-is-one-304": "yes",
    "syncd-fetches-lfs": "yes",
}
WRITE_ANSWERS = READ_ANSWERS | {
    "status-needs-a-permission": "yes",
    "syncd-fetches-lfs": "not applicable",
}


class Live:
    """One server with an App, and what `make live` said and wrote."""

    def __init__(self, folder: Path, github: GitHub, canary: SecretScan, url: str) -> None:
        self.folder, self.github, self.canary = folder, github, canary
        self.key = app_with_known_key(github, 12345)
        canary.watch(self.key, "a private key")
        github.accounts.install(12345, "acme", 42)
        self.environ = {
            "SYNCD_LIVE": "1",
            "SYNCD_LIVE_API": url,
            "SYNCD_LIVE_APP_ID": "12345",
            "SYNCD_LIVE_PRIVATE_KEY": self.key,
            "SYNCD_LIVE_REPO": "acme/infra",
            "SYNCD_LIVE_SAME_NAME": "twin",
            "SYNCD_LIVE_REPORT": f"{folder}/report",
        }

    def run(self, **environ: str) -> dict[str, Any]:
        assert main(self.environ | environ) == 0
        found: dict[str, Any] = json.loads((self.folder / "report/report.json").read_text())
        return found

    def answers(self, **environ: str) -> dict[str, str]:
        return {one["id"]: one["answer"] for one in self.run(**environ)["results"]}


def make_repository(github: GitHub) -> None:
    """acme/infra has one entry of each kind that a question needs, and a changed symlink target."""
    repo = github.add_repo(
        "acme/infra",
        {
            "README.md": "one\n",
            "nested/target.txt": "one\n",
            "nested/link": Link("target.txt"),
            "large.bin": b"x" * ((1 << 20) + 1),
            "module": Submodule("1" * 40),
            "run.sh": File(b"#!/bin/sh\n", executable=True),
        },
    )
    first = repo.head()
    repo.commit({"nested/target.txt": "two\n"})
    repo.commit({"stored.bin": repo.lfs_pointer(b"stored\n" * 100)})
    repo.refs["refs/heads/twin"] = repo.head()
    repo.tag("twin", first)


def live_env(folder: Path, github: WatchedGitHub) -> Iterator[Live]:
    canary = github.canary
    with serve(github) as served, alive(canary):
        yield Live(folder, github, canary, served.url)
    github.tell()
    assert canary.search(folder) == []


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    github = WatchedGitHub(SecretScan())
    make_repository(github)
    yield from live_env(tmp_path, github)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Live]:
    yield from live_env(tmp_path, WritableGitHub(SecretScan(), "acme/scratch"))


def test_each_open_point_is_answered_and_nothing_is_written_to_the_repository(live: Live) -> None:
    assert live.answers() == READ_ANSWERS
    posts = {one.route for one in live.github.requests if one.method != "GET"}
    assert posts == {"token", "lfs", "revoke"}


def test_the_report_has_the_evidence_and_no_secret(
    live: Live, capsys: pytest.CaptureFixture[str]
) -> None:
    found = live.run()
    said = capsys.readouterr()
    live.canary.heard("stdout", said.out)
    live.canary.heard("stderr", said.err)
    live.github.tell()  # type: ignore[attr-defined]
    assert live.canary.search(live.folder) == []
    first = found["results"][0]["evidence"]
    assert [one["status"] for one in first] == [200, 304] or first[-1]["status"] == 304
    assert re.fullmatch(r'"[0-9a-f]{40}"', first[-1]["headers"]["etag"])
    assert {name for one in found["results"] for e in one["evidence"] for name in e["headers"]} <= {
        *("content-length", "content-type", "date", "etag", "x-github-request-id"),
        *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-used"),
        "x-ratelimit-resource",
    }
    markdown = (live.folder / "report/report.md").read_text()
    assert "## contents-etag-of-two-tokens" in markdown and "answered 304" in markdown


def test_an_older_enterprise_server_gets_other_answers(live: Live) -> None:
    live.github.api_versions = ("2022-11-28",)
    live.github.etags = "hash"
    live.github.too_large_403 = True
    found = live.answers(SYNCD_LIVE_API=live.environ["SYNCD_LIVE_API"] + "/api/v3")
    assert {name: answer for name, answer in found.items() if answer != READ_ANSWERS[name]} == {
        "contents-etag-of-two-tokens": "no",
        "commit-etag-of-two-tokens": "no",
        "object-etag-of-a-directory": "other",
        "changed-symlink-target-is-304": "no",
        "large-file-in-json": "no",
        "syncd-unchanged-is-one-304": "no",
    }


def test_a_fresh_token_that_is_refused_at_first_spoils_no_other_answer(live: Live) -> None:
    live.github.accounts.lag_seconds = 3  # accepted at the third request: waits of 0, 1 and 2 s

    def sleep(seconds: float) -> None:
        live.github.clock_offset += seconds

    questions = [*open_points.QUESTIONS, *corrections.QUESTIONS]
    report = ask_all(settings_of(live.environ), questions, sleep)
    found = {one.id: one.answer for one in report.results}
    assert {name: answer for name, answer in found.items() if answer != READ_ANSWERS[name]} == {
        "fresh-token-is-accepted": "no",
        "fresh-token-reaches-a-private-repository": "no",
    }


def test_a_run_that_writes_makes_its_own_commits_and_removes_its_refs(scratch: Live) -> None:
    github = scratch.github
    assert isinstance(github, WritableGitHub)
    before = dict(github.scratch.refs)
    found = scratch.answers(SYNCD_LIVE_WRITE="1", SYNCD_LIVE_SCRATCH="acme/scratch")
    assert found == WRITE_ANSWERS
    assert len(github.refs_made) == 2 and github.refs_made == github.refs_removed
    assert github.scratch.refs == before


def test_requests_are_bounded_and_what_was_written_is_removed_all_the_same(scratch: Live) -> None:
    github = scratch.github
    assert isinstance(github, WritableGitHub)
    found = scratch.run(
        SYNCD_LIVE_WRITE="1", SYNCD_LIVE_SCRATCH="acme/scratch", SYNCD_LIVE_MAX_REQUESTS="24"
    )
    last = found["results"][-1]
    assert last["answer"] == "not applicable" and "24 requests are used up" in last["text"]
    assert github.refs_made == github.refs_removed


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"SYNCD_LIVE": ""}, "set SYNCD_LIVE=1"),
        ({"CI": "true"}, "CI is set"),
        ({"SYNCD_LIVE_APP_ID": ""}, "set SYNCD_LIVE_APP_ID"),
        ({"SYNCD_LIVE_REPO": "infra"}, "owner/name"),
        ({"SYNCD_LIVE_WRITE": "1"}, "set SYNCD_LIVE_SCRATCH"),
        ({"SYNCD_LIVE_MAX_REQUESTS": "many"}, "is no number"),
    ],
)
def test_nothing_is_asked_without_consent_and_settings(
    live: Live, capsys: pytest.CaptureFixture[str], changes: dict[str, str], text: str
) -> None:
    assert main(live.environ | changes) == 2
    assert text in capsys.readouterr().err and live.github.requests == []


def test_the_manual_names_each_variable() -> None:
    source = (ROOT / "tests/live/settings.py").read_text()
    manual = (ROOT / "docs/development/live.md").read_text()
    names = set(re.findall(r"SYNCD_LIVE\w*", source))
    assert names == set(re.findall(r"`(SYNCD_LIVE\w*)(?:=1)?`", manual)) and len(names) > 10
