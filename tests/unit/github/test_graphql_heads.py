"""What a GraphQL answer confirms: a table of answers, each with the heads that count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from syncd.deadline import Deadline
from syncd.errors import BadResponseError, RateLimitedError, SyncdError
from syncd.github.graphql_heads import (
    HeadQuestion,
    MissingQuestion,
    confirm_heads,
    graphql_url,
    still_missing,
)
from syncd.github.protocol import BufferedResponse, Request, Response
from syncd.ports import Head
from tests.support.clock import FakeClock

COMMIT, OTHER = "a" * 40, "b" * 40
BRANCH = HeadQuestion("acme/one", "main", Head(COMMIT, None, "heads/main"))
TAG = HeadQuestion("acme/two", "v1", Head(COMMIT, None, "tags/v1"))
DEFAULT = HeadQuestion("acme/three", None, Head(COMMIT, None, "HEAD"))
NUMBERED = HeadQuestion("acme/four", "main", Head(COMMIT, None, "heads/main"), number=4)


class Answering:
    """A transport with one answer. It keeps the request."""

    def __init__(self, body: object, status: int = 200, headers: dict[str, str] | None = None):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer, self.headers, self.status = text, headers or {}, status
        self.asked: list[Request] = []

    def send(self, request: Request, deadline: Deadline) -> Response:
        self.asked.append(request)
        return BufferedResponse(self.status, self.headers, request.url, self.answer)


def repository(name: str, ref: object, number: int = 1) -> dict[str, Any]:
    return {"databaseId": number, "nameWithOwner": name, "ref": ref}


def ref(prefix: str, name: str, target: object = None) -> dict[str, Any]:
    return {"prefix": prefix, "name": name, "target": target or commit(COMMIT)}


def commit(oid: object) -> dict[str, Any]:
    return {"__typename": "Commit", "oid": oid}


def tag(target: object) -> dict[str, Any]:
    return {"__typename": "Tag", "oid": OTHER, "target": target}


MAIN = ref("refs/heads/", "main")
MISSING = {
    "type": "NOT_FOUND",
    "path": ["r0"],
    "message": "Could not resolve to a Repository with the name 'acme/one'.",
}
# question, what the answer says of it -> whether the known head is confirmed
ANSWERS: dict[str, tuple[HeadQuestion, object, bool]] = {
    "a branch": (BRANCH, repository("acme/one", MAIN), True),
    "a name in other case": (BRANCH, repository("Acme/One", MAIN), True),
    "another commit": (BRANCH, repository("acme/one", ref("refs/heads/", "main", commit(OTHER))),
                       False),
    "a commit in capitals": (
        BRANCH, repository("acme/one", ref("refs/heads/", "main", commit("A" * 40))), False),
    "a commit that is no text": (
        BRANCH, repository("acme/one", ref("refs/heads/", "main", commit(7))), False),
    "a tree": (
        BRANCH,
        repository("acme/one", ref("refs/heads/", "main", {"__typename": "Tree", "oid": COMMIT})),
        False,
    ),
    "no target": (BRANCH, repository("acme/one", ref("refs/heads/", "main", "none")), False),
    "another branch": (BRANCH, repository("acme/one", ref("refs/heads/", "other")), False),
    "a tag of that name": (BRANCH, repository("acme/one", ref("refs/tags/", "main")), False),
    "no such ref": (BRANCH, repository("acme/one", None), False),
    "a renamed repository": (BRANCH, repository("acme/new", MAIN), False),
    "no repository": (BRANCH, None, False),
    "no number": (BRANCH, {**repository("acme/one", MAIN), "databaseId": None}, False),
    "a number that is true": (BRANCH, {**repository("acme/one", MAIN), "databaseId": True}, False),
    "no name": (BRANCH, {**repository("acme/one", MAIN), "nameWithOwner": None}, False),
    "a tag": (TAG, repository("acme/two", ref("refs/tags/", "v1")), True),
    "an annotated tag": (
        TAG, repository("acme/two", ref("refs/tags/", "v1", tag(commit(COMMIT)))), True),
    "a tag of a tag": (
        TAG, repository("acme/two", ref("refs/tags/", "v1", tag(tag(commit(COMMIT))))), False),
    "a tag of another commit": (
        TAG, repository("acme/two", ref("refs/tags/", "v1", tag(commit(OTHER)))), False),
    "the default branch": (DEFAULT, repository("acme/three", ref("refs/heads/", "trunk")), True),
    "an empty repository": (DEFAULT, repository("acme/three", None), False),
    "a renamed repository with its number": (NUMBERED, repository("acme/new", MAIN, 4), True),
    "another repository of that name": (NUMBERED, repository("acme/four", MAIN, 5), False),
}  # fmt: skip


def confirmed(transport: Answering, *questions: HeadQuestion) -> list[HeadQuestion]:
    return confirm_heads(transport, "https://h/api/v3", questions, Deadline(FakeClock(), 60))


@pytest.mark.parametrize(("question", "answer", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_only_the_known_commit_of_the_asked_ref_is_confirmed(
    question: HeadQuestion, answer: object, expected: bool
) -> None:
    found = confirmed(Answering({"data": {"r0": answer}}), question)
    assert found == ([question] if expected else [])


def test_an_error_about_one_head_leaves_the_others() -> None:
    data = {"r0": None, "r1": repository("acme/two", ref("refs/tags/", "v1"))}
    answer = Answering({"data": data, "errors": [MISSING]})
    assert confirmed(answer, BRANCH, TAG) == [TAG]


def test_a_head_with_an_error_is_not_confirmed_whatever_its_data_says() -> None:
    answer = Answering({"data": {"r0": repository("acme/one", MAIN)}, "errors": [MISSING]})
    assert confirmed(answer, BRANCH) == []


RESET = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1763902800"}
REFUSED: dict[str, tuple[Answering, type[SyncdError]]] = {
    "the hourly limit": (
        Answering({"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded for "
                               "installation ID 9306189."}]}, headers=RESET), RateLimitedError),
    "the hourly limit, again": (
        Answering({"errors": [{"message": "API rate limit already exceeded for user ID 1."}]}),
        RateLimitedError),
    "a secondary limit": (
        Answering({"errors": [{"message": "You have exceeded a secondary rate limit."}]}),
        RateLimitedError),
    "a secondary limit by status": (
        Answering({"message": "You have exceeded a secondary rate limit."}, 403),
        RateLimitedError),
    "a field that the server does not know": (
        Answering({"errors": [{"message": "Field 'x' doesn't exist on type 'Ref'"}]}),
        BadResponseError),
    "an error about everything beside data": (
        Answering({"data": {"r0": repository("acme/one", MAIN)},
                   "errors": [{"message": "Something went wrong"}]}), BadResponseError),
    "errors that are none": (Answering({"data": {}, "errors": ["x"]}), BadResponseError),
    "errors that are no list": (Answering({"data": {}, "errors": {"a": 1}}), BadResponseError),
    "no data": (Answering({}), BadResponseError),
    "a list": (Answering([]), BadResponseError),
    "a web page": (Answering(b"<html>"), BadResponseError),
    "too deep": (Answering(b"[" * 100_000), BadResponseError),
}  # fmt: skip


@pytest.mark.parametrize(("answer", "error"), REFUSED.values(), ids=REFUSED)
def test_an_answer_that_is_not_whole_confirms_nothing(
    answer: Answering, error: type[SyncdError]
) -> None:
    with pytest.raises(error):
        confirmed(answer, BRANCH)


def test_names_travel_as_variables() -> None:
    answer = Answering({"data": {}})
    odd = HeadQuestion('a"b/c}d', "x", Head(COMMIT, None, 'heads/"){x}'))
    confirmed(answer, odd, DEFAULT)
    (asked,) = answer.asked
    sent = json.loads(asked.body or b"")
    expected = {"o0": 'a"b', "n0": "c}d", "q0": 'refs/heads/"){x}', "o1": "acme", "n1": "three"}
    assert sent["variables"] == expected
    assert "x}" not in sent["query"] and asked.url == "https://h/api/graphql"


@pytest.mark.parametrize(
    ("api", "expected"),
    [
        ("https://api.github.com", "https://api.github.com/graphql"),
        ("https://ghe.example.com/api/v3", "https://ghe.example.com/api/graphql"),
        ("https://api.acme.ghe.com", "https://api.acme.ghe.com/graphql"),
    ],
)
def test_the_address_of_graphql(api: str, expected: str) -> None:
    assert graphql_url(api) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [("HEAD", True), ("heads/main", True), ("tags/v1", True), ("a" * 40, False), ("abc", False),
     ("pull/1/head", False), (None, False), ("heads/\udcff", False)],
)  # fmt: skip
def test_which_heads_graphql_can_be_asked_for(form: str | None, expected: bool) -> None:
    assert HeadQuestion("acme/one", "x", Head(COMMIT, None, form)).is_fit is expected


GONE = MissingQuestion("acme/one", "main", is_repository=True)
NO_BRANCH = MissingQuestion("acme/one", "main", is_repository=False)
NO_REF = MissingQuestion("acme/one", "refs/heads/main", is_repository=False)
UNRELATED = {"type": "FORBIDDEN", "path": ["r0"], "message": "Resource not accessible"}
DEEPER = {"type": "NOT_FOUND", "path": ["r0", "ref"], "message": "x"}
NOTHING = {"databaseId": 1, "nameWithOwner": "acme/one", "ref": None}
# question, data, errors -> whether it is missing; None: it is not clear
MISSING_ANSWERS: dict[str, tuple[MissingQuestion, object, list[object], bool | None]] = {
    "no repository": (GONE, None, [MISSING], True),
    "the repository is back": (GONE, repository("acme/one", None), [], False),
    "it is forbidden": (GONE, None, [UNRELATED], None),
    "an error below the repository": (GONE, None, [DEEPER], None),
    "two errors": (GONE, None, [MISSING, MISSING], None),
    "no answer": (GONE, None, [], None),
    "no ref, but now no repository": (NO_BRANCH, None, [MISSING], None),
    "neither branch nor tag": (NO_BRANCH, {**NOTHING, "other": None}, [], True),
    "the branch is back": (NO_BRANCH, {**repository("acme/one", MAIN), "other": None}, [], False),
    "a tag has the name": (NO_BRANCH, {**NOTHING, "other": MAIN}, [], False),
    "no such ref": (NO_REF, NOTHING, [], True),
    "the ref is back": (NO_REF, repository("acme/one", MAIN), [], False),
    "the answer lacks the ref": (NO_REF, {"databaseId": 1}, [], False),
}


@pytest.mark.parametrize(
    ("question", "data", "errors", "expected"), MISSING_ANSWERS.values(), ids=MISSING_ANSWERS
)
def test_what_is_missing_still(
    question: MissingQuestion, data: object, errors: list[object], expected: bool | None
) -> None:
    answer = Answering({"data": {"r0": data}, "errors": errors})
    found = still_missing(answer, "https://h", [question], Deadline(FakeClock(), 60))
    assert found == [expected]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        (GONE, []),
        (NO_BRANCH, ["refs/heads/main", "refs/tags/main"]),
        (NO_REF, ["refs/heads/main"]),
        (MissingQuestion("acme/one", None, is_repository=False), []),
    ],
)  # fmt: skip
def test_the_refs_that_a_missing_ref_may_have_become(
    question: MissingQuestion, expected: list[str]
) -> None:
    answer = Answering({"data": {"r0": None}})
    still_missing(answer, "https://h", [question], Deadline(FakeClock(), 60))
    variables = json.loads(answer.asked[0].body or b"")["variables"]
    assert [value for value in variables.values() if value.startswith("refs/")] == expected


@pytest.mark.parametrize(
    ("ref", "expected"),
    [("main", True), ("feature/x", True), ("refs/tags/v1", True), (None, True),
     ("abc1234", False), ("pull/1/head", False), ("heads/main", False)],
)  # fmt: skip
def test_which_missing_refs_graphql_can_be_asked_for(ref: str | None, expected: bool) -> None:
    assert MissingQuestion("acme/one", ref, is_repository=False).is_fit is expected
