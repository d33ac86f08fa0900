"""The nginx job of the contract, as it stands there, end to end: Debian's nginx, a veto by `nginx
-t`, a real reload, in the unit that `init` sets up.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.systemd.machine import until
from tests.systemd.site import Site

pytestmark = pytest.mark.systemd
CONF = """\
user www-data;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log;
events {}
http { access_log /var/log/nginx/access.log; include conf.d/*.conf; }
"""
ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:80/').read().decode(), end='')"


def server(text: str) -> str:
    return f"server {{ listen 80 default_server; location / {{ return 200 '{text}'; }} }}\n"


@pytest.fixture
def nginx(site: Site) -> Iterator[Site]:
    """Debian's nginx runs with Debian's configuration; the job is there to take it over."""
    site.repo.commit(
        {
            "nginx/nginx.conf": CONF,
            "nginx/conf.d/web.conf": server("one"),
            "nginx/sites/a.conf": None,
            "nginx/README.md": "not mirrored",
            "certs/public.pem": "a certificate\n",
        }
    )
    site.jobs = {
        "nginx": {
            "as": "ops",
            "repo": "acme/infra",
            "ref": "main",
            "paths": [
                {"from": "nginx/", "to": "/etc/nginx/", "include": ["*.conf"], "exclude": ["*.md"]},
                {
                    "from": "certs/public.pem",
                    "to": "/etc/ssl/acme.pem",
                    "mode": "0644",
                    "owner": "root:root",
                },
            ],
            "every": "1s",
            "jitter": "0s",
            "on_push": True,
            "prune": "tracked",
            "drift": "restore",
            "symlinks": "keep",
            "submodules": "skip",
            "lfs": "refuse",
            "owner": "root:root",
            "mode": "0644",
            "dir_mode": "0755",
            "limits": {"delete": "50%", "files": "10000", "size": "1GiB", "empty": False},
            "publish": "files",
            "validate": "nginx -t -c {staged}/etc/nginx/nginx.conf",
            "on_change": "systemctl reload nginx",
            "undo_on_failure": False,
            "timeout": "10m",
            "hook_timeout": "60s",
        }
    }
    site.machine.run("cp", "-a", "/etc/nginx", "/root/nginx.before")
    site.machine.run("install", "-d", "/etc/ssl")
    site.machine.systemctl("start", "nginx")
    yield site
    site.machine.systemctl("stop", "nginx", "syncd-root.service", check=False)
    site.machine.run(
        "sh", "-c", "rm -rf /etc/nginx /etc/ssl/acme.pem && mv /root/nginx.before /etc/nginx"
    )


def answer(site: Site) -> str:
    return site.machine.run("python3", "-c", ASK, check=False).stdout


def until_answer(site: Site, text: str) -> None:
    try:
        until(f"nginx answers {text}", lambda: answer(site) == text)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.journal()[-4000:]}") from error


def test_the_nginx_job_of_the_contract_end_to_end(nginx: Site) -> None:
    steps = nginx.install()
    assert "systemctl enable syncd-root.service" in steps
    until_answer(nginx, "one")
    served_by = nginx.machine.show("nginx.service", "MainPID")

    nginx.repo.commit({"nginx/conf.d/web.conf": server("two")})
    until_answer(nginx, "two")

    good = nginx.repo.head()
    nginx.repo.commit(
        {"nginx/conf.d/web.conf": "server { listen 80 default_server; loccation / {} }\n"}
    )
    until(
        "the commit is vetoed",
        lambda: nginx.status("syncd-root.service").get("nginx", {}).get("state") == "failing",
    )
    assert answer(nginx) == "two" and "loccation" not in (
        nginx.text("/etc/nginx/conf.d/web.conf") or ""
    )
    assert "unknown directive" in nginx.journal("syncd-root.service")
    assert nginx.status("syncd-root.service")["nginx"]["commit"] == good

    nginx.machine.write("/etc/nginx/conf.d/web.conf", server("an edit"))
    nginx.machine.systemctl(
        "restart", "nginx"
    )  # makes a new pid file, which the unit's own view must see
    nginx.repo.commit({"nginx/conf.d/web.conf": server("three")})
    until_answer(nginx, "three")
    assert nginx.machine.show("nginx.service", "MainPID") != served_by
    assert (
        nginx.text("/etc/ssl/acme.pem") == "a certificate\n"
        and nginx.machine.path("/etc/nginx/mime.types").exists()
    )
    assert nginx.text("/etc/nginx/README.md") is None
    until(
        "nothing is owed", lambda: nginx.status("syncd-root.service")["nginx"]["state"] == "in_sync"
    )


def test_a_sync_by_hand_as_another_user_is_refused_with_the_right_command(nginx: Site) -> None:
    nginx.install()
    until_answer(nginx, "one")
    refused = nginx.machine.run(
        "setpriv",
        "--reuid=www-data",
        "--regid=www-data",
        "--clear-groups",
        "env",
        "HOME=/var/www",
        "syncd",
        "sync",
        check=False,
    )
    assert refused.returncode != 0 and "sudo -u root syncd" in refused.stderr, refused.stderr
    by_root = nginx.syncd("sync", check=False)
    assert by_root.returncode in (0, 11), (
        by_root.stderr
    )  # the service's credential is found; its run may be under way
