"""Words of other programs: what each means, in the block that it was written in."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.config.identity_schema import IdentityModel
from syncd.config.key_aliases import WORDS, WRITTEN_OUT
from syncd.config.load import load_config
from syncd.config.schema import ConfigModel, JobModel, PathModel
from syncd.errors import ConfigError

BASE = """version: 1
github:
  ops: {app_id: 12345, private_key: /etc/syncd/app.pem%s}
jobs:
  nginx:
    repo: acme/infra
    every: 5m
    paths:
      - {from: nginx/, to: /srv/nginx/%s}
%s"""
IDENTITY, PATH, JOB, TOP = range(4)

# where it is written, the word, what the message says after "did you mean '"
CASES = [
    (JOB, "repository", "repo'?"),
    (JOB, "branch", "ref'?"),
    (JOB, "interval", "every'?"),
    (JOB, "schedule", "every' or 'cron'?"),
    (JOB, "cron_expression", "cron'?"),
    (JOB, "path", "paths'?"),
    (JOB, "files", "paths'?"),
    (JOB, "folder", "paths'?"),
    (JOB, "dest", "paths: [{from: ..., to: ...}]'?"),
    (JOB, "source", "paths: [{from: ..., to: ...}]'?"),
    (JOB, "url", "repo'?"),
    (JOB, "hook", "on_change'?"),
    (JOB, "command", "on_change'?"),
    (JOB, "identity", "as'?"),
    (JOB, "user", "owner'?"),
    (PATH, "path", "from'?"),
    (PATH, "source", "from'?"),
    (PATH, "src", "from'?"),
    (PATH, "folder", "from'?"),
    (PATH, "dest", "to'?"),
    (PATH, "destination", "to'?"),
    (PATH, "target", "to'?"),
    (PATH, "permissions", "mode'?"),
    (IDENTITY, "token_file", "token: {file: PATH}'?"),
    (IDENTITY, "key", "private_key'?"),
    (IDENTITY, "pem", "private_key'?"),
    (IDENTITY, "id", "app_id'?"),
    (IDENTITY, "url", "api'?"),
    (IDENTITY, "host", "api'?"),
    (IDENTITY, "ca-cert", "ca_file'?"),
    (TOP, "repos", "jobs'?"),
    (TOP, "identities", "github'?"),
    (TOP, "notifications", "notify'?"),
    (TOP, "tz", "timezone'?"),
]


@pytest.mark.parametrize(("where", "word", "meant"), CASES)
def test_a_word_of_another_program_is_answered_with_the_key_it_means(
    tmp_path: Path, where: int, word: str, meant: str
) -> None:
    inner = f", {word}: x"
    rest = {JOB: f"    {word}: x\n", TOP: f"{word}: x\n"}.get(where, "")
    file = tmp_path / "config.yaml"
    file.write_text(
        BASE % (inner if where == IDENTITY else "", inner if where == PATH else "", rest)
    )
    with pytest.raises(ConfigError) as failed:
        load_config(file, {"HOME": "/root"})
    texts = [problem.text for problem in failed.value.problems]
    assert texts == [f"unknown key '{word}'; did you mean '{meant}"]


def test_a_word_without_a_meaning_gets_a_key_of_similar_spelling_or_none(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(BASE % ("", "", "    evry: 5m\n    zzz: 1\n"))
    with pytest.raises(ConfigError) as failed:
        load_config(file, {"HOME": "/root"})
    assert [problem.text for problem in failed.value.problems] == [
        "unknown key 'evry'; did you mean 'every'?",
        "unknown key 'zzz'",
    ]


def test_every_alias_names_a_key_that_exists() -> None:
    text = (Path(__file__).resolve().parents[3] / "config.example.yaml").read_text()
    assert {key for key in WORDS if f"{key}:" not in text} == set()
    assert {key for key, _ in WRITTEN_OUT.values()} <= {
        info.alias or name
        for model in (ConfigModel, IdentityModel, JobModel, PathModel)
        for name, info in model.model_fields.items()
    }
