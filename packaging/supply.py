"""What syncd is made of: `hashes` writes constraints-hashed.txt,
`sbom [WHEEL]` prints a CycloneDX document.

Called by `dev`, in its .venv. `hashes` asks pip, as it is set up on this machine, which file it
would install of each version in constraints.txt on each platform; nothing is installed, and only
names, versions and hashes are kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

HERE = Path(__file__).resolve().parents[1]
CONSTRAINTS, HASHED = HERE / "constraints.txt", HERE / "constraints-hashed.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
LIBCS = (("manylinux_2_28", "manylinux_2_17", "manylinux2014"), ("musllinux_1_2", "musllinux_1_1"))
FIRST_PART, SECOND_PART = "# What syncd needs.\n", "# Only for development.\n"
HEAD = (
    "# The versions of constraints.txt with the sha256 of each wheel for Linux; made by "
    "`python3 dev hashes`.\n"
    "# pip install --require-hashes -r constraints-hashed.txt && pip install --no-deps "
    "syncd-*.whl\n"
    f"{FIRST_PART}"
)


def normal(name: str) -> str:
    """The name as package indexes compare it. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(text: str) -> dict[str, str]:
    """Each package of a constraints file, by its normal name: the line `NAME==VERSION`."""
    lines = [
        line.partition(" \\")[0] for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)
    ]
    return {normal(line.partition("==")[0]): line for line in lines}


# --- hashes ---------------------------------------------------------------------------------------


def write_hashes() -> int:
    """Write constraints-hashed.txt.

    A platform for which a wheel is missing is named and left out.
    """
    found: dict[str, set[str]] = {name: set() for name in pinned(CONSTRAINTS.read_text())}
    for python in PYTHONS:
        for machine in MACHINES:
            for libc in LIBCS:
                for name, digest in _hashes_for(python, [f"{one}_{machine}" for one in libc]):
                    found[name].add(digest)
    missing = sorted(name for name, digests in found.items() if not digests)
    if missing:
        print(
            f"pip found no file of {', '.join(missing)}; constraints-hashed.txt stays as it is",
            file=sys.stderr,
        )
        return 1
    HASHED.write_text(hashed_text(pinned(CONSTRAINTS.read_text()), found, set(runtime())))
    return 0


def hashed_text(pins: dict[str, str], hashes: dict[str, set[str]], needed: set[str]) -> str:
    """The file: what syncd needs first, so that a reader can cut off the rest."""
    parts: tuple[list[str], list[str]] = ([], [])
    for name, line in pins.items():
        entry = [line, *(f"    --hash=sha256:{digest}" for digest in sorted(hashes[name]))]
        parts[name not in needed].append(" \\\n".join(entry) + "\n")
    return HEAD + "".join(parts[0]) + SECOND_PART + "".join(parts[1])


def _hashes_for(python: str, platforms: list[str]) -> Iterator[tuple[str, str]]:
    """Name and sha256 of each wheel that pip would take there; nothing where one is missing."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        where = [part for platform in platforms for part in ("--platform", platform)]
        command = [
            sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--no-deps",
            "--ignore-installed", "--only-binary", ":all:", *where,
            "--python-version", python, "--target", folder, "--report", str(report),
            "-r", str(CONSTRAINTS),
        ]  # fmt: skip
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            print(f"left out: Python {python} on {platforms[0]}", file=sys.stderr)
            return
        for one in json.loads(report.read_text())["install"]:
            yield (
                normal(one["metadata"]["name"]),
                one["download_info"]["archive_info"]["hashes"]["sha256"],
            )


# --- the bill of materials ------------------------------------------------------------------------


def runtime(own: Distribution | None = None) -> dict[str, Distribution]:
    """syncd and everything that it needs on this machine, by normal name; `own` is syncd."""
    own = own or distribution("syncd")
    found: dict[str, Distribution] = {"syncd": own}
    todo = _needs(own)
    while todo:
        name = normal(todo.pop())
        if name not in found:
            found[name] = distribution(name)
            todo += _needs(found[name])
    return dict(sorted(found.items()))


def of_wheel(wheel: Path) -> Distribution:
    """The distribution that a wheel would install."""
    folder = "-".join(wheel.name.split("-")[:2]) + ".dist-info/"
    return PathDistribution(zipfile.Path(wheel, folder))


def _needs(one: Distribution) -> list[str]:
    wanted = [Requirement(text) for text in one.requires or ()]
    return sorted(
        {
            normal(need.name)
            for need in wanted
            if need.marker is None or need.marker.evaluate({"extra": ""})
        }
    )


def sbom(parts: dict[str, Distribution], at: datetime) -> dict[str, Any]:
    """A CycloneDX 1.6 document. Source: the specification's JSON schema, bom-1.6.schema.json."""
    components = {name: _component(name, one) for name, one in parts.items()}
    root = {**components.pop("syncd"), "type": "application"}
    links = [
        {"ref": reference(name, one), "dependsOn": _references(_needs(one), parts)}
        for name, one in parts.items()
    ]
    content = json.dumps([root, components, links], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}", "version": 1,
        "metadata": {
            "timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": root,
            "tools": {
                "components": [
                    {"type": "application", "name": "dev sbom", "version": root["version"]}
                ]
            },
        },
        "components": list(components.values()), "dependencies": links,
    }  # fmt: skip


def reference(name: str, one: Distribution) -> str:
    """The package URL, which also is the component's name in this document."""
    return f"pkg:pypi/{name}@{one.version}"


def _references(names: Iterable[str], parts: dict[str, Distribution]) -> list[str]:
    return [reference(name, parts[name]) for name in names]


def _component(name: str, one: Distribution) -> dict[str, Any]:
    url = reference(name, one)
    found = {
        "type": "library",
        "bom-ref": url,
        "name": one.metadata["Name"],
        "version": one.version,
        "purl": url,
    }
    licence = one.metadata.get("License-Expression")
    named = (one.metadata.get("License") or "").strip()
    if licence:
        return {**found, "licenses": [{"expression": licence}]}
    return (
        {**found, "licenses": [{"license": {"name": named}}]}
        if named and "\n" not in named
        else found
    )


def main() -> int:
    """Carry out one of the two commands."""
    if sys.argv[1:] == ["hashes"]:
        return write_hashes()
    if sys.argv[1:2] == ["sbom"] and len(sys.argv) <= 3:
        own = of_wheel(Path(sys.argv[2])) if sys.argv[2:] else None
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        at = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
        print(json.dumps(sbom(runtime(own), at), indent=1))
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
