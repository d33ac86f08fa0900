"""Folders above `to:` belong to whoever they belong to: root follows no link of theirs, and changes
nothing that they put in the way.
"""

from __future__ import annotations

import io
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import run
from syncd.errors import ConfigError, UnsafePathError
from syncd.safe_open import check_path_is_trusted, make_folders, open_folder, untrusted_link
from syncd.web.sockets import open_sockets
from tests.support.sync_env import SyncEnv, sync_env

NOBODY = 65534
pytestmark = pytest.mark.root


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        yield made


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A private folder of root's."""
    made = tmp_path / "victim"
    made.mkdir(mode=0o700)
    (made / "secret").write_text("x")
    return made


def folder(place: Path, owner: int = 0, mode: int = 0o755) -> Path:
    place.mkdir()
    place.chmod(mode)
    os.chown(place, owner, owner)
    return place


def link(place: Path, target: Path, owner: int) -> Path:
    place.symlink_to(target)
    os.chown(place, owner, owner, follow_symlinks=False)
    return place


def sync_to(hub: SyncEnv, to: Path, **job: Any) -> Any:
    hub.write_config(paths=[{"from": "nginx/", "to": f"{to}/"}], **job)
    return hub.sync()


def is_untouched(victim: Path) -> bool:
    return os.listdir(victim) == ["secret"] and stat.S_IMODE(victim.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("folder_owner", "folder_mode", "link_owner", "followed"),
    [
        (0, 0o755, 0, True),
        (0, 0o755, NOBODY, False),
        (0, 0o1777, 0, True),
        (0, 0o1777, NOBODY, False),
        (0, 0o777, 0, False),
        (NOBODY, 0o755, 0, False),
        (NOBODY, 0o755, NOBODY, False),
        (NOBODY, 0o1777, 0, False),
    ],
)
def test_root_follows_a_link_above_to_only_where_no_other_user_can_set_it(
    hub: SyncEnv, victim: Path, folder_owner: int, folder_mode: int, link_owner: int, followed: bool
) -> None:
    above = link(
        folder(hub.folder / "above", folder_owner, folder_mode) / "site", victim, link_owner
    )
    done = sync_to(hub, above / "new")
    if followed:
        assert done.code == 0, done.err
        assert (victim / "new/nginx.conf").read_text() == "one\n"
        return
    assert (done.code, done.job["error"]["kind"]) == (1, "mirror")
    assert f"{above} is a link to {victim}" in done.job["error"]["message"]
    assert ("nobody" in done.job["error"]["message"]) is (NOBODY in (folder_owner, link_owner))
    assert "chown" in done.job["error"]["hint"]
    above.unlink()  # the kernel may not follow it, also for what reads the folder after the test
    assert is_untouched(victim)


def test_a_root_link_in_a_folder_that_another_user_can_move_is_refused(
    hub: SyncEnv, victim: Path
) -> None:
    above = folder(folder(hub.folder / "home", NOBODY) / "backup")
    done = sync_to(hub, link(above / "etc", victim, 0) / "new")
    assert (
        done.job["error"]["kind"] == "mirror" and f"{hub.folder}/home" in done.job["error"]["hint"]
    )
    assert is_untouched(victim)


def test_doctor_names_a_link_above_to_that_root_does_not_follow(hub: SyncEnv, victim: Path) -> None:
    site = link(folder(hub.folder / "above", NOBODY) / "site", victim, NOBODY)
    hub.write_config(paths=[{"from": "nginx/", "to": f"{site}/new/"}])
    done = hub.call("doctor")
    assert done.code == 1
    assert f"{site} is a link to {victim} that belongs to nobody" in done.out


def swap_after_mkdir(monkeypatch: pytest.MonkeyPatch, name: str, swap: Callable[[], None]) -> None:
    """`swap` runs right after the folder `name` was made,
    as fast as a racing user could at best.
    """
    mkdir = os.mkdir

    def made(path: Any, *arguments: Any, **named: Any) -> None:
        mkdir(path, *arguments, **named)
        if os.path.basename(os.fsdecode(path)) == name:
            monkeypatch.setattr(os, "mkdir", mkdir)
            swap()

    monkeypatch.setattr(os, "mkdir", made)


