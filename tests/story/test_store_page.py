"""docs/store.md: every query runs on a real store, and answers what the page says."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncd.store.schema import METADATA
from tests.support.sync_env import SyncEnv

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).resolve().parents[2] / "docs/store.md").read_text()
QUERIES = re.findall(
    r"^(?P<title>[^\n`]+):\n\n```sql\n(?P<query>.*?)```", PAGE, re.MULTILINE | re.DOTALL
)


def asked(hub: SyncEnv, title: str) -> list[dict[str, Any]]:
    """What the page's query of that title answers, in a client that knows nothing of syncd."""
    (query,) = [query for found, query in QUERIES if found.startswith(title)]
    with closing(sqlite3.connect(f"file:{hub.state}/syncd.db?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def test_the_page_has_the_queries_that_operators_ask_first() -> None:
    assert [title.split(",")[0] for title, _ in QUERIES] == [
        "Which file came from which blob at which commit",
        "What changed in the last day",
        "Which jobs have a pending reload",
        "What a run cost",
        "What an interrupted run was about to do",
        "Files that a policy left alone although the repository has another version",
    ]


def test_the_ledger_says_which_file_came_from_which_blob_at_which_commit(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/nginx.conf": "one\n"})
    first = hub.sync().job["commit"]
    hub.repo.commit({"nginx/other.conf": "two\n"})
    second = hub.sync().job["commit"]
    rows = {row["path"]: row for row in asked(hub, "Which file came")}
    one, two = rows[f"{hub.dest}/nginx.conf"], rows[f"{hub.dest}/other.conf"]
    assert one["blob_sha"] == "5626abf0f72e58d7a153368ba57db4c673c0e171"
    assert (one["job"], one["repo"], one["source"], one["mode"]) == (
        "nginx",
        "acme/infra",
        "nginx/nginx.conf",
        0o644,
    )
    assert (one["commit_sha"], two["commit_sha"]) == (first, second)


def test_the_history_says_what_changed_and_what_it_cost(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/nginx.conf": "one\n"})
    done = hub.sync()
    changes = asked(hub, "What changed in the last day")
    assert {row["commit_sha"] for row in changes} == {done.job["commit"]}
    assert ("write", f"{hub.dest}/nginx.conf") in {(row["action"], row["path"]) for row in changes}
    (run,) = asked(hub, "What a run cost")
    assert (run["job"], run["status"], run["bytes_written"]) == (
        "nginx",
        "changed",
        done.job["bytes"],
    )
    assert 0 < run["requests"] <= done.json["requests"]["total"]


def test_a_pending_reload_is_found(hub: SyncEnv) -> None:
    hub.repo.commit({"nginx/nginx.conf": "one\n"})
    hub.write_config(on_change="/bin/false")
    done = hub.sync()
    (row,) = asked(hub, "Which jobs have a pending reload")
    assert (row["name"], row["reload_commit"], row["reload_attempts"]) == (
        "nginx",
        done.job["commit"],
        1,
    )
    assert asked(hub, "What an interrupted run") == []


def test_a_file_that_a_policy_left_alone_is_found(hub: SyncEnv) -> None:
    (hub.dest / "nginx.conf").parent.mkdir(parents=True, exist_ok=True)
    (hub.dest / "nginx.conf").write_text("mine\n")
    hub.repo.commit({"nginx/nginx.conf": "theirs\n"})
    hub.write_config(drift="keep")
    hub.sync()
    assert [row["path"] for row in asked(hub, "Files that a policy")] == [f"{hub.dest}/nginx.conf"]


@pytest.mark.parametrize("table", [table.name for table in METADATA.sorted_tables])
def test_every_table_is_on_the_page(table: str) -> None:
    assert f"`{table}`" in PAGE
