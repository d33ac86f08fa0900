"""`doctor` says what is wrong and what to do; a healthy stand is all ticks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.config.load import load_config
from syncd.diagnosis import runner
from syncd.engine.context import Options
from syncd.engine.run import run_job
from syncd.models import Trigger
from syncd.simulator import faults
from syncd.status import WebhookStats, save_webhook_stats
from syncd.store.store import SqliteStore
from syncd.wiring import AppContext
from tests.support.sync_env import SyncEnv, signatures


def test_a_healthy_stand_is_all_ticks_and_nothing_is_written(hub: SyncEnv) -> None:
    hub.sync()
    before = signatures(hub.dest)
    done = hub.call("doctor")
    assert done.code == 0 and "✕" not in done.out
    for word in ("config", "store", "repository", "clock", "limit", "destination"):
        assert f"✓ {word}" in done.out, word
    assert "App 12345" in done.out and signatures(hub.dest) == before


def test_json_has_every_finding_with_its_id_and_what_the_checks_cost(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the tests may be in memory themselves
    monkeypatch.setattr("syncd.diagnosis.destinations.MEMORY", frozenset())
    hub.write_config(ref="mian")
    done = hub.call("doctor", "--json")
    found = done.json
    assert (found["schema"], found["exit"], done.code, done.err) == ("syncd.doctor/1", 1, 1, "")
    assert found["requests"] == {"total": hub.github.count()}
    assert [one for one in found["findings"] if one["level"] != "ok"] == [
        {
            "id": "not_found/ref-missing",
            "level": "error",
            "subject": "repository",
            "message": (
                "acme/infra@mian as ops: there is no branch, tag or commit 'mian' in acme/infra"
            ),
            "hint": (
                "did you mean 'main'? correct ref:, or create it upstream; the files stay as they "
                "are until then"
            ),
        }
    ]
    assert {one["id"] for one in found["findings"]} >= {"doctor/app", "doctor/destination"}


def test_a_store_that_cannot_be_closed_is_not_waited_for(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.sync()
    answers, waited = threading.Event(), list[bool]()
    close = AppContext.close

    def hang(app: AppContext) -> None:
        waited.append(answers.wait(30))
        close(app)

    monkeypatch.setattr(runner, "LIMIT_SECONDS", 0.5)
    monkeypatch.setattr(AppContext, "close", hang)
    before = set(threading.enumerate())
    done = hub.call("doctor", "--json")
    assert (done.json["schema"], waited) == ("syncd.doctor/1", [])
    answers.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert waited == [True]


def test_the_checks_cost_few_requests(hub: SyncEnv) -> None:
    assert hub.call("doctor").code == 0
    assert hub.github.routes() == {"app": 2, "token": 1, "head": 2, "contents": 1, "tree": 1}
    assert hub.sync().code == 0
    hub.github.forget_requests()
    assert hub.call("doctor").code == 0
    assert hub.github.routes() == {"app": 2, "token": 1, "head": 2, "contents": 1}
    assert hub.github.count(status=304) == 1


def test_a_damaged_store_is_not_called_sound_too(hub: SyncEnv) -> None:
    hub.sync()
    (hub.state / "syncd.db").write_bytes(b"no database" * 1000)
    found = hub.call("doctor", "--json").json["findings"]
    assert [one["id"] for one in found if one["subject"] == "store"] == ["doctor/store-damaged"]


@pytest.mark.parametrize("command", [("doctor",), ("check", "--online")], ids=" ".join)
def test_many_good_lines_do_not_hide_what_is_wrong(hub: SyncEnv, command: tuple[str, ...]) -> None:
    for number in range(12):
        paths = [{"from": "nginx/", "to": f"{hub.folder}/many/{number}/"}]
        hub.jobs[f"job{number}"] = {**hub.jobs["nginx"], "paths": paths}
    hub.jobs["job7"]["paths"][0]["from"] = "ngnix/"
    hub.write()
    done = hub.call(*command)
    lines = [line for line in done.out.splitlines() if line.startswith("✓ path")]
    assert len(lines) == 11
    assert lines[-1] == "✓ path          2 more, all well; with -v each is shown"
    assert (done.out + done.err).count("✕ path          job7: there is no folder 'ngnix'") == 1
    assert hub.call("-v", *command).out.count("✓ path") == 12
    quiet = hub.call("-q", *command)
    assert "✓" not in quiet.out and "✕ path" in quiet.out + quiet.err


def test_it_makes_no_state_where_there_is_none(hub: SyncEnv) -> None:
    assert hub.call("doctor").code == 0 and not hub.state.exists()


def test_a_repository_that_cannot_be_read_is_named_once_with_what_to_do(hub: SyncEnv) -> None:
    hub.jobs["two"] = {
        **hub.jobs["nginx"],
        "repo": "acme/nothing",
        "paths": [{"from": "x/", "to": f"{hub.folder}/x/"}],
    }
    hub.jobs["three"] = {**hub.jobs["two"], "paths": [{"from": "y/", "to": f"{hub.folder}/y/"}]}
    hub.write()
    done = hub.call("doctor")
    assert (
        done.code == 4
        and done.out.count("acme/nothing@main") == 1
        and "→" in done.out
        and "✓ repository" in done.out
    )


@pytest.mark.parametrize("given", [True, False], ids=["installation_id given", "looked up"])
@pytest.mark.parametrize("command", [("doctor",), ("check", "--online")], ids=" ".join)
def test_an_app_that_the_host_does_not_know_is_named_by_doctor_and_check(
    hub: SyncEnv, command: tuple[str, ...], given: bool
) -> None:
    hub.identities["ops"]["app_id"] = "777"
    if not given:
        del hub.identities["ops"]["installation_id"]
    hub.write()
    done = hub.call(*command)
    said = done.out + done.err
    assert done.code == 4, said
    assert "GitHub answered 404 to the request for the App itself (Integration not found)" in said
    assert (
        "→ this host knows no such App: check app_id or client_id, that private_key is that "
        "App's, and the host in api:"
    ) in said
    assert "not installed" not in said and hub.github.count() == 1


def test_a_clock_that_is_off_names_ntp(hub: SyncEnv) -> None:
    hub.github.clock_offset = 600
    done = hub.call("doctor")
    assert done.code == 0 and "! clock" in done.out and "NTP" in done.out


def test_a_destination_that_is_a_link_or_open_to_everybody_is_named(hub: SyncEnv) -> None:
    (hub.folder / "real").mkdir()
    (hub.folder / "linked").symlink_to(hub.folder / "real")
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/linked/"}])
    done = hub.call("doctor")
    assert done.code == 1 and "is a link to" in done.out and f"{hub.folder}/real/" in done.out
    (hub.folder / "open").mkdir()
    (hub.folder / "open").chmod(0o777)
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.folder}/open/below/"}])
    done = hub.call("doctor")
    assert done.code == 0 and "writable by all users" in done.out and "chmod o-w" in done.out


def test_files_of_a_job_that_is_gone_are_named(hub: SyncEnv) -> None:
    hub.sync()
    hub.jobs["other"] = {
        **hub.jobs.pop("nginx"),
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/elsewhere/"}],
    }
    hub.write()
    assert "nginx is not configured any more; its 2 files stay" in hub.call("doctor").out


def test_a_change_that_no_delivery_told_of_is_named_but_not_one_that_failed_before(
    hub: SyncEnv,
) -> None:
    secret = hub.folder / "hook"
    secret.write_text("a-secret-of-the-webhook")
    secret.chmod(0o600)
    hub.extra["web"] = {
        "listen": "127.0.0.1:8480",
        "webhook": {"path": "/github", "secret": str(secret)},
    }
    hub.write()
    assert hub.sync().code == 0

    def turn() -> None:
        hub.repo.commit({"nginx/nginx.conf": f"{len(hub.repo.commits)}\n"}, "x")
        app = AppContext.open(load_config(hub.config, {}), {})
        job = app.config.jobs["nginx"]
        run_job(job, app.run_context(job), app.deadline(job), Options(trigger=Trigger.SCHEDULE))
        app.close()

    def heard(found: WebhookStats) -> None:
        store = SqliteStore.open(hub.state)
        save_webhook_stats(store, found)
        store.close()

    now = datetime.now(UTC)
    heard(WebhookStats(now, "ping"))
    turn()
    assert "by its schedule" not in hub.call("doctor").out, "it came at the same time"
    heard(WebhookStats(now - timedelta(hours=1), "ping"))
    done = hub.call("doctor")
    assert (
        done.code == 0
        and f"! webhook       nginx found {hub.repo.head()[:7]} by its schedule" in done.out
        and "subscription to Push" in done.out
    )
    hub.github.add_fault("head", faults.status(422, "No commit found"), times=100)
    turn()
    hub.github.faults.clear()
    turn()
    assert "by its schedule" not in hub.call("doctor").out, "it may have been told of before"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_the_shell_accepts_and_that_knows_the_commands(
    hub: SyncEnv, shell: str
) -> None:
    done = hub.call("completion", shell)
    assert done.code == 0 and "_SYNCD_COMPLETE" in done.out
    if shell == "bash":
        assert (
            subprocess.run(["bash", "-n"], input=done.out, text=True, check=False).returncode == 0
        )
        environment = {
            **os.environ,
            "_SYNCD_COMPLETE": "bash_complete",
            "COMP_WORDS": "syncd ro",
            "COMP_CWORD": "1",
        }
        shown = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; sys.argv[0] = 'syncd'; from syncd.cli.main import main; main()",
            ],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "rollback" in shown.stdout, shown.stderr


def test_completion_without_a_shell_or_for_another_is_a_usage_error(hub: SyncEnv) -> None:
    assert hub.call("completion", "tcsh").code == 2 and hub.call("completion").code == 2


def test_a_remark_of_a_bind_mounted_file_is_grave(tmp_path: Path) -> None:
    from syncd.mirror.destination_checks import destination_warnings

    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    files = [path for path in mounts if os.path.isfile(path)]
    if not files:
        pytest.skip("no file is a mount point on this machine")
    assert any(
        one.is_error and "mount point" in one.text
        for one in destination_warnings(files[0], directory=False)
    )


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_a_file_of_a_configuration_folder_that_is_ignored_is_named_once(
    hub: SyncEnv, command: str
) -> None:
    folder = hub.folder / "conf"
    folder.mkdir()
    (folder / "main.yaml").write_text(hub.config.read_text())
    assert not hub.call("-c", str(folder), command).err
    (folder / "jobs.yml").write_text("[")
    done = hub.call("-c", str(folder), command)
    assert done.code == 0 and done.err == (
        f"warning: {folder}: jobs.yml is ignored: only names that end in .yaml are read; rename "
        "it or move it away\n"
    )