@pytest.mark.parametrize("publish", ["files", "symlink"])
@pytest.mark.parametrize("what", ["link", "folder"])
def test_what_the_owner_of_the_parent_swaps_in_keeps_its_mode(
    hub: SyncEnv, victim: Path, monkeypatch: pytest.MonkeyPatch, what: str, publish: str
) -> None:
    above = folder(hub.folder / "above", NOBODY)
    moved = victim if what == "link" else above / "kept"
    if what == "folder":
        victim.rename(moved)

    def swap() -> None:
        (above / "new").rename(above / "aside")
        if what == "link":
            (above / "new").symlink_to(victim)
        else:
            moved.rename(above / "new")

    swap_after_mkdir(monkeypatch, "new", swap)
    done = sync_to(hub, above / "new/conf", publish=publish)
    assert done.code == 1 and done.job["error"]["kind"] == "mirror"
    assert (
        is_untouched(victim)
        if what == "link"
        else stat.S_IMODE((above / "new").stat().st_mode) == 0o700
    )


def test_an_empty_folder_above_to_is_removed_through_the_folder_that_holds_it(hub: SyncEnv) -> None:
    to = hub.folder / "above/new/conf"
    folder(hub.folder / "above", NOBODY)
    assert sync_to(hub, to).code == 0
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/"}])
    assert hub.sync().code == 0
    assert os.listdir(hub.folder / "above") == []


@pytest.mark.parametrize("mode", [0o777, 0o755])
def test_a_state_folder_that_another_user_can_replace_is_refused(hub: SyncEnv, mode: int) -> None:
    place = folder(hub.folder / "home", NOBODY if mode == 0o755 else 0, mode)
    hub.extra["state"] = str(place / "state")
    hub.write()
    done = hub.call("sync")
    assert (
        done.code == 1 and "another user can replace state" in done.err and "chmod go-w" in done.err
    )
    assert os.listdir(place) == []
    assert "another user can replace state" in hub.call("doctor").out


def test_a_link_loop_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        open_folder(tmp_path / "a/c")


def test_the_walk_goes_where_the_kernel_goes(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "real/up").symlink_to("../real/./inner")
    (tmp_path / "way").symlink_to(tmp_path / "real")
    for path in ("real", "way/up", "real/up", "way"):
        found = open_folder(tmp_path / path)
        assert os.path.samestat(os.fstat(found), os.stat(tmp_path / path))
        os.close(found)
    make_folders(tmp_path / "way/new/deep", 0o700)
    assert stat.S_IMODE((tmp_path / "real/new/deep").stat().st_mode) == 0o700
    check_path_is_trusted(tmp_path / "way/new/deep")
    assert untrusted_link(tmp_path / "way/new/deep") is None


def test_no_folder_is_made_behind_a_link(tmp_path: Path) -> None:
    home = folder(tmp_path / "home", NOBODY)
    link(home / "state", tmp_path / "elsewhere", NOBODY)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UnsafePathError, match="belongs to nobody"):
        make_folders(home / "state/deep", 0o700)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_init_makes_no_folder_behind_a_link_of_another_user(hub: SyncEnv, victim: Path) -> None:
    site = link(folder(hub.folder / "home", NOBODY) / "conf", victim, NOBODY)
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = run(["-c", f"{site}/new/config.yaml", "init"])
    assert code == 1 and f"{site} is a link to {victim} that belongs to nobody" in out.getvalue()
    assert is_untouched(victim)


def test_the_metrics_file_is_not_written_behind_a_link_of_another_user(
    hub: SyncEnv, victim: Path
) -> None:
    site = link(folder(hub.folder / "home", NOBODY) / "metrics", victim, NOBODY)
    done = hub.sync("--metrics-file", f"{site}/syncd.prom")
    assert f"{site} is a link to {victim} that belongs to nobody" in done.err
    assert is_untouched(victim)


def test_the_mode_of_a_socket_is_set_on_the_socket_alone(
    hub: SyncEnv, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, secret, bind = folder(hub.folder / "home", NOBODY), victim / "secret", socket.socket.bind
    secret.chmod(0o600)

    def swapped(self: socket.socket, address: Any) -> None:
        bind(self, address)
        (home / "web.sock.new").unlink()
        (home / "web.sock.new").symlink_to(secret)

    monkeypatch.setattr(socket.socket, "bind", swapped)
    with pytest.raises(ConfigError, match="replaced while it was made"):
        open_sockets(f"unix:{home}/web.sock", {}, True)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
