"""The way back: rollback from the cache, jobs left alone, what a disk holds read again,
why a path is as it is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv, signatures

KEPT = 5


def with_sets(hub: SyncEnv, count: int) -> list[tuple[str, dict[str, object]]]:
    """`count` applied sets, oldest first: (commit, tree)."""
    made = []
    for number in range(count):
        hub.repo.commit(
            {
                "nginx/nginx.conf": f"{number}\n",
                f"nginx/only{number}": f"{number}\n",
                f"nginx/only{number - 1}": None if number else "",
            }
        )
        done = hub.sync()
        assert done.code == 0, done.err
        made.append((done.job["commit"], hub.tree()))
    return made


# the nearest and the farthest at a push, those between them in the root lane
@pytest.mark.parametrize(
    "back",
    [
        pytest.param(back, marks=[] if back in (1, KEPT - 1) else [pytest.mark.root])
        for back in range(1, KEPT)
    ],
)
def test_each_kept_set_comes_back_whole_and_without_a_request(hub: SyncEnv, back: int) -> None:
    sets = with_sets(hub, KEPT + 2)
    commit, tree = sets[-1 - back]
    hub.github.forget_requests()
    done = hub.call("rollback", "nginx", "--to", commit[:10], "--json")
    assert done.code == 0, done.out + done.err
    assert (
        done.json["schema"] == "syncd.rollback/1"
        and done.json["requests"]["total"] == 0
        and not hub.github.requests
    )
    assert done.job["status"] == "changed" and (done.job["commit"], done.job["previous"]) == (
        commit,
        sets[-1][0],
    )
    assert hub.tree() == tree


def test_the_newest_of_the_five_sets_can_be_gone_forward_to_again(hub: SyncEnv) -> None:
    sets = with_sets(hub, KEPT)
    assert hub.call("rollback", "nginx", "--to", sets[0][0]).code == 0 and hub.tree() == sets[0][1]
    done = hub.call("rollback", "nginx", "--to", sets[-1][0], "--json")
    assert done.code == 0 and done.json["requests"]["total"] == 0 and hub.tree() == sets[-1][1]


PAGE = Path(__file__).resolve().parents[2] / "docs/going-back.md"


def page_commands() -> list[tuple[str, str]]:
    """(command, output as the page shows it) of each prompt, in the page's order."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for part in block.split("$ syncd ")[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output))
    return found


def without_ids(text: str) -> str:
    """Return the text with other words for what differs from run to run."""
    for pattern, word in (
        (r"\d{4}-\d\d-\d\d[T ][\d:]{8}Z", "TIME"),
        (r"\b[0-9a-f]{6,12}\b", "ID"),
        (r"\b\d+\.\d s\b|\b\d\d?[sm]\b", "SECONDS"),
        (r"requests left until .*|\d,\d{3} (of|left)", "REQUESTS"),
        (r" +", " "),
    ):
        text = re.sub(pattern, word, text)
    return text.strip()


def test_every_command_of_the_page_on_going_back_prints_what_it_shows(hub: SyncEnv) -> None:
    reload = "on_change of nginx is not run: "
    hub.write_config(on_change="true")
    assert hub.sync().code == 0
    sets = []
    for files in (
        {"nginx/nginx.conf": "worker_processes 2;\n"},
        {"nginx/nginx.conf": "worker_processes 4;\n", "nginx/sites/b.conf": "b\n"},
    ):
        hub.repo.commit(files)
        sets.append((hub.sync().job["commit"], hub.tree()))
    (hub.dest / "nginx.conf").write_text("worker_processes 8;\n")
    assert hub.sync().code == 0
    commands, later = page_commands(), []
    for command, shown in commands:
        words = shlex.split(command.replace("/etc/nginx/", f"{hub.dest}/"))
        done = hub.call(*words)
        assert done.code == (3 if command in EXIT_3 else 0), command
        printed = (done.out + done.err).replace(f"{hub.dest}/", "/etc/nginx/")
        printed = printed.replace(reload + "true", reload + "systemctl reload nginx")
        printed = printed.replace("on_change `true`", "on_change `systemctl reload nginx`")
        assert not shown or without_ids(printed) == without_ids(shown), command
        if command == "rollback nginx":
            assert hub.tree() == sets[0][1]
            hub.repo.commit({"nginx/nginx.conf": "worker_processes 3;\n"})
        elif command == "sync nginx" and not later:
            later.append(hub.tree())
            assert later[0] not in (sets[0][1], sets[1][1]), "the third commit, not the bad one"
        elif command == "sync nginx":
            assert hub.tree() == later[0], "the repository's version again"
        elif words[:2] == ["trash", "restore"]:
            assert (hub.dest / "nginx.conf").read_text() == "worker_processes 8;\n"
    assert len(commands) == 18


