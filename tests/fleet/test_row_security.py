"""What a login of an agent may read and write, as a table of denials."""

from __future__ import annotations

import pytest

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

from tests.support.fleet import Fleet, Publisher, job_of  # noqa: E402

pytestmark = pytest.mark.postgresql

C1 = "1" * 40
MINE, OTHERS = job_of("nginx"), job_of("sshd")

SEEN = {
    "SELECT name FROM syncd.job": [("nginx",)],
    "SELECT count(id) FROM syncd.revision": [(1,)],
    "SELECT path FROM syncd.manifest": [("nginx/mine",)],
    "SELECT convert_from(data, 'UTF8') FROM syncd.blob": [("mine",)],
    "SELECT agent FROM syncd.report": [],
    "SELECT agent FROM syncd.presence": [],
    "SELECT name, labels FROM syncd.agent": [("web01", {})],
}

DENIED = {
    "the leases": "SELECT worker, epoch FROM syncd.job",
    "the errors of polls": "SELECT error FROM syncd.job",
    "the agents": "SELECT * FROM syncd.agent",
    "a label of its own": 'UPDATE syncd.agent SET labels = \'{"tier": "db"}\'',
    "an agent with labels": "INSERT INTO syncd.agent (name, labels) VALUES ('web01', '{}')",
    "a job's selector": "SELECT selector FROM syncd.job",
    "a wider selector": "UPDATE syncd.job SET selector = '{}'",
    "another agent's claim": "INSERT INTO syncd.presence (agent, session, host, version, labels)"
    " VALUES ('web02', 'x', 'x', 'x', '{}')",
    "the controllers": "SELECT * FROM syncd.controller",
    "a controller": "INSERT INTO syncd.controller (name, version, jobs) VALUES ('c', '1', '{}')",
    "the grants": "SELECT * FROM syncd.job_grant",
    "the waves": "SELECT * FROM syncd.wave_agent",
    "the decisions": "SELECT * FROM syncd.decision",
    "a place in a wave": "INSERT INTO syncd.wave_agent VALUES (1, 'web01', 1)",
    "a release": "UPDATE syncd.revision SET released_at = now()",
    "a new grant": "INSERT INTO syncd.job_grant (agent, job_id) VALUES ('web01', 2)",
    "a new job": "INSERT INTO syncd.job (name, repo) VALUES ('x', 'a/b')",
    "a changed job": "UPDATE syncd.job SET repo = 'evil/x'",
    "a new revision": "INSERT INTO syncd.revision (job_id) SELECT id FROM syncd.job",
    "a changed revision": "UPDATE syncd.revision SET commit_sha = ''",
    "a removed revision": "DELETE FROM syncd.revision",
    "a changed manifest": "UPDATE syncd.manifest SET mode = 33261",
    "a new content": "INSERT INTO syncd.blob (id, sha256, size, data) VALUES ('x', 'x', 1, 'x')",
    "a changed content": "UPDATE syncd.blob SET data = 'evil'",
    "a removed content": "DELETE FROM syncd.blob",
    "another agent's report": "INSERT INTO syncd.report (agent, job_id, status, changes, drifted,"
    " reload_pending) SELECT 'web02', id, 'unchanged', 0, 0, false FROM syncd.job",
    "a report of another job": "INSERT INTO syncd.report (job_id, status, changes, drifted,"
    " reload_pending) VALUES (2, 'unchanged', 0, 0, false)",
    "another agent's presence": "INSERT INTO syncd.presence (agent, session, host, version)"
    " VALUES ('web02', 'x', 'x', 'x')",
    "a removed report": "DELETE FROM syncd.report",
    "a table": "CREATE TABLE syncd.mine (id int)",
    "a table in public": "CREATE TABLE public.mine (id int)",
    "a temporary table": "CREATE TEMPORARY TABLE mine (id int)",
    "a schema": "CREATE SCHEMA mine",
    "a file of the server": "SELECT pg_read_file('/etc/passwd')",
    "a command of the server": "COPY (SELECT 1) TO PROGRAM 'true'",
    "another role": "SET ROLE syncd_controller",
    "another login": "SET SESSION AUTHORIZATION c1",
    "the policies": "ALTER TABLE syncd.blob DISABLE ROW LEVEL SECURITY",
    "the policies by a setting": "SET row_security = off; SELECT data FROM syncd.blob",
    "the migrations": "UPDATE syncd.alembic_version SET version_num = '0000'",
}


@pytest.fixture
def published(fleet: Fleet, controller: Publisher) -> Fleet:
    controller.publish(MINE, {"nginx/mine": b"mine"}, C1)
    controller.publish(OTHERS, {"nginx/theirs": b"theirs"}, C1)
    controller.grant("web01", MINE)
    controller.grant("web02", OTHERS)
    return fleet


def test_an_agent_sees_its_own_jobs_and_nothing_of_others(published: Fleet) -> None:
    with psycopg.connect(published.address("web01"), autocommit=True) as connection:
        assert {query: connection.execute(query).fetchall() for query in SEEN} == SEEN


def test_an_agent_is_denied_everything_else(published: Fleet) -> None:
    allowed = []
    with psycopg.connect(published.address("web01"), autocommit=True) as connection:
        for what, statement in DENIED.items():
            try:
                connection.execute(statement)
                allowed.append(what)
            except psycopg.errors.InsufficientPrivilege:
                pass
    assert allowed == []


def test_an_agent_has_three_connections_at_most(published: Fleet) -> None:
    held = [psycopg.connect(published.address("web01")) for _ in range(3)]
    with pytest.raises(psycopg.OperationalError, match="too many connections"):
        psycopg.connect(published.address("web01"))
    for connection in held:
        connection.close()


def test_a_revision_that_is_not_released_is_not_seen(published: Fleet) -> None:
    published.cluster.execute("UPDATE syncd.revision SET released_at = NULL", published.name)
    queries = ("SELECT id FROM syncd.revision", "SELECT path FROM syncd.manifest")
    with psycopg.connect(published.address("web01")) as connection:
        for query in (*queries, "SELECT id FROM syncd.blob"):
            assert connection.execute(query).fetchall() == []


def test_labels_that_an_operator_gave_select_jobs(published: Fleet) -> None:
    for statement in (
        'UPDATE syncd.agent SET labels = \'{"tier": "web", "zone": "a"}\' WHERE name = \'web01\'',
        "UPDATE syncd.job SET selector = '{\"tier\": \"web\"}' WHERE name = 'sshd'",
    ):
        published.cluster.execute(statement, published.name)
    query = "SELECT name FROM syncd.job ORDER BY name"
    with psycopg.connect(published.address("web01")) as connection:
        assert connection.execute(query).fetchall() == [("nginx",), ("sshd",)]
    other = "UPDATE syncd.job SET selector = '{\"tier\": \"db\"}' WHERE name = 'sshd'"
    published.cluster.execute(other, published.name)
    with psycopg.connect(published.address("web01")) as connection:
        assert connection.execute(query).fetchall() == [("nginx",)]
