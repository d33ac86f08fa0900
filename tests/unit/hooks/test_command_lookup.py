"""A hook's command is looked for as the hook would find it, and nothing is started."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from syncd.hooks import command_lookup
from syncd.hooks.command_lookup import find_missing_command
from syncd.models import Hook


def said(command: str, user: str | None = None) -> str | None:
    found = find_missing_command(Hook(command, (command, "x")), user)
    return found.text if found is not None else None


def program(place: Path, text: str, mode: int = 0o755) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(text.encode())
    place.chmod(mode)
    return place


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hooks' PATH is tmp/first:tmp/second for one test."""
    monkeypatch.setattr(command_lookup, "PATH", f"{tmp_path}/first:{tmp_path}/second")
    return tmp_path


def test_what_can_be_started_is_found(path: Path) -> None:
    program(path / "second/tool", "#!/bin/sh\n")
    program(path / "second/python", "#!/usr/bin/env -S sh -e\n")
    program(path / "first/other", "", mode=0o644)
    program(path / "second/other", "#!/bin/sh\n")
    program(path / "second/sh", "#!/bin/sh\n")
    (path / "second/link").symlink_to("tool")
    for command in ("tool", "python", "other", "link", f"{path}/second/tool", "/bin/sh", "bin/sh"):
        assert said(command) is None, command


def test_the_callers_own_path_is_not_the_hooks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path / "mine/tool", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{path}/mine")
    assert said("tool") == f"there is no command 'tool' in {path}/first:{path}/second"


def test_what_a_run_has_first_to_stage_or_brings_itself_is_not_looked_for() -> None:
    assert said("{staged}/usr/local/bin/check") is None
    assert find_missing_command(Hook("check json", checks=("json",)), None) is None
    assert find_missing_command(Hook("gone | x", ("/bin/sh", "-c", "gone | x"), True), None) is None


def test_what_can_not_be_started_is_named_for_what_it_is(path: Path) -> None:
    (path / "first/folder").mkdir(parents=True)
    program(path / "first/closed", "#!/bin/sh\n", mode=0o644)
    program(path / "first/plain", "echo ok\n")
    program(path / "first/empty", "")
    program(path / "first/windows", "#!/bin/sh\r\necho ok\r\n")
    program(path / "first/orphan", "#!/opt/gone/python3\n")
    program(path / "first/env", "#!/usr/bin/env gone3\n")
    program(path / "first/loop", f"#!{path}/first/loop\n")
    program(path / "first/relative", "#!python3\n")
    (path / "first/dangling").symlink_to("nowhere")
    os.mkfifo(path / "first/fifo", 0o755)
    first = path / "first"
    expected = {
        "gone": f"there is no command 'gone' in {path}/first:{path}/second",
        "/opt/gone": "there is no command /opt/gone",
        "gone/x": "there is no command /gone/x",
        f"{first}/closed/x": f"there is no command {first}/closed/x",
        "folder": f"{first}/folder is a folder, not a command",
        "fifo": f"{first}/fifo is no regular file, not a command",
        "closed": f"{first}/closed can't be executed",
        "plain": f"{first}/plain has no #! line, so only a shell can start it",
        "empty": f"{first}/empty has no #! line, so only a shell can start it",
        "windows": f"{first}/windows has Windows line ends",
        "orphan": f"the interpreter of {first}/orphan: there is no command /opt/gone/python3",
        "env": (
            f"the interpreter of {first}/env: there is no command 'gone3' in "
            f"{path}/first:{path}/second"
        ),
        "relative": f"{first}/relative names no program in its #! line",
        "dangling": f"{first}/dangling is a link that leads nowhere",
    }
    assert {command: said(command) for command in expected} == expected
    assert f"{first}/loop names no program in its #! line" in (said("loop") or "")


def test_a_user_that_this_machine_does_not_know_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert said("/bin/sh", "no-such-user") == "this machine knows no user no-such-user"


def test_who_is_not_root_looks_for_the_command_of_another_user_without_judging_its_rights(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    program(path / "first/tool", "#!/bin/sh\n", mode=0o710)
    assert said("tool", "nobody") is None
    assert said("gone", "nobody") == f"there is no command 'gone' in {path}/first:{path}/second"


@pytest.mark.root
def test_as_root_the_hooks_user_must_be_able_to_execute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        monkeypatch.setattr(command_lookup, "PATH", name)
        tool = program(folder / "tool", "#!/bin/sh\n")
        assert said("tool", "nobody") is None
        tool.chmod(0o700)
        assert said("tool", "nobody") == f"{name}/tool can't be executed by nobody"
        tool.chmod(0o755)
        folder.chmod(0o700)
        assert said("tool", "nobody") == f"{name}/tool can't be executed by nobody"
        assert said("tool") is None
