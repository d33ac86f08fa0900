"""`make release` in a clone, without a network: what it refuses, shows, commits and builds."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from tests.package.conftest import EPOCH, ROOT

pytestmark = pytest.mark.package

VERSION_FILE = "syncd/__init__.py"
SECTION = "- A first line.\n- # 2 is kept."
CHANGES = f"# Changes\n\n## 0.1.0 (unreleased)\n\n{SECTION}\n\n## 0.0.9\n\n- Old.\n"
MADE = [
    "SHA256SUMS",
    "constraints-hashed.txt",
    "constraints.txt",
    "syncd-0.2.0-py3-none-any.whl",
    "syncd-0.2.0.cdx.json",
    "syncd-0.2.0.tar.gz",
]
WHO = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org"}
WHO |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org"}
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9", "PIP_NO_INDEX": "1", "NO_DEB": "1"}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **WHO},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit: this tree, at version 0.1.0 and with a short changelog."""
    folder = tmp_path_factory.mktemp("origin") / "syncd"
    ignored = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "dist")
    shutil.copytree(ROOT, folder, ignore=ignored)
    version = (folder / VERSION_FILE).read_text()
    (folder / VERSION_FILE).write_text(re.sub(r'= "[\d.]+"', '= "0.1.0"', version))
    (folder / "CHANGELOG.md").write_text(CHANGES)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    return folder


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "-q", str(origin), "clone")
    return tmp_path / "clone"


def release(clone: Path, version: str = "0.2.0", **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **WHO, **NO_NETWORK, "SOURCE_DATE_EPOCH": str(EPOCH), **more}
    command = [sys.executable, "packaging/release.py", version]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)


def state(clone: Path) -> tuple[str, str, str, list[str]]:
    """What a release could change."""
    made = sorted(file.name for file in (clone / "dist").glob("*"))
    refs = git(clone, "for-each-ref")
    return git(clone, "rev-parse", "HEAD"), refs, git(clone, "status", "--porcelain"), made


def pass_lanes(clone: Path) -> None:
    """Leave what `dev` leaves after lint and the push lane passed on this tree."""
    (clone / ".venv").mkdir()
    for lane in ("lint", "push"):
        (clone / f".venv/passed-{lane}").write_text(git(clone, "rev-parse", "HEAD^{tree}"))


