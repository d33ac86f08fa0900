"""`owner:` names are looked up at each run:
a user or group that gets another number is followed, and nothing is undone.
"""

from __future__ import annotations

import grp
import os
import pwd
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from syncd.fastpath import check as fastpath
from syncd.hooks.runner import find_hook_user
from syncd.models import RunStatus
from tests.support.simulated_daemon import SimulatedDaemon, simulated_daemon
from tests.support.sync_env import CommandResult, SyncEnv, signatures, sync_env

FILES = {"nginx/nginx.conf": "one\n", "nginx/sites/a.conf": "a\n"}


class Accounts:
    """The users and groups that a test adds to those of this machine: name -> number."""

    def __init__(self) -> None:
        self.users: dict[str, int] = {}
        self.groups: dict[str, int] = {}


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    made, user_of, group_of = Accounts(), pwd.getpwnam, grp.getgrnam

    def user(name: str) -> object:
        return (
            SimpleNamespace(
                pw_name=name, pw_uid=made.users[name], pw_gid=made.users[name], pw_dir="/"
            )
            if name.startswith("test-")
            else user_of(name)
        )

    def group(name: str) -> object:
        return (
            SimpleNamespace(gr_name=name, gr_gid=made.groups[name])
            if name.startswith("test-")
            else group_of(name)
        )

    monkeypatch.setattr("pwd.getpwnam", user)
    monkeypatch.setattr("grp.getgrnam", group)
    return made


@pytest.fixture
def hub(tmp_path: Path, accounts: Accounts) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, FILES, as_app=False) as made:
        yield made


def owners(hub: SyncEnv) -> dict[str, tuple[int, int]]:
    """Path below the destination -> its owner."""
    return {
        str(path.relative_to(hub.dest)): (path.stat().st_uid, path.stat().st_gid)
        for path in sorted(hub.dest.rglob("*"))
    }


def changes(result: CommandResult) -> list[tuple[str, str]]:
    return [(change["action"], Path(change["path"]).name) for change in result.job["changes"]]


def chown(hub: SyncEnv, uid: int, gid: int) -> None:
    for path in hub.dest.rglob("*"):
        os.chown(path, uid, gid)


def everywhere(uid: int, gid: int) -> dict[str, tuple[int, int]]:
    return {"nginx.conf": (uid, gid), "sites": (uid, gid), "sites/a.conf": (uid, gid)}


# What is configured, who there is before and after, and the ids that the files then have.
RENUMBERED = [
    ("test-svc", {"test-svc": 4711}, {}, {"test-svc": 4712}, {}, (4711, 0), (4712, 0)),
    ("root:test-grp", {}, {"test-grp": 811}, {}, {"test-grp": 812}, (0, 811), (0, 812)),
    (
        "test-svc:test-grp",
        {"test-svc": 4711},
        {"test-grp": 811},
        {"test-svc": 4712},
        {"test-grp": 812},
        (4711, 811),
        (4712, 812),
    ),
    ("4711:test-grp", {}, {"test-grp": 811}, {}, {"test-grp": 812}, (4711, 811), (4711, 812)),
    ("test-svc:811", {"test-svc": 4711}, {}, {"test-svc": 4712}, {}, (4711, 811), (4712, 811)),
]
CASES = pytest.mark.parametrize(
    ("owner", "users", "groups", "users_now", "groups_now", "before", "after"),
    RENUMBERED,
    ids=[row[0] for row in RENUMBERED],
)
Named = dict[str, int]
Ids = tuple[int, int]


@pytest.mark.root
@pytest.mark.parametrize("drift", ["restore", "report", "keep"])
@CASES
def test_a_correct_chown_after_a_renumbering_is_kept(
    hub: SyncEnv,
    accounts: Accounts,
    drift: str,
    owner: str,
    users: Named,
    groups: Named,
    users_now: Named,
    groups_now: Named,
    before: Ids,
    after: Ids,
) -> None:
    accounts.users, accounts.groups = users, groups
    hub.write_config(owner=owner, drift=drift)
    assert hub.sync().code == 0 and owners(hub) == everywhere(*before)
    accounts.users, accounts.groups = users_now, groups_now
    chown(hub, *after)
    stood = signatures(hub.dest)
    for _ in range(2):
        done = hub.sync()
        assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", [])
        assert hub.github.routes() == {"head": 1}
    assert signatures(hub.dest) == stood
    assert hub.call("verify").code == 0 and hub.call("status").code == 0


@pytest.mark.root
@pytest.mark.parametrize("drift", ["restore", "report", "keep"])
@CASES
def test_files_and_folders_that_were_not_given_over_get_the_new_number(
    hub: SyncEnv,
    accounts: Accounts,
    drift: str,
    owner: str,
    users: Named,
    groups: Named,
    users_now: Named,
    groups_now: Named,
    before: Ids,
    after: Ids,
) -> None:
    accounts.users, accounts.groups = users, groups
    hub.write_config(owner=owner, drift=drift)
    assert hub.sync().code == 0 and hub.sync().job["status"] == "unchanged"
    accounts.users, accounts.groups = users_now, groups_now
    done = hub.sync()
    assert (done.code, changes(done)) == (
        0,
        [("mode", "nginx.conf"), ("mode", "sites"), ("mode", "a.conf")],
    )
    assert owners(hub) == everywhere(*after)
    assert hub.sync().job["status"] == "unchanged"


