"""Webhook deliveries: the check of their signature, their content, and which jobs they start.

No part of a body is parsed before its signature is verified over its raw bytes. Whatever the bytes
are, the result is a value or a named rejection. A delivery is only a reason to ask GitHub now; what
it says of files is not used, and what it says of a commit is shown alone. Pure: no I/O.
Source: GitHub docs, "Validating webhook deliveries", "Best practices for using webhooks", "Webhook
events and payloads", `push`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct

from syncd.git_objects import is_object_id
from syncd.github.bounds import load_json
from syncd.github.protocol import server_text
from syncd.github.urls import display_host, web_origin
from syncd.models import CommitSummary, Job
from syncd.redaction import Secret
from syncd.ref_names import ref_spellings

MAX_BODY_BYTES = 25 << 20  # docs: above 25 MB an event is not delivered at all
MAX_REF_LENGTH = 1024
SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
EVENT = re.compile(r"[a-z][a-z_]{0,49}")
REPO = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
FORM_TYPE, JSON_TYPE = "application/x-www-form-urlencoded", "application/json"
USED_KEYS = frozenset(
    (
        "ref",
        "after",
        "deleted",
        "head_commit",
        "repository",
        "id",
        "full_name",
        "html_url",
        "default_branch",
        "message",
        "author",
        "name",
    )
)


class Rejection(Enum):
    """Why a delivery is rejected: the HTTP status, and a text that may be shown to its sender."""

    UNSIGNED = (
        401,
        "it carries no X-Hub-Signature-256: give the webhook in GitHub's settings "
        "the secret that web.webhook.secret names",
    )
    WRONG_SIGNATURE = (
        401,
        "its signature was not made with the secret that web.webhook.secret names",
    )
    NO_EVENT = (
        400,
        "it carries no X-GitHub-Event, so it did not come from GitHub unchanged; "
        "does a proxy drop headers?",
    )
    WRONG_TYPE = (
        415,
        "its content type is neither application/json nor application/x-www-form-urlencoded",
    )
    MALFORMED = 400, "it is signed, but is no push event that can be read"

    def __init__(self, status: int, text: str) -> None:
        self.status, self.text = status, text


class Push(Struct, frozen=True):
    """A ref of a repository names another commit now.

    `ref` is full (refs/heads/main), `host` is the host of the web pages, and `commit` is what the
    ref named when the event was sent. `number` is GitHub's own of the repository, which outlives a
    new name. `summary` says who made the commit. None means that the delivery does not say.
    """

    repo: str
    ref: str
    commit: str | None = None
    deleted: bool = False
    default_branch: str | None = None
    host: str | None = None
    number: int | None = None
    summary: CommitSummary | None = None


class OtherEvent(Struct, frozen=True):
    """An event that starts no job: a ping, or any other event than a push."""

    event: str


# --- parsing --------------------------------------------------------------------------------------


def check_signature(chunks: Iterable[bytes], given: str | None, secret: Secret) -> Rejection | None:
    """Return None where `given` (X-Hub-Signature-256) is the secret's signature of these bytes.

    The comparison takes the same time for every wrong signature.
    """
    if given is None or SIGNATURE.fullmatch(given) is None:
        return Rejection.UNSIGNED if given is None else Rejection.WRONG_SIGNATURE
    mac = hmac.new(secret.reveal().encode("utf-8", "surrogateescape"), digestmod=hashlib.sha256)
    for chunk in chunks:
        mac.update(chunk)
    is_valid = hmac.compare_digest(f"sha256={mac.hexdigest()}", given)
    return None if is_valid else Rejection.WRONG_SIGNATURE


def parse_delivery(
    event: str | None, content_type: str | None, body: bytes
) -> Push | OtherEvent | Rejection:
    """Return what a delivery says whose signature is verified. `event` is X-GitHub-Event.

    The body of another event than push is not parsed.
    Source: the body is JSON, or a form whose field `payload` is JSON, which a webhook made through
    the API sends by default.
    """
    if event is None or EVENT.fullmatch(event) is None:
        return Rejection.NO_EVENT
    if event != "push":
        return OtherEvent(event)
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in (FORM_TYPE, JSON_TYPE):
        return Rejection.WRONG_TYPE
    try:
        text = _field(body.decode()).encode() if kind == FORM_TYPE else body
        return _push(load_json(text, "delivery", pairs=_used_keys))
    except ValueError:
        # not UTF-8, not JSON, a number of many digits, a field too many; unclosed brackets
        return Rejection.MALFORMED


def _field(form: str) -> str:
    return dict(parse_qsl(form, keep_blank_values=True, max_num_fields=10)).get("payload", "")


def _used_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return one object with the used keys only.

    A push of two thousand commits lists millions of names.
    """
    return {key: value for key, value in pairs if key in USED_KEYS}


