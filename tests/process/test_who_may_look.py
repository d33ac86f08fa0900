"""Who may run which command: the state's owner, root, a member of `state_group` and a stranger,
in every condition of the state.

The users are numbers (`os.setresuid` in a forked child); `daemon` and `nobody` are on every
machine. A child has loaded every module before it becomes another user, who may not be able to read
this installation.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import pkgutil
import shlex
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import syncd
from syncd.cli.main import COMMANDS, run
from tests.support.sync_env import SyncEnv, sync_env
from tests.unit.store.test_store_migration import old_store

pytestmark = pytest.mark.root

OWNER, NOBODY, MEMBER, GROUP = 1, 65534, 41002, 41003  # daemon; nobody; two numbers without a name
CALLERS = {
    "owner": (OWNER, OWNER, [GROUP]),
    "root": (0, 0, []),
    "member": (MEMBER, MEMBER, [GROUP]),
    "stranger": (NOBODY, NOBODY, []),
}
ALONE = {"owner of no group": (OWNER, OWNER, [])}
SECONDS = 60
CONDITIONS = ("absent", "empty", "running", "stopped", "killed")

# exit codes of (owner, root, member, stranger), for a state that is: absent, empty, filled (with a
# daemon running, stopped or killed). Root obeys no file of another user, except where the state
# shows that it looks at that user's service.
TABLE: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "status": ((3, 2, 3, 3), (3, 3, 1, 1), (0, 0, 0, 1)),
    "history": ((0, 2, 0, 0), (0, 0, 1, 1), (0, 0, 0, 1)),
    "explain": ((1, 2, 1, 1), (1, 1, 1, 1), (0, 0, 0, 1)),
    "plan": ((0, 2, 2, 2), (0, 0, 1, 1), (0, 0, 2, 1)),
    "plan --diff": ((0, 2, 2, 2), (0, 0, 1, 1), (0, 0, 1, 1)),
    "history --diff": ((0, 2, 0, 0), (0, 0, 1, 1), (0, 0, 1, 1)),
    "trash list": ((0, 2, 0, 0), (0, 0, 1, 1), (0, 0, 1, 1)),
    "verify": ((0, 2, 0, 0), (0, 0, 1, 1), (0, 0, 1, 1)),
    "doctor": ((4, 2, 2, 2), (4, 4, 1, 1), (4, 4, 1, 1)),  # nobody is logged in as `me`
    "installations": ((3, 2, 1, 1), (3, 3, 1, 1), (3, 3, 1, 1)),
    "check": ((0, 2, 2, 2), (0, 0, 2, 2), (0, 0, 2, 2)),
    "check --online": ((3, 2, 2, 2), (3, 3, 1, 1), (3, 3, 1, 1)),
    "migrate --check": ((1, 2, 1, 1), (1, 1, 1, 1), (0, 0, 1, 1)),
    "version": ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    "help sync": ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    "version --verbose": ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    "completion bash": ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
    "fleet status": ((2, 2, 2, 2), (2, 2, 2, 2), (2, 2, 2, 2)),  # there is no `fleet:`
    "init": ((2, 2, 2, 2), (2, 2, 2, 2), (2, 2, 2, 2)),
}
# the same after the daemon was killed, which is an error to doctor
DEAD_DAEMON = {"doctor": (1, 1, 1, 1)}
# these change the state: only its owner may
CHANGING = (
    "sync",
    "sync --json nginx",
    "run",
    "pause nginx",
    "resume nginx",
    "rollback nginx",
    "trash restore nginx.conf",
    "trash purge --all --yes",
    "login me",
    "logout me",
    "migrate",
    "backup --restore backup.tar",
)


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def load_everything(folder: Path) -> None:
    """Every module that a command may load later is here now."""
    names = [module.name for module in pkgutil.walk_packages(syncd.__path__, "syncd.")]
    codecs = [f"encodings.{name}" for name in ("ascii", "idna", "latin_1", "utf_8_sig")]
    for name in [*names, *codecs, "apscheduler.executors.pool", "apscheduler.jobstores.memory"]:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    with sync_env(folder, as_app=False) as hub:
        for line in ("sync", *TABLE, *CHANGING):
            if line != "run":
                hub.call(*line.split())


def as_user(caller: str, work: Callable[[], int]) -> Ended:
    """What `work` printed and returned in a child that is this user."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _be(caller, work, writer)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    out, _, err = text.partition("\0")
    return Ended(code, out, err)


def _be(caller: str, work: Callable[[], int], writer: int) -> None:
    """Never returns."""
    out, err, code = io.StringIO(), io.StringIO(), 99
    try:
        uid, gid, groups = {**CALLERS, **ALONE}[caller]
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = work()
    except BaseException as error:
        err.write(f"Traceback of the child: {error!r}")
    finally:
        os.write(writer, f"{out.getvalue()}\0{err.getvalue()}".encode())
        os._exit(code)


