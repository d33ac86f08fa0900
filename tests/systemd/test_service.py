"""The daemon under a booted systemd, installed from the wheel as an operator would: ready,
watched, reloaded, stopped, and closed in.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from syncd.simulator.faults import hang
from tests.systemd.machine import DEADLINE_SECONDS, Machine, until
from tests.systemd.site import Site

pytestmark = pytest.mark.systemd
UNIT = "syncd.service"
STOPS = int(os.environ.get("SYNCD_STOPS", "15"))
PROBED = (
    "/",
    "/etc",
    "/etc/syncd",
    "/usr/bin",
    "/opt/syncd",
    "/srv",
    "/srv/web",
    "/srv/web/sites",
    "/srv/outside",
    "/var/lib",
    "/var/lib/syncd",
    "/var/log",
    "/run",
    "/boot",
    "/home",
    "/root",
)


def main_pid(site: Site, unit: str = UNIT) -> int:
    """The daemon's pid as we see it."""
    inside, home = (
        site.machine.show(unit, "MainPID"),
        os.readlink(f"/proc/{site.machine.pid}/ns/pid"),
    )
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            line = next(
                (line for line in status.read_text().splitlines() if line.startswith("NSpid:")), ""
            )
            if (
                len(line.split()) > 2
                and line.split()[-1] == inside
                and os.readlink(status.parent / "ns/pid") == home
            ):
                return int(status.parent.name)
    raise AssertionError(f"{unit} has no process {inside}\n{site.journal()[-3000:]}")


def test_installed_from_the_wheel_it_is_ready_in_step_and_says_how_it_stands(site: Site) -> None:
    steps = site.install()
    assert (
        steps[-2:] == ["systemctl enable syncd.service", "systemctl restart syncd.service"]
        and "install -d -m 0755 -o syncd -g syncd /srv/web" in steps
    )
    assert (
        site.machine.show(UNIT, "ActiveState") == "active"
    )  # Type=notify: the restart came back when READY had been said
    site.until_text("/srv/web/nginx.conf", "one\n")
    site.repo.commit({"nginx/nginx.conf": "two\n"})
    site.until_text("/srv/web/nginx.conf", "two\n")
    assert (
        "1 job" in site.machine.show(UNIT, "StatusText")
        and site.machine.systemctl("is-enabled", UNIT).stdout.strip() == "enabled"
    )
    assert site.machine.path("/var/lib/syncd").stat().st_mode & 0o777 == 0o700


def test_a_frozen_daemon_is_killed_by_the_watchdog_and_started_again(site: Site) -> None:
    site.drop_in(UNIT, "60-test", "[Service]\nWatchdogSec=2\nRestartSec=0\n")
    site.install()
    site.until_text("/srv/web/nginx.conf", "one\n")
    os.kill(main_pid(site), signal.SIGSTOP)
    until(
        "it was started again",
        lambda: (
            site.machine.show(UNIT, "NRestarts") != "0"
            and site.machine.show(UNIT, "ActiveState") == "active"
        ),
    )
    assert "Watchdog timeout" in site.journal(UNIT)
    site.repo.commit({"nginx/nginx.conf": "two\n"})
    site.until_text("/srv/web/nginx.conf", "two\n")


def test_a_reload_takes_a_new_job_and_refuses_a_broken_configuration_aloud(site: Site) -> None:
    other = {**site.jobs["web"], "paths": [{"from": "nginx/", "to": "/srv/other/"}]}
    site.jobs["other"] = other
    site.install()
    site.until_text("/srv/other/nginx.conf", "one\n")
    del site.jobs["other"]
    site.write()
    site.machine.systemctl("restart", UNIT)
    pid = site.machine.show(UNIT, "MainPID")
    site.repo.commit({"nginx/nginx.conf": "two\n"})
    site.until_text("/srv/web/nginx.conf", "two\n")
    assert site.text("/srv/other/nginx.conf") == "one\n"

    site.jobs["other"] = other
    site.write()
    site.machine.systemctl("reload", UNIT)
    site.until_text("/srv/other/nginx.conf", "two\n")

    site.machine.write(
        "/etc/syncd/config.yaml",
        (site.text("/etc/syncd/config.yaml") or "").replace("every: 1s", "every: 5 parsecs"),
    )
    assert site.machine.systemctl("reload", UNIT, check=False).returncode != 0
    assert "5 parsecs" in site.journal(UNIT) and site.machine.show(UNIT, "MainPID") == pid
    site.repo.commit({"nginx/nginx.conf": "three\n"})
    site.until_text("/srv/other/nginx.conf", "three\n")


