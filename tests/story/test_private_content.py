"""What is private stays private: in diffs, lists, logs and beside the mirror;
and a file is given away only by who may.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.errors import MirrorError
from syncd.wiring import resolve_owner
from tests.fault.points import in_child
from tests.support.sync_env import SyncEnv

CANARY = "canary-3f9a-of-the-password-file"


@pytest.fixture
def private(hub: SyncEnv) -> SyncEnv:
    """A 0600 destination whose content is a secret, changed, edited here and changed again."""
    hub.write_config(mode="0600", validate=["sh", "-c", "exit 0"])
    for number in (1, 2):
        hub.repo.commit({"nginx/nginx.conf": f"{CANARY} {number}\n"})
        assert hub.sync().code == 0
    (hub.dest / "nginx.conf").write_text(f"{CANARY} edited\n")
    return hub


COMMANDS = [
    "plan --diff",
    "plan --json",
    "plan --diff --json",
    "-vv plan --diff",
    "history --diff",
    "history --diff --json",
    "status",
    "status --json",
    "explain PATH",
    "verify",
    "verify --json",
    "check",
    "-vv sync",
    "-vv sync --json",
    "rollback nginx",
]


def test_its_content_is_in_no_output(private: SyncEnv) -> None:
    file = private.dest / "nginx.conf"
    for command in COMMANDS:
        file.write_text(f"{CANARY} edited\n")
        done = private.call(*(str(file) if word == "PATH" else word for word in command.split()))
        assert CANARY not in done.out + done.err, command


def test_only_the_word_for_it_shows_it(private: SyncEnv) -> None:
    shown = private.call("plan", "--diff", "--show-secrets").out
    assert f"{CANARY} edited" in shown and f"{CANARY} 2" in shown


def test_a_file_that_was_open_and_becomes_private_is_not_shown_either(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/nginx.conf": f"{CANARY}\n"})
    hub.sync()
    hub.write_config(mode="0600")
    hub.repo.commit({"nginx/nginx.conf": f"{CANARY} 2\n"})
    assert CANARY not in hub.call("plan", "--diff").out


def test_what_is_kept_beside_the_mirror_is_private_whatever_the_destination_is(
    hub: SyncEnv,
) -> None:
    (hub.dest / "nginx.conf").write_text("taken over\n")
    hub.write_config(mode="0666", validate=["sh", "-c", "exit 0"])
    os.umask(0)
    try:
        assert hub.sync().code == 0
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
        assert hub.sync().code == 0
    finally:
        os.umask(0o022)
    found = [
        (Path(place) / name)
        for place, names, files in os.walk(hub.state)
        for name in [*names, *files]
    ]
    assert {"blobs", "trash"} <= {path.name for path in found}
    for path in found:
        assert path.stat().st_mode & 0o077 == 0, path


# --- owners ---------------------------------------------------------------------------------------


def as_nobody(work: Callable[[], int]) -> int:
    """How the child ended that did `work` as a user who is not root."""

    def child() -> int:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        return work()

    return in_child(child)


def refused(owner: str, said: str) -> int:
    try:
        resolve_owner(owner)
    except MirrorError as error:
        return 0 if said in error.message and error.hint else 2
    return 1


def test_who_is_not_root_may_not_give_files_away_and_is_told_so() -> None:
    assert as_nobody(lambda: refused("root:root", "only root may give files away")) == 0


def test_who_is_not_root_may_name_itself() -> None:
    def work() -> int:
        uid, gid = os.geteuid(), os.getegid()
        return (
            0
            if resolve_owner(f"{uid}:{gid}") == (uid, gid)
            and resolve_owner(str(uid)) == (uid, None)
            else 1
        )

    assert as_nobody(work) == 0


def test_a_name_that_this_machine_does_not_know_fails_the_job_before_anything_is_written(
    hub: SyncEnv,
) -> None:
    hub.write_config(owner="no-such-user:root")
    done = hub.sync()
    assert (
        done.code == 1
        and done.job["error"]["kind"] == "mirror"
        and "no-such-user" in done.job["error"]["message"]
        and hub.tree() == {}
    )


def test_the_owner_of_files_and_new_folders_is_set_and_put_back(hub: SyncEnv) -> None:
    me, group = os.geteuid(), os.getegid()
    uid, gid = (65534, 65534) if me == 0 else (me, group)
    hub.write_config(owner=f"{uid}:{gid}")
    assert hub.sync().code == 0
    for path in (hub.dest / "nginx.conf", hub.dest / "sites", hub.dest / "sites/a.conf"):
        assert (path.stat().st_uid, path.stat().st_gid) == (uid, gid)
    if me == 0:
        inode = (hub.dest / "nginx.conf").stat().st_ino
        os.chown(hub.dest / "nginx.conf", 0, 0)
        done = hub.sync()
        assert [change["action"] for change in done.job["changes"]] == ["mode"]
        assert (hub.dest / "nginx.conf").stat().st_uid == uid and (
            hub.dest / "nginx.conf"
        ).stat().st_ino == inode, "not rewritten"


def test_names_and_numbers_mean_the_same() -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(os.getegid()).gr_name
    assert resolve_owner(f"{user}:{group}") == (os.geteuid(), os.getegid())


@pytest.mark.parametrize("where", ["/root/secret", None])
def test_a_permission_that_a_job_lacks_fails_it_and_is_no_bug(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, where: str | None
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied", where)

    monkeypatch.setattr("syncd.cli.sync.run_job", refused)
    done = hub.sync()
    assert (done.code, done.job["error"]["kind"], done.err) == (1, "mirror", "")
    assert (
        done.job["error"]["message"]
        == f"{where or 'a file that the job needs'} can't be used: Permission denied"
    )
