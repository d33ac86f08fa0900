"""Says of a quick check's answer what `sync` says of a run that found everything in sync, in the same words."""

from __future__ import annotations

from syncd.cli.reports import as_json, closing_line, summary_line
from syncd.models import RunReport, RunStatus
from syncd.output import echo
from syncd.quick import InStep


def say(found: InStep) -> None:
    reports = [RunReport(name, RunStatus.UNCHANGED, repo, ref, commit, commit, seconds=found.seconds) for name, repo, ref, commit in found.jobs]
    requests = {"total": found.requests, "not_modified": found.requests}
    if found.asked.json:
        echo(as_json("syncd.sync/1", 0, requests, reports))
        return
    width = max(len(report.job) for report in reports)
    for report in reports:
        echo(summary_line(report, width))
    echo(closing_line(reports, 0, requests))
