"""GitHub's own words in a refusal: what each text means and what the operator does about it.

Data for `error_responses.failure`, which reads the status first. Each source quotes the whole
text that GitHub sent.
"""

from __future__ import annotations

from msgspec import Struct

# In the text of an exhausted limit, also where the answer has no limit header:
# octokit/plugin-throttling.js issue 222.
RATE_LIMIT_WORDS = "rate limit exceeded"

# What all texts about a JSON web token's times have in common, of github.com and of Enterprise
# Server. Source: octokit/auth-app.js issues 146 and 698; recorded answers app-401-iat and
# access-token-401-expired.
CLOCK_CLAIMS = ("claim ('iat')", "claim ('exp')")

# 404 to a request that is signed as an App: actions/create-github-app-token issue 76.
UNKNOWN_APP = "Integration not found"


class KnownText(Struct, frozen=True):
    """One text of a refusal: the part that identifies it, and the error that it becomes."""

    text: str  # part of GitHub's message
    state: str
    id: str
    hint: str


def is_about_the_clock(message: str) -> bool:
    """Return whether a 401 says that a JSON web token's times do not fit GitHub's clock."""
    return any(claim in message for claim in CLOCK_CLAIMS)


# 401, in the order in which the texts are looked for.
UNAUTHORISED = (
    KnownText(
        "could not be decoded",
        "key",
        "auth/wrong-key",
        "the private key does not belong to this App; download a new one in the App's settings",
    ),
    KnownText(
        "must generate a public key",
        "key",
        "auth/app-without-key",
        "app_id names an App without a key; check app_id, or generate a private key in the App's "
        "settings",
    ),
    KnownText(
        "'Issuer' claim",
        "key",
        "auth/app-id-not-a-number",
        "no App has this app_id or client_id; check it for stray characters",
    ),
    KnownText("claim ('iss')", "key", "auth/wrong-app-id", "check app_id or client_id"),
    *(
        KnownText(claim, "clock", "auth/clock", "this machine's clock is off; set up NTP")
        for claim in CLOCK_CLAIMS
    ),
)

# 403, in the order in which the texts are looked for. Sources, each with the whole text:
# NixOS/org issue 247 and HHS/simpler-grants-gov issue 2547 (lifetime), git-town/git-town issue
# 4609 (classic), mislav/hub issue 3363 (fine-grained), aeonfun/aeon issue 1083 (OAuth apps),
# sourcegraph/sourcegraph-public-snapshot issue 16638 and gitextensions/gitextensions issue 3339
# (suspended user; the latter text also holds "installation").
# `{needs}` in a hint is the permission that GitHub names.
FORBIDDEN = (
    KnownText(
        "token's lifetime is greater than",
        "policy",
        "auth/token-lifetime",
        "make a new token that expires sooner than the policy in the message allows, and put it "
        "in the old one's place",
    ),
    KnownText(
        "forbids access via a personal access token (classic)",
        "policy",
        "auth/classic-token-forbidden",
        "use a GitHub App (app_id:) or a fine-grained token instead of the classic one",
    ),
    KnownText(
        "forbids access via a personal access token with fine-grained permissions",
        "policy",
        "auth/personal-token-forbidden",
        "use a GitHub App (app_id:) instead of a personal access token",
    ),
    KnownText(
        "forbids access via",
        "policy",
        "auth/token-kind-forbidden",
        "the account's policy refuses this kind of token; the message names the kinds that it "
        "accepts",
    ),
    KnownText(
        "OAuth App access restrictions",
        "policy",
        "auth/oauth-app-not-approved",
        "an owner of the organization has to approve the OAuth app under Settings → Third-party "
        "Access; or use a GitHub App",
    ),
    KnownText(
        "account was suspended",
        "suspended_user",
        "auth/user-suspended",
        "GitHub suspended the user whose token or login this is; the user has to ask GitHub "
        "Support; or use a GitHub App",
    ),
    KnownText(
        "account is suspended",
        "suspended_user",
        "auth/user-suspended",
        "the user whose token or login this is, is suspended; ask the server's administrator or "
        "GitHub Support; or use a GitHub App",
    ),
    KnownText(
        "suspended",
        "suspended",
        "auth/installation-suspended",
        "the installation is suspended; an owner of the account can unsuspend it under Settings → "
        "Applications",
    ),
    KnownText(
        "IP allow list",
        "allow_list",
        "auth/ip-allow-list",
        "add this server's address to the organization's IP allow list",
    ),
    KnownText(
        "User-Agent",
        "proxy",
        "auth/user-agent-removed",
        "something between here and GitHub removes the User-Agent header",
    ),
    KnownText(
        "Resource not accessible",
        "permission",
        "auth/missing-permission",
        "the token lacks a permission ({needs}); grant it in the App's or token's settings",
    ),
)


__all__ = [
    "CLOCK_CLAIMS",
    "FORBIDDEN",
    "RATE_LIMIT_WORDS",
    "UNAUTHORISED",
    "UNKNOWN_APP",
    "KnownText",
    "is_about_the_clock",
]
