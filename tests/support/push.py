"""GitHub's side of the webhook: what it would send for a push, signed as it would be.

The signature is made here, not by the product.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import uuid
from typing import Any
from urllib.parse import urlencode

from syncd.simulator.repository import Repository
from tests.support.secret_scan import overheard

SECRET = "wh00k-s3cret/+=only-for-tests"


def signature(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def push_event(
    repo: str,
    after: str,
    ref: str = "refs/heads/main",
    host: str = "https://github.com",
    number: int = 1000,
    before: str = "0" * 40,
    **more: Any,
) -> dict[str, Any]:
    """A push event as GitHub's documentation has it,
    without what nobody here could mistake for something else.
    """
    owner, _, name = repo.partition("/")
    commit = {
        "id": after,
        "tree_id": "e" * 40,
        "distinct": True,
        "message": "x",
        "timestamp": "2026-11-25T02:00:00Z",
        "added": ["nginx/nginx.conf"],
        "removed": [],
        "modified": [],
    }
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "created": False,
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"{host}/{repo}/compare/{before[:12]}...{after[:12]}",
        "commits": [commit],
        "head_commit": commit,
        "repository": {
            "id": number,
            "node_id": "R_x",
            "name": name,
            "full_name": repo,
            "private": True,
            "owner": {"name": owner, "login": owner, "id": 3},
            "html_url": f"{host}/{repo}",
            "url": f"{host}/{repo}",
            "pushed_at": 1795572000,
            "default_branch": "main",
            "master_branch": "main",
        },
        "pusher": {"name": "mona", "email": None},
        "sender": {"login": "mona", "id": 1},
        "installation": {"id": 42},
        **more,
    }


def event_of(repo: Repository, ref: str = "refs/heads/main", **more: Any) -> dict[str, Any]:
    """What GitHub would send now, of a repository of the simulator's."""
    return {**push_event(repo.full_name, repo.head(), ref, number=repo.id), **more}


def headers_of(
    body: bytes,
    event: str = "push",
    secret: str | None = SECRET,
    content_type: str = "application/json",
    guid: str | None = None,
) -> dict[str, str]:
    found = {
        "User-Agent": "GitHub-Hookshot/044aadd",
        "Content-Type": content_type,
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": guid or str(uuid.uuid4()),
        "X-GitHub-Hook-ID": "1",
        "X-GitHub-Hook-Installation-Target-ID": "12345",
        "X-GitHub-Hook-Installation-Target-Type": "integration",
    }
    return (
        found
        if secret is None
        else {
            **found,
            "X-Hub-Signature-256": signature(body, secret),
            "X-Hub-Signature": "sha1=" + hmac.new(secret.encode(), body, "sha1").hexdigest(),
        }
    )


def as_form(event: Any) -> bytes:
    return urlencode({"payload": json.dumps(event)}).encode()


def deliver(
    port: int,
    event: Any,
    kind: str = "push",
    path: str = "/github",
    secret: str | None = SECRET,
    body: bytes | None = None,
    **more: Any,
) -> tuple[int, str]:
    """Status and text of what the daemon answers.

    `body` instead of the event as JSON; `more` as for `headers_of`.
    """
    body = json.dumps(event).encode() if body is None else body
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, headers_of(body, kind, secret, **more))
        answer = connection.getresponse()
        text = answer.read().decode()
        overheard("an answer to the webhook", text)
        return answer.status, text
    finally:
        connection.close()


__all__ = ["SECRET", "as_form", "deliver", "event_of", "headers_of", "push_event", "signature"]
