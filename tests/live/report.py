"""The report of `make live`: Markdown for people, JSON for programs, and no secret in either."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from syncd import __version__
from syncd.redaction import redact
from tests.live.answers import Result
from tests.live.api import Evidence
from tests.live.settings import Settings

SCHEMA = "syncd.live/1"


class Report(Struct, frozen=True):
    """Everything that a run found out."""

    settings: Settings
    at: datetime
    request_count: int
    results: list[Result]


def write(report: Report) -> list[Path]:
    """Write both files, readable by their owner alone, and return their paths."""
    folder = report.settings.report
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.md": _markdown(report), "report.json": _json(report)}
    for name, text in texts.items():
        if redact(text, None) != text:
            raise AssertionError(f"{name} would hold a secret; it was not written")
        with open(
            os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
        ) as file:
            file.write(text)
    return [folder / name for name in texts]


def _head(report: Report) -> dict[str, object]:
    settings = report.settings
    return {
        "schema": SCHEMA,
        "syncd": __version__,
        "at": report.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "api": settings.api,
        "repository": settings.repo,
        "wrote": settings.write,
        "requests": report.request_count,
    }


def _json(report: Report) -> str:
    value = {**_head(report), "results": [msgspec.to_builtins(one) for one in report.results]}
    return json.dumps(value, indent=1) + "\n"


def _markdown(report: Report) -> str:
    lines = ["# Open points, asked of a server", ""]
    lines += [f"- {name}: {value}" for name, value in _head(report).items()]
    lines += ["", "| section | question | answer | what was seen |", "| --- | --- | --- | --- |"]
    for one in report.results:
        cells = (one.section, one.question, f"**{one.answer}**", one.text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for one in report.results:
        lines += ["", f"## {one.id}", "", f"{one.question} **{one.answer}**: {one.text}", ""]
        lines += [text for exchange in one.evidence for text in _exchange(exchange)]
    return "\n".join(lines) + "\n"


def _exchange(exchange: Evidence) -> list[str]:
    said = f" ({exchange.message})" if exchange.message else ""
    headers = [f"  - `{name}: {value}`" for name, value in exchange.headers.items()]
    return [f"- `{exchange.request}` answered {exchange.status}{said}", *headers]
