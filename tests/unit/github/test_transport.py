"""The network over real sockets: proxies, headers, bodies and their ends;
and who is asked again, when, and after what pause.
"""

from __future__ import annotations

import base64
import gzip
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from syncd.clock import Clock, SystemClock
from syncd.deadline import Deadline
from syncd.errors import (
    BadResponseError,
    ConfigError,
    RateLimitedError,
    RemoteUnavailableError,
    StoppedError,
    TimedOutError,
)
from syncd.github import connections
from syncd.github.attempts import BACKOFF_SECONDS, MAX_ATTEMPTS, Attempts
from syncd.github.protocol import BufferedResponse, Request, Response, get, post, read_body
from syncd.github.proxies import Proxies
from syncd.github.rate_limit import ConcurrencyLimit, RateLimits, RequestMetrics
from syncd.github.retry import RetryingTransport
from syncd.github.transport import Network
from syncd.progress import SilentListener
from syncd.redaction import redact
from tests.support.bombs import gzip_of_zeros
from tests.support.clock import FakeClock
from tests.support.raw_server import RawServer

MESSAGE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


@contextmanager
def network(
    proxies: Proxies = Proxies({}),
    clock: Clock | None = None,
    rate_limits: RateLimits | None = None,
    ca_file: str | None = None,
) -> Iterator[Network]:
    clock = clock or SystemClock()
    made = Network(
        "ops",
        clock,
        RequestMetrics(),
        rate_limits or RateLimits(clock),
        ConcurrencyLimit(4),
        proxies,
        ca_file,
    )
    try:
        yield made
    finally:
        made.close()


def deadline(seconds: float = 30) -> Deadline:
    return Deadline(SystemClock(), seconds)


def request(url: str, **headers: str) -> Request:
    made = get(url, "/x", "head", "main of acme/infra", "acme/infra")
    return Request(
        made.method,
        made.url,
        made.route,
        made.subject,
        made.repo,
        {**made.headers, "Authorization": "Bearer ghs_canary", **headers},
    )


def body_of(url: str, cap_bytes: int = 1 << 20) -> bytes:
    made = request(url)
    with network() as net:
        return read_body(
            net.send(
                Request(
                    "GET",
                    made.url,
                    made.route,
                    made.subject,
                    made.repo,
                    made.headers,
                    cap_bytes=cap_bytes,
                ),
                deadline(),
            )
        )


def said(status: str, *headers: str, body: bytes = b"") -> bytes:
    """What a server says that hangs up afterwards, and says so:
    else who asks again may meet the connection while it closes.
    """
    return (
        "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *headers, "", ""]).encode() + body
    )


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["ghs_x\r\n Folded: yes", "ghs_x\nOther: yes", "ghs\x00x", "ghs_\u20ac"], ids=repr
)
def test_a_header_that_is_none_is_not_sent_and_not_shown(value: str) -> None:
    with RawServer(MESSAGE) as wire, network(Proxies({})) as net:
        with pytest.raises(BadResponseError, match="one of its headers can't be sent") as caught:
            net.send(request(wire.url, Authorization=value), deadline())
        assert value not in str(caught.value) and not wire.heard


def test_what_a_server_says_twice_is_one_header() -> None:
    with (
        RawServer(
            said("200 OK", "Link: <a>", "Content-Length: 2", "link: <b>", body=b"ok")
        ) as wire,
        network(Proxies({})) as net,
    ):
        assert net.send(request(wire.url), deadline()).headers["link"] == "<a>, <b>"


# --- proxies --------------------------------------------------------------------------------------


def test_a_request_goes_through_the_operators_proxy_with_its_password() -> None:
    with (
        RawServer(MESSAGE) as proxy,
        network(Proxies({"http": f"http://ada:canary-of-proxy@{proxy.netloc}"})) as net,
    ):
        assert read_body(net.send(request("http://ghe.example"), deadline())) == b"ok"
        assert redact("said canary-of-proxy") == "said ***"
    [heard] = proxy.heard
    assert heard.startswith("GET http://ghe.example/x HTTP/1.1\r\n")
    assert (
        f"Proxy-Authorization: Basic {base64.b64encode(b'ada:canary-of-proxy').decode()}" in heard
    )


