"""Makes a release: `make release VERSION=0.2.0` commits, tags and leaves the files in dist/.

Everything is checked first and built from a copy of the commit. The commit, the tag and dist/ come
last, so a release that fails changes nothing. DRY_RUN=1 shows all of it and stops before them.
Nothing is pushed. Only the Debian package needs a network; NO_DEB=1 leaves it out.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import artefacts
import supply
from packaging.version import Version

HERE = Path(__file__).resolve().parents[1]
VERSION_FILE, CHANGELOG = "syncd/__init__.py", "CHANGELOG.md"
VERSION_LINE = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
SECTION = re.compile(r"^## (?:[\d.]+ \()?unreleased\)?\n(.*?)(?=^## |\Z)", re.I | re.M | re.S)
DEB_TOOLS = ("dpkg-buildpackage", "dh")
LANES = {"lint": "lint", "push": "test"}  # what has to have passed: its target in the Makefile


class ReleaseError(Exception):
    """The release cannot be made; the text has each reason on a line of its own."""


@dataclass(frozen=True)
class Release:
    """One release of the tree: the version, its moment in seconds since 1970, and what to do."""

    tree: Path
    version: str
    epoch: int
    dry_run: bool = False
    with_deb: bool = True

    @property
    def tag(self) -> str:
        """The name of the release's tag."""
        return f"v{self.version}"

    @property
    def date(self) -> str:
        """The release's day in UTC."""
        return f"{datetime.fromtimestamp(self.epoch, UTC):%Y-%m-%d}"


def make(release: Release) -> None:
    """Check, build, show; then, unless it is a dry run, commit, tag and fill dist/."""
    check(release)
    print(f"syncd {release.version} of {release.date}, after {current_version(release.tree)}")
    run_lanes(release)
    texts = changed_texts(release)
    with tempfile.TemporaryDirectory(prefix="syncd-release-") as folder:
        made = build(release, texts, Path(folder))
        show(release, texts, made)
        if release.dry_run:
            print("dry run: nothing was changed")
            return
        check(release)  # the lanes took minutes
        commit(release, texts)
        (release.tree / "dist").mkdir(exist_ok=True)
        for file in made:
            shutil.copy2(file, release.tree / "dist")
    print(f"done; next: git push origin main {release.tag}, and publish the files of dist/")


# --- checks ---------------------------------------------------------------------------------------


def check(release: Release) -> None:
    """Raise ReleaseError with everything that stands in the way."""
    found = [*version_problems(release), *tree_problems(release)]
    section = SECTION.search((release.tree / CHANGELOG).read_text())
    if section is None:
        found.append(f"{CHANGELOG} has no section '## Unreleased'; write what has changed there")
    elif not section[1].strip():
        found.append(f"the unreleased section of {CHANGELOG} is empty; write what has changed")
    if found:
        raise ReleaseError("\n".join(found))


def version_problems(release: Release) -> list[str]:
    """What is wrong with the version."""
    now = current_version(release.tree)
    if not re.fullmatch(r"\d+\.\d+\.\d+", release.version):
        return [f"VERSION is {release.version!r}; write it like 0.2.0"]
    found = []
    if Version(release.version) <= Version(now):
        found.append(f"{release.version} is not higher than {now}, the version of {VERSION_FILE}")
    if git(release.tree, "tag", "--list", release.tag):
        found.append(f"there is a tag {release.tag} already")
    return found


def tree_problems(release: Release) -> list[str]:
    """What is wrong with the working tree."""
    found = []
    branch = git(release.tree, "rev-parse", "--abbrev-ref", "HEAD")
    if branch != "main":
        found.append(f"the branch is {branch}; releases are made on main")
    if uncommitted := git(release.tree, "status", "--porcelain"):
        found.append(f"commit or remove what is not committed:\n{uncommitted}")
    return found


def run_lanes(release: Release) -> None:
    """Run lint and the push lane, unless `dev` noted that they passed on exactly this tree."""
    tree = git(release.tree, "rev-parse", "HEAD^{tree}")
    for lane, target in LANES.items():
        mark = release.tree / ".venv" / f"passed-{lane}"
        if mark.exists() and mark.read_text() == tree:
            print(f"make {target}: passed on this tree")
        elif release.dry_run:
            print(f"make {target}: would run now")
        elif subprocess.run([sys.executable, "dev", target], cwd=release.tree).returncode:
            raise ReleaseError(f"make {target} failed")


def current_version(tree: Path) -> str:
    """The version that the tree has: syncd/__init__.py is its only place."""
    found = VERSION_LINE.search((tree / VERSION_FILE).read_text())
    if found is None:
        raise ReleaseError(f"{VERSION_FILE} has no line __version__ = ...")
    return found[1]