def test_a_credential_that_is_missing_or_unreadable_is_named_in_the_journal(site: Site) -> None:
    site.install()
    for damage, words in (
        ("rm /etc/syncd/app.pem", "the credential app.pem is empty"),
        ("echo nonsense > /etc/syncd/app.pem", "this is no PEM private key"),
        ("rm /etc/syncd/app.pem; mkdir /etc/syncd/app.pem", "the credential app.pem is empty"),
    ):
        site.machine.run("sh", "-c", damage)
        site.forget_journal()
        assert site.machine.systemctl("restart", UNIT, check=False).returncode != 0
        until(
            "it has given up",
            lambda: site.machine.show(UNIT, "ActiveState") in ("failed", "inactive"),
        )
        said = site.journal(UNIT)
        assert words in said and "github.ops.private_key" in said, said


def writable(site: Site, unit: str, user: str) -> list[str]:
    """Which of the probed folders the unit's user can write in the unit's own view of the disk."""
    pid = site.machine.show(unit, "MainPID")
    probe = (
        'for folder; do touch "$folder/.probe" 2>/dev/null && rm "$folder/.probe" && echo '
        '"$folder"; done; true'
    )
    found = site.machine.run(
        "nsenter",
        "-t",
        pid,
        "-m",
        "--",
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        "sh",
        "-c",
        probe,
        "sh",
        *PROBED,
    )
    return found.stdout.split()


def test_what_the_drop_in_opens_suffices_and_a_job_outside_is_refused_with_what_to_do(
    site: Site,
) -> None:
    site.jobs["file"] = {
        **site.jobs["web"],
        "paths": [{"from": "nginx/nginx.conf", "to": "/srv/single/one.conf"}],
    }
    site.jobs["link"] = {
        **site.jobs["web"],
        "paths": [{"from": "nginx/", "to": "/srv/app/current/"}],
        "publish": "symlink",
    }
    site.install()
    for path in ("/srv/web/nginx.conf", "/srv/single/one.conf", "/srv/app/current/nginx.conf"):
        site.until_text(path, "one\n")
    site.machine.run("install", "-d", "-m", "0777", "/srv/outside")
    site.machine.run("chmod", "0777", "/srv")
    assert writable(site, UNIT, "syncd") == ["/srv/web", "/srv/web/sites", "/var/lib/syncd"]

    site.jobs["outside"] = {
        **site.jobs["web"],
        "paths": [{"from": "nginx/", "to": "/srv/outside/"}],
    }
    site.write()
    site.machine.systemctl("reload", UNIT)
    until("the job is refused", lambda: site.status().get("outside", {}).get("state") == "failing")
    error = site.status()["outside"]["error"]
    assert error["kind"] == "mirror" and "Read-only" in error["message"], error
    assert "syncd init --systemd" in site.journal(UNIT)
    assert site.machine.run("ls", "-A", "/srv/outside").stdout == ""
    site.repo.commit({"nginx/nginx.conf": "two\n"})
    site.until_text("/srv/web/nginx.conf", "two\n")  # the others go on
    site.install()
    site.until_text("/srv/outside/nginx.conf", "two\n")


def test_the_root_profile_opens_the_jobs_folder_and_no_other_either(site: Site) -> None:
    unit = "syncd-root.service"
    site.jobs = {"web": {**site.jobs["web"], "owner": "root:root"}}
    assert f"systemctl enable {unit}" in site.install()
    site.until_text("/srv/web/nginx.conf", "one\n")
    assert writable(site, unit, "root") == ["/srv/web", "/srv/web/sites", "/var/lib/syncd"]
    capabilities = next(
        line
        for line in Path(f"/proc/{main_pid(site, unit)}/status").read_text().splitlines()
        if line.startswith("CapEff")
    )
    assert int(capabilities.split()[1], 16) == 0


def test_files_given_to_another_user_and_hooks_of_another_get_what_they_need(site: Site) -> None:
    site.jobs["web"] |= {
        "owner": "www-data:www-data",
        "mode": "0600",
        "hook_user": "nobody",
        "validate": "test -s {staged}/srv/web/nginx.conf",
        "on_change": "id -un",
    }
    site.install()
    site.until_text("/srv/web/nginx.conf", "one\n")
    for text in ("two\n", "three\n"):
        site.repo.commit({"nginx/nginx.conf": text})
        site.until_text("/srv/web/nginx.conf", text)
    www = int(site.machine.run("id", "-u", "www-data").stdout)
    found = site.machine.path("/srv/web/nginx.conf").stat()
    assert found.st_uid == www and found.st_mode & 0o777 == 0o600
    until("nothing is owed", lambda: site.status("syncd-root.service")["web"]["state"] == "in_sync")
    state = site.machine.path("/var/lib/syncd")
    assert state.stat().st_mode & 0o777 == 0o711
    site.machine.systemctl("restart", "syncd-root.service")
    assert state.stat().st_mode & 0o777 == 0o711, "a start closes it for no hook that is running"