def test_a_proxy_that_speaks_tls_is_judged_by_the_same_authorities(tmp_path: Path) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with RawServer(MESSAGE, tls=tls) as proxy:
        with network(Proxies({"http": proxy.url}), ca_file=str(tmp_path / "ca.pem")) as net:
            assert read_body(net.send(request("http://ghe.example"), deadline())) == b"ok"
        with (
            network(Proxies({"http": proxy.url})) as net,
            pytest.raises(RemoteUnavailableError, match=r"the proxy failed.*certificate"),
        ):
            net.send(request("http://ghe.example"), deadline())
    assert [heard.splitlines()[0] for heard in proxy.heard] == ["GET http://ghe.example/x HTTP/1.1"]


def test_replaced_authorities_count_from_the_next_connection_and_the_old_ones_meanwhile(
    tmp_path: Path,
) -> None:
    """What a daemon lives through when its private authority is renewed."""
    old, new, file = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    servers = []
    for authority in (old, new):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        servers.append(tls)
    old.cert_pem.write_to_path(str(file))
    with (
        RawServer(MESSAGE, tls=servers[0]) as before,
        RawServer(MESSAGE, tls=servers[1]) as after,
        network(ca_file=str(file)) as net,
    ):
        assert read_body(net.send(request(before.url), deadline())) == b"ok"
        with pytest.raises(RemoteUnavailableError, match="can't be trusted"):
            net.send(request(after.url), deadline())
        file.unlink()
        assert read_body(net.send(request(before.url), deadline())) == b"ok"
        new.cert_pem.write_to_path(str(file))
        assert read_body(net.send(request(after.url), deadline())) == b"ok"


@pytest.mark.parametrize(
    "content",
    ["", "no certificate\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "damaged"],
)
def test_authorities_that_can_not_be_read_are_blamed_themselves(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "ca.pem").write_text(content)
    with (
        network(ca_file=str(tmp_path / "ca.pem")) as net,
        pytest.raises(
            RemoteUnavailableError, match="the certificate authorities can't be read"
        ) as caught,
    ):
        net.send(request("https://127.0.0.1:1"), deadline())
    assert "ca_file:" in (caught.value.hint or "")


def test_the_environment_can_not_have_the_keys_of_a_connection_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with RawServer(MESSAGE, tls=tls) as wire, network(ca_file=str(tmp_path / "ca.pem")) as net:
        assert read_body(net.send(request(wire.url), deadline())) == b"ok"
    assert not (tmp_path / "keys").exists()


def test_over_https_the_proxy_is_asked_for_a_tunnel_and_sees_no_credential_of_ours() -> None:
    with (
        RawServer(said("407 Proxy Authentication Required", "Content-Length: 0")) as proxy,
        network(Proxies({"https": proxy.url})) as net,
    ):
        with pytest.raises(
            RemoteUnavailableError, match=r"it does not let us through to ghe.example: .*407"
        ) as caught:
            net.send(request("https://ghe.example"), deadline())
        assert "HTTPS_PROXY" in (caught.value.hint or "")
    assert proxy.heard[0].startswith("CONNECT ghe.example:443 ") and "canary" not in proxy.heard[0]


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            socket.gaierror(-2, "Name or service not known"),
            (
                "ghe.example can't be reached: Failed to resolve 'ghe.example' (Name or service "
                "not known)"
            ),
        ),
        (
            ConnectionRefusedError(111, "Connection refused"),
            (
                "ghe.example can't be reached: Failed to establish a new connection: Connection "
                "refused"
            ),
        ),
        (
            OSError(101, "Network is unreachable"),
            (
                "ghe.example can't be reached: Failed to establish a new connection: Network is "
                "unreachable"
            ),
        ),
    ],
    ids=["no name", "refused", "no way"],
)
def test_a_host_that_is_not_reached_is_named_in_words(
    monkeypatch: pytest.MonkeyPatch, trouble: OSError, said: str
) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise trouble

    monkeypatch.setattr("socket.getaddrinfo", nowhere)
    with network() as net, pytest.raises(RemoteUnavailableError) as caught:
        net.send(request("https://ghe.example"), deadline())
    assert caught.value.message == f"the request for main of acme/infra failed: {said}"


