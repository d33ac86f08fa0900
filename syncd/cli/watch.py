"""`syncd watch`: prints what happens to the jobs, while it happens.

It reads the store once a second, as `status` does, and writes nothing. So it needs no `web:` and no
password, and shows what other commands do beside the daemon too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from syncd.cli.common import Settings, chosen_jobs, emit_folded, say
from syncd.cli.completions import complete_job
from syncd.config.model import Config
from syncd.output import echo
from syncd.ports import JobState
from syncd.status import JobWarning, load_webhook_stats, rfc3339
from syncd.status.job_events import JobEvent, JobReading, job_events
from syncd.status.staleness import warnings_of
from syncd.store.lock import daemon_runs, running_jobs
from syncd.store.new_runs import NewRun
from syncd.store.store import SqliteStore
from syncd.stored_jobs import open_store
from syncd.text import json_text, one_line
from syncd.unit_name import service_in_use

POLL_SECONDS = 1.0
EXIT_NO_DAEMON = 1


@click.command(name="watch", short_help="What happens to the jobs, as it happens.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_job)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line (schema syncd.event/1)."
)
@click.pass_obj
def command(settings: Settings, jobs: tuple[str, ...], as_json: bool) -> int:
    """Print one line for each event of the running daemon and of other commands: the time, the job
    and what happened. Ends with Ctrl-C, or when the daemon stops.
    """
    config = settings.load_read_only(members=True)
    names = [job.name for job in chosen_jobs(config, jobs)]
    if not daemon_runs(config.state):
        start = f"start it: systemctl start {service_in_use()}"
        echo(f"syncd: no daemon is running\n  {start}; past runs: syncd history", err=True)
        return EXIT_NO_DAEMON
    store = open_store(config, read_only=True)
    try:
        watcher = Watcher(config, store, names)
        say(settings, f"watching {_count(names)} until Ctrl-C")
        alive = True
        while alive:
            time.sleep(POLL_SECONDS)
            alive = daemon_runs(config.state)  # first: what it did before it stopped is shown
            for event in watcher.poll(datetime.now(UTC)):
                _show(settings, event, as_json)
        return _say_end(settings, store)
    finally:
        store.close()


class Watcher:
    """Compares the jobs with the last reading of the store."""

    def __init__(self, config: Config, store: SqliteStore, names: list[str]) -> None:
        self._config, self._store, self._names = config, store, names
        self._position = store.end_of_history()
        self._stamps, self._was_changed = _stamps(config.state), True
        running, states = running_jobs(config.state, names), store.states(names)
        warnings = self._warnings()
        self._readings = {
            name: JobReading(states.get(name, JobState()), name in running, warnings[name])
            for name in names
        }

    def poll(self, now: datetime) -> Iterator[JobEvent]:
        """Yield what happened since the last reading, by time."""
        # Before the store is read: what an ended run has stored is there then.
        running = running_jobs(self._config.state, self._names)
        self._refresh()
        runs: dict[str, list[NewRun]] = {}
        for run in self._store.runs_after(self._position):
            runs.setdefault(run.job, []).append(run)
        self._position = self._store.end_of_history()
        before, self._readings = self._readings, self._read(running)
        found = [
            event
            for name, after in self._readings.items()
            for event in job_events(name, before[name], after, runs.get(name, []), now)
        ]
        yield from sorted(found, key=lambda event: event.at)

    def _read(self, running: frozenset[str]) -> dict[str, JobReading]:
        """Return each job's reading; one that runs keeps the state of before."""
        states, before = self._store.states(self._names), self._readings
        states |= {name: before[name].state for name in running}
        warnings = self._warnings()
        return {
            name: JobReading(states.get(name, JobState()), name in running, warnings[name])
            for name in self._names
        }

    def _warnings(self) -> dict[str, tuple[JobWarning, ...]]:
        """Return why changes of each job come late."""
        stats, facts = load_webhook_stats(self._store), self._store.facts.staleness()
        return {name: warnings_of(self._config.jobs[name], facts, stats) for name in self._names}

    def _refresh(self) -> None:
        """Read the store again if its files have changed, or had at the last look: the times of a
        file system are coarse.
        """
        before, self._stamps = self._stamps, _stamps(self._config.state)
        is_changed = before != self._stamps
        if is_changed or self._was_changed:
            self._store.refresh()
        self._was_changed = is_changed


def _stamps(state: Path) -> list[tuple[int, int]]:
    """Return size and time of the database and of its log."""
    found = []
    for name in ("syncd.db", "syncd.db-wal"):
        with suppress(OSError):
            status = os.stat(state / name)
            found.append((status.st_size, status.st_mtime_ns))
    return found


def _show(settings: Settings, event: JobEvent, as_json: bool) -> None:
    """Print one event."""
    if as_json:
        echo(json_text(event.to_json()))
        return
    line = f"{rfc3339(event.at)}  {event.job}  {event.event.replace('_', ' ')}"
    line += f": {event.text}" if event.text else ""
    line += f" → {event.hint}" if event.hint else ""
    emit_folded(settings, one_line(line), "    ", "")


def _say_end(settings: Settings, store: SqliteStore) -> int:
    """Say how the daemon ended, and what to type; return the exit code."""
    store.refresh()
    beat, service = store.facts.heartbeat(), service_in_use()
    start = f"start it: systemctl start {service}"
    if beat is None or beat.pid is None:
        say(settings, f"the daemon has stopped → {start}")
        return 0
    why = f"why it ended: journalctl -u {service}"
    say(settings, f"the daemon ended without being stopped → {start}; {why}")
    return 1


def _count(names: list[str]) -> str:
    return f"the job {names[0]}" if len(names) == 1 else f"{len(names)} jobs"


__all__ = ["Watcher", "command"]
