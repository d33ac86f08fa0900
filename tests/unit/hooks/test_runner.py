"""Commands that hang, fork, flood, ignore SIGTERM, are missing or look for our secrets: each is
bounded, and its end has a name.
"""

from __future__ import annotations

import errno
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest

from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.errors import StoppedError
from syncd.hooks import runner as runner_module
from syncd.hooks.runner import HookRunner, environment, find_hook_user, substitute_staged
from syncd.hooks.staging_dir import StagingDir
from syncd.models import Hook, Kind
from syncd.ports import HookCall, HookResult, StagedFile
from syncd.redaction import Secret, add_secret
from syncd.store.store import SqliteStore


@pytest.fixture
def hooks(tmp_path: Path) -> HookRunner:
    (tmp_path / "state").mkdir(mode=0o700)
    return HookRunner(
        tmp_path / "state",
        {"LANG": "C.UTF-8", "GITHUB_TOKEN": "canary", "NOTIFY_SOCKET": "/run/x", "TZ": "UTC"},
    )


def deadline() -> Deadline:
    return Deadline(SystemClock(), 600)


def call(
    text: str, seconds: float = 20.0, user: str | None = None, jobs: tuple[str, ...] = ("job",)
) -> HookCall:
    return HookCall(
        Hook(text, ("/bin/sh", "-c", text), True), jobs, {"SYNCD_JOB": "job"}, "{}", seconds, user
    )


def alive(mark: str) -> list[int]:
    """Processes with the mark in their arguments."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):
                if (
                    mark.encode() in Path(f"/proc/{name}/cmdline").read_bytes()
                    and b"guard" not in Path(f"/proc/{name}/cmdline").read_bytes()
                ):
                    found.append(int(name))
    return found


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """A number of seconds that only this test sleeps: how its processes are known."""
    name = f"3{abs(hash(str(tmp_path))) % 10**7:07d}"
    yield name
    for pid in alive(name):
        os.kill(pid, signal.SIGKILL)


def test_a_command_gives_its_status_and_what_it_printed(hooks: HookRunner) -> None:
    assert hooks.run(call("echo out; echo err >&2; exit 3"), deadline()) == HookResult(
        status=3, output="out\nerr\n"
    )
    assert hooks.run(call("true"), deadline()).status == 0
    assert hooks.run(call("kill -SEGV $$"), deadline()).signal == signal.SIGSEGV


def test_a_hang_is_ended_at_its_limit_with_everything_it_started(
    hooks: HookRunner, mark: str
) -> None:
    began = time.monotonic()
    end = hooks.run(
        call(f"echo begun; sleep {mark} & setsid sleep {mark} & sleep {mark}", 0.5), deadline()
    )
    assert end.timed_out and end.output == "begun\n" and time.monotonic() - began < 4
    assert alive(mark) == []


def test_who_ignores_sigterm_is_killed_within_the_grace(
    hooks: HookRunner, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "GRACE_SECONDS", 0.3)
    began = time.monotonic()
    end = hooks.run(
        call(
            f"trap '' TERM; (trap '' TERM; setsid sleep {mark}) & sleep {mark}; sleep {mark}", 0.3
        ),
        deadline(),
    )
    assert end.timed_out and time.monotonic() - began < 5
    assert alive(mark) == []


def test_children_left_behind_in_the_group_end_with_the_command_and_a_daemon_that_left_it_stays(
    hooks: HookRunner, mark: str
) -> None:
    began = time.monotonic()
    end = hooks.run(
        call(f"sleep {mark} & setsid sleep {mark}1 >/dev/null 2>&1 & sleep 0.2; echo done"),
        deadline(),
    )
    assert (end.status, end.output) == (0, "done\n") and time.monotonic() - began < 5
    assert [pid for pid in alive(mark) if pid not in alive(f"{mark}1")] == []
    assert len(alive(f"{mark}1")) == 1


LATE = """
import os, sys, time
hook = int(sys.argv[2])
while os.getppid() == hook:
    pass
began = time.process_time()
while time.process_time() - began < float(sys.argv[4]):
    pass
os.setsid()
with open(sys.argv[3], "w") as there:
    there.write("detached")
