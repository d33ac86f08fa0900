"""docs/tasks.md: each of its configurations runs against a simulated GitHub, below a test's folder.

What is moved: every `to:`, the state, the secrets and `api:` of identities, and in hooks the path
after the staged folder. `owner:` is left out. nginx and systemctl are stand-ins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from syncd.hooks import runner
from syncd.simulator.repository import File, Node
from tests.support.sync_env import SyncEnv, app_with_known_key, sync_env

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).parents[2] / "docs/tasks.md").read_text()
COMMIT = "94f2c1f0a7b3d5e6c8a9b0d1e2f3a4b5c6d7e8f9"
TOKEN = "ghp_tasks0000000000000000000000000000000"
APPS = (12345, 7)
ACCOUNTS = ("acme", "umbrella", "platform", "ada")
BIG = bytes(range(256)) * 100
FILES: dict[str, Node] = {
    "nginx/nginx.conf": "worker_processes 2;\n",
    "nginx/local.conf": "local\n",
    "nginx/README.md": "read me\n",
    "nginx/sites/a.conf": "a\n",
    "nginx/drafts/b.conf": "b\n",
    "certs/public.pem": "certificate\n",
    "scripts/backup": File(b"#!/bin/sh\n", executable=True),
    "sudoers/operators": "# none\n",
    "app/settings.yaml": "port: 80\n",
    "public/index.html": "<p>hello\n",
    "shared/network.yaml": "resolver: 192.0.2.53\n",
    "hosts/web01/host.yaml": "name: web01\n",
    "vim/vimrc": "syntax on\n",
}
NGINX = {
    "etc/nginx/nginx.conf 0644",
    "etc/nginx/local.conf 0644",
    "etc/nginx/README.md 0644",
    "etc/nginx/sites/a.conf 0644",
    "etc/nginx/drafts/b.conf 0644",
}
APP = {"etc/app/settings.yaml 0644"}

# heading -> what is below the folder after the sync of its configurations
EXPECTED: dict[str, set[str]] = {
    "Mirror one folder": NGINX,
    "One file with mode and owner": {"etc/ssl/acme.pem 0640"},
    "Several folders and files together": NGINX
    | {"etc/ssl/acme.pem 0644", "usr/local/lib/acme/backup 0755"},
    "Some files of a folder": {"etc/nginx/nginx.conf 0644", "etc/nginx/sites/a.conf 0644"},
    "A whole repository": {
        "srv/settings/app/settings.yaml 0644",
        "srv/settings/certs/public.pem 0644",
        "srv/settings/hosts/web01/host.yaml 0644",
        "srv/settings/nginx/README.md 0644",
        "srv/settings/nginx/drafts/b.conf 0644",
        "srv/settings/nginx/local.conf 0644",
        "srv/settings/nginx/nginx.conf 0644",
        "srv/settings/nginx/sites/a.conf 0644",
        "srv/settings/public/index.html 0644",
        "srv/settings/scripts/backup 0755",
        "srv/settings/shared/network.yaml 0644",
        "srv/settings/sudoers/operators 0644",
        "srv/settings/vim/vimrc 0644",
    },
    "Large files in Git LFS": {"srv/models/model.bin 0644"},
    "A branch, a tag or a commit": {
        "srv/branch/nginx.conf 0644",
        "srv/branch/local.conf 0644",
        "srv/branch/README.md 0644",
        "srv/branch/sites/a.conf 0644",
        "srv/branch/drafts/b.conf 0644",
        "srv/tag/nginx.conf 0644",
        "srv/commit/nginx.conf 0644",
    },
    "Only verified commits": {"etc/sudoers.d/operators 0440"},
    "A public repository": APP,
    "A private repository with a token": APP,
    "Several organizations": NGINX | APP,
    "GitHub Enterprise Server": APP,
    "Several servers with shared and own files": {
        "etc/acme/shared/network.yaml 0644",
        "etc/acme/own/host.yaml 0644",
    },
    "Many jobs with the same settings": NGINX | APP,
    "An interval": NGINX,
    "A time of day in your time zone": NGINX,
    "Different times on many servers": NGINX,
    "At once after a push": NGINX | APP,
    "Keep local edits": APP,
    "Report local edits, change nothing": APP,
    "Stop unusual changes": APP,
    "Check files, then reload a service": NGINX,
    "Check the syntax of files": APP,
    "Change a whole folder at one instant": {"srv/site/current/index.html 0644"},
    "Let a group look": NGINX,
    "Run as an ordinary user": {"home/ada/.vim/vimrc 0644"},
    "Keep replaced files longer": NGINX,
}
WITHOUT_JOB = {"A status page, metrics and messages"}
# what the page says to take from its first configuration
FRAME = {"version": 1, "github": {"ops": {"app_id": 12345, "private_key": ""}}}
JOB = {"repo": "acme/infra", "every": "5m", "as": "ops"}


def configurations() -> dict[str, list[dict[str, Any]]]:
    """Return heading -> its configurations."""
    found: dict[str, list[dict[str, Any]]] = {}
    for part in re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        blocks = re.findall(r"^```yaml\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
        if blocks:
            found[part.splitlines()[0]] = [yaml.safe_load(block) for block in blocks]
    return found


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, {}) as env:
        for app in APPS:
            app_with_known_key(env.github, app)
            for number, account in enumerate(ACCOUNTS):
                env.github.accounts.install(app, account, 100 * app + number)
        env.github.accounts.add_personal_token(TOKEN)
        token = env.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        tools = env.folder / "tools"
        tools.mkdir()
        for name in ("nginx", "systemctl"):
            (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tools}/log\n')
            (tools / name).chmod(0o755)
        monkeypatch.setattr(runner, "PATH", f"{tools}:{runner.PATH}")
        yield env


def fill(hub: SyncEnv, name: str, private: bool) -> str:
    """Give the repository its files; return its first commit, which has nginx.conf alone."""
    repo = hub.github.repos.get(name) or hub.github.add_repo(name, {}, private=private)
    first = repo.commit({"nginx/nginx.conf": "one\n"}, verification="valid")
    repo.tag("v1", first)
    repo.commit(FILES, verification="valid")
    if name == "acme/models":
        repo.commit({"current/model.bin": repo.lfs_pointer(BIG)})
    return first


def moved(hub: SyncEnv, shown: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration of the page below the test's folder."""
    config = {**shown, "state": str(hub.state)}
    for identity in config.get("github", {}).values():
        path = "/api/v3" if "/api/v3" in identity.get("api", "") else ""
        identity["api"] = hub.served.url + path
        identity.pop("ca_file", None)
        identity.pop("installation_id", None)
        if "private_key" in identity:
            identity |= {"app_id": 12345, "private_key": str(hub.folder / "app.pem")}
        elif identity.pop("token", None) or identity.pop("login", None):
            identity["token"] = {"file": str(hub.folder / "token")}
    config.pop("web", None)
    config.pop("state_group", None)
    public = any("anonymous" in one for one in config.get("github", {}).values())
    default = config.get("defaults", {}).get("repo", JOB["repo"])
    jobs = config["jobs"].values()
    first = {
        name: fill(hub, name, not public) for name in {job.get("repo", default) for job in jobs}
    }
    for job in jobs:
        if job.get("ref") == COMMIT:
            job["ref"] = first[job["repo"]]
        for path in job["paths"]:
            path["to"] = f"{hub.dest}{path['to']}"
            path.pop("owner", None)
        if isinstance(job.get("validate"), str):
            job["validate"] = job["validate"].replace("{staged}", "{staged}" + str(hub.dest))
    return config


