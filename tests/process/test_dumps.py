"""Nobody reads syncd's memory: no other process of its user, and no core file,
wherever the kernel sends it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import daemon
from tests.support.sync_env import SyncEnv, sync_env

USER = 41005
PATTERN = Path("/proc/sys/kernel/core_pattern")
PROBE = ': < "/proc/$1/mem" && echo readable'


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        yield made


def test_a_daemon_is_not_dumpable_from_its_start(hub: SyncEnv) -> None:
    """The kernel gives root what /proc shows of such a process. Source: proc(5)."""
    hub.write_config(every="1d")
    with daemon(hub) as running:
        running.says("2 written")
        owners = {
            os.stat(f"/proc/{running.process.pid}/{name}").st_uid
            for name in ("mem", "environ", "maps")
        }
        limits = Path(f"/proc/{running.process.pid}/limits").read_text()
        assert running.ends() == 0
    assert owners == {0}
    assert next(
        line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")
    ) == ["0", "0"]


def dumpable(code: str) -> str:
    program = f"import ctypes, subprocess, sys; from syncd.core_dumps import forbid_dumps; {code}"
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_process_gives_it_up_and_the_programs_that_it_runs_have_it_again() -> None:
    ask = "ctypes.CDLL(None).prctl(3)"  # PR_GET_DUMPABLE
    assert dumpable(f"print({ask})") == "1"
    assert dumpable(f"forbid_dumps(); print({ask})") == "0"
    assert (
        dumpable(
            'forbid_dumps(); print(subprocess.run([sys.executable, "-c", "import ctypes; '
            f'print({ask})"], capture_output=True, text=True).stdout)'
        )
        == "1"
    )


def test_a_system_without_prctl_is_no_reason_to_fail() -> None:
    assert dumpable('sys.modules["ctypes"] = None; forbid_dumps(); print("on")') == "on"


@pytest.mark.root
@pytest.mark.parametrize(
    ("protection", "said"),
    [("ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)", "readable"), ("forbid_dumps()", "")],
)
def test_another_process_of_the_same_user_can_not_read_the_memory(
    protection: str, said: str
) -> None:
    """Such as a program that a hook left behind.

    The first row shows that it could without the protection.
    """
    become = (
        f"os.setresgid({USER}, {USER}, {USER}); os.setresuid({USER}, {USER}, {USER}); "
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)"
    )
    program = (
        f"import ctypes, os, resource, sys; from syncd.core_dumps import forbid_dumps; {become}; "
        f"{protection}; print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        probe = subprocess.run(
            ["/bin/sh", "-c", PROBE, "sh", str(process.pid)],
            user=USER,
            group=USER,
            capture_output=True,
            text=True,
            check=False,
        )
        process.kill()
    assert probe.stdout.strip() == said, probe.stderr


@pytest.mark.root
def test_a_core_that_the_kernel_pipes_to_a_program_is_not_written(hub: SyncEnv) -> None:
    before = PATTERN.read_text()
    with tempfile.TemporaryDirectory(prefix="syncd-core-") as name:
        core, program = Path(name, "core"), Path(name, "take")
        program.write_text(f"#!/bin/sh\ncat > {core}\n")
        program.chmod(0o755)
        try:
            PATTERN.write_text(f"|{program} %p")
        except OSError as error:
            pytest.skip(f"the kernel's core pattern can't be set here: {error}")
        try:
            control = subprocess.Popen(
                [sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert control.stdout is not None and control.stdout.readline()
            control.send_signal(signal.SIGABRT)
            control.communicate()
            if not core.exists():
                pytest.skip("this kernel pipes no cores to programs of ours")
            core.unlink()
            hub.write_config(every="1d")
            with daemon(hub) as running:
                running.says("2 written")
                assert running.ends(signal.SIGABRT) == -signal.SIGABRT
            assert not core.exists()
        finally:
            PATTERN.write_text(before)