EXIT_3 = ("status", "verify --repair nginx")  # a job is paused; a file differs


def test_the_page_on_going_back_names_a_commit_to_go_back_to(hub: SyncEnv) -> None:
    sets = with_sets(hub, 3)
    [command] = re.findall(r"`syncd (rollback nginx --to \w+)`", PAGE.read_text())
    words = shlex.split(command.replace("4f2a91c", sets[0][0][:7]))
    assert hub.call(*words).code == 0 and hub.tree() == sets[0][1]
    assert f"the last {KEPT} sets of each job" in " ".join(PAGE.read_text().split())


def test_each_call_goes_one_set_further_back_and_the_end_is_named(hub: SyncEnv) -> None:
    sets = with_sets(hub, 3)
    for commit, tree in reversed(sets[:-1]):
        done = hub.call("rollback", "nginx", "--json")
        assert done.code == 0 and done.job["commit"] == commit and hub.tree() == tree
    done = hub.call("rollback", "nginx", "--json")
    assert (
        done.code == 1
        and done.job["error"]["kind"] == "not_found"
        and sets[0][0][:12] in done.job["error"]["hint"]
    )
    assert hub.tree() == sets[0][1]


def test_a_set_beyond_the_kept_ones_is_refused_by_name(hub: SyncEnv) -> None:
    sets = with_sets(hub, KEPT + 2)
    before = hub.tree()
    done = hub.call("rollback", "nginx", "--to", sets[0][0], "--json")
    assert done.code == 1 and "not kept" in done.job["error"]["message"]
    assert all(commit[:12] in done.job["error"]["hint"] for commit, _ in sets[-KEPT:])
    assert hub.tree() == before


def test_a_held_job_is_left_alone_until_it_is_resumed(hub: SyncEnv) -> None:
    sets = with_sets(hub, 2)
    hub.call("rollback", "nginx")
    hub.repo.commit({"nginx/nginx.conf": "newest\n"})
    (hub.dest / "nginx.conf").write_text("edited while held\n")
    before = signatures(hub.dest)
    done = hub.sync()
    assert (
        done.code == 0
        and done.job["status"] == "skipped"
        and done.json["requests"]["total"] == 0
        and not hub.github.requests
    )
    assert done.job["commit"] == sets[0][0] and signatures(hub.dest) == before
    assert hub.plan().job["status"] == "skipped"
    row = hub.call("status", "--json").json["jobs"][0]
    assert row["state"] == "paused" and row["paused"] == "held after a rollback"
    resumed = hub.call("resume", "nginx")
    assert resumed.code == 0 and "goes on" in resumed.out
    assert hub.sync().job["status"] == "changed" and hub.tree()["nginx.conf"] == b"newest\n"
    assert hub.call("status", "--json").json["jobs"][0]["state"] == "in_sync"


def test_after_a_rollback_and_resume_without_a_push_the_head_comes_back(hub: SyncEnv) -> None:
    sets = with_sets(hub, 2)
    hub.call("rollback", "nginx")
    hub.call("resume", "nginx")
    assert hub.sync().job["commit"] == sets[1][0] and hub.tree() == sets[1][1]
    assert hub.sync().job["status"] == "unchanged"


def test_a_rollback_is_in_the_history(hub: SyncEnv) -> None:
    with_sets(hub, 2)
    hub.call("rollback", "nginx")
    newest = hub.call("history", "nginx", "--json").json["runs"][0]
    assert newest["trigger"] == "rollback" and newest["status"] == "changed" and newest["changes"]


def test_a_cached_blob_that_the_disk_damaged_is_noticed_and_fetched_again(hub: SyncEnv) -> None:
    sets = with_sets(hub, 2)
    for file in (hub.state / "blobs").glob("??/*"):
        file.chmod(0o600)
        file.write_bytes(b"x" + file.read_bytes()[1:])
    done = hub.call("rollback", "nginx", "--json")
    assert done.code == 0 and hub.tree() == sets[0][1]
    assert done.json["requests"]["total"] > 0, "the damaged ones came from GitHub"


