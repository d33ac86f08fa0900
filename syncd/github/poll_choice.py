"""How many of the due heads one installation asks for by GraphQL, and how many by REST.

A conditional request for an unchanged head costs nothing of the hourly limit, but one point of the
900 a minute. A GraphQL request asks for a hundred heads, for one point of an hourly limit of its
own. So REST comes first, and GraphQL takes what REST can't ask for in time, or can't ask for free.

Pure. Source: GitHub docs, "Rate limits for the REST API" and "Rate limits and query limits for the
GraphQL API".
"""

from __future__ import annotations

from math import ceil

from msgspec import Struct

HEADS_PER_QUERY = 100
# Of the 900 points that REST has a minute; the rest is for what follows from a change.
REST_POLLS_PER_MINUTE = 600
GRAPHQL_POINTS_PER_MINUTE = 2000
# Of the processor's time of GitHub; answers are timed to estimate it, as the docs advise.
GRAPHQL_SECONDS_PER_MINUTE = 60.0
MIN_HEADS = 10  # fewer are asked for by REST, whatever it costs


class Points(Struct, frozen=True):
    """What one limit has left, for scheduled runs.

    `sent` are the requests of the last minute. `hour` is what is left of the hour; None where the
    host has no such limit, or has not named it yet. The hour ends in `reset_seconds`.
    """

    sent: int = 0
    hour: int | None = None
    reset_seconds: float = 3600.0

    @property
    def per_minute(self) -> float:
        """How many points a minute can be spent until the hour ends."""
        if self.hour is None:
            return float("inf")
        return max(0, self.hour) * 60 / max(60.0, self.reset_seconds)


class PollDemand(Struct, frozen=True):
    """The heads that are due, and what may be spent to ask for them.

    `heads` are due now, each once; `heads_per_minute` are due in a minute on average. Of the REST
    answers about heads the share `not_modified` was 304. `query_seconds` is how long a GraphQL
    answer takes.
    """

    heads: int
    heads_per_minute: float
    rest: Points
    graphql: Points
    not_modified: float = 1.0
    query_seconds: float = 0.0
    per_query: int = HEADS_PER_QUERY  # fewer where one token reads few of the due heads


def graphql_heads(demand: PollDemand) -> int:
    """Return how many of the due heads to ask for by GraphQL; REST asks for the others.

    They fill whole queries where more heads are due than REST can ask for. Heads for which neither
    limit has points are left to REST, which waits.
    """
    by_rest = min(demand.heads, _rest_heads(demand))
    wanted = ceil((demand.heads - by_rest) / demand.per_query)
    queries = min(wanted, _queries(demand))
    return min(demand.heads, queries * demand.per_query)


def _rest_heads(demand: PollDemand) -> int:
    """Return how many of the due heads REST can ask for without a delay, and free of charge."""
    if demand.heads < MIN_HEADS:
        return demand.heads
    charged = demand.heads * (1.0 - demand.not_modified)
    if charged > max(MIN_HEADS, 2 * ceil(demand.heads / demand.per_query)):
        return 0
    # the heads of a minute come in small groups, and each of them gets its share
    share = min(1.0, REST_POLLS_PER_MINUTE / max(1.0, demand.heads_per_minute))
    return min(int(demand.heads * share), max(0, REST_POLLS_PER_MINUTE - demand.rest.sent))


def _queries(demand: PollDemand) -> int:
    """Return how many GraphQL queries may be sent now, so that the points last for the hour."""
    graphql = demand.graphql
    per_minute = min(float(GRAPHQL_POINTS_PER_MINUTE), graphql.per_minute)
    if demand.query_seconds > 0:
        per_minute = min(per_minute, GRAPHQL_SECONDS_PER_MINUTE / demand.query_seconds)
    left = int(per_minute) - graphql.sent
    return max(0, left if graphql.hour is None else min(left, graphql.hour))


__all__ = ["HEADS_PER_QUERY", "Points", "PollDemand", "graphql_heads"]
