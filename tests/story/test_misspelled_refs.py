"""A ref that the repository does not have: what is suggested, and what the suggestion costs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.config.load import load_config
from syncd.errors import NotFoundError
from syncd.models import Trigger
from syncd.simulator import faults
from syncd.wiring import AppContext
from tests.support.sync_env import SyncEnv, sync_env

PLAIN = "correct ref:, or create it upstream; the files stay as they are until then"
UNSURE = {"head": 3}
ASKED = {"head": 3, "refs": 1}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncEnv]:
    with sync_env(tmp_path_factory.mktemp("refs")) as made:
        head = made.repo.head()
        names = ("heads/master", "heads/release/2026", "tags/v2.1.0", "tags/v1.0", "pull/7/head")
        for name in names:
            made.repo.refs[f"refs/{name}"] = head
        yield made


def asked(hub: SyncEnv) -> dict[str, int]:
    """The requests that are about refs."""
    return {route: n for route, n in hub.github.routes().items() if route in ("head", "refs")}


@pytest.mark.parametrize(
    ("ref", "meant", "requests"),
    [
        ("mian", "main", ASKED),
        ("relaese/2026", "release/2026", ASKED),
        ("v2.10", "v2.1.0", ASKED),
        ("refs/heads/mian", "refs/heads/main", {"head": 1, "refs": 1}),
        ("refs/tags/v2.1", "refs/tags/v2.1.0", {"head": 1, "refs": 1}),
        ("production", None, ASKED),
        ("1f3ac90", None, UNSURE),
        ("1f3ac90" + "0" * 33, None, {"head": 1}),
        ("refs/pull/8/head", None, {"head": 1}),
    ],
)
def test_a_manual_run_suggests_a_similar_ref_for_one_request(
    hub: SyncEnv, ref: str, meant: str | None, requests: dict[str, int]
) -> None:
    hub.write_config(ref=ref)
    error = hub.sync().job["error"]
    assert error["id"] == "not_found/ref-missing"
    assert error["hint"] == (PLAIN if meant is None else f"did you mean '{meant}'? {PLAIN}")
    assert asked(hub) == requests


@pytest.mark.parametrize(
    "fault",
    [
        faults.status(404, "Not Found"),
        faults.status(503, "no"),
        faults.status(403, "You have exceeded a secondary rate limit", {"retry-after": "300"}),
        faults.other_content(b"[{]"),
        faults.other_content(b'{"message": "no list"}'),
    ],
    ids=["unknown", "failing", "limited", "damaged", "other"],
)
def test_a_list_of_refs_that_does_not_come_leaves_the_error_as_it_is(
    hub: SyncEnv, fault: faults.FaultEffect
) -> None:
    hub.write_config(ref="mian")
    hub.github.faults.clear()
    hub.github.add_fault("refs", fault, times=9)
    error = hub.sync().job["error"]
    hub.github.faults.clear()
    assert (error["id"], error["hint"]) == ("not_found/ref-missing", PLAIN)
    assert asked(hub) == ASKED


def test_jobs_of_one_repository_pay_for_it_once(hub: SyncEnv) -> None:
    hub.write_config(ref="mian")
    hub.jobs["other"] = {**hub.jobs["nginx"], "paths": [{"from": "motd", "to": f"{hub.dest}/m"}]}
    hub.write()
    hints = [job["error"]["hint"] for job in hub.sync().json["jobs"]]
    del hub.jobs["other"]
    assert hints == [f"did you mean 'main'? {PLAIN}"] * 2 and asked(hub) == ASKED


@pytest.mark.parametrize(("trigger", "requests"), [("schedule", UNSURE), ("operator", ASKED)])
def test_a_run_that_no_person_waits_for_does_not_pay_for_it(
    hub: SyncEnv, trigger: str, requests: dict[str, int]
) -> None:
    hub.write_config(ref="mian")
    hub.github.forget_requests()
    config = load_config(hub.config, {})
    job, app = config.jobs["nginx"], AppContext.open(config, {})
    try:
        source, deadline = app.run_context(job).source, app.deadline(job, Trigger(trigger))
        with pytest.raises(NotFoundError):
            source.resolve(job.repo, job.ref, None, deadline)
    finally:
        app.close()
    assert asked(hub) == requests
