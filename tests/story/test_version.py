"""`syncd version --verbose` has what a bug report needs, whatever is broken, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd import __version__
from syncd.cli.common import bug_report
from syncd.mirror import mounts
from syncd.store.schema import VERSION
from tests.support.old_store import downgraded
from tests.support.sync_env import SyncEnv, signatures

NAMES = [
    "installed in",
    "Python",
    "SQLite",
    "OpenSSL",
    "libraries",
    "system",
    "user",
    "systemd",
    "locale",
    "time zones",
    "proxies",
    "configuration",
    "store",
    "state on",
    "destination on",
]


def facts(hub: SyncEnv, *arguments: str) -> dict[str, str]:
    """What is shown, by name; the first line is the version alone."""
    done = hub.call(*(arguments or ("version", "--verbose")))
    assert (done.code, done.err) == (0, "")
    first, *lines = done.out.splitlines()
    assert first == f"syncd {__version__}"
    column = len("destination on") if "destination on" in done.out else len("configuration")
    return {line[:column].rstrip(): line[column:].strip() for line in lines}


def test_version_alone_is_one_line(hub: SyncEnv) -> None:
    assert hub.call("version").out == f"syncd {__version__}\n"


@pytest.mark.parametrize("arguments", [("version", "--verbose"), ("-v", "version")])
def test_verbose_names_versions_store_and_file_systems(
    hub: SyncEnv, arguments: tuple[str, ...]
) -> None:
    assert hub.sync().code == 0
    shown = facts(hub, *arguments)
    assert list(shown) == NAMES
    assert shown["configuration"] == f"{hub.config}, 1 jobs, 1 identities"
    assert shown["store"] == f"{hub.state}/syncd.db, schema {VERSION} (this version's is {VERSION})"
    assert f"({hub.dest}, mounted at " in shown["destination on"]
    assert "requests 2." in shown["libraries"] and "unknown" not in "".join(shown.values())


def test_verbose_does_not_migrate_the_store(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    downgraded(hub.state)
    before = signatures(hub.state)
    assert facts(hub)["store"].endswith(f"syncd.db, schema 0004 (this version's is {VERSION})")
    assert signatures(hub.state) == before


def test_verbose_shows_proxies_without_names_and_passwords(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://alice:hunter2pass@proxy.corp:3128")
    monkeypatch.setenv("NO_PROXY", "bob:s3cretword@inner,10.0.0.0/8")
    done = hub.call("version", "--verbose").out
    assert "https http://proxy.corp:3128 with a login, not for inner 10.0.0.0/8" in done
    assert not [word for word in ("alice", "hunter2", "bob", "s3cret") if word in done]


def test_verbose_works_with_a_broken_configuration_and_shows_none_of_it(hub: SyncEnv) -> None:
    hub.config.write_text("version: 1\ngithub: {ops: {token: ghp_visible}}\njobs: {}\n")
    shown = facts(hub)
    assert shown["configuration"].startswith(f"{hub.config}, not usable: ")
    assert shown["configuration"].endswith("mistakes, see syncd check")
    assert "ghp_visible" not in str(shown)


def test_verbose_works_without_a_configuration(hub: SyncEnv) -> None:
    hub.config.unlink()
    assert facts(hub)["configuration"].startswith("there is no configuration at ")


def test_verbose_works_without_proc(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "none")
    assert facts(hub)["destination on"] == "unknown: No such file or directory"


def test_the_report_of_a_bug_names_the_command_that_says_the_rest() -> None:
    text = bug_report(ValueError("boom"))
    assert "ValueError: boom" in text and "`syncd version --verbose`" in text
