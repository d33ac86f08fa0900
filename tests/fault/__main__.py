"""python -m tests.fault [--full] [FAMILY ...]: the fault families at a size of choice,
and their table of figures.

Without --full each family takes a seeded sample; with it the counts of
docs/development/promises.md. What needs root is left out, by name, for others.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import sys
from collections.abc import Callable

from tests.fault import abuse
from tests.fault.families import FAMILIES, Family
from tests.fault.points import Tally
from tests.fault.reasons import unexplained


def main() -> int:
    if sys.argv[1:2] == ["abuse"]:  # one daemon under everything at once, with arguments of its own
        return abuse.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument(
        "--full", action="store_true", help="the full counts: an hour, not a minute"
    )
    parser.add_argument("--points", type=int, help="so many points of each family")
    parser.add_argument(
        "--seed",
        type=int,
        default=int.from_bytes(os.urandom(3)),
        help="the sample; printed, so that it can be drawn again",
    )
    chosen = parser.parse_args()
    unknown = [name for name in chosen.families if name not in FAMILIES]
    if unknown:
        parser.error(f"no such family: {', '.join(unknown)}")
    logging.getLogger("syncd").setLevel(
        logging.CRITICAL
    )  # to and fro between two sets, there is much to warn of
    print(f"{datetime.datetime.now():%Y-%m-%d %H:%M}, seed {chosen.seed}", flush=True)
    wrong = 0
    for name in chosen.families or FAMILIES:
        wrong += show(
            name,
            FAMILIES[name],
            chosen.points or (FAMILIES[name].full if chosen.full else FAMILIES[name].sample),
            chosen.seed,
        )
    print("all held" if wrong == 0 else f"{wrong} violations")
    return 1 if wrong else 0


def show(name: str, family: Family, points: int, seed: int) -> int:
    """One line of the table, and what was wrong below it; how much that was."""
    missing = family.missing()
    if missing:
        print(f"{name:<16} left out: {missing}", flush=True)
        return 0
    make: Callable[[int, int], Tally] = family.make
    tally = make(points, seed)
    print(f"{name:<16} {tally}", flush=True)
    wrong = tally.violations + [
        f"unexplained success: {where}" for where in (unexplained(tally) if family.explains else ())
    ]
    for one in wrong[:40]:
        print(f"    {one}", flush=True)
    if os.environ.get("SYNCD_FAULT_SHOW"):
        for where, count in sorted(tally.passed_by.items()):
            print(f"    done in spite of it, {count}×: {where}", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