def test_a_proxys_own_page_is_not_githubs_refusal() -> None:
    from syncd.github.error_responses import failure, parse_error

    page = b"<html>Log in to the proxy</html>"
    with (
        RawServer(
            said(
                "407 Proxy Authentication Required",
                "Content-Type: text/html",
                f"Content-Length: {len(page)}",
                body=page,
            )
        ) as proxy,
        network(Proxies({"http": proxy.url})) as net,
    ):
        error = failure(
            request("http://ghe.example"),
            parse_error(net.send(request("http://ghe.example"), deadline())),
            datetime.now(UTC),
        )
    assert isinstance(error, BadResponseError) and "web page" in error.message


def test_hosts_that_need_no_proxy_and_loopback_are_asked_directly() -> None:
    with (
        RawServer(MESSAGE) as server,
        network(Proxies({"http": "http://127.0.0.1:1", "https": "http://127.0.0.1:1"})) as net,
    ):
        assert read_body(net.send(request(server.url), deadline())) == b"ok"


def test_a_proxys_password_is_known_as_it_is_written_and_as_it_is_sent() -> None:
    with network(Proxies({"http": "http://ada:canary%2Fof+pr%C3%B6xy@127.0.0.1:1"})):
        sent = base64.b64encode("ada:canary/of+pröxy".encode()).decode()
        shown = redact(f"canary%2Fof+pr%C3%B6xy | canary/of+pröxy | Basic {sent}")
    assert "canary" not in shown and sent[8:-6] not in shown and "Y2FuYXJ5" not in shown


def test_a_proxy_that_is_not_there_is_named_without_its_password() -> None:
    with (
        network(Proxies({"http": "http://ada:canary-of-proxy@127.0.0.1:1"})) as net,
        pytest.raises(RemoteUnavailableError) as caught,
    ):
        net.send(request("http://ghe.example"), deadline())
    assert "canary" not in f"{caught.value} {caught.value.hint}"


# --- what is sent ---------------------------------------------------------------------------------


def test_nothing_of_the_environment_and_nothing_of_an_earlier_answer_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("default login thief password canary-of-netrc\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    with (
        RawServer(
            said(
                "200 OK",
                "Set-Cookie: session=canary-of-cookie; Path=/",
                "Content-Length: 2",
                body=b"ok",
            )
        ) as server,
        network() as net,
    ):
        for _ in range(2):
            read_body(net.send(request(server.url), deadline()))
        anonymous = get(server.url, "/x", "head", "x", None)
        read_body(net.send(anonymous, deadline()))
    assert [line.count("Authorization: Bearer ghs_canary") for line in server.heard] == [1, 1, 0]
    assert not any(
        "Cookie" in line or "netrc" in line or base64.b64encode(b"thief").decode()[:6] in line
        for line in server.heard
    )


def test_a_credential_that_was_left_behind_at_a_redirect_does_not_come_back() -> None:
    with (
        RawServer(MESSAGE) as last,
        RawServer(b"") as home,
        RawServer(said("302 Found", f"Location: {last.url}/z", "Content-Length: 0")) as middle,
    ):
        home.answers[:] = [said("302 Found", f"Location: {middle.url}/y", "Content-Length: 0")]
        made = request(home.url)
        made = Request(
            "GET", made.url, "tarball", made.subject, made.repo, made.headers, allow_other_host=True
        )
        with network() as net:
            assert read_body(net.send(made, deadline())) == b"ok"
    assert "canary" in home.heard[0] and "canary" not in middle.heard[0] + last.heard[0]


