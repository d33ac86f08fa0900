"""The files of docs/examples/privileges, installed on the booted machine: one reload, no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from tests.systemd.machine import until
from tests.systemd.site import Site

pytestmark = pytest.mark.systemd
PRIVILEGES = Path(__file__).parents[2] / "docs/examples/privileges"
RULE = "/etc/polkit-1/rules.d/50-syncd-reload-nginx.rules"
SUDOERS = "/etc/sudoers.d/syncd-reload-nginx"
SCRIPT = "/usr/local/libexec/reload-nginx"
REFUSED_BY_POLKIT = [
    ("restart", "nginx.service"),
    ("stop", "nginx.service"),
    ("kill", "nginx.service"),
    ("reload-or-restart", "nginx.service"),
    ("reload", "dbus.service"),
    ("disable", "nginx.service"),
    ("daemon-reload",),
    ("set-environment", "A=b"),
]
REFUSED_BY_SUDO = [
    ("/usr/bin/systemctl", "restart", "nginx.service"),
    ("/usr/bin/systemctl", "reload", "dbus.service"),
    ("/usr/bin/systemctl", "reload", "nginx.service", "dbus.service"),
    ("/usr/bin/systemctl", "-M", "x", "reload", "nginx.service"),
    ("/usr/bin/systemctl", "daemon-reload"),
    ("/bin/sh", "-c", "systemctl reload nginx.service"),
    ("-u", "www-data", "/usr/bin/systemctl", "reload", "nginx.service"),
]


@pytest.fixture
def served(site: Site) -> Iterator[Site]:
    """nginx runs, the user syncd exists, and the repository has a folder `site/`."""
    site.repo.commit({"site/index.html": "one\n"})
    machine = site.machine
    source = PRIVILEGES.parents[2] / "systemd/sysusers.conf"
    machine.write("/usr/lib/sysusers.d/syncd.conf", source.read_text())
    machine.run("systemd-sysusers")
    machine.systemctl("start", "nginx")
    yield site
    machine.systemctl("stop", "nginx", "syncd.service", "syncd-root.service", check=False)
    machine.run("rm", "-rf", RULE, SUDOERS, SCRIPT, "/etc/nginx/snippets/acme")


def install(site: Site, name: str, to: str, mode: int) -> None:
    """Put a file of the example where its page puts it."""
    site.machine.write(to, (PRIVILEGES / name).read_text(), mode)


def jobs_of(site: Site, name: str) -> None:
    """Take the jobs of a configuration of the example, asked every second."""
    site.jobs = yaml.safe_load((PRIVILEGES / name).read_text())["jobs"]
    for job in site.jobs.values():
        job["every"] = "1s"


def as_syncd(site: Site, *argv: str) -> CompletedProcess[str]:
    user = ("setpriv", "--reuid=syncd", "--regid=syncd", "--init-groups")
    return site.machine.run(*user, "env", "HOME=/var/lib/syncd", *argv, check=False)


def reloads(site: Site) -> int:
    return site.journal("nginx.service").count("Reloaded nginx.service")


def until_reloaded(site: Site, times: int) -> None:
    try:
        until(f"{times} reloads", lambda: reloads(site) >= times)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.journal()[-4000:]}") from error


def check_polkit_refuses_everything_else(site: Site) -> None:
    for argv in REFUSED_BY_POLKIT:
        refused = as_syncd(site, "systemctl", "--no-ask-password", *argv)
        assert refused.returncode != 0, f"{argv} was allowed"
        assert "denied" in refused.stderr or "authentication required" in refused.stderr, (
            f"{argv}: {refused.stderr}"
        )


def test_a_polkit_rule_lets_the_unprivileged_unit_reload_one_service(served: Site) -> None:
    before = as_syncd(served, "systemctl", "--no-ask-password", "reload", "nginx.service")
    assert before.returncode != 0, "without the rule, it is refused"
    install(served, "50-syncd-reload-nginx.rules", RULE, 0o644)
    install(served, "reload-nginx", SCRIPT, 0o755)
    jobs_of(served, "polkit.yaml")
    assert "systemctl enable syncd.service" in served.install()
    until_reloaded(served, 1)

    served.repo.commit({"site/index.html": "two\n"})
    served.until_text("/srv/site/index.html", "two\n")
    until_reloaded(served, 2)
    until(
        "nothing is pending",
        lambda: served.status()["site"]["state"] == "in_sync",
    )
    check_polkit_refuses_everything_else(served)


def test_hook_user_and_the_polkit_rule_give_the_root_unit_one_reload(served: Site) -> None:
    install(served, "50-syncd-reload-nginx.rules", RULE, 0o644)
    jobs_of(served, "hook-user.yaml")
    assert "systemctl enable syncd-root.service" in served.install()
    served.until_text("/etc/nginx/snippets/acme/index.html", "one\n")
    until_reloaded(served, 1)
    until(
        "nothing is pending",
        lambda: served.status("syncd-root.service")["snippets"]["state"] == "in_sync",
    )

    served.machine.run("rm", RULE)
    served.machine.systemctl("try-restart", "polkit.service", check=False)
    served.repo.commit({"site/index.html": "two\n"})
    served.until_text("/etc/nginx/snippets/acme/index.html", "two\n")
    until(
        "without the rule the reload is pending: the hook is not root",
        lambda: served.status("syncd-root.service")["snippets"]["reload_pending"],
    )
    assert reloads(served) == 1


def test_a_line_of_sudoers_lets_a_one_shot_of_syncd_reload_one_service(served: Site) -> None:
    machine = served.machine
    install(served, "syncd-reload-nginx", SUDOERS, 0o440)
    assert machine.run("visudo", "-c").returncode == 0
    config = yaml.safe_load((PRIVILEGES / "sudo.yaml").read_text())
    config["github"]["ops"]["api"] = served.served.url
    machine.write("/etc/syncd/config.yaml", yaml.safe_dump(config))
    served.key("/etc/syncd")
    machine.run("chown", "syncd:", "/etc/syncd/app.pem")
    machine.run("install", "-d", "-o", "syncd", "-g", "syncd", "/srv/site", "/var/lib/syncd")

    done = as_syncd(served, "syncd", "sync")
    assert done.returncode == 0, done.stdout + done.stderr
    assert reloads(served) == 1

    for argv in REFUSED_BY_SUDO:
        refused = as_syncd(served, "sudo", "-n", *argv)
        assert refused.returncode != 0, f"{argv} was allowed"
        assert "password is required" in refused.stderr or "not allowed" in refused.stderr
