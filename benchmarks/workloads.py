"""What is measured: repositories whose bytes are the same each time, the jobs over them,
and what happens before each measured run.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

TOKEN = "ghp_benchmark0000000000000000000000000"
WORDS = (
    "server",
    "listen",
    "timeout",
    "upstream",
    "location",
    "proxy_pass",
    "retries",
    "max_conns",
    "log_level",
    "enabled",
)


@dataclass(frozen=True)
class Workload:
    """`jobs` are (repository, paths).

    `before`: `tick` nothing, `push` a commit that changes 5 files, `fresh` all memory and files are
    gone.
    """

    title: str
    jobs: tuple[tuple[str, tuple[str, ...]], ...]
    before: str


WORKLOADS = {
    "W1": Workload(
        "nothing changed, 10 files",
        (("acme/w1", tuple(f"etc/app{index:02d}.conf" for index in range(10))),),
        "tick",
    ),
    "W2": Workload("nothing changed, 5,000 files", (("acme/w2", ("conf/",)),), "tick"),
    "W3": Workload("5 of 5,000 files changed", (("acme/w3", ("conf/",)),), "push"),
    "W4": Workload("first sync of 2,000 files", (("acme/w4", ("conf/",)),), "fresh"),
    "W5": Workload("one file of 50 MB", (("acme/w5", ("data/image.bin",)),), "fresh"),
    "W6": Workload(
        "nothing changed, 100 repositories",
        tuple(
            (f"acme/r{n:03d}", tuple(f"etc/f{i:02d}.conf" for i in range(20))) for n in range(100)
        ),
        "tick",
    ),
}


def config_like(chance: random.Random, size: int) -> bytes:
    """About so many bytes of lines as configurations have them."""
    lines, length = [], 0
    while length < size:
        lines.append(
            f"{chance.choice(WORDS)}_{chance.randrange(1000)} = "
            f"{chance.choice(WORDS)}-{chance.getrandbits(48):x}\n"
        )
        length += len(lines[-1])
    return "".join(lines).encode()


def five_thousand(seed: int) -> dict[str, bytes]:
    chance = random.Random(seed)
    return {
        f"conf/g{index // 100:02d}/host-{index:04d}.conf": config_like(
            chance, chance.randrange(500, 3500)
        )
        for index in range(5000)
    }


def repositories() -> Iterator[tuple[str, dict[str, bytes]]]:
    chance = random.Random(1)
    yield (
        "acme/w1",
        {f"etc/app{i:02d}.conf": config_like(chance, 2000) for i in range(10)}
        | {f"src/mod{i:03d}.py": config_like(chance, 3000) for i in range(190)},
    )
    yield "acme/w2", five_thousand(2)
    yield "acme/w3", five_thousand(3)
    yield (
        "acme/w4",
        {
            f"conf/d{i // 50:02d}/f{i:04d}.conf": config_like(chance, chance.randrange(1000, 7000))
            for i in range(2000)
        },
    )
    yield "acme/w5", {"data/image.bin": chance.randbytes(50_000_000), "README": b"w5\n"}
    for number in range(100):
        yield (
            f"acme/r{number:03d}",
            {f"etc/f{i:02d}.conf": config_like(chance, 2000) for i in range(20)}
            | {f"src/m{i}.py": config_like(chance, 2000) for i in range(10)},
        )


def growing() -> Iterator[tuple[str, dict[str, bytes]]]:
    """What growth.py looks at: one repository of more and more files, one of many jobs,
    many of one job each.
    """
    chance = random.Random(7)
    for count in (10, 100, 1000, 10_000):
        yield (
            f"acme/files{count}",
            {
                f"d{index // 100:02d}/f{index:05d}.conf": config_like(chance, 300)
                for index in range(count)
            },
        )
    yield "acme/one", {f"f{index:04d}.conf": config_like(chance, 300) for index in range(1000)}
    for number in range(50):
        yield (
            f"acme/g{number:02d}",
            {f"f{index:02d}.conf": config_like(chance, 300) for index in range(20)},
        )


SETS = {"measured": repositories, "growing": growing}


def pushed(number: int) -> dict[str, bytes]:
    """The 5 files that the push of this number changes in acme/w3."""
    groups = [(number * 5 + index) % 50 for index in range(5)]
    return {
        f"conf/g{group:02d}/host-{group * 100 + 7:04d}.conf": 40
        * f"changed by push {number} in {group}\n".encode()
        for group in groups
    }
