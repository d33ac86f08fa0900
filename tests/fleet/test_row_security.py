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


# What PostgreSQL's catalogue says of a login of an agent: a table or function that is added needs a
# row here. `columns` are those of a grant of single columns.
PRIVILEGES = """
    SELECT relation.relname,
           array_to_string(ARRAY(
               SELECT privilege FROM unnest(ARRAY[
                   'SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'
               ]) AS privilege
                WHERE has_table_privilege(current_user, relation.oid, privilege)
           ), ' '),
           (SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute
             WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
               AND has_column_privilege(current_user, relation.oid, attnum, 'SELECT')
               AND NOT has_table_privilege(current_user, relation.oid, 'SELECT')),
           relation.relrowsecurity
      FROM pg_class AS relation
     WHERE relation.relnamespace = 'syncd'::regnamespace
       AND relation.relkind IN ('r', 'v', 'm', 'p')
"""
FUNCTIONS = """
    SELECT proname, has_function_privilege(current_user, oid, 'EXECUTE'), prosecdef, proconfig
      FROM pg_proc WHERE pronamespace = 'syncd'::regnamespace
"""

AGENT = {
    "agent": ("", "labels name"),
    "alembic_version": ("SELECT", None),
    "blob": ("SELECT", None),
    "controller": ("", None),
    "decision": ("", None),
    "job": ("", "id name ref repo"),
    "job_grant": ("", None),
    "manifest": ("SELECT", None),
    "presence": ("SELECT INSERT UPDATE", None),
    "report": ("SELECT INSERT UPDATE", None),
    "revision": (
        "",
        "commit_sha created_at id job_id manifest_sha256 ref repo roots sequence signature",
    ),
    "wave_agent": ("", None),
}
EVERYTHING = ("SELECT INSERT UPDATE DELETE", None)
CONTROLLER = {
    **dict.fromkeys(AGENT, EVERYTHING),
    "alembic_version": ("SELECT", None),
    "decision": ("SELECT INSERT", None),
}
BY_OTHERS_RIGHTS = ("granted_jobs", "offered_revisions")  # what they return is the login's own


@pytest.mark.parametrize(
    ("login", "privileges"), [("web01", AGENT), ("c1", CONTROLLER)], ids=["agent", "controller"]
)
def test_every_table_and_function_is_in_the_table_of_privileges(
    fleet: Fleet, login: str, privileges: dict[str, tuple[str, str | None]]
) -> None:
    with psycopg.connect(fleet.address(login)) as connection:
        rows = connection.execute(PRIVILEGES).fetchall()
        functions = connection.execute(FUNCTIONS).fetchall()
    assert {name: (table, columns) for name, table, columns, _ in rows} == privileges
    assert [name for name, *_, by_row in rows if not by_row] == ["alembic_version"]
    safe = [True, True, ["search_path=pg_catalog, pg_temp"]]
    assert {name: found for name, *found in functions} == dict.fromkeys(BY_OTHERS_RIGHTS, safe)
