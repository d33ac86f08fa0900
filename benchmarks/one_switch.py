#!/usr/bin/env python3
"""One change in many files: what `publish: symlink` costs in time and disk, beside `publish: files`
and beside git's way with a worktree.

git's way is what a worktree mirror does for each change: fetch one commit, add a complete worktree,
check it out, swing a link, drop the worktree before the last, prune and collect. It fetches from a
repository on this disk, which is its best case; syncd asks the stand-in over HTTP on loopback,
checks every byte and syncs it to disk, which git's way does not. The three take turns in one run;
medians are shown.

As root everything happens on fresh loop images (ext4, and XFS where blocks are shared), so that
disk used is what the file system says. Elsewhere it is the sum of blocks below the folder.

python benchmarks/one_switch.py [--files 5000] [--rounds 7] [--changed 1]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from syncd.simulator.github import GitHub
from syncd.simulator.server import serve

FILE_BYTES = 4096
IMAGE_BYTES = 1 << 30
TOKEN = "ghp_benchmark0000000000000000000000000"


def content(number: int, version: int) -> bytes:
    line = f"file {number} version {version}\n".encode()
    return (line * (FILE_BYTES // len(line) + 1))[:FILE_BYTES]


def path_of(number: int) -> str:
    return f"site/d{number // 100:03d}/f{number:05d}"


class Syncd:
    """One job of one folder, as the one-shot brings it; `publish` says how."""

    def __init__(self, publish: str, folder: Path, url: str) -> None:
        self.name, self.folder = f"syncd, publish: {publish}", folder
        folder.mkdir()
        token, self.config = folder / "token", folder / "config.yaml"
        token.write_text(TOKEN)
        token.chmod(0o600)
        to = folder / "site/current" if publish == "symlink" else folder / "site"
        job = {
            "repo": "acme/site",
            "ref": "main",
            "every": "5m",
            "publish": publish,
            "keep": 2,
            "paths": [{"from": "site/", "to": f"{to}/"}],
        }
        self.config.write_text(
            yaml.safe_dump(
                {
                    "version": "1",
                    "state": str(folder / "state"),
                    "github": {"me": {"token": str(token), "api": url}},
                    "jobs": {"site": job},
                }
            )
        )
        self.to = to

    def bring(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "syncd", "-c", str(self.config), "sync", "--json"],
            capture_output=True,
            text=True,
        )
        if done.returncode or json.loads(done.stdout)["jobs"][0]["status"] != "changed":
            sys.exit(f"{self.name}: {done.stdout}{done.stderr}")

    def shows(self, number: int) -> bytes:
        return (self.to / path_of(number).removeprefix("site/")).read_bytes()


class Worktree:
    """A worktree for each commit, a link to the newest."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.name, self.folder = "git worktree", folder
        self.source, self.root, self.link = (
            folder.parent / f"{folder.name}.git",
            folder,
            folder / "link",
        )
        folder.mkdir()
        self.git("init", "-q", "-b", "main", str(self.source), at=folder)
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")
        self.change(files)
        self.git("init", "-q", str(self.root / "repo"), at=folder)

    def git(self, *arguments: str, at: Path | None = None) -> str:
        command = [
            "git",
            "-C",
            str(at or self.source),
            "-c",
            "user.name=bench",
            "-c",
            "user.email=bench@localhost",
            "-c",
            "protocol.file.allow=always",
            *arguments,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def change(self, files: dict[str, bytes]) -> None:
        for path, data in files.items():
            place = self.source / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")

    def bring(self) -> None:
        commit, repo = (
            self.git("ls-remote", str(self.source), "HEAD", at=self.root).split()[0],
            self.root / "repo",
        )
        before = os.readlink(self.link) if self.link.is_symlink() else None
        self.git("fetch", "-q", "--depth", "1", f"file://{self.source}", commit, at=repo)
        self.git(
            "worktree",
            "add",
            "-q",
            "--force",
            "--detach",
            "--no-checkout",
            str(self.root / commit),
            commit,
            at=repo,
        )
        self.git("reset", "-q", "--hard", commit, at=self.root / commit)
        temporary = self.root / "link.new"
        temporary.symlink_to(commit)
        temporary.rename(self.link)
        for old in self.root.iterdir():
            if old.name not in ("repo", "link", commit, before):
                shutil.rmtree(old)
        self.git("worktree", "prune", at=repo)
        self.git("reflog", "expire", "--expire-unreachable=all", "--all", at=repo)
        self.git("gc", "-q", "--auto", at=repo)

    def shows(self, number: int) -> bytes:
        return (self.link / path_of(number)).read_bytes()


@contextmanager
def places(make: str | None) -> Iterator[Callable[[str], Path]]:
    """A fresh file system for each name; a folder where there is no `make`."""
    base, mounted = Path(tempfile.mkdtemp(prefix="syncd-bench-")), []

    def place(name: str) -> Path:
        folder = base / name
        folder.mkdir()
        if make is not None:
            image = base / f"{name}.img"
            with open(image, "wb") as file:
                file.truncate(IMAGE_BYTES)
            subprocess.run([*make.split(), str(image)], check=True, capture_output=True)
            subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
            mounted.append(folder)
        return folder

    try:
        yield place
    finally:
        for folder in mounted:
            subprocess.run(["umount", str(folder)], check=False)
        shutil.rmtree(base, ignore_errors=True)


def used(folder: Path, own: bool) -> int:
    """Bytes used by what is below the folder, which is a file system of its own when `own`."""
    if own:
        os.sync()
        found = os.statvfs(folder)
        return (found.f_blocks - found.f_bfree) * found.f_frsize
    return sum(
        os.lstat(os.path.join(place, name)).st_blocks * 512
        for place, names, files in os.walk(folder)
        for name in [*names, *files]
    )


def measure(
    make: str | None, files: int, rounds: int, changed: int
) -> list[tuple[str, float, float, float]]:
    """Name, median seconds of a change, MiB that everything takes after the first sync and after
    the last change.
    """
    first = {path_of(number): content(number, 0) for number in range(files)}
    github = GitHub()
    repo = github.add_repo("acme/site", first)
    github.accounts.add_personal_token(TOKEN)
    with serve(github) as served, places(make) as place:
        own = make is not None
        worktree = Worktree(place("git") / "job", first)
        ways: list[Syncd | Worktree] = [
            Syncd("symlink", place("symlink") / "job", served.url),
            Syncd("files", place("files") / "job", served.url),
            worktree,
        ]
        spaces = {way.name: way.folder.parent if own else way.folder for way in ways}
        source = {
            way.name: used(way.source, False) if isinstance(way, Worktree) else 0 for way in ways
        }
        empty = {
            way.name: used(spaces[way.name], own) - (source[way.name] if own else 0) for way in ways
        }
        for way in ways:
            way.bring()
        begun = {
            way.name: used(spaces[way.name], own)
            - empty[way.name]
            - (source[way.name] if own else 0)
            for way in ways
        }
        times: dict[str, list[float]] = {way.name: [] for way in ways}
        for version in range(1, rounds + 1):
            change = {
                path_of(number * (files // changed)): content(number, version)
                for number in range(changed)
            }
            repo.commit(change)
            worktree.change(change)
            for way in ways:
                began = time.perf_counter()
                way.bring()
                times[way.name].append(time.perf_counter() - began)
                if way.shows(0) != content(0, version):
                    sys.exit(f"{way.name} does not show the change")
        grown = {
            way.name: used(spaces[way.name], own)
            - empty[way.name]
            - (used(way.source, False) if isinstance(way, Worktree) and own else 0)
            for way in ways
        }
        return [
            (
                way.name,
                statistics.median(times[way.name]),
                begun[way.name] / 2**20,
                grown[way.name] / 2**20,
            )
            for way in ways
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--changed", type=int, default=1)
    chosen = parser.parse_args()
    loops = os.geteuid() == 0 and shutil.which("mkfs.xfs") and shutil.which("mkfs.ext4")
    print(
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores"
    )
    print(
        f"{chosen.files} files of {FILE_BYTES} bytes, {chosen.changed} changed, {chosen.rounds} "
        "rounds"
    )
    for name, make in (
        (("ext4", "mkfs.ext4 -q -F"), ("XFS", "mkfs.xfs -q -f"))
        if loops
        else (("this file system", None),)
    ):
        rows = measure(make, chosen.files, chosen.rounds, chosen.changed)
        base = next(seconds for way, seconds, _, _ in rows if way == "git worktree")
        print(f"\n{name:24} seconds  beside git   MiB first   MiB after")
        for way, seconds, begun, grown in rows:
            print(
                f"{way:24} {seconds:7.2f}  {seconds / base:9.2f}x  {begun:10.1f}  {grown:10.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
