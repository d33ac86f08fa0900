"""`sync --metrics-file`: metrics of a cron run, whole, readable by the collector,
and never in the way of the run.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.metrics import samples
from tests.support.sync_env import SyncEnv, sync_env


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "collector").mkdir()
    return tmp_path / "collector" / "syncd.prom"


def values(file: Path) -> dict[str, float]:
    return samples(file.read_text())


def test_the_counters_are_this_runs_and_the_rest_is_the_stores(hub: SyncEnv, file: Path) -> None:
    assert hub.sync("--metrics-file", str(file)).code == 0
    first = values(file)
    assert (
        first['syncd_job_runs_total{job="nginx",outcome="changed"}'] == 1
        and first['syncd_job_files{job="nginx"}'] == 2
    )
    assert (
        first['syncd_github_requests_total{code="200",identity="ops"}'] >= 3
        and first["syncd_config_last_reload_successful"] == 1
    )
    assert hub.sync("--metrics-file", str(file)).code == 0
    second = values(file)
    assert (
        second['syncd_job_runs_total{job="nginx",outcome="changed"}'] == 0
        and second['syncd_job_runs_total{job="nginx",outcome="unchanged"}'] == 1
    )
    assert [name for name in second if name.startswith("syncd_github_requests_total")] == [
        'syncd_github_requests_total{code="304",identity="ops"}'
    ]
    assert (
        second['syncd_job_last_change_timestamp_seconds{job="nginx"}']
        == first['syncd_job_last_change_timestamp_seconds{job="nginx"}']
        > 0
    )
    assert (
        second['syncd_job_last_success_timestamp_seconds{job="nginx"}']
        > first['syncd_job_last_success_timestamp_seconds{job="nginx"}']
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o644 and os.listdir(file.parent) == ["syncd.prom"]


def test_a_failed_run_is_told_and_keeps_the_time_of_the_last_success(
    hub: SyncEnv, file: Path
) -> None:
    assert hub.sync("--metrics-file", str(file)).code == 0
    before = values(file)
    hub.github.repos.clear()
    assert hub.sync("--metrics-file", str(file)).code == 4
    after, name = values(file), 'syncd_job_last_success_timestamp_seconds{job="nginx"}'
    assert (
        after['syncd_job_runs_total{job="nginx",outcome="failed"}'] == 1
        and after[name] == before[name]
    )


def test_a_run_of_one_job_tells_of_all(hub: SyncEnv, file: Path) -> None:
    hub.jobs["motd"] = {
        **hub.jobs["nginx"],
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/motd/"}],
    }
    hub.write()
    assert hub.sync("motd", "--metrics-file", str(file)).code == 0
    found = values(file)
    assert (
        found['syncd_job_last_success_timestamp_seconds{job="nginx"}']
        == 0
        < found['syncd_job_last_success_timestamp_seconds{job="motd"}']
    )


@pytest.mark.parametrize("where", ["nowhere/syncd.prom", "collector"])
def test_a_file_that_cant_be_written_is_named_and_the_mirror_stands_all_the_same(
    hub: SyncEnv, file: Path, where: str
) -> None:
    done = hub.sync("--metrics-file", str(hub.folder / where))
    assert (
        done.code == 1
        and done.json["jobs"][0]["status"] == "changed"
        and hub.tree()["nginx.conf"] == b"one\n"
    )
    assert (
        f"syncd: the metrics can't be written to {hub.folder / where}: " in done.err
        and "Traceback" not in done.err
    )
    assert os.listdir(file.parent) == [], "no temporary file is left"


def test_a_link_that_somebody_planted_is_replaced_and_not_followed(
    hub: SyncEnv, file: Path
) -> None:
    (hub.folder / "victim").write_text("mine")
    file.symlink_to(hub.folder / "victim")
    assert hub.sync("--metrics-file", str(file)).code == 0
    assert (hub.folder / "victim").read_text() == "mine" and not file.is_symlink()


def test_the_next_plain_sync_still_has_its_quick_way(hub: SyncEnv, file: Path) -> None:
    hub.sync("--metrics-file", str(file))
    hub.sync("--metrics-file", str(file))
    assert (hub.state / "unchanged.json").exists()


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
def test_promtool_finds_nothing_wrong_with_the_file(hub: SyncEnv, file: Path) -> None:
    hub.sync("--metrics-file", str(file))
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=file.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