class Place:
    """A stand in a folder that every user can reach.

    Its configuration is for all to read, its token for the owner.
    """

    def __init__(self, hub: SyncEnv) -> None:
        self.hub = hub
        hub.extra = {"state_group": str(GROUP)}
        hub.identities["me"] = {"login": {"client_id": "Iv23liUnknown"}, "api": hub.served.url}
        hub.write_config(every="1d", **{"as": "ops"})
        for path in (hub.dest, hub.folder / "token"):
            os.chown(path, OWNER, OWNER)
        self.room = hub.folder / "var"
        self.hub.config.chmod(0o644)

    def call(self, caller: str, line: str) -> Ended:
        return as_user(caller, lambda: run(["-c", str(self.hub.config), *line.split()]))

    def into(self, condition: str) -> None:
        """The state is as the condition says; the folder above it is the owner's."""
        os.chown(self.hub.folder, OWNER, OWNER)
        if condition == "empty":
            self.hub.state.mkdir(mode=0o700)
            os.chown(self.hub.state, OWNER, OWNER)
        if condition in ("running", "stopped", "killed"):
            assert self.call("owner", "sync").code == 0

    @contextlib.contextmanager
    def daemon(self, condition: str) -> Iterator[None]:
        """A daemon of the owner's runs during the block, or was killed before it."""
        if condition not in ("running", "killed"):
            yield
            return
        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            _be("owner", lambda: run(["-q", "-c", str(self.hub.config), "run"]), null)
        try:
            journal = self.hub.state / "syncd.db-wal"
            nothing = threading.Event()
            assert any(journal.exists() or nothing.wait(0.02) for _ in range(SECONDS * 50)), (
                "no daemon"
            )
            assert self.call("owner", "resume nginx").code == 0 and journal.stat().st_size > 0, (
                "what stands in the journal alone has to be seen"
            )
            assert any(
                '"last_heartbeat": "' in self.call("owner", "status --json").out
                for _ in range(SECONDS)
            ), "no heartbeat"
            if condition == "killed":
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            yield
        finally:
            if condition == "running":
                os.kill(child, signal.SIGTERM)
                os.waitpid(child, 0)


def look_of(folder: Path, content: bool) -> dict[str, tuple[object, ...]]:
    """Everything below: inode, owner, mode and, where nobody writes meanwhile, time and content."""
    found: dict[str, tuple[object, ...]] = {}
    for place, names, files in os.walk(folder):
        for name in [".", *names, *files]:
            path = Path(place) / name
            one = path.lstat()
            found[str(path)] = (one.st_ino, one.st_uid, one.st_gid, one.st_mode)
            if content and path.is_file():
                found[str(path)] += (one.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
    return found


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    load_everything(tmp_path_factory.mktemp("loaded"))


@pytest.fixture
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="syncd-users-"))
    folder.chmod(0o755)
    try:
        with sync_env(folder, as_app=False) as hub:
            yield Place(hub)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_who_may_look_is_what_the_table_says(place: Place, condition: str) -> None:
    place.into(condition)
    column = {"absent": 0, "empty": 1}.get(condition, 2)
    found: dict[str, tuple[int, ...]] = {}
    trouble: list[object] = []
    with place.daemon(condition):
        before = look_of(place.hub.folder, content=condition != "running")
        for line in TABLE:
            target = f"explain {place.hub.dest}/nginx.conf" if line == "explain" else line
            ended = {caller: place.call(caller, target) for caller in CALLERS}
            found[line] = tuple(one.code for one in ended.values())
            trouble += [
                (line, caller, one)
                for caller, one in ended.items()
                if "Traceback" in one.err or len(one.err) > 600
            ]
            refused = [
                one for caller, one in ended.items() if "belongs to" in one.err and one.code == 1
            ]
            command = shlex.join(
                ["sudo", "-u", "daemon", "syncd", "-c", str(place.hub.config), *target.split()]
            )
            trouble += [
                (line, one)
                for one in refused
                if not one.err.endswith(f"run it as daemon: {command}\n")
                or one.err.count("\n") != 1
            ]
            after = look_of(place.hub.folder, content=condition != "running")
            trouble += [
                (line, "changed", path)
                for path in before.keys() | after.keys()
                if before.get(path) != after.get(path)
            ]
    assert not trouble, "\n".join(repr(one)[-700:] for one in trouble[:20])
    expected = {line: row[column] for line, row in TABLE.items()}
    assert found == expected | (DEAD_DAEMON if condition == "killed" else {})


