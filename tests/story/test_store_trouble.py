"""The store under everything that happens to files, told as whole runs: memory may be lost,
the destination never is.

Equal files are adopted, not rewritten; nothing of anybody's is removed because memory was lost; an
old memory that comes back takes nothing back; and what syncd can't heal by itself has a name and
says what to do.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from syncd.mirror.disk_mirror import DiskMirror
from syncd.models import RunStatus
from syncd.store import database, sqlite
from syncd.store.migrate import stamp_of
from syncd.store.schema import VERSION
from syncd.store.store import FILE_NAME, SqliteStore
from tests.fault.scene import Scene, Workbench, sets
from tests.support.old_store import downgraded
from tests.support.own_mounts import in_own_mounts
from tests.support.store_fixtures import fill
from tests.support.sync_env import SyncEnv, signatures

FAULTS = int(
    os.environ.get("SYNCD_STORE_FAULTS", "60")
)  # of each seed: a share of what was run a thousandfold once


def store_of(hub: SyncEnv) -> Path:
    return hub.state / FILE_NAME


def forget_journal(file: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def asides(state: Path) -> list[str]:
    return sorted(one.name for one in state.glob(f"{FILE_NAME}.broken-*"))


@dataclass
class Synced:
    """A mirror in sync, with a file of somebody else's in it,
    and what lstat said of everything then.
    """

    hub: SyncEnv
    before: dict[str, tuple[int, int, int]]

    def nothing_touched(self) -> bool:
        return signatures(self.hub.dest) == self.before


@pytest.fixture
def synced(hub: SyncEnv) -> Synced:
    hub.repo.commit({f"nginx/sites/{number}.conf": f"{number}\n" for number in range(20)})
    assert hub.sync().code == 0
    (hub.dest / "theirs").write_text("not ours")
    (hub.dest / "sites/theirs").write_text("not ours either")
    assert hub.sync().code == 0
    return Synced(hub, signatures(hub.dest))


# --- memory that is lost --------------------------------------------------------------------------


def half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def noise(file: Path) -> None:
    file.write_bytes(random.Random(3).randbytes(50_000))


def a_page(file: Path) -> None:
    with open(file, "r+b") as opened:
        opened.seek(4096)
        opened.write(b"\xa5" * 4096)


LOSSES: dict[str, Callable[[Path], None]] = {
    "the state folder is gone": lambda file: shutil.rmtree(file.parent),
    "missing": lambda file: file.unlink(),
    "empty": lambda file: os.truncate(file, 0),
    "garbage": noise,
    "half": half,
    "only the header": lambda file: os.truncate(file, 100),
    "a page of noise": a_page,
    "text": lambda file: file.write_text("sorry\n"),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_store_is_begun_anew_equal_files_are_adopted_and_nothing_is_touched(
    synced: Synced, loss: str
) -> None:
    hub = synced.hub
    LOSSES[loss](store_of(hub))
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["changes"]) == (0, "unchanged", []), done.err
    assert synced.nothing_touched()
    if asides(hub.state):
        assert (
            "it was set aside as syncd.db.broken-" in done.err
            and "equal files will be adopted, nothing is removed" in done.err
        )
    again = hub.sync()
    assert again.json["requests"] == {"total": 2, "not_modified": 1} and again.err == ""
    hub.repo.commit({"nginx/sites/3.conf": None, "nginx/sites/4.conf": "changed\n"})
    assert {
        (change["action"], Path(change["path"]).name) for change in hub.sync().job["changes"]
    } == {("remove", "3.conf"), ("write", "4.conf")}


VERBS = [
    ("status",),
    ("history",),
    ("plan",),
    ("verify",),
    ("explain", "/etc/passwd"),
    ("migrate",),
    ("pause", "nginx"),
    ("resume", "nginx"),
    ("rollback", "nginx"),
]


# each command meets one of the losses at a push, in turn, and the others in the root lane
@pytest.mark.parametrize(
    ("verb", "loss"),
    [
        pytest.param(verb, loss, marks=[pytest.mark.root] if (row + column) % 3 else [])
        for row, verb in enumerate(VERBS)
        for column, loss in enumerate(["garbage", "a page of noise", "half"])
    ],
)
def test_every_command_meets_a_damaged_store_without_a_traceback_and_says_what_became_of_it(
    synced: Synced, verb: tuple[str, ...], loss: str
) -> None:
    LOSSES[loss](store_of(synced.hub))
    done = synced.hub.call(*verb)
    assert done.code in (0, 1, 3) and "Traceback" not in done.err
    assert ("set aside as" in done.err) == bool(asides(synced.hub.state))
    assert synced.nothing_touched()


@pytest.mark.parametrize("drift", ["restore", "report", "keep"])
def test_what_was_dropped_while_memory_was_lost_stays_and_what_was_edited_is_as_at_a_first_meeting(
    synced: Synced, drift: str
) -> None:
    hub = synced.hub
    hub.write_config(drift=drift)
    hub.sync()
    shutil.rmtree(hub.state)
    hub.repo.commit({"nginx/sites/3.conf": None})
    (hub.dest / "sites/4.conf").write_text("edited\n")
    assert hub.sync().code == 0
    assert (hub.dest / "sites/3.conf").read_text() == "3\n", "nobody remembers that it was ours"
    assert (hub.dest / "sites/4.conf").read_text() == ("4\n" if drift == "restore" else "edited\n")
    kept = [file.read_text() for file in hub.state.glob("trash/*/*") if file.suffix != ".json"]
    assert kept == (["edited\n"] if drift == "restore" else [])
    assert (hub.dest / "sites/theirs").read_text() == "not ours either"


@pytest.mark.parametrize("what", ["the store", "the state folder"])
def test_a_store_deleted_in_the_middle_of_a_run_costs_the_run_nothing(
    tmp_path: Path, what: str
) -> None:
    # without folders that would have to go: who forgets that he made one lets it stand
    plain = tuple(
        {
            path: node
            for path, node in tree.items()
            if not any(word in path for word in ("swap", "flip", "gone"))
        }
        for tree in sets()
    )
    scene = Scene(tmp_path / "base", tmp_path / "state", plain).begin()
    scene.head = 1
    scene.meanwhile = lambda: (
        shutil.rmtree(scene.state)
        if what == "the state folder"
        else [one.unlink() for one in scene.state.glob(f"{FILE_NAME}*")] and None
    )
    report = scene.run()
    assert report.error is None and report.status is RunStatus.CHANGED
    scene.meanwhile = None
    assert scene.heal() == [] and scene.run().status is RunStatus.UNCHANGED


# --- memory that is old ---------------------------------------------------------------------------


def backed_up(hub: SyncEnv) -> Path:
    return Path(shutil.copytree(hub.state, hub.folder / "backup", symlinks=True))


def restored(hub: SyncEnv, what: str = "all") -> None:
    """The backup stands in the state's place: the whole folder, or the store's file alone,
    copied over or moved there.
    """
    if what == "all":
        shutil.rmtree(hub.state)
        shutil.copytree(hub.folder / "backup", hub.state)
        return
    forget_journal(store_of(hub))
    if what == "copied over":
        shutil.copyfile(hub.folder / "backup" / FILE_NAME, store_of(hub))
    else:
        os.replace(hub.folder / "backup" / FILE_NAME, store_of(hub))


# each way back meets one of the policies at a push, in turn, and the others in the root lane
@pytest.mark.parametrize(
    ("drift", "what"),
    [
        pytest.param(drift, what, marks=[pytest.mark.root] if (row + column) % 3 else [])
        for row, drift in enumerate(["restore", "report", "keep"])
        for column, what in enumerate(["all", "copied over", "moved"])
    ],
)
def test_an_old_store_that_comes_back_takes_nothing_back(
    synced: Synced, drift: str, what: str
) -> None:
    hub = synced.hub
    hub.write_config(drift=drift)
    hub.sync()
    backed_up(hub)
    hub.repo.commit(
        {"nginx/sites/3.conf": None, "nginx/sites/4.conf": "newer\n", "nginx/deep/new": "new\n"}
    )
    assert hub.sync().job["status"] == "changed"
    hub.repo.commit({"nginx/sites/4.conf": "newest\n", "nginx/sites/5.conf": None})
    assert hub.sync().job["status"] == "changed"
    (hub.dest / "sites/5.conf").write_text("somebody's own now")
    stands = signatures(hub.dest)
    restored(hub, what)
    assert {change["action"] for change in hub.plan().job["changes"]} <= {"keep"}
    done = hub.sync()
    assert done.code == 0 and {change["action"] for change in done.job["changes"]} <= {"keep"}
    assert signatures(hub.dest) == stands
    assert hub.sync().job["status"] == "unchanged"
    hub.repo.commit({"nginx/sites/4.conf": "after\n"})
    hub.sync()
    assert (hub.dest / "sites/4.conf").read_text() == "after\n"
    assert (hub.dest / "sites/5.conf").read_text() == "somebody's own now"


def test_an_old_store_takes_nothing_back_while_github_cant_be_asked(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    hub = synced.hub
    backed_up(hub)
    hub.repo.commit({"nginx/sites/3.conf": None, "nginx/sites/4.conf": "newer\n"})
    hub.sync()
    stands = signatures(hub.dest)
    restored(hub)
    hub.identities["ops"]["api"] = "http://127.0.0.1:1"
    hub.write()
    assert hub.sync().code == 5
    assert signatures(hub.dest) == stands


def test_a_store_copied_in_the_middle_of_a_run_settles_to_what_the_disk_has_now(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy knows of an intent that was carried out long ago, and of newer bytes nothing."""
    hub = synced.hub
    apply = DiskMirror.apply

    def copied_first(self: DiskMirror, *arguments: Any) -> Any:
        backed_up(hub)
        monkeypatch.setattr(DiskMirror, "apply", apply)
        return apply(self, *arguments)

    monkeypatch.setattr(DiskMirror, "apply", copied_first)
    hub.repo.commit(
        {"nginx/sites/3.conf": None, "nginx/sites/4.conf": "newer\n", "nginx/new": "new\n"}
    )
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/sites/4.conf": "newest\n", "nginx/new": None})
    assert hub.sync().code == 0
    (hub.dest / "new").write_text("new, and somebody's own\n")
    stands = signatures(hub.dest)
    restored(hub)
    done = hub.sync()
    assert done.code == 0 and done.job["changes"] == [] and signatures(hub.dest) == stands


