"""`syncd trash`: what was overwritten is shown, put back and removed."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from syncd.cli.main import run
from syncd.git_objects import blob_id
from syncd.mirror.trash import Trash
from tests.fault.points import in_child
from tests.support.sync_env import CommandResult, SyncEnv


def edit(hub: SyncEnv, text: str | bytes, name: str = "nginx.conf", mode: int = 0o644) -> Path:
    file = hub.dest / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    file.chmod(mode)
    return file


def listed(hub: SyncEnv) -> list[dict[str, object]]:
    found: list[dict[str, object]] = hub.call("trash", "list", "--json").json["entries"]
    return found


def newest(hub: SyncEnv) -> str:
    return str(listed(hub)[0]["id"])


def plain(text: str) -> str:
    """The text without times, which differ in each run."""
    return re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}Z", "TIME", text)


def restored(hub: SyncEnv, *arguments: str) -> CommandResult:
    done = hub.call("trash", "restore", *arguments)
    assert done.code == 0, done.err
    return done


def failure(hub: SyncEnv, *arguments: str) -> tuple[int, str]:
    """Exit and message with the id and the remedy."""
    done = hub.call("-v", "trash", *arguments)
    return done.code, done.err.replace(str(hub.folder), "")


def test_list_shows_the_newest_first_and_the_command(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    hub.sync()
    edit(hub, "edited", "sites/a.conf")
    hub.sync()
    one, two = listed(hub)
    assert plain(hub.call("trash", "list").out).replace(str(hub.dest), "/etc/nginx").replace(
        str(one["id"])[:6], "111111"
    ).replace(str(two["id"])[:6], "222222").splitlines() == [
        f"ID      REPLACED              FILE{' ' * (len(str(hub.dest)) + 11)}SIZE  JOB    WHY",
        "111111  TIME  /etc/nginx/sites/a.conf  6 B   nginx  edited here",
        "222222  TIME  /etc/nginx/nginx.conf    6 B   nginx  was there before the job",
        "→ syncd trash restore 111111",
    ]


def test_the_list_as_json(hub: SyncEnv) -> None:
    edit(hub, "theirs", mode=0o640)
    hub.sync()
    found = hub.call("trash", "list", "--json").json
    (entry,) = found["entries"]
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", entry.pop("replaced_at"))
    assert re.fullmatch(r"[0-9a-f]{12}", entry.pop("id"))
    assert found == {
        "schema": "syncd.trash/1",
        "entries": [
            {
                "path": f"{hub.dest}/nginx.conf",
                "job": "nginx",
                "kind": "file",
                "size": 6,
                "mode": "0640",
                "uid": os.getuid(),
                "gid": os.getgid(),
                "blob": blob_id(b"theirs"),
                "why": "was there before the job",
            }
        ],
    }


def test_list_of_a_path_and_of_a_folder(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    edit(hub, "theirs", "sites/a.conf")
    hub.sync()

    def paths(place: str) -> list[str]:
        found = hub.call("trash", "list", place, "--json").json["entries"]
        return [entry["path"].removeprefix(f"{hub.dest}/") for entry in found]

    assert paths(f"{hub.dest}/nginx.conf") == ["nginx.conf"]
    assert paths(f"{hub.dest}/sites") == ["sites/a.conf"]
    assert len(paths(str(hub.dest))) == 2
    assert hub.call("trash", "list", "/nothing").out == "Nothing of /nothing.\n"


def test_an_empty_trash(hub: SyncEnv) -> None:
    assert hub.call("trash", "list").out == "The trash is empty.\n"
    assert listed(hub) == []


def test_restore_after_a_takeover(hub: SyncEnv) -> None:
    edit(hub, "theirs", mode=0o640)
    hub.sync()
    done = restored(hub, newest(hub)[:6])
    file = hub.dest / "nginx.conf"
    assert (file.read_text(), file.stat().st_mode & 0o7777) == ("theirs", 0o640)
    kept = newest(hub)[:6]
    assert plain(done.out).splitlines() == [
        f"✓ {file} is restored",
        "  as it was until TIME, mode 0640",
        f"  what was there → syncd trash restore {kept}",
        "  The next run of nginx puts the repository's version back (drift: restore).",
        "  → to keep yours: syncd pause nginx",
    ]


@pytest.mark.parametrize(
    ("drift", "next_run", "after", "status"),
    [
        (
            "restore",
            [
                "  The next run of nginx puts the repository's version back (drift: restore).",
                "  → to keep yours: syncd pause nginx",
            ],
            "one\n",
            "changed",
        ),
        (
            "report",
            [
                "  The next run of nginx leaves it and reports it as drift (drift: report),",
                "  until the repository changes the file.",
            ],
            "mine",
            "unchanged",
        ),
        ("keep", ["  The next run of nginx leaves it (drift: keep)."], "mine", "unchanged"),
    ],
)
def test_the_next_run_does_what_restore_said(
    hub: SyncEnv, drift: str, next_run: list[str], after: str, status: str
) -> None:
    hub.sync()
    file = edit(hub, "mine")
    hub.sync()
    hub.write_config(drift=drift)
    assert hub.sync().code == 0 and file.read_text() == "one\n"
    assert restored(hub, str(file)).out.splitlines()[3:] == next_run
    assert file.read_text() == "mine"
    done = hub.sync()
    assert (file.read_text(), done.job["status"]) == (after, status)


def test_a_paused_job_leaves_it_until_it_is_resumed(hub: SyncEnv) -> None:
    hub.sync()
    file = edit(hub, "mine")
    hub.sync()
    hub.call("pause", "nginx")
    assert restored(hub, str(file)).out.splitlines()[3:] == [
        "  nginx is paused and leaves it until: syncd resume nginx",
        "  (the run after that puts the repository's version back: drift: restore)",
    ]
    hub.sync()
    assert file.read_text() == "mine"


def test_restore_after_the_repository_removed_the_file(hub: SyncEnv) -> None:
    hub.sync()
    edit(hub, "mine", "sites/a.conf")
    hub.sync()
    hub.repo.commit({"nginx/sites/a.conf": None})
    hub.sync()
    file = hub.dest / "sites/a.conf"
    assert not file.exists()
    done = restored(hub, str(file))
    assert file.read_text() == "mine"
    assert done.out.splitlines()[2:] == [
        "  If acme/infra has this file, its next run decides:",
        "  The next run of nginx puts the repository's version back (drift: restore).",
        "  → to keep yours: syncd pause nginx",
    ]
    hub.sync()
    assert file.read_text() == "mine"


def test_a_second_restore_brings_back_what_the_first_replaced(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    hub.sync()
    first = newest(hub)
    restored(hub, first)
    entry = listed(hub)[0]
    assert (entry["why"], file.read_text()) == ("replaced by trash restore", "theirs")
    assert restored(hub, str(entry["id"])).out.splitlines()[2:] == [
        f"  what was there → syncd trash restore {first[:6]}",
        "  It has the bytes that nginx has applied.",
    ]
    assert file.read_text() == "one\n" and len(listed(hub)) == 2
    assert hub.sync().job["changes"] == []


def test_what_is_as_it_was_kept_is_not_written(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    hub.sync()
    restored(hub, str(newest(hub)))
    before = file.stat().st_ino, file.stat().st_mtime_ns, file.stat().st_ctime_ns
    id = next(entry["id"] for entry in listed(hub) if entry["why"] == "was there before the job")
    done = restored(hub, str(id))
    assert done.out.splitlines()[0] == f"✓ {file} is already as it was kept; nothing was written"
    assert (file.stat().st_ino, file.stat().st_mtime_ns, file.stat().st_ctime_ns) == before


def test_restore_sets_only_the_mode_where_the_bytes_are_there(hub: SyncEnv) -> None:
    file = edit(hub, "theirs", mode=0o640)
    hub.sync()
    id = newest(hub)
    restored(hub, id)
    file.chmod(0o600)
    inode = file.stat().st_ino
    restored(hub, id)
    assert (file.stat().st_ino, file.stat().st_mode & 0o777) == (inode, 0o640)
    assert len(listed(hub)) == 2


def test_restore_to_another_file(hub: SyncEnv) -> None:
    edit(hub, "theirs", mode=0o640)
    hub.sync()
    there = hub.folder / "elsewhere" / "a name \x1b[31m.conf"
    there.parent.mkdir()
    done = restored(hub, newest(hub), "--to", str(there))
    assert (there.read_text(), there.stat().st_mode & 0o777) == ("theirs", 0o640)
    assert (hub.dest / "nginx.conf").read_text() == "one\n"
    assert plain(done.out) == (
        f"✓ {hub.folder}/elsewhere/a name \\x1b[31m.conf is restored\n"
        "  as it was until TIME, mode 0640\n"
    )
    there.write_text("other")
    restored(hub, newest(hub), "--to", str(there))
    assert listed(hub)[0]["path"] == str(there)
    assert "\x1b" not in hub.call("trash", "list").out


def test_names_that_are_not_utf_8_and_contents_of_any_bytes(hub: SyncEnv) -> None:
    content = bytes(range(256))
    edit(hub, content)
    hub.sync()
    there = os.fsdecode(os.fsencode(str(hub.folder)) + b"/\xff name")
    Path(there).write_text("before")
    restored(hub, newest(hub), "--to", there)
    assert Path(there).read_bytes() == content
    assert Path(there).stat().st_mode & 0o777 == 0o644
    kept = listed(hub)[0]
    assert kept["path"] == there
    restored(hub, str(kept["id"]))
    assert Path(there).read_text() == "before"


def test_a_link_is_restored_as_a_link(hub: SyncEnv) -> None:
    hub.sync()
    file = hub.dest / "nginx.conf"
    file.unlink()
    file.symlink_to("sites/a.conf")
    hub.sync()
    assert not file.is_symlink()
    restored(hub, newest(hub))
    assert os.readlink(file) == "sites/a.conf"


def test_a_missing_folder_is_made_again(hub: SyncEnv) -> None:
    hub.sync()
    edit(hub, "mine", "sites/a.conf")
    hub.sync()
    hub.repo.commit({"nginx/sites/a.conf": None})
    hub.sync()
    assert not (hub.dest / "sites").exists()
    restored(hub, newest(hub))
    assert (hub.dest / "sites/a.conf").read_text() == "mine"


def test_of_several_entries_of_a_path_the_newest_is_taken(hub: SyncEnv) -> None:
    for text in ("first", "second", "third"):
        file = edit(hub, text)
        hub.sync()
    done = hub.call("trash", "show", str(file))
    assert (done.out, done.err) == (
        "third",
        f"{newest(hub)[:6]} is the newest of 3 entries of {file}\n"
        f"  the others → syncd trash list {file}\n",
    )
    restored(hub, str(file))
    assert file.read_text() == "third"


def test_show_prints_secrets_only_when_asked(hub: SyncEnv) -> None:
    edit(hub, "password", mode=0o640)
    hub.sync()
    id = newest(hub)
    assert failure(hub, "show", id) == (
        1,
        "syncd: /dest/nginx.conf had mode 0640: not everyone may read it\n"
        "  error id: mirror/trash-not-shown\n"
        f"  to show it: syncd trash show {id} --show-secrets\n",
    )
    assert hub.call("trash", "show", id, "--show-secrets").out == "password"


def test_a_restore_that_is_killed_leaves_nothing(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = edit(hub, "theirs")
    hub.sync()
    id, real = newest(hub), os.rename
    for dies_after in (False, True):

        def dying(source: object, target: object, dies_after: bool = dies_after, **at: int) -> None:
            if target == "nginx.conf" and not dies_after:
                os._exit(9)
            real(source, target, **at)  # type: ignore[arg-type]
            if target == "nginx.conf":
                os._exit(9)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", dying)
            in_child(lambda: hub.call("trash", "restore", id).code)
        assert file.read_text() == ("theirs" if dies_after else "one\n")
        left = [name for name in os.listdir(hub.dest) if name.startswith(".syncd-")]
        assert len(left) == (0 if dies_after else 1)
        hub.repo.commit({"nginx/other.conf": f"{dies_after}\n"})
        assert hub.sync().code == 0
        assert [name for name in os.listdir(hub.dest) if name.startswith(".syncd-")] == []
        assert not (hub.state / "trash/restoring.json").exists()
    assert file.read_text() == "one\n" and hub.call("trash", "show", id).out == "theirs"


def test_a_running_job_is_not_disturbed(hub: SyncEnv) -> None:
    from syncd.store.lock import job_lock

    file = edit(hub, "theirs")
    hub.sync()
    with job_lock(hub.state, "nginx"):
        done = hub.call("trash", "restore", newest(hub))
        assert done.code == 11 and done.err.startswith("syncd: another syncd (pid ")
    assert file.read_text() == "one\n"


def test_purge_of_an_entry_of_old_ones_and_of_all(hub: SyncEnv) -> None:
    for text in ("first", "second"):
        edit(hub, text)
        hub.sync()
    assert hub.call("trash", "purge", "--older-than", "1h", "--yes").out == "Nothing to remove.\n"
    id = newest(hub)
    assert hub.call("trash", "purge", id[:6], id, "--yes").out == "Removed 1 entry, 6 B.\n"
    assert [entry["size"] for entry in listed(hub)] == [5]
    assert len(list(hub.state.glob("trash/contents/*"))) == 1
    assert hub.call("trash", "purge", "--older-than", "0s", "--yes").code in (0, 2)
    edit(hub, "third")
    hub.sync()
    assert hub.call("trash", "purge", "--all", "--yes").code == 0
    assert listed(hub) == [] and list(hub.state.glob("trash/contents/*")) == []


def test_purge_asks_and_needs_an_answer(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    hub.sync()
    assert failure(hub, "purge", "--all") == (
        2,
        "syncd: trash purge asks before it removes anything, and there is no terminal to ask on\n"
        "  error id: config/purge-needs-yes\n"
        "  say it with --yes\n",
    )
    assert hub.call("trash", "purge").code == 2
    assert hub.call("trash", "purge", "--all", "abcdef").code == 2
    assert len(listed(hub)) == 1


def test_entries_of_an_older_version_have_no_reason(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    hub.sync()
    (file,) = hub.state.glob("trash/entries/*.json")
    entry = json.loads(file.read_text())
    del entry["reason"]
    file.write_text(json.dumps(entry))
    assert listed(hub)[0]["why"] is None
    assert hub.call("trash", "list").out.splitlines()[1].endswith("  nginx  -")


def test_messages_of_what_cannot_be_restored(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    hub.sync()
    id, there = newest(hub), hub.folder / "there"
    there.mkdir()
    (there / "link").symlink_to(hub.dest)
    entry = hub.state / f"trash/entries/{id}.json"
    (entry.parent / f"{id[:11]}x.json").write_text(
        entry.read_text().replace(id, f"{id[:8]}0000").replace("nginx.conf", "other")
    )
    base = str(hub.folder)
    cases = [
        (
            ["no-such"],
            "syncd: the trash has no entry 'no-such'\n"
            "  error id: mirror/no-such-trash-entry\n"
            "  what there is: syncd trash list\n",
        ),
        (
            ["nginx.cnf"],
            "syncd: the trash has no entry 'nginx.cnf'; did you mean '/dest/nginx.conf'?\n"
            "  error id: mirror/no-such-trash-entry\n"
            "  what there is: syncd trash list\n",
        ),
        (
            [id[:7]],
            f"syncd: 2 entries of the trash have ids that begin with {id[:7]}: "
            + ", ".join(sorted([id, f"{id[:8]}0000"]))
            + "\n  error id: mirror/ambiguous-trash-id\n"
            "  write one more digit\n",
        ),
        (
            [id, "--to", f"{base}/absent/file"],
            "syncd: /absent/file can't be restored: there is no folder /absent\n"
            "  error id: mirror/restore-without-folder\n"
            "  make it: mkdir -p /absent\n",
        ),
        (
            [id, "--to", str(there)],
            "syncd: /there is a folder; a restore replaces only files and links\n"
            "  error id: mirror/restore-over-other\n"
            "  move it away, or restore to another place with --to FILE\n",
        ),
        (
            [id, "--to", str(hub.config)],
            "syncd: /config.yaml is syncd's configuration: nothing is restored there\n"
            "  error id: mirror/restore-protected\n"
            "  write it elsewhere, and put it there yourself: "
            f"syncd trash restore {id} --to FILE\n",
        ),
        (
            [id, "--to", f"{hub.state}/file"],
            "syncd: /state/file is syncd's own state: nothing is restored there\n"
            "  error id: mirror/restore-protected\n"
            "  write it elsewhere, and put it there yourself: "
            f"syncd trash restore {id} --to FILE\n",
        ),
    ]
    found = [(arguments, failure(hub, "restore", *arguments)) for arguments, _ in cases]
    assert found == [(arguments, (1, text)) for arguments, text in cases]
    assert file.read_text() == "one\n"


def test_an_empty_trash_has_no_such_entry(hub: SyncEnv) -> None:
    assert failure(hub, "show", "abcdef") == (
        1,
        "syncd: there is nothing of 'abcdef': the trash is empty\n"
        "  error id: mirror/no-such-trash-entry\n"
        "  it keeps what syncd replaces and never wrote, as long as trash: says\n",
    )


def test_a_link_in_the_way_is_not_followed(hub: SyncEnv) -> None:
    hub.sync()
    edit(hub, "mine", "sites/a.conf")
    hub.sync()
    (hub.dest / "sites").rename(hub.folder / "moved")
    (hub.dest / "sites").symlink_to(hub.folder / "moved")
    id = newest(hub)
    code, said = failure(hub, "restore", id)
    assert (code, said) == (
        1,
        "syncd: /dest/sites is a link to /moved; syncd writes through no link; "
        "nothing was restored\n"
        "  error id: mirror/restore-through-link\n"
        f"  see where it leads, and name that: syncd trash restore {id} --to FILE\n",
    )
    assert (hub.folder / "moved/a.conf").read_text() == "a\n"


def test_nothing_is_restored_into_a_published_tree(hub: SyncEnv) -> None:
    to = f"{hub.dest}/app/current/"
    hub.write_config(publish="symlink", paths=[{"from": "nginx/", "to": to}])
    hub.sync()
    edit(hub, "theirs", "app/current/nginx.conf")
    hub.sync()
    id = newest(hub)
    assert failure(hub, "restore", id) == (
        1,
        "syncd: /dest/app/current/nginx.conf is behind the link /dest/app/current, which nginx "
        "switches as a whole; nothing is restored into its trees\n"
        "  error id: mirror/restore-behind-link\n"
        f"  take it from elsewhere: syncd trash restore {id} --to FILE\n",
    )
    tree = (hub.dest / "app/current").resolve()
    for name in ("nginx.conf", "new.conf"):
        code, said = failure(hub, "restore", id, "--to", f"{tree}/{name}")
        assert (code, "error id: mirror/restore-behind-link" in said) == (1, True)
    assert sorted(os.listdir(tree)) == ["nginx.conf", "sites"]
    restored(hub, id, "--to", f"{hub.folder}/copy")
    assert (hub.folder / "copy").read_text() == "theirs"


def test_damaged_content_is_not_restored(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    hub.sync()
    id = newest(hub)
    content = hub.state / "trash/contents" / blob_id(b"theirs")
    content.write_text("rotten")
    for verb in ("restore", "show"):
        assert failure(hub, verb, id) == (
            1,
            f"syncd: the trash's copy of /dest/nginx.conf ({id}) is damaged: its bytes are not "
            "those that were kept\n"
            "  error id: mirror/trash-damaged\n"
            "  the disk has changed it; what is left of it is "
            f"/state/trash/contents/{content.name}\n",
        )
    assert file.read_text() == "one\n"


def test_a_path_that_no_job_mirrors_any_more(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    hub.sync()
    hub.write_config(paths=[{"from": "nginx/sites/", "to": f"{hub.dest}/sites/"}])
    hub.sync("--allow-delete", "10")
    assert restored(hub, newest(hub)).out.splitlines()[2:] == [
        "  It stays: no job mirrors this path."
    ]
    assert file.read_text() == "theirs"


def test_plan_says_what_goes_to_the_trash_and_names_the_entry_that_sync_makes(
    hub: SyncEnv,
) -> None:
    file = edit(hub, "theirs")
    assert f"  ~ {file}  takes over (your version goes to the trash)" in hub.call("plan").out
    planned = [one["trash"] for one in hub.plan().job["changes"]]
    assert planned[0] is not None and planned[1] is None
    assert [one["trash"] for one in hub.sync().job["changes"]] == planned


def test_sync_history_and_explain_name_the_command(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    done = hub.call("sync")
    id = newest(hub)
    command = f"syncd trash restore {id[:6]}"
    assert f"    {file} was replaced → {command}\n" in done.out
    shown = hub.call("history").out
    assert f"    write    {file}\n             → {command}\n" in shown
    assert shown.count("→ syncd trash") == 1
    assert hub.call("explain", str(file)).out.endswith(f"(operator)\n    → {command}\n")
    (run,) = hub.call("history", "--json").json["runs"]
    assert [one["trash"] for one in run["changes"]] == [id, None]
    hub.call("trash", "purge", "--all", "--yes")
    (run,) = hub.call("history", "--json").json["runs"]
    assert [one["trash"] for one in run["changes"]] == [None, None]
    assert "syncd trash" not in hub.call("history").out


def test_sync_names_five_entries_and_counts_the_others(hub: SyncEnv) -> None:
    names = [f"f{number}" for number in range(7)]
    hub.repo.commit({f"nginx/{name}": "ours\n" for name in names})
    for name in names:
        edit(hub, "theirs", name)
    lines = [line for line in hub.call("sync").out.splitlines() if "→ syncd trash" in line]
    assert len(lines) == 6 and lines[-1] == "    and 2 more → syncd trash list"


def test_history_shows_lines_that_only_the_trash_has(hub: SyncEnv) -> None:
    edit(hub, "theirs\n")
    hub.sync()
    shown = hub.call("history", "--diff").out
    assert "      -theirs\n      +one\n" in shown and "not kept any more" not in shown


def test_history_hides_an_edit_that_not_everyone_could_read(hub: SyncEnv) -> None:
    edit(hub, "password\n", mode=0o600)
    hub.sync()
    shown = hub.call("history", "--diff").out
    assert "password" not in shown and "--show-secrets" in shown
    assert "-password" in hub.call("history", "--diff", "--show-secrets").out


@pytest.mark.parametrize(("mode", "is_shown"), [("0644", True), ("0640", False)])
def test_history_shows_lines_of_a_removed_file_that_all_could_read(
    hub: SyncEnv, mode: str, is_shown: bool
) -> None:
    hub.write_config(mode=mode)
    hub.sync()
    hub.repo.commit({"nginx/sites/a.conf": None})
    hub.sync()
    newest_run = hub.call("history", "--diff", "--limit", "1").out
    assert ("      -a\n" in newest_run, "--show-secrets" in newest_run) == (is_shown, not is_shown)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("syncd trash restore ", ["ID", "ID"]),
        ("syncd trash show DEST/s", ["DEST/sites/a.conf"]),
        pytest.param("syncd trash purge DEST", [], marks=pytest.mark.root),
        pytest.param("syncd trash show zzz", [], marks=pytest.mark.root),
    ],
)
def test_a_shell_completes_ids_and_paths(hub: SyncEnv, typed: str, found: list[str]) -> None:
    edit(hub, "theirs")
    edit(hub, "theirs", "sites/a.conf")
    hub.sync()
    words = typed.replace("DEST", str(hub.dest))
    done = subprocess.run(
        [sys.executable, "-m", "syncd"],
        env={
            **os.environ,
            "SYNCD_CONFIG": str(hub.config),
            "_SYNCD_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    ids = {str(entry["id"])[:6] for entry in listed(hub)}
    values = [line.partition(",")[2] for line in done.stdout.splitlines() if line]
    assert ["ID" if one in ids else one.replace(str(hub.dest), "DEST") for one in values] == found


def test_a_lost_store_loses_no_way_back(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    hub.sync()
    id = newest(hub)
    for lost in hub.state.glob("syncd.db*"):
        lost.unlink()
    assert restored(hub, id).out.splitlines()[3:] == [
        "  If acme/infra has this file, its next run decides:",
        "  The next run of nginx puts the repository's version back (drift: restore).",
        "  → to keep yours: syncd pause nginx",
    ]
    assert file.read_text() == "theirs"
    assert not list(hub.state.glob("syncd.db*"))


@pytest.mark.root
def test_only_root_gives_a_file_back_to_its_owner(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = edit(hub, "theirs")
    os.chown(file, 1, 1)
    hub.sync()
    assert file.stat().st_uid == 0
    id = newest(hub)
    restored(hub, id)
    assert (file.read_text(), file.stat().st_uid, file.stat().st_gid) == ("theirs", 1, 1)
    hub.sync()
    monkeypatch.setattr(os, "geteuid", lambda: 0 if _asks_for_the_state() else 4711)
    assert failure(hub, "restore", id) == (
        1,
        "syncd: /dest/nginx.conf belonged to daemon (group 1), and only root may give files away\n"
        "  error id: mirror/restore-needs-root\n"
        f"  write a file of your own: syncd trash restore {id} --to FILE\n",
    )
    restored(hub, id, "--to", f"{hub.folder}/copy")
    assert (hub.folder / "copy").stat().st_uid == 0


def _asks_for_the_state() -> bool:
    """Whether any code but the restore asks which user this is."""
    return "trash_restore" not in str(sys._getframe(2).f_code.co_filename)


@pytest.mark.root
def test_a_folder_that_is_made_again_is_not_given_to_the_owner_of_the_file(hub: SyncEnv) -> None:
    hub.sync()
    os.chown(edit(hub, "mine", "sites/a.conf"), 1, 1)
    hub.sync()
    hub.repo.commit({"nginx/sites/a.conf": None})
    hub.sync()
    restored(hub, newest(hub))
    assert (hub.dest / "sites/a.conf").stat().st_uid == 1
    assert ((hub.dest / "sites").stat().st_uid, (hub.dest / "sites").stat().st_gid) == (0, 0)


@pytest.mark.root
def test_setuid_is_restored_at_its_own_place_only(hub: SyncEnv) -> None:
    file = edit(hub, "theirs", mode=0o4755)
    hub.sync()
    id = newest(hub)
    restored(hub, id, "--to", f"{hub.folder}/copy")
    assert (hub.folder / "copy").stat().st_mode & 0o7777 == 0o755
    restored(hub, id)
    assert file.stat().st_mode & 0o7777 == 0o4755


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_content_on_a_terminal_has_its_control_characters_as_text(hub: SyncEnv) -> None:
    edit(hub, b"a\x1b[31m\xff")
    hub.sync()
    id = newest(hub)
    out = Terminal()
    with redirect_stdout(out):
        assert run(["-c", str(hub.config), "trash", "show", id]) == 0
    assert out.getvalue() == "a\\x1b[31m\\udcff\n"


def test_content_that_another_entry_names_stays(hub: SyncEnv) -> None:
    edit(hub, "theirs")
    edit(hub, "theirs", "sites/a.conf")
    hub.sync()
    first, second = (str(entry["id"]) for entry in listed(hub))
    hub.call("trash", "purge", first, "--yes")
    assert hub.call("trash", "show", second).out == "theirs"


def test_restore_names_the_command_that_it_does_not_run(hub: SyncEnv) -> None:
    file = edit(hub, "theirs")
    hub.write_config(on_change="/bin/true --reload")
    hub.sync()
    last = "  on_change of nginx is not run: /bin/true --reload"
    assert restored(hub, str(file)).out.splitlines()[-1] == last


def test_a_trash_that_cannot_be_written_is_an_error(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(hub, "theirs")
    hub.sync()

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Trash, "_remove", refuse)
    assert failure(hub, "purge", "--all", "--yes") == (
        1,
        "syncd: the entries can't be removed from /state/trash: Read-only file system\n"
        "  error id: mirror/purge-failed\n"
        "  the state folder must be on a disk that syncd may write to\n",
    )
