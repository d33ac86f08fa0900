"""docs/api/openapi.yaml against the running listener: each path, status and field that it has is
there, and what is there is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from msgspec.structs import replace

from syncd.apply_rules import WaitingCommit
from syncd.errors import StoreError, SyncdError
from syncd.ports import LastError
from syncd.status import WARNINGS, JobWarning, ProcessStats, StatusSnapshot, WebhookStats
from syncd.status.daemon_status import DaemonStatus
from syncd.status.model import CONDITIONS
from syncd.status.systemd_timer import SystemdTimer
from syncd.store.facts import PUSH_UNMATCHED, Staleness
from syncd.store.notification_queue import DeliveryStats
from syncd.web.server import Web
from tests.story.test_web import Answer, ask
from tests.story.test_webhook import EVENT, listening
from tests.support.fleet_looks import AWAY, HALTED, agent, fleet
from tests.support.json_schema import mistakes
from tests.support.push import headers_of
from tests.support.status_board import AT, FixedBoard

FILE = Path(__file__).parents[2] / "docs/api/openapi.yaml"
DOCUMENT = yaml.safe_load(FILE.read_text().replace("#/components/schemas/", "#/$defs/"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
FLEET_READS = ("GET /api/v1/fleet", "GET /api/v1/fleet/agents")
READS = ("GET /api/v1/status", "GET /healthz", "GET /readyz", "GET /metrics", *FLEET_READS)
OF_REQUESTS = {"Push"}
LISTS = {"get": "GET", "post": "POST"}


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """The part, or the response that it refers to."""
    name = part.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = DOCUMENT["components"]["responses"][name] if name else part
    return found


OPERATIONS: dict[str, dict[str, Any]] = {
    f"{LISTS[method]} {path}": operation
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
}


def closed(schema: Any) -> Any:
    """The schema without room for a field that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {word: closed(value) for word, value in schema.items()}
    return {**made, "additionalProperties": False} if "properties" in made else made


ROOT = {"$defs": closed(SCHEMAS)}


def assert_documented(operation: str, answer: Answer) -> None:
    """The answer's status, type, headers and body are as the file has them."""
    responses = OPERATIONS[operation]["responses"]
    assert str(answer.status) in responses, f"{operation} answered {answer.status}: {answer.text}"
    response = resolved(responses[str(answer.status)])
    for name, header in response.get("headers", {}).items():
        given = answer.headers.get(name.lower())
        assert given is not None or not header["required"], name
        assert given is None or not list(mistakes(given, header["schema"], ROOT))
    kinds = response.get("content", {})
    if kinds:
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in kinds, f"{operation} answered {answer.status} as {kind}"
        body = json.loads(answer.text) if kind == "application/json" else answer.text
        assert not list(mistakes(body, closed(kinds[kind]["schema"]), ROOT)), answer.text


class FullBoard(FixedBoard):
    """A board whose status has a value in every field, or none, by `full`."""

    full = True
    stuck: str | None = None
    fails: SyncdError | None = None

    def __init__(self) -> None:
        super().__init__(fleet_watch=fleet(HALTED))

    def stall_reason(self) -> str | None:
        return self.stuck

    def status_snapshot(self) -> StatusSnapshot:
        if self.fails is not None:
            raise self.fails
        found = super().status_snapshot()
        return full(found) if self.full else found


def full(found: StatusSnapshot) -> StatusSnapshot:
    (one,) = found.jobs
    state = replace(
        one.state,
        last_error=LastError("auth", "no", "auth/forbidden", "look"),
        waiting=WaitingCommit("b" * 40, AT, "a freeze"),
    )
    warning = JobWarning("repository_moved", "it moved", "write its name")
    return StatusSnapshot(
        AT,
        (replace(one, state=state, next_run=AT, stale="late", warnings=(warning,)),),
        found.rate_limits,
        ProcessStats(AT),
        {("ops", 42): {"acme/infra": 3}},
        (DeliveryStats("notify[0]", "hooks.test", 1, 2, 3, 4, AT, AT, "refused"),),
        WebhookStats(
            AT, "ping", AT, "unsigned", {}, (Staleness(PUSH_UNMATCHED, "acme/x", "refs/x", AT),)
        ),
        DaemonStatus(True, AT, AT, False, ("nginx",)),
        SystemdTimer("syncd-sync.timer", True),
    )


# --- the file -------------------------------------------------------------------------------------


def test_the_words_of_the_status_are_those_of_the_code() -> None:
    job, error = SCHEMAS["Job"]["properties"], SCHEMAS["Error"]["properties"]
    assert tuple(job["state"]["enum"]) == CONDITIONS
    assert tuple(SCHEMAS["Warning"]["properties"]["reason"]["enum"]) == WARNINGS

    def kinds(one: type[SyncdError]) -> Iterator[str]:
        yield one.kind
        for below in one.__subclasses__():
            yield from kinds(below)

    assert set(error["kind"]["enum"]) == set(kinds(SyncdError))


