"""What `check` and `doctor` say of hooks: text that a shell would have to run,
commands that are not there.
"""

from __future__ import annotations

import pytest

from tests.support.sync_env import SyncEnv


def test_a_validator_written_for_a_shell_is_a_mistake_and_vetoes_nothing_by_accident(
    hub: SyncEnv,
) -> None:
    hub.write_config(validate="test -e /nowhere && echo ok")
    done = hub.call("check")
    assert done.code == 2 and "jobs.nginx.validate" in done.err
    assert "write {shell: 'test -e /nowhere && echo ok'}" in done.err
    assert hub.sync().code == 2 and not hub.tree()
    hub.write_config(validate={"shell": "test -e /nowhere && echo ok"})
    assert hub.call("check").code == 0
    assert hub.sync().job["error"]["kind"] == "hook" and not hub.tree(), "now it vetoes"


def test_check_warns_of_a_missing_command_at_its_place_and_once(hub: SyncEnv) -> None:
    hub.extra["defaults"] = {"on_change": "syncd-test-gone reload"}
    hub.jobs["two"] = {**hub.jobs["nginx"], "paths": [{"from": "x/", "to": f"{hub.folder}/x/"}]}
    hub.write_config(validate=["/opt/syncd-test/gone", "x"])
    done = hub.call("check")
    assert done.code == 0 and "good" in done.out
    warnings = done.err.splitlines()
    lines = hub.config.read_text().splitlines()
    on_change = next(index for index, line in enumerate(lines, 1) if "syncd-test-gone" in line)
    assert [one.partition(": warning: ")[2][:50] for one in warnings] == [
        "there is no command /opt/syncd-test/gone; install ",
        "there is no command 'syncd-test-gone' in /usr/loca",
    ]
    assert warnings[1].startswith(f"{hub.config}:{on_change}:14: jobs.nginx.on_change: warning: ")


def test_where_there_are_no_secrets_commands_are_not_looked_for(hub: SyncEnv) -> None:
    hub.write_config(on_change="syncd-test-gone reload")
    assert not hub.call("check", "--without-secrets").err


@pytest.mark.parametrize("command", ["syncd-test-gone reload", "/etc", "/etc/passwd -t"])
def test_doctor_fails_for_a_command_that_can_not_be_started(hub: SyncEnv, command: str) -> None:
    hub.write_config(on_change=command)
    done = hub.call("doctor")
    assert done.code == 1 and "✕ hook" in done.out and "on_change of nginx: " in done.out


def test_doctor_names_one_command_of_many_jobs_once(hub: SyncEnv) -> None:
    hub.write_config(on_change="syncd-test-gone reload")
    for number in range(6):
        to = f"{hub.folder}/{number}/"
        hub.jobs[f"job{number}"] = {**hub.jobs["nginx"], "paths": [{"from": "nginx/", "to": to}]}
    hub.write()
    out = hub.call("doctor").out
    assert out.count("syncd-test-gone") == 1
    assert "on_change of nginx, job0, job1, job2, job3 and 2 more: there is no command" in out


def test_a_missing_command_does_not_keep_a_configuration_from_being_used(hub: SyncEnv) -> None:
    hub.write_config(on_change="syncd-test-gone reload")
    done = hub.sync()
    assert done.code == 1 and done.job["error"]["kind"] == "hook" and hub.tree()
    assert "syncd-test-gone" in done.job["error"]["message"]
