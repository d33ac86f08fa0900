"""The listener over real sockets: what each path says, to whom, and what it never says."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.config.model import Web as WebConfig
from syncd.errors import ConfigError, StoreError
from syncd.identities import SecretRef
from syncd.models import CommitSummary
from syncd.status import ProcessStats, StatusSnapshot
from syncd.store.store import SqliteStore
from syncd.web import views
from syncd.web.ports import StatusSource
from syncd.web.server import MAX_REQUEST_BODY_BYTES, Web
from tests.support.metrics import samples
from tests.support.secret_scan import overheard
from tests.support.status_board import AT, FixedBoard, StoreBoard, board_of
from tests.support.sync_env import SyncEnv, sync_env

PASSWORD = "correct horse battery"
PATHS = ("/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/static/syncd.css")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)


class Answer:
    def __init__(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None,
    ) -> None:
        connection.request(method, path, body=body, headers=headers)
        raw = connection.getresponse()
        self.status, self.headers, self.text = (
            raw.status,
            {name.lower(): value for name, value in raw.getheaders()},
            raw.read().decode(),
        )
        overheard(f"the page {path}", self.text)
        connection.close()


def ask(
    web: Web,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    password: str | None = None,
    **headers: str,
) -> Answer:
    """One request over a connection of its own; `Host` and friends as keywords."""
    name = web.names[0]
    connection = (
        UnixConnection(name.removeprefix("unix:"))
        if name.startswith("unix:")
        else http.client.HTTPConnection(name.removeprefix("http://").rstrip("/"), timeout=20)
    )
    if password is not None:
        headers["Authorization"] = (
            "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()
        )
    return Answer(connection, method, path, headers, body)


@contextmanager
def listening(
    board: StatusSource,
    listen: str = "127.0.0.1:0",
    password: SecretRef | None = None,
    environ: dict[str, str] | None = None,
    show_diffs: bool = False,
) -> Iterator[Web]:
    web = Web(WebConfig(listen, password, show_diffs), board, environ or {})
    try:
        yield web
    finally:
        web.close()


@pytest.fixture(autouse=True)
def shared_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request sees what was changed just before it."""
    monkeypatch.setattr(views, "MAX_CACHE_SECONDS", 0.0)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, as_app=False) as made:
        yield made


@pytest.fixture
def plain() -> FixedBoard:
    """For what does not depend on how jobs stand."""
    return FixedBoard()


@pytest.fixture
def board(hub: SyncEnv) -> StoreBoard:
    assert hub.sync().code == 0
    return board_of(hub)


# --- what it says ---------------------------------------------------------------------------------


def test_the_status_object_is_the_one_that_the_command_prints(
    hub: SyncEnv, board: StoreBoard
) -> None:
    with listening(board) as web:
        found = ask(web, "/api/v1/status")
    assert found.status == 200 and found.headers["content-type"] == "application/json"
    assert json.loads(found.text) == hub.call("status", "--json").json
    assert found.text.startswith('{"schema": "syncd.status/1"')


def test_ready_says_which_job_is_stale_and_why_and_is_ready_again_after_a_success(
    hub: SyncEnv, board: StoreBoard
) -> None:
    with listening(board) as web:
        assert (ask(web, "/readyz").status, ask(web, "/readyz").text) == (200, "ready\n")
        board.now = datetime.now(UTC) + timedelta(minutes=16)
        late = ask(web, "/readyz")
        assert late.status == 503
        assert late.text.splitlines()[0] == "not ready" and late.text.splitlines()[1].startswith(
            "nginx: last success 16m ago, which is more than 3 intervals (every 5m)"
        )
        assert ask(web, "/healthz").status == 200, "a stale job is no reason to be killed"
        board.now = None
        assert hub.sync().code == 0 and ask(web, "/readyz").status == 200


def test_a_daemon_that_does_not_move_is_not_called_alive(board: StoreBoard) -> None:
    with listening(board) as web:
        assert (ask(web, "/healthz").status, ask(web, "/healthz").text) == (200, "alive\n")
        board.stuck = "the clock has not ticked for 90 s"
        assert (ask(web, "/healthz").status, ask(web, "/healthz").text) == (
            503,
            "frozen: the clock has not ticked for 90 s\n",
        )


