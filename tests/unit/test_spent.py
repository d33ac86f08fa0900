"""Who spent an hourly limit: added up over processes, begun anew with the hour, and nothing is decided by it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.store import spent

NOW = datetime(2026, 11, 24, 12, 20, tzinfo=UTC)
ENDS = datetime(2026, 11, 24, 13, 0, tzinfo=UTC)


def test_the_hour_is_githubs_where_it_says_so_and_the_clocks_where_not() -> None:
    assert spent.hour_of(NOW, NOW + timedelta(minutes=7)) == NOW + timedelta(minutes=7)
    assert spent.hour_of(NOW, None) == spent.hour_of(NOW, NOW - timedelta(minutes=1)) == ENDS


def test_requests_are_added_up_by_repository_the_most_first(tmp_path: Path) -> None:
    spent.add(tmp_path, "ops", ENDS, {"acme/web": 2, "acme/infra": 1})
    spent.add(tmp_path, "ops", ENDS, {"acme/infra": 4})
    spent.add(tmp_path, "bot", ENDS, {"acme/web": 1})
    found = spent.look(tmp_path, NOW)
    assert list(found["ops"].items()) == [("acme/infra", 5), ("acme/web", 2)] and found["bot"] == {"acme/web": 1}
    assert (tmp_path / spent.NAME).stat().st_mode & 0o777 == 0o600


def test_a_new_hour_begins_with_nothing(tmp_path: Path) -> None:
    spent.add(tmp_path, "ops", ENDS, {"acme/web": 2})
    assert spent.look(tmp_path, ENDS) == {}
    spent.add(tmp_path, "ops", ENDS + timedelta(hours=1), {"acme/infra": 1})
    assert spent.look(tmp_path, ENDS) == {"ops": {"acme/infra": 1}}


def test_many_who_add_at_once_lose_nothing(tmp_path: Path) -> None:
    threads = [threading.Thread(target=lambda: [spent.add(tmp_path, "ops", ENDS, {"acme/web": 1}) for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spent.look(tmp_path, NOW) == {"ops": {"acme/web": 100}}


NO_ZONE = b'{"ops": {"ends_at": "2026-11-24T13:00:00", "requests": {}}}'


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"ops": 3}', b'{"ops": {"ends_at": "soon", "requests": {}}}', NO_ZONE, b"\xff\x00", b"9" * 5000])
def test_a_damaged_file_begins_anew(tmp_path: Path, body: bytes) -> None:
    (tmp_path / spent.NAME).write_bytes(body)
    assert spent.look(tmp_path, NOW) == {}
    spent.add(tmp_path, "ops", ENDS, {"acme/web": 1})
    assert spent.look(tmp_path, NOW) == {"ops": {"acme/web": 1}}


def test_a_thousand_repositories_are_named_and_the_rest_is_one_sum(tmp_path: Path) -> None:
    spent.add(tmp_path, "ops", ENDS, {f"acme/r{number}": number for number in range(1, 1201)})
    found = spent.look(tmp_path, NOW)["ops"]
    assert len(found) == 1001 and found["acme/r1200"] == 1200 and found[spent.REST] == sum(range(1, 201))


def test_nothing_is_known_where_nothing_was_spent_or_the_file_is_no_file(tmp_path: Path) -> None:
    assert spent.look(tmp_path, NOW) == {}
    (tmp_path / spent.NAME).mkdir()
    assert spent.look(tmp_path, NOW) == {}
    with pytest.raises(OSError):
        spent.add(tmp_path, "ops", ENDS, {"acme/web": 1})