# --- what is made ---------------------------------------------------------------------------------


def changed_texts(release: Release) -> dict[str, str]:
    """The two files that a release changes, with their new text."""
    version = (release.tree / VERSION_FILE).read_text()
    changes = (release.tree / CHANGELOG).read_text()
    heading = f"## {release.version} ({release.date})\n"
    return {
        VERSION_FILE: VERSION_LINE.sub(f'__version__ = "{release.version}"', version),
        CHANGELOG: SECTION.sub(lambda found: heading + found[1], changes, count=1),
    }


def build(release: Release, texts: dict[str, str], folder: Path) -> list[Path]:
    """Build from the commit with the changed texts; return every file, SHA256SUMS last."""
    source, target = folder / "syncd", folder / "dist"
    command = ["git", "archive", "HEAD"]
    packed = subprocess.run(command, cwd=release.tree, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(source, filter="data")
    for name, text in texts.items():
        (source / name).write_text(text)
    *made, _sums = artefacts.dist(source, target, release.epoch)
    made.append(write_sbom(release, target))
    made += build_deb(release, source)
    return [*made, artefacts.write_sums(target, made)]


def write_sbom(release: Release, target: Path) -> Path:
    """Write the bill of materials of the wheel beside it."""
    [wheel] = target.glob("*.whl")
    parts = supply.runtime(supply.of_wheel(wheel))
    document = supply.sbom(parts, datetime.fromtimestamp(release.epoch, UTC))
    file = target / f"syncd-{release.version}.cdx.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    return file


def build_deb(release: Release, source: Path) -> list[Path]:
    """Build the Debian package where its tools are installed; say so where it is left out."""
    missing = [tool for tool in DEB_TOOLS if shutil.which(tool) is None]
    if not release.with_deb or missing:
        why = f"{', '.join(missing)} not found" if release.with_deb else "NO_DEB=1"
        print(f"without a Debian package: {why}")
        return []
    epoch = str(release.epoch)
    environment = {**os.environ, "PYTHONPATH": str(source), "SOURCE_DATE_EPOCH": epoch}
    command = [sys.executable, "packaging/deb.py"]
    if subprocess.run(command, cwd=source, env=environment).returncode:
        raise ReleaseError("make deb failed")
    return sorted((source / "dist").glob("*.deb"))


def show(release: Release, texts: dict[str, str], made: list[Path]) -> None:
    """Print the change of each file, the commit, the tag and the files with their sums."""
    for name, text in texts.items():
        before = (release.tree / name).read_text().splitlines()
        changed = difflib.unified_diff(before, text.splitlines(), name, name, n=0, lineterm="")
        print("\n".join(changed))
    print(f"commit: Version {release.version}\ntag: {release.tag}\ndist/{artefacts.SUMS}:")
    print(made[-1].read_text(), end="")


def commit(release: Release, texts: dict[str, str]) -> None:
    """Commit the changed files and tag the commit with their section; both or neither."""
    before = git(release.tree, "rev-parse", "HEAD")
    section = SECTION.search((release.tree / CHANGELOG).read_text())
    assert section is not None
    message = f"syncd {release.version}\n\n{section[1].strip()}\n"
    for name, text in texts.items():
        (release.tree / name).write_text(text)
    subject = f"Version {release.version}"
    try:
        git(release.tree, "commit", "-q", "-m", subject, "--", *texts, at=release)
        # verbatim: a line of the changelog that begins with # is no comment
        tag = ("tag", "-a", "--cleanup=verbatim", "-m", message, release.tag)
        git(release.tree, *tag, at=release)
    except ReleaseError:
        git(release.tree, "reset", "-q", "--soft", before)
        git(release.tree, "restore", "--staged", "--worktree", "--", *texts)
        raise


def git(tree: Path, *arguments: str, at: Release | None = None) -> str:
    """Run git and return its output; `at` gives a new commit or tag the release's time."""
    moment = f"@{at.epoch} +0000" if at else ""
    dates = {"GIT_AUTHOR_DATE": moment, "GIT_COMMITTER_DATE": moment} if at else {}
    environment = {**os.environ, **dates}
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command[:2])} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def is_set(name: str) -> bool:
    """Return whether a switch in the environment is on."""
    return os.environ.get(name, "") not in ("", "0", "no")


def main() -> int:
    """Make the release that the arguments and the environment ask for."""
    version = sys.argv[1] if len(sys.argv) == 2 else ""
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    release = Release(HERE, version, epoch, is_set("DRY_RUN"), not is_set("NO_DEB"))
    try:
        make(release)
    except (ReleaseError, artefacts.BuildError) as error:
        print(f"no release, and nothing was changed:\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
