"""A controller's claims without its polls, as a process: `ADDRESS WORKER JOBS LEASE_SECONDS HOLD`.

It begins at the first byte of its standard input, and prints the names of the jobs that it has
given back. It ends when no job is due or held. At its claim number HOLD it keeps what it claimed,
says so, and does nothing more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from sqlalchemy import Connection

from syncd.fleet import leases
from syncd.fleet.database import FleetDatabase
from syncd.fleet.leases import Lease, PollResult
from syncd.redaction import Secret

AT_ONCE = 10
HOLDS = "holds"


def name_of(number: int) -> str:
    return f"job{number:04}"


def give_back(connection: Connection, found: Sequence[Lease]) -> list[str]:
    return [one.job for one in found if leases.release(connection, one, PollResult(3600.0))]


def main(address: str, worker: str, jobs: int, lease_seconds: float, hold: int) -> None:
    database = FleetDatabase(Secret(address), f"syncd {worker}")
    names = [name_of(number) for number in range(jobs)]
    with database.begin() as connection:
        leases.seconds_until_due(connection, names)
    print("ready", flush=True)
    sys.stdin.read(1)
    claims = 0
    while True:
        with database.begin() as connection:
            found = leases.claim(connection, worker, names, lease_seconds, AT_ONCE)
            wait = 0.0 if found else leases.seconds_until_due(connection, names) or 0.0
        claims += 1
        if claims == hold:
            print(HOLDS, flush=True)
            sys.stdin.read()
        if not found and wait > lease_seconds:
            break
        if not found:
            time.sleep(wait)
            continue
        with database.begin() as connection:
            done = give_back(connection, found)
        print(*done, flush=True)
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