@pytest.mark.parametrize("condition", ["empty", "running", "stopped", "killed"])
def test_only_the_owner_may_change_the_state(place: Place, condition: str) -> None:
    place.into(condition)
    with place.daemon(condition):
        before = look_of(place.hub.folder, content=condition != "running")
        for line in CHANGING:
            for caller in ("root", "member", "stranger"):
                done = place.call(caller, line)
                command = shlex.join(
                    ["sudo", "-u", "daemon", "syncd", "-c", str(place.hub.config), *line.split()]
                )
                assert (done.code, done.err.count("\n"), done.out) == (1, 1, ""), (
                    line,
                    caller,
                    done,
                )
                assert "belongs to daemon" in done.err and done.err.endswith(
                    f"run it as daemon: {command}\n"
                )
        assert look_of(place.hub.folder, content=condition != "running") == before


@pytest.mark.parametrize("condition", ["stopped", "killed"])
def test_watch_looks_as_status_does_and_ends_where_no_daemon_runs(
    place: Place, condition: str
) -> None:
    place.into(condition)
    with place.daemon(condition):
        before = look_of(place.hub.folder, content=True)
        done = {caller: place.call(caller, "watch") for caller in CALLERS}
        assert {caller: one.code for caller, one in done.items()} == dict.fromkeys(CALLERS, 1)
        assert "belongs to daemon" in done.pop("stranger").err
        for one in done.values():
            assert "start it: systemctl start syncd" in one.err and "Traceback" not in one.err
        assert look_of(place.hub.folder, content=True) == before


def test_the_two_tables_have_every_command() -> None:
    words = {line.split()[0] for line in (*TABLE, *CHANGING)}
    # the first two use no configuration and no state; the last has a test above
    assert set(COMMANDS) - words == {"demo", "web", "watch"}


def test_root_sees_what_the_owner_sees(place: Place) -> None:
    place.into("killed")
    with place.daemon("killed"):
        for line in (
            "status --json",
            "history --json",
            "verify --json",
            "plan --json",
            f"explain {place.hub.dest}/sites/a.conf",
        ):
            owner, root = (place.call(caller, line) for caller in ("owner", "root"))
            assert _without_seconds(owner.out) == _without_seconds(root.out) != "", line
        assert place.call("member", "status --json").out == place.call("owner", "status --json").out


@pytest.mark.parametrize("condition", ["running", "killed"])
def test_root_backs_up_the_state_of_another_user_into_a_file_of_its_own(
    place: Place, condition: str, tmp_path: Path
) -> None:
    place.into(condition)
    file = tmp_path / "backup.tar"
    with place.daemon(condition):
        before = look_of(place.hub.state, content=condition != "running")
        assert place.call("member", f"backup {file}").code == 1
        assert place.call("stranger", f"backup {file}").code == 1
        assert not file.exists()
        done = place.call("root", f"backup {file}")
        assert look_of(place.hub.state, content=condition != "running") == before
    assert (done.code, file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0, 0o600), done
    shutil.rmtree(place.hub.state)
    place.into("empty")
    file.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    restored = place.call("owner", f"backup --restore {file}")
    assert restored.code == 0, restored
    assert {path.lstat().st_uid for path in place.hub.state.rglob("*")} == {OWNER}
    assert '"changes": []' in place.call("owner", "sync --json").out


def _without_seconds(text: str) -> str:
    return text.partition('"seconds"')[0]


def test_a_group_reads_the_database_and_no_secret_trash_or_blob(place: Place) -> None:
    place.into("stopped")
    (place.hub.dest / "nginx.conf").write_text("an edit\n")
    assert place.call("owner", "sync").code == 0
    with place.daemon("killed"):
        modes = {
            str(path.relative_to(place.hub.state)): path.lstat().st_mode & 0o7777
            for path in place.hub.state.rglob("*")
        }
        shared = {name for name, mode in modes.items() if mode & 0o077}
        assert (
            place.hub.state.stat().st_mode & 0o7777 == 0o750
            and place.hub.state.stat().st_gid == GROUP
        )
        assert {name: modes[name] for name in shared} == {
            "syncd.db": 0o640,
            "syncd.db-wal": 0o640,
            "syncd.db-shm": 0o640,
            "locks": 0o750,
        }
        assert {place.hub.state.joinpath(name).stat().st_gid for name in shared} == {GROUP}


def test_a_group_is_shut_out_again_when_the_key_is_removed(place: Place) -> None:
    place.into("stopped")
    assert place.call("member", "status").code == 0
    place.hub.extra = {}
    place.hub.write()
    assert place.call("owner", "sync").code == 0
    done = place.call("member", "status")
    assert done.code == 1 and "belongs to daemon, and you are #41002" in done.err
    assert (
        place.hub.state.stat().st_mode & 0o7777 == 0o700
        and (place.hub.state / "syncd.db").stat().st_mode & 0o7777 == 0o600
    )


