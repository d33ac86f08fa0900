"""Finds out when tokens and logins expire, for warnings ahead of time. It holds no secret."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from syncd.identities import Identity, LoginIdentity
from syncd.store.oauth_tokens import OAuthTokenFile, login_expires_at


def expiries_of(
    known: Mapping[str, datetime | None], state_dir: Path, identities: Mapping[str, Identity]
) -> dict[str, datetime]:
    """Return for each identity when a new token or login is needed, for those that expire.

    `known` is what GitHub said last.
    """
    found = {name: at for name, at in known.items() if name in identities}
    for name, identity in identities.items():
        if isinstance(identity, LoginIdentity):
            found[name] = login_expires_at(OAuthTokenFile(state_dir, name))
    return {name: at for name, at in found.items() if at is not None}
