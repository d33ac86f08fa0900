"""The wizard's answers as YAML: what is read back is what was answered, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from syncd.cli.wizard.answers import Answers, flow, scalar, schedule_key
from syncd.cli.wizard.identity_steps import api_of
from syncd.cli.wizard.terminal import Mistake

TEXTS = [
    "plain",
    "a b",
    "with: colon",
    "# no comment",
    'quote " and \\ backslash',
    "{braces}",
    "[brackets]",
    "- dash",
    "yes",
    "'single'",
    "%percent",
    "ünïcödé",
    "tab\tand\u202eturn\x85",
    "&anchor *alias",
    "a,b",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_scalar_is_read_back_as_it_was(text: str) -> None:
    assert str(yaml.load(f"{{a: {scalar(text)}}}", yaml.BaseLoader)["a"]) == text


def test_a_nested_value_is_written_on_one_line() -> None:
    assert flow({"token": {"file": "/a b"}}) == '{token: {file: "/a b"}}'
    assert flow({"anonymous": True}) == "{anonymous: true}"


HOSTS = [
    ("github.com", "https://api.github.com"),
    ("www.github.com", "https://api.github.com"),
    ("https://github.com/", "https://api.github.com"),
    ("https://github.com/acme/infra", "https://api.github.com"),
    ("api.github.com", "https://api.github.com"),
    ("acme.ghe.com", "https://api.acme.ghe.com"),
    ("api.acme.ghe.com", "https://api.acme.ghe.com"),
    ("ghe.example.com", "https://ghe.example.com/api/v3"),
    ("https://ghe.example.com/api/v3", "https://ghe.example.com/api/v3"),
    ("ghe.example.com:8443", "https://ghe.example.com:8443/api/v3"),
    ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v3"),
    ("[::1]:8080", "https://[::1]:8080/api/v3"),
]


@pytest.mark.parametrize(("host", "api"), HOSTS)
def test_a_host_or_an_address_on_it_leads_to_its_api(host: str, api: str) -> None:
    assert api_of(host) == api


@pytest.mark.parametrize("text", ["", "git hub", "https://", "user@host", "http://[x"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(Mistake):
        api_of(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [("5m", "every"), ("5 parsecs", "every"), ("@daily", "cron"), ("15 3 * * *", "cron")],
)
def test_a_schedule_is_an_interval_or_a_cron_expression(text: str, key: str) -> None:
    assert schedule_key(text) == key


def test_a_command_for_a_shell_is_written_as_one() -> None:
    answers = Answers(
        Path("/etc/syncd/config.yaml"),
        kind="public",
        repo="acme/my.infra",
        source="nginx/",
        to="/srv/nginx/",
        on_change="true && false",
        shell=True,
    )
    job = yaml.safe_load(answers.text())["jobs"]["my-infra"]
    assert job["on_change"] == {"shell": "true && false"}


def test_what_github_says_of_an_app_stays_in_its_comment() -> None:
    answers = Answers(Path("/x"), kind="public", about="acme\njobs: {}", repo="a/b", source="a")
    assert "jobs: {}" not in answers.text()
