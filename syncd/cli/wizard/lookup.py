"""Asks GitHub as the identity that was answered so far, through the client of every other command.

Nothing is written: neither a state folder nor a token. A token is ended when the next identity is
asked as, and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from syncd.cli.wizard.answers import Answers
from syncd.config.convert import default_state
from syncd.config.model import Config
from syncd.deadline import Deadline
from syncd.errors import ConfigError
from syncd.github.auth.app import AppCredentials
from syncd.github.browse import FolderNames, RepositoryInfo, get_repository, names_in
from syncd.github.installations import (
    AppInfo,
    InstallationInfo,
    get_app,
    get_authenticated_user,
    list_user_repositories,
    with_repositories,
)
from syncd.identities import AnonymousIdentity, AppIdentity, Identity, SecretRef, TokenIdentity
from syncd.wiring import AppContext, ConnectionOptions, IdentityConnection

TIMEOUT_SECONDS = 20.0  # of one question, which is all requests that it needs
MAX_LIST_PAGES = 10  # of 100 repositories; the name of any other one can be typed


class Lookup:
    """GitHub as one identity sees it, for as long as the answers give the same identity."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._app: AppContext | None = None
        self._identity: Identity | None = None
        self._folders: dict[tuple[str, str, str], FolderNames | None] = {}

    def use(self, answers: Answers) -> None:
        """Ask as the identity of the answers from now on. Raises ConfigError for its secret."""
        identity = identity_of(answers)
        if self._app is not None and identity == self._identity:
            return
        self.close()
        config = Config(
            path=answers.place,
            files=(),
            state=default_state(Path(answers.place), self._environ),
            identities={identity.name: identity},
            jobs={},
        )
        self._app = AppContext.open(
            config, self._environ, options=ConnectionOptions(read_only=True)
        )
        self._identity = identity

    def close(self) -> None:
        """End the tokens and the connections; what GitHub said is forgotten."""
        app, self._app = self._app, None
        self._folders.clear()
        if app is not None:
            app.close(revoke=True)

    def app(self) -> AppInfo:
        """Return the App and its installations."""
        return get_app(self._credentials(), self._api, self._deadline())

    def user(self) -> str:
        """Return the login of the token's user."""
        return get_authenticated_user(self._line.transport, self._api, self._deadline())[0]

    def repositories(self, installation: InstallationInfo | None) -> tuple[str, ...]:
        """Return the repositories of an App's installation, or those that a token's user reaches.

        A thousand at most.
        """
        deadline = self._deadline()
        if installation is None:
            return list_user_repositories(self._line.transport, self._api, deadline, MAX_LIST_PAGES)
        app, plain = self._credentials(), self._line.plain
        found = with_repositories(app, self._api, plain, installation, deadline, MAX_LIST_PAGES)
        if found.problem is not None:
            raise found.problem
        return found.repositories or ()

    def repository(self, repo: str) -> RepositoryInfo:
        """Return what GitHub says of the repository."""
        return get_repository(self._line.transport, self._api, repo, self._deadline())

    def commit(self, repo: str, ref: str | None) -> str:
        """Return the commit that the ref names."""
        app, identity = self._parts()
        return app.source(identity).resolve(repo, ref, None, self._deadline()).commit

    def names(self, repo: str, commit: str, folder: str) -> FolderNames | None:
        """Return the names in a folder; None where there is no such folder. Asks once."""
        place = (repo, commit, folder)
        if place not in self._folders:
            transport = self._line.transport
            self._folders[place] = names_in(transport, self._api, place, self._deadline())
        return self._folders[place]

    def _parts(self) -> tuple[AppContext, Identity]:
        if self._app is None or self._identity is None:
            raise ConfigError("no identity was chosen yet")
        return self._app, self._identity

    @property
    def _line(self) -> IdentityConnection:
        app, identity = self._parts()
        return app.connection(identity)

    @property
    def _api(self) -> str:
        return self._parts()[1].api

    def _credentials(self) -> AppCredentials:
        found = self._line.credentials
        if not isinstance(found, AppCredentials):
            raise ConfigError("only an App has installations")
        return found

    def _deadline(self) -> Deadline:
        """Return a deadline under which nothing is tried again: the user decides that."""
        deadline = self._parts()[0].command_deadline(TIMEOUT_SECONDS)
        deadline.may_retry = False
        return deadline


def identity_of(answers: Answers) -> Identity:
    """Return the identity that the answers give; a login reads as the public until it logged in."""
    name, api, ca_file = answers.identity_name, answers.api, answers.ca_file or None
    makers: dict[str, Callable[[], Identity]] = {
        "app": lambda: AppIdentity(
            name,
            api,
            ca_file,
            answers.app,
            answers.installation,
            SecretRef("file", answers.key_file),
        ),
        "token": lambda: TokenIdentity(name, api, ca_file, SecretRef("file", answers.token_file)),
    }
    return makers.get(answers.kind, lambda: AnonymousIdentity(name, api, ca_file))()
