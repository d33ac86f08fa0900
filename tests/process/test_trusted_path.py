"""Who may write what root obeys: each file of a configuration, owned and opened up in every way,
and the command that mends it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cli.main import run
from tests.support.daemon import daemon
from tests.support.sync_env import SyncEnv, sync_env
from tests.unit.config.test_config_secrets import PEM, TOKEN

pytestmark = pytest.mark.root

STRANGER, SERVICE = 41004, 1  # a number without a name; `daemon` is on every machine
CONFIG = (
    "version: 1\nstate: {base}/state\n"
    "web: {{listen: 127.0.0.1:0, password: {{file: {base}/keys/web.password}}, "
    "webhook: {{path: /hook, secret: {{file: {base}/keys/hook.secret}}}}}}\n"
    "github:\n"
    "  ops: {{app_id: 12345, private_key: {{file: {base}/keys/app.pem}}, "
    "ca_file: {base}/keys/ca.pem}}\n"
    "  bot: {{token: {{file: {base}/keys/bot.token}}}}\n"
)
JOBS = (
    "jobs: {{nginx: {{as: bot, repo: acme/infra, every: 5m, paths: [{{from: nginx/, to: "
    "{base}/dest/}}]}}}}\n"
)
NEVER = "and root uses nothing that another user may change"
SUBJECTS = (
    "etc",
    "etc/a.yaml",
    "etc/b.yaml",
    "keys/app.pem",
    "keys/bot.token",
    "keys/ca.pem",
    "keys/web.password",
    "keys/hook.secret",
)
SECRET = {"keys/app.pem", "keys/bot.token", "keys/web.password", "keys/hook.secret"}


@pytest.fixture(scope="module")
def authority() -> bytes:
    import trustme

    return bytes(trustme.CA().cert_pem.bytes())


@pytest.fixture
def base(authority: bytes) -> Iterator[Path]:
    """A folder of root's that all may enter, with a good configuration in `etc` and what it names
    in `keys`.
    """
    folder = Path(tempfile.mkdtemp(prefix="syncd-trust-"))
    folder.chmod(0o755)
    contents = {
        "etc/a.yaml": CONFIG.format(base=folder).encode(),
        "etc/b.yaml": JOBS.format(base=folder).encode(),
        "keys/app.pem": PEM,
        "keys/bot.token": TOKEN,
        "keys/ca.pem": authority,
        "keys/web.password": b"a long enough password\n",
        "keys/hook.secret": b"0123456789abcdef0123456789abcdef\n",
    }
    for name, content in contents.items():
        (folder / name).parent.mkdir(mode=0o755, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600 if name in SECRET else 0o644)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def said(base: Path, *line: str, config: str = "etc") -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(["-c", str(base / config), *line])
    return code, (out.getvalue() + err.getvalue()).replace(str(base), "BASE")


def change(base: Path, subject: str, how: str) -> None:
    path = base / subject
    if how == "owned by another":
        os.chown(path, STRANGER, 0)
    if how == "written by all":
        path.chmod(0o777 if path.is_dir() else 0o666)
    if how == "written by its group":
        path.chmod(0o775 if path.is_dir() else 0o620 if subject in SECRET else 0o664)
    if how == "in a folder of another":
        os.chown(path.parent, STRANGER, 0)
    if how == "in a folder for all":
        path.parent.chmod(0o777)
    if how == "in a sticky folder for all":
        path.parent.chmod(0o1777)
    if how == "a link of another's":
        kept = path.rename(path.with_name("kept"))
        path.symlink_to(kept)
        path.parent.chmod(0o1777)
        os.chown(path, STRANGER, 0, follow_symlinks=False)
    if how == "a link into a folder for all":
        (base / "open").mkdir()
        (base / "open").chmod(0o777)
        path.rename(base / "open" / path.name)
        path.symlink_to(base / "open" / path.name)
    if how == "a link to what is root's":
        kept = path.rename(base / "kept")
        path.symlink_to(kept)


GOOD: None = None
# what mends it; None where nothing is to be mended. PATH is the subject, FOLDER the folder it is in
TABLE: dict[str, str | None] = {
    "untouched": GOOD,
    "owned by another": "chown root: PATH",
    "written by all": "chmod go-w PATH",
    "written by its group": "chmod go-w PATH",
    "in a folder of another": "chown root: FOLDER",
    "in a folder for all": "chmod go-w FOLDER",
    "in a sticky folder for all": GOOD,
    "a link of another's": "chown -h root: PATH",
    "a link into a folder for all": "chmod go-w BASE/open",
    "a link to what is root's": GOOD,
}
# a secret's mode is judged for every user, with one command that ends all of it; a folder that is
# itself listed may not be open, sticky or not
ELSE: dict[tuple[str, str], str] = {
    **{(name, "written by all"): "chmod 600 PATH" for name in SECRET},
    **{(name, "written by its group"): "chmod 600 PATH" for name in SECRET},
    ("etc/a.yaml", "in a sticky folder for all"): "chmod go-w FOLDER",
    ("etc/b.yaml", "in a sticky folder for all"): "chmod go-w FOLDER",
}


@pytest.mark.parametrize("how", TABLE)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_root_obeys_only_what_nobody_else_may_write(base: Path, subject: str, how: str) -> None:
    mends = ELSE.get((subject, how), TABLE[how])
    change(base, subject, how)
    code, text = said(base, "check")
    if mends is None:
        assert (code, "chown" in text, "chmod" in text) == (0, False, False), text
        return
    path = f"BASE/{subject}"
    command = mends.replace("PATH", path).replace("FOLDER", os.path.dirname(path))
    assert code == 2 and command in text, text


def test_every_problem_is_named_at_once_each_with_its_place(base: Path) -> None:
    (base / "etc/b.yaml").chmod(0o664)
    os.chown(base / "etc/a.yaml", STRANGER, 0)
    os.chown(base / "keys/bot.token", STRANGER, 0)
    os.chown(base / "keys/ca.pem", STRANGER, 0)
    for command in ("check", "doctor", "sync"):
        code, text = said(base, command)
        assert code == 2
        assert [
            re.sub(r":(\d+):\d+:", r":\1:N:", line)
            for line in text.splitlines()
            if line.startswith("BASE")
        ] == [
            (
                f"BASE/etc/a.yaml: belongs to #{STRANGER} (mode 0644), {NEVER}; chown root: "
                "BASE/etc/a.yaml"
            ),
            (
                f"BASE/etc/a.yaml:5:N: github.ops.ca_file: BASE/keys/ca.pem belongs to #{STRANGER} "
                f"(mode 0644), {NEVER}; chown root: BASE/keys/ca.pem"
            ),
            (
                "BASE/etc/a.yaml:6:N: github.bot.token: BASE/keys/bot.token belongs to "
                f"#{STRANGER} (mode 0600), {NEVER}; chown root: BASE/keys/bot.token"
            ),
            (
                f"BASE/etc/b.yaml: can be written by group root (owner root, mode 0664), {NEVER}; "
                "chmod go-w BASE/etc/b.yaml"
            ),
        ], text


def test_another_name_for_a_folder_is_judged_as_the_folder_itself(base: Path) -> None:
    (base / "open").mkdir()
    (base / "open/x").mkdir()
    (base / "open").chmod(0o777)
    assert said(base, "check", config="open/x/../../etc")[0] == 2
    (base / "open").chmod(0o755)
    assert said(base, "check", config="open/x/../../etc")[0] == 0


def test_an_acl_entry_that_lets_another_user_write_counts(base: Path) -> None:
    entries = [
        (1, 6, 0xFFFFFFFF),
        (2, 6, STRANGER),
        (4, 4, 0xFFFFFFFF),
        (16, 6, 0xFFFFFFFF),
        (32, 4, 0xFFFFFFFF),
    ]  # acl(5): user, a named user, group, mask, other
    try:
        os.setxattr(
            base / "etc/a.yaml",
            "system.posix_acl_access",
            struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries),
        )
    except OSError as error:
        pytest.skip(f"this file system has no ACLs: {error}")
    code, text = said(base, "check")
    assert code == 2 and "chmod go-w BASE/etc/a.yaml" in text


def test_a_read_only_mount_may_show_files_of_other_users(base: Path) -> None:
    """As in a container: a ConfigMap is 0777 below,
    and an operator's key keeps its owner's number.
    """
    for path in (base / "etc", base / "etc/a.yaml", base / "keys/ca.pem"):
        os.chown(path, STRANGER, 0)
    (base / "etc").chmod(0o777)
    assert said(base, "check")[0] == 2
    script = (
        'set -e; mount --make-rprivate /; for d in etc keys; do mount --bind "$1/$d" "$1/$d"; '
        'mount -o remount,bind,ro "$1/$d"; done; shift; exec "$@"'
    )
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        script,
        "sh",
        str(base),
        *python("-c", str(base / "etc"), "check"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr


def python(*line: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "syncd", *line]


def test_a_configuration_from_a_pipe_or_an_open_file_is_read(base: Path) -> None:
    text = "".join((base / "etc" / name).read_text() for name in ("a.yaml", "b.yaml"))
    done = subprocess.run(
        python("-c", "/dev/stdin", "check"), input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (base / "whole.yaml").write_text(text)
    for mode, code in ((0o644, 0), (0o646, 2)):
        (base / "whole.yaml").chmod(mode)
        with open(base / "whole.yaml", "rb") as file:
            done = subprocess.run(
                python("-c", "/dev/stdin", "check"),
                stdin=file,
                capture_output=True,
                text=True,
                check=False,
            )
        assert done.returncode == code, done.stderr


def test_credentials_that_the_service_manager_put_down_are_read(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (base / "etc/a.yaml").read_text()
    (base / "etc/a.yaml").write_text(
        text.replace(f"{{file: {base}/keys/bot.token}}", "{credential: bot.token}")
    )
    os.chown(base / "keys", 0, 0)
    (base / "keys").chmod(0o500)
    (base / "keys/bot.token").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(base / "keys"))
    assert said(base, "check")[0] == 0


def test_root_may_look_with_the_files_of_the_user_whose_state_it_is(base: Path) -> None:
    for path in (
        base / "etc",
        *(base / "etc").iterdir(),
        base / "keys",
        *(base / "keys").iterdir(),
    ):
        os.chown(path, SERVICE, SERVICE)
    assert said(base, "check")[0] == 2
    (base / "state").mkdir(mode=0o700)
    os.chown(base / "state", SERVICE, SERVICE)
    assert said(base, "check")[0] == 0
    assert said(base, "plan", "--help")[0] == 0
    code, text = said(base, "sync")
    assert code == 1 and "belongs to daemon" in text, (
        "root runs no hook of another user's configuration"
    )
    os.chown(base / "state", STRANGER, 0)
    assert said(base, "check")[0] == 2


@pytest.fixture
def hub(base: Path) -> Iterator[SyncEnv]:
    with sync_env(base, as_app=False) as made:
        yield made


def test_no_hook_of_a_configuration_that_others_may_write_is_run(hub: SyncEnv) -> None:
    ran = hub.folder / "ran"
    hub.write_config(on_change=f"touch {ran}")
    hub.config.chmod(0o666)
    done = hub.sync()
    assert (done.code, ran.exists()) == (2, False) and f"chmod go-w {hub.config}" in done.err
    hub.config.chmod(0o644)
    assert (hub.sync().code, ran.exists()) == (0, True)


@pytest.mark.parametrize("what", ["config.yaml", "token"])
def test_a_run_with_nothing_to_do_is_refused_too(hub: SyncEnv, what: str) -> None:
    for _ in range(2):  # the second leaves the note for the nothing-to-do check
        assert hub.sync().code == 0
    line = python("-q", "-c", str(hub.config), "sync")
    assert subprocess.run(line, check=False).returncode == 0
    os.chown(hub.folder / what, STRANGER, 0)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and f"chown root: {hub.folder}/{what}" in done.stdout + done.stderr


def test_a_reload_of_a_configuration_that_others_may_write_is_refused_and_the_old_one_stays(
    hub: SyncEnv,
) -> None:
    hub.write_config(every="1s")
    with daemon(hub) as running:
        running.says("2 written")
        hub.config.chmod(0o666)
        running.send(signal.SIGHUP)
        assert f"chmod go-w {hub.config}" in running.says("not reloaded")["message"]
        hub.repo.commit({"nginx/nginx.conf": "two\n"})
        running.says("1 written")
        hub.config.chmod(0o644)
        running.send(signal.SIGHUP)
        running.says("reloaded: 0 jobs added, 0 removed, 0 changed, 1 untouched")
        assert running.ends() == 0
