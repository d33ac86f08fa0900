"""Redaction: known values in every form a text may give them, the shapes of GitHub's credentials, and nothing that is no secret."""

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

from syncd.models import Secret
from syncd.redact import PASSING, SHORTEST, RedactingFilter, Redactor, remember

# letters that every escape changes, none of the shapes that are known without being told
VALUE = 'k3y/with+odd=letters&"quotes" <and> é\\back\'tick'
KEY = "-----BEGIN PRIVATE KEY-----\n" + "\n".join(f"{number:04d}" + "AbCdEfGh+/" * 6 for number in range(26)) + "\n-----END PRIVATE KEY-----\n"


def based(encode: Callable[[bytes], bytes], before: int) -> Callable[[str], str]:
    return lambda value: encode(b"u" * before + value.encode() + b":tail").decode()


FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "inside other text": lambda value: f"x{value}y",
    "url-encoded": lambda value: quote(value, safe=""),
    "url-encoded, slashes kept": quote,
    "url-encoded in lower case": lambda value: re.sub("%..", lambda found: found.group().lower(), quote(value, safe="")),
    "as a form": quote_plus,
    "JSON": lambda value: json.dumps({"x": value}),
    "JSON without escapes": lambda value: json.dumps(value, ensure_ascii=False),
    "JSON with escaped slashes": lambda value: json.dumps(value).replace("/", "\\/"),
    "repr": repr,
    "repr of bytes": lambda value: repr(value.encode()),
    "HTML": html.escape,
    "HTML, quotes kept": lambda value: html.escape(value, quote=False),
    **{f"base64 after {before}": based(base64.b64encode, before) for before in range(3)},
    **{f"urlsafe base64 after {before}": based(base64.urlsafe_b64encode, before) for before in range(3)},
    "base64 alone": lambda value: base64.b64encode(value.encode()).decode(),
    "basic authorization": lambda value: "Basic " + base64.b64encode(b"x-access-token:" + value.encode()).decode(),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_known_value_is_masked_in_every_form(form: str) -> None:
    redactor = Redactor()
    redactor.add(Secret(VALUE))
    shown = redactor.redact(f"before {FORMS[form](VALUE)} after")
    assert "***" in shown and shown.startswith("before ") and shown.endswith(" after")
    for piece in ("k3y", "quotes", "letters", "tick", FORMS[form](VALUE)[6:30]):
        assert piece not in shown, shown


@pytest.mark.parametrize("form", [name for name in FORMS if name != "inside other text"])
@settings(max_examples=30)
@given(value=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=12, max_size=40).filter(lambda value: len(value.strip()) >= 12))
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
    assert lines[5] not in redactor.redact(KEY.replace("\n", "\\n")) and lines[5] not in redactor.redact(KEY.replace("\n", "\r\n"))


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
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_what_looks_like_a_credential_is_masked_without_being_known(name: str) -> None:
    shown = Redactor().redact(f"said: {SHAPES[name]}\nand then")
    assert "***" in shown and "abcdefabcdef" not in shown.lower() and "aB3aB3" not in shown and "aB-_3" not in shown and "c2lnbmF0" not in shown and "AbCdEfGh" not in shown
    assert shown.startswith("said: ")


@pytest.mark.parametrize(
    "text",
    [
        "asked for main of acme/infra: GitHub answered 404 (Not Found)",
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
    redactor.add(Secret("a" * (SHORTEST - 1)))
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
    for number in range(PASSING + 1):
        redactor.add(Secret(f"passing-{number:04d}"), lasting=False)
    shown = redactor.redact(f"lasting-one passing-0000 passing-{PASSING:04d}")
    assert shown == "*** passing-0000 ***"


def test_a_megabyte_is_redacted_in_a_moment() -> None:
    redactor = Redactor()
    for number in range(20):
        redactor.add(Secret(f"secret-number-{number}-of-twenty"))
    redactor.add(Secret(KEY))
    for text in ("a" * (1 << 20), "authorization " * 70_000, "-----BEGIN PRIVATE KEY-----" * 30_000, "://" * 300_000, "eyJ" * 300_000, "?token=" * 100_000):
        began = time.process_time()
        redactor.redact(text)
        assert time.process_time() - began < 2, text[:20]


# --- the log ----------------------------------------------------------------------------------------------------------


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
    remember(Secret(secret))
    logger.info("plain %s and %r", secret, {"deep": [secret]})
    logger.info(f"in the message {secret}")
    logger.info("by name %(x)s", {"x": secret})
    logger.info("with the stack", stack_info=True, extra={"secret": secret})
    try:
        raise ValueError(f"refused {secret}") from KeyError(secret)
    except ValueError:
        logger.exception("went wrong")
    assert len(kept.lines) == 5 and "went wrong" in kept.lines[-1] and "ValueError" in kept.lines[-1]
    assert not any(secret in line for line in kept.lines), kept.lines


@pytest.mark.parametrize(("message", "args"), [("%d", ("x",)), ("%s %s", ("x",)), ("%(x)s", ("x",)), ("%", ("x",)), ("%z", ("x",)), ("no place", ("canary-in-the-log-4711",))])
def test_a_record_whose_arguments_do_not_fit_is_shown_all_the_same(log: tuple[logging.Logger, Kept], message: str, args: tuple[str, ...]) -> None:
    logger, kept = log
    remember(Secret("canary-in-the-log-4711"))
    logger.warning(message, *args)
    assert len(kept.lines) == 1 and "canary" not in kept.lines[0]


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def test_an_argument_that_can_not_be_shown_does_not_end_the_program(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    logger.warning("%s", Rude())
    assert len(kept.lines) == 1


def test_a_secret_reaches_no_log_by_itself(log: tuple[logging.Logger, Kept]) -> None:
    logger, kept = log
    secret = Secret("never-remembered-but-wrapped")
    logger.warning("%s %r %s %s", secret, secret, [secret], {"x": secret})
    assert "wrapped" not in kept.lines[0]
