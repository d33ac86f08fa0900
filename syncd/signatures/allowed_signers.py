"""Parses the file of allowed signers: lines as in ssh-keygen(1), and armored OpenPGP keys.

`PRINCIPALS [OPTIONS] KEYTYPE KEY [COMMENT]`, with the options `cert-authority`, `namespaces="..."`,
`valid-after="..."` and `valid-before="..."`. A line has the meaning that ssh-keygen gives it; one
that ssh-keygen would pass over is a problem here. Pure: no I/O.

Source: ssh-keygen(1), "ALLOWED SIGNERS", and OpenSSH's sshsig.c.
"""

from __future__ import annotations

import binascii
import calendar
import re
import time
from base64 import b64decode
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from syncd.signatures.ssh_keys import FIELDS, Certificate, PublicKey, read_key
from syncd.signatures.wire import WireError

PGP_BEGIN = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
PGP_END = "-----END PGP PUBLIC KEY BLOCK-----"
TIME_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
# A quoted value of an option: `\"` is a quote inside it.
QUOTED_OPTION = re.compile(r'([A-Za-z-]+)="((?:\\"|[^"])*)"')


class Signer(Struct, frozen=True):
    """One line of the file.

    `valid_after` and `valid_before` are Unix seconds, and belong to the time. `namespaces` is a
    list of patterns.
    """

    line: int
    principals: str
    key: PublicKey
    is_authority: bool = False
    namespaces: str | None = None
    valid_after: int | None = None
    valid_before: int | None = None


class AllowedSigners(Struct, frozen=True):
    """The content of the file. `problems` are (line, what is wrong with it)."""

    signers: tuple[Signer, ...] = ()
    openpgp_keys: tuple[str, ...] = ()
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether nothing in it can sign."""
        return not self.signers and not self.openpgp_keys


def parse_allowed_signers(text: str) -> AllowedSigners:
    """Return everything in the file, and what is wrong with it."""
    signers: list[Signer] = []
    problems: list[tuple[int, str]] = []
    blocks: list[list[str]] = []
    begun_at = 0  # the line of an OpenPGP block that has not ended
    for number, line in enumerate(text.splitlines(), 1):
        if begun_at:
            blocks[-1].append(line)
            begun_at = 0 if line.strip() == PGP_END else begun_at
        elif line.strip() == PGP_BEGIN:
            blocks.append([line])
            begun_at = number
        elif line.strip() and not line.lstrip().startswith("#"):
            try:
                signers.append(_parse_line(number, line))
            except (ValueError, OverflowError) as error:
                problems.append((number, str(error)))
    if begun_at:
        problems.append((begun_at, f"the OpenPGP key has no line {PGP_END}"))
        blocks.pop()
    keys = tuple("\n".join([*block, ""]) for block in blocks)
    return AllowedSigners(tuple(signers), keys, tuple(problems))


def _parse_line(number: int, line: str) -> Signer:
    """Return the signer of a line. Raises ValueError that says what is wrong."""
    principals, rest = _first_word(line.strip(" \t\r"))
    if not principals or not rest:
        raise ValueError("write PRINCIPALS, options if any, and a public key")
    options = ""
    if rest.split(None, 1)[0] not in FIELDS:
        options, rest = _split_options(rest)
    words = rest.split(None, 2)
    if len(words) < 2:
        raise ValueError("there is no public key after the options")
    return _with_options(Signer(number, principals, _read_key(words[0], words[1])), options)


def _first_word(text: str) -> tuple[str, str]:
    """Return the first word, which may be in quotes, and the rest."""
    if text.startswith('"'):
        word, _, rest = text[1:].partition('"')
    else:
        word, _, rest = text.replace("\t", " ").partition(" ")
    return word, rest.strip(" \t")


def _split_options(text: str) -> tuple[str, str]:
    quoted, position = False, 0
    while position < len(text) and (quoted or text[position] not in " \t"):
        if text.startswith('\\"', position):
            position += 1
        elif text[position] == '"':
            quoted = not quoted
        position += 1
    return text[:position], text[position:].lstrip(" \t")


def _read_key(kind: str, encoded: str) -> PublicKey:
    try:
        key = read_key(b64decode(encoded, validate=True))
    except (binascii.Error, WireError) as error:
        raise ValueError(f"the key can't be read: {error}") from error
    if isinstance(key, Certificate):
        raise ValueError("this is a certificate; write its authority's key with cert-authority")
    if key.kind != kind:
        raise ValueError(f"the line says {kind[:60]} and the key is {key.kind}")
    return key


def _with_options(signer: Signer, text: str) -> Signer:
    for name, value in _options(text):
        if name == "cert-authority" and value is None:
            signer = replace(signer, is_authority=True)
        elif name == "namespaces" and value is not None and signer.namespaces is None:
            signer = replace(signer, namespaces=value)
        elif name == "valid-after" and value is not None and signer.valid_after is None:
            signer = replace(signer, valid_after=_seconds(value))
        elif name == "valid-before" and value is not None and signer.valid_before is None:
            signer = replace(signer, valid_before=_seconds(value))
        else:
            raise ValueError(f"{name[:60]!r} is no option, has no value, or is given twice")
    after, before = signer.valid_after, signer.valid_before
    if after is not None and before is not None and before <= after:
        raise ValueError("valid-before is not later than valid-after")
    return signer


def _options(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield (name in lower case, value) of each option. Raises ValueError."""
    while text:
        found = QUOTED_OPTION.match(text)
        if found is not None:
            name, value, text = found[1], found[2].replace('\\"', '"'), text[found.end() :]
        else:
            name, value = text.partition(",")[0], None
            text = text[len(name) :]
        yield name.lower(), value
        if text in (",", "") or text.startswith(","):
            if text == ",":
                raise ValueError("the options end with a comma")
            text = text[1:]
        else:
            raise ValueError(f"{text[:60]!r} follows an option without a comma")


