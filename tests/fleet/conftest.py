"""One cluster for each test process, and a database with the fleet's schema for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.postgresql import Cluster, cluster

if TYPE_CHECKING:  # it needs psycopg
    from tests.support.fleet import Fleet, Publisher

NUMBERS = itertools.count(1)
TEMPLATE = "syncd_template"


@pytest.fixture(scope="session")
def server() -> Iterator[Cluster]:
    with cluster() as made:
        from tests.support.fleet import made_fleet

        made_fleet(made, TEMPLATE)
        yield made


@pytest.fixture
def fleets(server: Cluster) -> Iterator[Callable[[], Fleet]]:
    """Makes a database at each call."""
    from tests.support.fleet import Fleet

    made: list[Fleet] = []

    def make() -> Fleet:
        name = f"fleet{next(NUMBERS)}"
        server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        server.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
        made.append(Fleet(server, name))
        return made[-1]

    yield make
    for one in made:
        server.execute(f"DROP DATABASE {one.name} WITH (FORCE)")


@pytest.fixture
def fleet(fleets: Callable[[], Fleet]) -> Fleet:
    return fleets()


@pytest.fixture
def controller(fleet: Fleet) -> Iterator[Publisher]:
    from tests.support.fleet import Publisher

    made = Publisher(fleet)
    yield made
    made.close()
