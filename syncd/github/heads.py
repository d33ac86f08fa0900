"""What a ref names now: answered 304 while it holds, believed only when it is a commit id.

A branch wins over a tag of the same name, and both over anything else git would read the name as; the spelling that GitHub answered
to is remembered in the head and asked first from then on, so a tag costs one request at rest like a branch does.
"""

from __future__ import annotations

from msgspec.structs import replace

from syncd.clock import Patience
from syncd.engine.ports import Head
from syncd.errors import BadResponseError, NotFoundError
from syncd.github.ask import Answer, ask
from syncd.github.protocol import SHA, Request, Transport, get, quoted, repo_path
from syncd.github.trees import parse_json, printable
from syncd.objects import is_object_id

SHA_CAP = 16 << 20  # a JSON commit, where text was asked for, lists up to 300 files with their patches


def forms(ref: str | None) -> list[str]:
    """The spellings under which GitHub may know a ref, in the order they are asked."""
    if ref is None or ref == "HEAD":
        return ["HEAD"]
    if is_object_id(ref):
        return [ref]
    if ref.startswith("refs/"):
        return [ref.removeprefix("refs/")]
    return [f"heads/{ref}", f"tags/{ref}", ref]


def resolve(transport: Transport, api: str, repo: str, ref: str | None, known: Head | None, patience: Patience) -> Head:
    """The commit that `ref` names now.

    Raises:  NotFoundError (no such ref; empty repository), AuthError (the repository is not there, or hidden), BadResponseError.
    Source:  GitHub REST docs, "Get a commit": 422 for a ref that does not resolve, 404 for a repository, 409 for an empty one.
    """
    missing = NotFoundError(
        f"there is no branch, tag or commit {printable(ref or 'HEAD')} in {repo}",
        status=422,
        hint="correct ref:, or create it upstream; the files stay as they are until then",
    )
    if ref is not None and any(part in ("", ".", "..") for part in ref.split("/")):
        raise missing  # git allows no such name, and an HTTP library would resolve it to another endpoint
    for form in _known_first(forms(ref), known):
        try:
            return _ask(transport, api, repo, ref, form, known, patience)
        except NotFoundError as error:
            if error.status == 409:
                raise
            missing.request_id = error.request_id
    raise missing


def _known_first(spellings: list[str], known: Head | None) -> list[str]:
    if known is None or known.form not in spellings:
        return spellings
    return [known.form, *(form for form in spellings if form != known.form)]


def question(api: str, repo: str, ref: str | None, form: str, known: Head | None) -> Request:
    """The request that asks what `ref` names, in the spelling `form`; conditional on what is known."""
    path = f"{repo_path(repo)}/commits/{quoted(form)}"
    return get(api, path, "head", f"{printable(ref) if ref else 'the default branch'} of {repo}", repo, SHA, conditions(known), SHA_CAP)


def _ask(transport: Transport, api: str, repo: str, ref: str | None, form: str, known: Head | None, patience: Patience) -> Head:
    request = question(api, repo, ref, form, known)
    answer = ask(transport, request, patience)
    if answer.status == 304 and known is not None:
        return replace(known, form=form, unchanged=True)
    commit = commit_of(request, answer)
    if ref is not None and is_object_id(ref) and commit != ref:
        raise BadResponseError(f"asked for the commit {ref} of {repo}, got {commit}", status=200, hint="nothing was changed")
    etag = answer.headers.get("etag")
    if etag is not None and is_object_id(etag.removeprefix("W/").strip('"')) and etag.removeprefix("W/").strip('"') != commit:
        raise BadResponseError(
            f"asked for {request.subject}, got the commit {commit} under the ETag {etag}: one of them is damaged",
            status=200,
            hint="nothing was changed; the next run asks again",
        )
    return Head(commit, etag, form, unchanged=known is not None and known.commit == commit)


def conditions(known: Head | None) -> str | None:
    """If-None-Match for what is known: the commit id, which is GitHub's ETag here, and the ETag that came where it was another one.

    Source: GitHub REST docs, "Get a commit": the sha media type may be asked with the local id as ETag.
    """
    if known is None:
        return None
    own = f'"{known.commit}"'
    return own if known.etag is None or known.etag.removeprefix("W/") == own else f"{own}, {known.etag}"


def commit_of(request: Request, answer: Answer) -> str:
    """The commit id in a 200: text, or the `sha` of a JSON commit from servers that do not know the media type."""
    body = answer.body.strip()
    found: object = body.decode("ascii", "replace")
    if body[:1] == b"{":
        value = parse_json(body, f"asked for {request.subject}: it")
        found = value.get("sha") if isinstance(value, dict) else None
    if not isinstance(found, str) or not is_object_id(found):
        what = "a web page (a proxy or a sign-in page?)" if body[:1] == b"<" else "something that is no commit id"
        raise BadResponseError(
            f"asked for {request.subject}, got {what}",
            status=answer.status,
            request_id=answer.headers.get("x-github-request-id"),
            hint="nothing was changed; the next run asks again",
        )
    return found
