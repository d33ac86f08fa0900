"""Controllers that are killed, frozen or cut off at moments that a seed draws: every change arrives
once, whole, and one controller at a time asks about a job.

`SYNCD_FLEET_MOMENTS` is how many moments there are in each test, `SYNCD_FLEET_SEED` the first seed,
and `SYNCD_FLEET_RESULTS` a file for what happened (docs/development/fleet-figures.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed (the syncd[fleet] extra)")

from tests.support.fleet import Fleet, made_fleet
from tests.support.fleet_stand import (
    FROZEN,
    KILLED,
    NO_DATABASE,
    NO_NETWORK,
    Networks,
    Stand,
    moments,
    stand,
)
from tests.support.network_namespaces import DATABASE, SUBNET, network_namespaces
from tests.support.postgresql import Cluster, cluster

pytestmark = [pytest.mark.postgresql, pytest.mark.timeout(3600)]

SEED = int(os.environ.get("SYNCD_FLEET_SEED", "1"))
RESULTS = os.environ.get("SYNCD_FLEET_RESULTS")


def how_many(sample: int) -> int:
    return int(os.environ.get("SYNCD_FLEET_MOMENTS", sample))


def go_through(stands: list[Stand], count: int, faults: tuple[str, ...]) -> None:
    """Let each stand go through its share of the moments, side by side; judge what happened."""

    def work(number: int) -> list[str]:
        one, share = stands[number], len(range(number, count, len(stands)))
        try:
            for moment in moments(SEED + number, share, faults):
                one.go_through(moment)
            return one.end()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{one.said()}") from error

    with ThreadPoolExecutor(len(stands)) as pool:
        wrong = list(pool.map(work, range(len(stands))))
    if RESULTS:
        with open(RESULTS, "a") as file:
            for one in stands:
                for happened in one.done:
                    file.write(json.dumps(asdict(happened)) + "\n")
    assert wrong == [[]] * len(stands)


def test_changes_arrive_once_while_controllers_are_killed_and_frozen(
    fleets: Callable[[], Fleet], tmp_path: Path
) -> None:
    count = how_many(6)
    with ExitStack() as stack:
        stands = [
            stack.enter_context(stand(fleets(), tmp_path / str(number), SEED + number))
            for number in range(min(count, 6) // 2)
        ]
        go_through(stands, count, (KILLED, FROZEN))


@pytest.fixture(scope="module")
def networked() -> Iterator[Cluster]:
    """A cluster that a namespace reaches by TCP."""
    with cluster(DATABASE, SUBNET) as made:
        made_fleet(made, "syncd_template")
        yield made


@pytest.mark.root
def test_changes_arrive_once_while_controllers_are_cut_off(
    networked: Cluster, tmp_path: Path
) -> None:
    count = how_many(4)
    with ExitStack() as stack:
        stands = []
        for number in range(min(count, 6) // 2):
            networks: Networks = stack.enter_context(network_namespaces(number))
            name = f"cut{number}"
            networked.execute(f"CREATE DATABASE {name} TEMPLATE syncd_template")
            fleet = Fleet(networked, name)
            host = networked.tcp_address(name, "c1")
            made = stand(fleet, tmp_path / str(number), SEED + number, networks, host)
            stands.append(stack.enter_context(made))
        go_through(stands, count, (NO_DATABASE, NO_NETWORK))
