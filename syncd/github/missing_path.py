"""What to say of a listed path that a commit does not have. `shown` names the repository and the commit."""

from __future__ import annotations

from syncd.errors import NotFoundError
from syncd.git_objects import LINK, SUBMODULE
from syncd.github import path_suggestions
from syncd.models import TreeEntry
from syncd.text import in_quotes


def missing_file_error(
    shown: str, path: str, folder: bool, instead: str | None = None
) -> NotFoundError:
    if folder:
        return NotFoundError(
            f"{in_quotes(path)} is a folder in {shown}",
            hint=f"write it with a trailing slash, from: {path}/, and give to: one too",
        )
    asked = (
        "was it moved or removed upstream?"
        if instead is None
        else path_suggestions.did_you_mean(path, instead)
    )
    return NotFoundError(
        f"{in_quotes(path)} is not in {shown}",
        hint=f"{asked} correct from:, or take it out of the job; its file stays until then",
    )


def missing_folder_error(
    shown: str, path: str, found: TreeEntry | None = None, instead: str | None = None
) -> NotFoundError:
    if not path:
        return NotFoundError(
            f"{shown} holds no files",
            hint="was everything moved? the files stay as they are until then",
        )
    if found is not None:
        return not_a_folder_error(
            shown,
            path,
            {LINK: "a symbolic link", SUBMODULE: "a submodule"}.get(found.mode, "a file"),
        )
    asked = (
        "was it moved, emptied or removed upstream?"
        if instead is None
        else path_suggestions.did_you_mean(path, instead)
    )
    return NotFoundError(
        f"there is no folder {in_quotes(path)} in {shown}",
        hint=f"{asked} correct from:, or take it out of the job; its files stay until then",
    )


def not_a_folder_error(shown: str, path: str, what: str) -> NotFoundError:
    hint = (
        "write it without the trailing slash, in from: and to:"
        if what == "a file"
        else "correct from:; only folders and files of the repository itself are listed"
    )
    return NotFoundError(f"{in_quotes(path)} is {what}, not a folder, in {shown}", hint=hint)
