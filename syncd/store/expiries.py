"""When GitHub said that each identity's token ends: kept beside the store, so that `status` warns without asking anybody.

Losing it costs a warning until the next run; it holds no secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from syncd.models import Identity, LoginIdentity
from syncd.store.pairs import PairFile, end_of_login
from syncd.store.place import read_if_possible, replace_if_possible

NAME = "expiries.json"
LARGEST = 1 << 20


def read_expiries(state_dir: Path) -> dict[str, datetime]:
    """Identity -> aware time. Empty where nothing is known; what is damaged is left out."""
    expiries: dict[str, datetime] = {}
    for name, text in read_if_possible(state_dir / NAME, LARGEST).items():
        with suppress(ValueError, TypeError):
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                expiries[name] = moment
    return expiries


def expiries_of(state_dir: Path, identities: Mapping[str, Identity], seen: Mapping[str, datetime | None] | None = None) -> dict[str, datetime]:
    """Identity -> when somebody has to make a new token or log in again, for those that end. `seen` is what GitHub said since."""
    found: dict[str, datetime | None] = {name: at for name, at in (read_expiries(state_dir) | dict(seen or {})).items() if name in identities}
    for name, identity in identities.items():
        if isinstance(identity, LoginIdentity):
            found[name] = end_of_login(PairFile(state_dir, name))
    return {name: at for name, at in found.items() if at is not None}


def write_expiries(state_dir: Path, expiries: Mapping[str, datetime]) -> None:
    """`read_expiries` gives it back. Replaced whole; nothing where the disk does not allow it."""
    replace_if_possible(state_dir / NAME, json.dumps({name: moment.isoformat() for name, moment in sorted(expiries.items())}))