def test_a_redirect_in_a_circle_ends() -> None:
    with (
        RawServer(said("302 Found", "Location: /x", "Content-Length: 0")) as server,
        network() as net,
    ):
        with pytest.raises(BadResponseError, match="redirected more than"):
            net.send(request(server.url), deadline())
        assert len(server.heard) == 6


def test_a_question_that_changes_something_is_not_turned_into_another_one_by_a_redirect() -> None:
    with (
        RawServer(said("302 Found", "Location: /y", "Content-Length: 0")) as server,
        network() as net,
        pytest.raises(BadResponseError, match="a POST can't follow"),
    ):
        net.send(post(server.url, "/x", "token", "a token", {}), deadline())
    assert len(server.heard) == 1


def test_a_token_with_a_line_end_is_never_sent() -> None:
    with RawServer(MESSAGE) as server, network() as net, pytest.raises(BadResponseError) as caught:
        net.send(request(server.url, Authorization="Bearer ghs_canary\r\nX-Evil: 1"), deadline())
    assert server.heard == [] and "canary" not in str(caught.value)


# --- what comes back ------------------------------------------------------------------------------

ZIPPED = gzip.compress(b"content" * 100)
WHOLE: dict[str, tuple[bytes, bytes]] = {
    "with a length": (said("200 OK", "Content-Length: 7", body=b"content"), b"content"),
    "until the end": (said("200 OK", body=b"content"), b"content"),
    "in chunks": (
        said(
            "200 OK", "Transfer-Encoding: chunked", body=b"3\r\ncon\r\n4;x=y\r\ntent\r\n0\r\n\r\n"
        ),
        b"content",
    ),
    "zipped": (
        said("200 OK", "Content-Encoding: gzip", f"Content-Length: {len(ZIPPED)}", body=ZIPPED),
        b"content" * 100,
    ),
    "zipped in two members": (
        said(
            "200 OK",
            "Content-Encoding: gzip",
            f"Content-Length: {2 * len(ZIPPED)}",
            body=ZIPPED * 2,
        ),
        b"content" * 200,
    ),
    "empty": (said("200 OK", "Content-Length: 0"), b""),
    "a length twice, agreeing": (
        said("200 OK", "Content-Length: 7", "Content-Length: 7", body=b"content"),
        b"content",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_body_is_read_however_it_is_framed(name: str) -> None:
    with RawServer(WHOLE[name][0]) as server:
        assert body_of(server.url) == WHOLE[name][1]


CUT = {
    "before its length": said("200 OK", "Content-Length: 100", body=b"content"),
    "within a chunk": said("200 OK", "Transfer-Encoding: chunked", body=b"9\r\ncontent"),
    "before the last chunk": said("200 OK", "Transfer-Encoding: chunked", body=b"7\r\ncontent\r\n"),
    "a chunk without a size": said(
        "200 OK", "Transfer-Encoding: chunked", body=b"z\r\ncontent\r\n0\r\n\r\n"
    ),
    "within the compression": said("200 OK", "Content-Encoding: gzip", body=ZIPPED[:-9]),
    "damaged compression": said(
        "200 OK", "Content-Encoding: gzip", body=ZIPPED[:20] + b"\0\0\0\0" + ZIPPED[24:]
    ),
    "not compressed at all": said("200 OK", "Content-Encoding: gzip", body=b"plain text"),
    "no answer": b"",
    "no head": b"content\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000 + b"\r\n",
    "a header line without end": b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 200_000 + b"\r\n\r\n",
    "a status that is none": b"HTTP/1.1 abc OK\r\n\r\n",
}


@pytest.mark.parametrize("name", CUT)
def test_an_answer_that_is_not_whole_is_passing_trouble(name: str) -> None:
    with RawServer(CUT[name]) as server, pytest.raises(RemoteUnavailableError) as caught:
        body_of(server.url)
    assert "main of acme/infra" in caught.value.message and "0x" not in caught.value.message


def test_of_a_cut_head_nothing_is_made_up(caplog: pytest.LogCaptureFixture) -> None:
    """The library takes it for an answer without a length and without a body; whoever asked judges
    content by its id and JSON by its shape.
    """
    with RawServer(b"HTTP/1.1 200 OK\r\nContent-Le") as server:
        assert body_of(server.url) == b""


BOMB = gzip_of_zeros(64)
TOO_MUCH = {
    "says so": said("200 OK", f"Content-Length: {10 << 30}", body=b"x"),
    "says nothing": said("200 OK", body=b"x" * (3 << 20)),
    "is a bomb": said(
        "200 OK", "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}", body=BOMB
    ),
    "is encoded otherwise": said(
        "200 OK", "Content-Encoding: br", "Content-Length: 3", body=b"abc"
    ),
    "has an encoding in an encoding": said(
        "200 OK", "Content-Encoding: gzip, gzip", "Content-Length: 3", body=b"abc"
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_an_answer_longer_than_it_may_be_or_encoded_unasked_makes_no_sense(name: str) -> None:
    with RawServer(TOO_MUCH[name]) as server, pytest.raises(BadResponseError):
        body_of(server.url, cap_bytes=1 << 20)


def test_everything_is_counted_and_the_places_at_the_gate_are_given_back() -> None:
    clock, request_metrics, gate = SystemClock(), RequestMetrics(), ConcurrencyLimit(1)
    with RawServer(said("302 Found", "Location: /y", "Content-Length: 0"), b"", MESSAGE) as server:
        net = Network("ops", clock, request_metrics, RateLimits(clock), gate, Proxies({}))
        with pytest.raises(RemoteUnavailableError):
            read_body(net.send(request(server.url), deadline()))
        answer = net.send(request(server.url), deadline())
        answer.close()
        answer.close()
        assert read_body(net.send(request(server.url), deadline())) == b"ok"
        net.close()
    assert request_metrics.by_code() == {("ops", 302): 1, ("ops", 200): 2}
    gate.acquire(deadline(1))


def test_the_servers_clock_is_measured() -> None:
    at = datetime.now(UTC) + timedelta(minutes=7)
    clock, request_metrics = SystemClock(), RequestMetrics()
    with RawServer(
        said("200 OK", f"Date: {format_datetime(at, usegmt=True)}", "Content-Length: 0")
    ) as server:
        net = Network(
            "ops", clock, request_metrics, RateLimits(clock), ConcurrencyLimit(1), Proxies({})
        )
        read_body(net.send(request(server.url), deadline()))
        net.close()
    assert request_metrics.skew_seconds is not None and 410 < request_metrics.skew_seconds < 430


@pytest.mark.parametrize("ca_file", ["/nonexistent", "/etc"])
def test_a_ca_file_that_is_none_is_a_mistake_of_the_configuration(ca_file: str) -> None:
    clock = SystemClock()
    with pytest.raises(ConfigError, match="ca_file"):
        Network(
            "ops",
            clock,
            RequestMetrics(),
            RateLimits(clock),
            ConcurrencyLimit(1),
            Proxies({}),
            ca_file,
        )


def test_a_signal_ends_the_wait_for_an_answer_and_for_its_body() -> None:
    with RawServer(said("200 OK", "Content-Length: 10", body=b"x")) as server, network() as net:
        stop = threading.Event()
        held = Deadline(SystemClock(), 30, stop)
        answer = net.send(request(server.url), held)
        stop.set()
        with pytest.raises((StoppedError, RemoteUnavailableError)):
            read_body(answer)
        with pytest.raises(StoppedError):
            net.send(request(server.url), held)


# --- asked again ----------------------------------------------------------------------------------

REQUEST = request("https://api.test")
LIMITED = b'{"message": "You have exceeded a secondary rate limit"}'


class Scripted:
    """Answers in turn, the last one for ever: an error is raised,
    a status (with headers and body) answered.
    """

    def __init__(self, *answers: Exception | tuple[int, Mapping[str, str], bytes]) -> None:
        self.answers, self.sent = list(answers), 0

    def send(self, request: Request, deadline: Deadline) -> Response:
        self.sent += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return BufferedResponse(
            found[0], {"content-type": "application/json", **found[1]}, request.url, found[2]
        )


def asked(
    *answers: Exception | tuple[int, Mapping[str, str], bytes],
    seconds: float = 36000,
    chance: float = 1.0,
) -> tuple[FakeClock, Scripted, object]:
    """The clock, the script and what came of it."""
    clock, script = FakeClock(), Scripted(*answers)
    try:
        return (
            clock,
            script,
            RetryingTransport(script, clock, random_fraction=lambda: chance)
            .send(REQUEST, Deadline(clock, seconds))
            .status,
        )
    except Exception as error:
        return clock, script, error


OK = (200, {}, b"ok")
LOST = RemoteUnavailableError("lost")


@pytest.mark.parametrize(
    "trouble", [LOST, *((status, {}, b"") for status in (408, 500, 502, 503, 504))], ids=str
)
def test_passing_trouble_is_asked_again_with_growing_pauses_and_then_told(
    trouble: Exception | tuple[int, Mapping[str, str], bytes],
) -> None:
    clock, script, found = asked(trouble)
    assert script.sent == MAX_ATTEMPTS and clock.waits == [
        BACKOFF_SECONDS * 2 ** (number + 1) for number in range(MAX_ATTEMPTS - 1)
    ]
    assert found == (trouble if isinstance(trouble, Exception) else trouble[0])
    clock, script, found = asked(trouble, trouble, OK, chance=0.25)
    assert (script.sent, found) == (3, 200) and clock.waits == [0.25, 0.5], (
        "full jitter: any part of the pause"
    )


@pytest.mark.parametrize("status", [200, 201, 304, 400, 401, 404, 409, 410, 422, 451, 501])
def test_an_answer_that_another_would_not_change_is_not_asked_for_again(status: int) -> None:
    clock, script, found = asked((status, {}, b""))
    assert (script.sent, clock.waits, found) == (1, [], status)


def test_a_run_whose_time_is_used_up_is_not_tried_again() -> None:
    _, script, found = asked(TimedOutError("late"))
    assert script.sent == 1 and isinstance(found, TimedOutError)


def test_a_pause_that_does_not_fit_into_the_run_is_not_begun() -> None:
    clock, script, found = asked(LOST, seconds=0.5)
    assert (script.sent, clock.waits) == (1, []) and found is LOST


def test_a_limit_without_a_hint_is_waited_for_a_minute_then_two_and_then_told() -> None:
    clock, script, found = asked((403, {}, LIMITED), chance=0.5)
    assert (script.sent, found) == (3, 403) and clock.waits == [60.5, 120.5]


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "nonsense"}, 60),
        ({"retry-after": "-5"}, 1),
    ],
)
def test_the_time_that_a_limit_gives_is_waited_exactly(
    headers: dict[str, str], wait: float
) -> None:
    clock, script, found = asked((429, headers, b"{}"), OK, chance=0.0)
    assert (script.sent, found, clock.waits) == (2, 200, [wait])


