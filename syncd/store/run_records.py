"""Statements that record a run and the intent before it, for the store's transactions."""

from __future__ import annotations

from msgspec.structs import replace
from sqlalchemy import Connection

from syncd.ports import Intent, JobState, PendingReload, RunRecord
from syncd.store import applied_sets, history, intents, ledger
from syncd.store.job_states import read_state, write_state
from syncd.store.read_ledgers import LedgerReader, rows_after


def begin_intent(connection: Connection, intent: Intent, state: JobState) -> None:
    """Store the intent, and that the job is inconsistent and needs the reload the intent asks
    for.
    """
    intents.write(connection, intent)
    known = _with_other_writes(connection, intent.job, state)
    pending = state.pending_reload
    if pending is None and intent.reload_after:
        pending = PendingReload()
    write_state(connection, intent.job, replace(known, consistent=False, pending_reload=pending))


def record_run(connection: Connection, job: str, record: RunRecord, reader: LedgerReader) -> None:
    """Store what the run did: ledger, directories, state, applied set and history; delete its
    intent.
    """
    report = record.report
    is_current = reader.is_current(connection, job, record.ledger)
    reader.note_write()
    ledger.remove(connection, record.superseded.items())
    ledger.put(connection, job, (report.repo, report.commit), record.upserts)
    ledger.remove(connection, ((path, job) for path in record.removals))
    ledger.remove_directories(connection, job, record.directories_removed)
    ledger.hand_over(connection, job, record)
    ledger.put_directories(connection, job, record.directories_created)
    intents.remove(connection, job)
    known = _with_other_writes(connection, job, record.state)
    write_state(connection, job, replace(known, held=known.held or record.state.held))
    if record.applied and report.commit:
        rows = rows_after(record.ledger, job, record) if is_current else None
        rows = ledger.of_job(connection, job) if rows is None else rows
        applied_sets.save(connection, job, record, rows)
    if record.undone_commit:
        applied_sets.remove_newest(connection, job, record.undone_commit)
    history.add(connection, report)


def _with_other_writes(connection: Connection, job: str, state: JobState) -> JobState:
    """Return the state with what other processes wrote while the run went on.

    The job may have been paused or resumed by hand, and a notification may have been queued.
    """
    stored = read_state(connection, job) or JobState()
    is_same = (stored.pause, stored.held) == (state.pause, state.held)
    return replace(
        state,
        condition=state.condition if is_same else stored.condition,
        pause=stored.pause,
        held=stored.held,
        notified_as=stored.notified_as,
    )
