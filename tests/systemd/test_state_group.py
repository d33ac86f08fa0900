"""`state_group` under a booted systemd, set up as docs/production.md says: a member looks, a
stranger does not.
"""

from __future__ import annotations

from subprocess import CompletedProcess

import pytest

from tests.systemd.site import Site

pytestmark = pytest.mark.systemd


def as_user(site: Site, user: str, *argv: str) -> CompletedProcess[str]:
    return site.machine.run(
        "setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *argv, check=False
    )


@pytest.mark.parametrize(
    ("unit", "job"), [("syncd.service", {}), ("syncd-root.service", {"owner": "root:root"})]
)
def test_a_member_of_the_state_group_sees_the_status_of_the_service(
    site: Site, unit: str, job: dict[str, str]
) -> None:
    machine = site.machine
    machine.run("sh", "-c", "systemd-sysusers; getent group oncall || groupadd oncall")
    machine.run("sh", "-c", "id ada || useradd --user-group --groups oncall ada")
    machine.run("sh", "-c", "id eve || useradd --user-group eve")
    site.jobs["web"] |= job
    site.install()
    site.until_text("/srv/web/nginx.conf", "one\n")
    site.extra["state_group"] = "oncall"
    machine.run("usermod", "-aG", "oncall", "syncd")
    site.install()
    machine.run("sh", "-c", "chmod 0755 /etc/syncd && chmod 0644 /etc/syncd/config.yaml")
    for _ in range(2):  # the first start shares what is there, a later one what it finds shared
        seen = as_user(site, "ada", "syncd", "status")
        assert seen.returncode == 0 and "web" in seen.stdout, seen.stderr + site.journal(unit)
        history = as_user(site, "ada", "syncd", "history")
        assert history.returncode == 0 and "web" in history.stdout, history.stderr
        assert as_user(site, "ada", "cat", "/etc/syncd/app.pem").returncode != 0
        assert as_user(site, "ada", "syncd", "sync").returncode == 1
        assert as_user(site, "eve", "syncd", "status").returncode == 1
        machine.systemctl("restart", unit)


def test_a_state_group_that_does_not_exist_is_what_systemd_says(site: Site) -> None:
    site.install()
    site.extra["state_group"] = "no-such-group"
    site.write()
    site.syncd("init", "--systemd", "--install")
    site.machine.systemctl("daemon-reload")
    assert site.machine.systemctl("restart", "syncd.service", check=False).returncode != 0
    assert "status=216/GROUP" in site.journal(), "docs/systemd.md explains this one"
