"""The drop-in opens what the configuration's own jobs need, says why beside each line, and nothing
else; whoever needs root is named.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.config.commands import hook
from syncd.config.load import load_config
from syncd.config.model import Config, Web
from syncd.systemd_unit import dropin
from syncd.systemd_unit.hook_requirements import commands
from syncd.systemd_unit.unit_text import clean

OWNERS = {
    "/": "root",
    "/etc": "root",
    "/srv": "root",
    "/var": "root",
    "/home": "root",
    "/etc/syncd": "root",
}


def config(
    tmp_path: Path,
    *paths: dict[str, Any],
    identity: dict[str, Any] | None = None,
    state: str | None = None,
    extra: dict[str, Any] | None = None,
    **job: Any,
) -> Config:
    value: dict[str, Any] = {
        "version": "1",
        "github": {"ops": identity or {"anonymous": True}},
        "jobs": {"nginx": {"repo": "acme/infra", "every": "5m", "paths": list(paths), **job}},
        **(extra or {}),
    }
    if state:
        value["state"] = state
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(value))
    return load_config(
        tmp_path / "config.yaml", {"HOME": str(tmp_path), "STATE_DIRECTORY": "/var/lib/syncd"}
    )


def judged(
    tmp_path: Path,
    *paths: dict[str, Any],
    owners: dict[str, str] | None = None,
    timer: bool = False,
    **given: Any,
) -> dropin.DropIn:
    known = OWNERS | (owners or {})
    return dropin.build(config(tmp_path, *paths, **given), dropin.SystemFacts(known.get), timer)


def texts(made: dropin.DropIn, start: str = "") -> list[str]:
    own = ("ExecStart=", "ExecReload=")  # the configuration of a test is never in its usual place
    return [
        text for _, text, _ in made.lines if text.startswith(start) and not text.startswith(own)
    ]


def folder(to: str) -> dict[str, str]:
    return {"from": "nginx/", "to": to}


def test_a_folder_is_opened_itself_and_nothing_around_it(tmp_path: Path) -> None:
    made = judged(tmp_path, folder("/srv/site/"), owners={"/srv/site": "syncd"})
    assert (
        made.unit == "syncd.service"
        and texts(made) == ["ReadWritePaths=-/srv/site"]
        and not made.steps
    )


def test_a_single_file_needs_its_folder_for_the_new_one_is_made_there(tmp_path: Path) -> None:
    made = judged(tmp_path, {"from": "a.pem", "to": "/srv/tls/a.pem"}, owners={"/srv/tls": "syncd"})
    assert texts(made) == ["ReadWritePaths=-/srv/tls"]
    assert "a.pem" in next(
        reason for _, text, reason in made.lines if text.startswith("ReadWritePaths")
    )


def test_a_published_link_needs_the_folder_that_holds_it_and_its_trees(tmp_path: Path) -> None:
    made = judged(
        tmp_path, folder("/srv/app/current/"), owners={"/srv/app": "syncd"}, publish="symlink"
    )
    assert texts(made) == ["ReadWritePaths=-/srv/app"]


def test_a_folder_inside_another_is_not_said_twice(tmp_path: Path) -> None:
    made = judged(
        tmp_path,
        folder("/srv/a/"),
        {"from": "x/", "to": "/srv/a/b/"},
        {"from": "y/", "to": "/srv/ab/"},
        owners={"/srv/a": "syncd", "/srv/ab": "syncd"},
    )
    assert texts(made) == ["ReadWritePaths=-/srv/a", "ReadWritePaths=-/srv/ab"]


def test_a_folder_that_does_not_stand_is_made_before_the_service_starts(tmp_path: Path) -> None:
    made = judged(tmp_path, folder("/srv/new place/"), dir_mode="0750")
    assert made.steps == ["install -d -m 0750 -o syncd -g syncd '/srv/new place'"] and texts(
        made
    ) == ['ReadWritePaths=-"/srv/new place"']


def test_a_folder_of_another_user_is_given_to_syncd(tmp_path: Path) -> None:
    assert judged(tmp_path, folder("/srv/site/"), owners={"/srv/site": "root"}).steps == [
        "chown syncd: /srv/site"
    ]


@pytest.mark.parametrize("to", ["/etc/nginx/", "/usr/share/x/", "/boot/x/", "/etc/new/deep/"])
def test_a_system_folder_needs_the_root_profile_and_is_named(tmp_path: Path, to: str) -> None:
    made = judged(
        tmp_path, folder(to), owners={"/etc/nginx": "root", "/usr": "root", "/boot": "root"}
    )
    assert (
        made.unit == "syncd-root.service"
        and made.why_root == [f"{to.rstrip('/')} belongs to root"]
        and not texts(made, "Capability")
    )


def test_a_system_folder_that_syncd_owns_needs_no_root(tmp_path: Path) -> None:
    assert (
        judged(
            tmp_path, folder("/etc/prometheus/rules/"), owners={"/etc/prometheus/rules": "syncd"}
        ).unit
        == "syncd.service"
    )


def test_giving_files_away_needs_root_and_three_capabilities_and_giving_them_to_root_needs_none(
    tmp_path: Path,
) -> None:
    given = judged(
        tmp_path, folder("/srv/a/"), owners={"/srv/a": "root"}, owner="www-data:www-data"
    )
    assert given.unit == "syncd-root.service" and texts(given, "Capability") == [
        f"CapabilityBoundingSet={one}" for one in ("CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE")
    ]
    assert not texts(
        judged(tmp_path, folder("/srv/a/"), owners={"/srv/a": "root"}, owner="root:root"),
        "Capability",
    )


def test_a_folder_of_another_user_under_root_needs_one_capability(tmp_path: Path) -> None:
    made = judged(
        tmp_path,
        folder("/srv/a/"),
        {"from": "b/", "to": "/etc/b/"},
        owners={"/srv/a": "www-data", "/etc/b": "root"},
    )
    assert texts(made, "Capability") == ["CapabilityBoundingSet=CAP_DAC_OVERRIDE"]


def test_a_hook_user_needs_root_and_what_changing_users_takes(tmp_path: Path) -> None:
    made = judged(
        tmp_path, folder("/srv/a/"), owners={"/srv/a": "root"}, validate="true", hook_user="nobody"
    )
    assert made.unit == "syncd-root.service" and {
        "CapabilityBoundingSet=CAP_SETUID",
        "CapabilityBoundingSet=CAP_KILL",
        "SystemCallFilter=@setuid",
    } <= set(texts(made))


def test_a_reload_by_systemctl_needs_root_and_nothing_more(tmp_path: Path) -> None:
    made = judged(
        tmp_path, folder("/srv/a/"), owners={"/srv/a": "root"}, on_change="systemctl reload caddy"
    )
    assert made.why_root == [
        "nginx: on_change runs systemctl, which systemd lets only root do"
    ] and texts(made) == ["ReadWritePaths=-/srv/a"]
    assert (
        judged(
            tmp_path,
            folder("/srv/a/"),
            owners={"/srv/a": "syncd"},
            on_change="systemctl --user reload x",
        ).unit
        == "syncd.service"
    )


def test_the_contracts_nginx_job_gets_what_nginx_itself_opens(tmp_path: Path) -> None:
    made = judged(
        tmp_path,
        folder("/etc/nginx/"),
        {
            "from": "certs/public.pem",
            "to": "/etc/ssl/acme.pem",
            "owner": "root:root",
            "mode": "0644",
        },
        owners={"/etc/nginx": "root", "/etc/ssl": "root"},
        validate="nginx -t -c {staged}/etc/nginx/nginx.conf",
        on_change="systemctl reload nginx",
        owner="root:root",
        identity={"app_id": "1", "private_key": {"credential": "app.pem"}},
    )
    assert made.unit == "syncd-root.service"
    assert texts(made, "ReadWritePaths") == [
        f"ReadWritePaths=-{one}"
        for one in ("/run", "/var/log/nginx", "/var/lib/nginx", "/etc/nginx", "/etc/ssl")
    ]
    assert texts(made).index("ReadOnlyPaths=") < texts(made).index("ReadWritePaths=-/run")
    assert texts(made, "LoadCredential") == ["LoadCredential=app.pem:/etc/syncd/app.pem"] and texts(
        made, "SetCredential"
    ) == ["SetCredential=app.pem:\\n"]
    assert {"CapabilityBoundingSet=CAP_NET_BIND_SERVICE"} < set(
        texts(made, "Capability")
    ) and "CapabilityBoundingSet=CAP_FOWNER" not in texts(made)


def test_homes_and_temporary_folders_are_reached_without_opening_the_others(tmp_path: Path) -> None:
    made = judged(tmp_path, folder("/home/alice/site/"), owners={"/home/alice/site": "syncd"})
    assert texts(made) == ["ProtectHome=tmpfs", "BindPaths=-/home/alice/site"]
    assert texts(judged(tmp_path, folder("/var/tmp/x/"), owners={"/var/tmp/x": "syncd"})) == [
        "ReadWritePaths=-/var/tmp/x",
        "PrivateTmp=no",
    ]


def test_a_folder_that_holds_syncds_own_configuration_keeps_that_closed(tmp_path: Path) -> None:
    made = judged(tmp_path, {"from": "motd", "to": "/etc/motd"})
    assert texts(made) == ["ReadWritePaths=-/etc", "ReadOnlyPaths=-/etc/syncd"] and any(
        "as a whole" in one for one in made.warnings
    )


def test_secrets_of_every_kind_have_their_line_or_remark(tmp_path: Path) -> None:
    from_env = judged(
        tmp_path,
        folder("/srv/a/"),
        owners={"/srv/a": "syncd"},
        identity={"token": {"env": "GH_TOKEN"}},
    )
    assert texts(from_env, "Env") == [
        "EnvironmentFile=-/etc/syncd/environment"
    ] and "GH_TOKEN" in dropin.render(from_env, "/x")
    from_file = judged(
        tmp_path,
        folder("/srv/a/"),
        owners={"/srv/a": "syncd", "/etc/syncd/t": "root"},
        identity={"token": {"file": "/etc/syncd/t"}},
    )
    assert "credential: t" in from_file.warnings[0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"hook_user": "nobody", "validate": "true"}, ["StateDirectoryMode=0711"]),
        ({"extra": {"state_group": "adm"}}, ["StateDirectoryMode=0750"]),
        (
            {"hook_user": "nobody", "validate": "true", "extra": {"state_group": "adm"}},
            ["StateDirectoryMode=0751"],
        ),
        ({"validate": "true"}, []),
    ],
)
def test_a_start_of_the_unit_leaves_the_state_as_hooks_and_its_group_need_it(
    tmp_path: Path, given: dict[str, Any], said: list[str]
) -> None:
    made = judged(tmp_path, folder("/srv/a/"), owners={"/srv/a": "root"}, **given)
    assert texts(made, "StateDirectoryMode") == said


@pytest.mark.parametrize("owner", ["syncd", "root"], ids=["syncd.service", "syncd-root.service"])
def test_the_unit_may_share_the_state_with_the_state_group(tmp_path: Path, owner: str) -> None:
    owners, extra = {"/etc": owner, "/etc/a": owner}, {"state_group": "adm"}
    made = judged(tmp_path, folder("/etc/a/"), owners=owners, extra=extra)
    assert made.as_root is (owner == "root")
    assert texts(made, "SupplementaryGroups") == ["SupplementaryGroups=adm"]
    assert texts(made, "SystemCallFilter") == ["SystemCallFilter=@chown"]


def test_the_state_elsewhere_is_given_to_the_unit(tmp_path: Path) -> None:
    inside = judged(
        tmp_path, folder("/srv/a/"), owners={"/srv/a": "syncd"}, state="/var/lib/mirrors/syncd"
    )
    assert texts(inside, "State") == ["StateDirectory=", "StateDirectory=mirrors/syncd"]
    outside = judged(tmp_path, folder("/srv/a/"), owners={"/srv/a": "syncd"}, state="/data/syncd")
    assert "ReadWritePaths=-/data/syncd" in texts(outside) and outside.steps == [
        "install -d -m 0700 -o syncd -g syncd /data/syncd"
    ]


def test_the_timers_unit_becomes_root_in_its_drop_in(tmp_path: Path) -> None:
    made = judged(tmp_path, folder("/etc/nginx/"), owners={"/etc/nginx": "root"}, timer=True)
    assert made.unit == "syncd-sync.service" and {
        "User=root",
        "Group=root",
        "SystemCallFilter=@chown",
    } <= set(texts(made))
    assert any(text.endswith(" sync") for _, text, _ in made.lines) and not any(
        text.startswith("ExecReload") for _, text, _ in made.lines
    )


@pytest.mark.parametrize(
    ("listen", "wanted"),
    [
        ("127.0.0.1:8480", []),
        (
            "127.0.0.1:443",
            [
                "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
                "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            ],
        ),
        ("unix:/run/syncd/web.sock", ["RuntimeDirectory=syncd", "RuntimeDirectoryMode=0755"]),
        ("unix:/srv/sockets/web", ["ReadWritePaths=-/srv/sockets"]),
        ("fd:web", ["Sockets=syncd-web.socket"]),
    ],
)
def test_a_listener_gets_its_place(tmp_path: Path, listen: str, wanted: list[str]) -> None:
    from msgspec.structs import replace

    plain = config(tmp_path, folder("/srv/a/"))
    made = dropin.build(
        replace(plain, web=Web(listen)), dropin.SystemFacts((OWNERS | {"/srv/a": "syncd"}).get)
    )
    assert texts(made) == ["ReadWritePaths=-/srv/a", *wanted]


def test_every_line_of_the_file_has_its_reason_above_it_and_no_name_can_end_a_comment(
    tmp_path: Path,
) -> None:
    made = judged(tmp_path, folder('/srv/a%b "c"/'), owner="www-data")
    lines = dropin.render(made, tmp_path / "config.yaml").splitlines()
    assert lines[0].startswith("# syncd:")
    for above, line in pairwise(lines):
        assert line.startswith(("#", "[")) or not line or above.startswith("# "), line
    assert 'ReadWritePaths=-"/srv/a%%b \\"c\\""' in lines and clean("a\nb\\") == "a?b?"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("nginx -t", [["nginx", "-t"]]),
        (
            {"shell": "systemctl reload nginx && logger 'a; b'"},
            [["systemctl", "reload", "nginx"], ["logger", "'a"], ["b'"]],
        ),
        (
            ["sh", "-c", "if nginx -t; then X=1 exec systemctl reload nginx; fi"],
            [["nginx", "-t"], ["systemctl", "reload", "nginx"], ["fi"]],
        ),
    ],
)
def test_the_commands_of_a_hook_are_read_without_a_shell(
    value: Any, words: list[list[str]]
) -> None:
    assert list(commands(hook(value))) == words
