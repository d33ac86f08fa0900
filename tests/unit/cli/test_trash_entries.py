"""Entries of the trash are found by what a person types, and named as short as is unambiguous."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from syncd.cli.trash import size_of
from syncd.cli.trash_entries import below, find_entry, short_ids, why
from syncd.errors import MirrorError
from syncd.mirror.trash import TrashEntry
from syncd.models import Kind


def entry(id: str, path: str, reason: str = "") -> TrashEntry:
    at = datetime(2026, 11, 21, tzinfo=UTC)
    return TrashEntry(id, path, "nginx", "1" * 40, Kind.FILE, 0o644, 0, 0, 5, at, 1.0, reason)


ENTRIES = [
    entry("aaaaaaaaaaaa", "/etc/nginx/mime.types"),
    entry("aaaaaabbbbbb", "/etc/nginx/mime.types"),
    entry("cccccccccccc", "/etc/nginx/sites/a.conf"),
]


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        ([], []),
        (["aaaaaaaaaaaa"], ["aaaaaa"]),
        (["aaaaaaaaaaaa", "aaaaaabbbbbb"], ["aaaaaaa", "aaaaaab"]),
        (
            ["aaaaaaaaaaaa", "aaaaaaaaaaab", "bbbbbbbbbbbb"],
            ["aaaaaaaaaaaa", "aaaaaaaaaaab", "bbbbbb"],
        ),
    ],
)
def test_ids_are_as_short_as_is_unambiguous(ids: list[str], shown: list[str]) -> None:
    assert list(short_ids(reversed(ids)).values()) == shown


@pytest.mark.parametrize(
    ("typed", "found", "others"),
    [
        ("cccc", "cccccccccccc", 0),
        ("CCCCCC", "cccccccccccc", 0),
        ("aaaaaab", "aaaaaabbbbbb", 0),
        ("/etc/nginx/mime.types", "aaaaaabbbbbb", 1),
        ("/etc/nginx//sites/../sites/a.conf", "cccccccccccc", 0),
    ],
)
def test_an_entry_is_found_by_its_id_or_path(typed: str, found: str, others: int) -> None:
    one, more = find_entry(ENTRIES, typed)
    assert (one.id, more) == (found, others)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("ccc", "the trash has no entry 'ccc'"),
        (
            "aaaaaa",
            "2 entries of the trash have ids that begin with aaaaaa: aaaaaaaaaaaa, aaaaaabbbbbb",
        ),
        ("aaaaaaaaaaab", "the trash has no entry 'aaaaaaaaaaab'; did you mean 'aaaaaaaaaaaa'?"),
        (
            "/etc/nginx/mime.type",
            "the trash has no entry '/etc/nginx/mime.type'; did you mean '/etc/nginx/mime.types'?",
        ),
        ("a.con", "the trash has no entry 'a.con'; did you mean '/etc/nginx/sites/a.conf'?"),
    ],
)
def test_what_names_no_entry_is_an_error(typed: str, message: str) -> None:
    with pytest.raises(MirrorError) as raised:
        find_entry(ENTRIES, typed)
    assert raised.value.message == message


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("/etc/nginx", ["aaaaaaaaaaaa", "aaaaaabbbbbb", "cccccccccccc"]),
        ("/etc/nginx/sites/", ["cccccccccccc"]),
        ("/etc/nginx/mime.types", ["aaaaaaaaaaaa", "aaaaaabbbbbb"]),
        ("/etc/nginx/mime", []),
    ],
)
def test_entries_below_a_path(path: str, ids: list[str]) -> None:
    assert [one.id for one in below(ENTRIES, path)] == ids


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("takes over", "was there before the job"),
        ("another file is here; put back", "was there before the job"),
        ("edited here; put back", "edited here"),
        ("changed upstream", "edited here, changed upstream"),
        ("replaced by trash restore", "replaced by trash restore"),
        ("", ""),
    ],
)
def test_why_a_file_was_replaced(reason: str, shown: str) -> None:
    assert why(entry("aaaaaaaaaaaa", "/a", reason)) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (5243, "5.2 KB"), (52430, "52 KB"), (1_500_000_000, "1.5 GB")],
)
def test_sizes_for_people(size: int, shown: str) -> None:
    assert size_of(size) == shown
