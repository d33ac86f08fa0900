"""The alert rules and the dashboard: they know our metrics and no others,
and promtool finds nothing wrong with them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config.load import load_config
from syncd.web.metrics import METRICS

pytestmark = pytest.mark.docs

FOLDER = Path(__file__).resolve().parents[3] / "docs/monitoring"
PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
NAMES = {metric.name for metric in METRICS}


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    ]


def examples(language: str) -> list[str]:
    """The blocks of the page in one language."""
    page = (FOLDER / "README.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def expressions() -> list[str]:
    """Every expression of the dashboard, with its variables as Grafana would fill them in."""
    board = dashboard()
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]] + [
        one["expr"] for one in board["annotations"]["list"]
    ]
    return [
        text.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$job", ".*")
        for text in found
    ]


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bsyncd_[a-z_]+", text))


def promtool(*arguments: str, folder: Path = FOLDER) -> str:
    done = subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    for text in (
        [rule["expr"] for rule in rules()]
        + expressions()
        + [one.get("definition", "") for one in dashboard()["templating"]["list"]]
    ):
        assert metrics_in(text) <= NAMES, text


def test_every_rule_is_tested_both_ways_and_says_what_to_do() -> None:
    tests = [
        one
        for test in yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
        for one in test["alert_rule_test"]
    ]
    for rule in rules():
        about = [one for one in tests if one["alertname"] == rule["alert"]]
        assert any(one.get("exp_alerts") for one in about) and any(
            not one.get("exp_alerts") for one in about
        ), rule["alert"]
        assert (
            rule["labels"]["severity"] in ("critical", "warning", "info")
            and {"summary", "description"} == rule["annotations"].keys()
        )


def test_the_page_says_what_to_do_about_each_alert_and_the_reverse() -> None:
    page = (FOLDER / "README.md").read_text()
    entries = dict(re.findall(r"^### (Syncd\w+)\n\n(.*?)(?=^##)", page, re.MULTILINE | re.DOTALL))
    assert list(entries) == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert entries[rule["alert"]].lower().startswith(rule["labels"]["severity"] + "."), rule
        assert re.search(r"^    \S", entries[rule["alert"]], re.MULTILINE), rule["alert"]


def test_each_configuration_of_syncd_on_the_page_loads(tmp_path: Path) -> None:
    found = [one for one in examples("yaml") if one.startswith(("web:", "notify:"))]
    assert len(found) == 3
    for text in found:
        file = tmp_path / "config.yaml"
        file.write_text(
            f"version: 1\nstate: {tmp_path}/state\ngithub: {{public: {{anonymous: true}}}}\n"
            "jobs: {nginx: {repo: acme/infra, every: 5m, as: public,"
            f" paths: [{{from: nginx/, to: {tmp_path}/dest/}}]}}}}\n{text}"
        )
        config = load_config(file, {})
        assert config.web is not None or config.notify


@PROMTOOL
def test_promtool_takes_the_scrapes_of_the_page(tmp_path: Path) -> None:
    scrape, relabel = (one for one in examples("yaml") if not one.startswith(("web:", "notify:")))
    node = "  - job_name: node\n    static_configs: [{targets: ['127.0.0.1:9100']}]\n"
    (tmp_path / "prometheus.yml").write_text(scrape + node + relabel)
    promtool("check", "config", "prometheus.yml", folder=tmp_path)


def test_the_dashboard_is_one_that_grafana_imports_with_every_panel_in_its_place() -> None:
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]
    assert (
        len(ids) == len(set(ids))
        and board["uid"] == "syncd"
        and board["title"] == "syncd"
        and "id" not in board
    )
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}" and all(
            target["datasource"]["uid"] == "${datasource}" for target in panel["targets"]
        )


@pytest.mark.root  # 7 s of CPU time, for files that seldom change
@PROMTOOL
def test_promtool_takes_the_rules_and_their_tests_pass() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


@PROMTOOL
def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [
        {"record": f"panel_{number}", "expr": text} for number, text in enumerate(expressions())
    ]
    (tmp_path / "panels.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]})
    )
    assert f"{len(recorded)} rules found" in promtool(
        "check", "rules", "panels.yml", folder=tmp_path
    )
