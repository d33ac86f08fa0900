"""The figures of the fault families, which stand as one table at the end of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fault.points import Tally


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[[Tally], Tally]:
    """Hands a tally on to the table at the end of the run."""

    def note(tally: Tally) -> Tally:
        record_property("figures", str(tally))
        return tally

    return note
