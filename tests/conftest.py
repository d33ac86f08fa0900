"""Fixtures that every suite may use, and a process that belongs to nobody:
no HOME's configuration, no proxies, no netrc.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from syncd import redaction
from tests import lanes
from tests.support.deep import clear
from tests.support.sync_env import SyncEnv, sync_env

settings.register_profile(
    "syncd",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
settings.load_profile("syncd")
HOMES = count()
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a job in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each test's HOME is made: pytest's own numbering reads all of its folder for each new
    one.
    """
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, _homes: Path) -> None:
    for name in (
        "SYNCD_CONFIG",
        "STATE_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "XDG_CONFIG_HOME",
        "XDG_STATE_HOME",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    home = _homes / str(next(HOMES))
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture(autouse=True, scope="module")
def _module_alone() -> Iterator[None]:
    """Forget the secrets of the module's tests after it, and what else they left behind.

    A process knows each secret to its end and searches every log line for all of them, and every
    run of a daemon searches all objects for rings: both would grow with the number of tests.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redaction, "_PROCESS", redaction.Redactor())
        yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def deep_tmp_path(tmp_path: Path) -> Iterator[Path]:
    """`tmp_path` for tests that nest folders deeply: pytest's own removal of it recurses."""
    yield tmp_path
    clear(tmp_path)


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: for days that pass in seconds, whose every record
    would wait for a disk that they say nothing of.
    """
    if not os.path.isdir("/dev/shm"):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="syncd-test-", dir="/dev/shm"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    """A stand with one App job over nginx/."""
    with sync_env(tmp_path) as made:
        yield made


LONGEST = (
    "tests/fault/test_root_lane.py",
    "tests/story/test_daemon_soak.py::test_a_day",
    "tests/fault/test_destination_machine.py",
)  # of the root lane


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under `--dist loadgroup` one process alone boots the machine of the systemd tests,
    and what rests for minutes begins first.

    Then come those that take longest, so that no process is left with one of them alone at the end.
    """
    for item in items:
        if item.get_closest_marker("systemd"):
            item.add_marker(pytest.mark.xdist_group("machine"))
    items.sort(key=_begins)


def _begins(item: pytest.Item) -> int:
    if any(mark.args == ("at rest",) for mark in item.iter_markers("xdist_group")):
        return 0
    return (
        next((1 for start in LONGEST if item.nodeid.startswith(start)), 2)
        if item.get_closest_marker("root")
        else 2
    )


def pytest_collection(session: pytest.Session) -> None:
    """Import a share of the test modules first, each process of pytest-xdist another one.

    To rewrite the assertions of all modules takes a process longer than anything else here, as long
    as no compiled file is there. So each process finds what the others have written.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker is None:
        return
    left_out = {Path(path).resolve() for path in session.config.getoption("ignore") or ()}
    modules = [
        ".".join(file.relative_to(lanes.TESTS.parent).with_suffix("").parts)
        for argument in session.config.args
        for file in _test_files(Path(argument.partition("::")[0]).resolve())
        if file.is_relative_to(lanes.TESTS) and file not in left_out
    ]
    for module in modules[int(worker["workerid"][2:]) :: worker["workercount"]]:
        with suppress(Exception, pytest.skip.Exception):  # raised again at its own collection
            importlib.import_module(module)


def _test_files(path: Path) -> list[Path]:
    return sorted(path.rglob("test_*.py")) if path.is_dir() else [path]


def pytest_collection_finish() -> None:
    """Six thousand tests are a million objects, which every search for rings would look through,
    and every child of a fault test copy.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """What is said here stands at the end of the run, in whichever process the test ran."""
    return lambda text: record_property("measured", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Here and not beside the tests: a process that leaves the tests to others loads no conftest
    below this one.

    What those made comes with their reports.
    """
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
    ]
    for name, title in (
        ("figures", "faults: points made, how the runs ended, what was violated"),
        ("measured", "measured"),
    ):
        lines = [
            str(value)
            for report in reports
            for kind, value in report.user_properties
            if kind == name
        ]
        if lines:
            terminalreporter.section(title)
            for line in lines:
                terminalreporter.write_line(line)
    if "SYNCD_LANE" in os.environ:
        terminalreporter.section("lanes")
        for line in lanes.table():
            terminalreporter.write_line(line)
