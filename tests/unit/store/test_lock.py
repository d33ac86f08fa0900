"""The job's lock: one holder, named to the others,
and gone with its process at that very moment.
"""

from __future__ import annotations

import fcntl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from syncd.errors import LockedError, StoreError
from syncd.store.lock import daemon_lock, daemon_runs, is_held, job_lock, lock_file

HOLD = (
    "import sys\nfrom pathlib import Path\nfrom syncd.store.lock import job_lock\n"
    "with job_lock(Path(sys.argv[1]), sys.argv[2]):\n print('held', flush=True)\n sys.stdin.read()"
)


def holder(state: Path, job: str = "nginx") -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(state), job], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    return process


def test_a_held_job_is_refused_at_once_and_its_holder_named(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        began = time.monotonic()
        with (
            pytest.raises(
                LockedError, match=f"another syncd .pid {process.pid}. is at work on nginx"
            ),
            job_lock(tmp_path, "nginx"),
        ):
            pytest.fail("it is held")
        assert time.monotonic() - began < 1
        process.communicate()
    with job_lock(tmp_path, "nginx"):
        pass


def test_a_holder_that_is_killed_costs_no_waiting(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        began = time.monotonic()
        with job_lock(tmp_path, "nginx"):
            assert time.monotonic() - began < 0.1


def test_two_threads_of_one_process_do_not_both_have_it(tmp_path: Path) -> None:
    refused = []

    def other() -> None:
        try:
            with job_lock(tmp_path, "nginx"):
                pass
        except LockedError as error:
            refused.append(error.exit_code)

    with job_lock(tmp_path, "nginx"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert refused == [11]


def test_other_jobs_are_other_locks(tmp_path: Path) -> None:
    with job_lock(tmp_path, "nginx"), job_lock(tmp_path, "apache"):
        pass


def test_the_lock_is_given_back_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a bug"), job_lock(tmp_path, "nginx"):
        raise ValueError("a bug")
    with job_lock(tmp_path, "nginx"):
        pass


@pytest.mark.parametrize(
    "job", ["nginx", "a-b_c.d", "../../escape", "a/b", "x" * 300, "日本", ".", "..", ""]
)
def test_whatever_a_job_is_called_its_lock_stays_in_the_lock_folder_and_is_private(
    tmp_path: Path, job: str
) -> None:
    with job_lock(tmp_path, job):
        (only,) = (tmp_path / "locks").iterdir()
        assert (
            only == lock_file(tmp_path, job)
            and stat.S_IMODE(only.stat().st_mode) == 0o600
            and stat.S_IMODE(only.parent.stat().st_mode) == 0o700
        )
    assert [one.name for one in tmp_path.iterdir()] == ["locks"]


def test_a_holder_that_the_kernel_does_not_tell_is_only_called_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.store.location.LOCKS", tmp_path / "nowhere")
    with (
        job_lock(tmp_path, "nginx"),
        pytest.raises(LockedError, match="another syncd is at work on nginx"),
        job_lock(tmp_path, "nginx"),
    ):
        pytest.fail("it is held")


def test_a_folder_that_cant_hold_locks_is_the_stores_trouble(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("a file")
    refused = pytest.raises(StoreError, match="the job nginx can't be locked")
    with refused, job_lock(tmp_path, "nginx"):
        pytest.fail("there is no lock")


def test_a_kernel_without_locks_is_the_stores_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nolck(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", nolck)
    with pytest.raises(StoreError, match="No locks available"), job_lock(tmp_path, "nginx"):
        pytest.fail("there is no lock")


def test_a_child_does_not_inherit_it(tmp_path: Path) -> None:
    with job_lock(tmp_path, "nginx"):
        child = subprocess.Popen(
            [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        )
        assert child.stdout is not None and child.stdout.readline() == b"\n"
    with job_lock(tmp_path, "nginx"):
        pass
    child.communicate()


def test_whether_it_is_held_is_seen_without_taking_it(tmp_path: Path) -> None:
    assert not is_held(tmp_path, "nginx"), "nobody ever held it"
    with holder(tmp_path) as process:
        assert is_held(tmp_path, "nginx") and not is_held(tmp_path, "apache")
        process.kill()
        process.wait()
        assert not is_held(tmp_path, "nginx")
    with job_lock(tmp_path, "nginx"):
        assert is_held(tmp_path, "nginx")
    assert not is_held(tmp_path, "nginx")


def test_without_proc_a_lock_is_found_by_trying_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.store.lock.LOCKS_OF_KERNEL", tmp_path / "nowhere")
    assert (is_held(tmp_path, "nginx"), daemon_runs(tmp_path)) == (False, False)
    with job_lock(tmp_path, "nginx"), daemon_lock(tmp_path):
        assert (is_held(tmp_path, "nginx"), daemon_runs(tmp_path)) == (True, True)
    assert (is_held(tmp_path, "nginx"), daemon_runs(tmp_path)) == (False, False)
