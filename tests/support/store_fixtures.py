"""A job's memory with one of everything that a store keeps:
what every store must give back as it got it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from syncd.errors import MirrorError
from syncd.models import (
    Action,
    ActionKind,
    Change,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    RunReport,
    RunStatus,
    Stat,
    TreeEntry,
    Trigger,
    WantedFile,
)
from syncd.ports import Head, Intent, JobState, LastError, PendingReload, Rejection, RunRecord
from syncd.store.facts import LimitRow, Usage, WebhookFacts

AT = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
SCOPE = "https://api.github.com ops"
JOB = "nginx"


def oid(number: int) -> str:
    return f"{number:040x}"


def entry(number: int, **more: Any) -> WantedFile:
    return WantedFile(oid(number), 0o644, source=f"nginx/{number}", root="/srv", **more)


ROWS = {
    "/srv/one.conf": LedgerRow(entry(1, size=4), Stat(1, 2, 3, 1764000000000000001, 5)),
    "/srv/two/日本語 \u00e9.conf": LedgerRow(entry(2, uid=33, gid=34, dir_mode=0o750), None),
    "/srv/link": LedgerRow(
        WantedFile(oid(3), 0, Kind.LINK, source="nginx/link", root="/srv"), Stat(1, 9, 3, 4, 5)
    ),
    "/srv/met": LedgerRow(entry(4), None, Ownership.FOREIGN),
    "/srv/dropped": LedgerRow(entry(5), Stat(1, 2, 3, 4, 6), Ownership.UNLISTED),
    "/srv/edited": LedgerRow(entry(6), Stat(1, 2, 3, 4, 7), wanted=entry(7)),
}
LEDGER = {path: replace(row, real=path) for path, row in ROWS.items()}
STATE = JobState(
    applied_commit=oid(100),
    applied_config_digest="d" * 64,
    rejection=Rejection(oid(101), "e" * 64, "nginx -t: bad"),
    pending_reload=PendingReload(oid(100), attempts=3),
    failures=2,
    consistent=False,
    drift_count=1,
    files=5,
    last_run_at=AT,
    last_success_at=AT - timedelta(hours=1),
    last_change_at=AT - timedelta(days=1),
    last_error=LastError("mirror", "a disk"),
)
INTENT = Intent(
    "0123456789ab",
    JOB,
    oid(102),
    "d" * 64,
    (
        Action(
            ActionKind.WRITE,
            "/srv/one.conf",
            entry(8),
            ROWS["/srv/one.conf"],
            LocalFile(Kind.FILE, oid(1), 0o644, 0, 0, Stat(1, 2, 3, 4, 5)),
            "changed upstream",
        ),
        Action(ActionKind.WRITE, "/srv/new", entry(9), None, None, "new"),
        Action(
            ActionKind.WRITE,
            "/srv/taken",
            entry(10),
            None,
            LocalFile(Kind.FILE, oid(11), 0o600, 5, 6, Stat(1, 8, 3, 4, 5)),
            "takes over",
            replaces_foreign=True,
        ),
        Action(
            ActionKind.REMOVE,
            "/srv/link",
            None,
            ROWS["/srv/link"],
            LocalFile(Kind.LINK, oid(3), 0o777, 0, 0, Stat(1, 9, 3, 4, 5)),
            "dropped upstream",
        ),
    ),
    ("/srv/deep", "/srv/deep/er"),
    True,
    AT,
    reload_was_pending=True,
)
FOLDERS = ("/srv/two", "/srv/deep")
HEAD = Head(oid(100), 'W/"abc"', "heads/main")
LISTING = {
    "a.conf": TreeEntry(0o100644, oid(20), 12),
    "sub/b": TreeEntry(0o100755, oid(21), None),
    "link": TreeEntry(0o120000, oid(22), 3),
}
CHANGES = (
    Change(ActionKind.WRITE, "/srv/one.conf", "nginx/1", None, oid(1)),
    Change(ActionKind.REMOVE, "/srv/old", "nginx/old", oid(30), None),
)


def report(number: int, status: RunStatus = RunStatus.CHANGED, **more: Any) -> RunReport:
    """The run that brought commit `number`."""
    return RunReport(
        JOB,
        status,
        "acme/infra",
        "main",
        oid(number),
        oid(number - 1),
        trigger=Trigger.PUSH,
        started_at=AT + timedelta(minutes=number),
        **more,
    )


def fill(store: Any, job: str = JOB) -> None:
    """Two sets, the ledger, a failed run, an intent under way, a head, a listing and a budget."""
    for number in (99, 100):
        made = replace(report(number, changes=CHANGES, bytes_written=1234, seconds=0.5), job=job)
        store.record(job, RunRecord(made, LEDGER, frozenset(), FOLDERS, (), STATE, applied=True))
    store.record(
        job,
        RunRecord(
            replace(report(101, RunStatus.FAILED, error=MirrorError("a disk")), job=job),
            state=STATE,
        ),
    )
    store.begin_intent(replace(INTENT, job=job), STATE)
    store.save_head(SCOPE, "acme/infra", "main", HEAD)
    store.save_head(SCOPE, "acme/infra", None, Head(oid(55)))
    store.save_listing(oid(200), LISTING)
    facts = store.facts
    facts.save_github(
        [LimitRow("ops", 42, "acme", 5000, 4321, AT)],
        [Usage(("ops", 42), AT, {"acme/infra": 7})],
        {"ops": AT},
    )
    facts.save_backoffs({job: AT})
    facts.save_webhook(WebhookFacts(AT, "push of acme/infra"))
    facts.save_unavailable_repositories("ops", {42: frozenset({"acme/gone"})})
    facts.save_installations("ops", {"acme": (42, "Acme")})
