"""One identity's view of one repository during one run: where to ask, and until when."""

from __future__ import annotations

from msgspec import Struct

from syncd.deadline import Deadline
from syncd.github.concurrency import ThreadPool
from syncd.github.protocol import JSON, Request, Transport, get, repo_path
from syncd.text import in_quotes


class RepositoryScope(Struct, frozen=True):
    """What every reader of a repository needs. `repo` is `OWNER/NAME`."""

    transport: Transport
    api: str
    repo: str
    deadline: Deadline
    pool: ThreadPool

    def get_request(self, path: str, route: str, subject: str, accept: str = JSON) -> Request:
        """Return a GET request for a path below the repository, such as `/git/trees/ID`."""
        return get(self.api, repo_path(self.repo) + path, route, subject, self.repo, accept)

    def at(self, commit: str) -> str:
        """Return the repository and the commit, as messages name them."""
        return f"{self.repo} at {commit[:7]}"


def folder_label(folder: str) -> str:
    """Return a folder as messages name it."""
    return in_quotes(folder) if folder else "the root"