def test_each_field_of_an_answer_is_always_there_and_says_what_it_is() -> None:
    for name in SCHEMAS.keys() - OF_REQUESTS - {"Time", "OptionalTime"}:
        fields = SCHEMAS[name]["properties"]
        assert SCHEMAS[name]["required"] == list(fields), name
        assert all("description" in one or "$ref" in one for one in fields.values() if one), name


def test_each_path_for_machines_is_in_the_file_and_no_other() -> None:
    with listening(FullBoard()) as web:
        rules = {
            f"{method} {rule.rule}"
            for rule in web.app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
            if re.match(r"/(api/|healthz|readyz|metrics|github)", rule.rule)
        }
    assert rules == set(OPERATIONS)


def test_another_method_is_refused_with_those_that_are_allowed() -> None:
    allowed = {}
    with listening(FullBoard()) as web:
        for operation in OPERATIONS:
            answer = ask(web, operation.partition(" ")[2], "PUT")
            allowed[operation] = f"{answer.status} {answer.headers.get('allow')}"
    assert allowed == dict.fromkeys(READS, "405 GET, HEAD") | {"POST /github": "405 POST"}


# --- every answer ---------------------------------------------------------------------------------


def signed(body: bytes = b"", kind: str = "push", **other: Any) -> Callable[[Web], Answer]:
    content = body or json.dumps(EVENT).encode()
    return lambda web: ask(web, "/github", "POST", content, **headers_of(content, kind, **other))


def tried(operation: str, times: int) -> Callable[[Web], Answer]:
    """The last answer of so many wrong passwords."""

    def of(web: Web) -> Answer:
        path = operation.partition(" ")[2]
        return [ask(web, path, password="guess") for _ in range(times)][-1]

    return of


def forged(times: int) -> Callable[[Web], Answer]:
    large = b" " * 70_000  # small ones of this machine are not slowed down
    return lambda web: [signed(large, secret="another")(web) for _ in range(times)][-1]


def test_each_documented_answer_of_the_open_listener(tmp_path: Path) -> None:
    board, seen = FullBoard(), set()
    with listening(board) as web:

        def note(operation: str, answer: Answer) -> None:
            assert_documented(operation, answer)
            seen.add(f"{operation} {answer.status}")

        def read(*operations: str, **headers: str) -> None:
            for operation in operations:
                note(operation, ask(web, operation.partition(" ")[2], **headers))

        read(*READS)  # a late job: /readyz is 503
        board.full = False
        read(*READS)
        read(*READS, Origin="https://evil.example")
        read(*READS, Host="evil.example")
        board.stuck = "the clock"
        read("GET /healthz")
        board.fails = StoreError("locked")
        read("GET /api/v1/status", "GET /metrics", "GET /readyz")
        for delivery in (
            signed(b"{}", "ping"),
            signed(),
            signed(b"{}"),
            signed(secret=None),
            signed(content_type="text/plain"),
            forged(30),
        ):
            note("POST /github", delivery(web))
    for found in (agent(), fleet(HALTED, AWAY)):
        board.fleet_watch = found
        with listening(board) as web:
            read(*FLEET_READS)
    with listening(board, password="WEB") as web:
        for operation in READS:
            note(operation, tried(operation, 1)(web))
    for operation in READS:
        with listening(board, password="WEB") as web:
            note(operation, tried(operation, 30)(web))
    documented = {
        f"{name} {status}" for name, one in OPERATIONS.items() for status in one["responses"]
    }
    elsewhere = {"POST /github 413", "POST /github 503"}  # tests/story/test_webhook.py
    assert seen == documented - elsewhere


HEADERS = (
    "Accept",
    "Authorization",
    "Cookie",
    "If-None-Match",
    "Range",
    "X-Forwarded-For",
    "X-GitHub-Event",
)


def test_whatever_is_asked_the_answer_is_a_documented_one() -> None:
    with listening(FullBoard()) as web:

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            some.sampled_from(sorted(OPERATIONS)),
            some.dictionaries(some.sampled_from(HEADERS), some.text(" !#-~", max_size=30)),
            some.text("abc=&%/?", max_size=20),
            some.binary(max_size=100),
        )
        def answers(operation: str, headers: dict[str, str], query: str, body: bytes) -> None:
            method, _, path = operation.partition(" ")
            sent = body if method == "POST" else None
            assert_documented(operation, ask(web, f"{path}?{query}", method, sent, **headers))

        answers()
