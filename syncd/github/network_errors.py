"""The meaning of the network library's errors: the cause, whether a retry helps, and what to do."""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

import requests
from urllib3 import exceptions

from syncd.errors import BadResponseError, RemoteUnavailableError, UnreachableError
from syncd.github.protocol import Request


class PermanentNetworkError(RemoteUnavailableError):
    """Nothing of ours was sent, and a retry would not help.

    The certificate is not acceptable, or a proxy refuses.
    """


def translate_network_error(
    request: Request, error: Exception
) -> RemoteUnavailableError | BadResponseError:
    """Return the error of ours for one of the library's, without secrets of headers and addresses.

    An exception that is none of its errors is raised as it is.
    """
    error = underlying_error(error)
    where, asked = urlsplit(request.url).netloc, f"the request for {request.subject} failed"
    if isinstance(error, (exceptions.SSLError, ssl.SSLError)):
        return _tls_failure(f"{asked}: {where}", str(error))
    if isinstance(error, exceptions.ProxyError):
        return _proxy_failure(asked, where, innermost_reason(error))
    # names that don't resolve are one
    if isinstance(error, (exceptions.NewConnectionError, exceptions.ConnectTimeoutError)):
        reason = innermost_reason(error)
        return UnreachableError(
            f"{asked}: {where} can't be reached: {reason}",
            reason=reason.removeprefix("Failed to establish a new connection: "),
            id="unavailable/unreachable",
            hint=CHECK_NETWORK,
        )
    if isinstance(error, exceptions.TimeoutError):
        return RemoteUnavailableError(
            f"{asked}: {where} did not answer in time",
            id="unavailable/no-answer",
            hint=CHECK_NETWORK,
        )
    if isinstance(error, (exceptions.LocationValueError, requests.exceptions.InvalidURL)):
        return BadResponseError(
            f"{asked}: {where or request.url} is no address",
            id="bad_response/not-an-address",
            hint="check api:",
        )
    if isinstance(error, ValueError) and not isinstance(error, exceptions.HTTPError):
        # the library's own text would show the header, and so the token
        return BadResponseError(
            f"{asked}: one of its headers can't be sent",
            id="bad_response/invalid-header",
            hint="check the token for line ends and stray characters",
        )
    if isinstance(error, (exceptions.HTTPError, OSError)):
        return RemoteUnavailableError(
            f"{asked}: {where} can't be reached: {innermost_reason(error)}",
            id="unavailable/connection-lost",
            hint=CHECK_NETWORK,
        )
    raise error


def _proxy_failure(asked: str, where: str, reason: str) -> RemoteUnavailableError:
    refused = re.search(r"Tunnel connection failed: (40[137])\b", reason)
    if refused is None:
        return RemoteUnavailableError(
            f"{asked}: the proxy failed: {reason}",
            id="unavailable/proxy-failed",
            hint="check HTTPS_PROXY and its credentials",
        )
    hint = "the proxy's rules must allow this host"
    if refused[1] == "407":
        hint = "give HTTPS_PROXY its user and password (http://USER:PASSWORD@HOST:PORT)"
    return PermanentNetworkError(
        f"{asked}: the proxy failed: it does not let us through to {where}: {reason}",
        id="unavailable/proxy-refused",
        hint=hint,
    )


CHECK_NETWORK = "check the network, DNS and any proxy; the next run tries again"
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


def _tls_failure(asked: str, text: str) -> RemoteUnavailableError:
    """Return the error for a failed TLS connection.

    Source: OpenSSL's words for X509_V_ERR_*, as Python's ssl module passes them on.
    """
    low = text.lower()
    if "certificate_verify_failed" in low or "certificate verify failed" in low:
        return _certificate_failure(asked, text)
    if "x509" in low or "pem lib" in low or "no start line" in low:
        return PermanentNetworkError(
            f"{asked}: the certificate authorities can't be read",
            id="unavailable/ca-file",
            hint="ca_file: must be a file of certificates in PEM form",
        )
    if "wrong version number" in low or "record layer failure" in low or "http request" in low:
        return PermanentNetworkError(
            f"{asked} does not speak TLS",
            id="unavailable/no-tls",
            hint="check the address and port in api:, and any proxy",
        )
    reason = text.partition("[SSL")[2].partition("] ")[2].partition(" (_ssl")[0]
    return RemoteUnavailableError(
        f"{asked}: no TLS connection was made: {reason or 'the connection was lost'}",
        id="unavailable/tls-failed",
        hint="check the network and any proxy; the next run tries again",
    )


def _certificate_failure(asked: str, text: str) -> PermanentNetworkError:
    for sign, words, hint in CERTIFICATES:
        if sign in text.lower():
            return PermanentNetworkError(
                f"{asked}: {words}", id="unavailable/certificate", hint=hint
            )
    reason = text.partition("verify failed: ")[2].partition(" (_ssl")[0].strip("'\") ")
    return PermanentNetworkError(
        f"{asked}: its certificate can't be trusted: {reason or 'no known authority signed it'}",
        id="unavailable/untrusted-certificate",
        hint="for a private authority set ca_file: in the identity; else something may answer in "
        "its place",
    )


def underlying_error(error: Exception) -> Exception:
    """Return urllib3's own error where `requests` has wrapped it: it says what happened."""
    while (
        isinstance(error, requests.RequestException)
        and error.args
        and isinstance(error.args[0], Exception)
    ):
        error = error.args[0]
    return error


def innermost_reason(error: BaseException) -> str:
    """Return the innermost reason of a chain of library errors.

    Object addresses, connections and error numbers are left out.
    """
    seen: BaseException = error
    while seen.args and isinstance(seen.args[-1], BaseException):
        seen = seen.args[-1]
    reason = getattr(seen, "reason", None)
    if isinstance(reason, BaseException):
        return innermost_reason(reason)
    text = str(seen).rpartition(">: ")[2] or type(seen).__name__
    text = re.sub(r"^HTTPS?Connection(?:Pool)?\([^)]*\): |\[Errno -?\d+\] ", "", text.strip("'\" "))
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
