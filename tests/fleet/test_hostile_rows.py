"""Seeded tries of whoever owns the database to change an agent: none is accepted, none runs.

SYNCD_HOSTILE_ROWS sets how many; the lane draws a sample, three of each kind.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from syncd.fleet.manifest import Revision  # noqa: E402
from tests.support.fleet import (  # noqa: E402
    Fleet,
    FleetMachines,
    Publisher,
    job_of,
    machines,
    new_signer,
    publication,
)
from tests.support.hostile_rows import KINDS, Statement, Target, smuggled  # noqa: E402
from tests.support.sync_env import SyncEnv, sync_env, tree_of  # noqa: E402

pytestmark = pytest.mark.postgresql

SEED = 7
TRIES = int(os.environ.get("SYNCD_HOSTILE_ROWS", str(3 * len(KINDS))))
OLD, APPLIED, OTHER = "0" * 40, "1" * 40, "2" * 40
NGINX, SSHD = job_of(), job_of("sshd")
REFUSED = {
    "bad_response/fleet-revision",
    "bad_response/fleet-older",
    "bad_response/fleet-content",
    "not_found/fleet-job",
}


class Stand:
    """An agent that has applied a revision, and a database in which a newer one waits."""

    def __init__(self, made: FleetMachines, publisher: Publisher, folder: Path) -> None:
        self.fleet, self.publisher, self.folder = made.fleet, publisher, folder
        self.mark, self.ran = folder / "executed", folder / "ran"
        hook = f"touch {self.ran}"
        self.agent: SyncEnv = made.agent("web01", on_change=hook, validate=hook)
        publisher.publish(NGINX, {"nginx/nginx.conf": b"old\n"}, OLD)
        publisher.publish(NGINX, {"nginx/nginx.conf": b"one\n", "nginx/a": b"a\n"}, APPLIED)
        self.other = publisher.publish(SSHD, {"nginx/x": b"of another job\n"}, OTHER)
        publisher.grant("web01", NGINX)
        assert self.agent.sync().code == 0
        self.ran.unlink()
        with self.connect() as connection:
            for table in TABLES:
                connection.execute(f"CREATE TABLE public.{table} AS SELECT * FROM syncd.{table}")

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self.fleet.address())

    def restore(self) -> None:
        """Put the database back to what the agent has applied."""
        with self.connect() as connection:
            connection.execute("DELETE FROM syncd.job; DELETE FROM syncd.blob")
            for table in TABLES:
                kept = f"OVERRIDING SYSTEM VALUE SELECT * FROM public.{table}"
                connection.execute(f"INSERT INTO syncd.{table} {kept}")
            connection.execute("ALTER TABLE syncd.manifest DROP CONSTRAINT IF EXISTS manifest_pkey")
            connection.execute("ALTER TABLE syncd.manifest ADD PRIMARY KEY (revision_id, path)")

    def target(self, number: int) -> Target:
        """Publish a revision that the agent has not applied, with contents that it has not."""
        content = f"new {number}\n".encode() * 9
        files = {"nginx/nginx.conf": content, "nginx/a": b"a\n", "nginx/b": b"b" + content}
        commit = f"{number:040x}"
        newest = self.publisher.publish(NGINX, files, commit)
        entries = tuple(publication(NGINX, files, commit).entries)
        return Target(newest, entries, self.other, STRANGER, str(self.mark))

    def write(self, statements: list[Statement]) -> None:
        with self.connect() as connection:
            for statement, values in statements:
                connection.execute(statement, values)


TABLES = ("job", "revision", "blob", "manifest", "job_grant")
STRANGER = new_signer()


@pytest.fixture
def stand(fleet: Fleet, controller: Publisher, tmp_path: Path) -> Iterator[Stand]:
    with sync_env(tmp_path / "controller") as env:
        made = machines(fleet, env)
        controller.signer = made.signer
        yield Stand(made, controller, tmp_path)


def test_no_row_of_a_database_owner_is_accepted(stand: Stand) -> None:
    random, before, refusals = Random(SEED), tree_of(stand.folder / "web01/dest"), Counter[str]()
    for number in range(TRIES):
        kind = KINDS[number % len(KINDS)]
        target = stand.target(1000 + number)
        statements = kind(random, target)
        stand.write(statements)
        done = stand.agent.sync()
        error = done.job["error"] or {}
        what = f"{number} {kind.__name__}: {statements!r:.500} -> {json.dumps(done.job)}"
        assert error.get("id") in REFUSED and done.code != 0, what
        assert tree_of(stand.agent.dest) == before, what
        assert not stand.ran.exists() and not stand.mark.exists(), what
        refusals[f"{kind.__name__}: {error['id']}"] += 1
        stand.restore()
    print(f"{TRIES} tries, seed {SEED}, 0 accepted: {dict(sorted(refusals.items()))}")


def test_what_no_agent_reads_changes_nothing(stand: Stand) -> None:
    before = tree_of(stand.agent.dest)
    target = Target(Revision("", "", "", "", 0, (), ""), (), stand.other, STRANGER, str(stand.mark))
    for number in range(8):
        stand.write(smuggled(Random(number), target))
        assert (stand.agent.sync().job["status"], tree_of(stand.agent.dest)) == (
            "unchanged",
            before,
        )
        assert not stand.ran.exists() and not stand.mark.exists()
