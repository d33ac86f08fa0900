"""GitHub's own words in a refusal: what each text means and what the operator does about it.

Data for `protocol.failure`, which reads the status first. Each source quotes the whole text that GitHub sent.
"""

from __future__ import annotations

# In the text of an exhausted limit, also where the answer has no limit header: octokit/plugin-throttling.js issue 222.
RATE_LIMIT_WORDS = "rate limit exceeded"

# What all texts about a JSON web token's times have in common, of github.com and of Enterprise Server.
# Source: octokit/auth-app.js issues 146 and 698; recorded answers app-401-iat and access-token-401-expired.
CLOCK_CLAIMS = ("claim ('iat')", "claim ('exp')")

# 404 to a request that is signed as an App: actions/create-github-app-token issue 76.
UNKNOWN_APP = "Integration not found"


def is_about_the_clock(message: str) -> bool:
    """Whether a 401 says that a JSON web token's times do not fit GitHub's clock."""
    return any(claim in message for claim in CLOCK_CLAIMS)


# 401: (part of GitHub's message, state, what to do), in the order in which they are looked for.
UNAUTHORISED = (
    (
        "could not be decoded",
        "key",
        "the private key does not belong to this App; download a new one in the App's settings",
    ),
    (
        "must generate a public key",
        "key",
        "app_id names an App without a key; check app_id, or generate a private key in the App's settings",
    ),
    ("'Issuer' claim", "key", "app_id is not a number; check it for stray characters"),
    ("claim ('iss')", "key", "check app_id or client_id"),
    *((claim, "clock", "this machine's clock is off; set up NTP") for claim in CLOCK_CLAIMS),
)

# 403: (part of GitHub's message, state, what to do), in the order in which they are looked for. Sources, each with the whole text:
# NixOS/org issue 247 and HHS/simpler-grants-gov issue 2547 (lifetime), git-town/git-town issue 4609 (classic),
# mislav/hub issue 3363 (fine-grained), aeonfun/aeon issue 1083 (OAuth apps), sourcegraph/sourcegraph-public-snapshot issue 16638
# and gitextensions/gitextensions issue 3339 (suspended user; the latter text also holds "installation").
FORBIDDEN = (
    (
        "token's lifetime is greater than",
        "policy",
        "make a new token that expires sooner than the policy in the message allows, and put it in the old one's place",
    ),
    (
        "forbids access via a personal access token (classic)",
        "policy",
        "use a GitHub App (app_id:) or a fine-grained token instead of the classic one",
    ),
    (
        "forbids access via a personal access token with fine-grained permissions",
        "policy",
        "use a GitHub App (app_id:) instead of a personal access token",
    ),
    (
        "forbids access via",
        "policy",
        "the account's policy refuses this kind of token; the message names the kinds that it accepts",
    ),
    (
        "OAuth App access restrictions",
        "policy",
        "an owner of the organization has to approve the OAuth app under Settings → Third-party Access; or use a GitHub App",
    ),
    (
        "account was suspended",
        "suspended_user",
        "GitHub suspended the user whose token or login this is; the user has to ask GitHub Support; or use a GitHub App",
    ),
    (
        "account is suspended",
        "suspended_user",
        "the user whose token or login this is, is suspended; ask the server's administrator or GitHub Support; or use a GitHub App",
    ),
)
