"""What the network library's errors mean: whom they blame, whether asking again helps, and what to do."""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

import requests
from urllib3 import exceptions

from syncd.errors import BadResponseError, RemoteUnavailableError, UnreachableError
from syncd.github.protocol import Request


class PermanentNetworkError(RemoteUnavailableError):
    """Nothing of ours was sent, and asking again would not mend it: a certificate that is not as it should be, a proxy that says no."""


def translated(request: Request, error: Exception) -> RemoteUnavailableError | BadResponseError:
    """The library's error in our words, without what a header or an address holds. What is none of its errors is raised as it is."""
    error = below(error)
    where = urlsplit(request.url).netloc
    hint = "check the network, DNS and any proxy; the next run tries again"
    if isinstance(error, (exceptions.SSLError, ssl.SSLError)):
        return _tls_failure(request, where, str(error))
    if isinstance(error, exceptions.ProxyError):
        if (
            refused := re.search(
                r"Tunnel connection failed: (40[137])\b", words := reason_of(error)
            )
        ) is not None:
            hint = (
                "give HTTPS_PROXY its user and password (http://USER:PASSWORD@HOST:PORT)"
                if refused[1] == "407"
                else "the proxy's rules must allow this host"
            )
            return PermanentNetworkError(
                f"asked for {request.subject}: the proxy failed: it does not let us through to {where}: {words}",
                hint=hint,
            )
        return RemoteUnavailableError(
            f"asked for {request.subject}: the proxy failed: {reason_of(error)}",
            hint="check HTTPS_PROXY and its credentials",
        )
    if isinstance(
        error, (exceptions.NewConnectionError, exceptions.ConnectTimeoutError)
    ):  # names that don't resolve are one
        return UnreachableError(
            f"asked for {request.subject}: {where} can't be reached: {reason_of(error)}", hint=hint
        )
    if isinstance(error, exceptions.TimeoutError):
        return RemoteUnavailableError(
            f"asked for {request.subject}: {where} did not answer in time", hint=hint
        )
    if isinstance(error, (exceptions.LocationValueError, requests.exceptions.InvalidURL)):
        return BadResponseError(
            f"asked for {request.subject}: {where or request.url} is no address", hint="check api:"
        )
    if isinstance(error, ValueError) and not isinstance(error, exceptions.HTTPError):
        # the library's own text would show the header, and so the token
        return BadResponseError(
            f"asked for {request.subject}: a header can't be sent as it is",
            hint="check the token for line ends and stray characters",
        )
    if isinstance(error, (exceptions.HTTPError, OSError)):
        return RemoteUnavailableError(
            f"asked for {request.subject}: {where} can't be reached: {reason_of(error)}", hint=hint
        )
    raise error


OTHER_HOST = "its certificate is for another host"
NOT_GITHUB = "check api:, and whether something between here and GitHub answers in its place"
CERTIFICATES = (  # in what the library says, what it means, what to do
    (
        "has expired",
        "its certificate has expired",
        "renew it there; where it is fine, this machine's clock is wrong",
    ),
    ("not yet valid", "its certificate is not valid yet", "check this machine's clock"),
    ("hostname mismatch", OTHER_HOST, NOT_GITHUB),
    ("ip address mismatch", OTHER_HOST, NOT_GITHUB),
    ("doesn't match", OTHER_HOST, NOT_GITHUB),
)


def _tls_failure(request: Request, where: str, text: str) -> RemoteUnavailableError:
    """Source: OpenSSL's words for X509_V_ERR_*, as Python's ssl module passes them on."""
    asked, low = f"asked for {request.subject}: {where}", text.lower()
    if "certificate_verify_failed" in low or "certificate verify failed" in low:
        for sign, words, hint in CERTIFICATES:
            if sign in low:
                return PermanentNetworkError(f"{asked}: {words}", hint=hint)
        reason = (
            text.partition("verify failed: ")[2].partition(" (_ssl")[0].strip("'\") ")
            or "nobody vouches for it"
        )
        return PermanentNetworkError(
            f"{asked}: its certificate can't be trusted: {reason}",
            hint="for a private authority set ca_file: in the identity; else something may answer in its place",
        )
    if "x509" in low or "pem lib" in low or "no start line" in low:
        return PermanentNetworkError(
            f"{asked} was not asked: the certificate authorities can't be read",
            hint="ca_file: must be a file of certificates in PEM form",
        )
    if "wrong version number" in low or "record layer failure" in low or "http request" in low:
        return PermanentNetworkError(
            f"{asked} does not speak TLS", hint="check the address and port in api:, and any proxy"
        )
    reason = (
        text.partition("[SSL")[2].partition("] ")[2].partition(" (_ssl")[0]
        or "the connection was lost"
    )
    return RemoteUnavailableError(
        f"{asked}: no TLS connection came about: {reason}",
        hint="check the network and any proxy; the next run tries again",
    )


def below(error: Exception) -> Exception:
    """urllib3's own error, where `requests` has wrapped it: that one says what happened."""
    while (
        isinstance(error, requests.RequestException)
        and error.args
        and isinstance(error.args[0], Exception)
    ):
        error = error.args[0]
    return error


def reason_of(error: BaseException) -> str:
    """The innermost reason of a chain of library errors, without object addresses, connections and numbers."""
    seen: BaseException = error
    while seen.args and isinstance(seen.args[-1], BaseException):
        seen = seen.args[-1]
    reason = getattr(seen, "reason", None)
    if isinstance(reason, BaseException):
        return reason_of(reason)
    text = str(seen).rpartition(">: ")[2] or type(seen).__name__
    text = re.sub(r"^HTTPS?Connection(?:Pool)?\([^)]*\): |\[Errno -?\d+\] ", "", text.strip("'\" "))
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
