"""Fuzzing of deliveries to the push webhook: python -m tests.fuzz.webhook -max_total_time=60

The input is a delivery: header lines, an empty line, the body. A line `x-hub-signature-256: ours`
stands for the right signature, so that bodies are reached. Whatever it is: refused by name, or a
value that jobs can be held against; what is not signed by us rings nothing and is not read; nothing
that is answered or logged could move a terminal's cursor, and the secret is in none of it.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

from tests.fuzz.harness import fuzz, instrumented

with instrumented("syncd.github.webhook", "syncd.web.webhook"):
    from syncd.github.webhook import Push, jobs_for_push
    from syncd.web.webhook import WebhookEndpoint

from syncd.models import Job
from syncd.redaction import Secret
from tests.support.push import SECRET, as_form, push_event, signature
from tests.support.status_board import PushLog

PINNED = "a" * 40
REFS = {
    "main": "main",
    "default": None,
    "tag": "v1",
    "full": "refs/heads/main",
    "pinned": PINNED,
    "there": "main",
}
JOBS = [
    Job(name, "ghe" if name == "there" else "ops", "acme/infra", ref, ())
    for name, ref in REFS.items()
]
JOBS += [
    Job("deaf", "ops", "acme/infra", "main", (), on_push=False),
    Job("other", "ops", "acme/other", "main", ()),
]
APIS = {"ops": "https://api.github.com", "ghe": "https://git.corp.example/api/v3"}
STATUSES = {200, 202, 400, 401, 415}


class Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Unread(io.BytesIO):
    """A body that knows whether it was taken as a whole."""

    taken = False

    def read(self, size: int | None = -1) -> bytes:
        self.taken = self.taken or size is None or size < 0
        return super().read(size)


SAID = Said()
LOG = logging.getLogger("syncd.web.webhook")
LOG.propagate, LOG.level = False, logging.DEBUG


def one(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode("latin-1").split("\n"))
    }
    if headers.get("x-hub-signature-256") == "ours":
        headers["x-hub-signature-256"] = signature(body)
    signed = headers.get("x-hub-signature-256") == signature(body)
    bell, stream = PushLog(), Unread(body)
    SAID.lines.clear()
    LOG.addHandler(SAID)
    try:
        status, text, _ = WebhookEndpoint("/github", lambda: Secret(SECRET), bell).answer(
            "203.0.113.5", lambda name: headers.get(name.lower()), stream
        )
    finally:
        LOG.removeHandler(SAID)
    if status not in STATUSES or (status == 401) is signed:
        raise AssertionError(f"answered {status}: {text!r}")
    if not signed and (bell.received or bell.ignored_events or stream.taken):
        raise AssertionError("what nobody signed was looked at")
    if len(bell.received) + len(bell.ignored_events) + len(bell.rejections) != 1:
        raise AssertionError("a delivery has one end")
    for said in (text, *SAID.lines, *(what for _, _, what in bell.received)):
        if not said.isprintable() or len(said) > 1000 or SECRET in said:
            raise AssertionError(f"a poor message: {said!r}")
    for push, _, _ in bell.received:
        _judge(push)


def _judge(push: Push) -> None:
    names = jobs_for_push(push, JOBS, APIS, {("ops", "acme/infra"): 1000})
    if {"pinned", "deaf"} & set(names) or (push.deleted and names):
        raise AssertionError(f"{names} follow {push}")
    if push.repo.lower() != "acme/infra" and push.number != 1000 and set(names) - {"other"}:
        raise AssertionError(f"{names} follow another repository: {push}")
    if push.host == "github.com" and "there" in names:
        raise AssertionError(f"another host's push: {push}")


def seeds() -> Iterator[bytes]:
    event = push_event("acme/infra", PINNED)
    tag, gone = (
        push_event("ACME/Other", PINNED, "refs/tags/v1", "https://git.corp.example"),
        {**event, "deleted": True, "after": "0" * 40, "head_commit": None},
    )
    events = [event, tag, gone, {"ref": "refs/heads/main"}, {}, []]
    for one_event in events:
        yield (
            b"x-github-event: push\ncontent-type: application/json\nx-hub-signature-256: ours\n\n"
            + json.dumps(one_event).encode()
        )
    yield (
        (
            b"x-github-event: push\ncontent-type: application/x-www-form-urlencoded\n"
            b"x-hub-signature-256: ours\n\n"
        )
        + as_form(event)
    )
    yield (
        b"x-github-event: push\ncontent-type: application/json\nx-hub-signature-256: ours\n\n"
        b'{"ref":"refs/heads/main","repository":{"full_name":"acme/infra"}}'
    )
    yield b'x-github-event: ping\nx-hub-signature-256: ours\n\n{"zen":"x"}'
    yield b"x-github-event: push\nx-hub-signature-256: sha256=" + b"0" * 64 + b"\n\n{}"
    yield b"x-github-event: push\nx-hub-signature: sha1=" + b"0" * 40 + b"\n\n{}"


WORDS = [
    "x-hub-signature-256: ours",
    "x-github-event: ",
    "push",
    "ping",
    "content-type: ",
    "application/json",
    "payload=",
    "%7B",
    "refs/heads/main",
    "refs/tags/",
    "full_name",
    "repository",
    "html_url",
    "after",
    "head_commit",
    "deleted",
    "true",
    "null",
    "default_branch",
    "sha256=",
]

if __name__ == "__main__":
    fuzz(one, seeds(), WORDS)
