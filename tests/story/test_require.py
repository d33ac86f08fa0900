"""`require`: commits that are not verified, and histories that were rewritten, are refused by name;
nothing of them reaches the disk.
"""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from syncd.simulator import faults
from tests.support.sync_env import SyncEnv, signatures


def head_with(hub: SyncEnv, content: str, verification: str) -> str:
    return hub.repo.commit({"nginx/nginx.conf": content}, verification=verification)


# --- fast_forward ---------------------------------------------------------------------------------


@pytest.fixture
def following(hub: SyncEnv) -> SyncEnv:
    hub.write_config(require={"fast_forward": True})
    assert hub.sync().code == 0
    return hub


def test_what_follows_is_taken_and_costs_one_request_more(following: SyncEnv) -> None:
    following.repo.commit({"nginx/nginx.conf": "two\n"})
    assert following.sync().job["status"] == "changed" and following.github.count("compare") == 1
    assert following.sync().job["status"] == "unchanged" and following.github.count("compare") == 0


@pytest.mark.parametrize("how", ["rewritten", "rewound", "unrelated"])
def test_rewritten_history_is_refused_with_the_command_that_accepts_it(
    following: SyncEnv, how: str
) -> None:
    first = following.repo.head()
    following.repo.commit({"nginx/nginx.conf": "two\n"})
    following.sync()
    before = following.tree()
    if how == "rewound":
        following.repo.refs["refs/heads/main"] = first
    else:
        following.repo.commit(
            {"nginx/nginx.conf": "evil\n"}, "evil", parents=(first,) if how == "rewritten" else ()
        )
    head = following.repo.head()
    done = following.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"]) == (6, "refused", "limit")
    assert (
        "rewritten" in done.job["error"]["message"]
        and f"syncd sync nginx --ref {head}" in done.job["error"]["hint"]
    )
    assert following.tree() == before
    again = following.sync()
    assert (
        again.code == 6
        and again.job["error"]["message"] == done.job["error"]["message"]
        and f"--ref {head}" in again.job["error"]["hint"]
    )
    assert again.json["requests"] == {"total": 2, "not_modified": 1}, (
        "a refused head is polled like any other"
    )
    (following.dest / "nginx.conf").write_text("edited\n")
    following.sync()
    assert following.tree() == before, "drift is repaired to the accepted set meanwhile"
    accepted = following.call("sync", "nginx", "--ref", head, "--json")
    assert accepted.code == 0 and following.sync().job["status"] == "unchanged"


def test_after_another_ref_for_one_run_the_line_goes_on_where_it_was(following: SyncEnv) -> None:
    first = following.repo.head()
    following.repo.commit({"nginx/nginx.conf": "hotfix\n"}, branch="hotfix", parents=(first,))
    following.repo.commit({"nginx/nginx.conf": "main\n"})
    assert following.call("sync", "nginx", "--ref", "hotfix", "--json").code == 0
    assert following.tree()["nginx.conf"] == b"hotfix\n"
    assert (
        following.sync().job["status"] == "changed" and following.tree()["nginx.conf"] == b"main\n"
    )


def test_another_ref_in_the_configuration_begins_a_new_line(following: SyncEnv) -> None:
    following.repo.commit({"nginx/nginx.conf": "else\n"}, branch="else", parents=())
    following.write_config(ref="else")
    assert following.sync().code == 0 and following.tree()["nginx.conf"] == b"else\n"


def test_what_github_cannot_compare_now_is_asked_again(
    following: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.005)
    following.repo.commit({"nginx/nginx.conf": "two\n"})
    made = following.github.add_fault("compare", faults.status(503), times=99)
    done = following.sync()
    assert done.code == 5 and following.tree()["nginx.conf"] == b"one\n"
    made.times = 0
    assert following.sync().code == 0


# --- verified -------------------------------------------------------------------------------------


def test_only_verified_commits_are_taken(hub: SyncEnv) -> None:
    hub.write_config(require={"verified": True})
    done = hub.sync()
    assert (
        (done.code, done.job["status"]) == (6, "refused")
        and "unsigned" in done.job["error"]["message"]
        and hub.tree() == {}
    )
    again = hub.sync()
    assert again.code == 6 and again.json["requests"]["total"] == 2
    head_with(hub, "signed\n", "valid")
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"signed\n"
    assert hub.sync().job["status"] == "unchanged" and hub.github.count("commit") == 0
    head_with(hub, "evil\n", "unknown_key")
    done = hub.sync()
    assert (
        done.code == 6
        and "unknown_key" in done.job["error"]["message"]
        and hub.tree()["nginx.conf"] == b"signed\n"
    )


@pytest.mark.parametrize("reason", ["gpgverify_unavailable", "gpgverify_error"])
def test_a_checker_that_is_away_means_ask_again(hub: SyncEnv, reason: str) -> None:
    hub.write_config(require={"verified": True})
    made = head_with(hub, "signed\n", reason)
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (5, "unavailable") and hub.tree() == {}
    hub.repo.commits[made] = replace(hub.repo.commits[made], verification="valid")
    assert hub.sync().code == 0


def test_a_ref_named_by_hand_must_be_verified_too(hub: SyncEnv) -> None:
    hub.write_config(require={"verified": True})
    assert hub.call("sync", "nginx", "--ref", hub.repo.head()).code == 6 and hub.tree() == {}


def test_a_server_that_does_not_say_is_refused(hub: SyncEnv) -> None:
    hub.write_config(require={"verified": True})
    hub.github.add_fault("commit", faults.other_content(b'{"sha": "x"}'), times=99)
    done = hub.sync()
    assert done.code == 5 and done.job["error"]["kind"] == "bad_response" and hub.tree() == {}


