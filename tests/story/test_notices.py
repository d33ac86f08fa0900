"""Notifications of single runs: a commit was applied, rejected, taken back, or waits, each once;
and templates for their text.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.clock import SystemClock
from syncd.config.load import load_config
from syncd.notice_template import MAX_RESULT_CHARACTERS, SAMPLE, mistake_in, render
from syncd.notifications.sender import NotificationSender
from syncd.store.store import SqliteStore
from syncd.wiring import senders
from tests.support.http_receiver import Receiver, receiving
from tests.support.sync_env import SyncEnv, sync_env

ALL = ["failed", "recovered", "drift", "changed", "rolled_back", "rejected", "waiting", "stale"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def hub(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncEnv]:
    monkeypatch.setenv("HOOK_URL", receiver.url)
    with sync_env(tmp_path, as_app=False) as made:
        subscribe(made)
        yield made


def subscribe(hub: SyncEnv, **more: Any) -> None:
    hub.extra["notify"] = [{"webhook": {"env": "HOOK_URL"}, "when": ALL, **more}]
    hub.write()


def test_an_applied_commit_is_reported_once_with_its_author_and_files(
    hub: SyncEnv, receiver: Receiver
) -> None:
    for _ in range(2):
        assert hub.sync().code == 0
    commit = hub.repo.commit({"nginx/nginx.conf": "two\n"}, "Raise the <!channel> limit")
    for _ in range(2):
        assert hub.sync().code == 0
    assert receiver.events == [("nginx", "changed")] * 2
    notice = receiver.got[1]
    assert (notice["commit"], notice["author"]) == (commit, "Ada")
    assert notice["subject"] == "Raise the ‹!channel› limit"
    assert (notice["changes"], notice["files"]) == (1, [f"{hub.dest}/nginx.conf"])
    assert f"nginx applied {commit[:7]} of acme/infra: 1 file changed (Ada: Raise" in notice["text"]


def test_a_repair_is_no_change(hub: SyncEnv, receiver: Receiver) -> None:
    hub.sync()
    (hub.dest / "nginx.conf").write_text("edited\n")
    assert hub.sync().job["status"] == "changed" and len(receiver.events) == 1


def test_a_rejected_commit_is_reported_once(hub: SyncEnv, receiver: Receiver) -> None:
    judge = "import sys; sys.exit('bad' in open(sys.argv[1]).read())"
    staged = f"{{staged}}{hub.dest}/nginx.conf"
    hub.write_config(validate=[sys.executable, "-c", judge, staged])
    hub.sync()
    bad = hub.repo.commit({"nginx/nginx.conf": "bad\n"})
    for _ in range(3):
        hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "good\n"})
    hub.sync()
    assert [event for _, event in receiver.events] == ["changed", "rejected", "recovered"]
    assert receiver.got[1]["commit"] == bad and "rejected a commit" in receiver.got[1]["text"]
    assert receiver.got[1]["remedy"]


def test_what_is_put_back_after_a_failed_reload_is_rolled_back(
    hub: SyncEnv, receiver: Receiver
) -> None:
    hub.sync()
    judge = "import sys; sys.exit('bad' in open(sys.argv[1]).read())"
    check = [sys.executable, "-c", judge, f"{hub.dest}/nginx.conf"]
    hub.write_config(on_change=check, undo_on_failure=True)
    hub.repo.commit({"nginx/nginx.conf": "bad\n"})
    for _ in range(2):
        hub.sync()
    assert [event for _, event in receiver.events] == ["changed", "rolled_back"]
    assert "put the previous files back" in receiver.got[1]["text"]


def test_a_rollback_of_an_operator_is_reported(hub: SyncEnv, receiver: Receiver) -> None:
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    assert hub.call("rollback", "nginx").code == 0
    hub.sync()
    assert [event for _, event in receiver.events] == ["changed", "changed", "rolled_back"]
    assert receiver.got[2]["remedy"] == "syncd resume nginx"
    assert "by an operator" in receiver.got[2]["text"]


def test_a_job_that_is_not_up_to_date_is_reported_once_until_it_runs(
    hub: SyncEnv, receiver: Receiver
) -> None:
    assert hub.sync().code == 0
    config = load_config(hub.config, {"HOME": str(hub.folder)})
    store = SqliteStore.open(hub.state)
    clock = SystemClock()
    sender = NotificationSender(config, store, clock, {"HOOK_URL": receiver.url}, senders({}))
    for _ in range(2):
        sender.queue_stale({"nginx": "nginx: last success 2 h ago"})
        sender.send_due()
    assert [event for _, event in receiver.events] == ["changed", "stale"]
    assert "last success 2 h ago" in receiver.got[1]["text"]
    store.close()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0
    assert [event for _, event in receiver.events] == ["changed", "stale", "changed"]


def test_a_commit_that_waits_is_reported_once_and_again_when_it_is_applied(
    hub: SyncEnv, receiver: Receiver
) -> None:
    hub.sync()
    freeze = [{"from": "2020-01-01", "to": "2099-01-01", "reason": "holidays"}]
    hub.write_config(apply={"freeze": freeze})
    commit = hub.repo.commit({"nginx/nginx.conf": "two\n"})
    for _ in range(3):
        hub.sync()
    assert [event for _, event in receiver.events] == ["changed", "waiting"]
    assert receiver.got[1]["commit"] == commit and "--now" in receiver.got[1]["remedy"]
    hub.call("sync", "nginx", "--now")
    assert [event for _, event in receiver.events] == ["changed", "waiting", "changed"]


def test_a_job_has_not_recovered_while_its_fix_waits(hub: SyncEnv, receiver: Receiver) -> None:
    judge = "import sys; sys.exit('bad' in open(sys.argv[1]).read())"
    hub.write_config(validate=[sys.executable, "-c", judge, f"{{staged}}{hub.dest}/nginx.conf"])
    hub.sync()
    bad = hub.repo.commit({"nginx/nginx.conf": "bad\n"})
    hub.sync()
    freeze = [{"from": "2020-01-01", "to": "2099-01-01", "reason": "holidays"}]
    hub.write_config(apply={"freeze": freeze})
    fix = hub.repo.commit({"nginx/nginx.conf": "good\n"})
    for head in (fix, fix, bad, fix):
        hub.repo.refs["refs/heads/main"] = head
        hub.sync()
    before = ["changed", "rejected", "waiting"]
    assert [event for _, event in receiver.events[:3]] == before
    assert "recovered" not in [event for _, event in receiver.events]
    hub.call("sync", "nginx", "--now")
    assert receiver.events[-1] == ("nginx", "recovered")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ job }}: {{ event }}", {"text": "nginx: changed"}),
        ('{"content": {{ text | tojson }}, "n": {{ changes }}}', {"n": 2}),
        ("{% for file in files %}{{ file }} {% endfor %}", {}),
    ],
)
def test_a_template_gives_the_text_or_the_body(
    hub: SyncEnv, receiver: Receiver, template: str, expected: dict[str, Any]
) -> None:
    subscribe(hub, template=template)
    assert hub.sync().code == 0
    [got] = receiver.got
    assert {key: got[key] for key in expected} == expected
    assert ("schema" in got) == ("content" not in got)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ jobb }}", "'jobb' is undefined"),
        ("{{ job", "unexpected end of template"),
        ("{{ error.message }}", "None"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ 'x' * 99999 }}", f"more than {MAX_RESULT_CHARACTERS}"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ files.append('x') }}", "unsafe"),
    ],
)
def test_check_names_what_is_wrong_with_a_template(
    hub: SyncEnv, template: str, problem: str
) -> None:
    mistake = mistake_in(template)
    assert mistake is not None and problem in mistake
    subscribe(hub, template=template)
    said = hub.call("check")
    assert said.code == 2 and "notify[0].template" in said.err


def test_the_sample_of_check_has_the_keys_of_a_message(hub: SyncEnv, receiver: Receiver) -> None:
    assert hub.sync().code == 0
    assert sorted(receiver.got[0]) == sorted(SAMPLE)
    assert render("{{ text }}", SAMPLE)