def test_the_hourly_limit_is_counted_on_the_servers_clock() -> None:
    server = FakeClock().now() + timedelta(hours=3)  # theirs is three hours ahead of ours
    headers = {
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int(server.timestamp()) + 100),
        "date": format_datetime(server, usegmt=True),
    }
    clock, script, found = asked((403, headers, b"{}"), OK, chance=0.0)
    assert (script.sent, found, clock.waits) == (2, 200, [101])


def test_a_limit_longer_than_the_run_is_told_at_once() -> None:
    clock, script, found = asked((429, {"retry-after": "100"}, b"{}"), seconds=99)
    assert (script.sent, clock.waits, found) == (1, [], 429)


def test_a_limit_that_another_request_met_is_waited_out_without_a_request() -> None:
    clock = FakeClock()
    rate_limits = RateLimits(clock)
    rate_limits.get().block_until(
        "api",
        RateLimitedError("slow down", retry_at=clock.now() + timedelta(seconds=30), status=403),
    )
    with RawServer(MESSAGE) as server, network(clock=clock, rate_limits=rate_limits) as net:
        transport = RetryingTransport(net, clock, random_fraction=lambda: 0.0)
        with pytest.raises(RateLimitedError):
            transport.send(request(server.url), Deadline(clock, 29))
        assert server.heard == []
        assert transport.send(request(server.url), Deadline(clock, 60)).status == 200
    assert clock.waits == [30]


