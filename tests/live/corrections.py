"""The statements of the fact sheet's section 12 that a server can confirm or refute."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from syncd.git_objects import tree_id
from syncd.github.urls import web_origin
from tests.live.answers import Answer, Table, asked, yes_or_no
from tests.live.api import NotApplicable, basic, is_stateless
from tests.live.open_points import NEWER_VERSION, ask_lfs
from tests.live.subject import READ_CONTENTS, Subject

QUESTIONS: Table = []
NO_SUCH_APP = "999999999"
MAX_DELIVERIES = 10  # push deliveries whose content is read


@asked(
    QUESTIONS,
    "12 (7.2)",
    "push-of-an-annotated-tag",
    "Is `after` of an annotated tag's push the tag object, and `head_commit.id` the commit?",
)
def annotated_tag(subject: Subject) -> Answer:
    for payload in _pushes(subject):
        head = (payload.get("head_commit") or {}).get("id")
        if str(payload.get("ref", "")).startswith("refs/tags/") and head:
            if payload["after"] == head:
                continue  # a lightweight tag
            return Answer("yes", "`after` differs from `head_commit.id`")
    raise NotApplicable("no delivery of the last days is the push of an annotated tag")


@asked(
    QUESTIONS,
    "12 (7.3)",
    "delivery-names-the-number",
    "Does a push delivery carry repository.id, so that a renamed repository is recognised?",
)
def delivery_number(subject: Subject) -> Answer:
    for payload in _pushes(subject):
        number = payload.get("repository", {}).get("id")
        return yes_or_no(isinstance(number, int), f"repository.id is {number}")
    raise NotApplicable("no push was delivered in the last days")


def _pushes(subject: Subject) -> Iterator[dict[str, Any]]:
    """Yield the payloads of the App's latest push deliveries."""
    reply = subject.api.get("/app/hook/deliveries?per_page=100", subject.api.jwt())
    if reply.status != 200 or not isinstance(reply.json, list):
        raise NotApplicable(f"the App's deliveries are not listed: status {reply.status}")
    pushes = [one for one in reply.json if one.get("event") == "push"]
    for one in pushes[:MAX_DELIVERIES]:
        found = subject.api.get(f"/app/hook/deliveries/{one['id']}", subject.api.jwt()).json
        if isinstance(found, dict):
            yield (found.get("request") or {}).get("payload") or {}


@asked(
    QUESTIONS,
    "12 (1.4)",
    "tokens-are-stateless-by-default",
    "Has an installation token the stateless form when nothing is asked for?",
)
def default_form(subject: Subject) -> Answer:
    token = subject.new_token()
    return yes_or_no(is_stateless(token), f"{len(token)} characters")


@asked(
    QUESTIONS,
    "12 (1.4)",
    "lfs-batch-with-a-stateless-token",
    "Does the LFS batch API accept a stateless token?",
)
def stateless_lfs(subject: Subject) -> Answer:
    reply = ask_lfs(subject, _stateless(subject))
    return yes_or_no(reply.status == 200, f"status {reply.status}")


@asked(
    QUESTIONS,
    "12 (1.4)",
    "git-over-https-with-a-stateless-token",
    "Does git over HTTPS accept a stateless token for this repository?",
)
def stateless_git(subject: Subject) -> Answer:
    tokens = (subject.accepted_token(stateless=False), _stateless(subject))
    url = f"{web_origin(subject.settings.api)}/{subject.settings.repo}.git/info/refs"
    opaque, stateless = (
        subject.api.send("GET", f"{url}?service=git-upload-pack", basic(token)).status
        for token in tokens
    )
    if opaque != 200:
        raise NotApplicable(f"git over HTTPS answers {opaque} to an opaque token too")
    return yes_or_no(stateless == 200, f"opaque {opaque}, stateless {stateless}")


def _stateless(subject: Subject) -> str:
    token = subject.accepted_token(stateless=True)
    if not is_stateless(token):
        raise NotApplicable("this server makes no stateless tokens")
    return token


@asked(
    QUESTIONS,
    "12 (1.4)",
    "token-narrowed-by-permissions",
    "Is a token narrowed by permissions alone created?",
)
def narrowed(subject: Subject) -> Answer:
    path = f"/app/installations/{subject.installation}/access_tokens"
    reply = subject.api.post(path, subject.api.jwt(), {"permissions": READ_CONTENTS})
    found = reply.json if isinstance(reply.json, dict) else {}
    return yes_or_no(
        reply.status == 201,
        f"status {reply.status}, permissions {sorted((found.get('permissions') or {}).items())}",
    )


