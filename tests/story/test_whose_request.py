"""The request id that an error shows is of an exchange that this job made."""

from __future__ import annotations

import pytest

from syncd.simulator import faults
from tests.support.sync_env import SyncEnv

LIMIT = faults.status(403, "You have exceeded a secondary rate limit", {"retry-after": "7200"})


@pytest.fixture
def two(hub: SyncEnv) -> SyncEnv:
    """A second job of the same identity with another repository, one after the other."""
    hub.github.add_repo("acme/other", {"x/a": "a\n"})
    to = f"{hub.folder}/other/"
    hub.jobs["second"] = {
        **hub.jobs["nginx"],
        "repo": "acme/other",
        "paths": [{"from": "x/", "to": to}],
    }
    hub.extra |= {"workers": "1", "requests_at_once": "1"}
    hub.write()
    return hub


def shown(hub: SyncEnv) -> dict[str, bool]:
    """Job -> whether its error names a request id, of a sync that fails for both."""
    done = hub.call("sync")
    parts = done.out.split("second  ")
    assert len(parts) == 2 and done.code not in (0, 3), done.out
    return {
        name: "request id" in part for name, part in zip(("nginx", "second"), parts, strict=True)
    }


def test_a_job_held_back_by_a_limit_shows_no_request_id_of_another_job(two: SyncEnv) -> None:
    two.github.add_fault("head", LIMIT, times=10)
    assert shown(two) == {"nginx": True, "second": False}


def test_a_job_refused_without_asking_again_shows_no_request_id_of_another_job(
    two: SyncEnv,
) -> None:
    two.github.accounts.apps["12345"].public_keys.clear()
    assert shown(two) == {"nginx": True, "second": False}