@pytest.mark.root
def test_a_numeric_owner_follows_nobody(hub: SyncEnv, accounts: Accounts) -> None:
    accounts.users = {"test-svc": 4711}
    hub.write_config(owner="4711:811")
    hub.sync()
    accounts.users = {"test-svc": 4712}
    chown(hub, 4712, 811)
    assert changes(hub.sync()) == [("mode", "nginx.conf"), ("mode", "sites"), ("mode", "a.conf")]
    assert owners(hub) == everywhere(4711, 811)


@pytest.mark.root
def test_each_path_follows_its_own_owner(hub: SyncEnv, accounts: Accounts) -> None:
    accounts.users = {"test-a": 4711, "test-b": 4712}
    one = {"from": "nginx/nginx.conf", "to": f"{hub.dest}/one", "owner": "test-a"}
    hub.write_config(
        owner="test-b", paths=[one, {"from": "nginx/sites/", "to": f"{hub.dest}/sites/"}]
    )
    hub.sync()
    assert owners(hub)["one"][0] == 4711 and owners(hub)["sites/a.conf"][0] == 4712
    accounts.users = {"test-a": 4712, "test-b": 4711}  # they changed places
    hub.sync()
    assert owners(hub)["one"][0] == 4712 and owners(hub)["sites/a.conf"][0] == 4711


@pytest.mark.root
def test_a_user_who_is_renamed_with_the_same_number_costs_nothing(
    hub: SyncEnv, accounts: Accounts
) -> None:
    accounts.users = {"test-svc": 4711}
    hub.write_config(owner="test-svc", on_change=f"touch {hub.folder}/reloaded")
    hub.sync()
    (hub.folder / "reloaded").unlink()
    stood = signatures(hub.dest)
    accounts.users = {"test-web": 4711}
    hub.write_config(owner="test-web", on_change=f"touch {hub.folder}/reloaded")
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", [])
    assert signatures(hub.dest) == stood and not (hub.folder / "reloaded").exists()
    hub.sync()
    assert hub.github.routes() == {"head": 1}


@pytest.mark.root
def test_a_rejected_commit_keeps_the_accepted_set_and_its_owner_by_name(
    hub: SyncEnv, accounts: Accounts
) -> None:
    accounts.users = {"test-svc": 4711}
    hub.write_config(owner="test-svc", validate={"shell": "! grep -rq bad {staged}"})
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "bad\n"})
    assert hub.sync().job["status"] == "refused"
    accounts.users = {"test-svc": 4712}
    chown(hub, 4712, 0)
    assert hub.sync().job["changes"] == [] and owners(hub) == everywhere(4712, 0)


@pytest.mark.root
def test_a_rollback_brings_back_the_set_with_its_owner_by_name(
    hub: SyncEnv, accounts: Accounts
) -> None:
    accounts.users = {"test-svc": 4711}
    hub.write_config(owner="test-svc")
    hub.sync()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.sync()
    accounts.users = {"test-svc": 4712}
    chown(hub, 4712, 0)
    assert hub.call("rollback", "nginx", "--json").code == 0
    assert hub.tree()["nginx.conf"] == b"one\n" and owners(hub) == everywhere(4712, 0)


@pytest.mark.root
def test_a_published_tree_follows_the_name_too(hub: SyncEnv, accounts: Accounts) -> None:
    accounts.users = {"test-svc": 4711}
    place = hub.folder / "site"
    place.mkdir()
    hub.write_config(
        owner="test-svc", publish="symlink", paths=[{"from": "nginx/", "to": f"{place}/live/"}]
    )
    assert hub.sync().code == 0 and (place / "live/nginx.conf").stat().st_uid == 4711
    accounts.users = {"test-svc": 4712}
    assert hub.sync().code == 0 and (place / "live/nginx.conf").stat().st_uid == 4712
    assert hub.sync().job["status"] == "unchanged"


def own(accounts: Accounts, hub: SyncEnv) -> None:
    """A job whose owner is the user who runs the tests, under a name that can be taken away."""
    accounts.users, accounts.groups = {"test-svc": os.geteuid()}, {"test-grp": os.getegid()}
    hub.write_config(owner="test-svc:test-grp")
    assert hub.sync().code == 0


