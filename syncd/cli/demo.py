"""`syncd demo`: a whole sync against a simulated GitHub on loopback, step by step.

Each step shows what was written and how many requests it took.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click

from syncd.cli.common import Settings, exit_code
from syncd.cli.folding import fold, terminal_columns
from syncd.cli.logging_setup import set_up_logging
from syncd.cli.run_output import change_line, cost_of, count_of, error_lines, summary_line
from syncd.cli.sync import run_all
from syncd.config.load import load_config
from syncd.engine.context import Options
from syncd.models import RunReport, RunStatus
from syncd.output import echo
from syncd.simulator.github import GitHub
from syncd.simulator.repository import File, Link, Node, Repository
from syncd.simulator.server import serve
from syncd.text import styled
from syncd.wiring import AppContext

NGINX: Mapping[str, Node] = {
    "nginx/nginx.conf": "worker_processes 1;\nevents {}\nhttp { include sites/*.conf; }\n",
    "nginx/sites/shop.conf": "server { listen 80; server_name shop.example; }\n",
    "nginx/sites/blog.conf": "server { listen 80; server_name blog.example; }\n",
    "nginx/sites/default.conf": Link("shop.conf"),
    "nginx/reload.sh": File(b"#!/bin/sh\nexec systemctl reload nginx\n", executable=True),
    "nginx/README.md": "Not mirrored: excluded.\n",
    "motd": "Welcome. This file is kept by syncd.\n",
    "src/app.py": "print('not listed, so never fetched')\n",
}


@click.command(
    name="demo", short_help="A whole sync against a GitHub stand-in; nothing to configure."
)
@click.option(
    "--serve",
    "keep_serving",
    is_flag=True,
    help="Leave the stand-in running, and print a configuration for it, until Ctrl-C.",
)
@click.pass_obj
def command(settings: Settings, keep_serving: bool) -> int:
    """Run the main job against a GitHub stand-in on loopback: App sign-in, verified files, nothing
    left behind.

    Needs no network, no GitHub account and no root.
    """
    set_up_logging(settings.verbose, settings.quiet)
    with (
        tempfile.TemporaryDirectory(prefix="syncd-demo-") as name,
        _stand_in(Path(name)) as (github, repo, file),
    ):
        mirror = Path(name) / "etc"
        if keep_serving:
            return _serve(file)
        started = f"A GitHub stand-in is on loopback with {repo.full_name}; the mirror is {mirror}."
        echo("\n".join([*fold(started, terminal_columns(), ""), ""]))
        reports: list[RunReport] = []
        for title, act in _steps(repo, mirror):
            act()
            reports.append(_sync(settings, file, title, github))
        wrong = _differences(repo, mirror)
        echo(
            "Every file was compared with the repository at the end: "
            + ("all equal." if not wrong else f"different: {', '.join(wrong)}")
        )
        return exit_code(reports) or int(
            bool(wrong) or [report.status for report in reports].count(RunStatus.UNCHANGED) != 1
        )


@contextmanager
def _stand_in(folder: Path) -> Iterator[tuple[GitHub, Repository, Path]]:
    github = GitHub()
    key = folder / "app.pem"
    key.write_text(github.accounts.add_app(12345))
    key.chmod(0o600)
    github.accounts.install(12345, "acme", 42)
    repo = github.add_repo("acme/infra", NGINX)
    with serve(github) as served:
        file = folder / "config.yaml"
        file.write_text(f"""version: 1
state: {folder}/state
github:
  ops: {{app_id: 12345, installation_id: 42, private_key: {key}, api: "{served.url}"}}
jobs:
  nginx:
    repo: acme/infra
    ref: main
    every: 5m
    paths:
      - {{from: nginx/, to: {folder}/etc/nginx/, exclude: ["*.md"]}}
      - {{from: motd, to: {folder}/etc/motd, mode: "0640"}}
""")
        yield github, repo, file


def _steps(repo: Repository, mirror: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "First sync", lambda: None
    yield "Nothing changed", lambda: None
    yield (
        "A push changed one file and added one",
        lambda: repo.commit(
            {
                "nginx/nginx.conf": (
                    "worker_processes auto;\nevents {}\nhttp { include sites/*.conf; }\n"
                ),
                "nginx/sites/api.conf": "server { listen 80; server_name api.example; }\n",
            }
        ),
    )
    yield "A push removed one", lambda: repo.commit({"nginx/sites/blog.conf": None})
    yield (
        "A file was edited on this machine",
        lambda: (mirror / "nginx/nginx.conf").write_text("worker_processes 64; # temporary!\n"),
    )


def _sync(settings: Settings, file: Path, title: str, github: GitHub) -> RunReport:
    github.forget_requests()
    config = load_config(file, settings.environ)
    app = AppContext.open(config, settings.environ)
    try:
        report = run_all(app, list(config.jobs.values()), Options(), lambda _: None)[0]
    finally:
        app.close()
    totals = app.request_metrics.totals()
    echo(
        styled(title, bold=True) + f": {count_of(len(report.changes), 'change')}, {cost_of(totals)}"
    )
    for line in [
        summary_line(report, 0),
        *error_lines(report),
        *(change_line(change) for change in report.changes),
    ]:
        echo(f"  {line}")
    echo("")
    return report


def _differences(repo: Repository, mirror: Path) -> list[str]:
    """Return the paths where the mirror is not what the repository's last commit holds."""
    files = repo.files_of[repo.head()]
    wrong = []
    for path, node in files.items():
        if path.startswith("src/") or path.endswith(".md"):
            continue
        place = mirror / path
        if isinstance(node, Link):
            good = place.is_symlink() and str(place.readlink()) == node.target
        else:
            content = (
                node.content
                if isinstance(node, File)
                else node.encode()
                if isinstance(node, str)
                else b""
            )
            good = (
                place.is_file()
                and place.read_bytes() == content
                and bool(place.stat().st_mode & 0o100)
                == (isinstance(node, File) and node.executable)
            )
        if not good:
            wrong.append(path)
    there = {
        str(place.relative_to(mirror))
        for place in mirror.rglob("*")
        if not place.is_dir() or place.is_symlink()
    }
    return wrong + sorted(there - set(files))


def _serve(file: Path) -> int:
    import threading

    echo(f"The stand-in runs until Ctrl-C. Try, in another terminal:\n\n  syncd -c {file} sync\n")
    echo(file.read_text())
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        echo("stopped")
    return 0
