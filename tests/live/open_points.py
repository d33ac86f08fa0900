"""The ten open points of the fact sheet's section 11, in its order."""

from __future__ import annotations

from syncd.github.urls import web_origin
from tests.live.answers import Answer, Table, asked, yes_or_no
from tests.live.api import NotApplicable, Reply, basic, is_stateless
from tests.live.subject import LARGE_BYTES, Subject

QUESTIONS: Table = []
RAW = "application/vnd.github.raw+json"
OBJECT = "application/vnd.github.object+json"
SHA = "application/vnd.github.sha"
NEWER_VERSION = "2026-03-10"
LFS_TYPE = "application/vnd.git-lfs+json"


@asked(
    QUESTIONS,
    "11.1",
    "contents-etag-of-two-tokens",
    "Is the ETag of a file's contents the same for two tokens, and is it answered 304?",
)
def contents_etag(subject: Subject) -> Answer:
    path = subject.contents(subject.entry("100644")["path"])
    return _revalidated(subject, path, "application/vnd.github+json")


@asked(
    QUESTIONS,
    "11.1",
    "commit-etag-of-two-tokens",
    "Is the ETag of the sha media type the same for two tokens, and is it answered 304?",
)
def commit_etag(subject: Subject) -> Answer:
    return _revalidated(subject, f"{subject.path}/commits/{subject.commit_id}", SHA)


def _revalidated(subject: Subject, path: str, accept: str) -> Answer:
    one = subject.api.get(path, subject.token, accept)
    other = subject.api.get(
        path, subject.other_token, accept, If_None_Match=one.headers.get("etag", '""')
    )
    text = f"ETags {one.etag or 'none'} and {other.etag or 'none'}, then status {other.status}"
    return yes_or_no(bool(one.etag) and other.status == 304, text)


@asked(
    QUESTIONS,
    "11.2",
    "object-etag-of-a-directory",
    "Is the ETag of a directory in the object media type the directory's own tree id?",
)
def object_etag(subject: Subject) -> Answer:
    directory = subject.entry("040000")
    reply = subject.api.get(subject.contents(directory["path"]), subject.token, OBJECT)
    root = subject.commit["commit"]["tree"]["sha"]
    if reply.etag == root != directory["sha"]:
        return Answer("no", "it is the root tree of the commit")
    if reply.etag == directory["sha"]:
        return Answer("yes", "it is the directory's own tree")
    return Answer("other", f"status {reply.status}, ETag {reply.etag or 'none'}")


@asked(
    QUESTIONS,
    "11.3",
    "changed-symlink-target-is-304",
    "Is a symlink whose target's content changed answered 304?",
)
def changed_symlink(subject: Subject) -> Answer:
    path, older, newer = subject.changed_link
    before = subject.api.get(subject.contents(path, older), subject.token)
    after = subject.api.get(
        subject.contents(path, newer),
        subject.token,
        If_None_Match=before.headers.get("etag", '""'),
    )
    return yes_or_no(after.status == 304, f"status {after.status} at the newer commit")


@asked(
    QUESTIONS,
    "11.4",
    "large-file-in-json",
    "Is the JSON form of a file between 1 and 100 MB answered 200 with encoding none?",
)
def large_file(subject: Subject) -> Answer:
    reply = subject.api.get(
        subject.contents(subject.entry("100644", LARGE_BYTES)["path"]), subject.token
    )
    found = reply.json if isinstance(reply.json, dict) else {}
    if reply.status == 200 and found.get("encoding") != "none":
        return Answer("other", f"status 200 with encoding {found.get('encoding')}")
    return yes_or_no(reply.status == 200, f"status {reply.status}")


@asked(
    QUESTIONS,
    "11.5",
    "fresh-token-is-accepted",
    "Is a new token, stateless where the server makes them, accepted by its first request?",
)
def fresh_token(subject: Subject) -> Answer:
    token = subject.new_token(stateless=True)
    statuses = subject.api.statuses_until("/installation/repositories?per_page=1", token, 200)
    text = f"{_form(token)} token: statuses {_listed(statuses)}"
    return yes_or_no(statuses == [200], text)


