"""Ask for many heads in one GraphQL request, and say which of them are as they were known.

This only ever confirms what a REST answer had proved before: the same repository, the same ref,
the same commit. Whatever GraphQL says about any other head is left to the REST path (refs.py),
which follows renames, tells a missing repository from a hidden one, and verifies what is new.

Source: GitHub docs, "Rate limits and query limits for the GraphQL API" (a refusal comes with
status 200), octokit/graphql-schema (the fields), and recorded answers for the errors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.errors import BadResponseError
from syncd.git_objects import is_object_id
from syncd.github.bounds import load_json
from syncd.github.error_responses import ErrorBody, rate_limit_error
from syncd.github.protocol import JSON, USER_AGENT, Request, Transport, request_id, server_text
from syncd.github.request import Answer, send_and_read
from syncd.ports import Head

FRAGMENT = (
    "fragment Named on Ref { name prefix target { __typename oid "
    "... on Tag { target { __typename oid } } } }"
)


class HeadQuestion(Struct, frozen=True):
    """One head to confirm: what the ref named at the last answer.

    `number` is GitHub's number of the repository, where an answer under this name had one.
    """

    repo: str
    ref: str | None
    known: Head
    number: int | None = None

    @property
    def is_fit(self) -> bool:
        """Whether GraphQL can be asked: for the default branch, a branch or a tag by its full name.

        Anything else that REST resolves, such as a shortened commit id, GraphQL calls otherwise.
        """
        form = self.known.form or ""
        printable = self.repo.isprintable() and form.isprintable()
        return printable and (form == "HEAD" or form.startswith(("heads/", "tags/")))


def graphql_url(api: str) -> str:
    """Return the address of the GraphQL API beside a REST API.

    Source: GitHub docs, "Forming calls with GraphQL": an Enterprise Server has it at /api/graphql.
    """
    return f"{api.removesuffix('/v3')}/graphql"


def confirm_heads(
    transport: Transport, api: str, questions: Sequence[HeadQuestion], deadline: Deadline
) -> list[HeadQuestion]:
    """Return the questions whose head is as it was known; one request.

    All of them are about repositories that one token reads. Raises SyncdError where there is no
    usable answer, and RateLimitedError for a limit that comes with status 200.
    """
    request = _request(api, questions)
    answer = send_and_read(transport, request, deadline)
    value = _parsed(request, answer)
    errors = value.get("errors") or []
    _check_errors(request, answer, errors, deadline)
    data = value.get("data")
    if not isinstance(data, dict) or not isinstance(errors, list):
        raise _unusable(request, answer, "without data")
    doubtful = _aliases_with_errors(request, answer, errors)
    return [
        question
        for number, question in enumerate(questions)
        if f"r{number}" not in doubtful and _confirms(data.get(f"r{number}"), question)
    ]


def _request(api: str, questions: Sequence[HeadQuestion]) -> Request:
    """Return the request. Names travel as variables, and are never a part of the query."""
    declared, fields, variables = list[str](), list[str](), dict[str, str]()
    for number, one in enumerate(questions):
        owner, _, name = one.repo.partition("/")
        variables |= {f"o{number}": owner, f"n{number}": name}
        declared.append(f"$o{number}: String!, $n{number}: String!")
        field = "ref: defaultBranchRef"
        if one.known.form != "HEAD":
            variables[f"q{number}"] = f"refs/{one.known.form}"
            declared.append(f"$q{number}: String!")
            field = f"ref(qualifiedName: $q{number})"
        fields.append(
            f"r{number}: repository(owner: $o{number}, name: $n{number}) "
            f"{{ databaseId nameWithOwner {field} {{ ...Named }} }}"
        )
    query = f"query({', '.join(declared)}) {{ {' '.join(fields)} }} {FRAGMENT}"
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Accept": JSON, "Content-Type": "application/json", "User-Agent": USER_AGENT}
    subject = f"{len(questions)} heads of {questions[0].repo.partition('/')[0]}"
    return Request("POST", graphql_url(api), "graphql", subject, questions[0].repo, headers, body)


def _parsed(request: Request, answer: Answer) -> Mapping[str, Any]:
    try:
        value = load_json(answer.body, "graphql")
    except ValueError as error:
        raise _unusable(request, answer, "that is not JSON") from error
    if not isinstance(value, dict):
        raise _unusable(request, answer, "that is no object")
    return value


def _unusable(request: Request, answer: Answer, what: str) -> BadResponseError:
    return BadResponseError(
        f"GitHub answered the request for {request.subject} with something {what}",
        id="bad_response/graphql",
        status=answer.status,
        request_id=request_id(answer.headers),
        hint="nothing was changed; syncd asks for each head by itself",
    )


def _check_errors(request: Request, answer: Answer, errors: Any, deadline: Deadline) -> None:
    """Raise RateLimitedError for a limit, which comes with status 200 here."""
    for error in errors if isinstance(errors, list) else []:
        if not isinstance(error, dict):
            raise _unusable(request, answer, "unexpected")
        text = server_text(error.get("message"))
        is_limit = error.get("type") in ("RATE_LIMITED", "RATE_LIMIT")
        if (is_limit or "rate limit already" in text) and "secondary" not in text:
            is_limit, text = True, "API rate limit exceeded"
        status = 403 if is_limit or "rate limit" in text else 200
        body = ErrorBody(status, text, "", (), answer.headers)
        limited = rate_limit_error(request, body, deadline.clock.now())
        if limited is not None:
            raise limited


def _aliases_with_errors(request: Request, answer: Answer, errors: Sequence[Any]) -> set[str]:
    """Return the heads that errors are about. Raises BadResponseError for an error about all."""
    found = set()
    for error in errors:
        path = error.get("path")
        if not isinstance(path, list) or not path or not isinstance(path[0], str):
            text = server_text(error.get("message"))
            raise _unusable(request, answer, f"else: {text}" if text else "unexpected")
        found.add(path[0])
    return found


def _confirms(found: object, question: HeadQuestion) -> bool:
    """Return whether an answer is about the asked ref, and names the known commit."""
    if not isinstance(found, dict) or not _is_same_repository(found, question):
        return False
    ref = found.get("ref")
    if not isinstance(ref, dict):
        return False
    name = f"{ref.get('prefix')}{ref.get('name')}"
    form = question.known.form
    if form == "HEAD":
        return name.startswith("refs/heads/") and _commit_of(ref) == question.known.commit
    return name == f"refs/{form}" and _commit_of(ref) == question.known.commit


def _is_same_repository(found: Mapping[str, Any], question: HeadQuestion) -> bool:
    """Return whether it is the repository under the asked name, or has the number that it had.

    GraphQL follows renames and says nothing of them.
    """
    number, name = found.get("databaseId"), found.get("nameWithOwner")
    if type(number) is not int or not isinstance(name, str):
        return False
    if question.number is not None:
        return number == question.number
    return name.lower() == question.repo.lower()


def _commit_of(ref: Mapping[str, Any]) -> str | None:
    """Return the commit that a ref names, through one annotated tag; None for anything else."""
    target = ref.get("target")
    if isinstance(target, dict) and target.get("__typename") == "Tag":
        target = target.get("target")
    if not isinstance(target, dict) or target.get("__typename") != "Commit":
        return None
    commit = target.get("oid")
    return commit if isinstance(commit, str) and is_object_id(commit) else None


__all__ = ["HeadQuestion", "confirm_heads", "graphql_url"]
