"""What an agent reads of a job: only what is signed, whole, its own, and not older than before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")


from syncd.errors import BadResponseError, NotFoundError, RemoteUnavailableError, SyncdError
from syncd.fleet import source
from syncd.fleet.source import sequence_of
from syncd.git_objects import blob_id
from syncd.models import Job, PathRule
from tests.support.fleet import Agent, Fleet, Publisher, job_of, new_signer

pytestmark = pytest.mark.postgresql

C1, C2, C3 = "1" * 40, "2" * 40, "3" * 40
FILES = {"nginx/nginx.conf": b"user www;\n", "nginx/conf.d/a.conf": b"a\n" * 500}
NGINX = job_of()


@pytest.fixture
def agent(fleet: Fleet, controller: Publisher, tmp_path: Path) -> Iterator[Agent]:
    made = Agent(fleet, controller, tmp_path, "web01")
    yield made
    made.database.close()


def test_an_agent_gets_the_bytes_of_the_published_commit(
    controller: Publisher, agent: Agent
) -> None:
    controller.publish(NGINX, FILES, C1)
    controller.grant("web01", NGINX)
    assert agent.resolve().commit == C1
    assert agent.contents() == FILES


def test_a_job_that_is_not_granted_does_not_exist(controller: Publisher, agent: Agent) -> None:
    controller.publish(NGINX, FILES, C1)
    controller.grant("web02", NGINX)
    with pytest.raises(NotFoundError) as found:
        agent.resolve()
    assert found.value.id == "not_found/fleet-job"


def test_a_folder_that_is_published_in_part_is_refused(controller: Publisher, agent: Agent) -> None:
    controller.publish(NGINX, FILES, C1)
    controller.grant("web01", NGINX)
    wider = job_of(to="/etc")
    wider = Job(NGINX.name, "fleet", NGINX.repo, NGINX.ref, (PathRule("", "/etc/x", True),))
    with pytest.raises(NotFoundError, match="/ is not in the revision"):
        agent.contents(wider)


def test_a_second_revision_is_newer_and_an_older_one_is_refused(
    fleet: Fleet, controller: Publisher, agent: Agent
) -> None:
    controller.publish(NGINX, FILES, C1)
    controller.grant("web01", NGINX)
    controller.publish(NGINX, {"nginx/nginx.conf": b"new\n"}, C2)
    known = agent.resolve()
    assert (known.commit, agent.contents(commit=C2)) == (C2, {"nginx/nginx.conf": b"new\n"})
    fleet.cluster.execute("DELETE FROM syncd.revision WHERE commit_sha = '" + C2 + "'", fleet.name)
    with pytest.raises(BadResponseError, match="went back"):
        agent.resolve(known=known)
    again = controller.publish(NGINX, FILES, C1)  # after a failover, or a rollback of the fleet
    assert agent.resolve(known=known).commit == C1
    assert again.sequence > (sequence_of(known) or 0)


OTHER = blob_id(b"evil\n")
EVIL_BYTES = "convert_to('evil' || chr(10), 'UTF8')"
TAMPERED = {
    "another commit": (f"UPDATE syncd.revision SET commit_sha = '{C3}'", "no key of fleet.trust"),
    "another repository": ("UPDATE syncd.revision SET repo = 'evil/x'", "no key of fleet.trust"),
    "another ref": ("UPDATE syncd.revision SET ref = 'evil'", "no key of fleet.trust"),
    "a greater number": ("UPDATE syncd.revision SET sequence = sequence + 1", "no key"),
    "no signature": ("UPDATE syncd.revision SET signature = ''", "no key of fleet.trust"),
    "another digest": (
        "UPDATE syncd.revision SET manifest_sha256 = repeat('0', 64)",
        "no key of fleet.trust",
    ),
    "fewer listed paths": ('UPDATE syncd.revision SET roots = \'["nginx/", "x"]\'', "manifest"),
    "a listed path with a hint": (
        "UPDATE syncd.revision SET roots = '[\"run this\"]'",
        "its manifest is not the one that was signed",
    ),
    "roots of no paths": ("UPDATE syncd.revision SET roots = '5'", "it is no revision"),
    "a file less": ("DELETE FROM syncd.manifest WHERE path = 'nginx/nginx.conf'", "manifest"),
    "another path": (
        "UPDATE syncd.manifest SET path = 'nginx/../../etc/shadow' WHERE path = 'nginx/nginx.conf'",
        "manifest",
    ),
    "an executable": (f"UPDATE syncd.manifest SET mode = {0o100755}", "manifest"),
    "a link": (f"UPDATE syncd.manifest SET mode = {0o120000}", "manifest"),
    "another content": (
        "UPDATE syncd.manifest SET blob_id = (SELECT max(id) FROM syncd.blob)",
        "manifest",
    ),
    "another size": ("UPDATE syncd.manifest SET size = 5", "manifest"),
    "other bytes": (f"UPDATE syncd.blob SET data = {EVIL_BYTES}", "has other bytes"),
    "other bytes of one size": (
        "UPDATE syncd.blob SET data = set_byte(data, 0, 0)",
        "has other bytes",
    ),
}


@pytest.mark.parametrize(("statement", "said"), TAMPERED.values(), ids=TAMPERED)
def test_what_a_stolen_database_says_is_refused(
    fleet: Fleet, controller: Publisher, agent: Agent, statement: str, said: str
) -> None:
    controller.publish(NGINX, FILES, C1)
    controller.grant("web01", NGINX)
    fleet.cluster.execute(statement, fleet.name)
    with pytest.raises(BadResponseError, match=said):
        agent.resolve()
        agent.contents()
    assert not any(agent.blobs.has(blob_id(data)) for data in (b"evil\n",))


def test_a_revision_of_a_key_that_is_not_trusted_is_refused(
    fleet: Fleet, controller: Publisher, agent: Agent
) -> None:
    stranger = Publisher(fleet, new_signer())
    stranger.publish(NGINX, FILES, C1)
    stranger.grant("web01", NGINX)
    stranger.close()
    with pytest.raises(BadResponseError, match=r"no key of fleet\.trust"):
        agent.resolve()


def test_a_signed_revision_of_another_job_is_refused(
    fleet: Fleet, controller: Publisher, agent: Agent
) -> None:
    other = job_of("sshd")
    controller.publish(NGINX, FILES, C1)
    controller.publish(other, {"nginx/x": b"x"}, C2)
    controller.grant("web01", NGINX)
    moved = "UPDATE syncd.revision SET job_id = (SELECT id FROM syncd.job WHERE name = 'nginx')"
    fleet.cluster.execute(f"{moved}, sequence = sequence WHERE commit_sha = '{C2}'", fleet.name)
    with pytest.raises(BadResponseError, match=r"no key of fleet\.trust"):
        agent.resolve()


def test_a_signed_entry_with_its_fields_shifted_is_refused(
    fleet: Fleet, controller: Publisher, agent: Agent
) -> None:
    """The digest covers `SHA256 10 5 nginx/a`: the path `5 nginx/a`, or the size 5 of `nginx/a`."""
    whole = Job(NGINX.name, "fleet", NGINX.repo, NGINX.ref, (PathRule("", "/etc/x", True),))
    controller.publish(whole, {"5 nginx/a": b"0123456789"}, C1)
    controller.grant("web01", whole)
    moved = "UPDATE syncd.manifest SET sha256 = sha256 || ' 10', size = 5, path = 'nginx/a'"
    fleet.cluster.execute(moved, fleet.name)
    with pytest.raises(BadResponseError) as found:
        agent.source(whole).listing(whole.repo, C1, whole.paths, None, agent.deadline)  # type: ignore[arg-type]
    assert found.value.id == "bad_response/fleet-entry"


def test_more_than_an_agent_can_hold_is_refused_before_it_is_read(
    fleet: Fleet, controller: Publisher, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "MAX_MANIFEST_BYTES", 1000)
    controller.publish(NGINX, FILES, C1)
    controller.grant("web01", NGINX)
    assert agent.contents() == FILES
    path = "UPDATE syncd.manifest SET path = 'nginx/' || repeat('a', 900)"
    fleet.cluster.execute(f"{path} WHERE path = 'nginx/nginx.conf'", fleet.name)
    with pytest.raises(BadResponseError, match="its manifest is too large"):
        agent.contents()


HOSTILE_PATHS = ("nginx/../x", "/etc/shadow", "nginx//x", "nginx/.git/config", "nginx/a\nb", "")


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_a_signed_path_that_may_not_be_written_is_refused(
    controller: Publisher, agent: Agent, path: str
) -> None:
    controller.publish(NGINX, {**FILES, path: b"x"}, C1)
    controller.grant("web01", NGINX)
    with pytest.raises(SyncdError) as found:
        agent.contents()
    assert found.value.id == "mirror/unsafe-name"


def test_a_known_head_holds_while_the_database_is_away_where_the_daemon_asks(
    fleet: Fleet, controller: Publisher, agent: Agent
) -> None:
    controller.publish(NGINX, FILES, C1)
    controller.grant("web01", NGINX)
    known = agent.resolve()
    breaks = f"ALTER DATABASE {fleet.name} ALLOW_CONNECTIONS false"
    fleet.cluster.execute(breaks)
    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{fleet.name}'"
    fleet.cluster.execute(cut)
    assert agent.resolve(known=known, goes_on=True).unchanged
    with pytest.raises(RemoteUnavailableError):
        agent.resolve(known=known)
    assert agent.link.is_away and agent.link.wait_seconds() > 0
    fleet.cluster.execute(f"ALTER DATABASE {fleet.name} ALLOW_CONNECTIONS true")
    agent.clock.advance(agent.link.wait_seconds())
    assert agent.resolve(known=known).commit == C1
    assert not agent.link.is_away