def test_metrics_come_in_prometheus_own_content_type(board: StoreBoard) -> None:
    board.process = ProcessStats(datetime.now(UTC), runs={("nginx", "changed"): 2})
    with listening(board) as web:
        found = ask(web, "/metrics")
    assert (
        found.status == 200
        and found.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    )
    shown = samples(found.text)
    assert shown['syncd_job_runs_total{job="nginx",outcome="changed"}'] == 2
    assert shown['syncd_job_files{job="nginx"}'] == 2


def test_the_page_says_the_truth_in_its_first_sentence(hub: SyncEnv, board: StoreBoard) -> None:
    with listening(board) as web:
        assert "<h1>The job is in sync " in ask(web, "/").text
        (hub.dest / "nginx.conf").write_text("edited\n")
        hub.write_config(drift="report")
        assert hub.sync().code == 0
        drifted = ask(web, "/").text
        assert (
            "<h1>1 of 1 job has drifted " in drifted
            and "1 file or folder differs from what was mirrored" in drifted
            and '<code class="command">syncd plan nginx --diff</code>' in drifted
        )
        hub.github.repos.clear()
        assert hub.sync().code == 4
        assert "<h1>1 of 1 job is failing " in ask(web, "/").text


def test_the_page_shows_the_last_run_and_lines_only_where_asked_for_and_readable_by_all(
    hub: SyncEnv,
) -> None:
    hub.write_config(
        paths=[
            {"from": "nginx/", "to": f"{hub.dest}/"},
            {"from": "secret.conf", "to": f"{hub.dest}/secret.conf", "mode": "0600"},
        ]
    )
    hub.repo.commit({"secret.conf": "password one\n"}, "x")
    assert hub.sync().code == 0
    hub.repo.commit(
        {
            "nginx/nginx.conf": "<b>two</b>\n",
            "secret.conf": "password two\n",
            "nginx/binary": b"\0\1",
        },
        "x",
    )
    assert hub.sync().code == 0
    board = board_of(hub)
    with listening(board) as web:
        plain = ask(web, "/").text.replace("<wbr>", "")
    assert f"{hub.dest}/nginx.conf" in plain and "3 files" in plain and "two" not in plain
    web = Web(WebConfig("127.0.0.1:0", show_diffs=True), board, {})
    try:
        shown = ask(web, "/").text.replace("<wbr>", "")
    finally:
        web.close()
    assert (
        '<span class="added">+&lt;b&gt;two&lt;/b&gt;\n</span>' in shown
        and '<span class="gone">-one\n</span>' in shown
    )
    assert (
        "password" not in shown
        and f"{hub.dest}/secret.conf</span> <small>(not every user may read it)</small>" in shown
        and "(binary or large)" in shown
    )


def test_a_file_too_long_for_the_page_is_named_with_its_number_of_lines(hub: SyncEnv) -> None:
    hub.repo.commit(
        {
            f"nginx/{number}.conf": "".join(f"line {line}\n" for line in range(900))
            for number in range(60)
        },
        "x",
    )
    assert hub.sync().code == 0
    runs = board_of(hub).recent_runs(show_diffs=True)
    assert [len(run.changes) for run in runs] == [50] and runs[0].more == 12
    assert sum(
        len(change.lines) for change in runs[0].changes
    ) <= 2000 and "901 lines, too many for this page" in {
        change.why_none for change in runs[0].changes
    }


def test_what_a_repository_or_a_hook_says_is_text_and_never_markup(hub: SyncEnv) -> None:
    hub.write_config(validate={"shell": "echo '<script>alert(1)</script>' >&2; exit 1"})
    assert hub.sync().code == 1
    with listening(board_of(hub)) as web:
        found = ask(web, "/").text
    assert "&lt;script&gt;alert(1)" in found and "<script>" not in found


def test_the_overview_names_the_host_the_reason_and_the_command_to_copy(hub: SyncEnv) -> None:
    hub.write_config(validate={"shell": "echo broken >&2; exit 1"})
    assert hub.sync().code == 1
    with listening(board_of(hub)) as web:
        found = ask(web, "/").text
    host = socket.gethostname()
    assert f"<title>1 of 1 job is failing · {host} · syncd</title>" in found
    assert f'<span class="host">{host}</span></span></h1>' in found
    assert "broken" in found
    assert '<p class="remedy">' in found


