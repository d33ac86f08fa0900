"""What GitHub's webhook sends: signed by our secret or refused, read or refused by name, and
followed by the jobs it is about.
"""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from syncd.github.webhook import (
    OtherEvent,
    Push,
    Rejection,
    can_start_on_push,
    check_signature,
    jobs_for_push,
    parse_delivery,
)
from syncd.models import CommitSummary, Job
from syncd.redaction import Secret
from tests.support.push import SECRET, as_form, push_event, signature

A, B = "a" * 40, "b" * 40
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
SAID = CommitSummary("x", "")
PUSH = Push("acme/infra", "refs/heads/main", A, False, "main", "github.com", 1000, SAID)
APIS = {
    "ops": "https://api.github.com",
    "ghe": "https://git.corp.example/api/v3",
    "eu": "https://api.acme.ghe.com",
}


def job(
    name: str = "j",
    repo: str = "acme/infra",
    ref: str | None = "main",
    identity: str = "ops",
    on_push: bool = True,
) -> Job:
    return Job(name, identity, repo, ref, (), on_push=on_push)


def body_of(**more: Any) -> bytes:
    return json.dumps(push_event("acme/infra", A) | more).encode()


# --- the signature --------------------------------------------------------------------------------


def test_the_example_of_githubs_documentation_is_taken() -> None:
    given_there = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert (
        check_signature([b"Hello, ", b"World!"], given_there, Secret("It's a Secret to Everybody"))
        is None
    )


@pytest.mark.parametrize(
    ("given_there", "refusal"),
    [
        (None, Rejection.UNSIGNED),
        ("", Rejection.WRONG_SIGNATURE),
        ("sha256=", Rejection.WRONG_SIGNATURE),
        (signature(b"x", "other"), Rejection.WRONG_SIGNATURE),
        (signature(b"y"), Rejection.WRONG_SIGNATURE),
        (signature(b"x").removeprefix("sha256="), Rejection.WRONG_SIGNATURE),
        (signature(b"x").upper(), Rejection.WRONG_SIGNATURE),
        ("sha1=" + "a" * 40, Rejection.WRONG_SIGNATURE),
        (f"{signature(b'x')}, {signature(b'x')}", Rejection.WRONG_SIGNATURE),
        (signature(b"x") + "\n", Rejection.WRONG_SIGNATURE),
        ("sha256=" + "é" * 64, Rejection.WRONG_SIGNATURE),
    ],
)
def test_any_other_signature_is_refused_whatever_it_looks_like(
    given_there: str | None, refusal: Rejection
) -> None:
    assert check_signature([b"x"], signature(b"x"), Secret(SECRET)) is None
    assert check_signature([b"x"], given_there, Secret(SECRET)) is refusal


SECRETS = st.text(min_size=1, max_size=40, alphabet=st.characters(codec="utf-8"))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300), SECRETS, SECRETS)
def test_a_signature_holds_for_its_bytes_and_its_secret_alone(
    one: bytes, other: bytes, secret: str, another: str
) -> None:
    made = signature(one, secret)
    assert check_signature([one[:7], one[7:]], made, Secret(secret)) is None
    assert (check_signature([other], made, Secret(secret)) is None) == (one == other)
    if secret.rstrip("\0") != another.rstrip(
        "\0"
    ):  # HMAC fills a short key up with zeros; a secret of ours holds none
        assert check_signature([one], made, Secret(another)) is Rejection.WRONG_SIGNATURE


# --- reading --------------------------------------------------------------------------------------