def modes(root: Path) -> set[str]:
    """Return "path mode" of every file, through links."""
    return {
        f"{path.relative_to(root)} {path.stat().st_mode & 0o7777:04o}"
        for place, _, names in os.walk(root, followlinks=True)
        for path in (Path(place, name) for name in names)
        if not re.search(r"/\d{8}T\d{6}-", str(path))
    }


def test_every_task_is_here() -> None:
    assert set(configurations()) == set(EXPECTED) | WITHOUT_JOB


@pytest.mark.parametrize("task", EXPECTED)
def test_the_configurations_of_a_task_mirror_what_it_says(hub: SyncEnv, task: str) -> None:
    folder = hub.folder / "conf.d"
    folder.mkdir(mode=0o700)
    for number, shown in enumerate(configurations()[task]):
        if number == 0 and "version" not in shown:
            jobs = {name: {**JOB, **job} for name, job in shown["jobs"].items()}
            shown = {**yaml.safe_load(yaml.safe_dump(FRAME)), **shown, "jobs": jobs}
        config = moved(hub, shown)
        if number:
            del config["state"]
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    checked = hub.call("-c", str(folder), "check")
    assert checked.code == 0, checked.out + checked.err
    done = hub.call("-c", str(folder), "sync", "--json")
    assert done.code == 0, done.out + done.err
    assert modes(hub.dest) == EXPECTED[task]


def test_a_hook_of_the_page_runs_once(hub: SyncEnv) -> None:
    task = "Check files, then reload a service"
    test_the_configurations_of_a_task_mirror_what_it_says(hub, task)
    asked, reloaded = (hub.folder / "tools/log").read_text().splitlines()
    assert asked.startswith("nginx -t -c ") and asked.endswith("/etc/nginx/nginx.conf")
    assert reloaded == "systemctl reload nginx"
