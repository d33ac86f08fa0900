"""Examples of docs/examples for root's own folders, as they are, in the unit that `init` makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.support.examples import EXAMPLES, files_of
from tests.systemd.machine import until
from tests.systemd.site import Site

pytestmark = pytest.mark.systemd
UNIT = "syncd-root.service"
BAD = {
    "sudoers/operators": "%operators ALL=(root /usr/bin/systemctl\n",
    "cron/backup": "0 4 * * backup\n",
}
GOOD = {
    "/etc/sudoers.d/operators": files_of("sudoers")["sudoers/operators"].content.decode(),
    "/etc/cron.d/backup": files_of("cron")["cron/backup"].content.decode(),
}


@pytest.fixture
def copied(site: Site) -> Iterator[Site]:
    """The jobs of the examples for cron and sudoers, asked every second, and their repositories."""
    for name in ("sudoers", "cron"):
        site.repo.commit(files_of(name), verification="valid")
        site.jobs |= yaml.safe_load((EXAMPLES / name / "config.yaml").read_text())["jobs"]
    site.jobs.pop("web")
    for job in site.jobs.values():
        job["every"] = "1s"
    site.machine.run("install", "-d", "/etc/cron.d")
    yield site
    site.machine.systemctl("stop", UNIT, check=False)
    site.machine.run("rm", "-f", "/etc/sudoers.d/operators", "/etc/cron.d/backup")


def facts(site: Site, path: str) -> str:
    return site.machine.run("stat", "-c", "%a %U:%G", path).stdout.strip()


def test_sudoers_and_cron_files_arrive_with_their_modes_and_bad_ones_do_not(copied: Site) -> None:
    assert f"systemctl enable {UNIT}" in copied.install()
    for path, text in GOOD.items():
        copied.until_text(path, text)
    assert facts(copied, "/etc/sudoers.d/operators") == "440 root:root"
    assert facts(copied, "/etc/cron.d/backup") == "644 root:root"
    assert copied.machine.run("visudo", "-c").returncode == 0

    copied.repo.commit(BAD, verification="valid")
    until(
        "both jobs reject the commit",
        lambda: {job["state"] for job in copied.status(UNIT).values()} == {"failing"},
    )
    assert {path: copied.text(path) for path in GOOD} == GOOD
    assert "syntax error" in copied.journal(UNIT)