@asked(
    QUESTIONS,
    "12 (4.1)",
    "padded-modes",
    "Does a tree with zero-padded modes have its id only when `040000` is hashed?",
)
def padded_modes(subject: Subject) -> Answer:
    repo, _, tree = subject.settings.padded_tree.partition("@")
    reply = subject.api.get(f"/repos/{repo}/git/trees/{tree}", subject.token)
    if reply.status != 200 or not isinstance(reply.json, dict):
        raise NotApplicable(f"{repo} answers {reply.status} for that tree")
    entries = [
        (int(one["mode"], 8), one["path"].encode("utf-8", "surrogateescape"), one["sha"])
        for one in reply.json["tree"]
    ]
    modes = sorted({one["mode"] for one in reply.json["tree"]})
    if tree_id(entries) == tree:
        return Answer("no", f"the ordinary spelling has the id; modes {modes}")
    return Answer(*_padded(entries, tree, modes))


def _padded(entries: list[tuple[int, bytes, str]], tree: str, modes: list[str]) -> tuple[str, str]:
    content = b"".join(
        b"%06o %s\0%s" % (mode, name, bytes.fromhex(identity)) for mode, name, identity in entries
    )
    found = hashlib.sha1(b"tree %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    if found == tree:
        return "yes", f"the padded spelling has the id; modes {modes}"
    return "other", f"neither spelling has the id; modes {modes}"


@asked(QUESTIONS, "12 (4.2)", "ids-have-40-digits", "Have object ids 40 hex digits?")
def id_length(subject: Subject) -> Answer:
    return yes_or_no(len(subject.commit_id) == 40, f"{len(subject.commit_id)} digits")


@asked(
    QUESTIONS,
    "12 (8)",
    "server-knows-the-newer-version",
    f"Does the server list API version {NEWER_VERSION}?",
)
def versions(subject: Subject) -> Answer:
    reply = subject.api.get("/versions", subject.token)
    if reply.status != 200 or not isinstance(reply.json, list):
        raise NotApplicable(f"/versions answers {reply.status}")
    return yes_or_no(NEWER_VERSION in reply.json, ", ".join(map(str, reply.json)))


@asked(
    QUESTIONS,
    "12 (3)",
    "unknown-app-is-named",
    "Is a JWT of an App that does not exist answered 404 `Integration not found`?",
)
def unknown_app(subject: Subject) -> Answer:
    reply = subject.api.get("/app", subject.api.jwt(NO_SUCH_APP))
    said = reply.json.get("message") if isinstance(reply.json, dict) else None
    return yes_or_no(
        reply.status == 404 and said == "Integration not found", f"status {reply.status}: {said}"
    )


@asked(
    QUESTIONS,
    "12 (3)",
    "fresh-token-reaches-a-private-repository",
    "Is a private repository there for a new token's first request?",
)
def fresh_token(subject: Subject) -> Answer:
    if not subject.repository.get("private"):
        raise NotApplicable("the repository is public")
    reply = subject.api.get(subject.path, subject.new_token())
    return yes_or_no(reply.status == 200, f"status {reply.status}")


@asked(
    QUESTIONS,
    "12 (3)",
    "limit-without-headers",
    "Is a 403 that says `rate limit exceeded` and has no limit headers a rate limit?",
)
def limit_text(subject: Subject) -> Answer:
    raise NotApplicable("asking would mean to exceed a limit of the installation on purpose")


@asked(
    QUESTIONS, "12 (4.1)", "repository-limits", "Are 15 git reads a second and repository allowed?"
)
def repository_limits(subject: Subject) -> Answer:
    raise NotApplicable("asking would mean to exceed a limit of the repository on purpose")


@asked(
    QUESTIONS,
    "12 (6)",
    "status-needs-a-permission",
    "Does a commit status need `statuses: write`?",
    writes=True,
)
def commit_status(subject: Subject) -> Answer:
    body = {"state": "success", "context": "syncd-live"}
    reply = subject.api.post(f"{subject.path}/statuses/{subject.commit_id}", subject.token, body)
    needed = reply.headers.get("x-accepted-github-permissions", "")
    if reply.status == 404:
        raise NotApplicable("the server has no statuses for this repository: status 404")
    seen = "statuses=write" in needed
    return yes_or_no(seen, f"status {reply.status}, accepted permissions {needed or 'not named'}")
