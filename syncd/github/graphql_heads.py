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
from syncd.ref_names import ref_spellings

FRAGMENT = (
    "fragment Named on Ref { name prefix target { __typename oid "
    "... on Tag { target { __typename oid } } } }"
)


class MissingQuestion(Struct, frozen=True):
    """A repository that was not there at the last answer of REST, or a ref of it that was not."""

    repo: str
    ref: str | None
    is_repository: bool

    @property
    def is_fit(self) -> bool:
        """Whether GraphQL can be asked: for a repository, or for a branch or tag.

        A short name may also be read as a part of a commit id, or as a ref that is neither.
        """
        if self.is_repository or self.ref is None:
            return self.repo.isprintable()
        if self.ref.startswith("refs/"):
            return self.ref.isprintable()
        is_hex = not set(self.ref.lower()) - set("0123456789abcdef")
        is_other = self.ref.startswith(("pull/", "heads/", "tags/", "remotes/"))
        return self.ref.isprintable() and not is_hex and not is_other

    @property
    def refs(self) -> list[str]:
        """The full names under which the ref may be there; none for the default branch."""
        forms = [] if self.ref is None or self.is_repository else ref_spellings(self.ref)[:2]
        return [f"refs/{form}" for form in forms if form != "HEAD"]


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
    asked = [
        (one.repo, [] if one.known.form == "HEAD" else [f"refs/{one.known.form}"])
        for one in questions
    ]
    data, errors = _answer(transport, _request(api, asked), deadline)
    return [
        question
        for number, question in enumerate(questions)
        if f"r{number}" not in errors and _confirms(data.get(f"r{number}"), question)
    ]


def still_missing(
    transport: Transport, api: str, questions: Sequence[MissingQuestion], deadline: Deadline
) -> list[bool | None]:
    """Return of each question whether the repository or ref is missing; None for what is unclear.

    One request. Raises as `confirm_heads` does.
    """
    asked = [(one.repo, one.refs) for one in questions]
    data, errors = _answer(transport, _request(api, asked), deadline)
    return [
        _is_missing(question, data.get(f"r{number}"), errors.get(f"r{number}"))
        for number, question in enumerate(questions)
    ]


def _is_missing(question: MissingQuestion, found: object, error: str | None) -> bool | None:
    if error is not None or not isinstance(found, dict):
        is_gone = error == "NOT_FOUND" and found is None
        return True if is_gone and question.is_repository else None
    if question.is_repository:
        return False
    return found.get("ref", "") is None and found.get("other") is None


def _answer(
    transport: Transport, request: Request, deadline: Deadline
) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """Return the data of each alias, and the type of the error of each alias that has one."""
    answer = send_and_read(transport, request, deadline)
    value = _parsed(request, answer)
    errors = value.get("errors") or []
    _check_errors(request, answer, errors, deadline)
    data = value.get("data")
    if not isinstance(data, dict) or not isinstance(errors, list):
        raise _unusable(request, answer, "without data")
    return data, _errors_by_alias(request, answer, errors)


def _request(api: str, asked: Sequence[tuple[str, Sequence[str]]]) -> Request:
    """Return the request for up to two refs of each repository; none: for its default branch.

    Names travel as variables, and are never a part of the query.
    """
    declared, fields, variables = list[str](), list[str](), dict[str, str]()
    for number, (repo, refs) in enumerate(asked):
        owner, _, name = repo.partition("/")
        of_one = {f"o{number}": owner, f"n{number}": name}
        chosen = [] if refs else ["ref: defaultBranchRef { ...Named }"]
        for alias, letter, ref in zip(("ref", "other"), "qp", refs, strict=False):
            of_one[f"{letter}{number}"] = ref
            chosen.append(f"{alias}: ref(qualifiedName: ${letter}{number}) {{ ...Named }}")
        variables |= of_one
        declared += [f"${variable}: String!" for variable in of_one]
        fields.append(
            f"r{number}: repository(owner: $o{number}, name: $n{number}) "
            f"{{ databaseId nameWithOwner {' '.join(chosen)} }}"
        )
    query = f"query({', '.join(declared)}) {{ {' '.join(fields)} }} {FRAGMENT}"
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Accept": JSON, "Content-Type": "application/json", "User-Agent": USER_AGENT}
    repo = asked[0][0]
    subject = f"{len(asked)} heads of {repo.partition('/')[0]}"
    return Request("POST", graphql_url(api), "graphql", subject, repo, headers, body)


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


def _errors_by_alias(request: Request, answer: Answer, errors: Sequence[Any]) -> Mapping[str, str]:
    """Return alias -> type of its error. Raises BadResponseError for an error about all."""
    found = dict[str, str]()
    for error in errors:
        path = error.get("path")
        if not isinstance(path, list) or not path or not isinstance(path[0], str):
            text = server_text(error.get("message"))
            raise _unusable(request, answer, f"else: {text}" if text else "unexpected")
        is_whole = len(path) == 1 and path[0] not in found
        found[path[0]] = str(error.get("type")) if is_whole else "several"
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


__all__ = ["HeadQuestion", "MissingQuestion", "confirm_heads", "graphql_url", "still_missing"]