def test_what_limits_one_request_keeps_the_others_back() -> None:
    limited = said(
        "403 Forbidden",
        "Content-Type: application/json",
        "Retry-After: 30",
        f"Content-Length: {len(LIMITED)}",
        body=LIMITED,
    )
    clock = FakeClock()
    with RawServer(limited, MESSAGE) as server, network(clock=clock) as net:
        assert net.send(request(server.url), Deadline(clock, 60)).status == 403
        for _ in range(50):
            with pytest.raises(RateLimitedError):
                net.send(request(server.url), Deadline(clock, 60))
        assert len(server.heard) == 1
        clock.advance(31)
        assert net.send(request(server.url), Deadline(clock, 60)).status == 200


def test_a_permission_that_is_missing_keeps_nobody_back() -> None:
    refused = said(
        "403 Forbidden",
        "Content-Type: application/json",
        "x-ratelimit-remaining: 4000",
        "Content-Length: 2",
        body=b"{}",
    )
    with RawServer(refused, MESSAGE) as server, network() as net:
        assert net.send(request(server.url), deadline()).status == 403
        assert net.send(request(server.url), deadline()).status == 200


class TickingClock(FakeClock):
    """A clock of which each look costs 0.1 s."""

    def monotonic(self) -> float:
        self.advance(0.1)
        return super().monotonic()


