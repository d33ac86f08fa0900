"""Labels of agents: what is one, and which labels a job's `where:` matches."""

from __future__ import annotations

import pytest

from syncd.fleet_labels import has_labels, label_of, labels_text


@pytest.mark.parametrize(
    "text", ["tier", "=web", "tier=", "tier=a b", "-t=x", "t=x-", f"t={64 * 'x'}"]
)
def test_what_is_no_label_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        label_of(text)


@pytest.mark.parametrize(
    ("labels", "where", "chosen"),
    [
        ({"tier": "web", "zone": "a"}, {"tier": "web"}, True),
        ({"tier": "web"}, {"tier": "web", "zone": "a"}, False),
        ({"tier": "web"}, {"tier": "db"}, False),
        ({"tier": "web"}, {}, True),
        ({}, {"tier": "web"}, False),
    ],
)
def test_where_needs_all_of_its_labels(
    labels: dict[str, str], where: dict[str, str], chosen: bool
) -> None:
    assert has_labels(labels, where.items()) is chosen


def test_labels_are_shown_as_they_are_typed() -> None:
    assert label_of("example.com/tier=web-1") == ("example.com/tier", "web-1")
    assert (labels_text({"z": "1", "a": "2"}), labels_text({})) == ("a=2 z=1", "-")