def _push(payload: Any) -> Push:
    """Return the push that the payload describes. Raises ValueError for what is no push event."""
    repository = payload.get("repository") if isinstance(payload, dict) else None
    if not isinstance(repository, dict):
        raise ValueError("the payload does not describe a push")
    ref, repo = payload.get("ref"), repository.get("full_name")
    if not _is_ref(ref) or not isinstance(repo, str) or REPO.fullmatch(repo) is None:
        raise ValueError("the payload does not describe a push")
    branch, number = repository.get("default_branch"), repository.get("id")
    is_deleted = _is_deleted(payload)
    return Push(
        repo,
        str(ref),
        None if is_deleted else _commit(payload),
        is_deleted,
        branch if isinstance(branch, str) and _is_ref(f"refs/heads/{branch}") else None,
        _host(repository.get("html_url")),
        number if isinstance(number, int) and not isinstance(number, bool) else None,
        None if is_deleted else _summary(payload.get("head_commit")),
    )


def _summary(head: object) -> CommitSummary | None:
    """Return who made the pushed commit. What is no text in it is left out."""
    if not isinstance(head, dict):
        return None
    message, author = head.get("message"), head.get("author")
    subject = message.lstrip().split("\n", 1)[0] if isinstance(message, str) else ""
    name = author.get("name") if isinstance(author, dict) else None
    found = CommitSummary(server_text(subject), server_text(name))
    return found if found.subject or found.author else None


def _is_deleted(payload: Mapping[str, Any]) -> bool:
    after = payload.get("after")
    is_null_id = isinstance(after, str) and bool(after) and not after.strip("0")
    return payload.get("deleted") is True or is_null_id


def _is_ref(ref: object) -> bool:
    """Return whether this is the full name of a ref.

    It has no control characters (git check-ref-format), a limited length, and is valid UTF-8.
    """
    if not isinstance(ref, str) or not ref.startswith("refs/") or len(ref) > MAX_REF_LENGTH:
        return False
    return not any(
        letter < " " or letter == "\x7f" or "\ud800" <= letter <= "\udfff" for letter in ref
    )


def _commit(payload: Mapping[str, Any]) -> str | None:
    """Return the commit that the ref names; `after` is the tag's own id for an annotated tag."""
    head = payload.get("head_commit")
    found = [head.get("id") if isinstance(head, dict) else None, payload.get("after")]
    return next((one for one in found if isinstance(one, str) and is_object_id(one)), None)


def _host(address: object) -> str | None:
    if not isinstance(address, str):
        return None
    try:
        return urlsplit(address).netloc.rpartition("@")[2].lower() or None
    except ValueError:
        return None


# --- which jobs a push starts ---------------------------------------------------------------------


class PushOutcome(Struct, frozen=True):
    """What a push led to: how many jobs it started, and how many follow its ref but are paused."""

    started: int
    paused: int = 0


def jobs_for_push(
    push: Push, jobs: Iterable[Job], apis: Mapping[str, str], numbers: Mapping[tuple[str, str], int]
) -> list[str]:
    """Return the names of the jobs that a push starts, in the given order.

    `apis` is identity -> its API's address. `numbers` is (identity, repository in lower case) ->
    GitHub's number, where it is known: it outlives a new name.
    A deletion starts no job: a tag that is deleted and created again is not worth an alarm, and a
    ref that stays deleted is found by the next scheduled run.
    A host that is no identity's own matches every identity: a server may have one name for its API
    and another for its pages. That costs at most a request to GitHub that finds nothing new.
    """
    if push.deleted:
        return []
    hosts = {identity: display_host(web_origin(api)).lower() for identity, api in apis.items()}
    anywhere = push.host not in hosts.values()
    return [
        job.name
        for job in jobs
        if can_start_on_push(job)
        and (anywhere or hosts.get(job.identity) == push.host)
        and _is_of(push, job, numbers)
        and _is_followed(push, job.ref)
    ]


def can_start_on_push(job: Job) -> bool:
    """Return whether a push can start the job. A commit id always names the same commit."""
    return job.on_push and not (job.ref is not None and is_object_id(job.ref))


def _is_of(push: Push, job: Job, numbers: Mapping[tuple[str, str], int]) -> bool:
    repo = job.repo.lower()
    return repo == push.repo.lower() or (
        push.number is not None and numbers.get((job.identity, repo)) == push.number
    )


def _is_followed(push: Push, ref: str | None) -> bool:
    if ref is None or ref == "HEAD":
        return push.default_branch is None or push.ref == f"refs/heads/{push.default_branch}"
    return push.ref in {f"refs/{form}" for form in ref_spellings(ref)}


__all__ = [
    "MAX_BODY_BYTES",
    "OtherEvent",
    "Push",
    "Rejection",
    "can_start_on_push",
    "check_signature",
    "jobs_for_push",
    "parse_delivery",
]
