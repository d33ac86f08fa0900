"""What a ref names now: answered 304 while it holds, believed only when it is a commit id.

The spelling that GitHub answered to is remembered in the head and asked first from then on, so a tag costs one request at rest like a
branch does. What is remembered never decides which ref is followed: ref_names.py says when the other spellings are asked again.
"""

from __future__ import annotations

from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import BadResponseError, ConfigError, NotFoundError
from syncd.git_objects import is_object_id
from syncd.github.protocol import SHA, Request, Transport, get, quoted, repo_path
from syncd.github.request import Answer, ask
from syncd.github.trees import parse_json
from syncd.ports import Head
from syncd.ref_names import is_check_due, is_short, ref_spellings
from syncd.text import in_quotes


def resolve(
    transport: Transport,
    api: str,
    repo: str,
    ref: str | None,
    known: Head | None,
    deadline: Deadline,
) -> Head:
    """The commit that `ref` names now.

    Raises:
        ConfigError: a short name is both a branch and a tag.
        NotFoundError: no such ref, or an empty repository.
        AuthError: the repository does not exist or is hidden.
        BadResponseError: the answer is not a commit id.

    Source: GitHub REST docs, "Get a commit": 422 for a ref that does not resolve, 404 for a
    repository, 409 for an empty one.
    """
    missing = NotFoundError(
        f"there is no branch, tag or commit {in_quotes(ref or 'HEAD')} in {repo}",
        status=422,
        hint="correct ref:, or create it upstream; the files stay as they are until then",
    )
    if ref is not None and any(part in ("", ".", "..") for part in ref.split("/")):
        raise missing  # git allows no such name, and an HTTP library would resolve it to another endpoint
    spellings = _SpellingLookup(transport, api, repo, ref, known, deadline)
    for form in _known_first(ref_spellings(ref), known):
        head = spellings.head_of(form)
        if head is not None:
            return spellings.checked_for_ambiguity(head)
    missing.request_id = spellings.request_id
    raise missing


def _known_first(spellings: list[str], known: Head | None) -> list[str]:
    if known is None or known.form not in spellings:
        return spellings
    return [known.form, *(form for form in spellings if form != known.form)]


class _SpellingLookup:
    """What each spelling of one ref names; each is asked for at most once."""

    def __init__(
        self,
        transport: Transport,
        api: str,
        repo: str,
        ref: str | None,
        known: Head | None,
        deadline: Deadline,
    ) -> None:
        self._transport, self._api, self._repo, self._ref = transport, api, repo, ref
        self._known, self._deadline = known, deadline
        self._heads: dict[str, Head | None] = {}
        self.request_id: str | None = None  # of the last spelling that names nothing

    def head_of(self, form: str) -> Head | None:
        """The head under this spelling; None where it names nothing."""
        if form not in self._heads:
            try:
                self._heads[form] = _fetch_head(
                    self._transport,
                    self._api,
                    self._repo,
                    self._ref,
                    form,
                    self._known,
                    self._deadline,
                )
            except NotFoundError as error:
                if error.status == 409:
                    raise
                self._heads[form], self.request_id = None, error.request_id
        return self._heads[form]

    def checked_for_ambiguity(self, head: Head) -> Head:
        """The head to follow: `head`, unless the short name is due for a check that finds another.

        A branch or a tag counts before an abbreviated commit id, or whatever else GitHub reads in
        the bare name, as it does in git. Raises ConfigError where the name is a branch and a tag.
        """
        known, now = self._known, self._deadline.clock.now().timestamp()
        if not is_short(self._ref):
            return head
        same = known is not None and known.form == head.form
        if known is not None and same and not is_check_due(self._ref, known.checked_at, now):
            return replace(head, checked_at=known.checked_at)
        branch, tag = (self.head_of(form) for form in ref_spellings(self._ref)[:2])
        if branch is not None and tag is not None:
            raise _ambiguous(self._repo, self._ref or "")
        return replace(branch or tag or head, checked_at=now)


def _ambiguous(repo: str, ref: str) -> ConfigError:
    branch, tag = (in_quotes(f"refs/{form}")[1:-1] for form in ref_spellings(ref)[:2])
    return ConfigError(
        f"ref: {in_quotes(ref)[1:-1]} is both a branch and a tag of {repo}: {branch} and {tag}",
        hint=f"write the one to follow, ref: {branch} or ref: {tag}; the files stay as they are until then",
    )


def head_request(api: str, repo: str, ref: str | None, form: str, known: Head | None) -> Request:
    """The request that asks what `ref` names, in the spelling `form`; conditional on what is known."""
    path = f"{repo_path(repo)}/commits/{quoted(form)}"
    return get(
        api,
        path,
        "head",
        f"{in_quotes(ref) if ref else 'the default branch'} of {repo}",
        repo,
        SHA,
        if_none_match(known),
    )


def _fetch_head(
    transport: Transport,
    api: str,
    repo: str,
    ref: str | None,
    form: str,
    known: Head | None,
    deadline: Deadline,
) -> Head:
    request = head_request(api, repo, ref, form, known)
    answer = ask(transport, request, deadline)
    if answer.status == 304 and known is not None:
        return replace(known, form=form, unchanged=True)
    commit = parse_commit_id(request, answer)
    if ref is not None and is_object_id(ref) and commit != ref:
        raise BadResponseError(
            f"asked for the commit {ref} of {repo}, got {commit}",
            status=200,
            hint="nothing was changed",
        )
    etag = answer.headers.get("etag")
    if (
        etag is not None
        and is_object_id(etag.removeprefix("W/").strip('"'))
        and etag.removeprefix("W/").strip('"') != commit
    ):
        raise BadResponseError(
            f"asked for {request.subject}, got the commit {commit} under the ETag {etag[:100]}: one of them is damaged",
            status=200,
            hint="nothing was changed; the next run asks again",
        )
    return Head(commit, etag, form, unchanged=known is not None and known.commit == commit)


def if_none_match(known: Head | None) -> str | None:
    """If-None-Match for what is known: the commit id, which is GitHub's ETag here, and the ETag that came where it was another one.

    Source: GitHub REST docs, "Get a commit": the sha media type may be asked with the local id as ETag.
    """
    if known is None:
        return None
    own = f'"{known.commit}"'
    return (
        own
        if known.etag is None or known.etag.removeprefix("W/") == own
        else f"{own}, {known.etag}"
    )


def parse_commit_id(request: Request, answer: Answer) -> str:
    """The commit id in a 200: text, or the `sha` of a JSON commit from servers that do not know the media type."""
    body = answer.body.strip()
    found: object = body.decode("ascii", "replace")
    if body[:1] == b"{":
        value = parse_json(body, f"asked for {request.subject}: it", "head")
        found = value.get("sha") if isinstance(value, dict) else None
    if not isinstance(found, str) or not is_object_id(found):
        what = (
            "a web page (a proxy or a sign-in page?)"
            if body[:1] == b"<"
            else "something that is no commit id"
        )
        raise BadResponseError(
            f"asked for {request.subject}, got {what}",
            status=answer.status,
            request_id=answer.headers.get("x-github-request-id"),
            hint="nothing was changed; the next run asks again",
        )
    return found
