"""What counts as syncd's own installation: whatever decides which code its next start runs."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from syncd.config.load import load_config
from syncd.config.program import this_program
from syncd.config.protected import Links, protected_paths
from syncd.wiring import AppContext, ConnectionOptions
from tests.support.clock import FakeClock
from tests.support.machine import machine

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """import json, sys
sys.path.append({root!r})
from syncd.config.program import this_program
found = this_program()
print(json.dumps([found.command, found.started_in, found.import_folders]))
"""


def test_the_package_the_interpreter_and_every_import_folder_belong_to_the_installation() -> None:
    found = this_program()
    assert found.package == str(ROOT / "syncd") and sys.executable in found.interpreters
    folders = {os.path.realpath(folder) for folder in found.import_folders}
    assert {
        os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")
    } <= folders
    assert {os.path.realpath(folder) for folder in site.getsitepackages()} <= folders, (
        "also those that do not exist yet"
    )
    assert found.environment == (sys.prefix if sys.prefix != sys.base_prefix else None)


def test_the_folder_of_the_console_script_is_where_modules_are_looked_for_first(
    tmp_path: Path,
) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/syncd"
    script.write_text(SCRIPT.format(root=str(ROOT)))
    said = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    command, started_in, folders = json.loads(said)
    assert (
        (command, started_in) == (str(script), str(tmp_path / "bin"))
        and str(ROOT) in folders
        and str(tmp_path / "bin") not in folders
    )


def test_a_module_beside_a_console_script_is_loaded_by_python(tmp_path: Path) -> None:
    """Why names of modules are protected there: this is Python's own doing,
    before any code of ours runs.
    """
    (tmp_path / "syncd").write_text("import re\n")
    (tmp_path / "re.py").write_text("print('hostile')\n")
    assert (
        subprocess.run(
            [sys.executable, str(tmp_path / "syncd")], capture_output=True, text=True, check=True
        ).stdout
        == "hostile\n"
    )


def test_each_link_on_the_way_is_named_and_a_ring_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "real")
    (tmp_path / "ring").symlink_to("ring")
    assert Links().resolve(f"{tmp_path}/one/../one//x") == [
        f"{tmp_path}/one",
        f"{tmp_path}/two",
        f"{tmp_path}/real/x",
    ]
    assert f"{tmp_path}/ring" in Links().resolve(f"{tmp_path}/ring/x")


def test_a_key_whose_link_moves_is_protected_within_a_minute_and_after_a_reload_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine(tmp_path, monkeypatch) as host:
        host.mirror("srv/")
        key = host.root / "etc/ssl/ghe.pem"
        config, clock = load_config(host.config, os.environ), FakeClock()
        app = AppContext.open(
            config, os.environ, options=ConnectionOptions(read_only=True), clock=clock
        )
        try:
            assert not app.protected().find(f"{host.root}/elsewhere/2.pem")
            key.unlink()
            key.symlink_to(host.root / "elsewhere/2.pem")
            clock.advance(61)
            assert app.protected().find(f"{host.root}/elsewhere/2.pem")
            key.unlink()
            key.symlink_to(host.root / "elsewhere/3.pem")
            app.replace_config(config)
            assert app.protected().find(f"{host.root}/elsewhere/3.pem")
        finally:
            app.close()


def test_what_is_found_first_on_the_search_path_is_protected_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine(tmp_path, monkeypatch) as host:
        host.mirror("srv/")
        protected = protected_paths(
            load_config(host.config, os.environ), {"PATH": "/opt/first:/opt/second:relative"}
        )
        assert [
            protected.find(path) is not None
            for path in ("/opt/first/syncd", "/opt/second/syncd", "/opt/first/other")
        ] == [True, True, False]