@asked(
    QUESTIONS,
    "11.5",
    "revoked-token-is-refused",
    "Does DELETE /installation/token end a token, stateless where the server makes them?",
)
def revoked_token(subject: Subject) -> Answer:
    token = subject.new_token(stateless=True)
    path = "/installation/repositories?per_page=1"
    subject.api.statuses_until(path, token, 200)
    revoked = subject.api.delete("/installation/token", token)
    statuses = subject.api.statuses_until(path, token, 401)
    text = f"{_form(token)} token: revocation {revoked.status}, then {_listed(statuses)}"
    return yes_or_no(statuses[-1] == 401, text)


@asked(QUESTIONS, "11.6", "raw-directory", "Is a directory in the raw media type answered 200?")
def raw_directory(subject: Subject) -> Answer:
    return _raw(subject, "040000")


@asked(QUESTIONS, "11.6", "raw-submodule", "Is a submodule in the raw media type answered 200?")
def raw_submodule(subject: Subject) -> Answer:
    return _raw(subject, "160000")


def _raw(subject: Subject, kind: str) -> Answer:
    reply = subject.api.get(subject.contents(subject.entry(kind)["path"]), subject.token, RAW)
    text = f"status {reply.status}, {reply.headers.get('content-type', 'no content type')}"
    return yes_or_no(reply.status == 200, text)


@asked(
    QUESTIONS,
    "11.7",
    "newer-api-version-is-selected",
    f"Does an authenticated request for API version {NEWER_VERSION} get that version?",
)
def newer_version(subject: Subject) -> Answer:
    reply = subject.api.get(subject.path, subject.token, X_GitHub_Api_Version=NEWER_VERSION)
    selected = reply.headers.get("x-github-api-version-selected")
    if selected is None:
        return Answer("other", f"status {reply.status}, and the answer names no version")
    return yes_or_no(selected == NEWER_VERSION, f"status {reply.status}, selected {selected}")


@asked(
    QUESTIONS,
    "11.8",
    "lfs-batch",
    "Does the LFS batch API accept an installation token with contents: read?",
)
def lfs_batch(subject: Subject) -> Answer:
    reply = ask_lfs(subject, subject.token)
    return yes_or_no(reply.status == 200, f"{_form(subject.token)} token: status {reply.status}")


def ask_lfs(subject: Subject, token: str) -> Reply:
    """Return the LFS batch API's answer about the subject's pointer."""
    _, oid, size = subject.pointer
    url = f"{web_origin(subject.settings.api)}/{subject.settings.repo}.git/info/lfs/objects/batch"
    body = {
        "operation": "download",
        "transfers": ["basic"],
        "objects": [{"oid": oid, "size": size}],
    }
    headers = basic(token) | {"Accept": LFS_TYPE, "Content-Type": LFS_TYPE}
    return subject.api.send("POST", url, headers, body)


@asked(
    QUESTIONS,
    "11.9",
    "short-name-means-the-branch",
    "Does a short name that a branch and a tag share mean the branch?",
)
def short_name(subject: Subject) -> Answer:
    name = subject.settings.same_name
    if name is None:
        raise NotApplicable("SYNCD_LIVE_SAME_NAME names no branch with a tag of the same name")
    branch, tag, short = (_commit(subject, ref) for ref in (f"heads/{name}", f"tags/{name}", name))
    listed = subject.api.get(f"{subject.path}/contents?ref={name}", subject.token).etag
    if branch == tag:
        raise NotApplicable(f"branch and tag {name} are the same commit")
    if short == branch:
        return Answer("yes", f"commits/{name} is the branch; contents has ETag {listed or 'none'}")
    text = "the tag" if short == tag else f"{short or 'nothing'}"
    return Answer("no" if short == tag else "other", f"commits/{name} is {text}")


def _commit(subject: Subject, ref: str) -> str | None:
    reply = subject.api.get(f"{subject.path}/commits/{ref}", subject.token, SHA)
    return reply.body.decode(errors="replace") if reply.status == 200 else None


@asked(
    QUESTIONS,
    "11.10",
    "limits-of-jwt-requests",
    "Do answers to requests with a JWT have rate limit headers?",
)
def jwt_limits(subject: Subject) -> Answer:
    reply = subject.api.get("/app", subject.api.jwt())
    limit = reply.headers.get("x-ratelimit-limit")
    return yes_or_no(limit is not None, f"status {reply.status}, limit {limit or 'not named'}")


def _form(token: str) -> str:
    return "stateless" if is_stateless(token) else "opaque"


def _listed(statuses: list[int]) -> str:
    return ", ".join(map(str, statuses))