class Heard(SilentListener):
    """Keeps what is said of hosts, and ends the run then."""

    def __init__(self, stop: threading.Event, clock: FakeClock) -> None:
        self.stop, self.clock, self.seconds = stop, clock, 0.0
        self.said = list[tuple[str, str, datetime | None]]()

    def unreachable(self, host: str, reason: str, retry_until: datetime | None) -> None:
        self.said.append((host, reason, retry_until))
        self.seconds = self.clock.seconds
        self.stop.set()


def test_a_host_without_a_connection_is_reported_before_three_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()

    def silent(_: object) -> socket.socket:
        ended.wait(30)
        raise OSError("nobody")

    monkeypatch.setattr(connections, "_connected", silent)
    clock = TickingClock()
    began, run = clock.seconds, Deadline(clock, 600)
    run.progress = heard = Heard(run.stop, clock)
    with network(clock=clock) as net:
        with pytest.raises(StoppedError):
            net.send(request("http://127.0.0.1:9/x"), run)
        ended.set()
    [(host, reason, until)] = heard.said
    assert (host, reason) == ("127.0.0.1:9", "no connection yet")
    assert 1.5 < heard.seconds - began < 3 and until is not None


# failed attempts so far, whether the run may retry, its seconds: seconds until the last attempt
# ends
LAST_ENDS = [(0, True, 600, 67), (1, True, 600, 46), (2, True, 600, 24), (3, True, 600, None)]
LAST_ENDS += [(1, False, 600, None), (1, True, 30, 30), (1, True, 0, None)]


@pytest.mark.parametrize(("lost", "may_retry", "seconds", "expected"), LAST_ENDS)
def test_the_end_of_the_last_attempt_is_known(
    lost: int, may_retry: bool, seconds: int, expected: int | None
) -> None:
    clock = FakeClock()
    attempts, run = Attempts(random_fraction=lambda: 0.0), Deadline(clock, 600)
    for _ in range(lost):
        attempts.next_delay_seconds(run, answered=False)
    run = Deadline(clock, seconds)
    run.may_retry = may_retry
    found = attempts.last_ends_at(run)
    assert found == (None if expected is None else clock.at + timedelta(seconds=expected))
