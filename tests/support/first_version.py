"""A walk through a store of the first version: `python -m tests.support.first_version TREE`.

TREE is a checkout of e9e4a1a with its `.venv` (`git worktree add TREE e9e4a1a`, then `python3 dev
setup` in it). That version makes a state and its mirrors against the simulator. Then both versions
are asked the same, and every difference is printed. The exit is 1 if one is left that no rename
explains, or if a file of the mirrors was written again.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from syncd.simulator.github import GitHub
from syncd.simulator.server import serve
from tests.support.sync_env import signatures, tree_of

TOKEN = "ghp_personal00000000000000000000000000"
RENAMED = {
    "in step": "in sync",
    "in_step": "in_sync",
    "hook_owed": "reload_pending",
    "on_change is owed": "on_change is pending",
}
# Not of the store: what this hour cost, how long a command took, and contents in pack files, which
# are read after the migration only.
OTHERWISE = {"requests", "seconds", "spent", "remaining", "checked"}
RUNS = 2  # the first runs the pending reload and lists the folders anew
AT_REST = ("nginx",)  # the quick check leaves symlink publishing to the full run
ROOT = Path(__file__).resolve().parents[2]
PASSING = re.compile(
    r"\b(\d+[smhd] ?)+ ago\b|[\d,]+ of [\d,]+ requests left.*|; this hour spent: .*"
)


@dataclass
class Walk:
    """Both versions on one configuration.

    `problems` are the differences that no rename explains.
    """

    folder: Path
    old_tree: Path
    github: GitHub
    problems: list[str] = field(default_factory=list)

    @property
    def dest(self) -> Path:
        return self.folder / "dest"

    def run(self, tree: Path, *arguments: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
        """The exit and the output of a command of the version in `tree`."""
        command = [str(tree / ".venv/bin/python"), *options, "-m", "syncd"]
        done = subprocess.run(
            [*command, "-c", str(self.folder / "config.yaml"), *arguments],
            cwd=tree,
            env={"PATH": os.defpath, "HOME": str(self.folder)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    def old(self, *arguments: str) -> tuple[int, str]:
        return self.run(self.old_tree, *arguments)

    def new(self, *arguments: str) -> tuple[int, str]:
        return self.run(ROOT, *arguments)

    def expect(self, what: str, holds: bool, text: str = "") -> None:
        print(f"{'ok' if holds else 'DIFFERS':8}{what}")
        if not holds:
            self.problems.append(what)
            print(text)

    def compare(self, before: dict[str, str], after: dict[str, str]) -> None:
        """Text is equal, and JSON has each former key with its former value;
        keys that were added are printed.
        """
        for what, text in before.items():
            if "--json" in what or what.startswith("rollback"):
                missing, added = list[str](), set[str]()
                compare_json(json.loads(text), json.loads(after[what]), "", missing, added)
                more = f" (new keys: {', '.join(sorted(added))})" if added else ""
                self.expect(what + more, not missing, "\n".join(missing))
            else:
                lines = difflib.unified_diff(
                    text.splitlines(), after[what].splitlines(), n=0, lineterm=""
                )
                self.expect(what, text == after[what], "\n".join(lines))

    @contextmanager
    def copied(self) -> Iterator[None]:
        """The block works on a copy at the same path; afterwards the original is back,
        its inodes too.
        """
        kept = self.folder.with_name("kept")
        self.folder.rename(kept)
        shutil.copytree(kept, self.folder, symlinks=True)
        yield
        shutil.rmtree(self.folder)
        kept.rename(self.folder)


def compare_json(before: Any, after: Any, where: str, missing: list[str], added: set[str]) -> None:
    """Add what is no longer in `after` to `missing`, and the names of new keys to `added`."""
    if isinstance(before, dict) and isinstance(after, dict):
        added |= set(after) - set(before)
        for key in before.keys() - OTHERWISE:
            compare_json(before[key], after.get(key), f"{where}.{key}", missing, added)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            compare_json(one, other, f"{where}[{number}]", missing, added)
    elif before != after:
        missing.append(f"{where}: {before!r} became {after!r}")


def write_config(walk: Walk, api: str) -> None:
    """Four jobs: one with hooks, one with symlink publishing, one that reports drift,
    one that is paused.
    """
    folder, dest = walk.folder, walk.dest
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    jobs = {
        "nginx": {
            "repo": "acme/infra",
            "ref": "main",
            "paths": [
                {"from": "nginx/", "to": f"{dest}/nginx/"},
                {"from": "motd", "to": f"{dest}/motd"},
            ],
            "validate": {"shell": f"! grep -q broken {{staged}}{dest}/nginx/nginx.conf"},
            "on_change": {
                "shell": f"echo nginx >> {folder}/hooks; "
                f"! grep -q unloadable {dest}/nginx/nginx.conf"
            },
            "undo_on_failure": True,
        },
        "site": {
            "repo": "acme/site",
            "publish": "symlink",
            "as": "public",
            "paths": [{"from": "www/", "to": f"{dest}/web/site/"}],
        },
        "keep": {
            "repo": "acme/site",
            "drift": "report",
            "paths": [{"from": "etc/", "to": f"{dest}/etc/"}],
            "on_change": {"shell": f"echo keep >> {folder}/hooks; ! test -e {folder}/hook-fails"},
        },
        "idle": {
            "repo": "acme/infra",
            "ref": "main",
            "paths": [{"from": "motd", "to": f"{dest}/idle"}],
        },
    }
    identities = {
        "ops": {"token": {"file": str(folder / "token")}, "api": api},
        "public": {"anonymous": True, "api": api},
    }
    value = {
        "version": 1,
        "state": str(folder / "state"),
        "github": identities,
        "defaults": {"as": "ops", "every": "5m"},
        "jobs": jobs,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(value, sort_keys=False))


def live(walk: Walk) -> None:
    """What happened to the jobs under the first version: changes, a rejection, an undone set,
    a rollback, drift, a failing hook.
    """
    infra, site, dest = walk.github.repos["acme/infra"], walk.github.repos["acme/site"], walk.dest
    (dest / "etc").mkdir(parents=True)
    (dest / "etc/adopted").write_text("adopted\n")
    sync: list[tuple[int, str]] = [walk.old("sync")]
    infra.commit(
        {"nginx/sites/a.conf": "a2\n", "nginx/new.conf": "new\n", "nginx/sites/b.conf": None}
    )
    sync.append(walk.old("sync"))
    infra.commit({"nginx/nginx.conf": "broken\n"})
    sync.append(walk.old("sync"))
    infra.commit({"nginx/nginx.conf": "unloadable\n"})
    sync.append(walk.old("sync"))
    infra.commit({"nginx/nginx.conf": "two\n"})
    sync += [walk.old("sync"), walk.old("rollback", "nginx"), walk.old("resume", "nginx")]
    for number in range(4):
        site.commit({"www/index.html": f"{number}\n", "www/old.html": None if number else "old\n"})
        sync.append(walk.old("sync", "site"))
    (dest / "motd").write_text("drift\n")
    (dest / "etc/edited").write_text("by hand\n")
    (walk.folder / "hook-fails").touch()
    site.commit({"etc/changed": "changed\n"})
    sync += [walk.old("sync"), walk.old("pause", "idle", "--reason", "a move")]
    (walk.folder / "hook-fails").unlink()
    (dest / "etc/late").write_text("late\n")
    exits = [code for code, _ in sync]
    assert exits == [0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 3, 0], sync
    print("made by the first version; exits:", *exits)


def questions(walk: Walk) -> dict[str, tuple[str, ...]]:
    dest = walk.dest
    files = (
        "nginx/nginx.conf", "nginx/new.conf", "nginx/sites/a.conf", "nginx/sites/b.conf", "motd",
        "web/site/index.html", "web/site/old.html", "etc/adopted", "etc/edited",
        "etc/changed", "etc/late", "never",
    )  # fmt: skip
    asked = [
        ("status",), ("status", "--json"), ("history",), ("history", "--json"),
        ("history", "nginx"), ("history", "site"), ("history", "keep"),
        ("history", "nginx", "--json"), ("history", "--path", f"{dest}/motd"),
        ("verify", "--json"), ("plan", "--json"),
        *(("explain", f"{dest}/{name}") for name in files),
    ]  # fmt: skip
    return {" ".join(one).replace(f"{dest}/", ""): one for one in asked}


def answers(walk: Walk, call: Callable[..., tuple[int, str]]) -> dict[str, str]:
    """Each question's exit and output, ages left out, in today's words."""
    found = {}
    for what, arguments in questions(walk).items():
        code, text = call(*arguments)
        for old, new in RENAMED.items():
            text = text.replace(old, new)
        found[what] = (
            text[text.index("{") :]
            if "--json" in arguments
            else f"exit {code}\n{PASSING.sub('', text)}"
        )
    return found


def rollbacks(walk: Walk, call: Callable[..., tuple[int, str]]) -> dict[str, str]:
    """What both rollbacks say, what they ask GitHub, and the mirrors afterwards."""
    with walk.copied():
        found = {}
        for job in ("nginx", "site"):
            walk.github.forget_requests()
            code, text = call("rollback", job, "--json")
            report = json.loads(text[text.index("{") :])
            changes = [
                {name: value for name, value in one.items() if name != "trash"}
                for one in report["jobs"][0]["changes"]
            ]
            kept = {
                name: report["jobs"][0][name]
                for name in ("job", "status", "commit", "previous", "error")
            }
            found[f"rollback {job}"] = json.dumps(
                [code, walk.github.count(), kept, changes], indent=1
            )
        tree = {path: str(what) for path, what in sorted(tree_of(walk.dest).items())}
        found["the mirrors after both rollbacks"] = json.dumps(tree, indent=1)
        return found


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal", ".lock"))
    }


def check(walk: Walk) -> None:
    """Everything that both versions are asked, before the migration and after it,
    and what the first runs after it do.
    """
    before, state = answers(walk, walk.old), walk.folder / "state"
    files, stored = signatures(walk.dest), digest(state)
    print("\n== the present version looks at the old store")
    walk.compare(before, answers(walk, walk.new))
    walk.expect("no file of the state changed", digest(state) == stored, str(digest(state)))
    print("\n== rollbacks, each version on a copy")
    walk.compare(rollbacks(walk, walk.old), rollbacks(walk, walk.new))
    print("\n== after the migration")
    walk.expect("migrate", walk.new("migrate")[0] == 0)
    walk.compare(before, answers(walk, walk.new))
    for _ in range(RUNS):
        sync(walk, ())
    walk.expect(f"inode, mtime and ctime of {len(files)} files", signatures(walk.dest) == files)
    walk.expect("the last run was the quick check's", sync(walk, AT_REST))


def sync(walk: Walk, jobs: Sequence[str]) -> bool:
    """Run the present version's `sync`, print what it did,
    and return whether the quick check answered: SQLAlchemy is not loaded.
    """
    walk.github.forget_requests()
    code, text = walk.run(ROOT, "sync", *jobs, options=("-X", "importtime"))
    quick, asked = "sqlalchemy" not in text, walk.github.count()
    unchanged = walk.github.count("head", 304)
    by = "quick check" if quick else "full run"
    print(f"        sync: exit {code}, {asked} requests, {unchanged} answered 304, {by}")
    print(
        "".join(f"          {line}\n" for line in text.splitlines() if "import time:" not in line)
    )
    return quick


def main(old_tree: str) -> None:
    """Walk, and exit with 1 if something differs."""
    github = GitHub()
    github.accounts.add_personal_token(TOKEN)
    many = {f"nginx/many/{number}.conf": f"{number}\n" for number in range(150)}
    github.add_repo(
        "acme/infra",
        {
            "nginx/nginx.conf": "one\n",
            "nginx/sites/a.conf": "a\n",
            "nginx/sites/b.conf": "b\n",
            "motd": "hello\n",
            **many,
        },
    )
    github.add_repo(
        "acme/site",
        {
            "www/index.html": "index\n",
            "etc/adopted": "adopted\n",
            "etc/edited": "edited\n",
            "etc/changed": "one\n",
            "etc/late": "1\n",
        },
        private=False,
    )
    with tempfile.TemporaryDirectory() as name, serve(github) as served:
        walk = Walk(Path(name) / "walk", Path(old_tree).resolve(), github)
        walk.folder.mkdir()
        write_config(walk, served.url)
        live(walk)
        check(walk)
    print(f"\n{len(walk.problems)} differences", *walk.problems, sep="\n")
    sys.exit(bool(walk.problems))


if __name__ == "__main__":
    main(sys.argv[1])
