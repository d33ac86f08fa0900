"""The cron way under a booted systemd: one `syncd sync` per tick of the timer,
in the same closed place.
"""

from __future__ import annotations

import pytest

from syncd.simulator.faults import status
from tests.systemd.machine import until
from tests.systemd.site import Site

pytestmark = pytest.mark.systemd
OFTEN = (
    "[Timer]\nOnBootSec=\nOnUnitInactiveSec=\nRandomizedDelaySec=0\nOnActiveSec=1ms\n"
    "OnUnitInactiveSec=100ms\nAccuracySec=1ms\n"
)


def test_the_timer_brings_the_jobs_in_step_again_and_again(site: Site) -> None:
    site.drop_in("syncd-sync.timer", "60-test", OFTEN)
    assert "systemctl restart syncd-sync.timer" in site.install("--timer")
    site.until_text("/srv/web/nginx.conf", "one\n")
    site.repo.commit({"nginx/nginx.conf": "two\n"})
    site.until_text("/srv/web/nginx.conf", "two\n")
    assert site.machine.path("/srv/web/nginx.conf").stat().st_uid == int(
        site.machine.run("id", "-u", "syncd").stdout
    )
    site.machine.systemctl("stop", "syncd-sync.timer")
    until(
        "the last run has ended",
        lambda: site.machine.show("syncd-sync.service", "ActiveState") == "inactive",
    )
    assert site.machine.show("syncd-sync.service", "Result") == "success"


def test_passing_trouble_makes_no_failed_unit_and_a_refusal_does(site: Site) -> None:
    site.jobs["web"]["timeout"] = "1s"
    site.install("--timer")
    site.machine.systemctl("stop", "syncd-sync.timer", "syncd-sync.service")
    site.github.add_fault("*", status(503), times=10_000)
    assert site.machine.systemctl("start", "syncd-sync.service", check=False).returncode == 0
    assert site.machine.show("syncd-sync.service", "ExecMainStatus") == "5"
    site.github.accounts.installations.clear()
    site.github.faults.clear()
    assert site.machine.systemctl("start", "syncd-sync.service", check=False).returncode != 0
    assert site.machine.show(
        "syncd-sync.service", "ExecMainStatus"
    ) == "4" and "installation" in site.journal("syncd-sync.service")
