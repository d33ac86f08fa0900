"""What an operator's command is given: one call for one job or for several, as a value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from syncd.models import Change, Hook, Job, RunReport
from syncd.ports import HookCall


def build_call(
    hook: Hook,
    jobs: Sequence[Job],
    reports: Sequence[RunReport],
    changes: Mapping[str, Sequence[Change]],
) -> HookCall:
    """Return the command for these jobs as one call: values of several jobs are joined by spaces,
    each once.
    """
    facts = {
        "SYNCD_JOB": [job.name for job in jobs],
        "SYNCD_REPO": [job.repo for job in jobs],
        "SYNCD_REF": [report.ref or "HEAD" for report in reports],
        "SYNCD_COMMIT": [report.commit or "" for report in reports],
        "SYNCD_PREVIOUS": [report.previous or "" for report in reports],
    }
    return HookCall(
        hook,
        tuple(job.name for job in jobs),
        {name: " ".join(dict.fromkeys(filter(None, values))) for name, values in facts.items()},
        changes_json(jobs, reports, changes),
        max(job.hook_timeout_seconds for job in jobs),
        jobs[0].hook_user,
    )


def changes_json(
    jobs: Sequence[Job], reports: Sequence[RunReport], changes: Mapping[str, Sequence[Change]]
) -> str:
    """Return the JSON that SYNCD_CHANGES names: every job with its changes, as `syncd sync --json`
    has them.
    """
    rows = [
        {
            "job": job.name,
            "repo": job.repo,
            "ref": report.ref,
            "commit": report.commit,
            "previous": report.previous,
            "changes": [
                {
                    "action": change.action.value,
                    "path": change.path,
                    "from": change.source,
                    "before": change.before,
                    "after": change.after,
                }
                for change in changes.get(job.name, ())
            ],
        }
        for job, report in zip(jobs, reports, strict=True)
    ]
    return json.dumps({"schema": "syncd.changes/1", "jobs": rows})
