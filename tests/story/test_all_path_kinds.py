"""Every kind of path and file at once, byte for byte; and no token anywhere it should not be."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.path_cases import everything, mirrored
from tests.support.sync_env import signatures, sync_env


def git_tree_of(folder: Path, git_dir: Path) -> str:
    """The id that git gives to what is in the folder: every name, byte, mode and link."""
    environ = {
        **os.environ,
        "GIT_DIR": str(git_dir),
        "GIT_WORK_TREE": str(folder),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, env=environ, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    git("-c", "core.autocrlf=false", "add", "-A", "--force")
    return git("write-tree")


def test_every_byte_mode_and_link_of_a_large_odd_tree_is_gits_and_a_second_run_touches_nothing(
    tmp_path: Path,
) -> None:
    files = everything()
    assert len(files) > 1400
    with sync_env(tmp_path, files) as hub:
        first = hub.sync()
        assert first.code == 0, first.job["error"]
        assert hub.tree() == mirrored(files)
        root = hub.repo.trees[hub.repo.commits[hub.repo.head()].tree]
        assert git_tree_of(hub.dest, tmp_path / "git") == next(
            tree for _, name, tree in root if name == b"nginx"
        ), "git itself agrees"
        assert {
            stat.S_IMODE(os.lstat(Path(place, name)).st_mode)
            for place, _, names in os.walk(hub.dest)
            for name in names
        } == {0o644, 0o755, 0o777}
        before = signatures(hub.dest)
        second = hub.sync()
        assert second.json["requests"] == {"total": 2, "not_modified": 1}
        assert signatures(hub.dest) == before
        hub.repo.commit(
            {
                "nginx/odd/hash#tag": "changed\n",
                "nginx/odd/per%25cent": "changed\n",
                "nginx/odd/question?": "changed\n",
                "nginx/odd/with space": None,
            }
        )
        assert hub.sync().code == 0
        assert (
            hub.tree()["odd/hash#tag"]
            == hub.tree()["odd/per%25cent"]
            == hub.tree()["odd/question?"]
            == b"changed\n"
        )
        assert "odd/with space" not in hub.tree()


@pytest.mark.parametrize("form", ["short", "long"])
def test_tokens_and_keys_are_in_no_output_no_log_and_no_state(tmp_path: Path, form: str) -> None:
    with sync_env(tmp_path) as hub:
        hub.github.accounts.long_tokens = form == "long"
        said = [
            hub.call("-vv", "sync"),
            hub.call("-vv", "sync", "--json"),
            hub.call("-vv", "plan", "--diff"),
            hub.call("status"),
            hub.call("history"),
        ]
        hub.github.add_fault(
            "head",
            lambda answer: answer.__class__(500, {}, str(hub.github.requests[-1].headers).encode()),
            times=10,
        )
        said.append(hub.call("-vv", "sync"))
        secrets = [one.value for one in hub.github.accounts.credentials.values()]
        assert secrets and all(len(value) == 40 or len(value) > 500 for value in secrets)
        key_line = (tmp_path / "app.pem").read_text().splitlines()[3]
        texts = [result.out + result.err for result in said]
        for place, _, names in os.walk(hub.state):
            texts += [Path(place, name).read_bytes().decode("latin-1") for name in names]
        for secret in [*secrets, key_line]:
            for shape in (
                secret,
                quote(secret, safe=""),
                base64.b64encode(secret.encode()).decode()[4:-8],
            ):
                assert not any(shape in text for text in texts)