def test_a_page_that_did_not_change_is_304_and_a_changed_one_is_sent(
    hub: SyncEnv, board: StoreBoard
) -> None:
    board.now = datetime.now(UTC)
    with listening(board) as web:
        etag = ask(web, "/").headers["etag"]
        board.now += timedelta(milliseconds=1)
        same = ask(web, "/", **{"If-None-Match": etag})
        assert (same.status, same.text, same.headers["etag"]) == (304, "", etag)
        assert ask(web, "/?q=x", **{"If-None-Match": etag}).status == 200
        hub.call("pause", "nginx")
        changed = ask(web, "/", **{"If-None-Match": etag})
    assert changed.status == 200 and changed.headers["etag"] != etag
    assert "1 of 1 job is paused" in changed.text


def test_the_page_of_a_job_has_its_commands_runs_and_a_plot_and_a_run_its_diff(
    hub: SyncEnv,
) -> None:
    assert hub.sync().code == 0
    hub.repo.commit({"nginx/nginx.conf": "<b>two</b>\n"}, "x")
    assert hub.sync().code == 0
    web = Web(WebConfig("127.0.0.1:0", show_diffs=True), board_of(hub), {})
    try:
        overview, page = ask(web, "/").text, ask(web, "/jobs/nginx")
        number = max(int(one) for one in re.findall(r'href="/runs/(\d+)"', page.text))
        run = ask(web, f"/runs/{number}").text.replace("<wbr>", "")
        missing = [ask(web, path).status for path in ("/jobs/none", "/runs/999", "/runs/x")]
    finally:
        web.close()
    assert '<a href="/jobs/nginx">nginx</a>' in overview and page.status == 200
    for command in ("sync nginx", "plan nginx --diff", "rollback nginx", "pause nginx"):
        assert f'<code class="command">syncd {command}</code>' in page.text
    for label, count in (("Duration of the last runs: 2 runs", 2), ("Lag of the last commits", 2)):
        drawing = page.text.partition(f'aria-label="{label}')[2].partition("</svg>")[0]
        assert drawing.count("<rect ") == drawing.count("<title>") == count
    assert '<span class="added">+&lt;b&gt;two&lt;/b&gt;\n</span>' in run
    assert f"{hub.dest}/nginx.conf" in run and "<script" not in run
    assert missing == [404, 404, 404]


def test_the_page_of_a_job_shows_what_differs_and_a_reload_that_is_pending(hub: SyncEnv) -> None:
    hub.write_config(drift="report", on_change={"shell": "echo <i>no</i> such unit; exit 3"})
    hub.sync()
    edited, private = hub.dest / "nginx.conf", hub.dest / "sites/a.conf"
    edited.write_text("<b>mine</b>\n")
    private.write_text("s3cret\n")
    private.chmod(0o600)
    hub.sync()
    SqliteStore.open(hub.state).facts.save_commit_summary(
        hub.repo.head(), CommitSummary("<i>Raise</i> it", "Ada <b>"), AT
    )
    with listening(board_of(hub), show_diffs=True) as web:
        page = ask(web, "/jobs/nginx").text.replace("<wbr>", "")
        overview = ask(web, "/?q=raise").text
    with listening(board_of(hub)) as web:
        bare = ask(web, "/jobs/nginx").text
    assert "Files that differ" in page and "s3cret" not in page and "mine" not in bare
    assert '<span class="added">+&lt;b&gt;mine&lt;/b&gt;\n</span>' in page
    assert "not every user may read it" in page and str(edited) in bare.replace("<wbr>", "")
    assert "Pending reload" in page and "&lt;i&gt;no&lt;/i&gt; such unit" in page
    for text in (page, overview):
        assert "&lt;i&gt;Raise&lt;/i&gt; it <small>by Ada &lt;b&gt;</small>" in text
        assert "<i>" not in text and "Ada <b>" not in text
    assert "sites/a.conf" in page and "delete 50 %, 10,000 files, 1,024 MiB" in page


