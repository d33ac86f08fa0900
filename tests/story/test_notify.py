"""Somebody is told when a job's state changes: once, in order, never in the way of a run,
and never with more than the message.
"""

from __future__ import annotations

import base64
import socket
import sqlite3
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.config.load import load_config
from syncd.errors import LockedError, NotFoundError
from syncd.models import RunReport, RunStatus
from syncd.notifications import http_post as postal
from syncd.notifications.http_post import post
from syncd.notifications.sender import NotificationSender
from syncd.store.store import FILE_NAME, SqliteStore
from syncd.wiring import http_sender, senders
from tests.support.clock import FakeClock
from tests.support.http_receiver import KEY, Receiver, receiving
from tests.support.sync_env import SyncEnv, sync_env


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def hub(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncEnv]:
    monkeypatch.setenv("HOOK_URL", receiver.url)
    with sync_env(tmp_path, as_app=False) as made:
        made.extra["notify"] = [{"webhook": {"env": "HOOK_URL"}}]
        made.write()
        yield made


def break_it(hub: SyncEnv) -> Any:
    gone = hub.github.repos.copy()
    hub.github.repos.clear()
    return lambda: hub.github.repos.update(gone)


def due_now(hub: SyncEnv) -> None:
    """As if the pause before the next attempt had passed."""
    with closing(sqlite3.connect(hub.state / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE delivery SET paused_until = 0")


def told(hub: SyncEnv) -> Any:
    return hub.call("status", "--json").json["notifications"][0]


# --- once for each change -------------------------------------------------------------------------


def test_a_failure_and_its_end_are_told_once_each_however_many_runs_see_them(
    hub: SyncEnv, receiver: Receiver
) -> None:
    assert hub.sync().code == 0 and receiver.got == []
    mend = break_it(hub)
    for _ in range(3):
        assert hub.sync().code == 4
    assert receiver.events == [("nginx", "failed")]
    mend()
    for _ in range(3):
        assert hub.sync().code == 0
    assert receiver.events == [("nginx", "failed"), ("nginx", "recovered")]
    first, second = receiver.got
    assert (
        first["schema"] == "syncd.notice/1"
        and first["error"]["kind"] == "auth"
        and first["host"] == socket.gethostname()
    )
    assert (
        second["error"] is None
        and second["commit"] == hub.repo.head("main")
        and first["id"] != second["id"]
    )
    assert (
        receiver.headers[0]["content-type"] == "application/json"
        and "authorization" not in receiver.headers[0]
    )
    assert {
        name: value
        for name, value in told(hub).items()
        if name in ("waiting", "sent", "failed", "error", "host")
    } == {
        "waiting": 0,
        "sent": 2,
        "failed": 0,
        "error": None,
        "host": receiver.url.split("/")[2],
    }


def test_drift_is_told_and_so_is_its_end(hub: SyncEnv, receiver: Receiver) -> None:
    hub.write_config(drift="report")
    assert hub.sync().code == 0
    for text in ("edited", "edited again"):
        (hub.dest / "nginx.conf").write_text(text)
        assert hub.sync().code == 0
    assert receiver.events == [("nginx", "drift")] and receiver.got[0]["drifted"] == 1
    hub.repo.commit({"nginx/nginx.conf": "two\n"}, "takes the edit away")
    assert hub.sync().code == 0
    assert receiver.events == [("nginx", "drift"), ("nginx", "recovered")]


def test_each_endpoint_hears_of_what_it_asked_for(
    hub: SyncEnv, receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "hook").write_text(receiver.url.replace("/services", "/other"))
    (tmp_path / "hook").chmod(0o600)
    hub.extra["notify"] = [
        {"webhook": {"env": "HOOK_URL"}, "when": ["recovered"]},
        {"webhook": str(tmp_path / "hook"), "when": ["failed"]},
    ]
    hub.write()
    mend = break_it(hub)
    hub.sync()
    mend()
    hub.sync()
    assert [
        (path.split("/")[1], one["event"])
        for path, one in zip(receiver.paths, receiver.got, strict=True)
    ] == [("other", "failed"), ("services", "recovered")]


def test_a_secret_that_cant_be_read_is_a_failure_that_is_told_though_the_run_could_not_begin(
    hub: SyncEnv, receiver: Receiver
) -> None:
    (hub.folder / "token").chmod(0o644)
    assert hub.sync().code == 2 and hub.sync().code == 2
    (hub.folder / "token").chmod(0o600)
    assert hub.sync().code == 0
    assert receiver.events == [("nginx", "failed"), ("nginx", "recovered")]


def test_a_paused_job_tells_nothing(hub: SyncEnv, receiver: Receiver) -> None:
    assert hub.sync().code == 0
    assert hub.call("pause", "nginx", "--reason", "moving").code == 0
    break_it(hub)
    assert hub.sync().code == 0 and receiver.got == []


def test_where_nobody_wants_to_hear_any_more_nothing_is_told_and_the_quick_way_is_open_again(
    hub: SyncEnv, receiver: Receiver
) -> None:
    mend = break_it(hub)
    hub.sync()
    mend()
    del hub.extra["notify"]
    hub.write()
    assert hub.sync().code == 0 and hub.sync().code == 0
    assert receiver.events == [("nginx", "failed")] and (hub.state / "unchanged.json").exists()
    assert hub.call("status", "--json").json["notifications"] == []


def test_a_crash_between_a_run_and_its_message_only_delays_it(
    hub: SyncEnv, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(hub)
    with monkeypatch.context() as dead:
        dead.setattr(NotificationSender, "notify", lambda self, report: None)
        hub.sync()
    assert receiver.got == []
    hub.sync()
    assert receiver.events == [("nginx", "failed")]


# --- when it can't be told ------------------------------------------------------------------------


def test_a_receiver_that_fails_changes_no_exit_and_is_told_by_a_later_sync(
    hub: SyncEnv, receiver: Receiver
) -> None:
    receiver.status = 503
    mend = break_it(hub)
    assert hub.sync().code == 4
    where = receiver.url.split("/")[2]
    assert told(hub)["error"] == "answered 503" and told(hub)["waiting"] == 1
    assert (
        f"notify: {where} (env:HOOK_URL) can't be notified: answered 503; 1 message waits"
        in hub.call("status").out
    )
    receiver.status = 204
    assert hub.sync().code == 4 and len(receiver.got) == 1, "not before its pause is over"
    due_now(hub)
    assert hub.sync().code == 4
    assert [one["id"] for one in receiver.got] == [receiver.got[0]["id"]] * 2, (
        "the same message, which its id tells"
    )
    assert (told(hub)["waiting"], told(hub)["sent"], told(hub)["failed"], told(hub)["error"]) == (
        0,
        1,
        1,
        None,
    )
    mend()
    assert hub.sync().code == 0 and receiver.events[-1] == ("nginx", "recovered")


def test_while_a_message_waits_no_sync_takes_the_quick_way_past_it(
    hub: SyncEnv, receiver: Receiver
) -> None:
    mend = break_it(hub)
    hub.sync()
    receiver.status = 500
    mend()
    assert hub.sync().code == 0 and hub.sync().code == 0
    assert told(hub)["waiting"] == 1 and not (hub.state / "unchanged.json").exists()
    receiver.status = 200
    due_now(hub)
    assert hub.sync().code == 0
    assert (
        told(hub)["waiting"] == 0
        and receiver.events[-1] == ("nginx", "recovered")
        and (hub.state / "unchanged.json").exists()
    )


def test_a_message_that_waits_gives_way_to_what_is_true_now(
    hub: SyncEnv, receiver: Receiver
) -> None:
    receiver.status = 500
    mend = break_it(hub)
    hub.sync()
    mend()
    hub.sync()
    receiver.status = 200
    receiver.got.clear()
    due_now(hub)
    hub.sync()
    assert receiver.events == [("nginx", "recovered")]


def test_a_receiver_that_hangs_keeps_no_run_waiting(
    hub: SyncEnv, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.cli.sync.NOTIFY_SECONDS", 0.2)
    receiver.hangs = threading.Event()
    hub.jobs["broken"] = {
        **hub.jobs["nginx"],
        "repo": "acme/nothing",
        "paths": [{"from": "a/", "to": f"{hub.folder}/broken/"}],
    }
    hub.write()
    done = hub.sync()
    assert done.code == 3 and hub.tree()["nginx.conf"] == b"one\n"
    assert told(hub)["waiting"] == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(hub: SyncEnv, receiver: Receiver, status: int) -> None:
    with receiving() as elsewhere:
        receiver.status, receiver.answer_headers = status, {"Location": elsewhere.url}
        break_it(hub)
        hub.sync()
        assert elsewhere.got == [] and told(hub)["error"].startswith(
            f"answered {status}: it sends us elsewhere"
        )


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://hooks.example.com/" + KEY, "this would send messages in the clear; use https"),
        ("ftp://hooks.example.com/" + KEY, "this is not an address; it must begin with https://"),
        (KEY, "this is not an address; it must begin with https://"),
        (f"https://hooks.example.com/{KEY} x", "holds a space"),
        ("https://[" + KEY, "this is not an address"),
    ],
)
def test_an_address_that_cant_be_one_is_a_mistake_with_its_place_and_is_not_shown(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    monkeypatch.setenv("HOOK_URL", address)
    done = hub.call("check")
    assert (
        done.code == 2 and f"{hub.config}:" in done.err and f"notify[0].webhook: {why}" in done.err
    ), done.err
    break_it(hub)
    run = hub.sync()
    assert run.code == 4 and why in run.err + told(hub)["error"]
    assert KEY not in done.err + run.err + run.out + hub.call("status").out


def test_the_address_is_a_secret_everywhere(hub: SyncEnv, receiver: Receiver) -> None:
    texts = []
    mend = break_it(hub)
    for status in (500, 302, 200):
        receiver.status = status
        due_now(hub) if (hub.state / FILE_NAME).exists() else None
        done = hub.call("-vv", "sync")
        texts += [done.out, done.err]
    mend()
    texts += [
        hub.call("-vv", "status").out,
        hub.call("status", "--json").out,
        hub.call("history", "--json").out,
    ]
    assert receiver.paths and all(path.endswith(KEY) for path in receiver.paths)
    stored = b"".join(file.read_bytes() for file in hub.state.rglob("*") if file.is_file())
    for part in (KEY, KEY.split("/")[0], KEY.split("/")[2]):
        assert all(part not in text for text in texts) and part.encode() not in stored


# --- the thread of a long life --------------------------------------------------------------------


def failure(number: int = 0) -> RunReport:
    return RunReport(
        f"job{number}",
        RunStatus.FAILED,
        "acme/infra",
        "main",
        None,
        None,
        error=NotFoundError("gone"),
    )


def messenger(
    hub: SyncEnv, receiver: Receiver, clock: FakeClock, store: SqliteStore
) -> NotificationSender:
    return NotificationSender(
        load_config(hub.config, {"HOME": str(hub.folder)}),
        store,
        clock,
        {"HOOK_URL": receiver.url},
        senders({}),
        jitter=lambda: 1.0,
    )  # type: ignore[arg-type]


def test_pauses_grow_to_an_hour_and_after_a_day_it_is_given_up(
    hub: SyncEnv, receiver: Receiver
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    receiver.status = 500
    one.notify(failure())
    began, pauses = clock.now(), []
    one.send_due()
    while (next_at := store.notifications.next_at(clock.now().timestamp())) is not None:
        pauses.append(next_at - clock.now().timestamp())
        clock.advance(pauses[-1] - 1)
        one.send_due()
        assert len(receiver.got) == len(pauses), "not a second too early"
        clock.advance(1)
        one.send_due()
    assert [round(pause) for pause in pauses[:9]] == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert (
        timedelta(hours=22) < clock.now() - began <= timedelta(hours=24)
        and len(receiver.got) == len(pauses) + 1 < 35
    )
    delivery = store.notifications.deliveries(["env:HOOK_URL"])[0]
    assert (delivery.failed, delivery.dropped, delivery.waiting, delivery.sent) == (
        len(pauses) + 1,
        1,
        0,
        0,
    )


def test_an_endpoint_that_fails_is_tried_once_a_pause_however_many_messages_wait(
    hub: SyncEnv, receiver: Receiver
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    receiver.status = 500
    for number in range(40):
        one.notify(failure(number))
    for round_ in range(1, 5):
        one.send_due()
        assert len(receiver.got) == round_
        clock.advance(30 * 2 ** (round_ - 1))
    receiver.status = 200
    receiver.got.clear()
    one.send_due()
    assert (
        sorted(one["job"] for one in receiver.got) == sorted(f"job{number}" for number in range(40))
        and store.notifications.count_pending() == 0
    )


def test_jobs_that_fail_one_after_another_make_one_attempt_per_pause(
    hub: SyncEnv, receiver: Receiver
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    receiver.status = 500
    attempts = []
    for number in range(8):
        one.notify(failure(number))
        one.send_due()
        clock.advance(2)
        attempts.append(len(receiver.got))
    assert attempts == [1, 1, 1, 1, 1, 1, 1, 1]
    clock.advance(14)
    one.send_due()
    assert len(receiver.got) == 2


@pytest.mark.parametrize(
    "event",
    ["another process sends", "the same job's message is replaced", "the message is given up"],
)
def test_a_new_message_does_not_end_its_endpoints_pause(
    hub: SyncEnv, receiver: Receiver, event: str
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    receiver.status = 500
    one.notify(failure(1))
    one.send_due()
    if event == "another process sends":
        one = messenger(hub, receiver, clock, SqliteStore.open(hub.state))
    elif event == "the same job's message is replaced":
        one.notify(replace(failure(1), status=RunStatus.CHANGED, error=None))
    else:
        while store.notifications.count_pending():
            clock.advance(1800)
            one.send_due()
    tried = len(receiver.got)
    one.notify(failure(2))
    one.send_due()
    assert len(receiver.got) == tried


def test_a_message_that_its_receiver_refuses_does_not_keep_the_others_back(
    hub: SyncEnv, receiver: Receiver
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    receiver.status = 400
    one.notify(failure(1))
    one.send_due()
    one.notify(failure(2))
    receiver.status = 204
    clock.advance(30)
    assert (
        first := store.notifications.claim(["env:HOOK_URL"], clock.now().timestamp())
    ) is not None
    assert first.job == "job2"


def test_an_endpoint_that_another_process_sends_to_is_looked_at_again_in_seconds(
    hub: SyncEnv, receiver: Receiver
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    one.notify(failure(1))
    one.notify(failure(2))
    assert store.notifications.claim(["env:HOOK_URL"], clock.now().timestamp()) is not None
    assert one.send_due() == 5.0


def test_a_receiver_that_asks_for_time_gets_it(hub: SyncEnv, receiver: Receiver) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    receiver.status, receiver.answer_headers = 429, {"Retry-After": "900"}
    one.notify(failure())
    one.send_due()
    assert store.notifications.next_at(clock.now().timestamp()) == clock.now().timestamp() + 900


def test_a_clock_that_was_set_back_holds_nothing_up(hub: SyncEnv, receiver: Receiver) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    receiver.status = 500
    one.notify(failure())
    one.send_due()
    clock.at -= timedelta(days=400)
    receiver.status = 200
    one.send_due()
    assert len(receiver.got) == 2 and store.notifications.count_pending() == 0


def test_two_who_look_at_once_send_each_message_once(hub: SyncEnv, receiver: Receiver) -> None:
    clock, stores = FakeClock(), [SqliteStore.open(hub.state) for _ in range(4)]
    many = [messenger(hub, receiver, clock, store) for store in stores]
    for number in range(12):
        for one in many:
            one.notify(failure(number))
    threads = [threading.Thread(target=one.send_due) for one in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one["job"] for one in receiver.got) == sorted(
        f"job{number}" for number in range(12)
    )


def test_a_sender_that_died_is_followed_by_another_a_minute_later(
    hub: SyncEnv, receiver: Receiver
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    one.notify(failure())
    assert (
        store.notifications.claim(["env:HOOK_URL"], clock.now().timestamp()) is not None
    )  # and then it died
    one.send_due()
    assert receiver.got == []
    clock.advance(61)
    one.send_due()
    assert len(receiver.got) == 1


def test_the_thread_sends_by_itself_and_a_reload_changes_who_is_told(
    hub: SyncEnv, receiver: Receiver
) -> None:
    clock, store = FakeClock(), SqliteStore.open(hub.state)
    one = messenger(hub, receiver, clock, store)
    one.start()
    one.notify(failure(1))
    one.close(30.0)
    assert receiver.events == [("job1", "failed")]
    other = messenger(hub, receiver, clock, store)
    other.start()
    other.replace_config(replace(load_config(hub.config, {"HOME": str(hub.folder)}), notify=()))
    other.notify(failure(2))
    other.close(30.0)
    assert len(receiver.got) == 1 and not any(
        thread.name == "syncd-messages" for thread in threading.enumerate()
    )


def test_another_at_work_on_the_job_is_no_failure_of_it(hub: SyncEnv, receiver: Receiver) -> None:
    store = SqliteStore.open(hub.state)
    one = messenger(hub, receiver, FakeClock(), store)
    one.notify(replace(failure(), error=LockedError("another syncd is at work")))
    assert store.notifications.count_pending() == 0


# --- the post -------------------------------------------------------------------------------------


def test_a_receiver_that_drips_is_left_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postal, "TIMEOUT_SECONDS", 0.3)
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    while not ended.wait(0.05):
                        connection.sendall(b"H")
                except OSError:
                    return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        found = post(
            f"http://127.0.0.1:{server.getsockname()[1]}/",
            "{}",
            "syncd",
            http_sender(None, None),
        )
        ended.set()
        thread.join()
    assert found.error == "did not answer in time"


@pytest.mark.parametrize(
    "sent",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200" + b"x" * 100_000, b"HTTP/1.1 99999 No\r\n\r\n"],
)
def test_whatever_stands_at_the_other_end_is_an_outcome_and_no_traceback(sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(sent)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        found = post(
            f"http://127.0.0.1:{server.getsockname()[1]}/",
            "{}",
            "syncd",
            http_sender(None, None),
        )
        thread.join()
    assert found.error is not None and found.error.startswith(("can't be reached: ", "answered "))


def test_nobody_there_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert post(
        f"http://127.0.0.1:{port}/{KEY}", "{}", "syncd", http_sender(None, None)
    ) == postal.Outcome(f"127.0.0.1:{port}", "can't be reached: Connection refused")


def certificate(folder: Path) -> Path:
    """A certificate for localhost that only itself vouches for, with its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name, now = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]),
        datetime.now(UTC),
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
    )
    made = (
        made.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    )
    signed = made.sign(key, hashes.SHA256())
    file = folder / "localhost.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    return file


def test_a_certificate_is_verified_and_through_a_proxy_too(tmp_path: Path) -> None:
    file, asked = certificate(tmp_path), []
    with receiving() as receiver, socket.create_server(("127.0.0.1", 0)) as proxy:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
        address = f"https://ann:s3cret@localhost:{receiver.server_address[1]}/{KEY}"
        where = f"localhost:{receiver.server_address[1]}"
        assert post(address, "{}", "syncd", http_sender(None, None)) == postal.Outcome(
            where, "its certificate can't be trusted: self-signed certificate"
        )
        assert receiver.got == []
        assert post(address, '{"a": 1}', "syncd", http_sender(str(file), None)) == postal.Outcome(
            where
        )
        assert (
            receiver.headers[-1]["authorization"]
            == "Basic " + base64.b64encode(b"ann:s3cret").decode()
        )

        def tunnel() -> None:
            client, _ = proxy.accept()
            with client, socket.create_connection(receiver.server_address[:2]) as server:
                asked.append(client.recv(4096))
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=pump, args=(server, client), daemon=True)
                back.start()
                pump(client, server)
                back.join()

        thread = threading.Thread(target=tunnel, daemon=True)
        thread.start()
        through = f"http://proxyuser:pr0xy@127.0.0.1:{proxy.getsockname()[1]}"
        assert post(
            address, '{"a": 2}', "syncd", http_sender(str(file), through)
        ) == postal.Outcome(where) and receiver.got == [{"a": 1}, {"a": 2}]
        thread.join()
    assert (
        asked[0].startswith(f"CONNECT {where} HTTP/1".encode())
        and b"Proxy-Authorization: Basic " + base64.b64encode(b"proxyuser:pr0xy") in asked[0]
    )
    assert KEY.encode() not in asked[0] and b"s3cret" not in asked[0]


def pump(source: socket.socket, to: socket.socket) -> None:
    """Bytes from one to the other until there are no more."""
    with suppress(OSError):
        while chunk := source.recv(65536):
            to.sendall(chunk)
        to.shutdown(socket.SHUT_WR)
