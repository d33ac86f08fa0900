"""Which heads are asked for by GraphQL: a table, and what holds for every demand."""

from __future__ import annotations

import random

import pytest

from syncd.github.poll_choice import Points, PollDemand, graphql_heads

FREE = Points()
HOUR_5000 = Points(hour=4500)
HOUR_12500 = Points(hour=12_000)

# heads due, heads a minute, REST, GraphQL, share of 304, seconds of a query -> heads by GraphQL
TABLE: dict[str, tuple[PollDemand, int]] = {
    "one repository": (PollDemand(1, 1, FREE, HOUR_5000), 0),
    "a hundred repositories every minute": (PollDemand(100, 100, FREE, HOUR_5000), 0),
    "as many as REST may ask for": (PollDemand(600, 600, FREE, HOUR_5000), 0),
    "one more is a query": (PollDemand(601, 600, FREE, HOUR_5000), 100),
    "half of the minute is used": (PollDemand(400, 600, Points(sent=300), HOUR_5000), 100),
    "the minute is used": (PollDemand(250, 600, Points(sent=900), HOUR_5000), 250),
    "a tenth of 10,000 a minute": (PollDemand(1000, 10_000, FREE, HOUR_12500), 1000),
    "a tenth of 1,000 a minute": (PollDemand(100, 1000, FREE, HOUR_5000), 100),
    "ten of 1,000 a minute": (PollDemand(10, 1000, FREE, HOUR_5000), 10),
    "nine are too few for a query": (PollDemand(9, 1000, FREE, HOUR_5000), 0),
    "all of 10,000 at once": (PollDemand(10_000, 600, FREE, HOUR_12500), 9400),
    "5,000 points last for 75 queries a minute": (
        PollDemand(10_000, 10_000, FREE, HOUR_5000),
        7500,
    ),
    "the minute's queries are sent": (
        PollDemand(1000, 10_000, FREE, Points(sent=75, hour=4425, reset_seconds=3540)),
        0,
    ),
    "no point is left": (PollDemand(1000, 10_000, FREE, Points(hour=0)), 0),
    "the reserve is begun": (PollDemand(1000, 10_000, FREE, Points(hour=-7)), 0),
    "the last points of the hour": (
        PollDemand(1000, 10_000, FREE, Points(hour=3, reset_seconds=20)),
        300,
    ),
    "a host without limits": (PollDemand(1000, 10_000, FREE, Points()), 1000),
    "slow answers use GitHub's processor": (
        PollDemand(10_000, 10_000, FREE, Points(), query_seconds=6.0),
        1000,
    ),
    "a server without 304": (PollDemand(50, 50, FREE, HOUR_5000, not_modified=0.0), 50),
    "a few of them are charged": (PollDemand(50, 50, FREE, HOUR_5000, not_modified=0.9), 0),
}


@pytest.mark.parametrize(("demand", "expected"), TABLE.values(), ids=TABLE)
def test_the_heads_that_graphql_is_asked_for(demand: PollDemand, expected: int) -> None:
    assert graphql_heads(demand) == expected


def demands(count: int) -> list[PollDemand]:
    rng, found = random.Random(25), []
    for _ in range(count):
        hour = rng.choice([None, rng.randrange(-10, 13_000)])
        points = Points(rng.randrange(0, 2500), hour, rng.uniform(0, 3600))
        rest = Points(rng.randrange(0, 1000), rng.randrange(0, 13_000))
        heads, share = rng.randrange(0, 20_000), rng.choice([0.0, 0.5, 1.0])
        rate, seconds = rng.uniform(0, 20_000), rng.choice([0.0, rng.uniform(0.01, 10)])
        found.append(PollDemand(heads, rate, rest, points, share, seconds))
    return found


def test_a_choice_never_spends_more_than_is_left() -> None:
    for demand in demands(5000):
        chosen = graphql_heads(demand)
        queries = -(-chosen // 100)
        assert 0 <= chosen <= demand.heads, demand
        assert queries == 0 or queries + demand.graphql.sent <= 2000, demand
        assert queries <= max(0, demand.graphql.hour or 0) or demand.graphql.hour is None, demand
        time = (queries + demand.graphql.sent) * demand.query_seconds
        assert queries == 0 or time <= 60.0 + 1e-6, demand


def test_few_repositories_never_use_graphql_where_304_is_free() -> None:
    for demand in demands(2000):
        few = PollDemand(
            min(demand.heads, 300),
            min(demand.heads_per_minute, 600),
            Points(sent=300),
            demand.graphql,
        )
        assert graphql_heads(few) == 0, few


@pytest.mark.parametrize(("limit", "most"), [(5000, 7500 + 600), (12_500, 20_000 + 600)])
def test_an_hour_of_the_largest_number_of_heads_stays_within_the_limit(
    limit: int, most: int
) -> None:
    """Six groups a minute, as heads that are spread over a minute come."""
    reserve, left, by_rest = 500, limit, 0
    sent: list[int] = []
    for group in range(360):
        last = Points(sum(sent[-5:]), left - reserve, 3600 - group * 10)
        chosen = graphql_heads(PollDemand(most // 6, most, Points(), last))
        sent.append(-(-chosen // 100))
        left -= sent[-1]
        by_rest += most // 6 - chosen
    assert left >= reserve
    assert by_rest <= 60 * 850, "REST can ask for 900 a minute"
