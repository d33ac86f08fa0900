"""Ids computed here are git's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from syncd import git_objects
from syncd.simulator.repository import File, Link, Repository
from tests.support.path_cases import ODD_NAMES

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    names = {
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
        "HOME": str(folder),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=names,
    ).stdout.strip()


def test_the_empty_blob_has_the_id_everybody_knows() -> None:
    assert git_objects.blob_id(b"") == git_objects.EMPTY_BLOB
    assert git_objects.tree_id([]) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@needs_git
def test_trees_and_commits_have_gits_ids_also_with_names_that_sort_oddly(tmp_path: Path) -> None:
    files = {f"d/{name}": f"{name}\n" for name in ODD_NAMES} | {
        "a": "1",
        "a.b": "2",
        "a-b/c": "3",
        "a/../x".replace("../", "") + "y": "4",
        "run": File(b"x", True),
        "link": Link("a.b"),
    }
    del files["a"]
    repo = Repository("acme/infra", 1)
    commit = repo.commits[repo.commit(files, "first")]
    git(tmp_path, "init", "-q")
    for path, node in files.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(node, Link):
            place.symlink_to(node.target)
        else:
            place.write_bytes(node.content if isinstance(node, File) else node.encode())
            place.chmod(0o755 if isinstance(node, File) else 0o644)
    git(tmp_path, "add", "-A")
    assert git(tmp_path, "write-tree") == commit.tree
    raw = (
        f"tree {commit.tree}\nauthor Ada <ada@example.org> {commit.at} +0000\n"
        f"committer Ada <ada@example.org> {commit.at} +0000\n\nfirst\n"
    )
    (tmp_path / "raw").write_text(raw)
    assert git(tmp_path, "hash-object", "-t", "commit", "raw") == commit.id


@pytest.mark.parametrize("text", ["", "a" * 39, "A" * 40, "g" * 40, "a" * 40 + "\n", "a" * 64])
def test_only_forty_lower_case_hex_digits_are_an_id(text: str) -> None:
    assert not git_objects.is_object_id(text)