def test_a_push_is_read_from_json_and_from_a_form_alike() -> None:
    event = push_event("acme/infra", A)
    assert (
        parse_delivery("push", JSON, json.dumps(event).encode())
        == PUSH
        == parse_delivery("push", f"{FORM}; charset=utf-8", as_form(event))
        == parse_delivery("push", "Application/JSON", json.dumps(event, indent=2).encode())
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {"deleted": True, "after": "0" * 40, "head_commit": None},
            replace(PUSH, commit=None, deleted=True, summary=None),
        ),
        ({"after": "0" * 40}, replace(PUSH, commit=None, deleted=True, summary=None)),
        (
            {
                "head_commit": {
                    "id": A,
                    "message": "\nRaise the limit\n\nBecause.",
                    "author": {"name": "Ada <b>", "email": "ada@example.org"},
                }
            },
            replace(PUSH, summary=CommitSummary("Raise the limit", "Ada <b>")),
        ),
        (
            {"head_commit": {"id": A, "message": 7, "author": "Ada"}},
            replace(PUSH, summary=None),
        ),
        (
            {"ref": "refs/tags/v1", "after": B},
            replace(PUSH, ref="refs/tags/v1"),
        ),  # an annotated tag: `after` is the tag's own id
        ({"head_commit": None}, replace(PUSH, summary=None)),
        ({"head_commit": {"id": 7}, "after": ["x"]}, replace(PUSH, commit=None, summary=None)),
        ({"head_commit": None, "after": "main"}, replace(PUSH, commit=None, summary=None)),
        (
            {"repository": {"full_name": "acme/infra"}},
            Push("acme/infra", "refs/heads/main", A, summary=SAID),
        ),
        (
            {
                "repository": {
                    "full_name": "acme/infra",
                    "html_url": "https://user:pw@GIT.corp.example:8443/acme/infra",
                    "id": True,
                    "default_branch": 3,
                }
            },
            Push("acme/infra", "refs/heads/main", A, host="git.corp.example:8443", summary=SAID),
        ),
        (
            {"repository": {"full_name": "acme/infra", "html_url": "https://[::1"}},
            Push("acme/infra", "refs/heads/main", A, summary=SAID),
        ),
        ({"ref": "refs/heads/ünï/cödé"}, replace(PUSH, ref="refs/heads/ünï/cödé")),
    ],
)
def test_what_a_push_says_is_read_as_far_as_it_makes_sense(
    more: dict[str, Any], expected: Push
) -> None:
    assert parse_delivery("push", JSON, body_of(**more)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"x"',
        b"{}",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"ref": ' + b"9" * 5000 + b"}",
        body_of(ref=None),
        body_of(ref="main"),
        body_of(ref="refs/heads/a\nb"),
        body_of(ref="refs/heads/\x1b[2J"),
        body_of(ref="refs/" + "x" * 1020),
        b'{"ref": "refs/heads/\\ud800", "repository": {"full_name": "a/b"}}',
        body_of(repository=None),
        body_of(repository=[]),
        body_of(repository={"full_name": "acme"}),
        body_of(repository={"full_name": "../../etc"}),
        body_of(repository={"full_name": "acme/infra/x"}),
        body_of(repository={"full_name": "acme/in fra"}),
        body_of(repository={"full_name": 7}),
        as_form({}),
        b"payload=",
        b"payload=%ff",
    ],
)
def test_what_is_no_push_event_is_refused_by_name_and_not_by_a_traceback(body: bytes) -> None:
    assert (
        parse_delivery("push", JSON, body) is Rejection.MALFORMED
        and parse_delivery("push", FORM, body) is Rejection.MALFORMED
    )


def test_headers_decide_before_the_body_is_looked_at() -> None:
    assert parse_delivery("ping", None, b"\xff{") == OtherEvent("ping") and parse_delivery(
        "issues", JSON, b""
    ) == OtherEvent("issues")
    for event in (None, "", "Push", "push\n", "p" * 51, "push, push", "<script>"):
        assert parse_delivery(event, JSON, body_of()) is Rejection.NO_EVENT
    for kind in (None, "", "text/plain", "application/jsonx", "multipart/form-data; boundary=x"):
        assert parse_delivery("push", kind, body_of()) is Rejection.WRONG_TYPE


def test_a_large_push_takes_little_more_memory_than_its_bytes() -> None:
    commits = [
        {"id": A, "added": [f"{number}/{name}" for name in range(1000)], "author": {"name": "x"}}
        for number in range(100)
    ]
    body = body_of(commits=commits)
    tracemalloc.start()
    try:
        found, peak = parse_delivery("push", JSON, body), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == PUSH and peak < 2.5 * len(body), f"{peak} bytes for {len(body)}"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ("ref", "after", "deleted", "head_commit", "repository")