def _seconds(text: str) -> int:
    """Return the Unix seconds of YYYYMMDD[HHMM[SS]][Z].

    Without Z it is in this machine's time zone, as for ssh-keygen.
    """
    is_utc = text.upper().endswith(("Z", "UTC"))
    digits = re.sub(r"(?:Z|UTC)\Z", "", text, flags=re.IGNORECASE)
    wrong = ValueError(f"{text[:40]!r} is no time; write YYYYMMDD, or YYYYMMDDHHMMSSZ for UTC")
    if not digits.isascii() or not digits.isdigit() or len(digits) not in TIME_FORMATS:
        raise wrong
    try:
        parts = time.strptime(digits, TIME_FORMATS[len(digits)])
    except ValueError as error:
        raise wrong from error
    seconds = calendar.timegm(parts) if is_utc else int(time.mktime(parts))
    if seconds <= 0:
        raise wrong
    return seconds


# --- patterns -------------------------------------------------------------------------------------


def matches_list(text: str, patterns: str) -> bool:
    """Return whether a pattern of a comma-separated list matches, and none with `!` before it.

    Source: ssh_config(5), "PATTERNS".
    """
    found = False
    for pattern in patterns.split(","):
        if matches(text, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def matches(text: str, pattern: str) -> bool:
    """Return whether the whole text matches a pattern of `*` and `?`.

    The time it takes grows with the product of both lengths at most, which a regular expression
    does not promise.
    """
    at, position, star, retry_at = 0, 0, -1, 0
    while at < len(text):
        if position < len(pattern) and pattern[position] == "*":
            star, retry_at = position, at
            position += 1
        elif position < len(pattern) and pattern[position] in ("?", text[at]):
            position, at = position + 1, at + 1
        elif star >= 0:  # let the last `*` take one character more
            retry_at += 1
            position, at = star + 1, retry_at
        else:
            return False
    return not pattern[position:].strip("*")
