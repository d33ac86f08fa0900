"""The operator's commands around a change: the veto before it, the reload after it, and what is
owed when something dies in between.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.git_objects import blob_id
from syncd.hooks.runner import HookRunner
from syncd.simulator.repository import File
from syncd.store.store import SqliteStore
from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.sync_env import SyncEnv, signatures, tree_of

ROOT = Path(__file__).parents[2]


def script(hub: SyncEnv, text: str, name: str = "hook.sh") -> list[str]:
    """A hook that is this shell text; `$LOG` is a file that it may write to."""
    file = hub.folder / name
    file.write_text(f"#!/bin/sh\nLOG={hub.folder}/log\n{text}\n")
    file.chmod(0o755)
    return [str(file)]


def lines(hub: SyncEnv, name: str = "log") -> list[str]:
    file = hub.folder / name
    return file.read_text().splitlines() if file.exists() else []


def status(hub: SyncEnv) -> Any:
    return hub.call("status", "--json").json["jobs"][0]


# --- validate -------------------------------------------------------------------------------------


def test_a_vetoed_commit_changes_nothing_and_is_not_tried_again_but_the_next_good_one_is_taken(
    hub: SyncEnv,
) -> None:
    hub.write_config(validate=script(hub, 'echo tried >> $LOG; ! grep -rq BAD "$SYNCD_STAGED"'))
    assert hub.sync().code == 0
    good, before = hub.repo.head(), signatures(hub.dest)
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/new": "new\n", "nginx/sites/a.conf": None})
    bad = hub.repo.head()
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"], done.job["changes"]) == (
        1,
        "refused",
        "hook",
        [],
    )
    assert (done.job["commit"], done.job["previous"]) == (bad, good)
    assert signatures(hub.dest) == before and hub.tree() == {
        "nginx.conf": b"one\n",
        "sites/a.conf": b"a\n",
    }
    assert len(lines(hub)) == 2
    again = hub.sync()
    assert (again.code, again.job["status"], again.job["error"]) == (
        1,
        "refused",
        done.job["error"],
    )
    assert again.json["requests"] == {"total": 2, "not_modified": 1} and len(lines(hub)) == 2
    assert signatures(hub.dest) == before and status(hub)["state"] == "failing"
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["previous"]) == (0, "changed", good)
    assert (
        hub.tree() == {"nginx.conf": b"two\n", "new": b"new\n"}
        and status(hub)["state"] == "in_sync"
    )


def test_a_first_commit_that_is_vetoed_leaves_the_place_empty(hub: SyncEnv) -> None:
    hub.write_config(validate="false")
    for _ in range(2):
        done = hub.sync()
        assert (done.code, done.job["status"], done.job["commit"]) == (
            1,
            "refused",
            hub.repo.head(),
        )
        assert hub.tree() == {}


def test_a_changed_configuration_lifts_the_veto(hub: SyncEnv) -> None:
    hub.write_config(validate="false")
    assert hub.sync().code == 1
    hub.write_config(validate="true")
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"one\n"


def test_drift_is_repaired_to_the_last_accepted_set_while_a_commit_is_rejected(
    hub: SyncEnv,
) -> None:
    hub.write_config(
        validate=script(hub, '! grep -rq BAD "$SYNCD_STAGED"'),
        on_change=script(hub, "echo reload >> $LOG", "reload.sh"),
    )
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    hub.sync()
    (hub.dest / "sites/a.conf").write_text("edited")
    done = hub.sync()
    assert (done.code, done.job["status"]) == (1, "refused")
    assert [(change["action"], Path(change["path"]).name) for change in done.job["changes"]] == [
        ("restore", "a.conf")
    ]
    assert hub.tree() == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
    assert lines(hub) == ["reload", "reload"], "a repair is a change too"


def test_validate_sees_the_complete_set_laid_out_like_the_root_with_kept_files_as_they_are(
    hub: SyncEnv,
) -> None:
    hub.write_config(drift="keep")
    hub.sync()
    (hub.dest / "sites/a.conf").write_text("mine\n")
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/new": "new\n"})
    hub.write_config(
        drift="keep",
        validate={
            "shell": (
                f"cd {{staged}}/{hub.dest} && cat nginx.conf sites/a.conf new > {hub.folder}/log"
            )
        },
    )
    assert hub.sync().code == 0
    assert lines(hub) == ["two", "mine", "new"]
    assert not any((hub.state / "staging").iterdir())


def test_a_hook_is_told_what_changes_and_gets_nothing_of_our_environment(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_canary0000000000000000000000000000")
    hub.sync()
    first = hub.repo.head()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    for key in ("validate", "on_change"):
        here = f"{hub.folder}/{key}"
        hub.write_config(
            **{
                key: script(
                    hub,
                    (
                        f'env > {here}.env; cp "$SYNCD_CHANGES" {here}.json; ls /proc/self/fd | '
                        f"wc -l > {here}.fds; pwd >> $LOG"
                    ),
                    f"{key}.sh",
                )
            }
        )
    assert hub.sync().code == 0
    for key in ("validate", "on_change"):
        env = dict(line.partition("=")[::2] for line in lines(hub, f"{key}.env"))
        assert set(env) - {
            "PWD",
            "SHLVL",
            "_",
            "TZ",
            "LC_ALL",
            "LC_CTYPE",
            "XDG_RUNTIME_DIR",
            "DBUS_SESSION_BUS_ADDRESS",
            "OLDPWD",
        } == {
            "PATH",
            "HOME",
            "USER",
            "LOGNAME",
            "SHELL",
            "LANG",
            "SYNCD_JOB",
            "SYNCD_REPO",
            "SYNCD_REF",
            "SYNCD_COMMIT",
            "SYNCD_PREVIOUS",
            "SYNCD_STAGED",
            "SYNCD_CHANGES",
        }
        assert (
            env["SYNCD_JOB"],
            env["SYNCD_REPO"],
            env["SYNCD_REF"],
            env["SYNCD_COMMIT"],
            env["SYNCD_PREVIOUS"],
        ) == ("nginx", "acme/infra", "main", hub.repo.head(), first)
        assert lines(hub, f"{key}.fds") == ["4"], "stdin, stdout, stderr, and the listing's own"
        told = json.loads((hub.folder / f"{key}.json").read_text())
        assert told["schema"] == "syncd.changes/1" and [
            Path(change["path"]).name for change in told["jobs"][0]["changes"]
        ] == ["nginx.conf"]
    assert lines(hub) == ["/", "/"]


# --- on_change ------------------------------------------------------------------------------------


def test_on_change_runs_once_after_a_change_and_never_without_one(hub: SyncEnv) -> None:
    hub.write_config(
        on_change=script(
            hub,
            (
                f"cat {hub.dest}/nginx.conf {hub.dest}/sites/a.conf | tr '\\n' ' ' >> $LOG; echo "
                ">> $LOG"
            ),
        )
    )
    assert hub.sync().code == 0
    assert lines(hub) == ["one a "], "all files are in place"
    assert hub.sync().job["status"] == "unchanged" and len(lines(hub)) == 1
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0 and lines(hub)[1:] == ["two a "]
    assert not status(hub)["reload_pending"]


def test_a_failed_reload_is_owed_until_it_succeeds(hub: SyncEnv) -> None:
    hub.write_config(on_change=script(hub, f"echo ran >> $LOG; test -e {hub.folder}/works"))
    for count in (1, 2):
        done = hub.sync()
        assert (done.code, done.job["status"], done.job["error"]["kind"]) == (1, "failed", "hook")
        assert hub.tree()["nginx.conf"] == b"one\n" and len(lines(hub)) == count
        assert status(hub)["reload_pending"] and status(hub)["state"] == "failing"
    (hub.folder / "works").touch()
    done = hub.sync()
    assert (done.code, done.job["status"], len(lines(hub))) == (0, "unchanged", 3)
    assert not status(hub)["reload_pending"] and status(hub)["state"] == "in_sync"
    assert hub.sync().code == 0 and len(lines(hub)) == 3


def test_a_debt_is_paid_even_when_the_run_itself_fails(hub: SyncEnv) -> None:
    hub.write_config(on_change=script(hub, f"echo ran >> $LOG; test -e {hub.folder}/works"))
    hub.sync()
    (hub.folder / "works").touch()
    hub.write_config(ref="gone")
    done = hub.sync()
    assert (
        done.job["error"]["kind"] == "not_found"
        and len(lines(hub)) == 2
        and not status(hub)["reload_pending"]
    )


def test_equal_commands_of_several_jobs_run_once_after_all_and_others_by_themselves(
    hub: SyncEnv,
) -> None:
    reload = script(
        hub,
        (
            f'echo "$SYNCD_JOB" >> $LOG; ls {hub.folder}/dest* -d | wc -l >> $LOG; cp '
            f'"$SYNCD_CHANGES" {hub.folder}/changes.json'
        ),
    )
    other = script(hub, 'echo "other $SYNCD_JOB" >> $LOG', "other.sh")
    hub.write_config(on_change=reload)
    for number in range(3):
        hub.jobs[f"j{number}"] = {
            **hub.jobs["nginx"],
            "paths": [{"from": "nginx/", "to": f"{hub.folder}/dest{number}/"}],
        }
    hub.jobs["alone"] = {
        **hub.jobs["nginx"],
        "on_change": other,
        "paths": [{"from": "nginx/", "to": f"{hub.folder}/else/"}],
    }
    hub.write()
    done = hub.sync()
    assert done.code == 0 and [job["job"] for job in done.json["jobs"]] == [
        "nginx",
        "j0",
        "j1",
        "j2",
        "alone",
    ]
    assert sorted(lines(hub)) == ["4", "nginx j0 j1 j2", "other alone"]
    assert {
        job["job"] for job in json.loads((hub.folder / "changes.json").read_text())["jobs"]
    } == {"nginx", "j0", "j1", "j2"}


def test_plan_shows_the_hooks_that_would_run(hub: SyncEnv) -> None:
    hub.write_config(validate="test -d {staged}", on_change="true")
    said = hub.call("plan").out
    assert "hooks: validate `test -d {staged}`, then on_change `true`" in said
    assert ", validated, reloaded" in hub.call("sync").out
    hub.sync()
    assert "on_change" not in hub.call("plan").out


# --- undo_on_failure ------------------------------------------------------------------------------


def reloading(hub: SyncEnv, below: str = "") -> list[str]:
    """A reload that fails while a BAD file stands, and writes down what it saw."""
    return script(
        hub,
        f"cat {hub.dest}/{below}nginx.conf >> $LOG 2>/dev/null; ! grep -rq BAD {hub.dest}/{below}",
    )


def test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit(
    hub: SyncEnv,
) -> None:
    hub.write_config(on_change=reloading(hub), undo_on_failure=True)
    assert hub.sync().code == 0
    good, before = hub.repo.head(), hub.tree()
    hub.repo.commit(
        {
            "nginx/nginx.conf": "BAD\n",
            "nginx/deep/new": "new\n",
            "nginx/sites/a.conf": None,
            "nginx/tool": File(b"x", executable=True),
        }
    )
    bad = hub.repo.head()
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"], done.job["changes"]) == (
        1,
        "refused",
        "hook",
        [],
    )
    assert (done.job["commit"], done.job["previous"]) == (bad, good)
    assert hub.tree() == before and not (hub.dest / "deep").exists()
    assert lines(hub) == ["one", "BAD", "one"]
    assert (status(hub)["state"], status(hub)["commit"], status(hub)["reload_pending"]) == (
        "failing",
        good,
        False,
    )
    at_rest = signatures(hub.dest)
    again = hub.sync()
    assert (again.code, again.job["status"], again.job["error"]["message"]) == (
        1,
        "refused",
        done.job["error"]["message"],
    )
    assert signatures(hub.dest) == at_rest and len(lines(hub)) == 3
    assert [one["commit"] for one in sets_of(hub)] == [good], (
        "a withdrawn set is none to go back to"
    )
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert (
        hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"two\n" and "deep/new" in hub.tree()
    )


def sets_of(hub: SyncEnv) -> list[dict[str, str]]:
    store = SqliteStore.open(hub.state)
    try:
        return [{"commit": one.commit} for one in store.sets("nginx")]
    finally:
        store.close()


def test_an_undo_brings_back_what_stood_there_whoever_put_it_there(hub: SyncEnv) -> None:
    hub.write_config(on_change=reloading(hub), undo_on_failure=True)
    hub.sync()
    (hub.dest / "sites/a.conf").write_text("edited by hand\n")
    (hub.dest / "theirs").write_text("a file that was there before us\n")
    (hub.dest / "theirs").chmod(0o640)
    (hub.dest / "pointing").symlink_to("nginx.conf")
    hub.repo.commit(
        {
            "nginx/nginx.conf": "BAD\n",
            "nginx/sites/a.conf": "a2\n",
            "nginx/theirs": "taken over\n",
            "nginx/pointing": "taken over too\n",
        }
    )
    done = hub.sync()
    assert (done.code, done.job["status"]) == (1, "refused")
    assert hub.tree() == {
        "nginx.conf": b"one\n",
        "sites/a.conf": b"edited by hand\n",
        "theirs": b"a file that was there before us\n",
        "pointing": ("link", "nginx.conf"),
    }
    assert (hub.dest / "theirs").stat().st_mode & 0o777 == 0o640
    again = hub.sync()
    assert [(change["action"], Path(change["path"]).name) for change in again.job["changes"]] == [
        ("restore", "a.conf")
    ], "drift is repaired to the last applied set"
    assert hub.tree()["theirs"] == b"a file that was there before us\n"


def test_an_undo_leaves_alone_what_was_edited_after_the_change_and_names_it(hub: SyncEnv) -> None:
    edit = f"echo mine > {hub.dest}/sites/a.conf; echo mine > {hub.dest}/new"
    failing = f"! grep -q BAD {hub.dest}/nginx.conf && exit 0; {edit}; exit 1"
    hub.write_config(on_change=script(hub, failing), undo_on_failure=True)
    hub.sync()
    hub.repo.commit(
        {"nginx/nginx.conf": "BAD\n", "nginx/sites/a.conf": "a2\n", "nginx/new": "new\n"}
    )
    said = hub.call("sync").out
    assert hub.tree() == {"nginx.conf": b"one\n", "sites/a.conf": b"mine\n", "new": b"mine\n"}
    for path in ("sites/a.conf", "new"):
        assert f"left alone, since it was edited: {hub.dest}/{path}" in said


def test_an_undo_brings_back_the_ledger_of_files_that_the_commit_had_dropped(hub: SyncEnv) -> None:
    hub.write_config(on_change=reloading(hub), undo_on_failure=True, prune="off")
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/sites/a.conf": None})
    assert hub.sync().job["status"] == "refused"
    (hub.dest / "sites/a.conf").write_text("edited by hand\n")
    hub.sync()
    assert hub.tree()["sites/a.conf"] == b"a\n", "it belongs to the last applied set"


def test_an_undo_crosses_from_files_to_folders_and_modes(hub: SyncEnv) -> None:
    hub.write_config(on_change=reloading(hub), undo_on_failure=True)
    hub.repo.commit(
        {
            "nginx/swap/inner": "folder first\n",
            "nginx/flip": "file first\n",
            "nginx/tool": File(b"#!/bin/sh\n", executable=True),
        }
    )
    hub.sync()
    before = hub.tree()
    hub.repo.commit(
        {
            "nginx/nginx.conf": "BAD\n",
            "nginx/swap/inner": None,
            "nginx/swap": "file now\n",
            "nginx/flip": None,
            "nginx/flip/inner": "folder now\n",
            "nginx/tool": b"#!/bin/sh\n",
        }
    )
    assert hub.sync().job["status"] == "refused"
    assert hub.tree() == before
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert (
        hub.sync().code == 0
        and hub.tree()["swap"] == b"file now\n"
        and hub.tree()["flip/inner"] == b"folder now\n"
    )


def test_a_first_set_whose_reload_fails_is_taken_away_again(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    (hub.dest / "nginx.conf").write_text("theirs\n")
    hub.write_config(on_change=reloading(hub), undo_on_failure=True)
    assert hub.sync().job["status"] == "refused"
    assert hub.tree() == {"nginx.conf": b"theirs\n"} and not (hub.dest / "sites").exists()


def test_a_reload_that_fails_with_the_previous_set_too_stays_owed(hub: SyncEnv) -> None:
    hub.write_config(
        on_change=script(hub, f"echo ran >> $LOG; test -e {hub.folder}/works"), undo_on_failure=True
    )
    (hub.folder / "works").touch()
    hub.sync()
    (hub.folder / "works").unlink()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = hub.sync()
    assert (
        done.job["status"] == "refused"
        and hub.tree()["nginx.conf"] == b"one\n"
        and status(hub)["reload_pending"]
    )
    (hub.folder / "works").touch()
    done = hub.sync()
    assert (
        done.job["status"] == "refused"
        and not status(hub)["reload_pending"]
        and len(lines(hub)) == 4
    )


def test_a_command_that_could_not_be_run_at_all_undoes_nothing(hub: SyncEnv) -> None:
    hub.write_config(on_change="no-such-command", undo_on_failure=True)
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"]) == (
        1,
        "failed",
        "hook",
    ) and "no-such-command" in done.job["error"]["message"]
    assert hub.tree()["nginx.conf"] == b"one\n" and status(hub)["reload_pending"]


def test_the_bytes_of_the_way_back_are_pinned_while_a_reload_is_owed(hub: SyncEnv) -> None:
    (hub.dest / "nginx.conf").write_text("theirs\n")
    hub.write_config(on_change="no-such-command", undo_on_failure=True)
    hub.sync()
    store = SqliteStore.open(hub.state)
    try:
        undo = store.state("nginx").undo
        assert undo is not None
        assert {blob_id(b"theirs\n"), undo.blob} <= store.blobs_in_use()
        for file in (hub.state / "blobs").glob("??/*"):
            if file.parent.name + file.name not in store.blobs_in_use():
                file.unlink()
    finally:
        store.close()
    hub.write_config(on_change="false", undo_on_failure=True)
    hub.sync()
    assert hub.tree() == {"nginx.conf": b"theirs\n"}


def test_a_link_that_was_switched_is_switched_back(hub: SyncEnv) -> None:
    link = hub.dest / "current"
    hub.write_config(
        publish="symlink",
        paths=[{"from": "nginx/", "to": f"{link}/"}],
        on_change=reloading(hub, "current/"),
        undo_on_failure=True,
    )
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/new": "new\n", "nginx/sites/a.conf": None})
    done = hub.sync()
    assert (done.code, done.job["status"]) == (1, "refused") and lines(hub) == ["one", "BAD", "one"]
    assert tree_of(link.resolve()) == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
    before = link.resolve()
    assert hub.sync().job["changes"] == [] and link.resolve() == before
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert hub.sync().code == 0 and tree_of(link.resolve()) == {
        "nginx.conf": b"two\n",
        "new": b"new\n",
    }


# --- commands that misbehave ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "command", "said"),
    [
        ("validate", "sleep 300", "`sleep 300` took longer than its hook_timeout and was ended"),
        (
            "on_change",
            "no-such-command --now",
            "`no-such-command --now` could not be run: there is no command 'no-such-command'",
        ),
        ("validate", {"shell": "kill -SEGV $$"}, "was ended by SIGSEGV"),
        (
            "on_change",
            {"shell": "echo 'line one'; echo 'line two' >&2; exit 7"},
            "exited 7\n    | line one\n    | line two",
        ),
        ("validate", {"shell": "yes | head -c 300000; exit 1"}, "exited 1\n    | y\n"),
    ],
    ids=["hang", "missing", "killed", "says why", "floods"],
)
def test_a_misbehaving_command_is_named_with_what_it_said(
    hub: SyncEnv, key: str, command: object, said: str
) -> None:
    hub.write_config(**{key: command, "hook_timeout": "1s"})
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"]) == (1, "hook")
    assert (
        said in done.job["error"]["message"]
        and done.job["error"]["hint"]
        and len(done.job["error"]["message"]) < 3000
    )
    assert hub.tree() == (
        {} if key == "validate" else {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}
    )
    assert (
        status(hub)["reload_pending"] is (key == "on_change") and status(hub)["state"] == "failing"
    )


def test_a_validator_that_could_not_judge_is_asked_again_at_the_next_run(hub: SyncEnv) -> None:
    tool = hub.folder / "checker"
    hub.write_config(validate=[str(tool), "{staged}"])
    assert (hub.sync().job["status"], hub.tree()) == ("failed", {})
    tool.write_text("#!/bin/sh\nexit 0\n")
    tool.chmod(0o755)
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"one\n"


def test_built_in_checks_veto_a_broken_file_by_its_destination(hub: SyncEnv) -> None:
    hub.write_config(validate={"check": ["json", "yaml"]})
    hub.repo.commit({"nginx/a.json": '{"good": true}', "nginx/b.yaml": "a: [1\n"})
    done = hub.sync()
    assert (done.code, done.job["status"], hub.tree()) == (
        1,
        "refused",
        {},
    ) and f"{hub.dest}/b.yaml: line 2" in done.job["error"]["message"]
    hub.repo.commit({"nginx/b.yaml": "a: [1]\n"})
    assert hub.sync().code == 0


def test_a_secret_that_a_hook_prints_is_masked_everywhere(hub: SyncEnv) -> None:
    token = "ghp_" + "c4n4ry" * 6
    hub.write_config(on_change={"shell": f"echo token {token}; exit 1"})
    done = hub.sync()
    said = (
        done.out
        + done.err
        + hub.call("status").out
        + hub.call("history").out
        + hub.call("history", "--json").out
    )
    assert "token ***" in said and token not in said
    assert token.encode() not in b"".join(file.read_bytes() for file in hub.state.glob("syncd.db*"))


@contextmanager
def syncing(hub: SyncEnv) -> Iterator[subprocess.Popen[str]]:
    """A `syncd sync` of its own process; gone afterwards, whatever happened."""
    syncd = ForkedSyncd(
        [*MODULE, "-c", str(hub.config), "sync"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )
    with syncd:
        try:
            yield syncd
        finally:
            syncd.kill()


def test_sigterm_during_a_reload_ends_it_and_it_stays_owed(hub: SyncEnv) -> None:
    begun = hub.folder / "begun"
    os.mkfifo(begun)
    hub.write_config(
        on_change={"shell": f"echo ran >> {hub.folder}/log; echo x > {begun}; sleep 300"},
        hook_timeout="5m",
    )
    with syncing(hub) as syncd:
        begun.read_text()
        syncd.terminate()
        said, _ = syncd.communicate(timeout=30)
    assert syncd.returncode == 130 and "stopped by a signal" in said
    assert status(hub)["reload_pending"] and hub.tree()["nginx.conf"] == b"one\n"
    hub.write_config(on_change=script(hub, "echo ran >> $LOG"))
    assert hub.sync().code == 0 and lines(hub) == ["ran", "ran"], "an owed hook runs the new text"


def test_kill_9_at_the_reload_leaves_it_owed_and_the_next_sync_runs_it_alone(hub: SyncEnv) -> None:
    begun = hub.folder / "begun"
    os.mkfifo(begun)
    slow = {
        "shell": (
            f"mkdir {hub.folder}/alone || echo together >> {hub.folder}/log; echo ran >> "
            f"{hub.folder}/log; echo x > {begun}; sleep 300"
        )
    }
    hub.write_config(on_change=slow, hook_timeout="5m")
    with syncing(hub):
        begun.read_text()
    hub.write_config(
        on_change=script(
            hub,
            (
                f"test ! -e {hub.folder}/alone || pgrep -f {hub.folder}/alone && echo together >> "
                "$LOG; echo ran >> $LOG"
            ),
        )
    )
    assert hub.sync().code == 0 and lines(hub) == ["ran", "ran"]
    assert not status(hub)["reload_pending"]


# --- what is shown --------------------------------------------------------------------------------


def test_status_and_history_show_a_rejection_and_a_debt(hub: SyncEnv) -> None:
    hub.write_config(
        validate=script(hub, 'echo "bad server name"; ! grep -rq BAD "$SYNCD_STAGED"'),
        on_change="false",
    )
    hub.sync()
    assert re.search(
        r"on_change is pending since \d{4}-\d\d-\d\d \d\d:\d\d UTC: false", hub.call("status").out
    )
    hub.repo.commit({"nginx/nginx.conf": "BAD\n"})
    hub.sync()
    said = hub.call("status").out
    assert "rejected commit" in said and "bad server name" in said
    rows = hub.call("history", "--json").json["runs"]
    assert [row["status"] for row in rows] == ["refused", "failed", "changed"]
    for _ in range(3):
        hub.sync()
    assert len(hub.call("history", "--json").json["runs"]) <= 4, (
        "a failure that goes on is not a row at each run"
    )


def test_a_rejected_commit_is_shown_by_plan_without_running_anything(hub: SyncEnv) -> None:
    hub.write_config(validate=script(hub, "echo ran >> $LOG; exit 1"))
    hub.sync()
    planned = hub.plan()
    assert (planned.job["status"], planned.job["error"]["kind"], planned.job["changes"]) == (
        "refused",
        "hook",
        [],
    ) and lines(hub) == ["ran"]
    assert "rejected commit" in hub.call("plan").out


def test_a_rollback_runs_its_hooks_too(hub: SyncEnv) -> None:
    hub.write_config(
        validate=script(hub, 'echo "asked" >> $LOG', "v.sh"),
        on_change=script(hub, "echo reload >> $LOG"),
    )
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    assert hub.call("rollback", "nginx", "--json").code == 0
    assert lines(hub) == ["asked", "reload"] * 3 and hub.tree()["nginx.conf"] == b"one\n"


def test_a_second_syncd_leaves_a_job_alone_whose_reload_is_running(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = hub.folder / "begun", hub.folder / "go-on"
    os.mkfifo(begun)
    os.mkfifo(go_on)
    hub.write_config(
        on_change={"shell": f"echo ran >> {hub.folder}/log; echo x > {begun}; read line < {go_on}"}
    )
    with syncing(hub) as first:
        begun.read_text()
        with monkeypatch.context() as without_hooks:
            without_hooks.setattr(HookRunner, "run", None)  # a call of it would be a bug: exit 70
            assert hub.sync().code == 11 and lines(hub) == ["ran"]
        go_on.write_text("x\n")
        assert first.wait(30) == 0 and hub.sync().code == 0 and lines(hub) == ["ran"]


def test_an_owed_reload_is_told_everything_since_the_last_that_succeeded(hub: SyncEnv) -> None:
    hub.write_config(
        on_change=script(
            hub,
            (
                f'cp "$SYNCD_CHANGES" {hub.folder}/changes.json; echo "$SYNCD_PREVIOUS '
                '$SYNCD_COMMIT" '
                f">> $LOG; test ! -e {hub.folder}/fails"
            ),
        )
    )
    hub.sync()
    first = hub.repo.head()
    (hub.folder / "fails").touch()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    hub.repo.commit({"nginx/sites/a.conf": None})
    hub.sync()
    (hub.folder / "fails").unlink()
    assert hub.sync().code == 0
    told = json.loads((hub.folder / "changes.json").read_text())["jobs"][0]
    assert [(change["action"], Path(change["path"]).name) for change in told["changes"]] == [
        ("write", "nginx.conf"),
        ("remove", "a.conf"),
    ]
    assert (told["previous"], told["commit"]) == (first, hub.repo.head()) and lines(hub)[
        -1
    ] == f"{first} {hub.repo.head()}"


def test_an_undo_goes_back_past_every_change_without_a_reload(hub: SyncEnv) -> None:
    hub.write_config(on_change=reloading(hub), undo_on_failure=True)
    hub.sync()
    hub.write_config(on_change="no-such-command")
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/first": "1\n"})
    assert hub.sync().job["status"] == "failed"
    hub.write_config(on_change=reloading(hub))
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "nginx/second": "2\n"})
    assert hub.sync().job["status"] == "refused"
    assert hub.tree() == {"nginx.conf": b"one\n", "sites/a.conf": b"a\n"}


def test_a_file_of_a_removed_job_that_an_undo_brings_back_is_nobodys(hub: SyncEnv) -> None:
    hub.jobs["old"] = {
        **hub.jobs["nginx"],
        "paths": [{"from": "nginx/sites/a.conf", "to": f"{hub.dest}/theirs"}],
    }
    hub.jobs["nginx"]["paths"] = [
        {"from": "nginx/nginx.conf", "to": f"{hub.dest}/nginx.conf"},
        {"from": "more/", "to": f"{hub.dest}/"},
    ]
    hub.repo.commit({"more/x": "x\n"})
    hub.write()
    assert hub.sync().code == 0 and (hub.dest / "theirs").read_bytes() == b"a\n"
    del hub.jobs["old"]
    hub.write_config(on_change=reloading(hub), undo_on_failure=True)
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "BAD\n", "more/theirs": "taken over\n"})
    assert hub.sync().job["status"] == "refused" and (hub.dest / "theirs").read_bytes() == b"a\n"
    hub.repo.commit({"nginx/nginx.conf": "two\n", "more/theirs": None})
    assert hub.sync().code == 0
    assert (hub.dest / "theirs").read_bytes() == b"a\n", "its files stay"


def test_a_place_where_nothing_can_be_laid_out_is_a_named_failure_and_nothing_is_changed(
    hub: SyncEnv,
) -> None:
    hub.write_config(validate="true")
    hub.state.mkdir(mode=0o700)
    (hub.state / "staging").write_text("in the way")
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"], hub.tree()) == (
        1,
        "store",
        {},
    ) and "staging" in done.job["error"]["message"]
