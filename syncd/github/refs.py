"""The commit that a ref names now. GitHub answers 304 while it is the known one.

The spelling that GitHub answered to is saved in the head and requested first from then on, so an
unchanged tag costs one request, as a branch does. The saved spelling never decides which ref is
followed: ref_names.py says when the other spellings are requested again.
"""

from __future__ import annotations

from msgspec.structs import replace

from syncd.errors import BadResponseError, ConfigError, NotFoundError
from syncd.git_objects import is_object_id
from syncd.github.json_body import parse_json
from syncd.github.protocol import SHA, Request, get, quote_path, repo_path
from syncd.github.ref_suggestions import suggest_ref
from syncd.github.request import Answer, send_and_read
from syncd.github.scope import RepositoryScope
from syncd.ports import Head
from syncd.ref_names import is_check_due, is_short, ref_spellings
from syncd.text import in_quotes

UNCHANGED_HINT = "nothing was changed; the next run asks again"


def resolve(scope: RepositoryScope, ref: str | None, known: Head | None) -> Head:
    """Return the commit that `ref` names now.

    Raises:
        ConfigError: a short name is both a branch and a tag.
        NotFoundError: no such ref, or an empty repository.
        AuthError: the repository does not exist or is hidden.
        BadResponseError: the answer is not a commit id.

    Source: GitHub REST docs, "Get a commit": 422 for a ref that does not resolve, 404 for a
    repository, 409 for an empty one.
    """
    missing = NotFoundError(
        f"there is no branch, tag or commit {in_quotes(ref or 'HEAD')} in {scope.repo}",
        id="not_found/ref-missing",
        status=422,
        hint="correct ref:, or create it upstream; the files stay as they are until then",
    )
    # git allows no such name, and an HTTP library would resolve it to another endpoint
    if ref is not None and any(part in ("", ".", "..") for part in ref.split("/")):
        raise missing
    lookup = _SpellingLookup(scope, ref, known)
    for form in _known_first(ref_spellings(ref), known):
        head = lookup.head_of(form)
        if head is not None:
            return lookup.checked_for_ambiguity(head)
    missing.request_id = lookup.request_id
    meant = suggest_ref(scope, ref) if known is None else None  # a known ref is spelled right
    if meant is not None:
        missing.hint = f"did you mean {in_quotes(meant)}? {missing.hint}"
    raise missing


def _known_first(spellings: list[str], known: Head | None) -> list[str]:
    if known is None or known.form not in spellings:
        return spellings
    return [known.form, *(form for form in spellings if form != known.form)]


class _SpellingLookup:
    """The heads that the spellings of one ref name. Each spelling is requested at most once."""

    def __init__(self, scope: RepositoryScope, ref: str | None, known: Head | None) -> None:
        self._scope, self._ref, self._known = scope, ref, known
        self._heads: dict[str, Head | None] = {}
        self.request_id: str | None = None  # of the last spelling that names no commit

    def head_of(self, form: str) -> Head | None:
        """Return the head under this spelling; None where it names no commit."""
        if form not in self._heads:
            try:
                self._heads[form] = _fetch_head(self._scope, self._ref, form, self._known)
            except NotFoundError as error:
                if error.status == 409:
                    raise
                self._heads[form], self.request_id = None, error.request_id
        return self._heads[form]

    def checked_for_ambiguity(self, head: Head) -> Head:
        """Return `head`, or the one that a due check of the short name finds instead.

        A branch or a tag counts before an abbreviated commit id, or whatever else GitHub reads in
        the bare name, as it does in git. Raises ConfigError where the name is a branch and a tag.
        """
        if not is_short(self._ref):
            return head
        known, now = self._known, self._scope.deadline.clock.now().timestamp()
        same = known is not None and known.form == head.form
        if known is not None and same and not is_check_due(self._ref, known.checked_at, now):
            return replace(head, checked_at=known.checked_at)
        branch, tag = (self.head_of(form) for form in ref_spellings(self._ref)[:2])
        if branch is not None and tag is not None:
            raise _ambiguous_error(self._scope.repo, self._ref or "")
        return replace(branch or tag or head, checked_at=now)


def _ambiguous_error(repo: str, ref: str) -> ConfigError:
    branch, tag = (in_quotes(f"refs/{form}")[1:-1] for form in ref_spellings(ref)[:2])
    name = in_quotes(ref)[1:-1]
    return ConfigError(
        f"ref: {name} is both a branch and a tag of {repo}: {branch} and {tag}",
        id="config/ambiguous-ref",
        hint=f"write the one to follow, ref: {branch} or ref: {tag}; "
        "the files stay as they are until then",
    )


def head_request(api: str, repo: str, ref: str | None, form: str, known: Head | None) -> Request:
    """Return the request for what `ref` names, in the spelling `form`; conditional on `known`."""
    path = f"{repo_path(repo)}/commits/{quote_path(form)}"
    subject = f"{in_quotes(ref) if ref else 'the default branch'} of {repo}"
    return get(api, path, "head", subject, repo, SHA, if_none_match(known))


def _fetch_head(scope: RepositoryScope, ref: str | None, form: str, known: Head | None) -> Head:
    request = head_request(scope.api, scope.repo, ref, form, known)
    answer = send_and_read(scope.transport, request, scope.deadline)
    if answer.status == 304 and known is not None:
        return replace(known, form=form, unchanged=True)
    commit = parse_commit_id(request, answer)
    if ref is not None and is_object_id(ref) and commit != ref:
        raise BadResponseError(
            f"GitHub answered the request for the commit {ref} of {scope.repo} with {commit}",
            id="bad_response/other-commit",
            status=200,
            hint="nothing was changed",
        )
    etag = answer.headers.get("etag")
    named = (etag or "").removeprefix("W/").strip('"')
    if is_object_id(named) and named != commit:
        raise BadResponseError(
            f"GitHub answered the request for {request.subject} with the commit {commit} under the "
            f"ETag {(etag or '')[:100]}: one of them is damaged",
            id="bad_response/etag-mismatch",
            status=200,
            hint=UNCHANGED_HINT,
        )
    return Head(commit, etag, form, unchanged=known is not None and known.commit == commit)


def if_none_match(known: Head | None) -> str | None:
    """Return If-None-Match for a known head, or None.

    It is the commit id, which is GitHub's ETag here, and the ETag that came where it was another
    one. Source: GitHub REST docs, "Get a commit": the sha media type may be requested with the
    local id as ETag.
    """
    if known is None:
        return None
    own = f'"{known.commit}"'
    if known.etag is None or known.etag.removeprefix("W/") == own:
        return own
    return f"{own}, {known.etag}"


def parse_commit_id(request: Request, answer: Answer) -> str:
    """Return the commit id in a 200 answer.

    It is the text, or the `sha` of a JSON commit from servers that do not know the media type.
    """
    body = answer.body.strip()
    found: object = body.decode("ascii", "replace")
    if body[:1] == b"{":
        value = parse_json(body, request.subject, "head")
        found = value.get("sha") if isinstance(value, dict) else None
    if isinstance(found, str) and is_object_id(found):
        return found
    what, identity = "something that is no commit id", "bad_response/no-commit-id"
    if body[:1] == b"<":
        what, identity = "a web page (a proxy or a sign-in page?)", "bad_response/web-page"
    raise BadResponseError(
        f"GitHub answered the request for {request.subject} with {what}",
        id=identity,
        status=answer.status,
        request_id=answer.headers.get("x-github-request-id"),
        hint=UNCHANGED_HINT,
    )