def test_a_store_copied_while_it_is_written_is_whole_or_begun_anew(
    synced: Synced, tmp_path: Path
) -> None:
    """`cp` of the live file, without its journal and without asking:
    each copy is tried as the store of the next run.
    """
    hub = synced.hub
    copies, stop = [], threading.Event()

    def write() -> None:
        store = SqliteStore.open(hub.state)
        while not stop.is_set():
            fill(store, "other")
            store.forget("other")
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(12):
            place = tmp_path / f"copy{number}"
            place.mkdir(mode=0o700)
            with suppress(FileNotFoundError):
                for suffix in ("", "-wal")[: 1 + number % 2]:
                    shutil.copyfile(f"{store_of(hub)}{suffix}", f"{place / FILE_NAME}{suffix}")
            copies.append(place)
    finally:
        stop.set()
        writer.join()
    original = hub.state
    for place in copies:
        hub.write_config()
        text = hub.config.read_text().replace(str(original), str(place))
        hub.config.write_text(text)
        done = hub.sync()
        assert done.code == 0 and done.job["changes"] == [], done.out
        assert synced.nothing_touched()


# --- other versions -------------------------------------------------------------------------------


def test_an_older_store_is_migrated_by_the_run_that_meets_it_and_nothing_is_forgotten(
    synced: Synced,
) -> None:
    hub = synced.hub
    hub.repo.commit({"nginx/deep/er/x": "x\n"})
    hub.sync()
    downgraded(hub.state)
    assert hub.call("migrate", "--check").code == 1
    before = signatures(hub.dest)
    assert hub.sync().job["changes"] == [] and signatures(hub.dest) == before
    assert hub.call("migrate", "--check").code == 0
    downgraded(hub.state)
    hub.repo.commit({"nginx/deep/er/x": None, "nginx/sites/4.conf": "newer\n"})
    assert {
        (change["action"], Path(change["path"]).name) for change in hub.sync().job["changes"]
    } == {("remove", "x"), ("write", "4.conf")}
    assert not (hub.dest / "deep").exists(), "the folders that it made are remembered too"
    assert [run["status"] for run in hub.call("history", "--json").json["runs"]] == ["changed"] * 3


