"""A commit can never change syncd's own configuration, keys, state, units,
credentials or program, whatever way leads to them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.config.load import load_config
from syncd.errors import ConfigError
from syncd.simulator.repository import Link
from tests.fault.mounts import privately, shell
from tests.support.machine import Machine, excluded, machine

CONFIGURATION, STATE, UNITS = "syncd's configuration", "syncd's own state", "syncd's systemd units"
CREDENTIALS, PROGRAM, PYTHON = (
    "syncd's systemd credentials",
    "syncd's program",
    "what syncd's Python imports",
)

# folder that is mirrored to, path in the commit, what it is, pattern that leaves it out
PLACES = [
    ("etc/", "syncd/config.yaml", CONFIGURATION, "/syncd/"),
    ("etc/", "syncd/more.yaml", CONFIGURATION, "/syncd/"),
    ("etc/", "keys/bot.token", "the secret of github.ops.token", "/keys/bot.token"),
    ("etc/", "keys/web", "the secret of web.password", "/keys/web"),
    ("etc/", "keys/hook", "the secret of web.webhook.secret", "/keys/hook"),
    ("etc/", "keys/notify", "the secret of notify.0.webhook", "/keys/notify"),
    ("etc/", "ssl/ghe.pem", "the certificate authority of github.ghe", "/ssl/ghe.pem"),
    ("etc/", "credstore/app.pem", "syncd's credential app.pem", "/credstore/app.pem"),
    (
        "etc/",
        "credstore.encrypted/app.pem",
        "syncd's credential app.pem",
        "/credstore.encrypted/app.pem",
    ),
    ("etc/", "systemd/system/syncd.service", UNITS, "/systemd/system/syncd*"),
    ("etc/", "systemd/system/syncd-sync.timer", UNITS, "/systemd/system/syncd*"),
    ("etc/", "systemd/system/syncd-root.service.d/x.conf", UNITS, "/systemd/system/syncd*"),
    ("etc/", "systemd/system/syncd-.service.d/x.conf", UNITS, "/systemd/system/syncd*"),
    ("etc/", "systemd/system/service.d/x.conf", UNITS, "/systemd/system/service.d/"),
    ("etc/", "systemd/system/timer.d/x.conf", UNITS, "/systemd/system/timer.d/"),
    ("etc/", "systemd/user/syncd.service", UNITS, "/systemd/user/syncd*"),
    ("etc/", "python3/sitecustomize.py", PYTHON, "/python3/sitecustomize.py"),
    ("var/lib/", "syncd/syncd.db", STATE, "/syncd/"),
    ("run/", "credentials/syncd.service/app.pem", CREDENTIALS, "/credentials/syncd*"),
    ("run/", "systemd/system/syncd.service.d/x.conf", UNITS, "/systemd/system/syncd*"),
    ("usr/", "bin/syncd", PROGRAM, "/bin/syncd"),
    ("usr/", "bin/python3", "a link on the way to syncd's Python", "/bin/python3"),
    ("usr/", "bin/python3.11", "syncd's Python", "/bin/python3.11"),
    ("usr/", "lib/python3/json.py", PYTHON, "/lib/python3/"),
    ("usr/", "lib/python3/site-packages/syncd/errors.py", PROGRAM, "/lib/python3/"),
    ("usr/", "lib/systemd/system/syncd.service", UNITS, "/lib/systemd/system/syncd*"),
    ("opt/", "venv/lib/x.py", PYTHON, "/venv/"),
    ("home/ops/", ".config/syncd/config.yaml", CONFIGURATION, "/.config/syncd/"),
    ("home/ops/", ".config/systemd/user/syncd.service", UNITS, "/.config/systemd/user/syncd*"),
]
# what only a run can see: it is refused when a commit has it, and no configuration has to exclude
# it beforehand
SEEN_BY_A_RUN = [
    ("usr/", "bin/yaml.py", PYTHON),
    ("usr/", "bin/yaml/__init__.py", PYTHON),
    ("usr/", "bin/pyvenv.cfg", "syncd's Python"),
    ("usr/", "lib/systemd/user/syncd.service", UNITS),
    ("etc/", "systemd/system.control/syncd.service.d/x.conf", UNITS),
    ("home/ops/", ".local/share/systemd/user/syncd.service", UNITS),
]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with machine(tmp_path, monkeypatch) as made:
        yield made


def mistake(host: Machine) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(host.config, os.environ)
    (problem,) = caught.value.problems
    assert problem.key == "jobs.nginx.paths[0].to" and problem.line
    return problem.text


@pytest.mark.parametrize(
    "spelling", ["{to}", "linked/{to}", "{TO}"], ids=["plain", "linked parent", "another case"]
)
@pytest.mark.parametrize(
    ("to", "path", "what", "pattern"), PLACES, ids=[f"{row[0]}{row[1]}" for row in PLACES]
)
def test_check_refuses_a_folder_rule_above_a_protected_place(
    host: Machine, to: str, path: str, what: str, pattern: str, spelling: str
) -> None:
    (host.root / "linked").symlink_to(host.root)
    host.mirror(spelling.format(to=to, TO=to.upper()))
    text = mistake(host)
    assert " is above " in text and pattern in excluded(text), text
    host.mirror(spelling.format(to=to, TO=to.upper()), include=[f"/{path}"], exclude=["*.md"])
    if path not in UNSEEN_BY_CHECK:
        text = mistake(host)
        assert f"is above {what} (" in text and excluded(text) == ["*.md", pattern], text
        host.mirror(
            spelling.format(to=to, TO=to.upper()), include=[f"/{path}"], exclude=excluded(text)
        )
    load_config(host.config, os.environ)


# with an include that names exactly this path: below a protected folder check can't know which
# names a commit has
UNSEEN_BY_CHECK = {
    "syncd/more.yaml",
    "systemd/system/syncd-sync.timer",
    "systemd/system/syncd-root.service.d/x.conf",
    "systemd/system/syncd-.service.d/x.conf",
    "systemd/system/service.d/x.conf",
    "systemd/system/timer.d/x.conf",
    "syncd/syncd.db",
    "credentials/syncd.service/app.pem",
    "systemd/system/syncd.service.d/x.conf",
    "lib/python3/json.py",
    "lib/python3/site-packages/syncd/errors.py",
    "venv/lib/x.py",
    ".config/syncd/config.yaml",
}


@pytest.mark.parametrize("to", ["etc/", "var/lib/", "run/", "usr/", "opt/", "home/ops/"])
def test_check_accepts_a_rule_with_the_exclude_line_of_its_message(host: Machine, to: str) -> None:
    host.mirror(to)
    host.mirror(to, exclude=excluded(mistake(host)))
    load_config(host.config, os.environ)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("/", "'/' would make the whole machine the mirror"),
        ("{root}/etc/ssl/../", "must be a plain path"),
        ("{root}//etc/", "must be a plain path"),
        ("{root}/etc/syncd/", "is syncd's configuration ("),
        ("{root}/ETC/Syncd/hooks/", "is syncd's configuration ("),
        ("{root}/var/lib/syncd/", "is syncd's own state ("),
        ("{root}/linked/syncd/x/", "is syncd's configuration ("),
        ("{root}/direct/", "is syncd's configuration ("),
        ("{root}/etc/systemd/system/syncd.service.d/", "is syncd's systemd units ("),
        ("{root}/etc/systemd/system/service.d/", "is syncd's systemd units ("),
        ("{root}/usr/lib/python3/site-packages/", "is what syncd's Python imports ("),
        ("{root}/opt/venv/bin/", "is what syncd's Python imports ("),
        ("{root}/home/ops/.config/syncd/", "is syncd's configuration ("),
    ],
)
def test_check_refuses_a_destination_inside_a_protected_place(
    host: Machine, to: str, said: str
) -> None:
    (host.root / "linked").symlink_to(host.root / "etc")
    (host.root / "direct").symlink_to(host.root / "etc/syncd")
    host.write_config(paths=[{"from": "/", "to": to.format(root=host.root)}])
    assert said in mistake(host)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("etc/keys/bot.token", "is the secret of github.ops.token"),
        ("etc/KEYS/bot.token", "is the secret of github.ops.token"),
        ("linked/keys/bot.token", "is the secret of github.ops.token"),
        ("etc/syncd/config.yaml", "is syncd's configuration"),
        ("etc/ssl/ghe.pem", "is the certificate authority of github.ghe"),
        ("etc/systemd/system/syncd.service", "is syncd's systemd units"),
        ("usr/bin/syncd", "is syncd's program"),
        ("usr/bin/python3", "is a link on the way to syncd's Python"),
        ("usr/bin/yaml.py", "is what syncd's Python imports"),
    ],
)
def test_check_refuses_a_file_rule_onto_a_protected_file(host: Machine, to: str, said: str) -> None:
    (host.root / "linked").symlink_to(host.root / "etc")
    host.write_config(paths=[{"from": "motd", "to": f"{host.root}/{to}"}])
    assert said in mistake(host)


def test_check_protects_each_link_on_the_way_to_a_key(host: Machine) -> None:
    (host.root / "etc/keys/bot.token").unlink()
    (host.root / "elsewhere/token-2").write_text("x")
    (host.root / "etc/keys/current").symlink_to(host.root / "elsewhere/token-2")
    (host.root / "etc/keys/bot.token").symlink_to("current")
    for to, said in (
        ("etc/keys/bot.token", "is a link on the way to the secret of github.ops.token"),
        ("etc/keys/current", "is a link on the way to the secret of github.ops.token"),
        ("elsewhere/token-2", "is the secret of github.ops.token"),
    ):
        host.write_config(paths=[{"from": "motd", "to": f"{host.root}/{to}"}])
        assert said in mistake(host)


def test_check_leaves_rules_alone_that_reach_nothing_protected(host: Machine) -> None:
    for to in (
        "etc/nginx/",
        "srv/",
        "var/lib/app/",
        "usr/share/app/",
        "usr/local/bin/",
        "etc/systemd/network/",
    ):
        host.mirror(to)
        load_config(host.config, os.environ)
    for patterns in ({"include": ["/nginx/**"]}, {"include": ["*.vcl"]}):
        host.mirror("etc/nginx/", **patterns)
        load_config(host.config, os.environ)


@pytest.mark.parametrize(
    ("to", "path", "what"),
    [
        # every third of them at a push, the others in the root lane
        pytest.param(
            *row[:3], id=f"{row[0]}{row[1]}", marks=[pytest.mark.root] if number % 3 else []
        )
        for number, row in enumerate([*PLACES, *SEEN_BY_A_RUN])
    ],
)
def test_sync_refuses_a_protected_destination_behind_a_link_made_after_check(
    host: Machine, to: str, path: str, what: str
) -> None:
    host.mirror(f"late/{to}")
    assert host.sync().code == 0
    before = {
        file: file.read_bytes()
        for file in (host.root / to).rglob("*")
        if file.is_file() and not file.is_relative_to(host.state)
    }
    host.relink()
    host.repo.commit({path: "hostile\n", "motd": "hello again\n"}, "take over")
    found = host.sync()
    assert found.code == 1 and found.job["error"]["kind"] == "mirror"
    assert (
        f"{path} of acme/infra would be written to {host.root}/late/{to}{path}, which is {what}"
        in found.job["error"]["message"]
    )
    assert "a commit never changes that, and nothing was changed" in found.job["error"]["message"]
    assert {file: file.read_bytes() for file in before} == before and not (
        host.root / to / "motd"
    ).exists()

    (
        host.root / "late"
        # where check can see that nothing is above, and the run refuses: the line of the message is
        # the way out
    ).unlink()
    (host.root / "late").symlink_to(host.root / "elsewhere")
    host.mirror(f"late/{to}", exclude=excluded(found.job["error"]["hint"]))
    assert host.sync().code == 0
    host.relink()
    host.repo.commit({"motd": "and again\n"}, "x")
    found = host.sync()
    assert found.code == 0 and (host.root / to / "motd").read_text() == "and again\n"


@pytest.mark.parametrize(
    "path",
    [
        "syncd/more.yaml",
        "SYNCD/Config.yaml",
        "systemd/system/syncd-sync.timer",
        "systemd/system/Service.d/x.conf",
    ],
)
def test_plan_and_sync_refuse_what_an_include_hid_from_check(host: Machine, path: str) -> None:
    host.repo.commit({path: "hostile\n"}, "take over")
    host.mirror("etc/", include=[f"/{path}"])
    for found in (host.plan(), host.sync()):
        assert (
            found.code == 1
            and f"{path} of acme/infra would be written to {host.root}/etc/{path}"
            in found.job["error"]["message"]
        )
    assert not (host.root / "etc" / path).exists()
    host.mirror("etc/", include=["/motd", f"/{path}"], exclude=excluded(found.job["error"]["hint"]))
    assert host.sync().code == 0 and (host.root / "etc/motd").exists()


def test_a_commit_that_replaces_the_configuration_leaves_it_byte_identical(host: Machine) -> None:
    host.mirror("late/etc/")
    assert host.sync().code == 0
    before = host.config.read_bytes()
    host.relink()
    host.repo.commit(
        {"syncd/config.yaml": "version: 1\njobs: {evil: {on_change: touch /tmp/owned}}\n"},
        "take over",
    )
    found = host.sync()
    assert found.code == 1 and host.config.read_bytes() == before
    assert found.job["error"] == {
        "kind": "mirror",
        "id": "mirror/protected-path",
        "message": "syncd/config.yaml of acme/infra would be written to "
        f"{host.root}/late/etc/syncd/config.yaml, which is syncd's configuration "
        f"({host.root}/etc/syncd/config.yaml); a commit never changes that, and nothing was "
        "changed",
        "hint": (
            f"at the path of nginx with to: {host.root}/late/etc/ write exclude: "
            '["/syncd/config.yaml"]'
        ),
    }
    host.mirror("etc/")
    refused = host.call("sync")
    assert (
        refused.code == 2
        and f"'{host.root}/etc/' is above {CONFIGURATION} ({host.root}/etc/syncd), " in refused.err
    )


@pytest.mark.parametrize("place", ["syncd.service.d", "service.d"])
def test_sync_refuses_a_link_in_place_of_a_drop_in_folder(host: Machine, place: str) -> None:
    host.repo.commit(
        {"mine/x.conf": "[Service]\n", f"systemd/system/{place}": Link("../../mine")}, "take over"
    )
    host.mirror(
        "etc/",
        include=[f"/systemd/system/{place}", "/mine/*"],
        exclude=["/syncd/", "/systemd/system/*/"],
    )
    found = host.sync()
    assert (
        found.code == 1
        and f"{host.root}/etc/systemd/system/{place}, which is {UNITS}"
        in found.job["error"]["message"]
    )
    assert not os.path.lexists(host.root / "etc/systemd/system" / place)


def test_sync_refuses_a_link_or_file_above_a_protected_place(host: Machine) -> None:
    """Where the folder of units does not exist yet, a link there would bring one along."""
    host.repo.commit(
        {"mine/user/syncd.service": "[Service]\n", ".config/systemd": Link("../mine")}, "take over"
    )
    host.mirror(
        "home/ops/", include=["/.config/systemd", "/mine/**"], exclude=["/.config/systemd/*/"]
    )
    found = host.sync()
    assert (
        found.code == 1
        and f"{host.root}/home/ops/.config/systemd, which is above {UNITS}"
        in found.job["error"]["message"]
    )


def test_publish_symlink_never_replaces_a_link_above_a_protected_place(host: Machine) -> None:
    host.write_config(publish="symlink", paths=[{"from": "/", "to": f"{host.root}/etc/"}])
    with pytest.raises(ConfigError, match=r"is in .*, which has to be the link's own folder"):
        load_config(host.config, os.environ)
    host.write_config(paths=[{"from": "/", "to": f"{host.root}/late/app/current/"}])
    assert host.sync().code == 0
    (host.root / "app").mkdir()
    (host.root / "app/current").symlink_to(host.root / "etc")
    host.canary.spared.add(host.root / "etc/keys/bot.token")
    host.identities["ops"]["token"]["file"] = f"{host.root}/app/current/keys/bot.token"
    host.write()
    with pytest.raises(ConfigError, match=r"is in .*, which has to be the link's own folder"):
        host.write_config(paths=[{"from": "/", "to": f"{host.root}/app/current/"}])
        load_config(host.config, os.environ)
    host.write_config(paths=[{"from": "/", "to": f"{host.root}/late/app/current/"}])
    assert host.sync().code == 0
    host.relink()
    host.repo.commit({"motd": "two\n"}, "x")
    found = host.sync()
    assert (
        found.code == 1
        and "a link on the way to the secret of github.ops.token" in found.job["error"]["message"]
    )
    assert os.readlink(host.root / "app/current") == f"{host.root}/etc"


@pytest.mark.parametrize("meanwhile", ["dropped", "edited and dropped", "excluded"])
def test_a_file_that_an_earlier_version_wrote_on_a_protected_place_stays_and_is_forgotten(
    host: Machine, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    host.mirror("late/etc/")
    host.repo.commit({"syncd/more.yaml": "written\n", "motd": "one\n"}, "x")
    assert host.sync().code == 0
    (host.root / "elsewhere/etc/syncd/more.yaml").rename(
        host.root / "etc/syncd/more.yaml"
    )  # as if it had been written there
    (host.root / "elsewhere/etc/motd").rename(host.root / "etc/motd")
    host.relink()
    if meanwhile == "edited and dropped":
        (host.root / "etc/syncd/more.yaml").write_text("edited\n")
    content = (host.root / "etc/syncd/more.yaml").read_bytes()
    if meanwhile == "excluded":
        host.mirror("etc/", include=["/motd", "/syncd/more.yaml"], exclude=["/syncd/more.yaml"])
        host.mirror("late/etc/", include=["/motd"])
    else:
        host.repo.commit({"syncd/more.yaml": None}, "x")
    found = host.call("sync")
    assert (
        found.code == 0
        and f"{host.root}/late/etc/syncd/more.yaml is {CONFIGURATION}: it stays as it is"
        in found.out
    )
    assert (host.root / "etc/syncd/more.yaml").read_bytes() == content
    again = host.call("sync")
    assert again.code == 0 and "it stays as it is" not in again.out
    assert (host.root / "etc/syncd/more.yaml").read_bytes() == content


@pytest.mark.root
@pytest.mark.parametrize(
    ("mounted", "path"),
    [("etc", "syncd/config.yaml"), ("etc/syncd", "config.yaml"), ("", "etc/syncd/more.yaml")],
)
def test_a_bind_mount_is_another_spelling_at_check_and_in_a_run(
    host: Machine, mounted: str, path: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    host.repo.commit({path: "hostile\n"}, "take over")
    (host.root / "srv/bound").mkdir(parents=True)

    def scene() -> list[object]:
        host.mirror("late/srv/bound/")
        first = host.sync()
        shell("mount", "--bind", host.root / mounted, host.root / "srv/bound")
        host.relink()
        before = host.config.read_bytes()
        run = host.sync()
        same = host.config.read_bytes() == before
        host.mirror("srv/bound/", include=[f"/{path}"] if mounted == "etc/syncd" else [])
        check = host.call("check", "--without-secrets")
        return [first.code, run.code, run.job["error"]["message"], same, check.code, check.err]

    first, run, message, same, check, said = privately(scene, 60)
    assert (first, run, same, check) == (0, 1, True, 2), (message, said)
    assert (
        f"{path} of acme/infra would be written to {host.root}/late/srv/bound/{path}, which is "
        f"{CONFIGURATION}"
    ) in str(message)
    assert CONFIGURATION in str(said)
