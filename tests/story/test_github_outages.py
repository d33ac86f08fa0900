"""A bad hour of GitHub's: every kind of trouble on every kind of request.

Nothing wrong reaches the disk, the kind is right, the next run converges.

At a push each trouble meets one of the requests, in turn, and of a table of requests and troubles
the pairs that `some_of` chooses are tried; the root lane tries the others.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest

from syncd.deadline import Deadline
from syncd.simulator import faults
from syncd.simulator.faults import Answer, FaultEffect
from tests.support.sync_env import SyncEnv, sync_env

PASSING = {"unavailable", "bad_response", "rate_limited"}
TROUBLES: dict[str, Callable[[], FaultEffect]] = {
    "corrupt": lambda: faults.corrupt(0.5),
    "corrupt at the end": lambda: faults.corrupt(0.97),
    "cut": lambda: faults.cut(30),
    "cut silently": lambda: faults.cut_silently(30),
    "html": faults.html,
    "other content": faults.other_content,
    "empty": lambda: faults.other_content(b""),
    "json of another kind": lambda: faults.other_content(
        b'{"sha": 7, "tree": "x", "token": [], "content": {}}'
    ),
    "reset": faults.reset,
    "reset in the body": faults.reset_in_body,
    "502": lambda: faults.status(502),
    "503 page": lambda: faults.html(503),
    "bomb": lambda: faults.bomb(96 << 20),
    "ten gigabytes": faults.gigantic,
    "endless": faults.endless,
    "drip": lambda: faults.drip(0.3),
    "hang": lambda: faults.hang(20),
}
ROUTES = ("token", "head", "contents", "tree", "blob", "tarball", "codeload")
SLOW = {"drip", "hang"}


def some_of(routes: Sequence[str], names: Sequence[str], every: int) -> pytest.MarkDecorator:
    """Parametrize with all pairs: one of `every` at a push, so that each route is in some."""
    pairs = [
        pytest.param(route, name, marks=[pytest.mark.root] if (column + row) % every else [])
        for column, route in enumerate(routes)
        for row, name in enumerate(names)
    ]
    return pytest.mark.parametrize(("route", "name"), pairs)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.005)
    monkeypatch.setattr(
        "syncd.github.auth.credentials.FRESH_TOKEN_WAITS_SECONDS", (0.05, 0.1, 0.2, 0.4)
    )


def prepared(hub: SyncEnv, route: str) -> dict[str, object]:
    """A synced mirror, and a push after which the next run needs this route.

    What the mirror must be in the end.
    """
    many = (
        {f"nginx/m{number:03d}": f"{number}\n" for number in range(120)}
        if route in ("tarball", "codeload")
        else {}
    )
    hub.repo.commit({"nginx/run": "#!/bin/sh\n", "nginx/deep/er/x": "x\n"})
    assert hub.sync().code == 0
    if (
        route == "blob"
    ):  # blobs are asked for by id only for links, and where the path gave other bytes
        from syncd.simulator.repository import Link

        hub.repo.commit({"nginx/link": Link("nginx.conf"), "nginx/nginx.conf": "two\n"})
        return {**hub.tree(), "link": ("link", "nginx.conf"), "nginx.conf": b"two\n"}
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/deep/new": "new\n", **many})
    expected = {**hub.tree(), "nginx.conf": b"two\n", "deep/new": b"new\n"}
    return expected | {
        name.removeprefix("nginx/"): content.encode() for name, content in many.items()
    }


@some_of(ROUTES, [name for name in TROUBLES if name not in SLOW], every=7)
def test_lasting_trouble_fails_the_run_by_its_kind_and_the_next_run_converges(
    hub: SyncEnv, route: str, name: str
) -> None:
    expected, before = prepared(hub, route), hub.tree()
    made = hub.github.add_fault(route, TROUBLES[name](), times=1000)
    done = hub.sync()
    if done.code == 0:
        assert hub.tree() == expected, "it may get through another way, but then whole"
    else:
        assert done.code == 5 and done.job["error"]["kind"] in PASSING, done.job["error"]
        assert hub.tree() == before
        assert "Traceback" not in done.err
    made.times = 0
    assert hub.sync().code == 0 and hub.tree() == expected


@some_of(ROUTES, sorted(SLOW), every=2)
def test_slowness_ends_with_the_jobs_time(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, route: str, name: str
) -> None:
    expected, before = prepared(hub, route), hub.tree()
    hub.write_config(timeout="1s")
    made = hub.github.add_fault(route, TROUBLES[name](), times=1000)
    with monkeypatch.context() as hurried:
        hurried.setattr(
            "syncd.wiring.AppContext.deadline",
            lambda shop, *_, **__: Deadline(shop.clock, 0.4, shop.stop),
        )  # a second is the shortest that can be written
        done = hub.sync()
    if done.code == 0:
        assert name == "drip" and hub.tree() == expected, "a short answer may come in time"
    else:
        assert (
            done.code == 5
            and done.job["error"]["kind"] == "unavailable"
            and "timeout" in done.job["error"]["message"]
        ), done.job["error"]
        assert hub.tree() == before
    made.times = 0
    hub.write_config(timeout="1m")
    assert hub.sync().code == 0 and hub.tree() == expected


@some_of(ROUTES, ["reset", "502", "cut", "reset in the body"], every=4)
def test_passing_trouble_is_gone_through(hub: SyncEnv, route: str, name: str) -> None:
    expected = prepared(hub, route)
    hub.github.add_fault(route, TROUBLES[name](), times=1)
    done = hub.sync()
    assert done.code == 0, done.job["error"]
    assert hub.tree() == expected


MISSING: dict[str, tuple[Callable[[SyncEnv], object], int, str, str]] = {
    "the branch emptied": (
        lambda hub: hub.repo.commit({"other": "x"}, whole=True),
        1,
        "not_found",
        "no folder 'nginx' in acme/infra",
    ),
    "the branch gone": (
        lambda hub: hub.repo.refs.update({"refs/heads/next": hub.repo.refs.pop("refs/heads/main")}),
        1,
        "not_found",
        "no branch, tag or commit",
    ),
    "the repository gone": (
        lambda hub: hub.github.repos.pop("acme/infra"),
        4,
        "auth",
        "acme/infra",
    ),
    "forbidden": (
        lambda hub: hub.github.add_fault(
            "head", faults.status(403, "Resource not accessible by integration"), 99
        ),
        4,
        "auth",
        "not accessible",
    ),
    "an empty repository": (lambda hub: hub.repo.refs.clear(), 1, "not_found", "empty"),
    "suspended": (
        lambda hub: setattr(hub.github.accounts.installations[42], "suspended", True),
        4,
        "auth",
        "suspended",
    ),
    "uninstalled": (
        lambda hub: hub.github.accounts.installations.clear(),
        4,
        "auth",
        "installation 42",
    ),
    "deselected": (
        lambda hub: setattr(hub.github.accounts.installations[42], "repositories", ["other"]),
        4,
        "auth",
        "not accessible",
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_or_forbidden_is_told_apart_and_nothing_is_removed(
    hub: SyncEnv, name: str
) -> None:
    hub.sync()
    before = hub.tree()
    happen, code, kind, said = MISSING[name]
    happen(hub)
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (code, kind), done.job["error"]
    assert said in done.job["error"]["message"], done.job["error"]
    assert done.job["error"]["hint"] and hub.tree() == before


@some_of(
    ["head", "contents", "tree", "token"],
    ["html", "corrupt", "other content", "json of another kind"],
    every=4,
)
def test_whatever_makes_no_sense_says_what_was_asked_for_and_what_to_do(
    hub: SyncEnv, route: str, name: str
) -> None:
    prepared(hub, route)
    hub.github.add_fault(route, TROUBLES[name](), times=1000)
    error = hub.sync().job["error"]
    assert error is None or (
        error["hint"] and ("acme/infra" in error["message"] or "installation" in error["message"])
    ), error
    assert error is None or name != "html" or "web page" in error["message"], error


def test_a_refusal_shows_githubs_own_number_of_the_request_to_whoever_reads_it(
    hub: SyncEnv,
) -> None:
    hub.github.add_fault(
        "head",
        faults.status(
            403, "Resource not accessible by integration", {"x-github-request-id": "AB12:34CD"}
        ),
        times=99,
    )
    said = hub.call("sync").out
    assert "GitHub's request id, for its support: AB12:34CD" in said and "→" in said


def test_the_three_404s_have_three_texts(hub: SyncEnv) -> None:
    said = set()
    for change in (
        {"repo": "acme/nothing"},
        {"ref": "nothing"},
        {"paths": [{"from": "nothing/", "to": f"{hub.dest}/"}]},
    ):
        hub.write_config(**{"repo": "acme/infra", "ref": "main", **change})
        said.add(hub.sync().job["error"]["message"])
    assert len(said) == 3


def test_two_thousand_entries_in_one_folder_are_never_taken_for_a_thousand(tmp_path: Path) -> None:
    with sync_env(tmp_path, {f"nginx/f{number:04d}": f"{number}" for number in range(1500)}) as hub:
        assert hub.sync().code == 0 and len(hub.tree()) == 1500
        hub.github.tree_limit = 1000
        hub.repo.commit({"nginx/f0001": "changed"})
        done = hub.sync()
        assert done.code == 5 and done.job["error"]["kind"] == "bad_response"
        assert len(hub.tree()) == 1500


def test_a_cut_recursive_tree_is_walked(tmp_path: Path) -> None:
    with sync_env(
        tmp_path, {f"nginx/d{number % 10}/f{number:04d}": f"{number}" for number in range(600)}
    ) as hub:
        hub.github.tree_limit = 100
        assert hub.sync().code == 0 and len(hub.tree()) == 600


# --- who we are, while a run goes on --------------------------------------------------------------


def test_a_token_that_expires_or_is_revoked_between_list_and_fetch_is_replaced_and_the_run_goes_on(
    hub: SyncEnv,
) -> None:
    def revoke() -> None:
        for one in hub.github.accounts.credentials.values():
            one.revoked = True

    hub.github.call_before("contents", 2, revoke)
    done = hub.sync()
    assert done.code == 0 and len(hub.tree()) == 2
    assert hub.github.count("token") == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused_for_a_moment_after_its_issue_is_tried_again(
    hub: SyncEnv, status: int
) -> None:
    hub.github.accounts.lag_seconds, hub.github.accounts.lag_status = 0.5, status
    done = hub.sync()
    assert done.code == 0 and hub.github.count("token") == 1, hub.github.routes()


@pytest.mark.parametrize("minutes", [-10, 10, -60, 60])
def test_a_server_clock_that_differs_is_measured_and_followed(hub: SyncEnv, minutes: int) -> None:
    hub.github.clock_offset = minutes * 60
    done = hub.sync()
    assert done.code == 0 and len(hub.tree()) == 2
    assert hub.github.count("token", 201) == 1 and hub.github.count("token") <= 2


def test_a_wrong_name_in_one_job_fails_only_that_job(hub: SyncEnv) -> None:
    hub.jobs["typo"] = {
        **hub.jobs["nginx"],
        "repo": "acme/infrastructure",
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/typo/"}],
    }
    hub.write()
    done = hub.sync()
    assert {job["job"]: job["status"] for job in done.json["jobs"]} == {
        "nginx": "changed",
        "typo": "failed",
    }
    assert next(job for job in done.json["jobs"] if job["job"] == "typo")["error"]["kind"] == "auth"


def test_a_key_of_another_app_is_named(hub: SyncEnv) -> None:
    hub.github.accounts.apps["12345"].public_keys[:] = hub.github.accounts.apps[
        "12345"
    ].public_keys[:0]
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (4, "auth") and "private key" in done.job[
        "error"
    ]["hint"]


def test_a_renamed_repository_is_followed(hub: SyncEnv) -> None:
    hub.sync()
    hub.github.rename("acme/infra", "acme/platform")
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.write_config()
    done = hub.sync()
    assert done.code in (0, 4)
    if done.code == 0:
        assert hub.tree()["nginx.conf"] == b"two\n"


# --- limits ---------------------------------------------------------------------------------------


def limited(status: int, message: str, headers: dict[str, str]) -> FaultEffect:
    return faults.status(status, message, headers)


SOON = {"retry-after": "1"}
LATE = {"retry-after": "4000"}


@pytest.mark.parametrize(
    ("status", "message", "headers"),
    [
        (403, "You have exceeded a secondary rate limit", SOON),
        (429, "You have exceeded a secondary rate limit", SOON),
        (429, "", SOON),
        (403, "API rate limit exceeded", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}),
    ],
)
def test_a_limit_that_ends_within_the_runs_time_is_waited_out(
    hub: SyncEnv, status: int, message: str, headers: dict[str, str]
) -> None:
    hub.github.add_fault("head", limited(status, message, headers), times=1)
    done = hub.sync()
    assert (
        done.code == 0
        and hub.github.count("head", 200) == 1
        and hub.github.count("head", 422) == 1
        and hub.github.count("head") == 3
    )


@pytest.mark.parametrize(
    ("status", "message", "headers"),
    [
        (403, "You have exceeded a secondary rate limit", LATE),
        (403, "You have exceeded a secondary rate limit", {}),
        (403, "You have triggered an abuse detection mechanism", {}),
        (429, "", {}),
        (
            403,
            "API rate limit exceeded",
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9999999999"},
        ),
        (
            429,
            "API rate limit exceeded",
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9999999999"},
        ),
    ],
)
def test_a_limit_that_lasts_longer_ends_the_run_at_once_and_says_until_when(
    hub: SyncEnv, status: int, message: str, headers: dict[str, str]
) -> None:
    hub.write_config(timeout="20s")
    hub.github.add_fault("head", limited(status, message, headers), times=99)
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (5, "rate_limited")
    assert "; try again at 2" in done.job["error"]["message"]
    assert hub.github.count("head") == 1, "no request is made before its time"


@pytest.mark.parametrize(
    "message",
    [
        "Resource not accessible by integration",
        (
            "Although you appear to have the correct authorization credentials, the `acme` "
            "organization has an IP allow list enabled"
        ),
        "Forbidden",
    ],
)
def test_a_permission_error_is_no_limit_and_is_not_asked_again(
    tmp_path: Path, message: str
) -> None:
    with sync_env(tmp_path, as_app=False) as hub:
        hub.github.add_fault("head", faults.status(403, message), times=99)
        done = hub.sync()
        assert (done.code, done.job["error"]["kind"]) == (4, "auth") and hub.github.count(
            "head"
        ) == 1


# --- where credentials go -------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["head", "contents", "tree", "token"])
@pytest.mark.parametrize(
    "where",
    [
        "{other}/x",
        "https://example.invalid/x",
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "http://user:pw@{other_host}/x",
        "//{other_host}/x",
    ],
)
def test_a_redirect_elsewhere_is_refused_and_the_other_host_sees_no_credential(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, route: str, where: str
) -> None:
    home = Path(os.environ["HOME"])
    (home / ".netrc").write_text("machine 127.0.0.1 login thief password canarycanary\n")
    (home / ".netrc").chmod(0o600)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    other = hub.served.archive_url
    target = where.format(other=other, other_host=other.removeprefix("http://"))
    before = hub.tree()

    def redirected(_answer: Answer) -> Answer:
        return Answer(302, {"location": target})

    hub.repo.commit({"nginx/new": "x"})
    hub.github.add_fault(route, redirected, times=99)
    done = hub.sync()
    assert done.code == 5 and done.job["error"]["kind"] == "bad_response", done.job["error"]
    assert hub.tree() == before
    elsewhere = [one for one in hub.github.requests if one.path == "/x"]
    assert not any("authorization" in one.headers for one in elsewhere) and not elsewhere
    assert not any(
        "canarycanary" in str(one.headers) or "dGhpZWY" in str(one.headers)
        for one in hub.github.requests
    )


def test_the_archive_host_gets_no_credential(tmp_path: Path) -> None:
    with sync_env(tmp_path, {f"nginx/f{number:03d}": f"{number}" for number in range(150)}) as hub:
        assert hub.sync().code == 0 and hub.github.count("codeload") == 1
        assert [one.credential for one in hub.github.requests if one.route == "codeload"] == [None]


def test_no_secret_is_in_any_output_of_a_bad_hour(hub: SyncEnv) -> None:
    said = []
    for route in ROUTES:
        for name in ("corrupt", "html", "502", "cut"):
            prepared_tree = hub.github.add_fault(route, TROUBLES[name](), times=20)
            hub.repo.commit({f"nginx/{route}-{name.replace(' ', '-')}": "x"})
            said.append(hub.call("-vv", "sync", "--json"))
            prepared_tree.times = 0
    hub.github.add_fault(
        "head",
        lambda answer: Answer(
            500,
            {"x-echo": str(hub.github.requests[-1].headers)},
            str(hub.github.requests[-1].headers).encode(),
        ),
        times=9,
    )
    said.append(hub.call("-vv", "sync"))
    secrets = {one.value for one in hub.github.accounts.credentials.values()} | {
        one.credential for one in hub.github.requests if one.credential
    }
    texts = [result.out + result.err for result in said] + [
        file.read_bytes().decode("latin-1") for file in hub.state.rglob("*") if file.is_file()
    ]
    for secret in secrets:
        for shape in (
            secret,
            quote(secret, safe=""),
            base64.b64encode(secret.encode()).decode()[4:-8],
        ):
            assert not any(shape in text for text in texts)