time.sleep(int(sys.argv[1]))
"""


def test_a_process_that_detaches_itself_just_after_the_hook_ended_survives(
    hooks: HookRunner, mark: str, tmp_path: Path
) -> None:
    """As `setsid COMMAND &` does on a busy machine,
    where the hook ends before the new process has run at all.
    """
    assert _has_detached_itself(hooks, mark, tmp_path, cpu_seconds=0.2)


WAKES = "import time\nwhile True: time.sleep(0.0005)"  # and takes the processor each time


def test_a_process_that_others_interrupt_often_has_time_to_detach_itself(
    hooks: HookRunner, mark: str, tmp_path: Path
) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with subprocess.Popen([sys.executable, "-I", "-c", WAKES]) as other:
            try:
                assert _has_detached_itself(hooks, mark, tmp_path, cpu_seconds=0.6)
            finally:
                other.kill()
    finally:
        os.sched_setaffinity(0, before)


def _has_detached_itself(hooks: HookRunner, mark: str, tmp_path: Path, cpu_seconds: float) -> bool:
    """Whether a process survives that needs so much CPU time after its hook has ended."""
    there = tmp_path / "there"
    os.mkfifo(there)
    heard = os.open(there, os.O_RDONLY | os.O_NONBLOCK)
    (tmp_path / "late.py").write_text(LATE)
    late = shlex.join([sys.executable, "-I", str(tmp_path / "late.py"), mark])
    start = f"{late} $$ {shlex.quote(str(there))} {cpu_seconds} >/dev/null 2>&1 &"
    assert hooks.run(call(start), deadline()).status == 0
    detached = bool(select.select([heard], [], [], 30)[0])
    os.close(heard)
    return detached and len(alive(mark)) == 1


@pytest.mark.parametrize(
    "left",
    [
        "sleep {mark} &",
        "(while :; do : {mark}; done) &",
        "(trap '' TERM; sleep {mark}; sleep {mark}) &",
        "sh -c 'while :; do /bin/true {mark}; done' &",
    ],
    ids=["asleep", "busy", "deaf", "forking"],
)
def test_what_did_not_detach_itself_ends_with_its_hook(
    hooks: HookRunner, mark: str, left: str
) -> None:
    began = time.monotonic()
    assert (
        hooks.run(call("exec >/dev/null 2>&1; " + left.format(mark=mark)), deadline()).status == 0
    )
    assert alive(mark) == [] and time.monotonic() - began < 8


# grows as fast as one shell can fork: a doubling one would trouble whoever shares the machine
BOMB = "while :; do sleep {mark} & done"


@pytest.mark.parametrize(
    "text",
    [BOMB, f"setsid sh -c '{BOMB}' & sleep 30", f"trap '' TERM; {BOMB}"],
    ids=["in the group", "out of the group", "deaf"],
)
def test_a_fork_bomb_is_over_soon_after_its_limit(
    hooks: HookRunner, text: str, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "GRACE_SECONDS", 0.05)
    began = time.monotonic()
    end = hooks.run(call("exec 2>/dev/null; " + text.format(mark=mark), 0.1), deadline())
    assert end.timed_out and time.monotonic() - began < 10
    assert alive(mark) == []


def test_a_gigabyte_of_output_costs_its_last_64_kib(hooks: HookRunner) -> None:
    end = hooks.run(call("head -c 1G /dev/zero; echo; echo the end", 60), deadline())
    assert end.status == 0 and end.output.endswith("\0\nthe end\n") and len(end.output) == 64 << 10


def test_an_endless_flood_is_ended_at_its_limit(hooks: HookRunner) -> None:
    began = time.monotonic()
    end = hooks.run(call("yes", 0.5), deadline())
    assert end.timed_out and len(end.output) == 64 << 10 and time.monotonic() - began < 5


@pytest.mark.parametrize("argv", [("no-such-command-here",), ("/no/such/file", "x")])
def test_a_missing_command_is_named(hooks: HookRunner, argv: tuple[str, ...]) -> None:
    end = hooks.run(HookCall(Hook(" ".join(argv), argv), ("job",), {}, "{}", 5), deadline())
    assert (
        end.status is None
        and end.problem == f"there is no command {argv[0]!r}"
        and end.hint is not None
        and "/usr/sbin" in end.hint
    )


def test_a_command_that_may_not_be_run_says_so(hooks: HookRunner, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("echo no\n")
    end = hooks.run(
        HookCall(Hook("plain", (str(tmp_path / "plain"),)), ("job",), {}, "{}", 5), deadline()
    )
    assert end.problem is not None and "Permission denied" in end.problem


def test_bytes_that_are_no_text_and_control_characters_come_through_as_text(
    hooks: HookRunner,
) -> None:
    assert hooks.run(call("printf 'a\\377\\000b'"), deadline()).output == "a\ufffd\0b"


def test_a_known_secret_in_the_output_is_masked_also_where_the_output_is_cut(
    hooks: HookRunner,
) -> None:
    secret = "ghp_canary" + "z" * 30
    add_secret(Secret(secret))
    end = hooks.run(
        call(f"echo {secret}; head -c {(64 << 10) - 30} /dev/zero | tr '\\0' x"), deadline()
    )
    assert secret not in end.output and "zzzzzzzz" not in end.output and len(end.output) <= 64 << 10


def test_no_descriptor_no_terminal_no_stdin_and_only_the_allowed_names(hooks: HookRunner) -> None:
    leaky = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    try:
        end = hooks.run(
            call(
                "ls -l /proc/$$/fd | grep -c /; cat; pwd; tty; env; ps -o pgid= -p $$ | tr -d ' "
                "'; echo $$; umask"
            ),
            deadline(),
        )
    finally:
        os.close(leaky)
    said = end.output.splitlines()
    assert said[:3] == ["1", "/", "not a tty"], (
        "only /dev/null has a name; stdout and stderr are a pipe"
    )
    names = {line.partition("=")[0] for line in said if "=" in line}
    assert names <= {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "SYNCD_JOB",
        "SYNCD_STAGED",
        "SYNCD_CHANGES",
    }
    assert said[-3] == said[-2], "a process group of its own"
    assert said[-1] == "0022"


def test_a_signal_to_syncd_ends_the_hook_soon(hooks: HookRunner, mark: str, tmp_path: Path) -> None:
    calm, begun = deadline(), tmp_path / "begun"
    os.mkfifo(begun)
    reader = threading.Thread(target=lambda: (begun.read_text(), calm.stop.set()))
    reader.start()
    began = time.monotonic()
    with pytest.raises(StoppedError):
        hooks.run(call(f"echo begun > {begun}; sleep {mark}"), calm)
    reader.join()
    assert time.monotonic() - began < 5 and alive(mark) == []


CHILD = """
import sys
from pathlib import Path
from tests.unit.hooks.test_runner import call, deadline
from syncd.hooks import runner
runner.GRACE_SECONDS = 0.3
runner.HookRunner(Path(sys.argv[1]), {}).run(call(sys.argv[2]), deadline())
"""


def test_kill_9_of_syncd_ends_the_hook_and_the_next_one_waits_until_it_has(
    hooks: HookRunner, mark: str, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    text = f"trap '' TERM; echo $$ > {begun}; sleep {mark}; sleep {mark}"
    syncd = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "state"), text], cwd=Path(__file__).parents[3]
    )
    first = int(begun.read_text())
    syncd.kill()
    syncd.wait()
    end = hooks.run(call(f"test -e /proc/{first} && echo both; echo mine"), deadline())
    assert end.output == "mine\n" and alive(mark) == []


def test_two_hooks_of_one_job_never_run_at_once_and_those_of_two_jobs_do(
    hooks: HookRunner, tmp_path: Path
) -> None:
    text = f"mkdir {tmp_path}/alone || echo together; sleep 0.2; rmdir {tmp_path}/alone"
    ends: list[HookResult] = []
    # each with a first job of its own, whose lock it would hold: what that job's last hook left is
    # removed before the next one's files are laid out
    shared = [call(text, jobs=(first, "nginx")) for first in ("one", "two", "three")]
    threads = [
        threading.Thread(target=lambda one=one: ends.append(hooks.run(one, deadline())))
        for one in shared
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [end.output for end in ends] == ["", "", ""]
    meet = f"echo here > {tmp_path}/meet"
    os.mkfifo(tmp_path / "meet")
    other = threading.Thread(
        target=lambda: ends.append(hooks.run(call(meet, jobs=("other",)), deadline()))
    )
    other.start()
    assert hooks.run(call(f"cat {tmp_path}/meet"), deadline()).output == "here\n"
    other.join()


def test_a_guard_that_dies_is_a_named_failure_and_takes_the_hook_with_it(
    hooks: HookRunner, mark: str
) -> None:
    end = hooks.run(call(f"kill -9 $PPID; sleep {mark}"), deadline())
    assert end.problem == "its supervisor died"
    until = time.monotonic() + 5
    while alive(mark) and time.monotonic() < until:
        os.sched_yield()  # SIGKILL was sent; dying takes the kernel a moment
    assert alive(mark) == []


def test_the_staged_set_is_private_complete_and_gone_afterwards(
    hooks: HookRunner, tmp_path: Path
) -> None:
    files = [
        StagedFile("/etc/a/secret", Kind.FILE, 0o644, lambda: BytesIO(b"s")),
        StagedFile("/etc/a/tool", Kind.FILE, 0o755, lambda: BytesIO(b"#!/bin/sh\necho tool\n")),
        StagedFile("/etc/a/link", Kind.LINK, 0o777, lambda: BytesIO(b"secret")),
        StagedFile("/etc/odd \udcff\n name", Kind.FILE, 0o640, lambda: BytesIO(b"")),
    ]
    end = hooks.validate(
        call(
            "cd {staged} && find . -printf '%y %m %P\\n' | sort; cat etc/a/link; etc/a/tool; stat "
            "-c %a {staged}/.. $SYNCD_CHANGES"
        ),
        files,
        deadline(),
    )
    assert end.status == 0 and end.output.splitlines()[:-3] == [
        " name",
        "d 700 ",
        "d 700 etc",
        "d 700 etc/a",
        "f 600 etc/a/secret",
        "f 600 etc/odd \ufffd",
        "f 700 etc/a/tool",
        "l 777 etc/a/link",
    ], end.output
    assert end.output.splitlines()[-3:] == ["stool", "700", "600"]
    assert list((tmp_path / "state/staging").iterdir()) == []


def test_what_a_hook_does_to_its_staged_set_is_cleared_away_and_so_is_what_a_crash_left(
    hooks: HookRunner, tmp_path: Path
) -> None:
    files = [StagedFile("/a/b", Kind.FILE, 0o644, lambda: BytesIO(b"b"))]
    hooks.validate(
        call(
            "mkdir -p {staged}/more/deep; ln -s / {staged}/more/root; chmod 000 "
            "{staged}/more/deep {staged}/a {staged}/more"
        ),
        files,
        deadline(),
    )
    staging = tmp_path / "state/staging"
    assert list(staging.iterdir()) == []
    hooks.run(call("true"), deadline())
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    syncd = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "state"), f"echo x > {begun}; sleep 30"],
        cwd=Path(__file__).parents[3],
    )
    begun.read_text()
    syncd.kill()
    syncd.wait()
    assert len(list(staging.iterdir())) == 1
    hooks.run(call("true"), deadline())
    assert list(staging.iterdir()) == []


def test_staged_is_filled_in_as_one_argument_and_quoted_for_a_shell() -> None:
    assert substitute_staged("-c={staged}/etc/x", "/state/a b", False) == "-c=/state/a b/etc/x"
    assert (
        substitute_staged("nginx -c {staged}/etc/x", "/state/a b", True)
        == "nginx -c '/state/a b'/etc/x"
    )
    assert (
        substitute_staged("{staged}/etc/x", "/", False) == "/etc/x"
        and substitute_staged("ls {staged}", "/", True) == "ls /"
    )


def test_the_environment_is_an_allow_list() -> None:
    given = {
        "TZ": "UTC",
        "LANG": "de_DE.UTF-8",
        "GITHUB_TOKEN": "t",
        "SYNCD_CONFIG": "/c",
        "LD_PRELOAD": "x",
        "PATH": "/evil",
        "XDG_RUNTIME_DIR": "/run/user/1",
    }
    person = find_hook_user(None)
    env = environment(given, person)
    assert (
        set(env) == {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "XDG_RUNTIME_DIR"}
        and env["PATH"].startswith("/usr/local/sbin:")
        and env["LANG"] == "de_DE.UTF-8"
    )


def test_an_unknown_hook_user_is_named(hooks: HookRunner) -> None:
    end = hooks.run(call("true", user="nobody-like-this"), deadline())
    assert end.problem == "this machine knows no user nobody-like-this" and end.hint is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_only_root_may_run_a_hook_as_somebody_else(hooks: HookRunner) -> None:
    assert "only root" in str(hooks.run(call("true", user="root"), deadline()).problem)


@pytest.mark.root
def test_a_hook_user_is_that_user_alone_and_sees_its_staged_set_and_no_more_of_the_state(
    tmp_path: Path,
) -> None:
    state = Path("/var/tmp") / f"syncd-hooks-{os.getpid()}"
    state.mkdir(mode=0o700)
    (state / "syncd.db").write_text("private")
    (state / "syncd.db").chmod(0o600)
    try:
        text = (
            f"id -u; id -G; cat {{staged}}/etc/secret; echo; cat {state}/syncd.db; ls {state}; ls "
            f"{state}/staging; cat $SYNCD_CHANGES; echo $HOME $USER; kill -0 $PPID || echo "
            "powerless"
        )
        end = HookRunner(state, {}).validate(
            call(text, user="nobody"),
            [StagedFile("/etc/secret", Kind.FILE, 0o600, lambda: BytesIO(b"for you"))],
            deadline(),
        )
        said = end.output.splitlines()
        assert said[:3] == ["65534", "65534", "for you"], said
        assert said.count("{}/nonexistent nobody") == 1 and "private" not in end.output
        assert sum("Permission denied" in line for line in said) == 3 and said[-1] == "powerless", (
            said
        )
        assert list((state / "staging").iterdir()) == []
        assert (state.stat().st_mode & 0o777, (state / "staging").stat().st_mode & 0o777) == (
            0o711,
            0o711,
        )
    finally:
        subprocess.run(["rm", "-rf", str(state)], check=True)


@pytest.fixture
def open_state() -> Iterator[Path]:
    """A state folder that others can reach."""
    state = Path("/var/tmp") / f"syncd-hooks-{os.getpid()}"
    state.mkdir(mode=0o700)
    yield state
    subprocess.run(["rm", "-rf", str(state)], check=True)


ONE = [StagedFile("/etc/one", Kind.FILE, 0o644, lambda: BytesIO(b"good"))]


@pytest.mark.root
def test_a_hook_user_reads_its_staged_set_and_can_not_change_it(open_state: Path) -> None:
    """Nor can a hook of another job that has the same user,
    or a process that an earlier one left.
    """
    text = (
        "cd {staged}; cat etc/one; for each in . .. etc; do stat -c '%U %A' $each; done;"
        " echo bad > etc/one; rm -f etc/one; mv etc other; touch new ../new; chmod 777 ..;"
        " chmod 777 etc/one; ln -sf / etc/link; echo x > $SYNCD_CHANGES; cat etc/one"
    )
    end = HookRunner(open_state, {}).validate(call(text, user="nobody"), ONE, deadline())
    said = [line for line in end.output.splitlines() if not line.startswith(("sh:", "/bin/sh:"))]
    refused = [line for line in said if "ermi" in line]
    assert [line for line in said if line not in refused] == [
        "goodroot drwxr-x---",
        "root drwxr-x---",
        "root drwxr-x---",
        "good",
    ], end.output
    assert len(refused) == 7, end.output
    assert os.listdir(open_state / "staging") == []


@pytest.mark.root
def test_another_member_of_the_hook_users_group_does_not_reach_the_staged_set(
    open_state: Path,
) -> None:
    member = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(41001); "
        "os.listdir(sys.argv[1])"
    )
    with StagingDir(open_state, "job", (65534, 65534, (65534,))) as place:
        place.write_files(ONE, deadline())
        place.grant_access()
        command = [sys.executable, "-I", "-S", "-c", member, place.tree]
        done = subprocess.run(command, capture_output=True, text=True)
    assert "PermissionError" in done.stderr, done.stderr


@pytest.mark.root
def test_without_access_lists_the_group_of_the_hook_user_reaches_the_staged_set(
    open_state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    text = "stat -c '%U %G %a' {staged}/..; cat {staged}/etc/one"
    end = HookRunner(open_state, {}).validate(call(text, user="nobody"), ONE, deadline())
    assert (end.status, end.output) == (0, "root nogroup 750\ngood")


@pytest.mark.root
@pytest.mark.parametrize(
    ("before", "group", "after"),
    [(0o700, None, 0o711), (0o750, "root", 0o751)],
    ids=["private", "shared"],
)
def test_a_command_that_opens_the_store_leaves_a_running_validator_its_files(
    open_state: Path, before: int, group: str | None, after: int
) -> None:
    open_state.chmod(before)
    for name in ("begun", "go"):
        os.mkfifo(open_state.parent / f"{open_state.name}-{name}")
    begun, go = (Path(f"{open_state}-{name}") for name in ("begun", "go"))
    for fifo in (begun, go):
        fifo.chmod(0o666)
    text = f"echo x > {begun}; read x < {go}; cat {{staged}}/etc/one"
    ends: list[HookResult] = []
    validator = threading.Thread(
        target=lambda: ends.append(
            HookRunner(open_state, {}).validate(call(text, user="nobody"), ONE, deadline())
        )
    )
    try:
        validator.start()
        begun.read_text()
        for _ in range(3):
            SqliteStore.open(open_state, group).close()
        go.write_text("x\n")
        validator.join()
    finally:
        begun.unlink()
        go.unlink()
    assert ends[0] == HookResult(status=0, output="good")
    assert open_state.stat().st_mode & 0o777 == after


@pytest.mark.root
def test_a_state_folder_that_is_closed_meanwhile_rejects_no_commit(open_state: Path) -> None:
    """As systemd does at each start of a unit, which sets StateDirectoryMode."""
    os.mkfifo(open_state.parent / f"{open_state.name}-go")
    go = Path(f"{open_state}-go")
    go.chmod(0o666)
    ends: list[HookResult] = []
    text = f"read x < {go}; cat {{staged}}/etc/one"
    hooks = HookRunner(open_state, {})
    validator = threading.Thread(
        target=lambda: ends.append(hooks.validate(call(text, user="nobody"), ONE, deadline()))
    )
    try:
        validator.start()
        with open(go, "w") as word:
            open_state.chmod(0o700)
            word.write("x\n")
        validator.join()
    finally:
        go.unlink()
    assert ends[0].status is None and "does not let others through" in str(ends[0].problem)


def test_a_deep_tree_that_a_hook_left_is_removed_and_nothing_behind_its_links(
    hooks: HookRunner, tmp_path: Path, deep_tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    dig = "import os\nfor _ in range(5000): os.mkdir('d'); os.chdir('d')\n"
    (tmp_path / "dig.py").write_text(dig + f"os.symlink('{outside}', 'link'); os.chmod('.', 0)")
    text = f"cd {{staged}} && {shlex.quote(sys.executable)} -I -S {tmp_path}/dig.py"
    assert hooks.validate(call(text), ONE, deadline()).status == 0
    assert os.listdir(tmp_path / "state/staging") == []
    assert outside.stat().st_mode & 0o777 == 0o500


HOPS = "use POSIX; $e = time + 8; for (1..30000) { exit if fork or time > $e; POSIX::setsid() }"


class Hopper:
    """A command whose process has another number every moment; it ends by itself after 8 s."""

    def __init__(self, folder: Path) -> None:
        fifo = folder / "hops"
        os.mkfifo(fifo)
        fifo.chmod(0o622)
        folder.chmod(0o711)
        self._heard = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        self.command = f"/usr/bin/perl -e {shlex.quote(HOPS)} >/dev/null 2>&1 7>{fifo} &"

    def is_gone(self) -> bool:
        """Whether no process has the FIFO open for writing."""
        try:
            return os.read(self._heard, 1) == b""
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._heard)


@pytest.fixture
def hopper(open_state: Path) -> Iterator[Hopper]:
    if not Path("/usr/bin/perl").exists():
        pytest.skip("needs perl, which every user can run")
    made = Hopper(open_state)
    yield made
    made.close()


def gone(mark: str, seconds: float = 5) -> bool:
    """Whether no process with the mark is there: SIGKILL was sent, and dying takes a moment."""
    until = time.monotonic() + seconds
    while alive(mark) and time.monotonic() < until:
        os.sched_yield()
    return alive(mark) == []


@pytest.mark.root
@pytest.mark.parametrize(
    "text",
    [
        "setsid sleep {mark} >/dev/null 2>&1 &",
        "(setsid sh -c 'sleep {mark} & sleep {mark}' &) >/dev/null 2>&1",
        "for i in 1 2 3 4 5 6 7 8 9; do setsid sleep {mark} >/dev/null 2>&1 & done",
        "{hopper}",
        "{hopper}\n{hopper}",
    ],
)
def test_with_a_hook_user_every_descendant_ends_with_the_hook(
    open_state: Path, hopper: Hopper, mark: str, text: str
) -> None:
    hooks = HookRunner(open_state, {})
    command = text.format(mark=mark, hopper=hopper.command) + "\nsleep 0.3; echo done"
    end = hooks.validate(call(command, user="nobody"), ONE, deadline())
    assert (end.status, end.output, alive(mark)) == (0, "done\n", [])
    assert hopper.is_gone()


@pytest.mark.root
def test_with_a_hook_user_every_descendant_ends_at_the_limit(
    open_state: Path, hopper: Hopper, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "GRACE_SECONDS", 0.2)
    text = f"{hopper.command}\nsetsid sleep {mark} & sleep {mark}"
    end = HookRunner(open_state, {}).validate(call(text, 0.5, "nobody"), ONE, deadline())
    assert end.timed_out and alive(mark) == [] and hopper.is_gone()


@pytest.mark.root
@pytest.mark.parametrize("dies", ["the inner guard", "the outer guard", "syncd"])
def test_with_a_hook_user_nothing_is_left_when_a_guard_or_syncd_is_killed(
    open_state: Path, mark: str, dies: str
) -> None:
    fifo = Path(f"{open_state}-begun")
    os.mkfifo(fifo)
    fifo.chmod(0o666)
    text = f"setsid sleep {mark} & sleep 0.2; echo $PPID > {fifo}; sleep {mark}"
    child = [sys.executable, "-c", CHILD_OF_NOBODY, str(open_state), text]
    try:
        with subprocess.Popen(
            child, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE
        ) as syncd:
            inner = int(fifo.read_text())
            outer = int(Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[1])
            victim = {"the inner guard": inner, "the outer guard": outer}.get(dies, syncd.pid)
            assert alive(mark)
            os.kill(victim, signal.SIGKILL)
            said = syncd.communicate()[0].decode()
    finally:
        fifo.unlink()
    assert gone(mark, 10)
    assert said.strip() == {
        "the inner guard": "the hook's supervisor died",
        "the outer guard": "its supervisor was asked to stop",
    }.get(dies, "")


CHILD_OF_NOBODY = """
import sys; from pathlib import Path
from syncd.clock import SystemClock
from syncd.deadline import Deadline
from syncd.ports import HookCall
from syncd.hooks.runner import HookRunner
from syncd.models import Hook
hook = Hook(sys.argv[2], ("/bin/sh", "-c", sys.argv[2]), True)
call = HookCall(hook, ("job",), {}, "{}", 60, "nobody")
print(HookRunner(Path(sys.argv[1]), {}).validate(call, [], Deadline(SystemClock(), 600)).problem)
"""


@pytest.mark.root
def test_a_hook_user_who_can_not_reach_the_state_judges_nothing(tmp_path: Path) -> None:
    outer = Path("/var/tmp") / f"syncd-outer-{os.getpid()}"
    (outer / "state").mkdir(parents=True)
    outer.chmod(0o700)
    try:
        end = HookRunner(outer / "state", {}).validate(call("true", user="nobody"), [], deadline())
        assert (
            end.status is None
            and end.problem == f"nobody can't reach its files: {outer} does not let others through"
        ), end
        outer.chmod(0o701)
        assert (
            HookRunner(outer / "state", {})
            .validate(call("true", user="nobody"), [], deadline())
            .status
            == 0
        )
    finally:
        subprocess.run(["rm", "-rf", str(outer)], check=True)
