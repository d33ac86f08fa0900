"""Which commit is not tried again, and until when."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from syncd.engine import hook_result, rejection
from syncd.errors import HookFailedError
from syncd.models import Hook, Job, PathRule
from syncd.ports import HookResult, JobState

COMMIT, OTHER = "a" * 40, "b" * 40
CHECK = Hook("nginx -t", ("nginx", "-t"))
SHELL = Hook("nginx -t | cat", ("/bin/sh", "-c", "nginx -t | cat"), True)
JOB = Job(
    "nginx",
    "ops",
    "acme/infra",
    "main",
    (PathRule("nginx", "/etc/nginx", True),),
    validate=CHECK,
    on_change=Hook("reload", ("reload",)),
)


def vetoed(end: HookResult, state: JobState = JobState(), hook: Hook = CHECK) -> HookFailedError:
    error = hook_result.validate_error(JOB, state, COMMIT, end, hook)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("change", "lifted"),
    [
        ({}, False),
        ({"validate": SHELL}, True),
        ({"validate": None}, True),
        ({"on_change": CHECK}, True),
        ({"undo_on_failure": True}, True),
        ({"hook_user": "www-data"}, True),
        ({"hook_timeout_seconds": 61.0}, True),
        ({"mode": 0o600}, True),
        ({"every_seconds": 1.0}, False),
        ({"timeout_seconds": 1.0}, False),
    ],
    ids=str,
)
def test_a_rejection_lasts_until_the_commit_or_what_judges_it_changes(
    change: dict[str, object], lifted: bool
) -> None:
    state = rejection.record_rejection(JOB, JobState(), vetoed(HookResult(status=1)))
    assert rejection.known_rejection(JOB, state, OTHER) is None
    assert (rejection.known_rejection(replace(JOB, **change), state, COMMIT) is None) is lifted  # type: ignore[arg-type]
    assert rejection.known_rejection(JOB, JobState(), COMMIT) is None
