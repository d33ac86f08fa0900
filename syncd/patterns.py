"""The gitignore patterns of a path rule.

Pure: no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from syncd.models import PathRule


def path_filter(rule: PathRule) -> Callable[[str], bool]:
    """Return a test of whether include and exclude select a path below `from`.

    Source: gitignore(5); a test compares it with git.
    """
    if not rule.include and not rule.exclude:
        return lambda path: True
    from pathspec import GitIgnoreSpec  # 25 ms, which a job without patterns saves

    include = GitIgnoreSpec.from_lines(rule.include) if rule.include else None
    exclude = GitIgnoreSpec.from_lines(rule.exclude) if rule.exclude else None

    def chosen(path: str) -> bool:
        return (include is None or include.match_file(path)) and not (
            exclude is not None and exclude.match_file(path)
        )

    return chosen


def escape_pattern(path: str) -> str:
    """Return the path as a gitignore pattern that matches this path only."""
    escaped = re.sub(r"([\\*?\[])", r"\\\1", path)
    return re.sub(r" $", r"\\ ", escaped)