INNER = ("full_name", "id", "html_url", "default_branch")


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, VALUES)),
    st.fixed_dictionaries({}, optional=dict.fromkeys(INNER, VALUES)),
    st.booleans(),
    st.booleans(),
)
def test_whatever_a_signed_body_holds_it_is_a_push_or_refused(
    top: dict[str, Any], inner: dict[str, Any], whole: bool, as_a_form: bool
) -> None:
    event = push_event("acme/infra", A)
    event = {**event, **top} if whole else {**event, "repository": {**event["repository"], **inner}}
    found = parse_delivery(
        "push",
        FORM if as_a_form else JSON,
        as_form(event) if as_a_form else json.dumps(event).encode(),
    )
    assert isinstance(found, Push) or found is Rejection.MALFORMED
    if isinstance(found, Push):
        assert (
            found.repo == event["repository"]["full_name"]
            and found.ref == event["ref"]
            and (found.commit is None or len(found.commit) == 40)
        )
        names = jobs_for_push(
            found, [job(), job("pinned", ref=A), job("other", repo="acme/other")], APIS, {}
        )
        assert set(names) <= {"j"}


# --- who follows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "pushed", "follows"),
    [
        ("main", "refs/heads/main", True),
        ("main", "refs/tags/main", True),
        ("main", "refs/heads/Main", False),
        ("main", "refs/heads/x/main", False),
        ("refs/heads/main", "refs/heads/main", True),
        ("refs/heads/main", "refs/tags/main", False),
        ("heads/main", "refs/heads/main", True),
        ("heads/main", "refs/heads/heads/main", True),
        (None, "refs/heads/main", True),
        (None, "refs/heads/side", False),
        (None, "refs/tags/main", False),
        ("HEAD", "refs/heads/main", True),
        ("v1", "refs/tags/v1", True),
        (A, f"refs/heads/{A}", False),
        (A, "refs/heads/main", False),
        ("feature/x", "refs/heads/feature/x", True),
        ("refs/pull/1/head", "refs/pull/1/head", True),
    ],
)
def test_a_job_follows_what_its_ref_may_name(ref: str | None, pushed: str, follows: bool) -> None:
    assert jobs_for_push(replace(PUSH, ref=pushed), [job(ref=ref)], APIS, {}) == (
        ["j"] if follows else []
    )


def test_repositories_are_known_by_name_in_any_case_and_by_number_once_renamed() -> None:
    assert jobs_for_push(
        PUSH, [job(repo="Acme/INFRA"), job("other", repo="acme/infra2")], APIS, {}
    ) == ["j"]
    renamed = replace(PUSH, repo="acme-inc/infrastructure")
    assert jobs_for_push(renamed, [job()], APIS, {}) == []
    assert (
        jobs_for_push(renamed, [job()], APIS, {("ops", "acme/infra"): 1000}) == ["j"]
        and jobs_for_push(renamed, [job()], APIS, {("ghe", "acme/infra"): 1000}) == []
    )
    assert (
        jobs_for_push(replace(renamed, number=None), [job()], APIS, {("ops", "acme/infra"): 1000})
        == []
    )


def test_a_host_starts_the_jobs_of_its_own_identities_and_one_that_is_nobodys_starts_all() -> None:
    jobs = [job(name, identity=name) for name in APIS]
    for host, name in (("github.com", "ops"), ("git.corp.example", "ghe"), ("acme.ghe.com", "eu")):
        assert jobs_for_push(replace(PUSH, host=host), jobs, APIS, {}) == [name]
    assert (
        jobs_for_push(replace(PUSH, host="public-name.example"), jobs, APIS, {})
        == jobs_for_push(replace(PUSH, host=None), jobs, APIS, {})
        == list(APIS)
    )


def test_deletions_and_jobs_that_do_not_listen_start_nothing() -> None:
    assert (
        jobs_for_push(replace(PUSH, deleted=True), [job()], APIS, {})
        == []
        == jobs_for_push(PUSH, [job(on_push=False)], APIS, {})
    )
    assert (
        can_start_on_push(job())
        and not can_start_on_push(job(ref=A))
        and not can_start_on_push(job(on_push=False))
    )