# --- what is remembered of it ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss", ["the database", "an older database comes back", "a damaged database"]
)
def test_what_was_accepted_is_known_although_the_database_is_lost(
    following: SyncEnv, loss: str
) -> None:
    first, database = following.repo.head(), following.state / "syncd.db"
    older = database.read_bytes()
    following.repo.commit({"nginx/nginx.conf": "two\n"})
    assert following.sync().code == 0
    before = following.tree()
    for name in ("syncd.db-wal", "syncd.db-shm"):
        (following.state / name).unlink(missing_ok=True)
    if loss == "the database":
        database.unlink()
    else:
        database.write_bytes(older if "older" in loss else b"damage" * 2000)
    following.repo.refs["refs/heads/main"] = first
    done = following.sync()
    assert (done.code, done.job["error"]["kind"]) == (6, "limit") and f"--ref {first}" in done.job[
        "error"
    ]["hint"]
    assert following.tree() == before
    following.repo.refs["refs/heads/main"] = following.repo.commit(
        {"nginx/nginx.conf": "three\n"}, parents=tuple(set(following.repo.commits) - {first})
    )
    assert following.sync().code == 0 and following.tree()["nginx.conf"] == b"three\n"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '["acme/infra main", "x", "0"]',
        "[[[[",
        "\0",
        '["acme/infra main", "' + "0" * 40 + '", "0011223344556677"]',
    ],
)
def test_a_damaged_note_of_what_was_accepted_leaves_what_the_database_knows(
    following: SyncEnv, content: str
) -> None:
    first = following.repo.head()
    following.repo.commit({"nginx/nginx.conf": "two\n"})
    following.sync()
    [note] = (following.state / "accepted").iterdir()
    assert note.stat().st_mode & 0o777 == 0o600 and note.parent.stat().st_mode & 0o777 == 0o700
    note.write_text(content)
    following.repo.refs["refs/heads/main"] = first
    assert following.sync().code == 6 and following.tree()["nginx.conf"] == b"two\n"


def test_a_rewrite_accepted_while_it_did_not_matter_is_accepted_when_it_does_again(
    following: SyncEnv,
) -> None:
    following.write_config(require={"fast_forward": False})
    following.repo.commit({"nginx/nginx.conf": "else\n"}, parents=())
    assert following.sync().code == 0
    following.write_config(require={"fast_forward": True})
    following.repo.commit({"nginx/nginx.conf": "more\n"})
    assert following.sync().code == 0 and following.tree()["nginx.conf"] == b"more\n"


def test_a_forgotten_job_begins_anew(following: SyncEnv) -> None:
    following.repo.commit({"nginx/nginx.conf": "else\n"}, parents=())
    assert following.sync().code == 6
    assert following.sync("--forget", "nginx").code == 0
    assert following.sync().code == 0 and following.tree()["nginx.conf"] == b"else\n"


def test_a_ref_that_goes_back_is_an_event_in_the_report_the_log_and_the_history(
    hub: SyncEnv,
) -> None:
    hub.sync()
    first = hub.repo.head()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    second = hub.repo.head()
    hub.repo.refs["refs/heads/main"] = first
    done = hub.call("sync")
    said = (
        f"main of acme/infra went back from {second[:7]} to {first[:7]}, which had been applied "
        "before"
    )
    assert done.code == 0 and said in done.out and said in done.err
    assert f"went back to {first[:7]}" in hub.call("history").out
    assert [run["went_back"] for run in hub.call("history", "--json").json["runs"]] == [
        True,
        False,
        False,
    ]
    assert "went back" not in hub.call("sync").out, "told once"
    hub.repo.refs["refs/heads/main"] = second
    assert "went back" in hub.call("sync").out, "forth again is to a commit that was left, too"


@pytest.mark.parametrize(
    "way", ["another ref for one run", "a rollback", "another ref in the configuration"]
)
def test_what_a_hand_did_is_no_such_event(hub: SyncEnv, way: str) -> None:
    hub.sync()
    first = hub.repo.head()
    hub.repo.refs["refs/heads/else"] = first
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    if way == "another ref for one run":
        said = hub.call("sync", "nginx", "--ref", "else").out + hub.call("sync").out
    elif way == "a rollback":
        said = (
            hub.call("rollback", "nginx").out
            + hub.call("resume", "nginx").out
            + hub.call("sync").out
        )
    else:
        hub.write_config(ref="else")
        said = hub.call("sync").out
    assert "went back" not in said


def test_commits_refused_one_after_the_other_leave_the_files_untouched(hub: SyncEnv) -> None:
    """Unsigned, then a checker that is away, then rewritten, then rewound, then replayed:
    whatever comes, in one story.
    """
    hub.write_config(require={"verified": True, "fast_forward": True})
    first = head_with(hub, "signed\n", "valid")
    assert hub.sync().code == 0
    second = head_with(hub, "signed too\n", "valid")
    assert hub.sync().code == 0
    before = signatures(hub.dest)
    hub.repo.commit({"nginx/nginx.conf": "evil\n"}, verification="unsigned")
    assert hub.sync().job["status"] == "refused"
    hub.repo.commit(
        {"nginx/nginx.conf": "evil\n"}, parents=(second,), verification="gpgverify_unavailable"
    )
    assert hub.sync().job["error"]["kind"] == "unavailable"
    hub.repo.commit({"nginx/nginx.conf": "evil\n"}, parents=(first,), verification="valid")
    assert "does not follow" in hub.sync().job["error"]["message"]
    for old in (first, second, first):
        hub.repo.refs["refs/heads/main"] = old
        assert hub.sync().job["status"] == ("unchanged" if old == second else "refused")
    assert signatures(hub.dest) == before
