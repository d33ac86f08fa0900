"""Which changes of `fleet:` a reload takes over, and which need a restart."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from syncd.config.model import Fleet, FleetRole
from syncd.daemon.reload import needs_restart
from syncd.identities import SecretRef

FLEET = Fleet(FleetRole.AGENT, SecretRef("file", "/etc/syncd/database"), trust=("a key",))


@pytest.mark.parametrize(
    ("after", "restart"),
    [
        (FLEET, False),
        (replace(FLEET, labels={"tier": "web"}, not_here=("postgres",)), False),
        (replace(FLEET, trust=("another key",)), True),
        (replace(FLEET, database=SecretRef("file", "/etc/syncd/other")), True),
        (None, True),
    ],
)
def test_a_reload_takes_over_jobs_and_labels_and_nothing_else_of_a_fleet(
    after: Fleet | None, restart: bool
) -> None:
    assert needs_restart(FLEET, after) is restart
