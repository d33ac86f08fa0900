"""What an operator's command is given."""

from __future__ import annotations

import json

from msgspec.structs import replace

from syncd.engine import hook_call
from syncd.models import ActionKind, Change, Hook, Job, PathRule, RunReport, RunStatus

COMMIT, OTHER = "a" * 40, "b" * 40
CHECK = Hook("nginx -t", ("nginx", "-t"))
JOB = Job(
    "nginx",
    "ops",
    "acme/infra",
    "main",
    (PathRule("nginx", "/etc/nginx", True),),
    validate=CHECK,
    on_change=Hook("reload", ("reload",)),
)
REPORT = RunReport("nginx", RunStatus.CHANGED, "acme/infra", "main", COMMIT, OTHER)


def test_a_call_for_several_jobs_names_each_value_once_and_every_change() -> None:
    other = replace(JOB, name="other", hook_timeout_seconds=90.0)
    changes = {
        "nginx": (Change(ActionKind.WRITE, "/etc/nginx/a", "nginx/a", None, OTHER),),
        "other": (),
    }
    call = hook_call.build_call(
        CHECK,
        [JOB, other],
        [REPORT, replace(REPORT, job="other", previous=None, ref=None)],
        changes,
    )
    assert dict(call.facts) == {
        "SYNCD_JOB": "nginx other",
        "SYNCD_REPO": "acme/infra",
        "SYNCD_REF": "main HEAD",
        "SYNCD_COMMIT": COMMIT,
        "SYNCD_PREVIOUS": OTHER,
    }
    assert call.jobs == ("nginx", "other") and call.timeout_seconds == 90.0
    told = json.loads(call.changes)
    assert told["jobs"][0]["changes"] == [
        {
            "action": "write",
            "path": "/etc/nginx/a",
            "from": "nginx/a",
            "before": None,
            "after": OTHER,
        }
    ]
