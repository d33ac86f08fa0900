"""The errors for a listed path that a commit does not have.

`label` names the repository and the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from syncd.errors import LimitError, NotFoundError, RemoteError
from syncd.git_objects import LINK, SUBMODULE
from syncd.github import path_suggestions
from syncd.github.request_cache import NotFoundCache
from syncd.github.scope import RepositoryScope
from syncd.github.tree_json import ContentsAnswer
from syncd.models import TreeEntry
from syncd.text import in_quotes

KINDS = {"symlink": "a symbolic link", "submodule": "a submodule"}
MODES = {LINK: "a symbolic link", SUBMODULE: "a submodule"}


class MissingPaths:
    """Errors for missing paths of one commit, with a suggestion of what may be meant.

    `answers` are the Contents answers by folder; `read` lists what is below a tree.
    """

    def __init__(
        self,
        scope: RepositoryScope,
        commit: str,
        answers: Mapping[str, ContentsAnswer],
        read: Callable[[str], Iterable[tuple[str, bool]]],
        cache: NotFoundCache,
    ) -> None:
        self._label, self._answers, self._read = scope.at(commit), answers, read
        self._cache, self._key = cache, (scope.repo.lower(), commit)

    def error(self, path: str, is_folder: bool) -> NotFoundError:
        """Return the error for a listed path that the commit does not have."""
        suggestion = self._suggest(path, is_folder)
        if is_folder:
            return missing_folder_error(self._label, path, suggestion=suggestion)
        return missing_file_error(self._label, path, False, suggestion)

    def _suggest(self, path: str, is_folder: bool) -> str | None:
        """Return a path of the commit that is spelled nearly so, or None.

        It is searched in the folders that were read and at most one more tree, once for a commit.
        """
        key = (*self._key, path, is_folder)
        if not self._answers:
            return self._cache.suggestion(key)
        known = path_suggestions.KnownPaths(self._answers, self._read)
        try:
            return self._cache.suggestion(
                key, lambda: path_suggestions.find_similar(path, is_folder, known.names)
            )
        except (RemoteError, LimitError):
            return None  # the path is missing all the same, and that is the error to report


def missing_file_error(
    label: str, path: str, is_folder: bool, suggestion: str | None = None
) -> NotFoundError:
    """Return the error for a listed file that does not exist, or is a folder."""
    if is_folder:
        return NotFoundError(
            f"{in_quotes(path)} is a folder in {label}",
            id="not_found/path-is-a-folder",
            hint=f"write it with a trailing slash, from: {path}/, and give to: one too",
        )
    return NotFoundError(
        f"{in_quotes(path)} is not in {label}",
        id="not_found/file-missing",
        hint=_hint(path, suggestion, "was it moved or removed upstream?", "its file stays"),
    )


def missing_folder_error(
    label: str, path: str, found: TreeEntry | None = None, suggestion: str | None = None
) -> NotFoundError:
    """Return the error for a listed folder that does not exist, or is something else (`found`)."""
    if not path:
        return NotFoundError(
            f"{label} holds no files",
            id="not_found/repository-empty",
            hint="was everything moved? the files stay as they are until then",
        )
    if found is not None:
        return _not_a_folder_error(label, path, MODES.get(found.mode, "a file"))
    question = "was it moved, emptied or removed upstream?"
    return NotFoundError(
        f"there is no folder {in_quotes(path)} in {label}",
        id="not_found/folder-missing",
        hint=_hint(path, suggestion, question, "its files stay"),
    )


def not_in_folder_error(label: str, path: str, folder: str, kind: str) -> NotFoundError:
    """Return the error for a listed path where `folder` is no folder, but a Contents `kind`."""
    what = KINDS.get(kind, "a file")
    if path == folder:
        return _not_a_folder_error(label, folder, what)
    return NotFoundError(
        f"{in_quotes(path)} is not in {label}: {in_quotes(folder)} is {what}",
        id="not_found/parent-is-no-folder",
        hint="correct from:",
    )


def _not_a_folder_error(label: str, path: str, what: str) -> NotFoundError:
    hint = "correct from:; only folders and files of the repository itself are listed"
    if what == "a file":
        hint = "write it without the trailing slash, in from: and to:"
    return NotFoundError(
        f"{in_quotes(path)} is {what}, not a folder, in {label}",
        id="not_found/path-is-no-folder",
        hint=hint,
    )


def _hint(path: str, suggestion: str | None, question: str, stays: str) -> str:
    if suggestion is not None:
        question = path_suggestions.did_you_mean(path, suggestion)
    return f"{question} correct from:, or take it out of the job; {stays} until then"
