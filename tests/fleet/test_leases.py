"""Leases: each due job has one controller at a time, and what an earlier one writes is refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from sqlalchemy import text

from syncd.errors import LockedError
from syncd.fleet import leases
from syncd.fleet.leases import PollResult
from syncd.fleet.publish import publish
from syncd.fleet.retention import forget_old
from tests.support.fleet import Fleet, Publisher, job_of, publication

pytestmark = pytest.mark.postgresql

C1, C2 = "1" * 40, "2" * 40
NGINX = job_of()
FILES = {"nginx/nginx.conf": b"user www;\n"}


@pytest.fixture
def second(fleet: Fleet, controller: Publisher) -> Iterator[Publisher]:
    made = Publisher(fleet, controller.signer)
    yield made
    made.close()


def rows(fleet: Fleet, query: str) -> list[tuple[object, ...]]:
    database = fleet.database()
    with database.begin() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    database.close()
    return found


def end_leases(fleet: Fleet) -> None:
    """Let every lease run out, as time would."""
    fleet.cluster.execute("UPDATE syncd.job SET lease_until = now() - interval '1s'", fleet.name)


def test_a_claimed_job_is_not_claimed_again_until_its_lease_ends(
    fleet: Fleet, controller: Publisher, second: Publisher
) -> None:
    lease = controller.claim(NGINX)
    with second.database.begin() as connection:
        assert leases.claim(connection, "c2", ["nginx"], 60.0, 5) == []
    end_leases(fleet)
    with second.database.begin() as connection:
        (taken,) = leases.claim(connection, "c2", ["nginx"], 60.0, 5)
    assert (lease.epoch, taken.epoch) == (1, 2)


def test_an_old_holder_can_neither_renew_nor_release_nor_publish(
    fleet: Fleet, controller: Publisher, second: Publisher
) -> None:
    old = controller.claim(NGINX)
    end_leases(fleet)
    new = second.claim(NGINX, "c2")
    with controller.database.begin() as connection:
        assert leases.renew(connection, [old], 60.0) == set()
        assert not leases.release(connection, old, PollResult(60.0))
    with pytest.raises(LockedError) as found, controller.database.begin() as connection:
        publish(connection, old, publication(NGINX, FILES, C1), controller.signer)
    assert found.value.id == "locked/fleet-lease"
    assert rows(fleet, "SELECT count(*) FROM syncd.revision") == [(0,)]
    assert rows(fleet, "SELECT count(*) FROM syncd.blob") == [(0,)]
    with second.database.begin() as connection:
        publish(connection, new, publication(NGINX, FILES, C2), second.signer)
        assert leases.renew(connection, [new], 60.0) == {"nginx"}
        assert leases.release(connection, new, PollResult(60.0))
    assert rows(fleet, "SELECT commit_sha, epoch FROM syncd.revision") == [(C2, 2)]


def test_an_expired_lease_that_no_other_controller_took_may_still_publish(
    fleet: Fleet, controller: Publisher
) -> None:
    lease = controller.claim(NGINX)
    end_leases(fleet)
    with controller.database.begin() as connection:
        publish(connection, lease, publication(NGINX, FILES, C1), controller.signer)
    assert rows(fleet, "SELECT commit_sha FROM syncd.revision") == [(C1,)]


def test_a_claim_waits_for_no_other_claim(
    fleet: Fleet, controller: Publisher, second: Publisher
) -> None:
    controller.publish(NGINX, FILES, C1)
    with controller.database.begin() as holder:
        leases.make_due(holder, ["nginx"])
    with controller.database.begin() as holder:
        assert len(leases.claim(holder, "c1", ["nginx"], 60.0, 5)) == 1
        with second.database.begin() as other:  # returns at once, while the row is locked
            assert leases.claim(other, "c2", ["nginx"], 60.0, 5) == []


def test_a_failed_poll_counts_and_a_good_one_clears_it(fleet: Fleet, controller: Publisher) -> None:
    query = "SELECT failures, error_id, error FROM syncd.job"
    for expected in (1, 2):
        lease = controller.claim(NGINX)
        with controller.database.begin() as connection:
            failed = PollResult(30.0, error_id="auth/x", error="no")
            assert leases.release(connection, lease, failed)
        assert rows(fleet, query) == [(expected, "auth/x", "no")]
    lease = controller.claim(NGINX)
    assert lease.failures == 2
    with controller.database.begin() as connection:
        leases.release(connection, lease, PollResult(30.0))
    assert rows(fleet, query) == [(0, None, None)]


def test_a_job_that_follows_another_ref_forgets_the_head_and_is_due(
    fleet: Fleet, controller: Publisher
) -> None:
    controller.publish(NGINX, FILES, C1)
    with controller.database.begin() as connection:
        leases.register(connection, {"nginx": NGINX})
        assert leases.claim(connection, "c1", ["nginx"], 60.0, 5) == []
        leases.register(connection, {"nginx": job_of(ref="next")})
        (lease,) = leases.claim(connection, "c1", ["nginx"], 60.0, 5)
    assert (lease.head, lease.settings, lease.published) == (None, None, C1)


def test_a_job_that_is_given_back_unpolled_is_due_at_once(
    controller: Publisher, second: Publisher
) -> None:
    lease = controller.claim(NGINX)
    with controller.database.begin() as connection:
        assert leases.release(connection, lease, None)
    with second.database.begin() as connection:
        assert leases.seconds_until_due(connection, ["nginx"]) == 0.0
        assert len(leases.claim(connection, "c2", ["nginx"], 60.0, 5)) == 1


def test_jobs_without_news_are_given_back_together_unless_another_controller_has_them(
    fleet: Fleet, controller: Publisher, second: Publisher
) -> None:
    mine, lost = controller.claim(NGINX), controller.claim(job_of("other"))
    end_leases(fleet)
    with second.database.begin() as connection:
        (taken,) = leases.claim(connection, "c2", ["other"], 60.0, 1)
    with controller.database.begin() as connection:
        leases.release_unchanged(connection, [(mine, 60.0), (lost, 60.0)])
    query = (
        "SELECT name, worker, epoch, failures, next_at > now() + interval '50s' "
        "FROM syncd.job ORDER BY name"
    )
    assert rows(fleet, query) == [
        ("nginx", None, mine.epoch, 0, True),
        ("other", "c2", taken.epoch, 0, False),
    ]


def test_old_revisions_and_the_contents_that_none_names_are_removed(
    fleet: Fleet, controller: Publisher
) -> None:
    for number in range(7):
        controller.publish(NGINX, {"nginx/a": b"%d" % number, "nginx/b": b"same"}, f"{number}" * 40)
    with controller.database.begin() as connection:
        assert forget_old(connection) == (2, 0)  # contents stay for a day
    fleet.cluster.execute(
        "UPDATE syncd.blob SET created_at = created_at - interval '25 hours'", fleet.name
    )
    with controller.database.begin() as connection:
        assert forget_old(connection) == (0, 2)
    assert rows(fleet, "SELECT count(*) FROM syncd.revision") == [(5,)]
    assert rows(fleet, "SELECT count(*) FROM syncd.blob") == [(6,)]


def test_a_controller_knows_which_jobs_it_lists_in_another_way(controller: Publisher) -> None:
    controller.publish(NGINX, FILES, C1)
    controller.claim(job_of("sshd"))  # not published yet
    mine = {"nginx": "other", "sshd": "other", "unknown": "other"}
    with controller.database.begin() as connection:
        assert leases.listed_otherwise(connection, mine) == {"nginx"}
        assert leases.listed_otherwise(connection, {"nginx": "settings"}) == set()
