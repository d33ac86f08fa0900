"""Parses durations, sizes, modes, owners, secrets and other values of the configuration.

Each parser raises ValueError that says what it expected. Pure: no I/O.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from syncd.identities import SecretRef
from syncd.redaction import redact

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
SIZES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "k": 1 << 10,
    "m": 1 << 20,
    "g": 1 << 30,
}
MAX_SECONDS = 366 * 86400
# Source: RFC 3339, 5.6, where the offset is required
DATE_OR_TIME = re.compile(
    r"(?:19[7-9]\d|2\d{3})-\d\d-\d\d"
    r"(?:[T ]\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
MAX_APP_ID = 10**12
ADDRESS = re.compile(  # https://github.com/acme/infra.git, git@github.com:acme/infra, @acme/infra/
    r"(?:(?:git\+)?(?:https?|ssh|git)://[^/]+/|[\w.-]+@[\w.-]+:|[\w-]+(?:\.[\w-]+)+/|[@/])?"
    r"(?:repos/)?(?P<owner>[A-Z0-9][A-Z0-9_-]*)\s*/\s*"
    r"(?!\.{1,2}(?:\.git)?(?:[/?#]|$)|\.git(?:[/?#]|$))"
    r"(?P<name>[A-Z0-9_.-]+?)(?:\.git)?(?:[/?#].*)?",
    re.IGNORECASE | re.ASCII,
)
ASTERISKS = re.compile(r"\\.|\*+")  # an escaped one is a letter
MAX_ASTERISKS = (
    4  # in one name, and whole names of two: matching takes a hostile name's length to this power
)


def duration(value: Any) -> float:
    """Parse a duration into seconds: `30s`, `5m`, `1h30m`, `1d`."""
    text = _text(value, "a duration; write it like 30s, 5m, 1h30m or 1d")
    found = re.fullmatch(
        r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,6})s)?", text
    )
    if not text or found is None:
        raise ValueError(f"'{_short(text)}' is not a duration; write it like 30s, 5m, 1h30m or 1d")
    seconds = sum(
        int(count) * unit
        for count, unit in zip(found.groups(), (604800, 86400, 3600, 60, 1), strict=True)
        if count
    )
    if seconds > MAX_SECONDS:
        raise ValueError(f"'{text}' is longer than a year")
    return float(seconds)


def positive_duration(value: Any) -> float:
    """Parse a duration that is longer than zero into seconds."""
    seconds = duration(value)
    if seconds <= 0:
        raise ValueError(f"'{value}' is no time at all; write it like 30s, 5m, 1h30m or 1d")
    return seconds


def date_or_time(value: Any) -> str:
    """Check a date or an RFC 3339 time; without an offset it is one of the configured time zone."""
    expected = "a date or a time; write it like 2026-12-20 or 2026-12-20T18:00:00+01:00"
    text = _text(value, expected)
    if not DATE_OR_TIME.fullmatch(text):
        raise ValueError(f"'{_short(text)}' is not {expected}")
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"'{_short(text)}' is not {expected}") from error
    return text


def size(value: Any) -> int:
    """Parse a size into bytes: `1GiB`, `500MB`, `4096`."""
    text = _text(value, "a size; write it like 500MB or 1GiB")
    found = re.fullmatch(r"(\d{1,15})\s*([A-Za-z]*)", text)
    if found is None or found.group(2).lower() not in SIZES:
        raise ValueError(f"'{_short(text)}' is not a size; write it like 500MB or 1GiB")
    return int(found.group(1)) * SIZES[found.group(2).lower()]


def mode(value: Any) -> int:
    """Parse quoted octal into permission bits."""
    text = _text(value, 'a file mode; write it in quoted octal like "0644"')
    if not re.fullmatch(r"0?[0-7]{3,4}", text):
        raise ValueError(
            f"'{_short(text)}' is not a file mode; write it in quoted octal like \"0644\""
        )
    bits = int(text, 8)
    if bits > 0o777:
        raise ValueError(
            f"'{text}' has more than the permission bits; setuid, setgid and sticky are never"
            " mirrored, 0777 is the most"
        )
    return bits


def owner(value: Any) -> str:
    """Parse `user`, `user:group`, or their numbers."""
    text = _text(value, "an owner; write it like user:group")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]*\$?)?", text):
        raise ValueError(f"'{_short(text)}' is not an owner; write it like user:group or user")
    return text


def delete_limit(value: Any) -> tuple[float | None, int | None]:
    """Parse a share (`50%`) or a number; one of the two results is None."""
    text = _text(value, "a limit; write a share like 50% or a number like 20")
    if re.fullmatch(r"\d{1,3}%", text) and int(text[:-1]) <= 100:
        return int(text[:-1]) / 100, None
    if re.fullmatch(r"\d{1,9}", text):
        return None, int(text)
    raise ValueError(f"'{_short(text)}' is not a limit; write a share like 50% or a number like 20")


def share(value: Any) -> float:
    """Parse a share of 1% to 100%."""
    text = _text(value, "a share; write it like 5%")
    if re.fullmatch(r"\d{1,3}%", text) and 1 <= int(text[:-1]) <= 100:
        return int(text[:-1]) / 100
    raise ValueError(f"'{_short(text)}' is not a share of 1% to 100%; write it like 5%")


def secret(value: Any) -> SecretRef:
    """Parse `{credential: NAME}`, `{file: PATH}` or `{env: NAME}`; a plain string is a file."""
    if isinstance(value, str):
        value = {"file": value}
    if (
        not isinstance(value, dict)
        or len(value) != 1
        or next(iter(value)) not in ("credential", "file", "env")
    ):
        raise ValueError("give exactly one of {credential: NAME}, {file: PATH} or {env: NAME}")
    kind, name = next(iter(value.items()))
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError(f"'{kind}' needs a {'path' if kind == 'file' else 'name'}")
    # not shown: it may be the secret itself
    if redact(name) != name:
        raise ValueError(
            "this is the secret itself, and anyone who can read this file has it; replace it"
            " where it was made, write the new one into a file of its own and name that"
        )
    if kind == "file" and not name.startswith("/"):
        raise ValueError(
            "this is not an absolute path; it names the file that holds the secret, which itself"
            " is never in the configuration itself"
        )
    if kind != "file" and "/" in name:
        raise ValueError(f"this is a path; a {kind} has a plain name")
    return SecretRef(kind, name)


def repository(value: str) -> str:
    """Parse `owner/name`; an address that contains it is a mistake with a suggestion.

    Source: GitHub has no repository whose name ends in .git, and no owner with a dot.
    """
    meant = ADDRESS.fullmatch(value.strip())
    found = f"{meant.group('owner')}/{meant.group('name')}" if meant is not None else None
    if found == value:
        return value
    shown = _short(re.sub(r"//[^/@]*@", "//", value))  # without a password
    raise ValueError(
        f"'{shown}' is not a repository; write {'it like owner/name' if found is None else found}"
    )


def app_id(value: Any) -> int:
    """Parse the number of a GitHub App."""
    if (
        isinstance(value, str)
        and re.fullmatch(r"\d{1,18}", value)
        and 1 <= int(value) <= MAX_APP_ID
    ):
        return int(value)
    shown = f"'{_short(value)}'" if isinstance(value, str) else "this"
    if isinstance(value, str) and value.startswith("Ov"):
        raise ValueError(
            f"{shown} is the client id of an OAuth App, which has no key; write login: {{client_id:"
            f" {_short(value)}}}"
        )
    if isinstance(value, str) and re.match(r"Iv\d", value):
        raise ValueError(
            f"{shown} is a client id; write client_id: {_short(value)} in place of app_id"
        )
    raise ValueError(
        f"{shown} is not a whole number from 1 to {MAX_APP_ID}; "
        "the App's settings page shows its App ID, and its Client ID for client_id:"
    )


def client_id(value: Any) -> str:
    """Parse the client id of a GitHub App or OAuth App, which is never a plain number."""
    text = _text(value, "a client id; the App's settings page shows it")
    if re.fullmatch(r"\d{1,12}", text):
        raise ValueError(
            f"'{text}' is an App ID, not a client id, which begins with Iv; write app_id: {text},"
            " or for a login the Client ID of the App's settings page"
        )
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise ValueError(
            f"'{_short(text)}' is not a client id; the App's settings page shows it, like Iv23li..."
        )
    return text


def _text(value: Any, expected: str) -> str:
    if not isinstance(value, str):
        shown = (
            {True: "true", False: "false", None: "nothing"}.get(value, "a block")
            if not isinstance(value, (dict, list))
            else "a block"
        )
        raise ValueError(f"{shown} is not {expected}")
    if "\0" in value:
        raise ValueError("a NUL byte is never meant")
    return value


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def patterns(value: Any) -> tuple[str, ...]:
    """Parse gitignore patterns. Raises ValueError for one that a hostile name could keep busy."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('the value must be a list of gitignore patterns, like ["*.conf"]')
    return tuple(map(_pattern, value))


def _pattern(text: str) -> str:
    """Return the pattern without redundant asterisks. Raises ValueError.

    `**` is more than `*` only as a whole name. Source: gitignore(5).
    """
    from pathspec import GitIgnoreSpec

    mark = "!" if text.startswith("!") else ""
    names = [
        (
            name
            if name == "**"
            else ASTERISKS.sub(lambda run: run.group() if run.group()[0] == "\\" else "*", name)
        )
        for name in text.removeprefix(mark).split("/")
    ]
    counts = [
        names.count("**"),
        *(sum(run.group()[0] == "*" for run in ASTERISKS.finditer(name)) for name in names),
    ]
    if max(counts) > MAX_ASTERISKS:
        raise ValueError(
            f"'{text[:60]}' has more than {MAX_ASTERISKS} asterisks in one name, or names of two;"
            " matching it could take for ever"
        )
    tamed = mark + "/".join(names)
    try:
        GitIgnoreSpec.from_lines([tamed])
    except (
        ValueError,
        re.error,
        # pathspec makes regular expressions of them, and lets a range like [z-a] through to there
    ) as error:
        raise ValueError(f"'{text}' is not a gitignore pattern") from error
    return tamed