def test_a_group_that_does_not_exist_or_is_not_the_owners_fails_by_name(place: Place) -> None:
    place.hub.extra = {"state_group": "nosuchgroup"}
    place.hub.write()
    os.chown(place.hub.folder, OWNER, OWNER)
    done = place.call("owner", "sync")
    assert (
        done.code == 1
        and "state_group nosuchgroup: this machine knows no such group" in done.err
        and "groupadd nosuchgroup" in done.err
    )
    place.hub.extra = {"state_group": str(GROUP)}
    place.hub.write()
    done = place.call("owner of no group", "sync")
    assert done.code == 1 and f"state_group {GROUP}: the state folder" in done.err


def test_a_member_plans_with_a_token_of_its_own(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.into("stopped")
    token = (place.hub.folder / "token").read_text()
    place.hub.identities["ops"]["token"] = {"env": "MY_TOKEN"}
    place.hub.write()
    monkeypatch.setenv("MY_TOKEN", token)
    done = place.call("member", "plan")
    assert done.code == 0 and "in sync" in done.out


def test_a_member_without_the_token_is_told_who_may_plan(place: Place) -> None:
    place.into("stopped")
    done = place.call("member", "plan")
    assert (
        done.code == 2 and f"{place.hub.folder}/token can't be read: Permission denied" in done.out
    )
    assert "only daemon may read it: run syncd as that user" in done.out


@pytest.mark.parametrize("shut", ["file", "folder", "merged"])
@pytest.mark.parametrize("line", ["status", "sync", "check", "run"])
def test_a_configuration_that_may_not_be_read_is_refused_in_one_sentence(
    place: Place, shut: str, line: str
) -> None:
    folder = place.hub.folder / "etc"
    folder.mkdir()
    config = Path(shutil.copy(place.hub.config, folder / "config.yaml"))
    os.chown(folder, OWNER, OWNER)
    os.chown(config, OWNER, OWNER)
    asked = folder if shut == "merged" else config
    (config if shut == "file" else folder).chmod(0o600 if shut == "file" else 0o700)
    done = as_user("stranger", lambda: run(["-c", str(asked), line]))
    command = shlex.join(["sudo", "-u", "daemon", "syncd", "-c", str(asked), line])
    assert (done.code, done.err) == (
        2,
        (
            f"syncd: the configuration {asked} can't be read: Permission denied; run it as daemon: "
            f"{command}\n"
        ),
    )


@pytest.mark.parametrize("line", ["status", "plan", "sync", "run", "migrate --check", "logout me"])
def test_a_state_below_a_folder_that_is_shut_is_refused_in_one_sentence(
    place: Place, line: str
) -> None:
    above = place.hub.folder / "above"
    above.mkdir(mode=0o700)
    os.chown(above, OWNER, OWNER)
    text = place.hub.config.read_text().replace(str(place.hub.state), f"{above}/state")
    place.hub.config.write_text(text)
    done = place.call("stranger", line)
    assert (done.code, done.err.count("\n")) == (1, 1) and "sudo -u daemon syncd" in done.err
    assert f"the state folder {above}/state can't be read: Permission denied" in done.err


def test_a_configuration_named_by_the_environment_is_named_in_the_command(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.into("stopped")
    monkeypatch.setenv("SYNCD_CONFIG", str(place.hub.config))
    done = as_user("stranger", lambda: run(["status", "--json"]))
    assert done.err.endswith(
        f"run it as daemon: sudo -u daemon syncd -c {place.hub.config} status --json\n"
    )


def test_an_owner_without_a_name_is_quoted_as_sudo_and_the_shell_take_it(place: Place) -> None:
    place.into("stopped")
    os.chown(place.hub.state, 41009, 41009)
    done = place.call("stranger", "status")
    assert "run it as #41009: sudo -u '#41009' syncd -c " in done.err


def test_a_store_whose_journal_came_back_without_its_index_can_be_looked_at(place: Place) -> None:
    place.into("killed")
    with place.daemon("killed"):
        (place.hub.state / "syncd.db-shm").unlink()
        before = look_of(place.hub.state, content=True)
        assert [place.call(caller, "status").code for caller in ("owner", "root", "member")] == [
            0,
            0,
            0,
        ]
        assert look_of(place.hub.state, content=True) == before


def test_an_older_store_is_looked_at_without_being_migrated(place: Place) -> None:
    old_store(place.hub.state, "0003")
    for path in [place.hub.state, *place.hub.state.rglob("*")]:
        os.chown(path, OWNER, OWNER)
    before = look_of(place.hub.state, content=True)
    assert place.call("root", "status").code == 3
    assert [place.call(caller, "migrate --check").code for caller in ("owner", "root")] == [1, 1]
    assert look_of(place.hub.state, content=True) == before
