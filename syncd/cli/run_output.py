"""Formats run reports: the lines of `sync` and `plan`, and the JSON of contract section 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from syncd.cli.folding import fold, terminal_columns
from syncd.errors import SyncdError
from syncd.fastpath.check import UpToDate
from syncd.models import ActionKind, Change, RunReport, RunStatus
from syncd.output import echo
from syncd.text import json_text, one_line, styled

OUTCOME_WIDTH = 24  # columns of `+1 ~1, validated, reloaded`, in most cases
SIGN = {
    ActionKind.WRITE: "~",
    ActionKind.RESTORE: "!",
    ActionKind.MODE: "%",
    ActionKind.REMOVE: "-",
    ActionKind.KEEP: "=",
}
COLOUR = {"+": "green", "~": "yellow", "!": "yellow", "%": "yellow", "-": "red", "=": "cyan"}
MARK = {
    RunStatus.CHANGED: ("✓", "green"),
    RunStatus.UNCHANGED: ("✓", "green"),
    RunStatus.WAITING: ("◷", "cyan"),
    RunStatus.SKIPPED: ("‖", "cyan"),
    RunStatus.REFUSED: ("✕", "red"),
    RunStatus.FAILED: ("✕", "red"),
}


def as_json(
    schema: str, exit_code: int, requests: Mapping[str, int], reports: Sequence[RunReport]
) -> str:
    """Return the object that `--json` prints."""
    return json_text(
        {
            "schema": schema,
            "exit": exit_code,
            "requests": dict(requests),
            "jobs": [_job(report) for report in reports],
        }
    )


def _job(report: RunReport) -> dict[str, Any]:
    error = report.error
    more: dict[str, Any] = {}
    if report.took_over_from:
        more["took_over_from"] = list(report.took_over_from)
    if report.notes:
        more["notes"] = list(report.notes)
    if report.commit_summary is not None:
        summary = report.commit_summary
        more["commit_summary"] = {"subject": summary.subject, "author": summary.author}
    if report.waiting is not None:
        more["waiting"] = report.waiting.to_json()
    if report.overrode is not None:
        more["overrode"] = report.overrode
    if report.reload_at is not None:
        more["reload_at"] = f"{report.reload_at:%Y-%m-%dT%H:%M:%SZ}"
    if report.checking:
        more["health_pending"] = True
    return {
        "job": report.job,
        "status": report.status.value,
        "repo": report.repo,
        "ref": report.ref,
        "commit": report.commit,
        "previous": report.previous,
        "changes": [_change(change) for change in report.changes],
        "bytes": report.bytes_written,
        "seconds": round(report.seconds, 3),
        "error": (
            None
            if error is None
            else {
                "kind": error.kind,
                "id": error.id,
                "message": error.message,
                "hint": error.hint,
            }
        ),
        **more,
    }


def _change(change: Change) -> dict[str, str | None]:
    return {
        "action": change.action.value,
        "path": change.path,
        "from": change.source,
        "before": change.before,
        "after": change.after,
        "trash": change.trash,
    }


def sign_of(change: Change) -> str:
    """Return the sign of a change, as in `+ /etc/motd`."""
    return (
        "+" if change.action is ActionKind.WRITE and change.before is None else SIGN[change.action]
    )


def count_of(number: int, thing: str) -> str:
    """Return a number with its noun, like `1 file` or `2 files`."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def change_line(change: Change, detail: str | None = None, columns: int | None = None) -> str:
    """Return the line of a change, with `detail` in place of the change's own.

    A detail that does not fit into so many columns is on lines of its own.
    """
    sign, path = sign_of(change), one_line(change.path)
    shown = change.detail if detail is None else detail
    line = styled(f"  {sign} ", fg=COLOUR[sign]) + path
    if not shown or shown in ("new", "changed upstream"):
        return line
    if columns is None or len(f"  {sign} {path}  {shown}") <= columns:
        return line + styled(f"  {shown}", dim=True)
    below = fold(shown, columns, " " * 6)
    return "\n".join([line, *(styled(text, dim=True) for text in below)])


def counts(changes: Sequence[Change]) -> str:
    """Return the number of changes by sign, in a fixed order: `+1 ~2 -1`."""
    signs = [sign_of(change) for change in changes]
    return " ".join(f"{sign}{signs.count(sign)}" for sign in "+~!%-=" if sign in signs)


