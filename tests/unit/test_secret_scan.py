"""The sweep itself: what it is there to find, it finds, in every form and every place."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from syncd.cli import logging_setup
from tests.support.secret_scan import SecretScan, listening
from tests.support.sync_env import sync_env

TOKEN = 'c4nary/of+the=night "quoted"'
FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "in a sentence": lambda value: f"said {value}!",
    "URL-encoded": lambda value: quote(value, safe=""),
    "JSON-escaped": json.dumps,
    "in a repr": lambda value: repr({"x": value}),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 for the web": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    **{
        f"base64 after {count} bytes": lambda value, count=count: base64.b64encode(
            b"u" * count + value.encode() + b":x"
        ).decode()
        for count in (1, 2, 3)
    },  # type: ignore[misc]
}


@pytest.mark.parametrize("form", FORMS)
def test_a_credential_is_found_in_every_form_in_outputs_files_and_names(
    tmp_path: Path, form: str
) -> None:
    said = FORMS[form](TOKEN)
    canary = SecretScan()
    canary.watch(TOKEN, "a token")
    assert canary.search(tmp_path) == []
    canary.heard("stderr", f"before {said} after")
    (tmp_path / "store.db").write_bytes(b"\0" * 100 + said.encode() + b"\xff")
    assert canary.search(tmp_path) == ["a token in stderr", "a token in the file store.db"]


def test_one_line_of_a_key_is_found_and_an_operators_own_file_is_spared(tmp_path: Path) -> None:
    key = (
        "-----BEGIN PRIVATE KEY-----\n"
        + "".join(f"{letter * 60}0\n" for letter in "abcdefgh")
        + "-----END PRIVATE KEY-----\n"
    )
    (tmp_path / "app.pem").write_text(key)
    canary = SecretScan(spared={tmp_path / "app.pem"})
    canary.watch(key, "a key")
    assert canary.search(tmp_path) == []
    canary.heard("a traceback", f"near {'h' * 60}0")
    assert canary.search(tmp_path) == ["a key in a traceback"]


def test_what_is_logged_at_debug_is_heard_whatever_is_shown() -> None:
    canary = SecretScan()
    canary.watch("canary-of-the-log-0815", "a token")
    with listening(canary, "a command"):
        logging_setup.set_up_logging(0, quiet=True)
        logging.getLogger("syncd.somewhere").debug("asked with %s", "canary-of-the-log-0815")
    assert canary.search() == ["a token in the log of a command"], (
        "nobody told the redactor of this one"
    )
    assert len(logging.getLogger().handlers) == 1


@pytest.mark.parametrize("where", ["the state", "a hook's output"])
def test_a_stand_that_leaked_fails_when_it_is_taken_down(tmp_path: Path, where: str) -> None:
    with pytest.raises(AssertionError, match="credentials leaked"), sync_env(tmp_path) as hub:
        assert hub.sync().code == 0
        [token] = hub.github.accounts.credentials
        if where == "the state":
            (hub.state / "left-behind").write_text(base64.b64encode(f"x:{token}".encode()).decode())
        else:
            hub.canary.heard("a hook", token)
