"""The nothing-to-do check: it answers only where the full run would have found nothing to do,
and says nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.cache_file import read_cache, write_cache
from syncd.cli import sync as sync_command
from syncd.fastpath import check as fastpath
from syncd.fastpath import early_requests, snapshot
from syncd.fastpath.check import UpToDate
from syncd.fastpath.early_requests import EarlyRequests, Reply
from syncd.file_lock import acquire
from syncd.simulator import faults
from tests.support.fork_server import MODULE, run_forked
from tests.support.sync_env import SyncEnv, signatures, sync_env

ROOT = Path(__file__).resolve().parents[3]
FILES = {
    "nginx/nginx.conf": "one\n",
    "nginx/sites/a.conf": "a\n",
    "nginx/sites/b.conf": "b\n",
    "motd": "hello\n",
}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    """Unchanged, with a snapshot."""
    with sync_env(tmp_path, FILES, as_app=False) as made:
        assert made.sync().code == 0
        assert (made.state / fastpath.NAME).exists()
        made.github.forget_requests()
        yield made


@pytest.fixture(scope="module")
def _standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncEnv]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, sync_env(home / "hub", FILES, False) as made:
        patch.setenv("HOME", str(home))
        assert made.sync().code == 0
        yield made


@pytest.fixture
def standing(_standing: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> SyncEnv:
    """What `hub` is, for tests that change nothing of it."""
    monkeypatch.setenv("HOME", str(_standing.folder.parent))
    return _standing


def check(
    hub: SyncEnv, *arguments: str, now: float | None = None, **environ: str
) -> UpToDate | list[Reply]:
    found = begin_check(hub, *arguments, now=now, **environ)
    return found if isinstance(found, UpToDate) else answered(found)


def answered(found: EarlyRequests) -> list[Reply]:
    found.wait()
    return found.replies


def begin_check(
    hub: SyncEnv, *arguments: str, now: float | None = None, **environ: str
) -> UpToDate | EarlyRequests:
    return fastpath.check(
        ["-c", str(hub.config), *(arguments or ("sync",))],
        {**os.environ, **environ},
        now if now is not None else datetime.now().timestamp(),
    )


def test_nothing_to_do_is_one_request_answered_304_and_touches_no_file(hub: SyncEnv) -> None:
    before = signatures(hub.dest)
    found = check(hub)
    assert isinstance(found, UpToDate)
    assert [(one.route, one.status) for one in hub.github.requests] == [("head", 304)]
    assert [(name, repo, ref) for name, repo, ref, _ in found.jobs] == [
        ("nginx", "acme/infra", "main")
    ]
    assert signatures(hub.dest) == before


@pytest.mark.parametrize("mode", [0o440, 0o640])
def test_a_token_that_its_own_group_may_read_is_asked_with(hub: SyncEnv, mode: int) -> None:
    (hub.folder / "token").chmod(mode)
    assert isinstance(check(hub), UpToDate)


def test_it_asks_exactly_what_the_full_run_asks(hub: SyncEnv) -> None:
    check(hub)
    mine = hub.github.requests[-1]
    hub.sync()
    theirs = hub.github.requests[-1]
    same = (
        "accept",
        "authorization",
        "if-none-match",
        "user-agent",
        "x-github-api-version",
        "host",
    )
    assert (mine.method, mine.path, mine.credential) == (
        theirs.method,
        theirs.path,
        theirs.credential,
    )
    assert {name: mine.headers.get(name) for name in same} == {
        name: theirs.headers.get(name) for name in same
    }


def test_a_quiet_run_is_remembered_as_the_full_run_remembers_it(hub: SyncEnv) -> None:
    full = hub.call("status", "--json").json
    assert isinstance(check(hub, now=datetime.now().timestamp() + 60), UpToDate)
    after = hub.call("status", "--json").json
    job, before = after["jobs"][0], full["jobs"][0]
    times = ("last_run", "last_success", "next_run")
    assert all(job[name] > before[name] for name in times)
    assert {name: value for name, value in job.items() if name not in times} == {
        name: value for name, value in before.items() if name not in times
    }
    assert after["identities"][0]["limit"] == 5000
    assert hub.call("history", "--json").json["runs"][0]["status"] == "changed", (
        "a quiet run leaves no row"
    )


def test_the_answer_repeats_and_needs_no_full_run_in_between(hub: SyncEnv) -> None:
    for _ in range(5):
        assert isinstance(check(hub), UpToDate)
    assert hub.github.count() == hub.github.count("head", 304) == 5


def test_jobs_of_one_head_share_its_request(hub: SyncEnv) -> None:
    for number in range(20):
        hub.jobs[f"job{number}"] = {
            "repo": "acme/infra",
            "ref": "main",
            "every": "5m",
            "paths": [{"from": "motd", "to": f"{hub.folder}/dest{number}/motd"}],
        }
    hub.write()
    assert hub.sync().code == 0
    hub.github.forget_requests()
    found = check(hub)
    assert isinstance(found, UpToDate)
    assert len(found.jobs) == 21
    assert hub.github.count() == 1


def test_some_jobs_are_asked_for_by_name_and_in_the_order_of_the_configuration(
    hub: SyncEnv,
) -> None:
    hub.jobs["motd"] = {
        "repo": "acme/infra",
        "ref": "main",
        "every": "5m",
        "paths": [{"from": "motd", "to": f"{hub.folder}/dest2/motd"}],
    }
    hub.write()
    assert hub.sync().code == 0
    found = check(hub, "sync", "motd", "nginx")
    assert isinstance(found, UpToDate)
    assert [name for name, *_ in found.jobs] == ["nginx", "motd"]
    only = check(hub, "sync", "motd")
    assert isinstance(only, UpToDate)
    assert [name for name, *_ in only.jobs] == ["motd"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("sync", (False, False, (), None)),
        ("sync -q", (True, False, (), None)),
        ("-q sync nginx --json", (True, True, ("nginx",), None)),
        ("sync nginx --quiet", (True, False, ("nginx",), None)),
        ("-c /nowhere sync -c FILE", (False, False, (), None)),
        ("sync --config FILE nginx", (False, False, ("nginx",), None)),
        ("--color never sync", (False, False, (), "never")),
        ("--color never sync nginx --color always", (False, False, ("nginx",), "always")),
    ],
)
def test_global_options_are_read_before_and_after_the_command(
    standing: SyncEnv, arguments: str, expected: tuple[bool, bool, tuple[str, ...], str | None]
) -> None:
    found = check(standing, *arguments.replace("FILE", str(standing.config)).split())
    assert isinstance(found, UpToDate)
    assert found.args == (str(standing.config), *expected)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"],
        ["status"],
        ["sync", "--ref", "main", "nginx"],
        ["sync", "--allow-delete", "3"],
        ["sync", "--forget", "nginx"],
        ["sync", "nobody"],
        ["-v", "sync"],
        ["sync", "-v"],
        ["sync", "-h"],
        ["sync", "--version"],
        ["sync", "-c"],
        ["sync", "--color"],
        ["sync", "--color", "green"],
        ["sync", "--color=never"],
        ["sync", "--", "nginx"],
        ["--json", "sync"],
        ["help", "sync"],
        ["--help"],
        [""],
    ],
    ids=str,
)
def test_every_other_command_and_option_is_the_full_runs(
    standing: SyncEnv, arguments: list[str]
) -> None:
    standing.github.forget_requests()
    assert check(standing, *arguments) == []
    assert standing.github.count() == 0


CHANGES: dict[str, Callable[[SyncEnv], object]] = {
    "a file edited": lambda hub: (hub.dest / "nginx.conf").write_text("ONE\n"),
    "a file edited to the same size and time": lambda hub: _edit_in_place(hub.dest / "nginx.conf"),
    "a file removed": lambda hub: (hub.dest / "nginx.conf").unlink(),
    "a mode": lambda hub: (hub.dest / "nginx.conf").chmod(0o600),
    "a file for a folder": lambda hub: (hub.dest / "sites").rename(hub.folder / "away"),
    "a link for a folder": lambda hub: (
        (hub.dest / "sites").rename(hub.folder / "away"),
        (hub.dest / "sites").symlink_to(hub.folder / "away"),
    ),
    "a folder's mode": lambda hub: (hub.dest / "sites").chmod(0o700),
    "the configuration": lambda hub: hub.write_config(every="10m"),
    "the configuration's spaces": lambda hub: hub.config.write_text(hub.config.read_text() + "\n"),
    "another job in it": lambda hub: (
        hub.jobs.update(
            more={**hub.jobs["nginx"], "paths": [{"from": "motd", "to": f"{hub.folder}/x/motd"}]}
        ),
        hub.write(),
    ),
    "a pause": lambda hub: hub.call("pause", "nginx"),
    "a rollback": lambda hub: (
        hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x"),
        hub.sync(),
        hub.call("rollback", "nginx"),
    ),
    "a plan's own memory": lambda hub: (
        hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x"),
        hub.plan(),
        hub.repo.commit({"nginx/nginx.conf": "one\n"}, "y"),
    ),
    "the store gone": lambda hub: [file.unlink() for file in hub.state.glob("syncd.db*")],
    "the store another": lambda hub: (
        (hub.state / "copy").write_bytes((hub.state / "syncd.db").read_bytes()),
        (hub.state / "copy").rename(hub.state / "syncd.db"),
    ),
    "the note damaged": lambda hub: _flip(hub.state / fastpath.NAME),
    "the note readable by others": lambda hub: (hub.state / fastpath.NAME).chmod(0o644),
    "the note a link": lambda hub: (
        (hub.state / fastpath.NAME).rename(hub.state / "n"),
        (hub.state / fastpath.NAME).symlink_to(hub.state / "n"),
    ),
    "the note gone": lambda hub: (hub.state / fastpath.NAME).unlink(),
    "the token readable by others": lambda hub: (hub.folder / "token").chmod(0o644),
    "the token empty": lambda hub: (hub.folder / "token").write_text("\n"),
    "the lock's file gone": lambda hub: [file.unlink() for file in (hub.state / "locks").iterdir()],
    "upstream": lambda hub: hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x"),
    "no ETags": lambda hub: setattr(hub.github, "etags", "none"),
    "a revoked token": lambda hub: hub.github.accounts.__init__(),
}


def _edit_in_place(file: Path) -> None:
    found = file.stat()
    with open(file, "r+b") as opened:
        opened.write(b"ONE\n")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_has_changed_is_the_full_runs(hub: SyncEnv, change: str) -> None:
    assert isinstance(check(hub), UpToDate)
    CHANGES[change](hub)
    assert not isinstance(check(hub), UpToDate)


def test_a_proxy_a_day_and_a_clock_set_back_are_the_full_runs(hub: SyncEnv) -> None:
    assert check(hub, HTTPS_PROXY="http://proxy:3128") == []
    now = datetime.now().timestamp()
    assert check(hub, now=now + 90_000) == []
    assert check(hub, now=now - 1000) == []
    assert isinstance(check(hub, now=now + 80_000), UpToDate)


def test_another_syncd_at_work_is_said_by_the_full_run(hub: SyncEnv) -> None:
    held = acquire(next((hub.state / "locks").iterdir()), create=False)
    try:
        assert check(hub) == []
        assert hub.sync().code == 11
    finally:
        os.close(held)


def test_a_server_that_is_not_there_costs_no_opinion(tmp_path: Path) -> None:
    with sync_env(tmp_path, FILES, as_app=False) as made:
        assert made.sync().code == 0
    assert check(made) == []


@pytest.mark.parametrize(
    "job",
    [
        {"prune": "off"},
        {"drift": "keep"},
        {"drift": "report"},
        {"symlinks": "skip"},
        {"limits": {"files": 5}},
        {"mode": "0600"},
        {"on_change": "true"},
    ],
    ids=str,
)
def test_every_policy_can_be_at_rest(hub: SyncEnv, job: dict[str, Any]) -> None:
    hub.write_config(**job)
    assert hub.sync().code == 0
    assert isinstance(check(hub), UpToDate)


def test_drift_that_is_only_reported_is_the_full_runs_every_time(hub: SyncEnv) -> None:
    hub.write_config(drift="report")
    hub.sync()
    (hub.dest / "nginx.conf").write_text("mine\n")
    assert hub.sync().code == 0
    assert check(hub) == []


def test_a_private_authority_is_the_full_runs(tmp_path: Path) -> None:
    with sync_env(tmp_path, FILES, as_app=False) as made:
        for identity in made.identities.values():
            identity["ca_file"] = "/etc/ssl/certs/ca-certificates.crt"
        made.write()
        assert made.sync().code == 0
        assert made.sync().code == 0
        assert not (made.state / fastpath.NAME).exists()


def test_what_github_has_said_is_not_asked_again(hub: SyncEnv) -> None:
    commit = hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
    done = process(hub)
    assert done.returncode == 0
    assert json.loads(done.stdout)["jobs"][0]["commit"] == commit
    assert [one.status for one in hub.github.requests if one.route == "head"] == [200]
    assert json.loads(done.stdout)["requests"] == {"total": hub.github.count(), "not_modified": 0}


def test_drift_found_by_the_check_is_put_back_with_the_answer_it_had(hub: SyncEnv) -> None:
    (hub.dest / "nginx.conf").write_text("mine\n")
    done = process(hub)
    assert [(one.route, one.status) for one in hub.github.requests] == [("head", 304)]
    assert json.loads(done.stdout)["jobs"][0]["changes"][0]["action"] == "restore"
    assert (hub.dest / "nginx.conf").read_text() == "one\n"


def test_its_words_are_the_full_runs_words(hub: SyncEnv) -> None:
    said, full = json.loads(process(hub).stdout), hub.sync().json
    for one in (*said["jobs"], *full["jobs"]):
        one["seconds"] = 0
    assert said == full
    lines, theirs = process(hub, "sync").stdout.splitlines(), hub.call("sync").out.splitlines()
    assert [line.rpartition("  ")[0] for line in lines[:1]] == [
        line.rpartition("  ")[0] for line in theirs[:1]
    ]
    assert lines[1:] == theirs[1:]


@pytest.mark.parametrize("command", ["pause", "rollback"])
def test_a_paused_or_held_job_costs_no_request(hub: SyncEnv, command: str) -> None:
    hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
    assert hub.sync().code == 0
    assert hub.call(command, "nginx").code == 0
    hub.github.forget_requests()
    assert json.loads(process(hub).stdout)["jobs"][0]["status"] == "skipped"
    assert not hub.github.requests


# --- after a change of many files -----------------------------------------------------------------


@pytest.fixture
def changed(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> SyncEnv:
    """After a change, with a snapshot that lacks the files, because there are too many."""
    monkeypatch.setattr(sync_command, "MAX_FILES_AFTER_CHANGE", 1)
    hub.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
    assert hub.sync().code == 0
    assert read_cache(str(hub.state / fastpath.NAME))["jobs"]["nginx"]["seen"] is None
    hub.github.forget_requests()
    return hub


def test_the_full_run_is_loaded_while_github_answers(changed: SyncEnv) -> None:
    held = threading.Event()
    real, send = early_requests._send, threading.Event()

    def slow(*arguments: Any) -> Reply:
        held.set()
        assert send.wait(20)
        return real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(early_requests, "_send", slow)
        found = begin_check(changed)
        assert isinstance(found, EarlyRequests)
        assert held.wait(20)
        send.set()
        assert [reply.status for reply in answered(found)] == [304]


def test_what_is_requested_early_is_not_requested_again(changed: SyncEnv) -> None:
    commit = changed.repo.commit({"nginx/nginx.conf": "three\n"}, "x")
    assert [reply.status for reply in check(changed)] == [200, 200, 200]
    changed.github.forget_requests()
    done = process(changed)
    assert [(one.route, one.status) for one in changed.github.requests] == [
        ("head", 200),
        ("contents", 200),
        ("tree", 200),
        ("contents", 200),
    ]
    assert (changed.dest / "nginx.conf").read_text() == "three\n"
    said = json.loads(done.stdout)
    assert said["jobs"][0]["commit"] == commit
    assert said["requests"] == {"total": 4, "not_modified": 0}


def test_a_tree_that_fails_early_is_requested_again_and_both_count(changed: SyncEnv) -> None:
    changed.repo.commit({"nginx/nginx.conf": "three\n"}, "x")
    changed.github.add_fault("tree", faults.status(502), 1)
    done = process(changed)
    assert [(one.route, one.status) for one in changed.github.requests] == [
        ("head", 200),
        ("contents", 200),
        ("tree", 502),
        ("tree", 200),
        ("contents", 200),
    ]
    assert json.loads(done.stdout)["requests"]["total"] == 5
    assert (changed.dest / "nginx.conf").read_text() == "three\n"


EARLY = {
    # what the job lists and the push changes -> the trees that are requested: each but once
    "a folder with folders": (["nginx/"], {"nginx/sites/a.conf": "2\n"}, ["nginx"]),
    "a folder without folders": (["nginx/sites/"], {"nginx/sites/a.conf": "2\n"}, []),
    "a file": (["motd"], {"motd": "2\n"}, []),
    "another folder": (["nginx/"], {"motd": "2\n"}, []),
    "the whole repository": (["/"], {"motd": "2\n"}, [""]),
    "two folders of one": (
        ["app/conf/", "app/www/"],
        {"app/conf/x/y": "2\n", "app/www/x/y": "2\n"},
        ["app/conf", "app/www"],
    ),
    "one of two folders of one": (["app/conf/", "app/www/"], {"app/www/x/y": "2\n"}, ["app/www"]),
    "a folder and a file beside it": (
        ["app/conf/", "app/index"],
        {"app/conf/x/y": "2\n", "app/index": "2\n"},
        ["app/conf"],
    ),
}


@pytest.mark.parametrize("case", EARLY)
def test_a_tree_is_requested_early_where_the_full_run_requests_it(
    changed: SyncEnv, case: str
) -> None:
    sources, pushed, folders = EARLY[case]
    files = {"app/conf/x/y": "1\n", "app/conf/z": "1\n", "app/www/x/y": "1\n", "app/index": "1\n"}
    changed.repo.commit(files, "folders")
    changed.write_config(
        paths=[{"from": one, "to": f"{changed.dest}/at/{one.lstrip('/')}"} for one in sources]
    )
    assert changed.sync().code == 0
    commit = changed.repo.resolve(changed.repo.commit(pushed, "x"))
    assert commit is not None
    changed.github.forget_requests()
    process(changed)
    trees = [one.path.split("/")[-1] for one in changed.github.requests if one.route == "tree"]
    found = [changed.repo.entry(commit.tree, folder) for folder in folders if folder]
    expected = [tree for _, tree in filter(None, found)]
    expected += [commit.tree for folder in folders if not folder]
    assert sorted(trees) == sorted(f"{tree}?recursive=1" for tree in expected)
    changed.github.forget_requests()
    assert changed.sync().job["status"] == "unchanged"


def test_an_unchanged_run_after_a_change_costs_one_request(changed: SyncEnv) -> None:
    assert process(changed).returncode == 0
    assert [(one.route, one.status) for one in changed.github.requests] == [("head", 304)]
    assert isinstance(check(changed), UpToDate)


@pytest.mark.parametrize("reason", ["the commit may be refused", "too many folders"])
def test_no_listing_is_requested_early_where(changed: SyncEnv, reason: str) -> None:
    files = [f"{name}/inner/x.conf" for name in "abcdef"]
    changed.repo.commit(dict.fromkeys(files, "x\n"), "folders")
    changed.write_config(
        **{
            "the commit may be refused": {"require": {"fast_forward": True}},
            "too many folders": {
                "paths": [{"from": file, "to": f"{changed.dest}/{file}"} for file in files]
            },
        }[reason]
    )
    assert changed.sync().code == 0
    changed.repo.commit({"nginx/nginx.conf": "three\n"}, "x")
    assert [reply.status for reply in check(changed)] == [200]


def test_early_listings_stay_within_githubs_points(
    changed: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "MAX_REQUESTS", 1)
    changed.repo.commit({"nginx/nginx.conf": "three\n"}, "x")
    assert changed.sync().code == 0
    (job,) = read_cache(str(changed.state / fastpath.NAME))["jobs"].values()
    assert job["listing"] == []


def test_no_request_begins_after_the_deadline(
    changed: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed.repo.commit({"nginx/nginx.conf": "three\n"}, "x")
    monkeypatch.setattr(early_requests, "DEADLINE_SECONDS", 0.0)
    real, late, sent = early_requests._send, threading.Event(), list[str]()

    def slow(connections: Any, request: Any) -> Reply:
        late.wait(20)
        sent.append(request["url"])
        return real(connections, request)

    monkeypatch.setattr(early_requests, "_send", slow)
    found = begin_check(changed)
    assert isinstance(found, EarlyRequests) and answered(found) == []
    late.set()
    for thread in found._threads:
        thread.join()
    assert len(sent) == 1


# --- as a GitHub App ------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path: Path) -> Iterator[SyncEnv]:
    """As `hub`, with an App whose installation is found by its repository."""
    with sync_env(tmp_path, FILES) as made:
        del made.identities["ops"]["installation_id"]
        made.write()
        assert made.sync().code == 0
        assert (made.state / fastpath.NAME).exists()
        made.github.forget_requests()
        yield made


def test_an_app_asks_for_a_token_and_then_about_the_ref(app: SyncEnv) -> None:
    before = signatures(app.dest)
    found = check(app)
    assert isinstance(found, UpToDate)
    assert found.requests == {"total": 2, "not_modified": 1}
    assert [(one.route, one.status) for one in app.github.requests] == [
        ("token", 201),
        ("head", 304),
    ]
    assert signatures(app.dest) == before


def test_an_apps_requests_are_those_of_the_full_run(app: SyncEnv) -> None:
    check(app)
    mine = app.github.requests
    app.sync()
    theirs = app.github.requests
    assert [(one.method, one.path) for one in mine] == [(one.method, one.path) for one in theirs]
    for name in ("accept", "content-type", "user-agent", "x-github-api-version"):
        assert [one.headers.get(name) for one in mine] == [one.headers.get(name) for one in theirs]


def test_jobs_of_an_app_share_one_token(app: SyncEnv) -> None:
    for number in range(5):
        app.github.add_repo(f"acme/r{number}", FILES)
        app.jobs[f"job{number}"] = {
            "repo": f"acme/r{number}",
            "ref": "main",
            "every": "5m",
            "paths": [{"from": "motd", "to": f"{app.folder}/dest{number}/motd"}],
        }
    app.write()
    assert app.sync().code == 0
    app.github.forget_requests()
    found = check(app)
    assert isinstance(found, UpToDate)
    assert found.requests == {"total": 7, "not_modified": 6}
    assert app.github.count("token") == 1


def test_the_full_run_goes_on_with_the_apps_token_and_answer(app: SyncEnv) -> None:
    commit = app.repo.commit({"nginx/nginx.conf": "two\n"}, "x")
    done = process(app)
    assert json.loads(done.stdout)["jobs"][0]["commit"] == commit
    routes = [one.route for one in app.github.requests]
    assert routes.count("token") == 1
    assert routes.count("head") == 1
    assert json.loads(done.stdout)["requests"]["total"] == app.github.count()


def test_the_limit_of_the_apps_installation_is_recorded(app: SyncEnv) -> None:
    before = app.call("status", "--json").json["identities"]
    app.github.primary_limit = 4321
    assert isinstance(check(app), UpToDate)
    after = app.call("status", "--json").json["identities"]
    assert [(one["installation"], one["limit"]) for one in before] == [(42, 5000)]
    assert [(one["installation"], one["limit"]) for one in after] == [(42, 4321)]


REFUSED: dict[str, Callable[[SyncEnv], object]] = {
    "a key that others may read": lambda app: key_file(app).chmod(0o644),
    "a key that is none": lambda app: key_file(app).write_text(
        "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"
    ),
    "no key": lambda app: key_file(app).unlink(),
    "a response nested too deeply": lambda app: app.github.add_fault(
        "token", faults.other_content(b"[" * 100_000)
    ),
    "an App that is gone": lambda app: app.github.accounts.apps.clear(),
    "an installation that is gone": lambda app: app.github.accounts.installations.clear(),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_github_refuses_an_app_is_the_full_runs(app: SyncEnv, change: str) -> None:
    REFUSED[change](app)
    assert not isinstance(check(app), UpToDate)
    assert app.github.count("token") <= 1, "a refused App does not hammer"


def key_file(app: SyncEnv) -> Path:
    return Path(app.identities["ops"]["private_key"])


# --- the process ----------------------------------------------------------------------------------


def process(hub: SyncEnv, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_forked(
        [*MODULE, "-c", str(hub.config), *(arguments or ("sync", "--json"))], text=True, cwd=ROOT
    )


# --- the property ---------------------------------------------------------------------------------

KINDS = (
    "sync",
    "push",
    "push unlisted",
    "edit",
    "touch",
    "remove",
    "mode",
    "folder mode",
    "dir_mode",
    "pause",
    "resume",
    "config",
    "status",
    "plan",
    "rollback",
    "forget",
    "elsewhere",
    "etags",
)
STEPS = st.lists(st.sampled_from(["sync", *KINDS]), min_size=1, max_size=6)


def apply(hub: SyncEnv, step: str, number: int) -> None:
    file = hub.dest / "nginx.conf"
    match step:
        case "push":
            hub.repo.commit({"nginx/nginx.conf": f"push {number}\n"}, "p")
        case "push unlisted":
            hub.repo.commit({"src/x": f"push {number}\n"}, "p")
        case "edit" if file.exists():
            file.write_text(f"edit {number}\n")
        case "touch" if file.exists():
            os.utime(file)
        case "remove":
            file.unlink(missing_ok=True)
        case "mode" if file.exists():
            file.chmod(0o600 if number % 2 else 0o644)
        case "folder mode" if (hub.dest / "sites").exists():
            (hub.dest / "sites").chmod(0o700 if number % 2 else 0o755)
        case "dir_mode":
            hub.write_config(dir_mode="0750" if number % 2 else "0755")
        case "config":
            hub.write_config(prune="off" if number % 2 else "tracked")
        case "forget":
            hub.call("sync", "--forget", "nginx", "nginx")
        case "elsewhere":
            hub.call("sync", "nginx", "--ref", hub.repo.resolve("main").id)
        case "etags":
            hub.github.etags = "hash" if hub.github.etags == "git" else "git"
        case "pause" | "resume" | "rollback":
            hub.call(step, "nginx")
        case "sync" | "status" | "plan":
            hub.call(step)


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)
@given(steps=STEPS, as_app=st.booleans())
def test_where_it_answers_the_full_run_has_nothing_to_do(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], as_app: bool
) -> None:
    with sync_env(tmp_path_factory.mktemp("hub"), FILES, as_app=as_app) as hub:
        hub.sync()
        for number, step in enumerate(steps):
            apply(hub, step, number)
            found = check(hub)
            if isinstance(found, UpToDate):
                before = signatures(hub.dest)
                full = hub.sync()
                assert full.code == 0
                assert full.job["status"] == "unchanged"
                assert full.job["changes"] == []
                token = [("token", 201)] if as_app else []
                assert [(one.route, one.status) for one in hub.github.requests] == [
                    *token,
                    ("head", 304),
                ]
                assert full.job["commit"] == found.jobs[0][3]
                assert signatures(hub.dest) == before


def test_a_torn_cache_file_is_none(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    write_cache(str(file), {"much": "x" * 1000})
    whole = file.read_bytes()
    for length in (0, 1, 63, 64, 65, 200, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises((ValueError, KeyError)):
            read_cache(str(file))
    body = whole.partition(b"\n")[2].replace(b"x" * 10, b"y" * 10)
    file.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    assert read_cache(str(file))["much"].startswith("y"), (
        "the checksum is against damage, not against whoever may write the state"
    )


def test_a_cache_file_of_another_version_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    write_cache(str(file), {"written_by": [0, "0.0.0", ""]})
    with pytest.raises(ValueError, match="another version"):
        read_cache(str(file))