FILTERED = [
    ("/", 3, ""),
    ("/?state=&q=", 3, ""),
    ("/?state=failing", 1, "1 of 3 jobs match."),
    ("/?q=WEB-2", 1, "1 of 3 jobs match."),
    ("/?q=/etc/nginx", 3, ""),
    ("/?state=in_sync&q=acme", 2, "2 of 3 jobs match."),
    ("/?state=nothing", 0, "No job matches."),
    ("/?q=%3Cscript%3Ealert(1)%3C/script%3E", 0, "No job matches."),
]


@pytest.mark.parametrize(("path", "count", "text"), FILTERED)
def test_the_overview_is_filtered_by_its_query_string(path: str, count: int, text: str) -> None:
    class Three(FixedBoard):
        def status_snapshot(self) -> StatusSnapshot:
            one = super().status_snapshot()
            words = ("in_sync", "failing", "in_sync")
            jobs = tuple(
                replace(
                    one.jobs[0], job=replace(one.jobs[0].job, name=f"web-{number}"), condition=word
                )
                for number, word in enumerate(words)
            )
            return replace(one, jobs=jobs)

    with listening(Three()) as web:
        found = ask(web, path).text
    assert found.count('<th scope="row">') == count and text in found
    assert "1 of 3 jobs is failing" in found and "<script>" not in found


def test_no_answer_holds_a_secret(hub: SyncEnv) -> None:
    token = "ghs_" + "a1B2" * 9
    hub.write_config(validate={"shell": f"echo {token}; exit 1"})
    hub.sync()
    board = board_of(hub)
    with listening(board, password=SecretRef("env", "WEB"), environ={"WEB": PASSWORD}) as web:
        texts = [ask(web, path, password=PASSWORD).text for path in PATHS] + [
            ask(web, path).text for path in PATHS
        ]
    assert (
        all(token not in text and PASSWORD not in text for text in texts) and "validate" in texts[0]
    )


def test_a_store_that_fails_is_said_and_the_listener_goes_on(board: StoreBoard) -> None:
    with listening(board) as web:
        board.fails = StoreError("the store is locked", hint="wait for it")
        for path in ("/", "/readyz", "/metrics", "/api/v1/status"):
            assert (ask(web, path).status, ask(web, path).text) == (
                503,
                "this can't be answered now; syncd's own log says why\n",
            )
        assert ask(web, "/healthz").status == 200
        board.fails = ZeroDivisionError("ghs_" + "a1B2" * 9)
        assert (ask(web, "/").status, ask(web, "/").text) == (
            500,
            "a bug in syncd; its log has the traceback\n",
        )
        board.fails = None
        assert ask(web, "/").status == 200


def test_unknown_paths_and_methods_are_refused_and_every_answer_is_sealed(
    plain: FixedBoard,
) -> None:
    with listening(plain) as web:
        assert ask(web, "/github", "POST", b"{}").status == 404
        for path in PATHS:
            assert (
                ask(web, path, "POST", b"x").status == 405
                and ask(web, path, "DELETE").status == 405
            )
        assert ask(web, "/", "HEAD").text == ""
        for path in (*PATHS, "/nothing"):
            headers = ask(web, path).headers
            assert (
                headers["content-security-policy"].startswith(
                    "default-src 'none'; style-src 'self'"
                )
                and headers["x-content-type-options"] == "nosniff"
            )
            assert (
                "server" not in headers
                and headers["cache-control"] == "no-store"
                and headers["referrer-policy"] == "same-origin"
            )
        page = ask(web, "/").text
        assert page.count("<script") == 1 and "style=" not in page
        assert '<script src="/static/syncd.js" defer></script>' in page


# --- to whom --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8480",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "localhost.evil.example",
        "[::ffff:1.2.3.4]",
        "",
        "a b",
        "[",
        "127.0.0.1@evil.example:1",
    ],
)
def test_without_a_password_only_this_machines_own_names_are_answered_to(
    plain: FixedBoard, host: str
) -> None:
    with listening(plain) as web:
        assert ask(web, "/", Host=host).status in (400, 421)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8480"]
)
def test_this_machines_own_names_are_answered_to(plain: FixedBoard, host: str) -> None:
    with listening(plain) as web:
        assert ask(web, "/", Host=host).status == 200


