"""Certificates that are not as they should be, met by the whole command: refused at once, nothing
sent, and a message that says what to do.
"""

from __future__ import annotations

import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from syncd.simulator.github import GitHub
from syncd.simulator.server import _Server
from tests.support.sync_env import SyncEnv, sync_env


@contextmanager
def served(
    github: GitHub,
    certificate: Any,
    prepare: Callable[[ssl.SSLContext], object] = lambda context: None,
) -> Iterator[str]:
    """The simulator over TLS on loopback; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    prepare(context)
    server = _Server(github, 0)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    github.codeload_origin = f"https://localhost:{server.server_address[1]}"
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(
        tmp_path, {f"nginx/f{number:03d}": f"{number}\n" for number in range(120)}, as_app=False
    ) as made:
        yield made


def point(hub: SyncEnv, api: str, authority: Any | None) -> None:
    """The job's identity asks there, and trusts this authority alone."""
    identity = hub.identities["ops"] = {**hub.identities["ops"], "api": api}
    if authority is not None:
        authority.cert_pem.write_to_path(hub.folder / "ca.pem")
        identity["ca_file"] = str(hub.folder / "ca.pem")
    hub.write()


def test_a_private_authority_is_trusted_through_ca_file_also_by_the_archive_host(
    hub: SyncEnv,
) -> None:
    authority = trustme.CA()
    with served(hub.github, authority.issue_cert("localhost")) as api:
        point(hub, api, authority)
        done = hub.sync()
    assert done.code == 0 and len(hub.tree()) == 120 and hub.github.count("codeload") == 1, done.err


AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
NOW = datetime.now(UTC)


def self_signed() -> Any:
    return type(
        "Self",
        (),
        {
            "configure_cert": staticmethod(
                lambda context: context.load_cert_chain(_self_signed_pem())
            )
        },
    )()


def _self_signed_pem() -> str:
    import tempfile

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]),
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
    )
    made = made.not_valid_before(NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1))
    made = made.add_extension(
        x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
    )
    place = Path(tempfile.mkdtemp()) / "self.pem"
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    place.write_bytes(
        pem + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return str(place)


# what is wrong -> (the server's certificate, the authority of ca_file, part of the message, part of
# the hint)
FAULTS: dict[str, tuple[Callable[[], Any], Any, str, str]] = {
    "an unknown authority": (
        lambda: AUTHORITY.issue_cert("localhost"),
        None,
        "can't be trusted",
        "set ca_file:",
    ),
    "another authority than ca_file's": (
        lambda: STRANGER.issue_cert("localhost"),
        AUTHORITY,
        "can't be trusted",
        "ca_file:",
    ),
    "self-signed": (self_signed, None, "can't be trusted", "set ca_file:"),
    "for another host": (
        lambda: AUTHORITY.issue_cert("ghe.example"),
        AUTHORITY,
        "its certificate is for another host",
        "api:",
    ),
    "expired": (
        lambda: AUTHORITY.issue_cert(
            "localhost", not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=2)
        ),
        AUTHORITY,
        "its certificate has expired",
        "clock",
    ),
    "not valid yet": (
        lambda: AUTHORITY.issue_cert(
            "localhost", not_before=NOW + timedelta(days=2), not_after=NOW + timedelta(days=9)
        ),
        AUTHORITY,
        "its certificate is not valid yet",
        "clock",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_certificate_that_can_not_be_trusted_ends_the_run_at_once_and_says_what_to_do(
    hub: SyncEnv, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, authority, said, hint = FAULTS[name]
    AUTHORITY.cert_pem.write_to_path(hub.folder / "environment.pem")
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(hub.folder / "environment.pem"))
    with served(hub.github, certificate()) as api:
        point(hub, api, authority)
        waits: list[float] = []
        monkeypatch.setattr(
            "syncd.clock.SystemClock.wait",
            lambda _clock, _stop, seconds: bool(waits.append(seconds)),
        )
        done = hub.sync()
    error = done.job["error"]
    assert (
        (done.code, error["kind"]) == (5, "unavailable")
        and said in error["message"]
        and hint in error["hint"]
    ), error
    assert hub.github.count() == 0 and waits == [], (
        "no credential was sent, and nothing was tried again"
    )
    assert hub.tree() == {}


USUAL = trustme.CA()
BIG = bytes(range(256)) * 300
# who vouches for the API and for the storage host -> exit
STORAGES: dict[str, tuple[trustme.CA, trustme.CA, int]] = {
    "ca_file for both": (AUTHORITY, AUTHORITY, 0),
    "ca_file for the API, the usual authorities for the storage": (AUTHORITY, USUAL, 0),
    "a stranger for the storage": (AUTHORITY, STRANGER, 5),
    "the usual authorities for the API": (USUAL, AUTHORITY, 5),
}


@pytest.mark.parametrize("name", STORAGES)
def test_ca_file_alone_vouches_for_the_api_and_adds_to_the_usual_authorities_for_the_lfs_storage(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ours, theirs, code = STORAGES[name]
    USUAL.cert_pem.write_to_path(hub.folder / "usual.pem")
    monkeypatch.setattr("certifi.where", lambda: str(hub.folder / "usual.pem"))
    hub.repo.commit({"nginx/data.bin": hub.repo.lfs_pointer(BIG)})
    with (
        served(hub.github, ours.issue_cert("localhost")) as api,
        served(hub.github, theirs.issue_cert("127.0.0.1")) as storage,
    ):
        hub.github.codeload_origin = storage.replace("localhost", "127.0.0.1")
        point(hub, api, AUTHORITY)
        hub.write_config(
            lfs="fetch", paths=[{"from": "nginx/data.bin", "to": f"{hub.dest}/data.bin"}]
        )
        done = hub.sync()
    assert done.code == code, done.job["error"]
    assert hub.tree() == ({"data.bin": BIG} if code == 0 else {})


def test_a_server_that_does_not_speak_tls_is_named(hub: SyncEnv) -> None:
    point(hub, hub.served.url.replace("http://", "https://"), None)
    done = hub.sync()
    assert (
        done.job["error"]["kind"] == "unavailable"
        and "does not speak TLS" in done.job["error"]["message"]
    ), done.job["error"]
    assert "api:" in done.job["error"]["hint"] and hub.github.count() == 0


def test_a_server_that_hangs_up_during_the_handshake_is_passing_trouble(
    hub: SyncEnv, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1)

    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.001)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        thread.start()
        point(hub, f"https://localhost:{server.server_address[1]}", None)
        done = hub.sync()
        server.shutdown()
        thread.join()
    assert (
        done.job["error"]["kind"] == "unavailable" and "0x" not in done.job["error"]["message"]
    ), done.job["error"]
