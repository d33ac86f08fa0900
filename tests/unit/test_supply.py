"""What syncd is made of: lowest versions, hashed versions and the bill of materials, and that what
is recorded of them is so.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs/decisions/0016-lowest-versions.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROW = re.compile(r"^\| ([\w-]+) \| ([\d.]+) \| (.*) \| (.*) ?\|$", re.MULTILINE)


@pytest.fixture(scope="module")
def supply() -> ModuleType:
    spec = importlib.util.spec_from_file_location("supply", ROOT / "packaging/supply.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorded() -> dict[str, str]:
    return {name: lowest for name, lowest, _, _ in ROW.findall(RECORD.read_text())}


def required() -> dict[str, str]:
    found = [
        re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<\d+)?", one)
        for one in PROJECT["project"]["dependencies"]
    ]
    assert all(found), PROJECT["project"]["dependencies"]
    return {one[1]: one[2] for one in found if one is not None}


def number(text: str) -> tuple[int, ...]:
    """The release, without the zeros at its end: 2.13 and 2.13.0 are one version."""
    return tuple(map(int, re.sub(r"(\.0)+$", "", text).split(".")))


def test_the_lowest_version_of_each_dependency_is_the_recorded_one() -> None:
    assert required() == recorded()


def test_no_lowest_version_is_below_the_fix_of_a_recorded_vulnerability() -> None:
    for name, lowest, because, _ in ROW.findall(RECORD.read_text()):
        assert because == "nothing found" or re.search(r"CVE-\d{4}-\d+|GHSA-", because), name
        for fixed in re.findall(r"\((\d[\d.]*)[:)]", because):
            assert number(lowest) >= number(fixed), f"{name} {lowest} admits what {fixed} fixes"


# the first version without a known vulnerability, as far as it was known when it was written down
FIXED = {
    "PyJWT": "2.13.0",
    "cryptography": "48.0.1",
    "urllib3": "2.7.0",
    "certifi": "2024.7.4",
    "flask": "3.1.3",
    "Werkzeug": "3.1.6",
    "Jinja2": "3.1.6",
    "Mako": "1.3.12",
    "click": "8.3.3",
    "waitress": "3.0.1",
    "pydantic": "2.4.0",
    "pyyaml": "5.4",
}


@pytest.mark.parametrize("name", FIXED)
def test_a_version_with_a_known_vulnerability_is_not_admitted(name: str) -> None:
    assert number(required()[name]) >= number(FIXED[name])


def test_the_hashed_versions_are_those_of_the_constraints(supply: ModuleType) -> None:
    plain, hashed = (
        supply.pinned((ROOT / name).read_text())
        for name in ("constraints.txt", "constraints-hashed.txt")
    )
    assert hashed == plain
    assert set(required()) <= {line.partition("==")[0] for line in plain.values()} | {
        "sqlalchemy",
        "pyyaml",
        "flask",
        "apscheduler",
        "prometheus-client",
    }


def test_each_hashed_version_has_a_hash_and_nothing_else() -> None:
    lines = (ROOT / "constraints-hashed.txt").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("#"):
            continue
        follows = re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)
        assert follows if before.endswith("\\") else re.fullmatch(r"[\w.-]+==[\w.]+ \\", line), line
    assert not lines[-1].endswith("\\")


def test_what_syncd_needs_is_in_the_first_part_of_the_hashed_versions(supply: ModuleType) -> None:
    first, _, second = (ROOT / "constraints-hashed.txt").read_text().partition(supply.SECOND_PART)
    assert {supply.normal(name) for name in required()} <= set(supply.pinned(first))
    assert {"pytest", "ruff", "mypy", "hatchling"} <= set(supply.pinned(second))


def test_the_hashed_text_is_written_as_pip_reads_it(supply: ModuleType) -> None:
    text = supply.hashed_text(
        {"a": "A==1", "b": "b==2"}, {"a": {"2" * 64, "1" * 64}, "b": {"3" * 64}}, {"b"}
    )
    assert text == (
        f"{supply.HEAD}b==2 \\\n    --hash=sha256:{'3' * 64}\n# Only for development.\nA==1 \\\n"
        f"    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{'2' * 64}\n"
    )


@pytest.fixture(scope="module")
def bill() -> Any:
    done = subprocess.run(
        [sys.executable, "packaging/supply.py", "sbom"],
        cwd=ROOT,
        env={"SOURCE_DATE_EPOCH": "1795910400"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_bill_of_materials_has_the_form_of_cyclonedx(bill: Any) -> None:
    """The required fields of the specification's JSON schema."""
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        bill["serialNumber"],
    )
    assert bill["metadata"]["timestamp"] == datetime.fromtimestamp(1795910400, UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    assert (
        bill["metadata"]["component"]["type"] == "application"
        and bill["metadata"]["component"]["name"] == "syncd"
    )
    for one in bill["components"]:
        assert (
            {"type", "name", "version", "bom-ref", "purl"}
            <= set(one)
            <= {"type", "name", "version", "bom-ref", "purl", "licenses"}
        )
        assert one["type"] == "library" and one["purl"] == one["bom-ref"]
        assert all(
            set(licence) in ({"expression"}, {"license"}) for licence in one.get("licenses", [])
        )
    references = [one["bom-ref"] for one in [bill["metadata"]["component"], *bill["components"]]]
    assert len(set(references)) == len(references)
    assert {link["ref"] for link in bill["dependencies"]} == set(references)
    assert {ref for link in bill["dependencies"] for ref in link["dependsOn"]} <= set(references)


def test_the_bill_of_materials_names_what_is_installed_and_nothing_of_the_tests(bill: Any) -> None:
    found = {one["name"].lower().replace("_", "-"): one["version"] for one in bill["components"]}
    for name in required():
        assert found[name.lower()] == version(name)
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & set(found)
    with pytest.raises(PackageNotFoundError):
        version("no-such-package-of-ours")


def test_make_has_a_target_for_the_bill_of_materials() -> None:
    assert "sbom: ; @$(PYTHON) dev sbom" in (ROOT / "Makefile").read_text()
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {
        "SECURITY.md",
        "constraints.txt",
        "constraints-hashed.txt",
        "packaging",
        "Makefile",
        "dev",
    } <= set(included)


def test_each_threat_of_the_threat_model_names_tests_that_are_there() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    model = text.partition("## Threat model\n")[2].partition("\n## ")[0]
    actors = re.split(r"^### ", model, flags=re.MULTILINE)[1:]
    threats = 0
    for actor in actors:
        for threat in re.split(r"^- ", actor, flags=re.MULTILINE)[1:]:
            parts = re.fullmatch(
                r"\*\*(.+?)\*\*, with (.+?): (.+?)\. Tests: (.+)\.", " ".join(threat.split())
            )
            assert parts is not None, threat
            named = re.findall(r"`(tests/[\w/]+\.py)`", parts[4])
            assert named and all((ROOT / name).is_file() for name in named), threat
            threats += 1
    assert len(actors) >= 6 and threats >= 12