def test_an_archives_files_come_back_without_a_request_and_damaged_ones_are_fetched(
    hub: SyncEnv,
) -> None:
    hub.repo.commit({f"nginx/f{number:03d}": f"{number}\n" for number in range(120)})
    first = hub.sync()
    tree = hub.tree()
    assert first.code == 0 and "tarball" in {one.route for one in hub.github.requests}
    assert not list((hub.state / "blobs").glob("??/*"))
    hub.repo.commit({f"nginx/f{number:03d}": None for number in range(3)})
    assert hub.sync().code == 0
    fewer = hub.tree()
    done = hub.call("rollback", "nginx", "--json")
    assert done.code == 0 and done.json["requests"]["total"] == 0 and hub.tree() == tree
    assert hub.call("verify", "--json").json["blobs"]["damaged"] == []

    with closing(sqlite3.connect(hub.state / "cache.db", isolation_level=None)) as table:
        table.execute("UPDATE content SET content = zeroblob(length(content) + 1)")
    (hub.dest / "f100").unlink()
    assert len(hub.call("verify", "--json").json["blobs"]["damaged"]) == len(tree)
    assert hub.call("verify", "--json", "--repair").json["blobs"]["dropped"] == len(tree)
    assert hub.call("verify", "--json").json["blobs"]["damaged"] == []
    hub.call("resume", "nginx")
    assert hub.sync().code == 0 and hub.tree() == fewer


def test_a_rollback_keeps_the_users_own_files_and_what_drift_protects(hub: SyncEnv) -> None:
    sets = with_sets(hub, 2)
    (hub.dest / "mine").write_text("mine\n")
    hub.write_config(drift="keep")
    (hub.dest / "nginx.conf").write_text("protected\n")
    done = hub.call("rollback", "nginx", "--json")
    assert (
        done.code == 0
        and hub.tree()["nginx.conf"] == b"protected\n"
        and hub.tree()["mine"] == b"mine\n"
    )
    assert {change["action"] for change in done.job["changes"]} >= {"keep"}
    assert sets[0][1]["only0"] == hub.tree()["only0"]


def test_more_removals_than_the_limit_do_not_stop_a_rollback(hub: SyncEnv) -> None:
    hub.sync()
    before = hub.tree()
    hub.repo.commit({f"nginx/n{number}": "x" for number in range(40)})
    hub.write_config(limits={"delete": 1})
    hub.sync()
    assert hub.call("rollback", "nginx").code == 0 and hub.tree() == before


def test_nothing_to_go_back_to_is_said(hub: SyncEnv) -> None:
    done = hub.call("rollback", "nginx")
    assert done.code == 1 and "no set" in done.out + done.err


def test_a_rollback_while_another_syncd_holds_the_job_is_refused(hub: SyncEnv) -> None:
    from syncd.store.lock import job_lock

    with_sets(hub, 2)
    with job_lock(hub.state, "nginx"):
        assert hub.call("rollback", "nginx", "--json").code == 11


# --- paused ---------------------------------------------------------------------------------------


def test_a_paused_job_costs_nothing_and_says_why(hub: SyncEnv) -> None:
    hub.sync()
    assert hub.call("pause", "nginx", "--reason", "maintenance till noon").code == 0
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = hub.sync()
    assert done.code == 0 and done.job["status"] == "skipped" and not hub.github.requests
    row = hub.call("status", "--json").json["jobs"][0]
    assert row["state"] == "paused" and row["paused"] == "maintenance till noon"
    assert "maintenance till noon" in hub.call("sync").out
    hub.call("resume", "nginx")
    assert hub.sync().job["status"] == "changed"


def test_a_pause_for_a_time_ends_by_itself(hub: SyncEnv) -> None:
    hub.sync()
    assert hub.call("pause", "nginx", "--for", "1h").code == 0
    assert hub.sync().job["status"] == "skipped"
    assert hub.call("pause", "nginx", "--for", "1s").code == 0
    from datetime import UTC, datetime, timedelta

    from msgspec.structs import replace

    from syncd.ports import Pause
    from syncd.store.store import SqliteStore

    store = SqliteStore.open(hub.state)
    ended = Pause("by hand", datetime.now(UTC) - timedelta(seconds=1))
    store.change_state("nginx", lambda state: replace(state, pause=ended))
    store.close()
    assert hub.sync().job["status"] == "unchanged"


@pytest.mark.parametrize("wrong", ["", "soon", "-5m", "5 parsecs"])
def test_a_time_that_is_none_is_refused_with_an_example(hub: SyncEnv, wrong: str) -> None:
    done = hub.call("pause", "nginx", "--for", wrong)
    assert done.code == 2 and "1h30m" in done.err


@pytest.mark.parametrize("verb", ["pause", "resume", "rollback"])
def test_a_job_that_is_not_there_is_named_with_the_nearest(hub: SyncEnv, verb: str) -> None:
    done = hub.call(verb, "nginy")
    assert done.code == 2 and "did you mean 'nginx'" in done.err


def test_a_job_paused_while_it_runs_stays_paused(hub: SyncEnv) -> None:
    hub.github.call_before("contents", 1, lambda: hub.call("pause", "nginx"))
    assert hub.sync().job["status"] == "changed"
    assert hub.sync().job["status"] == "skipped"


