"""Looking around in a repository: names to choose from, and what the repository is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from syncd.deadline import Deadline
from syncd.errors import AuthError
from syncd.github.browse import RepositoryInfo, get_repository, names_in
from syncd.github.protocol import Request, Response
from syncd.simulator.github import GitHub
from syncd.simulator.repository import Link, Repository
from tests.support.clock import FakeClock


class Direct:
    """A transport that asks the simulator without sockets."""

    def __init__(self, github: GitHub) -> None:
        self.github = github

    def send(self, request: Request, deadline: Deadline) -> Response:
        from syncd.github.protocol import BufferedResponse

        target = request.url.removeprefix("http://x")
        found = self.github.handle(request.method, target, request.headers)
        return BufferedResponse(found.status, found.headers, request.url, found.body)


@pytest.fixture
def github() -> Iterator[GitHub]:
    made = GitHub()
    files = {"nginx/a": "1", "motd": "x", "link": Link("motd")}
    made.add_repo("acme/infra", files, private=False, default_branch="trunk")
    yield made


def deadline() -> Deadline:
    return Deadline(FakeClock(), 60)


def head(github: GitHub) -> str:
    repo: Repository = github.repos["acme/infra"]
    return repo.head()


def test_a_repository_has_its_present_name_and_its_default_branch(github: GitHub) -> None:
    found = get_repository(Direct(github), "http://x", "ACME/Infra", deadline())
    assert found == RepositoryInfo("acme/infra", "trunk", private=False)


def test_a_repository_that_is_not_there_is_hidden(github: GitHub) -> None:
    with pytest.raises(AuthError):
        get_repository(Direct(github), "http://x", "acme/none", deadline())


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        ("", {"nginx": True, "motd": False, "link": False}),
        ("nginx", {"a": False}),
        ("none", None),
        ("motd", None),
    ],
)
def test_a_folder_has_its_folders_and_files(
    github: GitHub, folder: str, names: dict[str, bool] | None
) -> None:
    place = ("acme/infra", head(github), folder)
    found = names_in(Direct(github), "http://x", place, deadline())
    assert (found.names if found is not None else None) == names
    assert found is None or not found.is_cut
