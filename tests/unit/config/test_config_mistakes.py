"""Broken configurations, each with where the mistake is shown and what is said of it."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest

from syncd.config import yaml_reader
from syncd.config.load import load_config
from syncd.config.render_problems import render
from syncd.errors import ConfigError

SECONDS_AT_MOST = 3.0  # one on a quiet machine
BASE = """version: 1
github:
  ops: {app_id: 12345, private_key: /etc/syncd/app.pem}
jobs:
  nginx:
    repo: acme/infra
    every: 5m
    paths:
      - {from: nginx/, to: /srv/nginx/}
"""


def swap(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


def job(line: str) -> str:
    return swap("    every: 5m\n", f"    every: 5m\n    {line}\n")


def path(text: str) -> str:
    return swap("{from: nginx/, to: /srv/nginx/}", text)


# what is wrong -> (text, line, column, key, part of what is said)
MISTAKES: dict[str, tuple[str, int, int, str, str]] = {
    "empty file": ("", 1, 1, "", "is empty"),
    "only comments": ("# nothing\n", 1, 1, "", "is empty"),
    "a list": ("- a\n- b\n", 1, 1, "", "must be keys and values"),
    "one word": ("hello", 1, 1, "", "must be keys and values"),
    "no version": (swap("version: 1\n", ""), 1, 1, "version", "'version' is required"),
    "another version": (
        swap("version: 1", "version: 2"),
        1,
        10,
        "version",
        "'2' is not a whole number from 1 to 1",
    ),
    "unknown top key": (BASE + "workerz: 3\n", 10, 1, "workerz", "did you mean 'workers'?"),
    "unknown job key": (job("evry: 5m"), 8, 5, "jobs.nginx.evry", "did you mean 'every'?"),
    "unknown identity key": (
        swap("private_key:", "private_kee:"),
        3,
        24,
        "github.ops.private_kee",
        "did you mean 'private_key'?",
    ),
    "unknown path key": (
        path("{from: nginx/, to: /srv/nginx/, inclde: [a]}"),
        9,
        41,
        "jobs.nginx.paths[0].inclde",
        "did you mean 'include'?",
    ),
    "unknown limit": (
        job("limits: {deletes: 5}"),
        8,
        14,
        "jobs.nginx.limits.deletes",
        "did you mean 'delete'?",
    ),
    "a link right below /": (
        job("publish: symlink").replace("/srv/nginx/", "/srv/"),
        10,
        28,
        "jobs.nginx.paths[0].to",
        "would make / a folder of syncd's own",
    ),
    "a link beside the state": (
        job("publish: symlink") + "state: /srv/state\n",
        10,
        28,
        "jobs.nginx.paths[0].to",
        "(/srv/state) is in /srv, which has to be the link's own folder",
    ),
    "two links in one folder": (
        job("publish: symlink")
        + (
            "  other: {repo: a/b, every: 5m, publish: symlink, paths: [{from: x/, to: "
            "/srv/other/}]}\n"
        ),
        11,
        74,
        "jobs.other.paths[0].to",
        "is in /srv, which is the own folder of jobs.nginx (publish: symlink)",
    ),
    "files in the folder of a link": (
        job("publish: symlink")
        + "  other: {repo: a/b, every: 5m, paths: [{from: x, to: /srv/deep/x}]}\n",
        11,
        55,
        "jobs.other.paths[0].to",
        "is in /srv, which is the own folder of jobs.nginx",
    ),
    "a key twice": (
        job("repo: acme/other"),
        8,
        5,
        "jobs.nginx.repo",
        "is given twice; the first is in line 6",
    ),
    "a job twice": (BASE + "  nginx:\n    repo: a/b\n", 10, 3, "jobs.nginx", "is given twice"),
    "tabs": ("version: 1\ngithub:\n\tops: 1\n", 3, 1, "", "indent with spaces, not tabs"),
    "an open quote": (BASE + 'web: "open\n', 11, 1, "", "is not YAML"),
    "an open bracket": (BASE + "web: [\n", 11, 1, "", "is not YAML"),
    "an unknown anchor": (swap("/etc/syncd/app.pem", "*nowhere"), 3, 37, "", "is not YAML"),
    "a python tag": (
        swap("5m", "!!python/object/apply:os.system [id]"),
        7,
        5,
        "jobs.nginx.every",
        "duration",
    ),
    "an own tag": (swap("5m", "!vault x"), 7, 5, "jobs.nginx.every", "means nothing here"),
    "parsecs": (
        swap("5m", "5 parsecs"),
        7,
        12,
        "jobs.nginx.every",
        "'5 parsecs' is not a duration; write it like 30s, 5m, 1h30m or 1d",
    ),
    "a window on no weekday": (
        job('apply: {windows: [{start: "0 22 * * mom", for: 4h}]}'),
        8,
        31,
        "jobs.nginx.apply.windows[0].start",
        "'mom' is not a weekday",
    ),
    "a window without an end": (
        job('apply: {windows: [{start: "0 22 * * *"}]}'),
        8,
        23,
        "jobs.nginx.apply.windows[0]",
        "'for' is required",
    ),
    "a misspelt key of a window": (
        job('apply: {windows: [{start: "0 22 * * *", for: 4h, starts: x}]}'),
        8,
        54,
        "jobs.nginx.apply.windows[0].starts",
        "did you mean 'start'?",
    ),
    "no windows": (
        job("apply: {windows: []}"),
        8,
        13,
        "jobs.nginx.apply.windows",
        "must not be empty",
    ),
    "freezes": (
        job("apply: {freezes: []}"),
        8,
        13,
        "jobs.nginx.apply.freezes",
        "did you mean 'freeze'?",
    ),
    "a freeze to no date": (
        job("apply: {freeze: [{from: 2026-12-20, to: 2026-02-30}]}"),
        8,
        45,
        "jobs.nginx.apply.freeze[0].to",
        "'2026-02-30' is not a date or a time; write it like 2026-12-20 or",
    ),
    "a freeze that ends before it begins": (
        job("apply: {freeze: [{from: 2026-12-20, to: 2026-12-19}]}"),
        8,
        45,
        "jobs.nginx.apply.freeze[0].to",
        "'to' comes after 'from'",
    ),
    "a bare number of time": (
        swap("5m", "300"),
        7,
        12,
        "jobs.nginx.every",
        "'300' is not a duration",
    ),
    "a negative time": (swap("5m", "-5m"), 7, 12, "jobs.nginx.every", "is not a duration"),
    "no time": (swap("5m", "0s"), 7, 12, "jobs.nginx.every", "is no time at all"),
    "years": (swap("5m", "999d"), 7, 12, "jobs.nginx.every", "longer than a year"),
    "neither every nor cron": (
        swap("    every: 5m\n", ""),
        5,
        3,
        "jobs.nginx",
        "the job needs 'every' or 'cron'",
    ),
    "both every and cron": (
        job("cron: '* * * * *'"),
        5,
        3,
        "jobs.nginx",
        "both 'every' and 'cron'",
    ),
    "four fields": (swap("every: 5m", "cron: '* * * *'"), 7, 11, "jobs.nginx.cron", "five fields"),
    "minute 61": (
        swap("every: 5m", "cron: '61 * * * *'"),
        7,
        11,
        "jobs.nginx.cron",
        "'61' is not a minute (0 to 59;",
    ),
    "a minute that is no plain number": (
        swap("every: 5m", "cron: '² * * * *'"),
        7,
        11,
        "jobs.nginx.cron",
        "'²' is not a minute",
    ),
    "a step that is no plain number": (
        swap("every: 5m", "cron: '*/² * * * *'"),
        7,
        11,
        "jobs.nginx.cron",
        "step",
    ),
    "an owner that is no plain number": (
        job("owner: '²:root'"),
        8,
        12,
        "jobs.nginx.owner",
        "is not an owner",
    ),
    "never comes": (
        swap("every: 5m", "cron: '0 0 31 2 *'"),
        7,
        11,
        "jobs.nginx.cron",
        "never comes",
    ),
    "a bad step": (swap("every: 5m", "cron: '*/0 * * * *'"), 7, 11, "jobs.nginx.cron", "step"),
    "an unquoted decimal mode": (
        job("mode: 999"),
        8,
        11,
        "jobs.nginx.mode",
        "'999' is not a file mode",
    ),
    "setuid": (job('mode: "4755"'), 8, 11, "jobs.nginx.mode", "0777 is the most"),
    "a mode in words": (job("mode: rwxr-xr-x"), 8, 11, "jobs.nginx.mode", "quoted octal"),
    "an owner with spaces": (job("owner: root root"), 8, 12, "jobs.nginx.owner", "is not an owner"),
    "drift misspelt": (job("drift: repor"), 8, 12, "jobs.nginx.drift", "did you mean 'report'?"),
    "prune true": (job("prune: true"), 8, 12, "jobs.nginx.prune", "is not one of tracked, off"),
    "a flag in words": (
        job("on_push: yes"),
        8,
        14,
        "jobs.nginx.on_push",
        "'yes' is not true or false",
    ),
    "a size in words": (
        job("limits: {size: big}"),
        8,
        20,
        "jobs.nginx.limits.size",
        "is not a size",
    ),
    "a share over 100": (
        job("limits: {delete: 150%}"),
        8,
        22,
        "jobs.nginx.limits.delete",
        "is not a limit",
    ),
    "ten thousand digits": (
        job(f"keep: {'9' * 10_000}"),
        8,
        11,
        "jobs.nginx.keep",
        "is not a whole number",
    ),
    "workers 0": (BASE + "workers: 0\n", 10, 10, "workers", "whole number from 1 to 256"),
    "requests 65": (BASE + "requests_at_once: 65\n", 10, 19, "requests_at_once", "from 1 to 64"),
    "a time zone on Mars": (
        BASE + "timezone: Mars/Olympus\n",
        10,
        11,
        "timezone",
        "is not a time zone",
    ),
    "no jobs": (
        "version: 1\ngithub: {a: {anonymous: true}}\njobs: {}\n",
        3,
        1,
        "jobs",
        "must not be empty",
    ),
    "no identities": (
        swap("  ops: {app_id: 12345, private_key: /etc/syncd/app.pem}\n", ""),
        2,
        1,
        "github",
        "'github' is required",
    ),
    "an unknown identity": (job("as: opps"), 8, 9, "jobs.nginx.as", "did you mean 'ops'?"),
    "two identities and no as": (
        swap("jobs:", "  bot: {token: /etc/t}\njobs:"),
        6,
        3,
        "jobs.nginx",
        "'as' is required",
    ),
    "two kinds at once": (
        swap("app_id: 12345,", "app_id: 12345, token: /x,"),
        3,
        3,
        "github.ops",
        "give exactly one of",
    ),
    "an App without a key": (
        swap(", private_key: /etc/syncd/app.pem", ""),
        3,
        3,
        "github.ops",
        "needs its private_key",
    ),
    "app_id and client_id": (
        swap("app_id: 12345,", "app_id: 12345, client_id: Iv1,"),
        3,
        3,
        "github.ops",
        "exactly one of app_id and client_id",
    ),
    "a secret of two kinds": (
        swap("/etc/syncd/app.pem}", "{file: /a, env: B}}"),
        3,
        24,
        "github.ops.private_key",
        "exactly one of",
    ),
    "a relative secret": (
        swap("/etc/syncd/app.pem", "app.pem"),
        3,
        37,
        "github.ops.private_key",
        "is not an absolute path",
    ),
    "an API in the clear": (
        swap("app_id: 12345,", "api: 'http://ghe.example', app_id: 12345,"),
        3,
        14,
        "github.ops.api",
        "in the clear",
    ),
    "an API in letters that the network does not know": (
        swap("app_id: 12345,", "api: https://b\u00fccher.example/api/v3, app_id: 12345,"),
        3,
        14,
        "github.ops.api",
        "write xn--bcher-kva.example",
    ),
    "an API that is none": (
        swap("app_id: 12345,", "api: ghe, app_id: 12345,"),
        3,
        14,
        "github.ops.api",
        "is not an API address",
    ),
    "a repository without owner": (
        swap("acme/infra", "infra"),
        6,
        11,
        "jobs.nginx.repo",
        "owner/name",
    ),
    "a repository as a URL": (
        swap("acme/infra", "https://github.com/acme/infra"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a repository as the address of a clone": (
        swap("acme/infra", "acme/infra.git"),
        6,
        11,
        "jobs.nginx.repo",
        "'acme/infra.git' is not a repository; write acme/infra",
    ),
    "a clone's address in capitals": (
        swap("acme/infra", "acme/infra.GIT"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a clone's address over https": (
        swap("acme/infra", "https://github.com/acme/infra.git"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a clone's address over ssh": (
        swap("acme/infra", "git@github.com:acme/infra.git"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a clone's address as a URL of ssh": (
        swap("acme/infra", "ssh://git@github.com:22/acme/infra.git"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a page of a repository": (
        swap("acme/infra", "https://github.com/acme/infra/tree/main/nginx"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a repository with its host": (
        swap("acme/infra", "github.com/acme/infra"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a host for an owner": (
        swap("acme/infra", "github.com/acme"),
        6,
        11,
        "jobs.nginx.repo",
        "write it like owner/name",
    ),
    "a repository with a slash behind": (
        swap("acme/infra", "acme/infra/"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a repository with a slash before": (
        swap("acme/infra", "/acme/infra"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a repository with an @": (
        swap("acme/infra", "'@acme/infra'"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a repository with spaces around": (
        swap("acme/infra", "' acme/infra '"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a repository with spaces inside": (
        swap("acme/infra", "acme / infra"),
        6,
        11,
        "jobs.nginx.repo",
        "write acme/infra",
    ),
    "a repository named .git": (
        swap("acme/infra", "acme/.git"),
        6,
        11,
        "jobs.nginx.repo",
        "write it like owner/name",
    ),
    "a repository named ..": (
        swap("acme/infra", "acme/.."),
        6,
        11,
        "jobs.nginx.repo",
        "write it like owner/name",
    ),
    "a repository with a space in its name": (
        swap("acme/infra", "acme/in fra"),
        6,
        11,
        "jobs.nginx.repo",
        "write it like owner/name",
    ),
    "a repository with a password": (
        swap("acme/infra", "https://me:hunter22@github.com/acme/infra"),
        6,
        11,
        "jobs.nginx.repo",
        "'https://github.com/acme/infra' is not a repository; write acme/infra",
    ),
    "a client id as app_id": (
        swap("app_id: 12345,", "app_id: Iv1.abc,"),
        3,
        17,
        "github.ops.app_id",
        "is a client id; write client_id: Iv1.abc in place of app_id",
    ),
    "a newer client id as app_id": (
        swap("app_id: 12345,", "app_id: Iv23liABC,"),
        3,
        17,
        "github.ops.app_id",
        "write client_id: Iv23liABC",
    ),
    "an OAuth App's client id as app_id": (
        swap("app_id: 12345,", "app_id: Ov23liABC,"),
        3,
        17,
        "github.ops.app_id",
        "write login: {client_id: Ov23liABC}",
    ),
    "an App's name as app_id": (
        swap("app_id: 12345,", "app_id: my-app,"),
        3,
        17,
        "github.ops.app_id",
        "settings page shows its App ID",
    ),
    "an App ID as client_id": (
        swap("app_id: 12345,", "client_id: 12345,"),
        3,
        20,
        "github.ops.client_id",
        "write app_id: 12345",
    ),
    "a client id with a space": (
        swap("app_id: 12345,", "client_id: Iv1 abc,"),
        3,
        20,
        "github.ops.client_id",
        "is not a client id",
    ),
    "an App ID as a login's client_id": (
        swap("{app_id: 12345, private_key: /etc/syncd/app.pem}", "{login: {client_id: 12345}}"),
        3,
        28,
        "github.ops.login.client_id",
        "is an App ID",
    ),
    "a ref with spaces": (job("ref: my branch"), 8, 10, "jobs.nginx.ref", "is not a ref"),
    "no paths": (
        swap("      - {from: nginx/, to: /srv/nginx/}\n", ""),
        5,
        3,
        "jobs.nginx",
        "'paths' is required",
    ),
    "paths no list": (
        path("").replace("    paths:\n      - \n", "    paths: nginx\n"),
        8,
        12,
        "jobs.nginx.paths",
        "must be a list",
    ),
    "to is relative": (
        path("{from: nginx/, to: srv/nginx/}"),
        9,
        28,
        "jobs.nginx.paths[0].to",
        "must be an absolute path",
    ),
    "to is /": (path("{from: nginx/, to: /}"), 9, 28, "jobs.nginx.paths[0].to", "whole machine"),
    "to goes up": (
        path("{from: nginx/, to: /srv/../etc/}"),
        9,
        28,
        "jobs.nginx.paths[0].to",
        "no . and no ..",
    ),
    "to is nested too deeply": (
        path("{from: nginx/, to: " + "/d" * 101 + "/}"),
        9,
        28,
        "jobs.nginx.paths[0].to",
        "/d/d/d…' is nested deeper than 100 folders; write a shorter path",
    ),
    "from is nested too deeply": (
        path("{from: " + "d/" * 2000 + ", to: /srv/nginx/}"),
        9,
        16,
        "jobs.nginx.paths[0].from",
        "/d/d/…' is nested deeper than 100 folders; write a shorter path",
    ),
    "from is absolute": (
        path("{from: /nginx/, to: /srv/nginx/}"),
        9,
        16,
        "jobs.nginx.paths[0].from",
        "without a leading slash",
    ),
    "from goes up": (
        path("{from: ../x, to: /srv/x}"),
        9,
        16,
        "jobs.nginx.paths[0].from",
        "no . and no ..",
    ),
    "a slash on one side": (
        path("{from: nginx/, to: /srv/nginx}"),
        9,
        9,
        "jobs.nginx.paths[0]",
        "a trailing slash means a directory",
    ),
    "include for one file": (
        path("{from: a, to: /srv/a, include: [b]}"),
        9,
        9,
        "jobs.nginx.paths[0]",
        "this is one file",
    ),
    "include as text": (
        path("{from: a/, to: /srv/a/, include: b}"),
        9,
        42,
        "jobs.nginx.paths[0].include",
        "must be a list of gitignore patterns",
    ),
    "a pattern with a range that is none": (
        path("{from: a/, to: /srv/a/, include: ['*.md', '[z-a].conf']}"),
        9,
        33,
        "jobs.nginx.paths[0].include",
        "'[z-a].conf' is not a gitignore pattern",
    ),
    "one file twice": (
        swap(
            "      - {from: nginx/, to: /srv/nginx/}\n",
            "      - {from: a, to: /srv/a}\n      - {from: b, to: /srv/a}\n",
        ),
        10,
        23,
        "jobs.nginx.paths[1].to",
        "one file has one owner",
    ),
    "the state as a mirror": (
        BASE.replace("version: 1", "version: 1\nstate: /srv/nginx"),
        10,
        28,
        "jobs.nginx.paths[0].to",
        "syncd's own state",
    ),
    "a mirror inside the state": (
        BASE.replace("version: 1", "version: 1\nstate: /srv"),
        10,
        28,
        "jobs.nginx.paths[0].to",
        "syncd's own state",
    ),
    "a control character": (job('ref: "a\\x07b"'), 8, 10, "jobs.nginx.ref", "control character"),
    "defaults with an unknown key": (
        BASE + "defaults: {evry: 5m}\n",
        10,
        12,
        "defaults.evry",
        "did you mean 'every'?",
    ),
    "a mistake in defaults": (
        BASE.replace("    every: 5m\n", "") + "defaults: {every: soon}\n",
        9,
        19,
        "jobs.nginx.every",
        "'soon' is not a duration",
    ),
    "a job's name": (swap("  nginx:", "  'ng inx':"), 5, 3, "jobs.ng inx", "can't name a job"),
    "a hook with an open quote": (
        job("validate: echo 'open"),
        8,
        15,
        "jobs.nginx.validate",
        "can't be split",
    ),
    "an empty hook": (
        job("on_change: []"),
        8,
        5,
        "jobs.nginx.on_change",
        "a command as a list needs",
    ),
    "an unknown check": (
        job("validate: {check: [toml, ini]}"),
        8,
        5,
        "jobs.nginx.validate",
        "'ini' is no built-in check",
    ),
    "actions of strangers": (
        BASE + "web: {listen: 127.0.0.1:1, token: /etc/x, actions: true}\n",
        10,
        52,
        "web.actions",
        "so they need web.users or web.password",
    ),
    "a listener for all": (
        BASE + "web: {listen: '0.0.0.0:80'}\n",
        10,
        15,
        "web.listen",
        "it needs web.password",
    ),
    "a listener's user without a hash": (
        BASE + "web: {listen: 127.0.0.1:1, users: {octocat: {password: /etc/x}}}\n",
        10,
        46,
        "web.users.octocat.password",
        "did you mean 'hash'?",
    ),
    "a user's hash in place of its file": (
        BASE + "web: {listen: 127.0.0.1:1, users: {octocat: {hash: scrypt:32768:8:1$a$b}}}\n",
        10,
        52,
        "web.users.octocat.hash",
        "not an absolute path",
    ),
    "a user name with a colon": (
        BASE + "web: {listen: 127.0.0.1:1, users: {'a:b': {hash: /etc/x}}}\n",
        10,
        28,
        "web.users",
        "'a:b' is not a user name",
    ),
    "a proxy that is no network": (
        BASE + "web: {listen: 127.0.0.1:1, trusted_proxies: [10.0.0.1/8]}\n",
        10,
        46,
        "web.trusted_proxies[0]",
        "'10.0.0.1/8' is not a network",
    ),
    "a prefix that is no path": (
        BASE + "web: {listen: 127.0.0.1:1, prefix: syncd/}\n",
        10,
        36,
        "web.prefix",
        "'syncd/' can't be the listener's prefix",
    ),
    "a webhook in the place of the login": (
        BASE + "web: {listen: 127.0.0.1:1, webhook: {path: /login, secret: /etc/x}}\n",
        10,
        44,
        "web.webhook.path",
        "'/login' can't be the webhook's path",
    ),
    "a port that is none": (
        BASE + "web: {listen: '127.0.0.1:99999'}\n",
        10,
        15,
        "web.listen",
        "is not a listening address",
    ),
    "a link of many": (
        job("publish: symlink").replace(
            "to: /srv/nginx/}", "to: /srv/nginx/}\n      - {from: b/, to: /srv/b/}"
        ),
        5,
        3,
        "jobs.nginx",
        "publish: symlink needs exactly one path",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_shown_where_it_is_and_says_what_was_expected(
    tmp_path: Path, name: str
) -> None:
    text, line, column, key, said = MISTAKES[name]
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    found = [
        (problem.line, problem.column, problem.key)
        for problem in caught.value.problems
        if said in problem.text
    ]
    assert (line, column, key) in found, [str(problem) for problem in caught.value.problems]
    shown = render(caught.value)
    assert f"{file}:{line}:{column}: " in shown


def test_there_are_sixty_of_them() -> None:
    assert len(MISTAKES) >= 60


def test_the_folder_above_a_link_does_not_hold_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(job("publish: symlink").replace("/srv/nginx/", f"{tmp_path}/current/"))
    with pytest.raises(
        ConfigError,
        match=r"syncd's configuration .* is in .*, which has to be the link's own folder",
    ):
        load_config(file, {"HOME": "/nowhere"})


def test_every_mistake_is_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        BASE.replace("12345", "zero").replace("5m", "soon").replace("acme/infra", "infra")
        + "workers: many\nnonsense: 1\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    assert [problem.key for problem in caught.value.problems] == [
        "github.ops.app_id",
        "jobs.nginx.repo",
        "jobs.nginx.every",
        "workers",
        "nonsense",
    ]


def test_mistakes_between_parts_are_said_beside_mistakes_in_them_and_none_is_made_up(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "version: 2\n"
        "workers: many\n"
        "github:\n  ops: {app_id: zero, private_key: /k}\n  bot: {token: ''}\n"
        "jobs:\n"
        "  a: {as: opps, repo: acme/infra, every: soon, paths: [{from: x, to: /srv/x}]}\n"
        "  b: {as: ops, repo: acme/infra, evry: 5m, cron: '0 0 31 2 *', paths: [{from: x/, to: "
        "y/}, {from: x, to: /srv/x}]}\n"
        "  c: {as: bot, repo: infra, every: 5m, paths: [{from: z, to: /srv/x}]}\n"
        "  d: {as: bot, repo: acme/infra, paths: [{from: z, to: /srv/z}]}\n"
        "  e: {as: bot, repo: acme/infra, every: 1m, mode: rwx, paths: [{from: z, to: "
        f"{tmp_path}/config.yaml}}]}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    assert [problem.key for problem in caught.value.problems] == [
        "version",
        "workers",
        "github.ops.app_id",
        "github.bot.token",
        "jobs.a.as",
        "jobs.a.every",
        "jobs.b.evry",
        "jobs.b.cron",
        "jobs.b.paths[0].to",
        "jobs.b.paths[1].to",
        "jobs.c.repo",
        "jobs.d",
        "jobs.e.mode",
        "jobs.e.paths[0].to",
    ], "\n".join(map(str, caught.value.problems))


def test_a_mistake_in_the_defaults_is_said_once_for_all_jobs(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        BASE.replace("    every: 5m\n", "")
        + (
            "  other: {repo: a/b, paths: [{from: x, to: /srv/x}]}\n"
            "defaults: {every: soon, evry: 5m}\n"
        )
    )
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    assert [problem.text[:14] for problem in caught.value.problems] == [
        "'soon' is not ",
        "unknown key 'e",
    ], caught.value.problems


def test_the_slower_reader_of_machines_without_libyaml_finds_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for reader in (yaml_reader._LOADER, yaml_reader.PURE):
        monkeypatch.setattr(yaml_reader, "_LOADER", reader)
        for text, *_ in MISTAKES.values():
            (tmp_path / "config.yaml").write_text(text)
            with pytest.raises(ConfigError) as caught:
                load_config(tmp_path / "config.yaml", {"HOME": str(tmp_path)})
            found.append(
                [
                    (
                        one.line,
                        one.column,
                        one.key,
                        one.text if "not YAML" not in one.text else "not YAML",
                    )
                    for one in caught.value.problems
                ]
            )
    half = len(found) // 2
    assert found[:half] == found[half:] and half == len(MISTAKES)


def test_of_thousands_of_mistakes_the_first_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(BASE + many(1000, "k{}: v\n"))
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    shown = render(caught.value).splitlines()
    assert (
        len(caught.value.problems) == 1000
        and len(shown) == 601
        and shown[-1] == "and 800 more mistakes"
    )


def test_the_caret_stands_under_what_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(swap("5m", "5 parsecs"))
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    lines = render(caught.value).splitlines()
    assert lines[1].index("5 parsecs") == lines[2].index("^")


def many(count: int, line: str) -> str:
    return "".join(line.format(number) for number in range(count))


DIGITS = "9" * 10_000
BOMBS = {
    "aliases": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{new}: &{new} [*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "merges": "a: &a {k: v}\n"
    + "".join(
        f"{new}: &{new} {{<<: [*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old},*{old}]}}\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "depth": "[" * 5000,
    "a million deep": "[" * 1_000_000,
    "deep mappings": "".join(f"{' ' * level}a:\n" for level in range(200)) + " " * 200 + "b",
    "flow mappings": "{a: " * 3000,
    "recursion": "a: &a [*a]\n",
    "a value that is itself": "a: &a {b: *a}\n",
    "NUL": "version: 1\0\n",
    "control": "version: \x01\n",
    "a megabyte": "x: " + "y" * (2 << 20),
    "hundreds of thousands of values": "x-a: [" + "a," * 400_000 + "]\n",
    "tens of thousands of unknown keys": BASE + many(40_000, "k{}: v\n"),
    "keys that are nearly known": BASE + "defaults: {" + many(10_000, "everi{}: 1, ") + "}\n",
    "one destination for all": "version: 1\ngithub: {a: {anonymous: true}}\njobs:\n"
    + many(1500, "  j{}: {{repo: a/b, every: 5m, paths: [{{from: x, to: /srv/x}}]}}\n"),
    "a key of a million letters": "k" * 1_000_000 + ": 1\n",
    "a ref of a million letters": job("ref: " + "a" * 900_000),
    "an owner of a million letters": job("owner: " + "a " * 400_000),
    "an address of a million letters": swap(
        "app_id: 12345,", f"app_id: 12345, api: 'http://{'a.' * 400_000}',"
    ),
    "a time zone of a million letters": BASE + "timezone: " + "../" * 300_000 + "etc/passwd\n",
    "ten thousand digits everywhere": job(
        f"limits: {{files: {DIGITS}, size: {DIGITS}, delete: {DIGITS}}}\n    timeout: {DIGITS}s\n"
        f"    mode: {DIGITS}\n    keep: {DIGITS}"
    ).replace("12345", DIGITS),
    "a cron of ten thousand digits": swap("every: 5m", f"cron: '{DIGITS} * * * *'"),
    "a cron of a hundred thousand parts": swap(
        "every: 5m", f"cron: '{','.join(['*/0'] * 100_000)} * * * *'"
    ),
    "a pattern of a hundred thousand parts": path(
        f"{{from: a/, to: srv/a/, include: ['{'**/' * 100_000}']}}"
    ),
    "twenty thousand patterns": path(
        "{from: a/, to: srv/a/, include: [" + '"**/a*b*c*d*e*f/**",' * 20_000 + "]}"
    ),
    "a hook of a million letters": job("on_change: '" + '"a ' * 200_001 + "'"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_would_make_a_reader_slow_is_a_mistake_too(tmp_path: Path, name: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(BOMBS[name].encode())
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(file, {"HOME": str(tmp_path)})
    assert caught.value.problems and all(
        len(problem.text) < 1000 for problem in caught.value.problems[:100]
    )
    render(caught.value)
    seconds, megabytes = (
        time.process_time() - began,
        (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    )
    assert seconds < SECONDS_AT_MOST and megabytes < 100, (seconds, megabytes)


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xfeV\x00e\x00r\x00", bytes(range(256)), b"version: \xe9\n"],
    ids=["utf-16", "binary", "latin-1"],
)
def test_what_is_no_utf8_text_is_said_so(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match=r"UTF-8|not YAML"):
        load_config(file, {"HOME": str(tmp_path)})


def test_a_folder_is_merged_and_a_job_in_two_files_names_both(tmp_path: Path) -> None:
    (tmp_path / "10-base.yaml").write_text(BASE)
    (tmp_path / "20-more.yaml").write_text(
        "jobs:\n  other: {repo: a/b, every: 1m, paths: [{from: x, to: /srv/x}]}\n"
    )
    assert list(load_config(tmp_path, {"HOME": str(tmp_path)}).jobs) == ["nginx", "other"]
    (tmp_path / "30-twice.yaml").write_text(
        "jobs:\n  nginx: {repo: a/b, every: 1m, paths: [{from: y, to: /srv/y}]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path, {"HOME": str(tmp_path)})
    assert "30-twice.yaml:2" in str(caught.value) and "10-base.yaml:5" in str(caught.value)


def test_text_stays_text(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for ref in ("on", "no", "0123", "2024-01-01", "1e3", "0x10", "1_000", "0644"):
        file.write_text(job(f"ref: {ref}"))
        assert load_config(file, {"HOME": str(tmp_path)}).jobs["nginx"].ref == ref


def test_defaults_merge_at_every_depth_a_schedule_replaces_both_and_null_unsets(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        job("limits: {files: 7}").replace("every: 5m", "cron: '@daily'")
        + "defaults: {every: 1m, mode: '0600', limits: {size: 5MB, files: 3}}\n"
    )
    made = load_config(file, {"HOME": str(tmp_path)}).jobs["nginx"]
    assert (
        made.every_seconds,
        made.cron,
        made.mode,
        made.limits.files,
        made.limits.size_bytes,
    ) == (None, "@daily", 0o600, 7, 5_000_000)
    file.write_text(job("mode: null") + "defaults: {mode: '0600'}\n")
    assert load_config(file, {"HOME": str(tmp_path)}).jobs["nginx"].mode is None
