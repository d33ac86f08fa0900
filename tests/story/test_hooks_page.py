"""docs/hooks.md: each of its examples is run, with stand-ins for nginx,
systemctl and logger on the hooks' PATH.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.hooks import runner
from tests.support.sync_env import SyncEnv

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).parents[2] / "docs/hooks.md").read_text()
PROSE = " ".join(PAGE.split())
EXAMPLES = [
    yaml.safe_load(block)
    for block in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
]
NGINX, SHELLS, CHECKS, UNDO, USER = EXAMPLES


@pytest.fixture
def tools(hub: SyncEnv, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each tool writes down how it was called; it fails while a file of its name stands in the
    folder.
    """
    folder = hub.folder / "tools"
    folder.mkdir(mode=0o755)
    for name in ("nginx", "systemctl", "logger"):
        (folder / name).write_text(
            f'#!/bin/sh\necho "{name} $*" >> {folder}/log\n[ ! -e {folder}/{name}.fails ]\n'
        )
        (folder / name).chmod(0o755)
    monkeypatch.setattr(runner, "PATH", f"{folder}:{runner.PATH}")
    return folder


def called(tools: Path) -> list[str]:
    return (tools / "log").read_text().splitlines() if (tools / "log").exists() else []


def use(hub: SyncEnv, example: dict[str, Any]) -> None:
    """The example's keys on the stand's job, whose nginx/ goes to DEST/etc/nginx instead of
    /etc/nginx.
    """
    text = json.dumps(example).replace("/etc/nginx", f"{hub.dest}/etc/nginx")
    hub.write_config(
        paths=[{"from": "nginx/", "to": f"{hub.dest}/etc/nginx/"}],
        **{
            **dict.fromkeys(("validate", "on_change", "undo_on_failure", "hook_user")),
            **json.loads(text),
        },
    )


def test_the_first_example_validates_and_reloads(hub: SyncEnv, tools: Path) -> None:
    use(hub, NGINX)
    assert hub.sync().code == 0
    (asked, reloaded) = called(tools)
    assert (
        re.fullmatch(
            rf"nginx -t -c {hub.state}/staging/[^/]+/tree{hub.dest}/etc/nginx/nginx.conf", asked
        )
        and reloaded == "systemctl reload nginx"
    )
    assert hub.sync().code == 0 and len(called(tools)) == 2
    assert hub.call("plan").out.count("nginx -t") == 0
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert "nginx -t" in hub.call("plan").out and len(called(tools)) == 2
    (tools / "nginx.fails").touch()
    done = hub.sync()
    assert (done.code, done.job["status"], done.job["error"]["kind"]) == (1, "refused", "hook")
    assert hub.sync().code == 1 and len(called(tools)) == 3, "remembered"


def test_lists_and_shells(hub: SyncEnv, tools: Path) -> None:
    use(hub, SHELLS)
    assert hub.sync().code == 0 and called(tools) == ["systemctl reload nginx", "logger reloaded"]
    hub.repo.commit({"nginx/nginx.conf": ""})
    assert hub.sync().job["status"] == "refused", "test -s wants a file that is not empty"


def test_the_built_in_checks(hub: SyncEnv) -> None:
    use(hub, CHECKS)
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/broken.toml": "a = [\n"})
    done = hub.sync()
    assert (
        done.job["status"] == "refused"
        and f"{hub.dest}/etc/nginx/broken.toml: " in done.job["error"]["message"]
    )
    assert "They fail for files above 16 MiB, and for XML that declares entities." in PROSE


def test_undo_on_failure_and_the_pending_reload(hub: SyncEnv, tools: Path) -> None:
    use(hub, UNDO)
    assert hub.sync().code == 0
    (tools / "systemctl.fails").touch()
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert (
        hub.sync().job["status"] == "refused"
        and (hub.dest / "etc/nginx/nginx.conf").read_text() == "one\n"
    )
    said = hub.call("status")
    assert said.code == 3 and "on_change is pending" in said.out, (
        "it failed for the previous set too"
    )
    (tools / "systemctl.fails").unlink()
    hub.sync()
    assert "on_change is pending" not in hub.call("status").out


@pytest.mark.root
def test_a_hook_user(hub: SyncEnv, tools: Path, tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        os.chmod(folder, folder.stat().st_mode | 0o011)
    (tools / "log").touch(mode=0o666)
    (tools / "log").chmod(0o666)
    (tools / "systemctl").write_text(f"#!/bin/sh\nid -un >> {tools}/log\n")
    use(hub, {**USER, "validate": "cat {staged}/etc/nginx/nginx.conf"})
    done = hub.sync()
    assert done.code == 0, done.job["error"]
    assert called(tools) == ["nobody"] and hub.state.stat().st_mode & 0o777 == 0o711
    assert (hub.state / "syncd.db").stat().st_mode & 0o777 == 0o600 and (
        hub.state / "blobs"
    ).stat().st_mode & 0o777 == 0o700


def test_the_page_says_what_hooks_get(hub: SyncEnv, tools: Path) -> None:
    (tools / "systemctl").write_text(
        f'#!/bin/sh\nenv > {tools}/env\ncp "$SYNCD_CHANGES" {tools}/changes\n'
    )
    use(hub, NGINX)
    assert hub.sync().code == 0
    names = {line.partition("=")[0] for line in (tools / "env").read_text().splitlines()} - {
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    }
    assert all(f"`{name}`" in PAGE for name in names), names
    passed_on = (*runner.PASSED_VARIABLES, *runner.SAME_USER_VARIABLES)
    assert all(f"`{name}`" in PAGE for name in passed_on)
    shown = json.loads(re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])
    told = json.loads((tools / "changes").read_text())
    assert (
        told["schema"],
        list(told),
        list(told["jobs"][0]),
        list(told["jobs"][0]["changes"][0]),
    ) == (
        shown["schema"],
        list(shown),
        list(shown["jobs"][0]),
        list(shown["jobs"][0]["changes"][0]),
    )


def test_the_pages_numbers_are_the_programs() -> None:
    assert (
        f"`{'/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}`" in PAGE
        and runner.PATH.endswith("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    )
    assert runner.GRACE_SECONDS == 3.0 and "three seconds later SIGKILL" in PROSE
    assert runner.OUTPUT_BYTES == 64 << 10 and "the last 64 KiB" in PROSE