# --- verify and explain ---------------------------------------------------------------------------


def test_verify_reads_every_byte_whatever_the_times_say(hub: SyncEnv) -> None:
    hub.sync()
    assert hub.call("verify").code == 0
    file = hub.dest / "nginx.conf"
    stat = file.stat()
    file.write_text("ONE\n")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (hub.dest / "sites/a.conf").unlink()
    done = hub.call("verify", "--json")
    assert done.code == 3 and done.json["schema"] == "syncd.verify/1"
    assert {Path(one["path"]).name: one["problem"] for one in done.json["jobs"][0]["findings"]} == {
        "nginx.conf": "content",
        "a.conf": "missing",
    }
    assert not [one for one in hub.github.requests if one.route == "never"]


def test_verify_names_a_wrong_mode_and_a_damaged_blob(hub: SyncEnv) -> None:
    hub.sync()
    (hub.dest / "nginx.conf").chmod(0o600)
    blob = next((hub.state / "blobs").glob("??/*"))
    blob.chmod(0o600)
    blob.write_bytes(b"")
    done = hub.call("verify", "--json")
    assert done.code == 3 and done.json["jobs"][0]["findings"][0]["problem"] == "mode"
    assert done.json["blobs"]["damaged"] == [blob.parent.name + blob.name]
    assert hub.call("verify", "--repair", "--json").json["blobs"]["dropped"] == 1
    assert hub.call("verify", "--json").json["blobs"]["damaged"] == []


def test_verify_tolerates_what_the_policy_keeps(hub: SyncEnv) -> None:
    hub.sync()
    hub.write_config(drift="keep")
    (hub.dest / "nginx.conf").write_text("mine\n")
    assert hub.call("verify", "--json").code == 0


def test_explain_says_where_a_file_comes_from_and_how_it_stands(hub: SyncEnv) -> None:
    commit = hub.sync().job["commit"]
    done = hub.call("explain", str(hub.dest / "nginx.conf"))
    assert done.code == 0
    assert (
        "nginx/nginx.conf of acme/infra@main, by the job nginx" in done.out
        and commit[:12] in done.out
        and "byte for byte" in done.out
        and "write" in done.out
    )
    (hub.dest / "nginx.conf").write_text("edited\n")
    assert (
        "holds other bytes; the next sync puts it right"
        in hub.call("explain", str(hub.dest / "nginx.conf")).out
    )


def test_explain_says_why_a_path_is_not_mirrored(hub: SyncEnv) -> None:
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/", "exclude": ["*.md"]}])
    hub.sync()
    excluded = hub.call("explain", str(hub.dest / "README.md"))
    assert excluded.code == 1 and "exclude leave it out" in excluded.out
    assert "left alone" in hub.call("explain", str(hub.dest / "mine.conf")).out
    assert "no job's paths reach it" in hub.call("explain", "/nowhere/at/all").out


def test_what_the_verbs_print_as_json_is_one_object(hub: SyncEnv) -> None:
    with_sets(hub, 2)
    for arguments in (
        ["rollback", "nginx", "--json"],
        ["verify", "--json"],
        ["status", "--json"],
        ["history", "--json"],
    ):
        assert json.loads(hub.call(*arguments).out)["schema"].startswith("syncd.")


def test_history_shows_the_lines_that_changed_between_runs(hub: SyncEnv) -> None:
    with_sets(hub, 3)
    path = str(hub.dest / "nginx.conf")
    done = hub.call("history", "nginx", "--path", path, "--diff")
    assert done.code == 0 and "-1" in done.out and "+2" in done.out
    plain = hub.call("history", "nginx", "--path", path)
    assert "+2" not in plain.out


def test_lines_of_a_private_file_are_in_no_history_without_being_asked_for(hub: SyncEnv) -> None:
    hub.write_config(mode="0600")
    hub.repo.commit({"nginx/nginx.conf": "canary one\n"})
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "canary two\n", "nginx/gone": None})
    hub.sync()
    done = hub.call("history", "--diff")
    assert "canary" not in done.out and "--show-secrets" in done.out
    assert "canary two" in hub.call("history", "--diff", "--show-secrets").out


def test_the_same_drift_left_alone_for_an_hour_is_one_row(hub: SyncEnv) -> None:
    hub.write_config(drift="report")
    hub.sync()
    (hub.dest / "nginx.conf").write_text("mine\n")
    for _ in range(4):
        hub.sync()
    assert len(hub.call("history", "--json").json["runs"]) == 2
    (hub.dest / "nginx.conf").write_text("mine again\n")
    hub.sync()
    assert len(hub.call("history", "--json").json["runs"]) == 3
