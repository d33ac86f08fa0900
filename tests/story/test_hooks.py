"""The operator's commands around a change: the veto before it, the reload after it, and what is owed when something dies in between."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.stand import Stand, signatures


def script(hub: Stand, text: str, name: str = "hook.sh") -> list[str]:
    """A hook that is this shell text; `$LOG` is a file that it may write to."""
    file = hub.folder / name
    file.write_text(f"#!/bin/sh\nLOG={hub.folder}/log\n{text}\n")
    file.chmod(0o755)
    return [str(file)]


def lines(hub: Stand, name: str = "log") -> list[str]:
    file = hub.folder / name
    return file.read_text().splitlines() if file.exists() else []


def status(hub: Stand) -> Any:
    return hub.call("status", "--json").json["jobs"][0]


# --- validate ---------------------------------------------------------------------------------------------------------


def test_a_vetoed_commit_changes_nothing_and_is_not_tried_again_but_the_next_good_one_is_taken(hub: Stand) -> None:
    hub.write_config(validate=script(hub, 'echo tried >> $LOG; ! grep -rq BAD "$SYNCD_STAGED"'))
    assert hub.sync().code == 0
    good, before = hub.repo.head(), signatures(hub.dest)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/new": "new\n", "nginx/sites/a.conf": None})
    bad = hub.repo.head()
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"], done.job["changes"]) == (1, "refused", "hook", [])
    assert (done.job["commit"], done.job["previous"]) == (bad, good)
    assert signatures(hub.dest) == before and hub.tree() == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
    assert len(lines(hub)) == 2
    again = hub.sync()
    assert (again.code, again.job["status"], again.job["error"]) == (1, "refused", done.job["error"])
    assert again.json["requests"] == {"total": 2, "not_modified": 1} and len(lines(hub)) == 2
    assert signatures(hub.dest) == before and status(hub)["state"] == "failing"
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["previous"]) == (0, "changed", good)
    assert hub.tree() == {"nginx.conf": b"two\n", "new": b"new\n"} and status(hub)["state"] == "in_step"


def test_a_first_commit_that_is_vetoed_leaves_the_place_empty(hub: Stand) -> None:
    hub.write_config(validate="false")
    for _ in range(2):
        done = hub.sync()
        assert (done.code, done.job["status"], done.job["commit"]) == (1, "refused", hub.repo.head())
        assert hub.tree() == {}


def test_a_changed_configuration_lifts_the_veto(hub: Stand) -> None:
    hub.write_config(validate="false")
    assert hub.sync().code == 1
    hub.write_config(validate="true")
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"one\n"


def test_drift_is_repaired_to_the_last_accepted_set_while_a_commit_is_rejected(hub: Stand) -> None:
    hub.write_config(validate=script(hub, '! grep -rq BAD "$SYNCD_STAGED"'), on_change=script(hub, "echo reload >> $LOG", "reload.sh"))
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    hub.sync()
    (hub.dest / "sites/a.conf").write_text("edited")
    done = hub.sync()
    assert (done.code, done.job["status"]) == (1, "refused")
    assert [(change["action"], Path(change["path"]).name) for change in done.job["changes"]] == [("restore", "a.conf")]
    assert hub.tree() == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
    assert lines(hub) == ["reload", "reload"], "a repair is a change too"


def test_validate_sees_the_complete_set_laid_out_like_the_root_with_kept_files_as_they_are(hub: Stand) -> None:
    hub.write_config(drift="keep")
    hub.sync()
    (hub.dest / "sites/a.conf").write_text("mine\n")
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/new": "new\n"})
    hub.write_config(drift="keep", validate={"shell": f"cd {{staged}}/{hub.dest} && cat nginx.conf sites/a.conf new > {hub.folder}/log"})
    assert hub.sync().code == 0
    assert lines(hub) == ["two", "mine", "new"]
    assert not any((hub.state / "staging").iterdir())


def test_a_hook_is_told_what_changes_and_gets_nothing_of_our_environment(hub: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_canary0000000000000000000000000000")
    hub.sync()
    first = hub.repo.head()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    for key in ("validate", "on_change"):
        here = f"{hub.folder}/{key}"
        hub.write_config(**{key: script(hub, f'env > {here}.env; cp "$SYNCD_CHANGES" {here}.json; ls /proc/self/fd | wc -l > {here}.fds; pwd >> $LOG', f"{key}.sh")})
    assert hub.sync().code == 0
    for key in ("validate", "on_change"):
        env = dict(line.partition("=")[::2] for line in lines(hub, f"{key}.env"))
        assert set(env) - {"PWD", "SHLVL", "_", "TZ", "LC_ALL", "LC_CTYPE", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "OLDPWD"} == {
            "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "SYNCD_JOB", "SYNCD_REPO", "SYNCD_REF", "SYNCD_COMMIT", "SYNCD_PREVIOUS", "SYNCD_STAGED", "SYNCD_CHANGES",
        }  # fmt: skip
        assert (env["SYNCD_JOB"], env["SYNCD_REPO"], env["SYNCD_REF"], env["SYNCD_COMMIT"], env["SYNCD_PREVIOUS"]) == ("nginx", "acme/infra", "main", hub.repo.head(), first)
        assert lines(hub, f"{key}.fds") == ["4"], "stdin, stdout, stderr, and the listing's own"
        told = json.loads((hub.folder / f"{key}.json").read_text())
        assert told["schema"] == "syncd.changes/1" and [Path(change["path"]).name for change in told["jobs"][0]["changes"]] == ["nginx.conf"]
    assert lines(hub) == ["/", "/"]


# --- on_change --------------------------------------------------------------------------------------------------------


def test_on_change_runs_once_after_a_change_and_never_without_one(hub: Stand) -> None:
    hub.write_config(on_change=script(hub, f"cat {hub.dest}/nginx.conf {hub.dest}/sites/a.conf | tr '\\n' ' ' >> $LOG; echo >> $LOG"))
    assert hub.sync().code == 0
    assert lines(hub) == ["one a "], "all files are in place"
    assert hub.sync().job["status"] == "unchanged" and len(lines(hub)) == 1
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0 and lines(hub)[1:] == ["two a "]
    assert not status(hub)["hook_owed"]


def test_a_failed_reload_is_owed_until_it_succeeds(hub: Stand) -> None:
    hub.write_config(on_change=script(hub, f"echo ran >> $LOG; test -e {hub.folder}/works"))
    for count in (1, 2):
        done = hub.sync()
        assert (done.code, done.job["status"], done.job["error"]["kind"]) == (1, "failed", "hook")
        assert hub.tree()["nginx.conf"] == b"one\n" and len(lines(hub)) == count
        assert status(hub)["hook_owed"] and status(hub)["state"] == "failing"
    (hub.folder / "works").touch()
    done = hub.sync()
    assert (done.code, done.job["status"], len(lines(hub))) == (0, "unchanged", 3)
    assert not status(hub)["hook_owed"] and status(hub)["state"] == "in_step"
    assert hub.sync().code == 0 and len(lines(hub)) == 3


def test_a_debt_is_paid_even_when_github_is_not_there(hub: Stand) -> None:
    hub.write_config(on_change=script(hub, f"echo ran >> $LOG; test -e {hub.folder}/works"))
    hub.sync()
    (hub.folder / "works").touch()
    hub.identities["ops"]["api"] = "http://127.0.0.1:9"
    hub.write()
    done = hub.sync()
    assert done.code == 5 and len(lines(hub)) == 2 and not status(hub)["hook_owed"]


def test_equal_commands_of_several_jobs_run_once_after_all_and_others_by_themselves(hub: Stand) -> None:
    reload = script(hub, f'echo "$SYNCD_JOB" >> $LOG; ls {hub.folder}/dest* -d | wc -l >> $LOG; cp "$SYNCD_CHANGES" {hub.folder}/changes.json')
    other = script(hub, 'echo "other $SYNCD_JOB" >> $LOG', "other.sh")
    hub.write_config(on_change=reload)
    for number in range(3):
        hub.jobs[f"j{number}"] = {**hub.jobs["nginx"], "paths": [{"from": "nginx/", "to": f"{hub.folder}/dest{number}/"}]}
    hub.jobs["alone"] = {**hub.jobs["nginx"], "on_change": other, "paths": [{"from": "nginx/", "to": f"{hub.folder}/else/"}]}
    hub.write()
    done = hub.sync()
    assert done.code == 0 and [job["job"] for job in done.json["jobs"]] == ["nginx", "j0", "j1", "j2", "alone"]
    assert sorted(line for line in lines(hub) if "j0" in line or "other" in line) == ["nginx j0 j1 j2", "other alone"] or set(lines(hub)[0].split()) == {"nginx", "j0", "j1", "j2"}
    assert len(lines(hub)) == 3 and "4" in lines(hub)
    assert {job["job"] for job in json.loads((hub.folder / "changes.json").read_text())["jobs"]} == {"nginx", "j0", "j1", "j2"}


def test_plan_shows_the_hooks_that_would_run(hub: Stand) -> None:
    hub.write_config(validate="test -d {staged}", on_change="true")
    said = hub.call("plan").out
    assert "validate: test -d {staged}" in said and "on_change: true" in said
    hub.sync()
    assert "on_change" not in hub.call("plan").out
