"""What -v and -vv add on stderr: actions as they are done, and requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv, sync_env

FILES = {"nginx/nginx.conf": "one\n", "nginx/gone.conf": "g\n", "nginx/same.conf": "s\n"}
ACTIONS = ["write DEST/nginx.conf", "restore DEST/same.conf", "remove DEST/gone.conf"]
REQUESTS = [
    "GET HOST/repos/acme/infra/commits/heads/main 200, N ms, cost 1",
    "GET HOST/repos/acme/infra/contents/nginx 200, N ms, cost 1",
    "GET HOST/repos/acme/infra/contents/nginx/nginx.conf 200, N ms, cost 1",
]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, FILES, as_app=False) as made:
        assert made.sync().code == 0
        made.repo.commit({"nginx/nginx.conf": "two\n", "nginx/gone.conf": None})
        (made.dest / "same.conf").write_text("edited\n")
        yield made


def said(hub: SyncEnv, *options: str) -> list[str]:
    """The lines on stderr, with the changing parts named."""
    text = hub.call(*options, "sync").err.replace(str(hub.dest), "DEST")
    text = text.replace(hub.served.url.removeprefix("http://"), "HOST")
    return re.sub(r"\d+ ms", "N ms", text).splitlines()


@pytest.mark.parametrize(
    ("options", "lines"),
    [((), []), (("-q",), []), (("-v",), ACTIONS), (("-vv",), [*REQUESTS, *ACTIONS])],
    ids=["none", "-q", "-v", "-vv"],
)
def test_a_sync_says_this_on_stderr(
    hub: SyncEnv, options: tuple[str, ...], lines: list[str]
) -> None:
    assert said(hub, *options) == lines


def test_a_request_that_finds_nothing_new_costs_nothing(hub: SyncEnv) -> None:
    hub.sync()
    assert said(hub, "-vv") == ["GET HOST/repos/acme/infra/commits/heads/main 304, N ms, cost 0"]
