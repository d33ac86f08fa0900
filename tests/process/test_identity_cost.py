"""What a run with nothing changed costs GitHub, for each kind of identity, as docs/cost.md says."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.daemon import daemon
from tests.support.fork_server import MODULE, run_forked
from tests.support.sync_env import SyncEnv, sync_env

ROOT = Path(__file__).resolve().parents[2]
CLIENT = "Iv23liAcmeOps"


class Cost(NamedTuple):
    """Requests, and those of them that are answered 304: of a one-shot, and of a daemon's run."""

    one_shot: int
    one_shot_not_modified: int
    daemon: int
    daemon_not_modified: int


def app_without_installation(hub: SyncEnv) -> None:
    del hub.identities["ops"]["installation_id"]


def login(hub: SyncEnv) -> None:
    hub.github.oauth.add_client(CLIENT)
    hub.identities["ops"] = {"login": {"client_id": CLIENT}, "api": hub.served.url}
    hub.write()
    hub.canary.spared.add(hub.state / "logins" / "ops.json")

    def approve() -> None:
        for device in hub.github.oauth.devices.values():
            hub.github.oauth.approve(device.user_code, "ada")

    hub.github.call_before("poll", 1, approve)
    assert hub.call("login", "ops").code == 0


def anonymous(hub: SyncEnv) -> None:
    hub.repo.private = False
    hub.identities["ops"] = {"anonymous": True, "api": hub.served.url}


IDENTITIES: dict[str, tuple[bool, Callable[[SyncEnv], object], Cost]] = {
    "GitHub App": (True, app_without_installation, Cost(2, 1, 1, 1)),
    "GitHub App with `installation_id`": (True, lambda hub: None, Cost(2, 1, 1, 1)),
    "token": (False, lambda hub: None, Cost(1, 1, 1, 1)),
    "login": (False, login, Cost(1, 1, 1, 1)),
    "anonymous": (False, anonymous, Cost(1, 1, 1, 1)),
}


def one_shot(hub: SyncEnv) -> Any:
    """What the next run of the installed command says, with its quick check."""
    hub.github.forget_requests()
    done = run_forked([*MODULE, "-c", str(hub.config), "sync", "--json"], text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def counted(hub: SyncEnv) -> tuple[int, int]:
    return len(hub.github.requests), hub.github.count(status=304)


@pytest.mark.parametrize("kind", IDENTITIES)
def test_a_run_with_nothing_changed_costs_what_the_page_says(tmp_path: Path, kind: str) -> None:
    as_app, prepare, cost = IDENTITIES[kind]
    with sync_env(tmp_path, as_app=as_app) as hub:
        prepare(hub)
        hub.write()
        assert one_shot(hub)["jobs"][0]["status"] == "changed"
        for _ in range(2):
            found = one_shot(hub)
            assert found["jobs"][0]["status"] == "unchanged"
            assert counted(hub) == cost[:2] == tuple(found["requests"].values())
        (hub.state / "unchanged.json").unlink(missing_ok=True)  # the full program costs the same
        assert tuple(one_shot(hub)["requests"].values()) == counted(hub) == cost[:2]
        with daemon(hub, "-v") as running:
            for _ in range(2):
                hub.github.forget_requests()
                running.send(signal.SIGUSR1)
                running.says("nginx: unchanged", lambda line: line["trigger"] != "startup")
            assert counted(hub) == cost[2:]


def test_the_page_has_the_cost_of_each_kind_of_identity() -> None:
    text = (ROOT / "docs/cost.md").read_text()
    table = text.partition("## A run with nothing changed\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| (\d+), (\d+) \| (\d+), (\d+) \|", table, re.MULTILINE)
    assert {kind: Cost(*map(int, numbers)) for kind, *numbers in rows} == {
        kind: cost for kind, (_, _, cost) in IDENTITIES.items()
    }


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (
            "README.md",
            "An unchanged repository costs one request, answered 304, however many jobs and files",
        ),
        ("README.md", "a one-shot as a GitHub App adds one for its token"),
        ("docs/authentication.md", "An App costs two requests as a one-shot"),
    ],
)
def test_other_pages_say_the_same_and_refer_to_the_table(page: str, sentence: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    assert sentence in text
    assert "cost.md#a-run-with-nothing-changed" in text
