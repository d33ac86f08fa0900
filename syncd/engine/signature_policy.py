"""`require: {signed_by: FILE}`: a commit is applied only if a signer of the file signed it.

The signature is verified on this machine. GitHub is believed in nothing: the commit's bytes hash to
its id, they name the tree, and the listing is checked up to that tree. For a ref that is a tag, the
signature of an annotated tag counts instead of the commit's. `since: COMMIT` lets in unsigned
commits: that one, and those that it follows by the parents that the objects name.
"""

from __future__ import annotations

from syncd.engine.context import RunState
from syncd.errors import BadResponseError, ConfigError, UntrustedError
from syncd.ports import Head, Signers
from syncd.ref_names import ref_spellings
from syncd.signatures.signed_object import (
    ObjectError,
    SignedObject,
    parents_of,
    parse_commit,
    parse_tag,
)
from syncd.signatures.verdict import UNSIGNED, Verdict

TAGS = "tags/"


def signed_tree(run: RunState, head: Head) -> str | None:
    """Return the tree of the head as a signed commit or tag names it; None without `signed_by`.

    Raises UntrustedError for a head that no signer of the file signed.
    """
    file, commit = run.job.require.signed_by, head.commit
    if file is None:
        return None
    raw = run.ctx.source.commit_object(run.job.repo, commit, run.deadline)
    verdict = _verdict(run, head, raw, file)
    if verdict.signer is None and not _is_before_signing(run, commit):
        raise _untrusted(run, head, file, verdict)
    if raw is None:
        raise BadResponseError(
            f"the tree of commit {commit[:7]} of {run.job.repo} can't be checked: "
            "the commit's id can't be computed from what GitHub says of it",
            id="bad_response/other-object",
            hint="sign the commit itself and push it",
        )
    return _parsed(run, commit, raw).names["tree"]


def signers_digest(run: RunState) -> str:
    """Return what a verdict on a signature depends on beside the job: the content of the file."""
    file, signers = run.job.require.signed_by, run.ctx.signers
    return "" if file is None or signers is None else signers.digest(file)


def _verdict(run: RunState, head: Head, raw: bytes | None, file: str) -> Verdict:
    signers = _signers(run)
    tag = _tag_name(run, head)
    if tag is not None:
        found = run.ctx.source.tag_object(run.job.repo, tag, run.deadline)
        if found is not None:
            return _verdict_on_tag(signers, found, (tag, head.commit), file)
    if raw is None:
        return Verdict(None, UNSIGNED)
    return signers.verify(file, _parsed(run, head.commit, raw))


def _verdict_on_tag(signers: Signers, raw: bytes, named: tuple[str, str], file: str) -> Verdict:
    """Return the verdict on a tag, which has to have this name and to name this commit."""
    try:
        signed = parse_tag(raw)
    except ObjectError as error:
        return Verdict(None, str(error))
    names = signed.names
    if names["type"] != "commit" or (names["tag"], names["object"]) != named:
        return Verdict(None, f"its tag is {names['tag']!r} of {names['object'][:7]}")
    return signers.verify(file, signed)


def _parsed(run: RunState, commit: str, raw: bytes) -> SignedObject:
    try:
        return parse_commit(raw)
    except ObjectError as error:
        raise UntrustedError(
            f"commit {commit[:7]} of {run.job.repo} is not one that git makes: {error}; "
            "nothing was changed",
            commit=commit,
            id="limit/signature-refused",
            hint="make the commit anew with git, sign it, and push it",
        ) from error


def _is_before_signing(run: RunState, commit: str) -> bool:
    """Return whether the commit is `since`, or one that `since` follows.

    The parents are read from objects whose ids were checked, from `since` on.
    """
    since = run.job.require.since
    if since is None or commit == since:
        return since is not None
    objects = run.ctx.source.history(run.job.repo, since, run.deadline)
    reached, waiting = {since}, [since]
    while waiting:
        raw = objects.get(waiting.pop())
        for parent in parents_of(raw) if raw is not None else ():
            if parent not in reached:
                reached.add(parent)
                waiting.append(parent)
    return commit in reached


def _tag_name(run: RunState, head: Head) -> str | None:
    """Return the name of the tag that the run follows; None for a branch or a commit id."""
    form = head.form or ref_spellings(run.ref)[0]
    return form.removeprefix(TAGS) if form.startswith(TAGS) else None


def _signers(run: RunState) -> Signers:
    if run.ctx.signers is None:
        raise ConfigError("signed_by: there is nothing to verify signatures with")
    return run.ctx.signers


def _untrusted(run: RunState, head: Head, file: str, verdict: Verdict) -> UntrustedError:
    job, commit = run.job, head.commit
    tag = _tag_name(run, head)
    what = f"commit {commit[:7]} of {job.repo}" + (f" (tag {tag})" if tag else "")
    is_unsigned = verdict.problem == UNSIGNED
    again = "git tag -s -f NAME" if tag else "git commit --amend -S"
    return UntrustedError(
        f"{what} is not signed by a signer in {file}: {verdict.problem}; nothing was changed",
        commit=commit,
        id="limit/commit-unsigned" if is_unsigned else "limit/signature-refused",
        hint=f"sign it with a key of that file ({again}) and push again, "
        "or add the signer's key to the file; both are tried at the next run",
    )
