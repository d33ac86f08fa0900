"""What every refusal means, as a table: the texts that clients have recorded of GitHub,
and whose turn each makes it.

Source: REST docs ("Rate limits", "Troubleshooting", "Authenticating"), recorded answers of hub4j
and PyGithub, issue threads of octokit and others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import (
    AuthError,
    BadResponseError,
    NotFoundError,
    RateLimitedError,
    RemoteUnavailableError,
    StoppedError,
    SyncdError,
    TimedOutError,
    UnsafePathError,
)
from syncd.github.error_responses import (
    ErrorBody,
    TooLargeError,
    failure,
    parse_error,
    rate_limit_error,
)
from syncd.github.protocol import (
    ERROR_BYTES,
    BufferedResponse,
    Request,
    buffered,
    date_of,
    get,
    post,
    quote_path,
    read_json,
    repo_path,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
API = "https://api.test"
HEAD = get(API, "/repos/acme/infra/commits/heads/main", "head", "main of acme/infra", "acme/infra")
TREE = get(
    API,
    "/repos/acme/infra/git/trees/1f3ac90",
    "tree",
    "the tree of acme/infra at 1f3ac90",
    "acme/infra",
)
MINT = post(API, "/app/installations/42/access_tokens", "token", "a token of installation 42", {})
FIND = get(
    API,
    "/repos/acme/infra/installation",
    "installation",
    "the App's installation on acme/infra",
    "acme/infra",
)
APP = get(API, "/app", "app", "the App itself", None)
FINE = {
    "x-ratelimit-remaining": "4990",
    "x-ratelimit-limit": "5000",
    "x-github-request-id": "A1:B2",
}
ALLOW_LIST = (
    "Although you appear to have the correct authorization credentials, the `acme` organization "
    "has an IP allow list enabled, and your IP address is not permitted to access this resource."
)
LIFETIME = (
    "The 'NixOS' organization forbids access via a fine-grained personal access tokens if the "
    "token's lifetime is greater than 90 days. Please adjust your token's lifetime at the "
    "following URL: https://github.com/settings/personal-access-tokens/12885303"
)
LIFETIME_ENTERPRISE = (
    "The 'HHS ONC' enterprise forbids access via a fine-grained personal access tokens if the "
    "token's lifetime is greater than 366 days. Please adjust your token's lifetime at the "
    "following URL: https://github.com/settings/personal-access-tokens/4277325"
)
CLASSIC = (
    "`ORGANIZATION` forbids access via a personal access token (classic). "
    "Please use a GitHub App, OAuth App, or a personal access token with fine-grained permissions."
)
FINE_GRAINED = (
    "`AikidoSec` forbids access via a personal access token with fine-grained permissions. Please "
    "use a GitHub App, or an OAuth App."
)
OAUTH_APPS = (
    "Although you appear to have the correct authorization credentials, the `aeonfun` "
    "organization has enabled OAuth App access restrictions, meaning that data access to "
    "third-parties is limited."
)
SAML = (
    "Resource protected by organization SAML enforcement. You must grant your Personal Access "
    "token access to this organization."
)
SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
)
ABUSE = "You have triggered an abuse detection mechanism. Please retry your request again later."


def answer(
    status: int,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: object,
) -> BufferedResponse:
    body = (
        b""
        if message is None and not more
        else json.dumps(
            {
                "message": message,
                "documentation_url": "https://docs.github.com/rest",
                "status": str(status),
                **more,
            }
        ).encode()
    )
    return BufferedResponse(status, FINE if headers is None else headers, API, body)


def error_of(request: Request, given_answer: BufferedResponse) -> SyncdError:
    return failure(request, parse_error(given_answer), NOW)


AUTH_ROWS = [
    (
        MINT,
        401,
        (
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion "
            "was issued"
        ),
        "clock",
        "NTP",
    ),
    (
        MINT,
        401,
        (
            "'Expiration time' claim ('exp') must be a numeric value representing the future time "
            "at which the assertion expires"
        ),
        "clock",
        "NTP",
    ),
    (MINT, 401, "'Expiration time' claim ('exp') is too far in the future", "clock", "NTP"),
    (MINT, 401, "A JSON web token could not be decoded", "key", "private key"),
    (MINT, 401, "Integration must generate a public key", "key", "app_id"),
    (MINT, 401, "'Issuer' claim ('iss') must be an Integer", "key", "stray"),
    (MINT, 401, "Missing 'issuer' claim ('iss') in assertion", "key", "client_id"),
    (HEAD, 401, "Bad credentials", "token", "wrong, expired or revoked"),
    (MINT, 403, "This installation has been suspended", "suspended", "unsuspend"),
    (TREE, 403, "This installation has been suspended", "suspended", "unsuspend"),
    (MINT, 404, "Not Found", "installation", "app id"),
    (FIND, 404, "Not Found", "installation", "Install App"),
    (
        MINT,
        422,
        "The permissions requested are not granted to this installation.",
        "permission",
        "contents: read",
    ),
    (
        MINT,
        422,
        (
            "There is at least one repository that does not exist or is not accessible to the "
            "parent installation."
        ),
        "grant",
        "not in the installation",
    ),
    (HEAD, 403, "Resource not accessible by integration", "permission", "contents=read"),
    (HEAD, 403, ALLOW_LIST, "allow_list", "this server's address"),
    (
        HEAD,
        403,
        (
            "Request forbidden by administrative rules. Please make sure your request has a "
            "User-Agent header"
        ),
        "proxy",
        "User-Agent",
    ),
    (HEAD, 403, "", "permission", "after many wrong tokens"),
    (HEAD, 404, "Not Found", "hidden", "has access"),
    (HEAD, 451, "Repository access blocked", "blocked", "legal"),
    # actions/create-github-app-token issue 76
    (MINT, 404, "Integration not found", "app", "app_id or client_id"),
    (FIND, 404, "Integration not found", "app", "the host in api:"),
    (APP, 404, "Integration not found", "app", "private_key"),
    # kulkansecurity/gitxray issue 9
    (HEAD, 403, "Repository access blocked", "blocked", "GitHub blocked this repository;"),
    # NixOS/org issue 247; HHS/simpler-grants-gov issue 2547
    (HEAD, 403, LIFETIME, "policy", "expires sooner"),
    (HEAD, 403, LIFETIME_ENTERPRISE, "policy", "expires sooner"),
    # git-town/git-town issue 4609; mislav/hub issue 3363
    (HEAD, 403, CLASSIC, "policy", "a fine-grained token instead of the classic one"),
    (HEAD, 403, FINE_GRAINED, "policy", "use a GitHub App (app_id:) instead"),
    # aeonfun/aeon issue 1083
    (HEAD, 403, OAUTH_APPS, "policy", "approve the OAuth app"),
    # sourcegraph/sourcegraph-public-snapshot issue 16638; gitextensions/gitextensions issue 3339
    (HEAD, 403, "Sorry. Your account was suspended.", "suspended_user", "ask GitHub Support"),
    (
        HEAD,
        403,
        "Your account is suspended. Please check with your installation administrator.",
        "suspended_user",
        "the server's administrator",
    ),
    # ossf/scorecard issue 1504, without the header that names the address
    (HEAD, 403, SAML, "sso", "single sign-on"),
]


@pytest.mark.parametrize(("request_", "status", "message", "state", "hint"), AUTH_ROWS)
def test_a_refusal_of_who_we_are_has_its_own_state_and_says_what_to_do(
    request_: Request, status: int, message: str, state: str, hint: str
) -> None:
    error = error_of(request_, answer(status, message))
    assert isinstance(error, AuthError) and error.kind == "auth" and error.exit_code == 4
    assert error.state == state and hint in (error.hint or "")
    assert error.status == status and error.request_id == "A1:B2"
    assert (request_.repo or request_.subject) in error.message


def test_each_refusal_is_told_apart_by_what_it_says_to_do() -> None:
    hints = [
        error_of(request, answer(status, message)).hint
        for request, status, message, *_ in AUTH_ROWS
    ]
    assert len(set(hints)) == len(AUTH_ROWS) - 6, (
        "texts of one meaning share a hint: three on clocks, two suspensions, three unknown Apps, "
        "two lifetimes"
    )


@pytest.mark.parametrize(
    ("status", "block", "hint"),
    [
        (
            403,
            {
                "reason": "tos",
                "created_at": "2023-02-02T15:50:17Z",
                "html_url": "https://github.com/tos",
            },
            "(tos, https://github.com/tos)",
        ),
        (
            403,
            {
                "reason": "unavailable",
                "created_at": "2014-01-31T22:32:14Z",
                "html_url": "https://github.com/tos",
            },
            "(unavailable, https://github.com/tos)",
        ),
        (451, {"reason": 7, "html_url": None}, "for legal reasons"),
        (403, "tos", "GitHub blocked this repository;"),
    ],
)
def test_a_blocked_repository_is_named_with_githubs_reason(
    status: int, block: object, hint: str
) -> None:
    error = error_of(HEAD, answer(status, "Repository access blocked", block=block))
    assert (
        isinstance(error, AuthError)
        and error.state == "blocked"
        and hint in (error.hint or "")
        and "syncd pause JOB" in (error.hint or "")
    )


def test_a_missing_permission_is_named_as_github_names_it() -> None:
    headers = {**FINE, "x-accepted-github-permissions": "contents=read; metadata=read"}
    assert "contents=read; metadata=read" in (
        error_of(HEAD, answer(403, "Resource not accessible by integration", headers)).hint or ""
    )


def test_single_sign_on_gives_the_address_to_open() -> None:
    headers = {
        **FINE,
        "x-github-sso": (
            "required; url=https://github.com/orgs/acme/sso?authorization_request=AB; x=1"
        ),
    }
    error = error_of(
        HEAD, answer(403, "Resource protected by organization SAML enforcement.", headers)
    )
    assert isinstance(error, AuthError) and error.state == "sso"
    assert (error.hint or "").endswith("https://github.com/orgs/acme/sso?authorization_request=AB")


def test_a_hidden_repository_says_what_github_hides() -> None:
    assert "may not see it" in error_of(HEAD, answer(404, "Not Found")).message


def test_a_wrong_token_in_the_anonymous_bucket_is_still_a_wrong_token() -> None:
    """Recorded of GitHub itself: a bad credential is answered with the limit of nobody, 60, so that
    is no sign of a hiccup.
    """
    error = error_of(
        HEAD,
        answer(401, "Bad credentials", {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "55"}),
    )
    assert isinstance(error, AuthError) and error.state == "token"


@pytest.mark.parametrize(
    ("request_", "status", "message", "kind", "text"),
    [
        (TREE, 404, "Not Found", NotFoundError, "the tree of acme/infra at 1f3ac90"),
        (HEAD, 404, "No commit found for the ref main", NotFoundError, "main of acme/infra"),
        (HEAD, 422, "No commit found for SHA: main", NotFoundError, "main of acme/infra"),
        (TREE, 409, "Git Repository is empty.", NotFoundError, "acme/infra is empty"),
        (TREE, 409, "Conflict with something", NotFoundError, "Conflict with something"),
        (HEAD, 410, "This API version is gone", BadResponseError, "410"),
        (HEAD, 400, "Problems parsing JSON", BadResponseError, "400"),
        (HEAD, 418, None, BadResponseError, "418"),
        (HEAD, 304, None, BadResponseError, "304"),
        (HEAD, 500, "Server Error", RemoteUnavailableError, "500"),
        (HEAD, 502, "Server Error", RemoteUnavailableError, "502"),
        (HEAD, 503, None, RemoteUnavailableError, "503"),
        (HEAD, 504, None, RemoteUnavailableError, "504"),
        (HEAD, 599, None, RemoteUnavailableError, "599"),
        (HEAD, 408, None, RemoteUnavailableError, "408"),
    ],
)
def test_every_other_status_is_the_error_of_who_acts_next(
    request_: Request, status: int, message: str | None, kind: type[SyncdError], text: str
) -> None:
    error = error_of(request_, answer(status, message))
    assert type(error) is kind and text in error.message and error.request_id == "A1:B2"


def test_too_large_is_told_from_forbidden() -> None:
    error = error_of(
        TREE,
        answer(
            403,
            "This API returns blobs up to 1 MB in size.",
            errors=[{"resource": "Blob", "field": "data", "code": "too_large"}],
        ),
    )
    assert isinstance(error, TooLargeError)


@pytest.mark.parametrize(
    "errors", ["too_large", {"code": "too_large"}, [None, 7, {"code": 7}], None, []]
)
def test_errors_that_are_no_array_of_mappings_are_no_reason_to_fall(errors: object) -> None:
    assert isinstance(error_of(TREE, answer(403, "no", errors=errors)), AuthError)


@pytest.mark.parametrize("status", [200, 401, 403, 404, 407, 422])
def test_a_web_page_is_never_taken_for_githubs_word(status: int) -> None:
    error = failure(
        HEAD,
        parse_error(BufferedResponse(status, {}, API, b"\n <!DOCTYPE html><html>Sign in</html>")),
        NOW,
    )
    assert type(error) is BadResponseError and "api:" in (error.hint or "")


def test_a_page_of_trouble_is_trouble() -> None:
    assert (
        type(
            failure(
                HEAD, parse_error(BufferedResponse(503, {}, API, b"<html>Unicorn!</html>")), NOW
            )
        )
        is RemoteUnavailableError
    )


# --- limits ---------------------------------------------------------------------------------------

RESET = {"x-ratelimit-reset": str(int(NOW.timestamp()) + 1800)}
NONE_LEFT = {"x-ratelimit-remaining": "0"}
DOCS = (
    "https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"
)
LIMIT_ROWS = [
    (
        "primary, 403",
        403,
        "API rate limit exceeded for installation ID 42.",
        {**NONE_LEFT, **RESET},
        True,
        1801,
    ),
    ("primary, 429", 429, "API rate limit exceeded", {**NONE_LEFT, **RESET}, True, 1801),
    ("primary, no reset", 403, "API rate limit exceeded", NONE_LEFT, True, 60),
    (
        "primary, and retry-after says more",
        403,
        "API rate limit exceeded",
        {**NONE_LEFT, **RESET, "retry-after": "3000"},
        True,
        3000,
    ),
    (
        "primary, headers twice",
        403,
        "API rate limit exceeded",
        {"x-ratelimit-remaining": "0, 0", "x-ratelimit-reset": f"{RESET['x-ratelimit-reset']}, 1"},
        True,
        1801,
    ),
    (
        "primary, reset long gone",
        403,
        "API rate limit exceeded",
        {**NONE_LEFT, "x-ratelimit-reset": "1000"},
        True,
        1,
    ),
    ("retry-after, 403", 403, SECONDARY, {**FINE, "retry-after": "17"}, False, 17),
    ("retry-after, 429", 429, "", {**FINE, "retry-after": "17"}, False, 17),
    ("retry-after without words", 403, "", {**FINE, "retry-after": "17"}, False, 17),
    ("retry-after zero", 429, "", {"retry-after": "0"}, False, 1),
    ("retry-after negative", 429, "", {"retry-after": "-5"}, False, 1),
    ("retry-after as a date", 429, "", {"retry-after": "Mon, 23 Nov 2026 12:01:30 GMT"}, False, 90),
    ("secondary, no hint", 403, SECONDARY, FINE, False, 60),
    ("secondary, no hint, 429", 429, SECONDARY, FINE, False, 60),
    ("secondary in the old words", 403, ABUSE, FINE, False, 60),
    ("secondary while nothing is left", 403, SECONDARY, {**NONE_LEFT, **RESET}, False, 60),
    ("429 without anything", 429, None, {}, False, 60),
    ("nonsense", 429, None, {"retry-after": "soon", "x-ratelimit-reset": "later"}, False, 60),
    ("infinite", 429, None, {"retry-after": "inf"}, False, 60),
    (
        "not a number",
        403,
        "API rate limit exceeded",
        {**NONE_LEFT, "x-ratelimit-reset": "nan"},
        True,
        60,
    ),
    (
        "primary by its words alone",
        403,
        "API rate limit exceeded for installation ID 12770951.",
        {},
        True,
        60,
    ),
    (
        "primary in the words of 2013",
        403,
        "API Rate Limit Exceeded for 92.104.200.119",
        {},
        True,
        60,
    ),
    (
        "primary by its words, other headers say there is some left",
        403,
        "API rate limit exceeded for user ID 7.",
        FINE,
        True,
        60,
    ),
    (
        "primary by its words, and retry-after",
        403,
        "API rate limit exceeded for user ID 7.",
        {"retry-after": "17"},
        True,
        17,
    ),
    (
        "primary by its words, and a reset",
        403,
        "API rate limit exceeded for user ID 7.",
        RESET,
        True,
        1801,
    ),
    ("absurd", 429, None, {"retry-after": "1e300"}, False, 86400),
    (
        "absurd reset",
        403,
        "API rate limit exceeded",
        {**NONE_LEFT, "x-ratelimit-reset": "9" * 300},
        True,
        86400,
    ),
]


@pytest.mark.parametrize(
    ("status", "message", "headers", "primary", "seconds"),
    [row[1:] for row in LIMIT_ROWS],
    ids=[row[0] for row in LIMIT_ROWS],
)
def test_a_limit_says_when_it_makes_sense_again(
    status: int, message: str | None, headers: dict[str, str], primary: bool, seconds: float
) -> None:
    error = error_of(HEAD, answer(status, message, headers))
    assert (
        isinstance(error, RateLimitedError)
        and error.kind == "rate_limited"
        and error.exit_code == 5
    )
    assert error.primary is primary and error.retry_at == NOW + timedelta(seconds=seconds)
    assert (
        f"{error.retry_at:%Y-%m-%dT%H:%M:%SZ}" in error.message
        and "main of acme/infra" in error.message
    )


@pytest.mark.parametrize("ending", ["secondary-rate-limits", "#abuse-rate-limits"])
def test_a_secondary_limit_is_known_by_its_documentation_alone(ending: str) -> None:
    found = ErrorBody(
        403, "Slow down", "https://docs.github.com/rest/overview/x-" + ending, (), FINE
    )
    error = rate_limit_error(HEAD, found, NOW)
    assert error is not None and not error.primary and error.retry_at == NOW + timedelta(seconds=60)


@pytest.mark.parametrize(
    "ours", [timedelta(minutes=-10), timedelta(), timedelta(minutes=10), timedelta(days=400)]
)
def test_the_wait_for_a_reset_is_counted_on_the_servers_clock(ours: timedelta) -> None:
    headers = {**NONE_LEFT, **RESET, "date": "Mon, 23 Nov 2026 12:00:00 GMT"}
    error = rate_limit_error(
        HEAD, parse_error(answer(403, "API rate limit exceeded", headers)), NOW + ours
    )
    assert error is not None and error.retry_at - (NOW + ours) == timedelta(seconds=1801)


@pytest.mark.parametrize(
    ("request_", "status", "message"), [row[:3] for row in AUTH_ROWS if row[1] == 403]
)
def test_a_permission_error_is_no_limit(request_: Request, status: int, message: str) -> None:
    assert rate_limit_error(request_, parse_error(answer(status, message)), NOW) is None


@given(
    st.sampled_from([200, 400, 401, 403, 404, 409, 422, 429, 451, 500]),
    st.binary(max_size=60),
    st.dictionaries(
        st.sampled_from(
            [
                "date",
                "retry-after",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
                "x-github-sso",
                "x-accepted-github-permissions",
            ]
        ),
        st.text(max_size=12)
        | st.sampled_from(
            [
                "0",
                "-1",
                "1e99",
                "Mon, 23 Nov 2026 12:00:00 GMT",
                "Mon, 23 Nov 99999 12:00:00 GMT",
                " ",
                ",",
                "Mon, 00 Jan 0000 00:00:00 -0000",
            ]
        ),
    ),
)
def test_no_answer_makes_reading_it_fail(status: int, body: bytes, headers: dict[str, str]) -> None:
    error = failure(HEAD, parse_error(BufferedResponse(status, headers, API, body)), NOW)
    assert error.exit_code in (1, 4, 5) and error.message
    if isinstance(error, RateLimitedError):
        assert timedelta(seconds=1) <= error.retry_at - NOW <= timedelta(days=1)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["message", "errors", "code", "documentation_url"]), inner
            )
        ),
    )
)
def test_no_json_makes_reading_a_refusal_fail(value: object) -> None:
    assert failure(
        HEAD, parse_error(BufferedResponse(403, FINE, API, json.dumps(value).encode())), NOW
    ).exit_code in (4, 5)


# --- reading --------------------------------------------------------------------------------------


class Body:
    """An answer in pieces; a piece that is an exception is raised."""

    status, url = 403, API

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.headers: Mapping[str, str] = {}
        self.pieces, self.read, self.closed = pieces, 0, False

    def chunks(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            self.read += 1
            yield piece

    def close(self) -> None:
        self.closed = True


def test_an_errors_endless_body_is_read_to_its_cap_only() -> None:
    body = Body(*[b"x" * 1024] * 10_000)
    assert len(next(buffered(body).chunks())) <= ERROR_BYTES + 1024
    assert body.read <= ERROR_BYTES // 1024 + 1 and body.closed


@pytest.mark.parametrize("lost", [RemoteUnavailableError("cut"), BadResponseError("too long")])
def test_an_error_whose_text_was_cut_is_still_its_status(lost: Exception) -> None:
    body = Body(b'{"mess', lost)
    assert parse_error(body) == ErrorBody(403, "", "", (), {}) and body.closed


@pytest.mark.parametrize("ended", [StoppedError("signal"), TimedOutError("time")])
def test_a_signal_or_the_end_of_time_while_reading_an_error_is_not_swallowed(
    ended: Exception,
) -> None:
    body = Body(b'{"mess', ended)
    with pytest.raises(type(ended)):
        parse_error(body)
    assert body.closed


def test_a_servers_text_can_do_nothing_to_a_terminal_or_a_log() -> None:
    error = error_of(
        HEAD, answer(404, "No commit found \x1b[31m\nsyncd: all is well\r\x9b2J" + "x" * 5000)
    )
    assert error.message.isprintable() or set(error.message) <= {*map(chr, range(0x20, 0x7F)), "…"}
    assert "\n" not in error.message and "\x1b" not in error.message and len(error.message) < 500


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<html>hello</html>", "web page"),
        (b'{"sha": "1', "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "more than 32 levels"),
    ],
)
def test_json_that_is_none_is_a_bad_response(body: bytes, what: str) -> None:
    with pytest.raises(BadResponseError, match=what) as caught:
        read_json(TREE, BufferedResponse(200, {"x-github-request-id": "R"}, API, body))
    assert caught.value.request_id == "R" and "the tree of acme/infra" in caught.value.message


# --- building -------------------------------------------------------------------------------------


def test_every_request_says_who_asks_and_in_which_version() -> None:
    for request in (HEAD, MINT):
        assert request.headers["X-GitHub-Api-Version"] == "2022-11-28"
        assert request.headers["User-Agent"].startswith("syncd/")
        assert request.headers["Accept"] == "application/vnd.github+json"
        assert "Authorization" not in request.headers
    assert (
        MINT.method == "POST"
        and MINT.headers["Content-Type"] == "application/json"
        and MINT.body == b"{}"
    )
    assert "If-None-Match" not in HEAD.headers
    assert (
        get(API, "/x", "head", "x", None, etags='W/"a", "b"').headers["If-None-Match"]
        == 'W/"a", "b"'
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a b", "a%20b"),
        ("a#b?c", "a%23b%3Fc"),
        ("100%", "100%25"),
        ("%2e%2e", "%252e%252e"),
        ("a+b", "a%2Bb"),
        ("ä/ö", "%C3%A4/%C3%B6"),
        ("x\\y", "x%5Cy"),
        ("\udcff", "%FF"),
        ("..a/.b/c..", "..a/.b/c.."),
        ("-rf", "-rf"),
        ("'\"", "%27%22"),
    ],
)
def test_a_path_is_encoded_once_and_its_slashes_stay(path: str, expected: str) -> None:
    assert quote_path(path) == expected


@pytest.mark.parametrize("path", ["..", ".", "a/../b", "../x", "a/.", "./a", "a/b/.."])
def test_a_path_that_would_lead_to_another_endpoint_is_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        quote_path(path)


def test_a_repository_can_not_break_out_of_its_place_in_the_address() -> None:
    assert repo_path("acme/in?fra#x/../y") == "/repos/acme/in%3Ffra%23x%2F..%2Fy"


def test_the_servers_date_is_aware_utc_or_nothing() -> None:
    assert date_of({"date": "Mon, 23 Nov 2026 12:00:00 GMT"}) == NOW
    assert date_of({"date": "yesterday"}) is None and date_of({}) is None
    assert date_of({"date": f"Mon, 23 Nov {'9' * 40} 12:00:00 GMT"}) is None


@pytest.mark.parametrize(
    "text", ["\x07\x1b[2J", "\ud800", "a\u202eb", "\u2028line", "\x9b31m", "two\nlines"]
)
def test_nothing_that_a_server_says_acts_on_a_terminal_or_can_not_be_printed(text: str) -> None:
    sso = {"x-github-sso": f"required; url=https://x/{text}"}
    for headers in (
        {},
        sso,
        {"x-accepted-github-permissions": f"contents{text}", "x-github-request-id": f"AB{text}12"},
    ):
        error = error_of(
            HEAD, answer(403, f"Resource not accessible {text} by integration", headers)
        )
        said = f"{error.message}{error.hint}{error.request_id}"
        assert said.isprintable() and said.encode(), said