@pytest.mark.parametrize(
    "gone", [lambda one: one.users.clear(), lambda one: one.groups.clear()], ids=["user", "group"]
)
def test_a_name_that_is_gone_fails_the_run_by_name_and_touches_nothing(
    hub: SyncEnv, accounts: Accounts, gone: Callable[[Accounts], None]
) -> None:
    own(accounts, hub)
    stood = signatures(hub.dest)
    gone(accounts)
    for done in (hub.sync(), hub.plan(), hub.sync()):
        assert (done.code, done.job["error"]["kind"]) == (1, "mirror")
        assert (
            done.job["error"]["message"]
            == "owner test-svc:test-grp: this machine knows no such user or group"
        )
    assert signatures(hub.dest) == stood
    assert "test-svc:test-grp" in hub.call("verify").out
    assert "test-svc:test-grp" in hub.call("explain", f"{hub.dest}/nginx.conf").out
    assert hub.call("rollback", "nginx").code == 1


@pytest.mark.parametrize(
    ("name", "now"),
    [("users", {"test-svc": 4711}), ("users", {}), ("groups", {"test-grp": 4711}), ("groups", {})],
)
def test_the_nothing_to_do_check_leaves_a_renumbering_to_the_full_run(
    hub: SyncEnv, accounts: Accounts, name: str, now: Named
) -> None:
    own(accounts, hub)
    asked = ["-c", str(hub.config), "sync"]
    stamp = (hub.state / fastpath.NAME).stat().st_mtime
    assert isinstance(fastpath.check(asked, os.environ, stamp + 1), fastpath.UpToDate)
    setattr(accounts, name, now)
    hub.sync()  # this one fails, and the note goes with it
    own(accounts, hub)
    hub.github.forget_requests()
    setattr(accounts, name, now)
    found = fastpath.check(asked, os.environ, (hub.state / fastpath.NAME).stat().st_mtime + 1)
    assert not isinstance(found, fastpath.UpToDate)


def test_rows_that_do_not_name_their_owner_lead_to_one_listing(
    hub: SyncEnv, accounts: Accounts
) -> None:
    own(accounts, hub)
    _forget_owner_names(hub)
    stood = signatures(hub.dest)
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", [])
    assert hub.github.routes() == {"head": 1, "contents": 1}, (
        "the head, and what proves the remembered listing"
    )
    hub.sync()
    assert hub.github.routes() == {"head": 1} and signatures(hub.dest) == stood


def test_rows_of_a_job_without_an_owner_are_used_as_they_are(hub: SyncEnv) -> None:
    hub.sync()
    _forget_owner_names(hub)
    hub.sync()
    assert hub.github.routes() == {"head": 1}


def _forget_owner_names(hub: SyncEnv) -> None:
    """The ledger as an earlier version wrote it: entries end before `owner`."""
    from msgspec.structs import replace

    from syncd.models import RunReport
    from syncd.ports import RunRecord as Recording
    from syncd.store.store import SqliteStore

    store = SqliteStore.open(hub.state)
    rows = {
        path: replace(row, entry=replace(row.entry, owner=None))
        for path, row in store.load_ledger("nginx").items()
    }
    report = RunReport("nginx", RunStatus.UNCHANGED, "acme/infra", "main", None, None)
    store.record("nginx", Recording(report, upserts=rows, state=store.state("nginx")))
    store.close()
    (hub.state / fastpath.NAME).unlink()
    with sqlite3.connect(hub.state / "syncd.db") as connection:
        assert set(connection.execute("SELECT owner FROM file")) == {(None,)}
    connection.close()


def test_hook_user_is_looked_up_for_each_hook(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.getgrouplist", lambda name, gid: [gid])
    for number in (4711, 4712):
        accounts.users = {"test-svc": number}
        person = find_hook_user("test-svc")
        assert person.ids == (number, number, (number,))


@pytest.fixture
def days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accounts: Accounts
) -> Iterator[SimulatedDaemon]:
    accounts.users = {"test-svc": os.geteuid()}
    with simulated_daemon(tmp_path, monkeypatch) as made:
        made.github.add_repo("acme/r", {"files/a": "a\n"})
        made.add("j", "acme/r", "1h", owner="test-svc")
        made.begin(lambda: 0.5)
        made.run(2 * 3600)
        made.reports.clear()
        yield made


def test_a_daemon_at_rest_notices_that_the_name_is_gone(
    days: SimulatedDaemon, accounts: Accounts
) -> None:
    accounts.users = {}
    days.run(3600)
    assert days.settled() == {"j": "owner test-svc: this machine knows no such user or group"}


@pytest.mark.root
def test_a_daemon_at_rest_follows_a_renumbering(days: SimulatedDaemon, accounts: Accounts) -> None:
    accounts.users = {"test-svc": 4712}
    days.run(3600)
    assert (days.folder / "dest/j/a").stat().st_uid == 4712 and days.settled() == {"j": None}
    for path in (days.folder / "dest/j", days.folder / "dest/j/a"):
        os.chown(path, 4713, 0)
    accounts.users = {"test-svc": 4713}
    days.reports.clear()
    days.run(3600)
    assert (days.folder / "dest/j/a").stat().st_uid == 4713 and [
        report.changes for _, report in days.reports
    ] == [()]
