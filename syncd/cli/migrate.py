"""`syncd migrate`: migrates the store to this version's schema, or only checks it."""

from __future__ import annotations

import click

from syncd.cli.common import Settings, emit
from syncd.store.foreign_store import read_schema
from syncd.store.schema import VERSION
from syncd.store.store import FILE_NAME, SqliteStore


@click.command(name="migrate", short_help="Bring the store to this version's schema.")
@click.option("--check", is_flag=True, help="Only say; exit 1 when it would have to be migrated.")
@click.pass_obj
def command(settings: Settings, check: bool) -> int:
    """Bring the store to this version's schema. Every command that needs the store does it by
    itself; this is for doing it first.
    """
    config = settings.load_read_only() if check else settings.load()
    file = config.state / FILE_NAME
    if check:
        found = read_schema(file)
        emit(settings, f"{file}: schema {found or 'none yet'}; this version's is {VERSION}")
        return 0 if found == VERSION else 1
    store = SqliteStore.open(config.state, config.state_group)
    store.close()
    emit(settings, f"{file}: schema {VERSION}")
    return 0