def test_a_newer_store_is_refused_by_every_command_and_not_touched(synced: Synced) -> None:
    hub = synced.hub
    with closing(sqlite3.connect(store_of(hub))) as connection:
        connection.executescript(
            "UPDATE alembic_version SET version_num = '0444'; PRAGMA application_id = "
            f"{stamp_of('0444')};"
        )
    before = store_of(hub).read_bytes(), store_of(hub).stat().st_mtime_ns
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    lines = ("sync", "plan", "status", "history", "verify", "migrate", "pause nginx")
    for line in (*lines, "rollback nginx"):
        done = hub.call(*line.split())
        assert (
            done.code == 1
            and f"newer syncd (schema 0444, this one knows {VERSION}); it was not touched"
            in done.err
            and "install that version again" in done.err
        ), line
        assert (store_of(hub).read_bytes(), store_of(hub).stat().st_mtime_ns) == before, line
        assert asides(hub.state) == [] and synced.nothing_touched(), line


# --- trouble that passes --------------------------------------------------------------------------

HOLD = (
    "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    "c.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read()"
)


@pytest.fixture
def held(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Another process writes to the store and does not end;
    who waits for it waits a fifth of a second.

    Its pid.
    """
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store_of(synced.hub))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert (
            holder.stdout is not None
            and holder.stdin is not None
            and holder.stdout.readline() == b"held\n"
        )
        yield holder.pid
        holder.kill()


def test_a_store_that_another_process_holds_is_waited_for_and_then_its_holder_named(
    synced: Synced, held: int
) -> None:
    hub = synced.hub
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"]) == (1, "failed", "store")
    assert (
        f"(pid {held}) holds it" in done.job["error"]["message"]
        and done.job["error"]["hint"] == "wait for it and try again"
    )
    assert synced.nothing_touched() and asides(hub.state) == []
    assert (
        hub.call("status").code == 0
        and hub.call("history").code == 0
        and hub.call("verify").code == 0
    ), "who only looks waits for nobody"
    os.kill(held, signal.SIGKILL)
    os.waitid(os.P_PID, held, os.WEXITED | os.WNOWAIT)
    assert hub.sync().job["status"] == "changed"


def test_a_plan_needs_no_more_of_a_held_store_than_to_read_it(synced: Synced, held: int) -> None:
    done = synced.hub.plan()
    assert (done.code, done.job["status"], done.err) == (0, "unchanged", "")


def test_a_store_full_at_any_page_leaves_the_old_or_the_new_set_and_recovers_with_room(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = synced.hub
    real = database.open_store
    limit: list[int | None] = [None]

    def small(name: str) -> Connection:
        connection = real(name)
        if limit[0] is not None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {limit[0]}").all()
        return connection

    monkeypatch.setattr(database, "open_store", small)
    outcomes = []
    for room in range(30):
        before = hub.tree()
        pushed = {f"more/{room}-{number}.conf": f"{room} {number}\n" for number in range(20)}
        hub.repo.commit({f"nginx/{path}": content for path, content in pushed.items()})
        with closing(sqlite3.connect(store_of(hub))) as connection:
            connection.execute("VACUUM")  # else old runs' pages would be free for the taking
            limit[0] = connection.execute("PRAGMA page_count").fetchone()[0] + room
        done = hub.sync()
        assert done.code in (0, 1) and "Traceback" not in done.err, done.err
        if done.code:
            assert (
                done.job["error"]["kind"] == "store"
                and "full" in done.job["error"]["message"]
                and "free some space" in done.job["error"]["hint"]
            )
        after = before | {path: content.encode() for path, content in pushed.items()}
        assert hub.tree() in (before, after)
        outcomes.append((done.code, hub.tree() == after))
        limit[0] = None
        if done.code == 0:
            break
        assert hub.sync().code == 0
        assert hub.tree() == after and asides(hub.state) == []
    assert [*dict.fromkeys(outcomes)] == [(1, False), (1, True), (0, True)], (
        "refused before it began, cut off after it had written, and room enough"
    )


def test_a_state_folder_on_a_network_file_system_is_refused_before_anything_is_done(
    synced: Synced, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = synced.hub.folder / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"30 22 0:40 / {synced.hub.state} rw shared:2 - nfs4 server:/export rw\n"
    )
    monkeypatch.setattr("syncd.store.location.MOUNTS", mounts)
    synced.hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = synced.hub.sync()
    assert (
        done.code == 1
        and "on a network file system (nfs4)" in done.err
        and "set state: to a folder on a local disk" in done.err
    )
    assert synced.nothing_touched()


@pytest.mark.root
@pytest.mark.parametrize(
    "line", ["status", "plan", "plan --diff", "history --diff", "migrate --check", "doctor"]
)
def test_a_command_that_only_looks_needs_no_state_folder_that_it_can_write(
    synced: Synced, line: str
) -> None:
    hub = synced.hub
    done = in_own_mounts(
        hub,
        f"mount --bind {hub.state} {hub.state}; mount -o remount,ro,bind {hub.state}",
        *line.split(),
    )
    assert (done.code, done.err) == (0, "")


@pytest.mark.root
def test_a_read_only_state_folder_is_named_and_the_mirror_stands(synced: Synced) -> None:
    hub = synced.hub
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    done = in_own_mounts(
        hub,
        f"mount --bind {hub.state} {hub.state}; mount -o remount,ro,bind {hub.state}",
        "sync",
    )
    assert (
        done.code == 1
        and "Traceback" not in done.err
        and "read" in done.err.lower().replace("-", " ")
    ), done.err
    assert synced.nothing_touched() and asides(hub.state) == []
    assert hub.sync().job["status"] == "changed"


@pytest.mark.root
@pytest.mark.parametrize("limit", ["size=300k", "size=160k", "size=220k", "nr_inodes=12"])
def test_a_state_folder_on_a_full_disk_leaves_the_old_set_and_heals_when_there_is_room(
    synced: Synced, limit: str
) -> None:
    hub = synced.hub
    before = hub.tree()
    files = {f"nginx/more/{number}.conf": f"{number}\n" * 200 for number in range(300)}
    hub.repo.commit(files)
    copied = hub.folder / "copied"
    mount = (
        f"cp -a {hub.state} {copied}; mount -t tmpfs -o mode=700,{limit} tmpfs {hub.state}; cp -a "
        f"{copied}/. {hub.state}/ 2>/dev/null || true; rm -rf {copied}"
    )
    done = in_own_mounts(hub, mount, "sync", "--json")
    assert done.code == 1 and "Traceback" not in done.err, done.err
    assert hub.tree() == before
    healed = hub.sync()
    assert healed.code == 0 and len(healed.job["changes"]) == 300


# --- a thousand small harms -----------------------------------------------------------------------


def flip(rng: random.Random, content: bytearray) -> bytearray:
    used = [at for at in range(len(content)) if content[at]] or [0]
    at = (
        rng.choice(used) if rng.random() < 0.7 else rng.randrange(len(content))
    )  # most of a page is empty, and few flips there say anything
    content[at] ^= 1 << rng.randrange(8)
    return content


def cut(rng: random.Random, content: bytearray) -> bytearray:
    return content[
        : rng.choice(
            [
                0,
                1,
                16,
                99,
                100,
                512,
                4096,
                rng.randrange(len(content)),
                rng.randrange(len(content)) // 4096 * 4096,
            ]
        )
    ]


def scramble(rng: random.Random, content: bytearray) -> bytearray:
    at, length = rng.randrange(len(content)), rng.choice([2, 16, 512, 4096])
    content[at : at + length] = rng.randbytes(min(length, len(content) - at))
    return content


def swap(rng: random.Random, content: bytearray) -> bytearray:
    """Two pages stand in each other's place: each is whole."""
    one, other = (rng.randrange(len(content) // 4096) * 4096 for _ in range(2))
    content[one : one + 4096], content[other : other + 4096] = (
        content[other : other + 4096],
        content[one : one + 4096],
    )
    return content


HARMS = (*[flip] * 12, cut, cut, scramble, swap, lambda _rng, _content: None)


def interrupted(scene: Scene) -> None:
    """A run to the other set died after it had noted what it would do, and before it did."""
    pid = os.fork()
    if pid == 0:
        try:
            DiskMirror.apply = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            scene.run(1)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


@pytest.mark.parametrize("seed", [20261124, pytest.param(20261125, marks=pytest.mark.root)])
def test_no_damage_to_the_store_removes_or_rewrites_a_file_or_ends_in_a_traceback(
    seed: int,
) -> None:
    """Each harm meets a mirror in sync; every third time a run had been interrupted, and every
    fifth time the repository has moved.
    """
    rng = random.Random(seed)
    with Workbench() as bench:
        scene = bench.scene
        file = scene.state / FILE_NAME
        quiet = file.read_bytes()
        interrupted(scene)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pending = file.read_bytes()
        stands = signatures(scene.base)
        for number in range(FAULTS):
            for one in [*scene.state.glob(f"{FILE_NAME}*")]:
                one.unlink()
            harmed = rng.choice(HARMS)(rng, bytearray(pending if number % 3 == 2 else quiet))
            if harmed is not None:
                file.write_bytes(harmed)
            report = scene.run(0)
            assert report.error is None and report.status in (
                RunStatus.UNCHANGED,
                RunStatus.CHANGED,
            ), (number, report.error)
            assert not [change for change in report.changes if change.action.touches_disk], number
            assert signatures(scene.base) == stands, number
            if number % 5 == 4:
                moved_on(scene, number)
                bench.renew()
                scene, stands, quiet = (
                    bench.scene,
                    signatures(bench.scene.base),
                    (bench.scene.state / FILE_NAME).read_bytes(),
                )
                pending = quiet if number % 2 else pending


def moved_on(scene: Scene, number: int) -> None:
    """The next set comes whole, whatever was forgotten:
    at most a file that nobody knew to be ours stays.
    """
    scene.head = 1
    report = scene.run()
    assert report.error is None or report.error.kind == "mirror", (number, report.error)
    assert scene.foreign_touched() == [] and scene.leftovers() == []
