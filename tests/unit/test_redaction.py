"""Redaction: known values in every form a text may give them, the shapes of GitHub's credentials,
and nothing that is no secret.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from syncd.errors import SyncdError
from syncd.redaction import (
    MAX_SHORT_LIVED,
    MIN_SECRET_CHARACTERS,
    RedactingFilter,
    Redactor,
    Secret,
    add_secret,
)

# letters that every escape changes, none of the shapes that are known without being told
VALUE = 'k3y/with+odd=letters&"quotes" <and> é\\back\'tick'
KEY = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(f"{number:04d}" + "AbCdEfGh+/" * 6 for number in range(26))
    + "\n-----END PRIVATE KEY-----\n"
)


def based(encode: Callable[[bytes], bytes], before: int) -> Callable[[str], str]:
    return lambda value: encode(b"u" * before + value.encode() + b":tail").decode()


def wrapped(form: Callable[[str], str], width: int) -> Callable[[str], str]:
    return lambda value: "\n".join(re.findall(f".{{1,{width}}}", form(value), re.DOTALL))


def units(value: str) -> list[int]:
    """UTF-16 code units, as JSON's escapes are."""
    raw = value.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2]) for at in range(0, len(raw), 2)]


FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "inside other text": lambda value: f"x{value}y",
    "url-encoded": lambda value: quote(value, safe=""),
    "url-encoded, slashes kept": quote,
    "url-encoded in lower case": lambda value: re.sub(
        "%..", lambda found: found.group().lower(), quote(value, safe="")
    ),
    "as a form": quote_plus,
    "JSON": lambda value: json.dumps({"x": value}),
    "JSON without escapes": lambda value: json.dumps(value, ensure_ascii=False),
    "JSON with escaped slashes": lambda value: json.dumps(value).replace("/", "\\/"),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "HTML": html.escape,
    "HTML, quotes kept": lambda value: html.escape(value, quote=False),
    **{f"base64 after {before}": based(base64.b64encode, before) for before in range(3)},
    **{
        f"urlsafe base64 after {before}": based(base64.urlsafe_b64encode, before)
        for before in range(3)
    },
    "base64 alone": lambda value: base64.b64encode(value.encode()).decode(),
    **{
        f"base64 after {before}, in lines of {width}": wrapped(
            based(base64.b64encode, before), width
        )
        for before in range(3)
        for width in (8, 64, 76)
    },
    "urlsafe base64 in lines of 76": wrapped(based(base64.urlsafe_b64encode, 1), 76),
    "base64 wrapped inside JSON": lambda value: json.dumps(
        wrapped(based(base64.b64encode, 0), 16)(value)
    ),
    "base64 wrapped with indentation": lambda value: wrapped(based(base64.b64encode, 2), 20)(
        value
    ).replace("\n", "\r\n    "),
    "hex": lambda value: value.encode().hex(),
    "hex in upper case": lambda value: value.encode().hex().upper(),
    "hex in lines of 60": lambda value: wrapped(lambda text: text.encode().hex(), 60)(value),
    "hex with colons": lambda value: value.encode().hex(":"),
    "hex as a dump": lambda value: value.encode().hex(" ", 2),
    "url-encoded twice": lambda value: quote(quote(value, safe=""), safe=""),
    "url-encoded three times": lambda value: quote(quote(quote(value, safe=""), safe=""), safe=""),
    "every letter url-encoded": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "every letter url-encoded twice": lambda value: "".join(
        f"%25{byte:02X}" for byte in value.encode()
    ),
    "JSON in JSON": lambda value: json.dumps(json.dumps({"x": value})),
    "every letter escaped for JSON": lambda value: "".join(
        f"\\u{unit:04x}" for unit in units(value)
    ),
    "every byte escaped": lambda value: "".join(f"\\x{byte:02x}" for byte in value.encode()),
    "HTML as the page escapes it": lambda value: str(escape(value)),
    "basic authorization": lambda value: (
        "Basic " + base64.b64encode(b"x-access-token:" + value.encode()).decode()
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_known_value_is_masked_in_every_form(form: str) -> None:
    redactor = Redactor()
    redactor.add(Secret(VALUE))
    shown = redactor.redact(f"before {FORMS[form](VALUE)} after")
    assert "***" in shown and shown.startswith("before ") and shown.endswith(" after")
    for piece in ("k3y", "quotes", "letters", "tick", FORMS[form](VALUE)[6:30]):
        assert piece not in shown, shown


@pytest.mark.parametrize("form", [name for name in FORMS if name != "inside other text"])
@settings(max_examples=12)
@given(
    value=st.text(
        alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=12, max_size=40
    ).filter(lambda value: len(value.strip()) >= 12)
)
def test_whatever_the_value_is_its_form_does_not_stay(form: str, value: str) -> None:
    redactor = Redactor()
    redactor.add(Secret(value))
    text = FORMS[form](value)
    shown = redactor.redact(text)
    assert shown != text and value not in shown


def test_one_line_of_a_key_is_enough_to_be_masked() -> None:
    redactor = Redactor()
    redactor.add(Secret(KEY))
    lines = KEY.splitlines()
    for line in lines[1:-1]:
        assert line not in redactor.redact(f"failed near {line} of the file")
    assert lines[5] not in redactor.redact(KEY.replace("\n", "\\n")) and lines[
        5
    ] not in redactor.redact(KEY.replace("\n", "\r\n"))


SHAPES = {
    "installation token": "ghs_" + "aB3" * 12,
    "long installation token": "ghs_12345_" + ".".join(["aB-_3" * 8] * 3),
    "personal token": "ghp_" + "aB3" * 12,
    "user token": "ghu_" + "aB3" * 12,
    "refresh token": "ghr_" + "aB3" * 25,
    "OAuth token": "gho_" + "aB3" * 12,
    "fine-grained token": "github_pat_" + "aB3_" * 20,
    "assertion": "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiIxMjM0NSJ9.c2lnbmF0dXJlLW9mLXNvbWUtbGVuZ3Ro",
    "authorization": "Authorization: token abcdefabcdefabcdef",
    "authorization in a repr": "{'Authorization': 'Bearer abcdefabcdefabcdef'}",
    "authorization in JSON": '{"authorization":"Basic abcdefabcdefabcdef"}',
    "a name in an address": "https://ada:abcdefabcdef@ghe.example/x",
    "a signed query": "https://codeload.github.com/x?token=ABCDEFABCDEF&y=1",
    "a signed storage query": "https://s3.example/x?X-Amz-Signature=abcdefabcdef&X-Amz-Date=1",
    "a private key": KEY,
    "a cut private key": KEY[:300],
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_looks_like_a_credential_is_masked_without_being_known(name: str) -> None:
    shown = Redactor().redact(f"said: {SHAPES[name]}\nand then")
    assert (
        "***" in shown
        and "abcdefabcdef" not in shown.lower()
        and "aB3aB3" not in shown
        and "aB-_3" not in shown
        and "c2lnbmF0" not in shown
        and "AbCdEfGh" not in shown
    )
    assert shown.startswith("said: ")


@pytest.mark.parametrize(
    "text",
    [
        "GitHub answered 404 to the request for main of acme/infra (Not Found)",
        "9fceb02d0ae598e95dc970b74767f19372d61af8",
        "https://api.github.com/repos/acme/infra/commits/main?per_page=1",
        "/etc/nginx/sites-available/tokens.conf: 12 files, 3.4 KiB",
        "the token is wrong, expired or revoked; make a new one",
        "x-ratelimit-remaining: 4990",
        "",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert Redactor().redact(text) == text


def test_a_text_too_short_to_be_a_secret_masks_nothing() -> None:
    redactor = Redactor()
    redactor.add(Secret("a" * (MIN_SECRET_CHARACTERS - 1)))
    redactor.add(Secret(""))
    assert redactor.redact("a" * 50) == "a" * 50


def test_a_secret_inside_another_leaves_no_rest() -> None:
    redactor = Redactor()
    redactor.add(Secret("secretword"))
    redactor.add(Secret("secretword-and-more"))
    assert redactor.redact("secretword-and-more") == "***"


def test_short_lived_values_give_way_to_newer_ones_and_lasting_ones_do_not() -> None:
    redactor = Redactor()
    redactor.add(Secret("lasting-one"))
    for number in range(MAX_SHORT_LIVED + 1):
        redactor.add(Secret(f"passing-{number:04d}"), long_lived=False)
    shown = redactor.redact(f"lasting-one passing-0000 passing-{MAX_SHORT_LIVED:04d}")
    assert shown == "*** passing-0000 ***"


HOSTILE = {
    "starts of assertions": "-eyJ" * 50_000,
    "starts of assertions with dots": "-eyJaaaaaaaa." * 15_000,
    "three parts and no end": "-eyJaaaaaaaa.aaaaaaaa.a" * 10_000,
    "addresses without an end": "://a:" * 40_000,
    "names in addresses": "://" + "a:" * 100_000,
    "authorizations with spaces": "authorization:" + " " * 100_000,
    "authorization words": "authorization: bearer " * 10_000,
    "queries of underlines": "?" + "a_" * 100_000,
    "queries without a value": "?a_token" * 30_000,
    "starts of keys": "-----BEGIN " + "PRIVATE KEY" * 20_000,
    "ends of keys": "-----BEGIN PRIVATE KEY-----" + "-----END " * 20_000,
    "percent signs": "%" + "25" * 100_000,
    "escaped percent signs": "%25" * 60_000,
    "backslashes": "\\" * 200_000,
    "white space": "a\n" * 100_000,
    "tokens that are too short": "ghs_" * 50_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_redacted_in_time_that_grows_with_its_length_alone(name: str) -> None:
    redactor = Redactor()
    redactor.add(Secret(VALUE))
    redactor.add(Secret(KEY))
    began = time.process_time()
    redactor.redact(HOSTILE[name])
    assert time.process_time() - began < 2


SPLIT = "straddling-secret-0815"


@pytest.mark.parametrize("shown", range(1, len(SPLIT)))
def test_a_secret_that_a_cut_would_split_is_masked_as_a_whole(shown: int) -> None:
    redactor = Redactor()
    redactor.add(Secret(SPLIT))
    text = "a" * (100 - shown) + SPLIT + "z" * 50_000
    cut = redactor.redact(text, 100)
    assert cut == "a" * (100 - shown) + "***" + f"… ({len(text) - 100:,} more characters)"
    assert redactor.redact_end("b" * 50_000 + SPLIT + "c" * (100 - shown), 100) == "***" + "c" * (
        100 - shown
    )


def test_a_text_is_cut_before_it_is_searched() -> None:
    redactor = Redactor()
    redactor.add(Secret(SPLIT))
    began = time.process_time()
    assert redactor.redact("a" * (64 << 20), 1000) == "a" * 1000 + "… (67,107,864 more characters)"
    assert time.process_time() - began < 1
    assert redactor.redact("a" * 1000, 1000) == "a" * 1000


@pytest.mark.parametrize(
    "text", ["bad authorization", KEY[:300] + '"', KEY[:300] + "\\", "://a:b", "?token=", "x"]
)
def test_a_value_stays_json(text: str) -> None:
    redactor = Redactor()
    redactor.add(Secret(SPLIT))
    found = json.loads(
        redactor.redact_json({"error": text, "hint": f"{SPLIT}@x", "more": [1, None, text]})
    )
    assert (
        list(found) == ["error", "hint", "more"]
        and found["hint"] == "***@x"
        and found["more"][:2] == [1, None]
        and found["error"] == found["more"][2]
    )


def test_lines_keep_their_numbers() -> None:
    redactor = Redactor()
    redactor.add(Secret(KEY))
    assert redactor.redact_lines(f"one\n{KEY}last: {KEY.splitlines()[3]}\n").splitlines() == [
        "one",
        *["***"] * 28,
        "last: ***",
    ]


def test_messages_of_errors_and_log_records_are_cut(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    logger.warning("%s", "a" * 1_000_000)
    assert len(kept.lines[0]) < 70_000 and kept.lines[0].endswith(" more characters)")
    error = SyncdError("b" * 1_000_000, hint="c" * 1_000_000)
    assert len(error.message) < 70_000 and error.hint is not None and len(error.hint) < 70_000


def test_a_megabyte_is_redacted_in_a_moment() -> None:
    redactor = Redactor()
    for number in range(20):
        redactor.add(Secret(f"secret-number-{number}-of-twenty"))
    redactor.add(Secret(KEY))
    for text in (
        "a" * (1 << 20),
        "authorization " * 70_000,
        "-----BEGIN PRIVATE KEY-----" * 30_000,
        "://" * 300_000,
        "eyJ" * 300_000,
        "?token=" * 100_000,
    ):
        began = time.process_time()
        redactor.redact(text)
        assert time.process_time() - began < 2, text[:20]


# --- the log --------------------------------------------------------------------------------------


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(RedactingFilter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> tuple[logging.Logger, Kept]:
    kept, logger = Kept(), logging.Logger("test", logging.DEBUG)
    logger.addHandler(kept)
    return logger, kept


def test_no_part_of_a_record_shows_a_secret(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    secret = "canary-in-the-log-4711"
    add_secret(Secret(secret))
    logger.info("plain %s and %r", secret, {"deep": [secret]})
    logger.info(f"in the message {secret}")
    logger.info("by name %(x)s", {"x": secret})
    logger.info("with the stack", stack_info=True, extra={"secret": secret})
    try:
        raise ValueError(f"refused {secret}") from KeyError(secret)
    except ValueError:
        logger.exception("went wrong")
    assert (
        len(kept.lines) == 5 and "went wrong" in kept.lines[-1] and "ValueError" in kept.lines[-1]
    )
    assert not any(secret in line for line in kept.lines), kept.lines


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%d", ("x",)),
        ("%s %s", ("x",)),
        ("%(x)s", ("x",)),
        ("%", ("x",)),
        ("%z", ("x",)),
        ("no place", ("canary-in-the-log-4711",)),
    ],
)
def test_a_record_whose_arguments_do_not_fit_is_shown_all_the_same(
    log: tuple[logging.Logger, Kept], message: str, args: tuple[str, ...]
) -> None:
    logger, kept = log
    add_secret(Secret("canary-in-the-log-4711"))
    logger.warning(message, *args)
    assert len(kept.lines) == 1 and "canary" not in kept.lines[0]


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def test_an_argument_that_can_not_be_shown_does_not_end_the_program(
    log: tuple[logging.Logger, Kept],
) -> None:
    logger, kept = log
    logger.warning("%s", Rude())
    assert len(kept.lines) == 1


def test_a_secret_reaches_no_log_by_itself(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    secret = Secret("never-remembered-but-wrapped")
    logger.warning("%s %r %s %s", secret, secret, [secret], {"x": secret})
    assert "wrapped" not in kept.lines[0]
