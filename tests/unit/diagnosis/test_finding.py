"""The exit code and the JSON of findings."""

from __future__ import annotations

import pytest

from syncd.diagnosis.finding import Finding, as_json, error, exit_code, from_error, ok, warning
from syncd.errors import AuthError

GOOD = ok("doctor/clock", "clock", "0.1 s from GitHub's")
WARNED = warning("doctor/clock-off", "clock", "90.0 s ahead of GitHub's", "set up NTP")


def failed(code: int) -> Finding:
    return error("doctor/no-space", "space", "full", "df -h", code)


CASES: dict[str, tuple[list[Finding], int]] = {
    "nothing checked": ([], 0),
    "all well": ([GOOD], 0),
    "warnings do not count": ([WARNED, GOOD], 0),
    "one error": ([failed(1)], 1),
    "GitHub refused, twice": ([failed(4), GOOD, failed(4)], 4),
    "try again": ([failed(5)], 5),
    "a limit": ([failed(6)], 6),
    "different ones": ([failed(4), failed(5)], 1),
    "a mistake in the configuration comes first": ([failed(4), failed(2), failed(1)], 2),
}


@pytest.mark.parametrize(("findings", "code"), CASES.values(), ids=CASES)
def test_exit_code(findings: list[Finding], code: int) -> None:
    assert exit_code(findings) == code


def test_a_failure_keeps_its_id_hint_and_exit_code() -> None:
    failure = AuthError("refused", id="auth/bad-credentials", hint="make a new token")
    assert from_error("repository", failure, "acme/infra") == error(
        "auth/bad-credentials", "repository", "acme/infra: refused", "make a new token", 4
    )


def test_json() -> None:
    assert as_json([GOOD, failed(1)], 4) == {
        "schema": "syncd.doctor/1",
        "exit": 1,
        "requests": {"total": 4},
        "findings": [
            {
                "id": "doctor/clock",
                "level": "ok",
                "subject": "clock",
                "message": "0.1 s from GitHub's",
                "hint": None,
            },
            {
                "id": "doctor/no-space",
                "level": "error",
                "subject": "space",
                "message": "full",
                "hint": "df -h",
            },
        ],
    }