def commits_of(report: RunReport) -> str:
    """Return the commit, with the previous one if it has changed."""
    commit = (report.commit or "")[:7]
    if report.status is RunStatus.WAITING and report.waiting is not None:
        return f"{commit or '-'} → {report.waiting.commit[:7]}"
    if report.previous and report.commit and report.previous != report.commit:
        return f"{report.previous[:7]} → {commit}"
    return commit or "-"


def summary_line(report: RunReport, width: int, columns: int | None = None) -> str:
    """Return the line that `syncd sync` prints for a finished job.

    An error or a note is folded to so many columns. The lines of a hook's output, which it ends
    with, follow.
    """
    mark, colour = MARK[RunStatus.WAITING if _waits(report) else report.status]
    more: list[str] = []
    if report.status is RunStatus.UNCHANGED:
        what = "in sync" + (f"  {counts(report.changes)}" if report.changes else "")
    elif report.error is not None:
        what, *more = report.error.message.split("\n")
    else:
        what = counts(report.changes) or report.status.value
    notes = "".join(f", {note}" for note in report.notes)
    head, tail = (
        f"{mark} {report.job:<{width}}  {commits_of(report):<17}  ",
        f"{report.seconds:.1f} s",
    )
    if columns is not None and report.error is None and not report.notes:
        room = columns - len(head) - len(f"  {tail}")
        what = f"{what:<{max(0, min(room, OUTCOME_WIDTH))}}"  # the times of several jobs line up
        columns = None
    first = "\n".join(fold(f"{what}{notes}  {tail}", columns, " " * 4, head))
    line = (
        styled(mark, fg=colour)
        + first.removeprefix(mark).removesuffix(tail)
        + styled(tail, dim=True)
    )
    return "\n".join([line, *more])


def _waits(report: RunReport) -> bool:
    """Return whether a commit waits for its window, or the files are in place and the reload
    waits for its time.
    """
    is_put_off = report.reload_at is not None and report.error is None
    return is_put_off or report.status is RunStatus.WAITING


def id_line(error: SyncdError) -> str:
    """Return the line that names an error's entry in the documentation, for -v."""
    return f"error id: {error.id}"


def error_lines(report: RunReport, verbose: bool = False, err: bool = False) -> list[str]:
    """Return what follows the line of a failed job: the error's id with -v, and what to do.

    `err`: the lines go to stderr. They are folded on a terminal.
    """
    error = report.error
    if error is None:
        return []
    columns = terminal_columns(err)
    lines = [f"    {id_line(error)}"] if verbose else []
    if error.hint:
        lines += fold(error.hint, columns, " " * 6, "    → ")
    if error.request_id:
        text = f"GitHub's request id, for its support: {error.request_id}"
        lines += fold(text, columns, " " * 4)
    return lines


def cost_of(requests: Mapping[str, int]) -> str:
    """Return how many requests were made, and how many were answered 304."""
    return f"{count_of(requests['total'], 'request')} ({requests['not_modified']} answered 304)"


def closing_line(reports: Sequence[RunReport], exit_code: int, requests: Mapping[str, int]) -> str:
    """Return the last line of a command over several jobs."""
    waiting = sum(_waits(report) for report in reports)
    finished = [report for report in reports if not _waits(report)]
    done = sum(report.status in (RunStatus.CHANGED, RunStatus.UNCHANGED) for report in finished)
    failed = sum(report.status in (RunStatus.FAILED, RunStatus.REFUSED) for report in reports)
    skipped = len(reports) - done - failed - waiting
    parts = (
        [f"{done} in sync"]
        + ([f"{failed} failed"] if failed else [])
        + ([f"{waiting} waiting"] if waiting else [])
        + ([f"{skipped} skipped"] if skipped else [])
    )
    cost = cost_of(requests)
    return f"{', '.join(parts)}.  {cost}." + (f"  (exit {exit_code})" if exit_code else "")


def print_up_to_date(found: UpToDate) -> None:
    """Print what `sync` prints for jobs that are unchanged."""
    reports = [
        RunReport(name, RunStatus.UNCHANGED, repo, ref, commit, commit, seconds=found.seconds)
        for name, repo, ref, commit in found.jobs
    ]
    if found.args.json:
        echo(as_json("syncd.sync/1", 0, found.requests, reports))
        return
    width = max(len(report.job) for report in reports)
    for report in reports:
        echo(summary_line(report, width))
    echo(closing_line(reports, 0, found.requests))
