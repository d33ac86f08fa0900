"""The tokens with which an App sets statuses: they may write statuses, and read no content.

A token for reading never has this permission, and a token of this kind reads no file. The two are
requested, kept and sent apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from syncd.github.auth.app import AppCredentials


class StatusCredentials(AppCredentials):
    """The tokens of one GitHub App identity for commit statuses."""

    PERMISSIONS: ClassVar[Mapping[str, str]] = {"statuses": "write"}
