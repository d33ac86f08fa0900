"""The daemon as its users' machines meet it: the page, health,
metrics and notifications of the real process.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Running, daemon
from tests.support.http_receiver import KEY, receiving
from tests.support.metrics import samples
from tests.support.secret_scan import overheard
from tests.support.sync_env import SyncEnv, sync_env


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        made.extra["web"] = {"listen": "127.0.0.1:0"}
        made.write_config(every="1d")
        yield made


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        overheard(f"the page {path}", text)
        return answer.status, text
    finally:
        connection.close()


def port_of(running: Running) -> int:
    """Where it listens, as it said before it was ready."""
    said = next(
        line["message"]
        for line in reversed(running.lines)
        if line["message"].startswith("listening on ")
    )
    return int(re.findall(r":(\d+)/", said)[0])


def test_the_real_daemon_answers_on_every_path_and_a_reload_moves_its_listener(
    hub: SyncEnv,
) -> None:
    with daemon(hub) as running:
        port = port_of(running)
        running.says("2 ")  # the first run has written
        assert get(port, "/healthz") == (200, "alive\n") and get(port, "/readyz") == (
            200,
            "ready\n",
        )
        status, text = get(port, "/api/v1/status")
        found, printed = json.loads(text), hub.call("status", "--json").json
        assert status == 200 and found.keys() == printed.keys()
        for key in (
            "job",
            "state",
            "commit",
            "last_success",
            "files",
            "drifted",
            "reload_pending",
            "paused",
            "error",
        ):
            assert found["jobs"][0][key] == printed["jobs"][0][key]
        assert found["jobs"][0]["state"] == "in_sync" and found["jobs"][0]["next_run"] is not None
        assert "<h1>The job is in sync " in get(port, "/")[1]
        metrics = get(port, "/metrics")[1]
        found = samples(metrics)
        assert found['syncd_job_runs_total{job="nginx",outcome="changed"}'] == 1
        assert found['syncd_github_requests_total{code="200",identity="ops"}'] > 0
        assert found["syncd_config_last_reload_successful"] == 1
        assert abs(found["syncd_clock_skew_seconds"]) < 60
        if shutil.which("promtool"):
            done = subprocess.run(
                ["promtool", "check", "metrics"],
                input=metrics,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stdout + done.stderr) == (0, "")
        good = hub.config.read_text()
        hub.config.write_text(good.replace("version:", "wersion:"))
        running.send(signal.SIGHUP)
        running.says("the configuration was not reloaded")
        assert samples(get(port, "/metrics")[1])["syncd_config_last_reload_successful"] == 0
        hub.config.write_text(good.replace("127.0.0.1:0", f"unix:{hub.folder}/web.sock"))
        running.send(signal.SIGHUP)
        running.says("listening on unix:")
        running.says("reloaded: ")
        with pytest.raises(ConnectionRefusedError):
            get(port, "/healthz")
        assert running.ends() == 0 and not (hub.folder / "web.sock").exists()


def test_daemon_and_one_shot_tell_of_one_change_once_between_them_and_never_show_the_address(
    hub: SyncEnv,
) -> None:
    with receiving() as receiver:
        hub.extra["notify"] = [{"webhook": {"env": "HOOK_URL"}}]
        hub.write()
        gone = hub.github.repos.copy()
        hub.github.repos.clear()
        with daemon(hub, "-v", environ={"HOOK_URL": receiver.url}) as running:
            port = port_of(running)
            running.says("notified 127.0.0.1:")
            assert receiver.events == [("nginx", "failed")]
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("HOOK_URL", receiver.url)
                assert hub.sync().code == 4
                assert receiver.events == [("nginx", "failed")]
                hub.github.repos.update(gone)
                assert hub.sync().code == 0
            assert receiver.events == [("nginx", "failed"), ("nginx", "recovered")]
            texts = [get(port, path)[1] for path in ("/", "/metrics", "/api/v1/status", "/readyz")]
            assert (
                samples(texts[1])[
                    'syncd_notifications_total{endpoint="env:HOOK_URL",outcome="sent"}'
                ]
                == 2
            )
            assert running.ends() == 0
        texts += [line["message"] for line in running.lines]
        assert all(KEY.split("/")[0] not in text for text in texts)
