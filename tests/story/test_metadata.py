"""What comes with a folder or file: the setgid bit, ACLs,
`user.*` attributes and the security label.
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv

ACL = "system.posix_acl_access"
DEFAULT_ACL = "system.posix_acl_default"
NOBODY = 65534
NO_ID = 0xFFFFFFFF
LABEL = b"system_u:object_r:httpd_config_t:s0\0"


def acl(*entries: tuple[int, int, int]) -> bytes:
    """(tag, permissions, id) as in linux/posix_acl_xattr.h."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def acl_for_nobody(mask: int) -> bytes:
    """Owner rw, user nobody rw, group r, the mask, others r."""
    entries = (1, 6, NO_ID), (2, 6, NOBODY), (4, 4, NO_ID), (0x10, mask, NO_ID), (0x20, 4, NO_ID)
    return acl(*entries)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


@pytest.fixture(params=["files", "symlink"])
def site(hub: SyncEnv, request: pytest.FixtureRequest) -> SyncEnv:
    """Published below `dest/app/current`, synced once."""
    to = f"{hub.dest}/app/current/"
    hub.write_config(publish=request.param, paths=[{"from": "nginx/", "to": to}])
    assert hub.sync().code == 0
    return hub


def current(hub: SyncEnv) -> Path:
    return hub.dest / "app/current"


def change(hub: SyncEnv) -> None:
    """The content of nginx.conf; sites/a.conf stays, and is copied by `publish: symlink`."""
    hub.repo.commit({"nginx/nginx.conf": "changed\n"})
    done = hub.sync()
    assert done.code == 0 and (current(hub) / "nginx.conf").read_text() == "changed\n"


@pytest.mark.parametrize("name", ["nginx.conf", "sites/a.conf"])
def test_content_that_changes_keeps_user_attributes_and_the_acl(site: SyncEnv, name: str) -> None:
    path = current(site) / name
    os.setxattr(path, "user.note", b"by hand")
    os.setxattr(path, ACL, acl_for_nobody(4))
    before = attributes(path)
    change(site)
    assert attributes(path) == before and mode(path) == 0o644
    assert site.sync().job["status"] == "unchanged"


def test_a_mode_of_the_configuration_is_exact_and_is_the_mask_of_the_acl(site: SyncEnv) -> None:
    path = current(site) / "nginx.conf"
    os.setxattr(path, ACL, acl_for_nobody(4))
    site.write_config(mode="0660")
    change(site)
    assert mode(path) == 0o660
    entries = (1, 6, NO_ID), (2, 6, NOBODY), (4, 4, NO_ID), (0x10, 6, NO_ID), (0x20, 0, NO_ID)
    assert attributes(path)[ACL] == acl(*entries)


def test_an_edit_that_is_put_back_keeps_the_attributes(site: SyncEnv) -> None:
    path = current(site) / "nginx.conf"
    os.setxattr(path, "user.note", b"by hand")
    path.write_text("edited\n")
    assert site.sync().code == 0 and path.read_text() == "one\n"
    assert attributes(path) == {"user.note": b"by hand"}


def test_a_file_without_an_acl_does_not_get_that_of_its_folder_when_it_changes(
    site: SyncEnv,
) -> None:
    folder, path = current(site), current(site) / "nginx.conf"
    os.setxattr(folder, DEFAULT_ACL, acl_for_nobody(6))
    change(site)
    assert ACL not in attributes(path) and mode(path) == 0o644
    assert DEFAULT_ACL in attributes(current(site)), "a copied folder keeps its default ACL"


def test_a_copied_folder_keeps_its_attributes(site: SyncEnv) -> None:
    folder = current(site) / "sites"
    os.setxattr(folder, "user.note", b"by hand")
    os.setxattr(folder, DEFAULT_ACL, acl_for_nobody(6))
    before = attributes(folder)
    change(site)
    assert attributes(folder) == before and mode(folder) == 0o755


def test_an_attribute_that_can_not_be_carried_is_named_once(
    site: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.repo.commit({"nginx/other": "other\n"})
    assert site.sync().code == 0
    for name in ("nginx.conf", "other"):
        os.setxattr(current(site) / name, "user.note", b"by hand")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "setxattr", refuse)
    site.repo.commit({"nginx/nginx.conf": "2\n", "nginx/other": "2\n"})
    done = site.call("sync")
    said = [line for line in (done.out + done.err).splitlines() if "user.note" in line]
    assert done.code == 0 and len(said) == 1
    assert "and 1 more was not carried to the new file: No space left on device" in said[0]
    assert (current(site) / "other").read_text() == "2\n"


@pytest.mark.root
def test_the_security_label_is_carried_and_file_capabilities_are_named(site: SyncEnv) -> None:
    """A label where no policy is loaded: the kernel stores it and obeys none."""
    path, copied = current(site) / "nginx.conf", current(site) / "sites/a.conf"
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service=ep
    for one in (path, copied):
        os.setxattr(one, "security.selinux", LABEL)
    os.setxattr(path, "security.capability", capability)
    site.repo.commit({"nginx/nginx.conf": "changed\n"})
    done = site.call("sync")
    assert attributes(path) == {"security.selinux": LABEL} == attributes(copied)
    assert f"security.capability of {path} was not carried" in done.out + done.err


def test_new_folders_keep_an_inherited_setgid_bit(hub: SyncEnv) -> None:
    hub.dest.chmod(0o2755)
    hub.write_config(paths=[{"from": "nginx/", "to": f"{hub.dest}/deep/er/"}], dir_mode="0750")
    assert hub.sync().code == 0
    folders = [hub.dest / one for one in ("deep", "deep/er", "deep/er/sites")]
    assert [mode(one) for one in folders] == [0o2750, 0o2750, 0o2750]


def test_published_trees_keep_an_inherited_setgid_bit(hub: SyncEnv) -> None:
    hub.dest.chmod(0o2755)
    to = f"{hub.dest}/app/current/"
    hub.write_config(publish="symlink", paths=[{"from": "nginx/", "to": to}])
    assert hub.sync().code == 0
    change(hub)
    folders = [hub.dest / "app", current(hub), current(hub) / "sites"]
    assert [mode(one) for one in folders] == [0o2755, 0o2755, 0o2755]


def test_new_folders_keep_the_setgid_bit_where_a_unit_forbids_to_set_one(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.dest.chmod(0o2755)
    real = os.chmod

    def restricted(path: object, wanted: int) -> None:
        if wanted & 0o6000:
            raise PermissionError(1, "Operation not permitted")  # what RestrictSUIDSGID= answers
        real(path, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "chmod", restricted)
    before = os.umask(0o077)  # that of the units
    try:
        assert hub.sync().code == 0
    finally:
        os.umask(before)
    assert mode(hub.dest / "sites") == 0o2755


@pytest.mark.root
@pytest.mark.parametrize("publish", ["files", "symlink"])
def test_files_below_a_setgid_folder_get_its_group(hub: SyncEnv, publish: str) -> None:
    os.chown(hub.dest, 0, NOBODY)
    hub.dest.chmod(0o2755)
    to = f"{hub.dest}/app/current/"
    hub.write_config(publish=publish, paths=[{"from": "nginx/", "to": to}])
    assert hub.sync().code == 0
    change(hub)
    made = [current(hub), *current(hub).rglob("*")]
    assert {one.stat().st_gid for one in made} == {NOBODY} and len(made) == 4
    shutil.rmtree(hub.dest)
