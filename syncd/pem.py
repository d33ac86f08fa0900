"""Turn a private key's text, as people and tools pass it, into PEM for the cryptography library.

Environment variables, `docker --env-file`, secret managers and copying by hand change line ends,
add quotes and blank lines, or encode the whole file in base64. Whether the result is a key that
can sign is checked in config/secrets.py. Pure: no I/O.
"""

from __future__ import annotations

import base64
import binascii
import re

LINE_WIDTH = 64  # RFC 7468, 2
PEM_OBJECT = re.compile(r"(-----BEGIN [A-Z0-9 ]+-----)(.*?)(-----END [A-Z0-9 ]+-----)", re.DOTALL)
BASE64_BODY = re.compile(r"[A-Za-z0-9+/=]*")


def normalise_key(text: str) -> str:
    """Return the PEM in `text`, with real line ends and a final one.

    A text without PEM is returned without the white space around it.
    """
    found = _unquoted(text)
    if "-----BEGIN" not in found:
        found = _unquoted(_decoded(found) or found)
    return PEM_OBJECT.sub(_wrapped, found) + "\n"


def _unquoted(text: str) -> str:
    """Return the text without byte order mark and quotes, and with escaped line ends restored."""
    found = text.lstrip("\ufeff").strip()
    if len(found) > 1 and found[0] == found[-1] and found[0] in "\"'":
        found = found[1:-1]
    for written in ("\\r\\n", "\\n", "\\r", "\r\n", "\r"):
        found = found.replace(written, "\n")
    return found.strip()


def _decoded(text: str) -> str | None:
    """Return the PEM that was encoded in base64 as a whole, or None."""
    try:
        found = base64.b64decode("".join(text.split()), validate=True).decode("utf-8-sig")
    except (binascii.Error, ValueError):
        return None
    return found if "-----BEGIN" in found else None


def _wrapped(found: re.Match[str]) -> str:
    """Return one PEM object with its base64 in lines of `LINE_WIDTH`.

    An object with headers (an encrypted key) stays as it is.
    """
    begin, body, end = found.groups()
    plain = "".join(body.split())
    if not BASE64_BODY.fullmatch(plain):
        return found.group(0)
    lines = [plain[start : start + LINE_WIDTH] for start in range(0, len(plain), LINE_WIDTH)]
    return "\n".join([begin, *lines, end])


__all__ = ["normalise_key"]