def test_with_a_password_nothing_is_said_without_it_under_whatever_name(plain: FixedBoard) -> None:
    for path in (*PATHS, "/nothing"):
        with listening(plain, password=SecretRef("env", "WEB"), environ={"WEB": PASSWORD}) as web:
            for given in (None, "", "wrong", PASSWORD + "x", PASSWORD[:-1], "pässword"):
                found = ask(web, path, password=given)
                assert (found.status, found.text) == (
                    401,
                    "a password is needed\n",
                ) and "Basic" in found.headers["www-authenticate"]
            assert (
                ask(web, path, Authorization="Bearer " + PASSWORD).status
                == ask(web, path, Authorization="Basic !!!").status
                == 401
            )
            assert ask(web, "/", password=PASSWORD, Host="status.example.com").status == 200


def test_a_changed_password_is_taken_up_without_a_restart(
    plain: FixedBoard, tmp_path: Path
) -> None:
    file = tmp_path / "web.password"
    file.write_text("first-password-1\n")
    file.chmod(0o600)
    with listening(plain, password=SecretRef("file", str(file))) as web:
        assert ask(web, "/", password="first-password-1").status == 200
        file.write_text("second-password-2\n")
        assert (
            ask(web, "/", password="first-password-1").status,
            ask(web, "/", password="second-password-2").status,
        ) == (401, 200)
        file.unlink()
        gone = ask(web, "/", password="second-password-2")
        assert (gone.status, gone.text) == (
            503,
            "this can't be answered now; syncd's own log says why\n",
        )


def test_an_address_of_others_is_refused_without_a_password_whatever_way_it_is_written(
    plain: FixedBoard,
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"0\.0\.0\.0:0 is http.*needs web.password \(and a proxy with TLS in front",
    ):
        Web(WebConfig("0.0.0.0:0"), plain, {})
    with listening(plain, "0.0.0.0:0", SecretRef("env", "WEB"), {"WEB": PASSWORD}) as web:
        assert web.names[0].startswith("http://0.0.0.0:")


# --- where ----------------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_named_and_given_back_when_it_is_closed(plain: FixedBoard) -> None:
    with listening(plain) as web:
        address = web.names[0].removeprefix("http://").rstrip("/")
        with pytest.raises(
            ConfigError, match=f"can't listen on {address}: Address already in use"
        ) as error:
            Web(WebConfig(address), plain, {})
        assert "another port" in (error.value.hint or "")
    with listening(plain, address) as again:
        assert ask(again, "/healthz").status == 200


def test_a_unix_socket_is_for_owner_and_group_and_goes_with_the_listener(
    plain: FixedBoard, tmp_path: Path
) -> None:
    path = tmp_path / "web.sock"
    with listening(plain, f"unix:{path}") as web:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660 and stat.S_ISSOCK(path.stat().st_mode)
        assert (
            web.names == [f"unix:{path}"] and ask(web, "/", Host="whatever.example").status == 200
        )
        with pytest.raises(ConfigError, match="another process listens at unix:"):
            Web(WebConfig(f"unix:{path}"), plain, {})
        assert ask(web, "/healthz").status == 200
    assert list(tmp_path.glob("web.sock*")) == []


def test_a_unix_socket_is_gone_before_a_request_that_takes_its_time_has_ended(
    tmp_path: Path,
) -> None:
    path, asked, answered = tmp_path / "web.sock", threading.Event(), threading.Event()

    class Slow(FixedBoard):
        def status_snapshot(self) -> Any:
            asked.set()
            assert answered.wait(60)
            return super().status_snapshot()

    web = Web(WebConfig(f"unix:{path}"), Slow(), {})
    threading.Thread(target=lambda: ask(web, "/api/v1/status"), daemon=True).start()
    assert asked.wait(60)
    closing = threading.Thread(target=web.close)
    closing.start()
    try:
        while path.exists() and closing.is_alive():
            closing.join(0.02)
        assert closing.is_alive() and not path.exists()
    finally:
        answered.set()
        closing.join(60)


