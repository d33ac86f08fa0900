"""Defines every failure that has a name, sorted by who acts next.

A message says what was attempted, on what, and what happened; `hint` says what to do. `kind` is the
public word of the contract and `exit_code` its exit code. Facts travel as attributes, so that no
caller parses text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, TypedDict, Unpack

from msgspec import Struct


class Facts(TypedDict, total=False):
    """What every error may carry beside its message."""

    id: str | None
    hint: str | None
    status: int | None
    request_id: str | None
    path: str | None


class SyncdError(Exception):
    """A failure that an operator can act on; it is shown without a traceback.

    `message` and `hint` hold no secret, whatever a server or a library said, and are cut, because
    they are stored with every failed run. `id` is the stable name of the failure, such as
    `auth/app-not-found`; the documentation has an entry for each. `status` is the HTTP status,
    `request_id` GitHub's id of the request, `path` the file or directory. The constructor has six
    parameters, as all of these facts are optional.
    """

    kind: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1
    max_text_characters: ClassVar[int] = 16 << 10

    def __init__(
        self,
        message: str,
        *,
        id: str | None = None,
        hint: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        path: str | None = None,
    ) -> None:
        self.message = _safe(message, self.max_text_characters)
        self.hint = _safe(hint, self.max_text_characters) if hint is not None else None
        super().__init__(self.message)
        self.id = id if id is not None else f"{self.kind}/other"
        self.status, self.request_id, self.path = status, request_id, path

    def __str__(self) -> str:
        return self.message


def _safe(text: str, limit: int) -> str:
    """Return the text without secrets, cut to `limit` characters."""
    from syncd.redaction import redact  # loaded only when something has failed

    return _truncated(redact(_truncated(text, 2 * limit)), limit)


def _truncated(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + "…"


class Problem(Struct, frozen=True):
    """One mistake in a configuration.

    `line` and `column` count from 1; 0 means that the position is not known.
    """

    file: str
    line: int
    column: int
    key: str
    text: str
    source_line: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigError(SyncdError):
    """The operator edits the file. Carries every problem found, in file order."""

    kind = "config"
    exit_code = 2
    max_text_characters = 1 << 20  # of all problems together

    def __init__(
        self,
        problems: Sequence[Problem] | str,
        *,
        id: str | None = None,
        hint: str | None = None,
        owner: str | None = None,
    ) -> None:
        self.owner = owner  # who may read what this process may not
        self.problems: tuple[Problem, ...] = () if isinstance(problems, str) else tuple(problems)
        text = problems if isinstance(problems, str) else "\n".join(map(str, problems))
        super().__init__(text, id=id or ("config/problems" if self.problems else None), hint=hint)


class AuthError(SyncdError):
    """A person fixes a key, a grant or a suspension; asking again soon does harm.

    `state` is a short word for which.
    """

    kind = "auth"
    exit_code = 4

    def __init__(self, message: str, *, state: str = "refused", **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.state = state


class RemoteError(SyncdError):
    """A failure of a request to GitHub; `status` is the HTTP status, if there was an answer."""

    kind = "unavailable"
    exit_code = 5


class RemoteUnavailableError(RemoteError):
    """GitHub did not answer, or answered 5xx; the request may be repeated soon, with backoff."""


class UnreachableError(RemoteUnavailableError):
    """No server was reached: no network, no such name, no listener. It cost no request.

    `reason` is what the system said.
    """

    def __init__(self, message: str, *, reason: str = "", **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.reason = reason


class TimedOutError(RemoteUnavailableError):
    """The run's own time limit was reached."""


class RateLimitedError(RemoteError):
    """Try again at `retry_at` (aware UTC): a primary or secondary rate limit."""

    kind = "rate_limited"

    def __init__(
        self, message: str, *, retry_at: datetime, primary: bool = False, **facts: Unpack[Facts]
    ) -> None:
        super().__init__(message, **facts)
        self.retry_at, self.primary = retry_at, primary


class NotFoundError(RemoteError):
    """A ref or a listed path does not exist.

    A repository's 404 is an AuthError, because GitHub hides repositories that we may not read.
    """

    kind = "not_found"
    exit_code = 1


class BadResponseError(RemoteError):
    """The bytes do not match their id, or the answer makes no sense; nothing is applied."""

    kind = "bad_response"

    def __init__(self, message: str, **facts: Unpack[Facts]) -> None:
        facts.setdefault("hint", "nothing was changed; the next run asks again")
        facts.setdefault("id", "bad_response/unusable-answer")
        super().__init__(message, **facts)


class LockedError(SyncdError):
    """Another syncd holds the job; the message names it."""

    kind = "locked"
    exit_code = 11


class MirrorError(SyncdError):
    """A failure of the disk, or of what exists at a destination. `path` is the destination."""

    kind = "mirror"
    exit_code = 1


class UnsafePathError(MirrorError):
    """The path would leave the mirror, cross a link, or can't be written as it is named."""


class ChangedUnderneathError(MirrorError):
    """The file is no longer what the plan saw; plan again."""


class StoreError(SyncdError):
    """The store is locked, unreadable, or newer than this syncd."""

    kind = "store"
    exit_code = 1


class NotOwnerError(StoreError):
    """This process may not use the state, and its owner may.

    The command line adds the exact command for `owner`.
    """

    def __init__(self, message: str, *, owner: str) -> None:
        super().__init__(message, id="store/not-yours", hint=f"run it as its owner, {owner}")
        self.owner = owner


class HookFailedError(SyncdError):
    """An operator's command failed: which, with what status, and its last lines of output.

    With `rejected` it was a verdict on `commit`, which is not tried again until it or the
    configuration changes.
    """

    kind = "hook"
    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        output: str = "",
        rejected: bool = False,
        commit: str | None = None,
        **facts: Unpack[Facts],
    ) -> None:
        super().__init__(message, **facts)
        self.output, self.rejected, self.commit = output, rejected, commit


class LimitError(SyncdError):
    """Refused on purpose; the message says what would have been done and how to agree."""

    kind = "limit"
    exit_code = 6


class UntrustedError(LimitError):
    """A commit that `require` keeps out.

    It is not tried again until it or the configuration changes.
    """

    def __init__(self, message: str, *, commit: str, **facts: Unpack[Facts]) -> None:
        super().__init__(message, **facts)
        self.commit = commit


class StoppedError(SyncdError):
    """A signal ended the run before it was done; nothing is half done."""

    kind = "unavailable"
    exit_code = 130


class BugError(SyncdError):
    """A bug of ours inside a job: it fails that job and no other."""

    kind = "internal"
    exit_code = 70

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"a bug in syncd: {type(error).__name__}: {error}",
            id="internal/bug",
            hint=(
                "please report it with the traceback beside it and what `syncd version --verbose`"
                " and `syncd check` say"
            ),
        )


def unexpected(error: Exception) -> SyncdError:
    """Return the error for an exception that no code expected.

    It is a permission that the caller lacks, or else a bug of ours.
    """
    if not isinstance(error, PermissionError):
        return BugError(error)
    from syncd.owners import nearest_owner

    path = error.filename if isinstance(error.filename, str) else None
    text = f"{path or 'a file that the job needs'} can't be used: {error.strerror}"
    return MirrorError(
        text,
        id="mirror/permission-denied",
        path=path,
        hint=(
            f"it belongs to {nearest_owner(path)}: run syncd as that user, or change who may use it"
            if path
            else None
        ),
    )