def test_a_sync_by_hand_as_somebody_else_is_refused_and_as_its_own_user_finds_the_credential(
    site: Site,
) -> None:
    site.install()
    site.until_text("/srv/web/nginx.conf", "one\n")
    refused = site.syncd("sync", check=False)
    assert refused.returncode == 1 and "sudo -u syncd syncd" in refused.stderr, refused.stderr
    own = site.machine.run(
        "setpriv",
        "--reuid=syncd",
        "--regid=syncd",
        "--init-groups",
        "env",
        "-u",
        "HOME",
        "syncd",
        "sync",
        check=False,
    )
    assert own.returncode in (0, 11), own.stderr
    assert site.machine.run("find", "/var/lib/syncd", "!", "-user", "syncd").stdout == ""


def test_a_stop_during_a_request_ends_at_once(site: Site) -> None:
    site.install()
    site.until_text("/srv/web/nginx.conf", "one\n")
    hanging = site.github.add_fault("head", hang(600), times=10)
    until("a request hangs", lambda: hanging.times < 10)
    site.machine.systemctl("stop", UNIT)  # later than TimeoutStopSec the result would be timeout
    assert site.machine.show(UNIT, "Result") == "success"


def test_the_listener_answers_on_a_socket_of_systemds_and_on_one_in_its_own_folder(
    site: Site,
) -> None:
    ask = "import http.client as h, socket as s, sys; c = h.HTTPConnection('127.0.0.1', 8480); "
    over_unix = "c.sock = s.socket(s.AF_UNIX); c.sock.connect('/run/syncd/web.sock'); "
    for listen, way in (("fd:page", ""), ("unix:/run/syncd/web.sock", over_unix)):
        site.extra["web"] = {"listen": listen}
        site.install()
        got = site.machine.run(
            "python3",
            "-c",
            f"{ask}{way}c.request('GET', '/healthz'); print(c.getresponse().status)",
            check=False,
        )
        assert got.stdout.strip() == "200", got.stderr + site.journal()[-3000:]
        site.machine.systemctl("stop", UNIT, "syncd-web.socket", check=False)


@pytest.mark.timeout(600)
def test_stopped_in_mid_write_it_leaves_the_old_or_the_new_set_and_nothing_else(
    site: Site,
) -> None:
    """Contract section 1, 2: no torn file, no leftover after the next start,
    a next run that converges.
    """
    chance = random.Random(20)
    files = {
        f"nginx/{folder}/{number}.conf": f"{folder}/{number} " * 3000
        for folder in "abc"
        for number in range(12)
    }
    site.repo.commit({**files, "nginx/nginx.conf": "0\n"})
    site.install()
    site.until_text("/srv/web/nginx.conf", "0\n")
    site.machine.write("/srv/web/mine", "not syncd's")
    before, after, caught = dict(files), dict(files), 0
    for turn in range(1, STOPS + 1):
        after = {name: f"{turn} " * 90_000 + name for name in files}
        site.repo.commit({**after, "nginx/nginx.conf": f"{turn}\n"})
        site.machine.run(
            "sh", "-c", f"systemctl start {UNIT} && systemctl kill --kill-whom=main -s USR1 {UNIT}"
        )  # every job starts now
        caught += wait_for_a_write(site.machine, chance, f"{turn}\n")
        ended = site.machine.run(
            "sh", "-c", f"systemctl stop {UNIT} && systemctl show -P Result {UNIT}"
        )
        assert ended.stdout.strip() == "success", site.journal(UNIT)[-3000:]
        found = {name: site.text(f"/srv/web/{name.removeprefix('nginx/')}") for name in files}
        torn = [
            name for name, content in found.items() if content not in (before[name], after[name])
        ]
        assert not torn, f"turn {turn}: {torn}"
        before = {name: content or "" for name, content in found.items()}
    given_up = site.journal(UNIT).count("stopped by a signal")
    site.machine.systemctl("start", UNIT)
    site.until_text("/srv/web/nginx.conf", f"{STOPS}\n")
    assert {name: site.text(f"/srv/web/{name.removeprefix('nginx/')}") for name in files} == after
    assert (
        site.machine.run("find", "/srv/web", "-name", ".syncd-*").stdout == ""
        and site.text("/srv/web/mine") == "not syncd's"
    )
    print(
        f"stopped {STOPS} times, {caught} of them with new files half made: {given_up} runs given "
        "up, the others finished what they had begun; 0 violations"
    )
    assert caught >= STOPS // 2, "too few stops met a write"


def wait_for_a_write(machine: Machine, chance: random.Random, done: str) -> bool:
    """Returns once some temporary files of syncd's stand in the mirror; False when the whole set
    was there before that was seen.
    """
    wanted, staged = chance.choice((1, 1, 5, 15, 30)), 0
    folders, last = (
        [machine.path(f"/srv/web/{folder}") for folder in "abc"],
        machine.path("/srv/web/nginx.conf"),
    )
    until_seconds = time.monotonic() + DEADLINE_SECONDS
    while staged < wanted:
        staged = sum(
            name.startswith(".syncd-") for folder in folders for name in os.listdir(folder)
        )
        if not staged and last.read_text() == done:
            return False
        assert time.monotonic() < until_seconds, "neither written nor being written"
    return True
