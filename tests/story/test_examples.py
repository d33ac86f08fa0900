"""The configurations of docs/examples, each checked as it is and run below a folder of the test."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from syncd.simulator.repository import Node
from tests.support.examples import EXAMPLES, MovedExample, moved_example
from tests.support.fast_clock import PassingClock
from tests.support.http_receiver import Receiver, receiving
from tests.support.signing import SshKey
from tests.support.sync_env import SyncEnv

pytestmark = pytest.mark.docs

SSHD_FOLDER = Path("/run/sshd")  # made by ssh.service; `sshd -t` wants it too


@dataclass(frozen=True)
class Example:
    """What one example does: a change that arrives at `to`, and a commit that it rejects."""

    name: str
    change: dict[str, Node]
    to: str
    bad: dict[str, Node]
    says: str
    reload: str | None = None
    config: str = "config.yaml"
    needs: tuple[str, ...] = field(default=())
    as_root: bool = False

    def __str__(self) -> str:
        return f"{self.name}/{self.config}"


RULE = "groups: [{name: web, rules: [{alert: WebDown, expr: '%s'}]}]\n"
SERVER = "server { listen 127.0.0.1:8080; location / { return 200 'two'; } }\n"
TABLE = [
    Example(
        "nginx",
        {"nginx/conf.d/site.conf": SERVER},
        "/etc/nginx/conf.d/site.conf",
        {"nginx/conf.d/site.conf": "server { loccation / {} }\n"},
        "unknown directive",
        "systemctl reload nginx",
        needs=("nginx",),
        as_root=True,
    ),
    Example(
        "sshd",
        {"sshd/50-acme.conf": "PasswordAuthentication no\n"},
        "/etc/ssh/sshd_config.d/50-acme.conf",
        {"sshd/50-acme.conf": "PaswordAuthentication no\n"},
        "Bad configuration option",
        "systemctl reload ssh",
        needs=("sshd",),
        as_root=True,
    ),
    Example(
        "prometheus",
        {"rules/web.yml": RULE % "up == 0"},
        "/etc/prometheus/rules/web.yml",
        {"rules/web.yml": RULE % "up =="},
        "parse error",
        "systemctl reload prometheus",
        needs=("promtool",),
    ),
    Example(
        "cron",
        {"cron/backup": "0 4 * * * backup /usr/local/bin/backup\n"},
        "/etc/cron.d/backup",
        {"cron/backup": "0 4 * * backup\n"},
        "0 4 * * backup",
    ),
    Example(
        "sudoers",
        {"sudoers/operators": "%operators ALL=(root) /usr/bin/systemctl reload nginx.service\n"},
        "/etc/sudoers.d/operators",
        {"sudoers/operators": "%operators ALL=(root /usr/bin/systemctl\n"},
        "syntax error",
        needs=("visudo",),
    ),
    Example(
        "application",
        {"app/settings.json": '{"port": 9000}\n'},
        "/srv/application/current/settings.json",
        {"app/settings.json": '{"port": 9000\n'},
        "/srv/application/current/settings.json",
        "systemctl try-restart application",
    ),
    Example(
        "servers",
        {"hosts/web01/host.yaml": "name: changed\n"},
        "/etc/acme/own/host.yaml",
        {"hosts/web01/host.yaml": "name: [\n"},
        "/etc/acme/own/host.yaml",
        config="web01",
    ),
    Example(
        "servers",
        {"shared/network.yaml": "resolver: 192.0.2.54\n"},
        "/etc/acme/shared/network.yaml",
        {"shared/network.yaml": "resolver: [\n"},
        "/etc/acme/shared/network.yaml",
        config="web02",
    ),
    Example(
        "enterprise",
        {"settings/logging.yaml": "level: debug\n"},
        "/etc/acme/logging.yaml",
        {"settings/logging.yaml": "level: ]\n"},
        "/etc/acme/logging.yaml",
    ),
]


SHOP = 'listen = "127.0.0.1:8080"\nworkers = %s\n'
CAREFUL = Example(
    "careful",
    {"shop/shop.toml": SHOP % 8},
    "/etc/shop/shop.toml",
    {"shop/shop.toml": SHOP % 0},
    "commit {bad} is not healthy, and commit {good} was put back",
    "systemctl reload shop",
    needs=("curl",),
)
ALL = [*TABLE, CAREFUL]


@contextmanager
def running(example: Example, folder: Path) -> Iterator[MovedExample]:
    """The example, if its validator can run here; else the test is skipped with the reason."""
    where = os.pathsep.join((os.environ["PATH"], "/usr/sbin", "/sbin"))
    for command in example.needs:
        if shutil.which(command, path=where) is None:
            pytest.skip(f"{command} is not installed")
    if example.as_root and os.geteuid() != 0:
        pytest.skip(f"{example.needs[0]} reads files of root")
    made = example.name == "sshd" and not SSHD_FOLDER.exists()
    if made:
        SSHD_FOLDER.mkdir(0o755)
    try:
        with moved_example(folder, example.name, f"{example.name}/{example.config}") as moved:
            yield moved
    finally:
        if made:
            SSHD_FOLDER.rmdir()


@pytest.mark.parametrize("example", TABLE, ids=str)
def test_a_change_arrives_and_a_bad_commit_is_rejected(example: Example, tmp_path: Path) -> None:
    with running(example, tmp_path) as moved:
        first = moved.sync()
        assert first.code == 0, first.out + first.err
        assert moved.path(example.to).is_file()

        [content] = example.change.values()
        moved.commit(example.change)
        assert moved.sync().code == 0
        assert moved.path(example.to).read_text() == content

        moved.commit(example.bad)
        refused = moved.sync()
        [error] = [job["error"] for job in refused.json["jobs"] if job["error"] is not None]
        assert (error["kind"], error["id"]) == ("hook", "hook/commit-rejected")
        assert example.says in error["message"] + refused.err
        assert moved.path(example.to).read_text() == content

        reloads = moved.reloads.read_text().splitlines() if moved.reloads.exists() else []
        assert reloads == ([example.reload] * 2 if example.reload else [])


class Shop(ThreadingHTTPServer):
    """The service of the example `careful`: it works while its live file has a worker."""

    daemon_threads = True

    def __init__(self, file: Path) -> None:
        super().__init__(("127.0.0.1", 0), ShopHandler)
        self.file, self.url = file, f"http://127.0.0.1:{self.server_address[1]}"


class ShopHandler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        works = tomllib.loads(self.server.file.read_text())["workers"] > 0
        self.send_response(200 if works and self.path == "/healthz" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@dataclass
class CarefulRun:
    """The example `careful` on a Monday at 13:00 in Berlin, with its service and its chat."""

    moved: MovedExample
    clock: PassingClock
    chat: Receiver

    @property
    def live(self) -> str:
        return self.moved.path(CAREFUL.to).read_text()

    @property
    def reloads(self) -> int:
        lines = self.moved.reloads.read_text().splitlines()
        assert set(lines) == {CAREFUL.reload}
        return len(lines)


@pytest.fixture
def careful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CarefulRun]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    clock = PassingClock()
    monkeypatch.setattr("syncd.wiring.app_context.SystemClock", lambda: clock)
    shop = Shop(tmp_path / "root/etc/shop/shop.toml")
    serving = threading.Thread(target=shop.serve_forever, daemon=True)
    serving.start()
    try:
        with (
            receiving() as chat,
            moved_example(tmp_path, "careful", "careful/config.yaml", shop.url) as moved,
        ):
            monkeypatch.setenv("HOOK_URL", chat.url)
            moved.env.github._real_now = lambda: clock.now().timestamp()
            yield CarefulRun(moved, clock, chat)
    finally:
        shop.shutdown()
        shop.server_close()
        serving.join()


def test_careful_applies_a_change_in_its_window_and_takes_an_unhealthy_one_back(
    careful: CarefulRun,
) -> None:
    began = careful.clock.monotonic()
    first = careful.moved.sync()
    assert (first.code, first.job["status"]) == (0, "changed"), first.out + first.err
    careful.moved.commit(CAREFUL.change)
    arrived = careful.moved.sync()
    assert (arrived.code, careful.live) == (0, SHOP % 8)
    assert "healthy: 24 checks passed in 120 s" in arrived.job["notes"]
    assert careful.reloads == 2 and careful.clock.monotonic() - began >= 300 + 120
    good = arrived.job["commit"]

    careful.moved.commit(CAREFUL.bad)
    back = careful.moved.sync()
    error = back.job["error"]
    assert (back.code, error["kind"], error["id"]) == (1, "hook", "hook/not-healthy")
    assert CAREFUL.says.format(bad=back.job["commit"][:7], good=good[:7]) in error["message"]
    assert careful.live == SHOP % 8
    assert careful.reloads == 4, "for the bad set, and for the previous one"
    assert [event for _, event in careful.chat.events] == ["changed", "changed", "rolled_back"]


@pytest.mark.parametrize(
    ("hours", "until"),
    [(3, "2026-11-24T08:00:00Z"), (26 * 24, "2027-01-07T08:00:00Z: freeze: holidays")],
    ids=["in the evening", "in the freeze"],
)
def test_careful_lets_a_commit_wait_until_its_operator_types_now(
    careful: CarefulRun, hours: int, until: str
) -> None:
    assert careful.moved.sync().code == 0
    careful.clock.advance(hours * 3600)
    careful.moved.commit(CAREFUL.change)
    waiting = careful.moved.sync()
    assert (waiting.code, waiting.job["status"], careful.live) == (0, "waiting", SHOP % 4)
    assert until in careful.moved.call("status").out
    assert careful.moved.sync("shop", "--now").code == 0
    assert careful.live == SHOP % 8
    assert [event for _, event in careful.chat.events] == ["changed", "waiting", "changed"]


def test_the_signers_that_careful_has_in_a_comment_are_valid(hub: SyncEnv) -> None:
    text = (EXAMPLES / "careful/config.yaml").read_text()
    assert text.count("# require: {signed_by: /etc/syncd/allowed_signers, ") == 1
    signers = hub.folder / "allowed_signers"
    signers.write_text(SshKey().line())
    signers.chmod(0o644)
    text = text.replace("# require:", "require:").replace(
        "/etc/syncd/allowed_signers", f"{signers}"
    )
    hub.config.write_text(text)
    checked = hub.call("check", "--without-secrets")
    assert (checked.code, checked.err) == (0, ""), checked.err


@pytest.mark.parametrize("example", ALL, ids=str)
def test_each_configuration_is_valid_as_it_is(example: Example, hub: SyncEnv) -> None:
    config = EXAMPLES / example.name / example.config
    checked = hub.call("-c", str(config), "check", "--without-secrets")
    assert (checked.code, checked.err) == (0, ""), checked.err


def test_cron_and_sudoers_get_the_modes_that_these_programs_want(tmp_path: Path) -> None:
    for name, place, mode in (
        ("cron", "/etc/cron.d/backup", 0o644),
        ("sudoers", "/etc/sudoers.d/operators", 0o440),
    ):
        [example] = [one for one in TABLE if one.name == name]
        (tmp_path / name).mkdir()
        with running(example, tmp_path / name) as moved:
            found = moved.path(place)
            before = os.umask(0)
            try:
                assert moved.sync().code == 0
            finally:
                os.umask(before)
            assert stat.S_IMODE(found.stat().st_mode) == mode
            assert found.stat().st_uid == os.geteuid()
            found.chmod(0o664)  # cron ignores a file that its group may write
            assert moved.sync().code == 0
            assert stat.S_IMODE(found.stat().st_mode) == mode


def test_a_name_that_cron_and_sudo_ignore_is_not_mirrored(tmp_path: Path) -> None:
    [example] = [one for one in TABLE if one.name == "cron"]
    with running(example, tmp_path) as moved:
        moved.sync()
        assert [path.name for path in moved.path("/etc/cron.d").iterdir()] == ["backup"]


def test_the_application_is_published_whole_and_keeps_its_executable_bit(tmp_path: Path) -> None:
    [example] = [one for one in TABLE if one.name == "application"]
    with running(example, tmp_path) as moved:
        moved.sync()
        current = moved.path("/srv/application/current")
        first = current.readlink()
        assert (current / "bin/serve").stat().st_mode & 0o111
        moved.commit(example.change)
        moved.sync()
        assert current.readlink() != first and (current.parent / first).is_dir()


def test_every_server_has_the_same_common_part_and_its_own_files(tmp_path: Path) -> None:
    parts = [
        (EXAMPLES / f"servers/{name}/10-common.yaml").read_text() for name in ("web01", "web02")
    ]
    assert parts[0] == parts[1]
    for name in ("web01", "web02"):
        (tmp_path / name).mkdir()
        with moved_example(tmp_path / name, "servers", f"servers/{name}") as moved:
            assert moved.sync().code == 0
            assert moved.path("/etc/acme/own/host.yaml").read_text() == f"name: {name}\n"
            assert moved.path("/etc/acme/shared/network.yaml").is_file()


def test_the_index_names_each_example_and_the_reverse() -> None:
    index = (EXAMPLES / "README.md").read_text()
    folders = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    assert set(re.findall(r"\]\((\w+)/README\.md\)", index)) == folders
    assert {one.name for one in ALL} == folders - {"privileges", "python"}
    assert all((EXAMPLES / name / "README.md").is_file() for name in folders)


@pytest.mark.parametrize("name", ["polkit.yaml", "sudo.yaml", "hook-user.yaml"])
def test_each_configuration_of_the_privileges_is_valid(name: str, hub: SyncEnv) -> None:
    config = EXAMPLES / "privileges" / name
    checked = hub.call("-c", str(config), "check", "--without-secrets")
    assert (checked.code, checked.err) == (0, ""), checked.err


def test_the_line_of_sudoers_is_valid() -> None:
    visudo = shutil.which("visudo", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if visudo is None:
        pytest.skip("visudo is not installed")
    checked = subprocess.run(
        [visudo, "-c", "-f", str(EXAMPLES / "privileges/syncd-reload-nginx")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_polkit_rule_sudoers_line_and_hook_allow_the_same_unit_and_verb() -> None:
    folder = EXAMPLES / "privileges"
    rule = (folder / "50-syncd-reload-nginx.rules").read_text()
    assert re.findall(r'lookup\("(\w+)"\) == "([\w.]+)"', rule) == [
        ("unit", "nginx.service"),
        ("verb", "reload"),
    ]
    assert 'subject.user == "syncd"' in rule
    for name in ("syncd-reload-nginx", "reload-nginx", "sudo.yaml", "hook-user.yaml"):
        assert "reload nginx.service" in (folder / name).read_text(), name
