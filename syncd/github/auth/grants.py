"""The scopes of an App's tokens: an installation and its repositories, without the lost ones.

GitHub refuses a token for several repositories when one of them was deleted, renamed or deselected,
and does not say which. That one is found by halving, so that the others keep one token together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec import Struct

MAX_REPOSITORIES_PER_TOKEN = 500


class Grant(Struct, frozen=True):
    """The scope of one token: an installation and the names of its repositories.

    `number` is the repository's, where its name has changed.
    """

    installation: int
    repositories: tuple[str, ...]
    number: int | None = None


class GrantStore(Protocol):
    """The lost repositories and the known installations, saved for the next process."""

    def load(self) -> dict[int, frozenset[str]]:
        """Return the names of the lost repositories, by installation."""

    def save(self, lost: Mapping[int, frozenset[str]]) -> None:
        """Save the names of the lost repositories, by installation."""

    def installations(self) -> dict[str, tuple[int, str | None]]:
        """Return installation and account, by owner or repository."""

    def save_installations(self, found: Mapping[str, tuple[int, str | None]]) -> None:
        """Save installation and account, by owner or repository."""


class Grants:
    """The grants of one App. `repos` are all that the configuration names, in lower case.

    `grant_store` keeps what is lost; without one it is known to this process alone.
    """

    def __init__(self, repos: Iterable[str], grant_store: GrantStore | None = None) -> None:
        self._repos, self._grant_store = sorted(set(repos)), grant_store
        self._lost = grant_store.load() if grant_store is not None else {}
        self._numbers: dict[str, int] = {}

    def of(self, installation: int, repo: str) -> Grant:
        """Return the grant for a repository: with the owner's others, or alone where it is lost."""
        owner, _, name = repo.partition("/")
        if repo in self._numbers:
            return Grant(installation, (name,), self._numbers[repo])
        lost = self._lost.get(installation, frozenset())
        others = (one for one in self._repos if one.startswith(f"{owner}/"))
        names = [one.partition("/")[2] for one in others if one not in self._numbers]
        names = [one for one in names if one not in lost]
        if name not in names:
            return Grant(installation, (name,))
        at = names.index(name) // MAX_REPOSITORIES_PER_TOKEN * MAX_REPOSITORIES_PER_TOKEN
        return Grant(installation, tuple(names[at : at + MAX_REPOSITORIES_PER_TOKEN]))

    def groups(self, installation: int) -> dict[str, tuple[str, int]]:
        """Return repository -> what is equal for those that share a token.

        A repository that has a token of its own is left out.
        """
        lost, found = self._lost.get(installation, frozenset()), dict[str, tuple[str, int]]()
        counts: dict[str, int] = {}
        for repo in self._repos:
            owner, _, name = repo.partition("/")
            if repo not in self._numbers and name not in lost:
                at = counts.get(owner, 0)
                counts[owner] = at + 1
                found[repo] = owner, at // MAX_REPOSITORIES_PER_TOKEN
        return found

    def set_number(self, repo: str, number: int | None) -> None:
        """Ask for the repository by this number from now on; None: by its name."""
        if number is None:
            self._numbers.pop(repo, None)
        else:
            self._numbers[repo] = number

    def numbers(self) -> dict[str, int]:
        """Return the numbers of the repositories that are asked for by number."""
        return dict(self._numbers)

    def split(self, grant: Grant, accepted: Callable[[Grant], bool]) -> None:
        """Leave the lost repositories out of a grant that was refused; `accepted` asks GitHub.

        One lost of 30 costs 5 to 10 requests; many lost ones fewer than two for each repository.
        """
        installation = grant.installation
        good = _good(
            grant.repositories, lambda names: accepted(Grant(installation, names)), refused=True
        )
        lost = self._lost.get(grant.installation, frozenset())
        self._keep(grant.installation, lost | (set(grant.repositories) - set(good)))

    def mark_granted(self, grant: Grant) -> None:
        """Note that GitHub gave a token; lost repositories in it join the others again."""
        lost = self._lost.get(grant.installation, frozenset())
        if grant.number is None and not lost.isdisjoint(grant.repositories):
            self._keep(grant.installation, lost - set(grant.repositories))

    def _keep(self, installation: int, lost: Iterable[str]) -> None:
        configured = {one.partition("/")[2] for one in self._repos}
        self._lost[installation] = frozenset(lost) & configured
        if self._grant_store is not None:
            self._grant_store.save(self._lost)


def _good(
    names: tuple[str, ...], accepted: Callable[[tuple[str, ...]], bool], refused: bool
) -> tuple[str, ...]:
    """Return the names that are accepted; `refused`: all of them together are known not to be."""
    if not refused and accepted(names):
        return names
    if len(names) == 1:
        return ()
    half = len(names) // 2
    left = _good(names[:half], accepted, False)
    return left + _good(names[half:], accepted, left == names[:half])


__all__ = ["Grant", "GrantStore", "Grants"]
