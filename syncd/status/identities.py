"""Describes identities: what kind one is, and which of its tokens ends soon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from syncd.identities import AppIdentity, Identity, LoginIdentity, TokenIdentity

WARNING_PERIOD = timedelta(days=14)


def identity_description(identity: Identity) -> str:
    """Return the kind in a few words, like `App 12345`."""
    if isinstance(identity, AppIdentity):
        return f"App {identity.issuer}"
    if isinstance(identity, TokenIdentity):
        return "token"
    return "login" if isinstance(identity, LoginIdentity) else "anonymous"


def expiring_tokens(
    identities: Mapping[str, Identity], expiries: Mapping[str, datetime], now: datetime
) -> Iterator[tuple[str, str, str]]:
    """Yield (identity, message, hint) for each token that ends within two weeks, or has ended."""
    for name, at in expiries.items():
        left = at - now
        if name not in identities or left > WARNING_PERIOD:
            continue
        login = isinstance(identities[name], LoginIdentity)
        what, day = "the login" if login else "the token", f"{at:%Y-%m-%d}"
        hint = (
            f"run: syncd login {name}"
            if login
            else "make a new one and put it in the old one's place; no restart is needed"
        )
        if left <= timedelta(0):
            yield name, f"{what} ended on {day}", hint
        else:
            days = left.days
            yield (
                name,
                (f"{what} ends on {day}, {_in_days(days)}"),
                hint,
            )


def _in_days(days: int) -> str:
    if days < 1:
        return "in less than a day"
    return "in 1 day" if days == 1 else f"in {days} days"
