"""Many processes on one store: each does its work or says that another holds the job; nothing is
lost, and a killed holder costs no waiting.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.daemon import daemon
from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.sync_env import CommandResult, SyncEnv, signatures, sync_env

ROUNDS = int(os.environ.get("SYNCD_PROCESS_ROUNDS", "2"))
DAEMON_ROUNDS = int(os.environ.get("SYNCD_PROCESS_ROUNDS", "1"))
AT_ONCE = (
    ("sync",),
    ("sync", "--json"),
    ("plan",),
    ("sync", "nginx"),
    ("status",),
    ("history",),
    ("plan", "--json"),
    ("status", "--json"),
)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[SyncEnv]:
    """A job over thirty files, with a personal token:
    an App's key would be most of what every process computes.
    """
    with sync_env(
        tmp_path, {f"nginx/{number}.conf": f"{number}\n" for number in range(30)}, as_app=False
    ) as hub:
        yield hub


def start(hub: SyncEnv, *arguments: str) -> subprocess.Popen[str]:
    command = [*MODULE, "-c", str(hub.config), *arguments]
    return ForkedSyncd(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(hub.folder)},
    )


def ended(process: subprocess.Popen[str]) -> CommandResult:
    out, err = process.communicate()
    return CommandResult(process.returncode, out, err)


def at_once(
    hub: SyncEnv, commands: Sequence[tuple[str, ...]]
) -> list[tuple[tuple[str, ...], CommandResult]]:
    running = [start(hub, *arguments) for arguments in commands]
    return list(zip(commands, map(ended, running), strict=True))


def test_eight_processes_at_once_exit_0_or_11_and_nothing_is_lost(office: SyncEnv) -> None:
    hub = office
    assert ended(start(hub, "sync")).code == 0
    wanted = {f"{number}.conf": f"{number}\n" for number in range(30)}
    (hub.dest / "theirs").write_text("not ours")
    exits: Counter[tuple[str, int]] = Counter()
    for round_ in range(ROUNDS):
        change: dict[str, str | None] = {
            f"{number}.conf": f"round {round_}\n" for number in range(round_ % 7, 30, 7)
        } | {f"new-{round_}.conf": "new\n", f"new-{round_ - 1}.conf": None}
        hub.repo.commit(
            {
                f"nginx/{name}": content
                for name, content in change.items()
                if content is not None or name in wanted
            }
        )
        wanted = {
            name: content for name, content in (wanted | change).items() if content is not None
        }
        for arguments, done in at_once(hub, AT_ONCE):
            exits[arguments[0], done.code] += 1
            assert done.code in (0, 11) and "Traceback" not in done.err, (arguments, done)
            assert done.code == 0 or "another syncd" in done.out + done.err, (arguments, done)
        assert hub.tree() == {"theirs": b"not ours"} | {
            name: content.encode() for name, content in wanted.items()
        }
    print(dict(exits))
    assert {code for (verb, code) in exits if verb != "sync"} == {0}, (
        "who only looks never meets a lock"
    )
    runs = ended(start(hub, "history", "--json", "--limit", "1000")).json["runs"]
    assert [run["status"] for run in runs] == ["changed"] * (ROUNDS + 1), (
        "each push was brought once, and is remembered"
    )
    assert len({run["commit"] for run in runs}) == ROUNDS + 1
    assert ended(start(hub, "status", "--json")).job["state"] == "in_sync"
    before = signatures(hub.dest)
    assert ended(start(hub, "sync")).code == 0 and signatures(hub.dest) == before
    assert not list(hub.state.glob("*.broken-*")) and not list(hub.dest.glob("**/.syncd-*"))


def test_a_process_killed_with_the_lock_costs_no_waiting(office: SyncEnv) -> None:
    hub = office
    assert ended(start(hub, "sync")).code == 0
    code = (
        "import sys\nfrom pathlib import Path\nfrom syncd.store.lock import job_lock\n"
        "with job_lock(Path(sys.argv[1]), 'nginx'):\n print('held', flush=True)\n sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(hub.state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        refused = ended(start(hub, "sync", "--json"))
        assert refused.code == 11 and f"(pid {holder.pid})" in refused.job["error"]["message"]
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    hub.repo.commit({"nginx/1.conf": "changed\n"})
    began = time.monotonic()
    after = ended(start(hub, "sync", "--json"))
    assert after.code == 0 and (hub.dest / "1.conf").read_text() == "changed\n"
    assert after.job["seconds"] < 2 and time.monotonic() - began < 10


def test_a_daemon_one_shots_and_rollbacks_share_a_store_and_nothing_is_lost(
    office: SyncEnv,
) -> None:
    """Each round: a push, a daemon that is told to start the job, four one-shots, a rollback with
    its resume, and two who look.
    """
    hub = office
    hub.write_config(every="1h")
    assert ended(start(hub, "sync")).code == 0
    (hub.dest / "theirs").write_text("not ours")
    names = [f"{number}.conf" for number in range(30)]
    sets, exits = [dict.fromkeys(names)], Counter[tuple[str, int]]()
    sets[0] = {name: f"{number}\n" for number, name in enumerate(names)}
    with daemon(hub) as running:
        for round_ in range(DAEMON_ROUNDS):
            sets.append(
                {
                    name: f"round {round_}\n"
                    if int(name.partition(".")[0]) % 3 == round_ % 3
                    else content
                    for name, content in sets[-1].items()
                }
            )
            hub.repo.commit({f"nginx/{name}": content for name, content in sets[-1].items()})
            running.send(signal.SIGUSR1)
            at = (
                ("sync",),
                ("rollback", "nginx"),
                ("sync", "--json"),
                ("plan",),
                ("sync",),
                ("history", "--json"),
                ("sync", "nginx"),
            )
            for arguments, done in at_once(hub, at):
                exits[arguments[0], done.code] += 1
                assert done.code in (0, 11) and "Traceback" not in done.err, (arguments, done)
            for _ in range(100):  # the daemon may be writing one now
                tree = {name: content.decode() for name, content in hub.tree().items()}
                assert tree.pop("theirs") == "not ours"
                if tree in sets:
                    break
                ended(start(hub, "status"))  # a moment
            assert tree in sets, "the set of one commit, whole"
            for _ in range(100):
                done = ended(start(hub, "resume", "nginx"))
                again = ended(start(hub, "sync", "--json"))
                if again.code == 0 and again.job["status"] != "skipped":
                    break
            assert done.code == 0 and again.code == 0, (done, again)
            assert {
                name: content.decode() for name, content in hub.tree().items() if name != "theirs"
            } == sets[-1]
        assert running.process.poll() is None
        assert running.ends() == 0
        assert not [
            line for line in running.lines if line["level"] == "error" or "bug" in line["message"]
        ], running.lines
    print(dict(exits))
    assert ended(start(hub, "status", "--json")).job["state"] == "in_sync"
    before = signatures(hub.dest)
    assert ended(start(hub, "sync")).code == 0 and signatures(hub.dest) == before
    assert not list(hub.state.glob("*.broken-*")) and not list(hub.dest.glob("**/.syncd-*"))
