"""What syncd itself sees: the command `syncd sync`, run twice against the same server."""

from __future__ import annotations

import io
import json
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from syncd.cli.main import run
from tests.live.answers import Answer, Table, asked, yes_or_no
from tests.live.api import NotApplicable
from tests.live.subject import Subject

QUESTIONS: Table = []


@asked(
    QUESTIONS,
    "1 and 11.1",
    "syncd-unchanged-is-one-304",
    "Does a second `syncd sync` of an unchanged file cost a token and one request answered 304?",
)
def unchanged(subject: Subject) -> Answer:
    first, second = _two_syncs(subject, subject.entry("100644")["path"])
    requests = second["requests"]
    text = f"exits {first['exit']} and {second['exit']}; the second sync's requests: {requests}"
    return yes_or_no(
        second["exit"] == 0 and requests["total"] <= 2 and requests["not_modified"] == 1, text
    )


@asked(
    QUESTIONS,
    "11.8",
    "syncd-fetches-lfs",
    "Does `syncd sync` with `lfs: fetch` mirror a file of Git LFS as an App?",
)
def lfs(subject: Subject) -> Answer:
    path, _, size = subject.pointer
    if subject.settings.write:
        raise NotApplicable("the scratch repository's pointer has no content")
    first, _ = _two_syncs(subject, path)
    [job] = first["jobs"]
    error = job["error"] or {}
    text = f"exit {first['exit']}, {error.get('id', f'{size} bytes')}"
    return yes_or_no(first["exit"] == 0, text)


def _two_syncs(subject: Subject, path: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="syncd-live-") as folder:
        config = _config(subject, Path(folder), path)
        return [_sync(subject, config) for _ in range(2)]


def _config(subject: Subject, folder: Path, path: str) -> Path:
    settings, key = subject.settings, folder / "app.pem"
    key.touch(0o600)
    key.write_text(settings.private_key)
    identity: dict[str, Any] = {
        "app_id": settings.app_id,
        "installation_id": subject.installation,
        "private_key": str(key),
        "api": settings.api,
    }
    if settings.ca_file is not None:
        identity["ca_file"] = settings.ca_file
    ref = settings.ref or subject.repository["default_branch"]
    job = {
        "repo": settings.repo,
        "ref": f"refs/{ref}" if ref.startswith(("heads/", "tags/")) else ref,
        "every": "1h",
        "lfs": "fetch",
        "paths": [{"from": path, "to": f"{folder}/mirrored"}],
    }
    config = folder / "config.yaml"
    value = {
        "version": "1",
        "state": f"{folder}/state",
        "github": {"live": identity},
        "jobs": {"live": job},
    }
    config.write_text(yaml.safe_dump(value))
    return config


def _sync(subject: Subject, config: Path) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        run(["-c", str(config), "sync", "--json"])
    try:
        found: dict[str, Any] = json.loads(out.getvalue())
    except ValueError as error:
        raise NotApplicable("syncd gave no report") from error
    subject.api.request_count += found["requests"]["total"]
    return found
