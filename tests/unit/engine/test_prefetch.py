"""What is found out while GitHub is asked is what would have been found in turn."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest

from syncd.engine.prefetch import Prefetch
from syncd.errors import MirrorError, StoreError
from syncd.models import LedgerRow, LocalFile, WantedFile
from syncd.ports import Mirror, Store, Target

LEDGER = {
    f"/srv/{name}": LedgerRow(WantedFile("ab" * 20, 0o644, root="/srv"), None) for name in "abc"
}
TARGETS = {path: Target("/srv", row) for path, row in LEDGER.items()}


class Memory:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def load_ledger(self, _job: str) -> dict[str, LedgerRow]:
        if self._error is not None:
            raise self._error
        return LEDGER

    def folders(self, _job: str) -> frozenset[str]:
        return frozenset()


class Disk:
    """Counts looks; each sees the number it was. The first may fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.looks: list[tuple[int, Mapping[str, Target]]] = []
        self._error = error

    def scan(self, targets: Mapping[str, Target], _check: object = None) -> dict[str, Any]:
        self.looks.append((threading.get_ident(), targets))
        if self._error is not None and len(self.looks) == 1:
            raise self._error
        return dict.fromkeys(targets, len(self.looks))


def ahead(disk: Disk, store: Memory | None = None) -> Prefetch:
    return Prefetch("nginx", cast(Store, store or Memory()), cast(Mirror, disk))


def test_the_ledger_and_its_places_are_looked_at_once_by_another_thread() -> None:
    disk = Disk()
    with ahead(disk) as one:
        assert one.recorded() == LEDGER
        assert one.scan(TARGETS) == dict.fromkeys(LEDGER, cast(LocalFile, 1))
    assert [targets for _, targets in disk.looks] == [TARGETS] and disk.looks[0][
        0
    ] != threading.get_ident()


@pytest.mark.parametrize(
    "targets",
    [
        TARGETS | {"/srv/new": Target("/srv", None)},
        {path: target for path, target in TARGETS.items() if path != "/srv/a"},
        TARGETS | {"/srv/a": Target("/", LEDGER["/srv/a"])},
        TARGETS | {"/srv/a": Target("/srv", None)},
    ],
    ids=["one more", "one less", "another root", "another row"],
)
def test_other_places_are_all_looked_at_again_because_one_explains_another(
    targets: Mapping[str, Target],
) -> None:
    disk = Disk()
    with ahead(disk) as one:
        assert one.scan(targets) == dict.fromkeys(targets, cast(LocalFile, 2))
    assert disk.looks[1] == (threading.get_ident(), targets)


def test_what_could_not_be_looked_at_is_an_error_where_it_is_asked_for_and_only_there() -> None:
    disk = Disk(MirrorError("the mount is gone"))
    with ahead(disk) as one:
        with pytest.raises(MirrorError, match="the mount is gone"):
            one.scan(TARGETS)
        assert one.scan({}) == {}, "and nobody asks for what is wanted no more"


def test_a_store_that_fails_fails_where_the_ledger_is_asked_for() -> None:
    disk = Disk()
    with (
        ahead(disk, Memory(StoreError("locked"))) as one,
        pytest.raises(StoreError, match="locked"),
    ):
        one.recorded()
    assert disk.looks == []


def test_nobody_is_left_behind() -> None:
    before = threading.active_count()
    with pytest.raises(KeyError), ahead(Disk()):
        raise KeyError("the head could not be asked for")
    assert threading.active_count() == before
