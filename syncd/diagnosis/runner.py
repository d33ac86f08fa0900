"""Runs checks one after the other, each with a time limit, so that none hides the others.

A disk or a mount that does not answer can't be interrupted: its check is left behind in a thread of
its own, and is a finding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from syncd.diagnosis.finding import Finding, error, from_error
from syncd.errors import StoppedError, SyncdError, unexpected

LIMIT_SECONDS = 10.0


class Check(Struct, frozen=True):
    """One check. `find` yields its findings; `limit_seconds` (LIMIT_SECONDS) is how long it may
    take in all.
    """

    subject: str
    find: Callable[[], Iterable[Finding]]
    limit_seconds: float | None = None


def run_checks(checks: Iterable[Check]) -> Iterator[Finding]:
    """Yield the findings of every check, in order. Raises StoppedError after a signal."""
    for check in checks:
        yield from run_check(check)


def run_check(check: Check) -> list[Finding]:
    """Return the findings of one check; what failed in it is one of them.

    Raises StoppedError after a signal.
    """
    found: list[Finding] = []
    stopped: list[StoppedError] = []

    def work() -> None:
        try:
            found.extend(check.find())
        except StoppedError as failure:
            stopped.append(failure)
        except SyncdError as failure:
            found.append(from_error(check.subject, failure))
        except Exception as failure:  # noqa: BLE001  (one failing check must not hide the others)
            found.append(from_error(check.subject, unexpected(failure)))

    thread = threading.Thread(target=work, name="syncd-check", daemon=True)
    thread.start()
    limit = check.limit_seconds if check.limit_seconds is not None else LIMIT_SECONDS
    thread.join(limit)
    is_late = thread.is_alive()  # before the findings are read: it may end at this moment
    if stopped:
        raise stopped[0]
    return [*found, _too_slow(check, limit)] if is_late else found


def close(work: Callable[[], object]) -> None:
    """Call what closes the collaborators of the checks, with the time limit of a check.

    A store that hangs can't be closed either: it is left to the end of the process.
    """

    def find() -> Iterable[Finding]:
        work()
        return ()

    run_check(Check("store", find))


def _too_slow(check: Check, limit_seconds: float) -> Finding:
    return error(
        "doctor/too-slow",
        check.subject,
        f"the check did not end within {limit_seconds:g} s",
        "is a network mount or a disk that it looks at hanging? df and dmesg tell",
    )


__all__ = ["LIMIT_SECONDS", "Check", "close", "run_check", "run_checks"]
