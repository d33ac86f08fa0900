"""syncd as process 1 of a container: orphans of hooks are reaped, and signals and exit codes pass.

Without root a subreaper takes the place of process 1: orphans become its children in the same way.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.daemon import DEADLINE_SECONDS, Running, daemon
from tests.support.sync_env import SyncEnv

ROOT = Path(__file__).resolve().parents[2]
AS_SUBREAPER = (
    "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER
    "from syncd.init_process import become_init\n"
    "become_init()\n"
)
CHANGES = int(os.environ.get("SYNCD_ORPHANS", "150"))  # each leaves a process
RUN_SYNCD = "from syncd.__main__ import main\nmain()\n"
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
# The orphan outlives its hook and the hook's supervisor, and says whose child it is then.
ORPHAN = "sleep 1; read -r stat < /proc/$$/stat; echo $stat >> {folder}/orphans"
HOOK = "setsid sh -c '{orphan}' > /dev/null 2>&1 & echo ran >> {folder}/hooks"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def as_init(work: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        python(AS_SUBREAPER + work), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )


ENDS = {
    "exit code": ("raise SystemExit(7)", 7),
    "success": ("", 0),
    "signal": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_exit_code_is_that_of_syncd(end: str) -> None:
    work, code = ENDS[end]
    with as_init(work) as process:
        assert process.wait(DEADLINE_SECONDS) == code


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT"])
def test_a_signal_is_passed_on(name: str) -> None:
    work = (
        "import signal\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{name}])\n"
        "print('ready', flush=True)\n"
        f"raise SystemExit(signal.sigwait([signal.{name}]) + 100)\n"
    )
    with as_init(work) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, name))
        assert process.wait(DEADLINE_SECONDS) == getattr(signal, name) + 100


def test_the_exit_status_of_a_child_of_syncd_is_never_taken() -> None:
    """200 short commands beside orphans that end all the time: each has its own exit code."""
    work = (
        "import os, subprocess, sys\n"
        "def orphan():\n"
        "    if os.fork() == 0:\n"
        "        os._exit(0) if os.fork() else os._exit(3)\n"
        "    os.wait()\n"
        "for number in range(200):\n"
        "    orphan()\n"
        "    code = subprocess.run(['/bin/sh', '-c', f'exit {number % 100}']).returncode\n"
        "    if code != number % 100: sys.exit(1)\n"
    )
    with as_init(work) as process:
        assert process.wait(DEADLINE_SECONDS) == 0


# --- a daemon whose hooks leave a process each -----------------------------------


def jobs_with_orphans(hub: SyncEnv, count: int) -> None:
    """As many jobs, each with a folder of its own and a hook that leaves a process."""
    hook = HOOK.format(orphan=ORPHAN.format(folder=hub.folder), folder=hub.folder)
    first = hub.jobs.pop("nginx")
    for number in range(count):
        hub.jobs[f"job{number}"] = {
            **first,
            "every": "1d",
            "paths": [{"from": "nginx/", "to": f"{hub.dest}/{number}/"}],
            "on_change": ["/bin/sh", "-c", hook],
        }
    hub.write()


def children(pid: int) -> dict[int, str]:
    """Process id -> state of each child. Source: proc(5), /proc/PID/stat."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found[int(name)] = fields[0]
    return found


def lines_of(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def wait_for(file: Path, count: int, process: subprocess.Popen[str]) -> list[str]:
    """The lines of the file, once there are so many."""
    nothing = threading.Event()
    for _ in range(20 * 600):
        if len(lines_of(file)) >= count:
            break
        assert process.poll() is None, "it has ended"
        nothing.wait(0.05)
    return lines_of(file)


def without_orphans(init: int) -> dict[int, str]:
    """The children of process 1 after the last orphan has had its time to end."""
    nothing = threading.Event()
    for _ in range(100):
        if len(children(init)) == 1:
            break
        nothing.wait(0.05)
    return children(init)


@contextmanager
def started(command: list[str], hub: SyncEnv) -> Iterator[subprocess.Popen[str]]:
    env = {"PATH": os.environ["PATH"], "HOME": str(hub.folder), "PYTHONPATH": str(ROOT)}
    arguments = ["-c", str(hub.config), "run"]
    with subprocess.Popen(
        [*command, *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=env,
    ) as process:
        try:
            Running(process).says("ready: ")
            yield process
        finally:
            stop_daemons(process.pid)
            process.kill()


def stop_daemons(pid: int) -> None:
    """End what a failed test leaves: a daemon outlives a subreaper that is killed."""
    for child in children(pid):
        stop_daemons(child)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def test_orphans_of_hooks_are_reaped(hub: SyncEnv) -> None:
    jobs_with_orphans(hub, 20)
    with started(python(AS_SUBREAPER + RUN_SYNCD), hub) as process:
        parents = {line.split()[3] for line in wait_for(hub.folder / "orphans", 20, process)}
        assert parents == {str(process.pid)}, "nothing was left to it"
        assert list(without_orphans(process.pid).values()) == ["S"]
        assert len(lines_of(hub.folder / "hooks")) == 20
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert hub.call("status").code == 0


@pytest.mark.root
def test_changes_whose_hooks_leave_a_process_leave_no_zombie(hub: SyncEnv) -> None:
    jobs_with_orphans(hub, CHANGES)
    with started([*NAMESPACE, sys.executable, "-m", "syncd"], hub) as process:
        (init,) = children(process.pid)
        parents = {line.split()[3] for line in wait_for(hub.folder / "orphans", CHANGES, process)}
        assert parents == {"1"}
        left = without_orphans(init)
        assert list(left.values()) == ["S"], left
        assert "Z" not in children(next(iter(left))).values()
        assert len(lines_of(hub.folder / "hooks")) == CHANGES
        os.kill(init, signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert hub.call("status").code == 0


def test_the_health_check_of_the_container_file_succeeds_while_the_daemon_is_alive(
    hub: SyncEnv,
) -> None:
    hub.extra["web"] = {"listen": "127.0.0.1:0"}
    hub.write_config(every="1d")
    text = (ROOT / "packaging/container/Containerfile").read_text()
    code = json.loads(text.partition("CMD [")[2].partition("]\n")[0].join("[]"))[2]
    with daemon(hub) as running:
        said = next(line["message"] for line in running.lines if "listening on" in line["message"])
        port = said.rpartition(":")[2].partition("/")[0]
        check = python(code.replace("8480", port))
        assert subprocess.run(check, check=False).returncode == 0
        assert running.ends() == 0
        assert subprocess.run(check, capture_output=True, check=False).returncode == 1
