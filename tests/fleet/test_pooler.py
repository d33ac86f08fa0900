"""A fleet behind pgbouncer: what works, what leaks to no other client, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from sqlalchemy import text  # noqa: E402

from syncd.errors import SyncdError  # noqa: E402
from syncd.fleet import notices  # noqa: E402
from syncd.fleet.database import DatabaseLimits  # noqa: E402
from tests.support.fleet import AGENTS, Agent, Fleet, Publisher, job_of  # noqa: E402
from tests.support.postgresql import Cluster, pooler  # noqa: E402

pytestmark = pytest.mark.postgresql

C1, C2 = "1" * 40, "2" * 40
NGINX, FILES = job_of(), {"nginx/nginx.conf": b"one\n"}


class Pooled(Fleet):
    """The database as clients of the pooler reach it."""

    folder: Path

    def address(self, login: str | None = None) -> str:
        return f"postgresql://{login or self.cluster.user}@/{self.name}?host={self.folder}"


@contextmanager
def pooled(fleet: Fleet, mode: str, *entries: str) -> Iterator[Pooled]:
    with pooler(fleet.cluster, mode, ("c1", *AGENTS, fleet.cluster.user), *entries) as folder:
        made = Pooled(fleet.cluster, fleet.name)
        made.folder = folder
        yield made


def show(fleet: Pooled, login: str, setting: str) -> str:
    """The setting as another client of the pooler meets it."""
    with psycopg.connect(fleet.address(login), prepare_threshold=None) as connection:
        row = connection.execute(f"SHOW {setting}").fetchone()
    return str(row[0])


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_controllers_and_agents_work_behind_a_pooler(
    fleet: Fleet, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "MAX_WAIT_SECONDS", 0.05)
    with pooled(fleet, mode) as behind:
        controller, heard = Publisher(behind), list[str | None]()
        agent = Agent(behind, controller, tmp_path, limits=DatabaseLimits(statement_seconds=7))
        made = notices.Notices(agent.link, agent.clock, heard.append)
        for number, commit in enumerate([C1, C2, *(f"{n:040x}" for n in range(3, 12))]):
            content = {**FILES, "nginx/n": str(number).encode()}
            controller.publish(NGINX, content, commit)
            controller.grant("web01", NGINX)
            made.wait()
            assert (agent.resolve().commit, agent.contents(commit=commit)) == (commit, content)
        with agent.database.begin() as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "7s"
        assert (made.works, heard) == (False, [])
        controller.close()
        agent.database.close()
        assert show(behind, "web01", "statement_timeout") == "0"
        assert fleet.cluster.query(LISTENERS, fleet.name) == 0


LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
SHARED = "* = host={folder} user={user}"


@pytest.mark.parametrize(
    ("mode", "entries", "id"),
    [
        ("transaction", (SHARED,), "auth/fleet-shared-login"),
        ("statement", (), "config/fleet-pooler"),
        ("transaction", ("other = host=/",), "auth/fleet-login"),
    ],
    ids=["one login for all", "statement mode", "another database"],
)
def test_a_pooler_that_can_not_work_is_refused(
    fleet: Fleet, mode: str, entries: tuple[str, ...], id: str
) -> None:
    server: Cluster = fleet.cluster
    given = [one.format(folder=server.folder, user=server.user) for one in entries]
    with pooled(fleet, mode, *given) as behind:
        database = behind.database("web01")
        with pytest.raises(SyncdError) as found, database.begin() as connection:
            connection.execute(text("SELECT 1"))
        assert found.value.id == id
        database.close()