def test_a_dry_run_shows_everything_and_changes_nothing(clone: Path) -> None:
    before = state(clone)
    done = release(clone, DRY_RUN="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert state(clone) == before and not (clone / "dist").exists()
    text = re.sub(r"^[0-9a-f]{64}  ", "SUM  ", done.stdout, flags=re.MULTILINE)
    assert text.splitlines() == [
        "syncd 0.2.0 of 2026-11-29, after 0.1.0",
        "make lint: would run now",
        "make test: would run now",
        "without a Debian package: NO_DEB=1",
        "--- syncd/__init__.py",
        "+++ syncd/__init__.py",
        "@@ -3 +3 @@",
        '-__version__ = "0.1.0"',
        '+__version__ = "0.2.0"',
        "--- CHANGELOG.md",
        "+++ CHANGELOG.md",
        "@@ -3 +3 @@",
        "-## 0.1.0 (unreleased)",
        "+## 0.2.0 (2026-11-29)",
        "commit: Version 0.2.0",
        "tag: v0.2.0",
        "dist/SHA256SUMS:",
        *(f"SUM  {name}" for name in MADE[1:]),
        "dry run: nothing was changed",
    ]


def test_a_release_is_a_commit_a_tag_and_files_that_anyone_can_build_again(
    clone: Path, origin: Path, tmp_path: Path
) -> None:
    published = git(origin, "for-each-ref")
    pass_lanes(clone)
    done = release(clone)
    assert (done.returncode, done.stderr) == (0, "")
    assert "make lint: passed on this tree\nmake test: passed on this tree\n" in done.stdout
    assert git(clone, "log", "--format=%s %ct", "-1") == f"Version 0.2.0 {EPOCH}"
    assert git(clone, "diff", "--name-only", "HEAD~1").split() == ["CHANGELOG.md", VERSION_FILE]
    assert git(clone, "cat-file", "-t", "v0.2.0") == "tag"
    assert git(clone, "rev-parse", "v0.2.0^{commit}") == git(clone, "rev-parse", "HEAD")
    assert git(clone, "tag", "-l", "--format=%(contents)", "v0.2.0") == (
        f"syncd 0.2.0\n\n{SECTION}"
    )
    assert (clone / "CHANGELOG.md").read_text() == CHANGES.replace(
        "## 0.1.0 (unreleased)", "## 0.2.0 (2026-11-29)"
    )
    assert git(origin, "for-each-ref") == published
    assert state(clone)[2:] == ("", MADE)
    sums = ["sha256sum", "--strict", "-c", "SHA256SUMS"]
    assert subprocess.run(sums, cwd=clone / "dist", capture_output=True).returncode == 0
    bill = json.loads((clone / "dist/syncd-0.2.0.cdx.json").read_text())
    assert bill["metadata"]["component"]["version"] == "0.2.0"
    built_again(clone, tmp_path)


def built_again(clone: Path, folder: Path) -> None:
    """Who takes the tag and runs `make dist` gets the released bytes."""
    git(folder, "clone", "-q", "-b", "v0.2.0", "-c", "advice.detachedHead=false", str(clone), "tag")
    environment = {name: value for name, value in os.environ.items() if name[:6] != "SOURCE"}
    command = [sys.executable, "packaging/artefacts.py"]
    subprocess.run(command, cwd=folder / "tag", env=environment, check=True, capture_output=True)
    for name in MADE[1:]:
        if not name.endswith(".json"):
            again = (folder / "tag/dist" / name).read_bytes()
            assert again == (clone / "dist" / name).read_bytes(), name


def on_a_branch(clone: Path) -> None:
    git(clone, "switch", "-q", "-c", "feature")


def with_an_edit(clone: Path) -> None:
    with open(clone / "README.md", "a") as file:
        file.write("more\n")


def with_a_new_file(clone: Path) -> None:
    (clone / "syncd/forgotten.py").write_text("")


def with_the_tag(clone: Path) -> None:
    git(clone, "tag", "v0.2.0")


def with_no_section(clone: Path) -> None:
    rewrite_changes(clone, CHANGES.replace(" (unreleased)", ""))


def with_an_empty_section(clone: Path) -> None:
    rewrite_changes(clone, "# Changes\n\n## Unreleased\n\n## 0.0.9\n\n- Old.\n")


def rewrite_changes(clone: Path, text: str) -> None:
    (clone / "CHANGELOG.md").write_text(text)
    git(clone, "commit", "-q", "-am", "changes")


def as_it_is(_clone: Path) -> None:
    pass


REFUSED = [
    (as_it_is, "0.1.0", "0.1.0 is not higher than 0.1.0, the version of syncd/__init__.py"),
    (as_it_is, "0.0.10", "0.0.10 is not higher than 0.1.0, the version of syncd/__init__.py"),
    (as_it_is, "v0.2.0", "VERSION is 'v0.2.0'; write it like 0.2.0"),
    (as_it_is, "", "VERSION is ''; write it like 0.2.0"),
    (on_a_branch, "0.2.0", "the branch is feature; releases are made on main"),
    (with_an_edit, "0.2.0", "commit or remove what is not committed:\nM README.md"),
    (with_a_new_file, "0.2.0", "commit or remove what is not committed:\n?? syncd/forgotten.py"),
    (with_the_tag, "0.2.0", "there is a tag v0.2.0 already"),
    (
        with_no_section,
        "0.2.0",
        "CHANGELOG.md has no section '## Unreleased'; write what has changed there",
    ),
    (
        with_an_empty_section,
        "0.2.0",
        "the unreleased section of CHANGELOG.md is empty; write what has changed",
    ),
]


@pytest.mark.parametrize(
    ("prepare", "version", "reason"),
    REFUSED,
    ids=[f"{row[0].__name__} {row[1]}" for row in REFUSED],
)
def test_a_release_is_refused_with_the_reason(
    clone: Path, prepare: Callable[[Path], None], version: str, reason: str
) -> None:
    prepare(clone)
    before = state(clone)
    done = release(clone, version)
    assert done.returncode == 1
    assert done.stderr == f"no release, and nothing was changed:\n{reason}\n"
    assert state(clone) == before


def test_every_reason_is_said_at_once(clone: Path) -> None:
    on_a_branch(clone)
    with_an_edit(clone)
    with_the_tag(clone)
    assert release(clone).stderr.splitlines()[1:] == [
        "there is a tag v0.2.0 already",
        "the branch is feature; releases are made on main",
        "commit or remove what is not committed:",
        "M README.md",
    ]


def test_a_lane_that_fails_ends_the_release(clone: Path) -> None:
    (clone / "dev").write_text("import sys\nsys.exit(sys.argv[1] == 'test')\n")
    git(clone, "commit", "-q", "-am", "lint passes, test does not")
    before = state(clone)
    done = release(clone)
    assert (done.returncode, state(clone)) == (1, before)
    assert done.stderr == "no release, and nothing was changed:\nmake test failed\n"


def test_a_tag_that_cannot_be_made_takes_the_commit_back(clone: Path) -> None:
    pass_lanes(clone)
    git(clone, "config", "tag.gpgSign", "true")
    git(clone, "config", "gpg.program", "/bin/false")
    before = state(clone)
    done = release(clone)
    assert done.returncode == 1 and "git tag failed" in done.stderr
    assert state(clone) == before


DEB = """import os, pathlib, syncd
name = f"syncd_{syncd.__version__}_{os.environ['SOURCE_DATE_EPOCH']}.deb"
pathlib.Path("dist").mkdir()
pathlib.Path("dist", name).write_text("deb")
"""


def test_the_debian_package_is_built_from_the_released_tree(clone: Path, tmp_path: Path) -> None:
    for tool in ("dh", "dpkg-buildpackage"):
        (tmp_path / tool).touch(0o755)
    (clone / "packaging/deb.py").write_text(DEB)
    git(clone, "add", "packaging")
    git(clone, "commit", "-q", "-m", "a package without debhelper")
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = release(clone, DRY_RUN="1", NO_DEB="", PATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"  syncd_0.2.0_{EPOCH}.deb\n" in done.stdout


def test_make_hands_the_version_on() -> None:
    environment = {name: value for name, value in os.environ.items() if name[:4] != "MAKE"}
    command = ["make", "--no-print-directory", "-n", "release", "VERSION=0.2.0"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "python3 dev release 0.2.0\n"


@pytest.mark.parametrize("clean", [True, False])
def test_a_lane_that_passed_is_noted_for_a_committed_tree_alone(
    clone: Path, monkeypatch: pytest.MonkeyPatch, clean: bool
) -> None:
    spec = importlib.util.spec_from_loader("dev", SourceFileLoader("dev", str(clone / "dev")))
    assert spec is not None and spec.loader is not None
    dev = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dev)
    (clone / ".venv").mkdir()
    if not clean:
        with_an_edit(clone)
    dev.note_passed("lint")
    mark = clone / ".venv/passed-lint"
    assert (mark.read_text() if clean else mark.exists()) == (
        git(clone, "rev-parse", "HEAD^{tree}") if clean else False
    )