@pytest.mark.parametrize("broken", ["os.rename", "syncd.web.server.make_app"])
def test_a_listener_that_could_not_be_made_leaves_no_socket(
    plain: FixedBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(broken, fail)
    with pytest.raises((ConfigError, OSError)):
        Web(WebConfig(f"unix:{tmp_path}/web.sock"), plain, {})
    assert not os.listdir(tmp_path)


def test_a_socket_that_a_dead_process_left_is_taken_over_and_anything_else_is_not(
    plain: FixedBoard, tmp_path: Path
) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening(plain, f"unix:{path}") as web:
        assert ask(web, "/healthz").status == 200
    path.write_text("a file of somebody's")
    with pytest.raises(ConfigError, match="something else than a socket"):
        Web(WebConfig(f"unix:{path}"), plain, {})
    assert path.read_text() == "a file of somebody's"
    for bad in (tmp_path / "nowhere" / "web.sock", tmp_path / ("x" * 120)):
        with pytest.raises(ConfigError, match="can't listen on unix:"):
            Web(WebConfig(f"unix:{bad}"), plain, {})


HANDED_OVER = """
import os, sys, socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from syncd.config.model import Web as WebConfig
from syncd.web.server import Web
from syncd.errors import SyncdError
address, name, names = sys.argv[1:]
from tests.support.status_board import FixedBoard
made = socket.socket(); made.bind((address, 0)); made.listen()
os.dup2(made.fileno(), 3)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": names}
try:
    web = Web(WebConfig(f"fd:{name}"), FixedBoard(), environ)
except SyncdError as error:
    sys.exit(f"{error.message} / {error.hint}")
import http.client
connection = http.client.HTTPConnection("127.0.0.1", made.getsockname()[1], timeout=20)
connection.request("GET", "/healthz")
print(connection.getresponse().read().decode(), os.get_inheritable(3), flush=True)
web.close()
"""


def handed_over(address: str, name: str, names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HANDED_OVER, address, name, names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def test_a_socket_that_systemd_opened_is_found_by_its_name() -> None:
    done = handed_over("127.0.0.1", "web", "web")
    assert done.stdout == "alive\n False\n", done.stderr
    other = handed_over("127.0.0.1", "web", "ssh")
    assert (
        "systemd gave no socket named web; it gave ssh / in syncd-web.socket: "
        "FileDescriptorName=web"
    ) in other.stderr
    open_to_all = handed_over("0.0.0.0", "web", "web")
    assert open_to_all.returncode == 1 and "needs web.password" in open_to_all.stderr


def test_sockets_meant_for_another_process_are_not_taken(plain: FixedBoard) -> None:
    for environ in (
        {},
        {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"},
        {"LISTEN_PID": "x", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"},
    ):
        with pytest.raises(ConfigError, match="systemd gave no socket named web"):
            Web(WebConfig("fd:web"), plain, environ)


# --- hostile clients ------------------------------------------------------------------------------


def test_stalled_uploads_and_half_requests_keep_nobody_else_waiting(plain: FixedBoard) -> None:
    with listening(plain) as web:
        host, port = web.names[0].removeprefix("http://").rstrip("/").split(":")
        stalled = [socket.create_connection((host, int(port)), timeout=20) for _ in range(40)]
        for number, one in enumerate(stalled):
            one.sendall(
                b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"
                if number % 2
                else b"GET / HT"
            )
        assert ask(web, "/healthz").status == 200
        for one in stalled:
            one.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            % (MAX_REQUEST_BODY_BYTES + 1),
            413,
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /static/../app.py HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /static/%2e%2e/app.py HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /%ff%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    ],
)
def test_what_no_client_would_send_is_refused_within_bounds(
    plain: FixedBoard, sent: bytes, status: int
) -> None:
    with listening(plain) as web:
        host, port = web.names[0].removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.sendall(sent)
            assert int(raw.recv(65536).split()[1]) == status
        assert ask(web, "/healthz").status == 200


def test_closing_ends_the_threads_of_the_listener(plain: FixedBoard) -> None:
    before = {thread.name for thread in threading.enumerate()}
    for _ in range(3):
        with listening(plain) as web:
            assert ask(web, "/").status == 200
    assert {thread.name for thread in threading.enumerate() if thread.is_alive()} <= before
