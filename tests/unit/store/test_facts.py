"""Facts that syncd may lose: added up over processes, bounded,
and never in the way of what decides about files.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.store.facts import OTHERS, Facts, LimitRow, Usage, WebhookFacts, usage_hour_end
from syncd.store.store import SqliteStore

NOW = datetime(2026, 11, 24, 12, 20, tzinfo=UTC)
ENDS = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)
OPS = ("ops", None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore.open(tmp_path / "state")
    yield made
    made.close()


@pytest.fixture
def facts(store: SqliteStore) -> Facts:
    return store.facts


def used(
    facts: Facts, requests: dict[str, int], ends: datetime = ENDS, key: tuple[str, int | None] = OPS
) -> None:
    facts.save_github(usage=[Usage(key, ends, requests)])


def test_the_hour_is_githubs_where_it_says_so_and_the_clocks_where_not() -> None:
    assert usage_hour_end(NOW, NOW + timedelta(minutes=7)) == NOW + timedelta(minutes=7)
    assert usage_hour_end(NOW, None) == usage_hour_end(NOW, NOW - timedelta(minutes=1)) == ENDS


def test_requests_are_added_up_by_repository_the_most_first(facts: Facts) -> None:
    used(facts, {"acme/web": 2, "acme/infra": 1})
    used(facts, {"acme/infra": 4})
    used(facts, {"acme/web": 1}, key=("ops", 42))
    found = facts.usage(NOW)
    assert list(found[OPS].items()) == [("acme/infra", 5), ("acme/web", 2)]
    assert found["ops", 42] == {"acme/web": 1}


def test_a_new_hour_begins_with_nothing(facts: Facts) -> None:
    used(facts, {"acme/web": 2})
    assert facts.usage(ENDS) == {}
    used(facts, {"acme/infra": 1}, ENDS + timedelta(hours=1))
    assert facts.usage(ENDS) == {OPS: {"acme/infra": 1}}


def test_many_who_add_at_once_lose_nothing(facts: Facts, tmp_path: Path) -> None:
    def add() -> None:
        other = SqliteStore.open(tmp_path / "state")
        for _ in range(10):
            used(other.facts, {"acme/web": 1})
        other.close()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert facts.usage(NOW) == {OPS: {"acme/web": 40}}


def test_a_thousand_repositories_are_named_and_the_rest_is_one_sum(facts: Facts) -> None:
    used(facts, {f"acme/r{number}": number for number in range(1, 1003)})
    found = facts.usage(NOW)[OPS]
    assert len(found) == 1001
    assert (found["acme/r1000"], found[OTHERS]) == (1000, 1001 + 1002)


def test_expiries_replace_those_of_before(facts: Facts) -> None:
    facts.save_github(expiries={"ops": NOW, "bot": ENDS})
    facts.save_github(expiries={"ops": ENDS})
    assert facts.token_expiries() == {"ops": ENDS}


def test_the_limit_of_an_account_that_installed_the_app_anew_is_one(facts: Facts) -> None:
    facts.save_github(
        [LimitRow("ops", 1, "acme", 5000, 9, NOW), LimitRow("ops", 2, "beta", 5000, 8, None)]
    )
    facts.save_github([LimitRow("ops", 3, "acme", 5000, 7, NOW)])
    assert sorted((one.installation, one.remaining) for one in facts.limits()) == [(2, 8), (3, 7)]


def test_unavailable_repositories_are_kept_by_identity(facts: Facts) -> None:
    facts.save_unavailable_repositories("ops", {42: frozenset({"r1", "r2"}), 43: frozenset({"x"})})
    facts.save_unavailable_repositories("bot", {1: frozenset({"y"})})
    facts.save_unavailable_repositories("ops", {42: frozenset({"r2"})})
    assert facts.unavailable_repositories("ops") == {42: frozenset({"r2"})}
    assert facts.unavailable_repositories("bot") == {1: frozenset({"y"})}


def test_backoffs_and_the_webhook_are_given_back(facts: Facts) -> None:
    facts.save_backoffs({"web": NOW, "db": ENDS})
    facts.save_backoffs({"db": NOW})
    assert facts.backoffs() == {"db": NOW}
    assert facts.webhook() == WebhookFacts()
    told = WebhookFacts(NOW, "push of acme/web", ENDS, "no signature")
    facts.save_webhook(told)
    assert facts.webhook() == told


def test_no_fact_moves_the_counter_that_runs_decide_by(store: SqliteStore) -> None:
    before = store.counter()
    used(store.facts, {"acme/web": 1})
    store.facts.save_backoffs({"web": NOW})
    store.facts.save_webhook(WebhookFacts(NOW))
    store.facts.save_unavailable_repositories("ops", {42: frozenset({"r1"})})
    assert store.counter() == before


@pytest.mark.parametrize("value", ["'soon'", "x'ff00'", "7", "''", "'2026-11-24T13:00:00'"])
def test_a_damaged_fact_is_left_out(store: SqliteStore, value: str) -> None:
    facts = store.facts
    used(facts, {"acme/web": 1})
    facts.save_backoffs({"web": NOW})
    facts.save_github([LimitRow("ops", 1, "acme", 5000, 9, NOW)], expiries={"ops": NOW})
    facts.save_webhook(WebhookFacts(NOW, "push"))
    changes = (
        f"UPDATE request_usage SET hour_ends_at = {value}",
        f"UPDATE backoff SET until = {value}",
        f"UPDATE token_expiry SET expires_at = {value}",
        f"UPDATE rate_limit SET reset_at = {value}",
        f"UPDATE webhook SET last_at = {value}",
    )
    for change in changes:
        store._database.write(lambda connection, change=change: connection.exec_driver_sql(change))
    assert (facts.usage(NOW), facts.backoffs(), facts.token_expiries(), facts.limits()) == (
        {},
        {},
        {},
        [],
    )
    assert facts.webhook() == WebhookFacts(None, "push")
