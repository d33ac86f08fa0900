"""Checks the store: who may change its folder, its version, size and soundness, and what is left in
it of jobs that are gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from syncd.config.model import Config
from syncd.diagnosis.finding import Finding, error, from_error, ok, warning
from syncd.errors import SyncdError
from syncd.mirror.destination_facts import is_read_only
from syncd.safe_open import check_path_is_trusted
from syncd.store.schema import VERSION
from syncd.store.store import FILE_NAME, SqliteStore

MEBIBYTE = 1 << 20


def check_store(
    config: Config, store: SqliteStore, failure: SyncdError | None
) -> Iterator[Finding]:
    """Yield the state of the store. `failure` is why it could not be opened: `store` is empty
    then.
    """
    yield from _state_folder(config.state)
    file = config.state / FILE_NAME
    if failure is not None:
        yield from_error("store", failure)
        return
    if not file.exists():
        yield ok("doctor/store", "store", f"{file}: none yet; the first sync makes it")
        return
    yield from (_damaged(note) for note in store.notes)
    if not store.notes and not store.is_sound():
        yield _damaged(f"the store {file} is damaged")
    elif not store.notes:
        size = os.stat(file).st_size / MEBIBYTE
        yield ok("doctor/store", "store", f"{file}, schema {VERSION}, {size:.1f} MiB, sound")
    yield from _leftovers(config, store)


def _state_folder(state: Path) -> Iterator[Finding]:
    """Yield what lets another user replace the state folder, which a run refuses, and a folder
    that can't be written.

    The first is only a warning before there is one. Another user's state is theirs to check.
    """
    owner = state.stat().st_uid if state.exists() else None
    if owner not in (None, os.geteuid()):
        return
    try:
        check_path_is_trusted(state)
    except SyncdError as failure:
        if owner is None:
            yield warning(failure.id, "store", failure.message, failure.hint)
        else:
            yield from_error("store", failure)
    if owner is not None and is_read_only(str(state)):
        yield warning(
            "doctor/state-read-only",
            "store",
            f"{state} is mounted read-only here, and a run has to write to it",
            f"mount -o remount,rw the file system of {state}, or set state: to another folder",
        )


def _damaged(text: str) -> Finding:
    return error(
        "doctor/store-damaged",
        "store",
        text,
        "run: syncd sync, which keeps files that are equal; why it is damaged: dmesg | tail",
    )


def _leftovers(config: Config, store: SqliteStore) -> Iterator[Finding]:
    for name in store.jobs():
        count = len(store.load_ledger(name)) if name not in config.jobs else 0
        if count:
            yield warning(
                "doctor/job-removed",
                "store",
                f"{name} is not configured any more; its {count} files stay",
                f"to forget them: syncd sync --forget {name}",
            )
