"""Log lines: to the journal with their fields, as text to a terminal, as JSON elsewhere,
and never with a secret.
"""

from __future__ import annotations

import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.daemon import logging_setup
from syncd.daemon.logging_setup import (
    JsonFormatter,
    TextFormatter,
    datagram,
    detect_format,
    handler_for,
    priority_of,
)
from syncd.redaction import Secret, add_secret

FIELDS = {"SYNCD_JOB": "nginx", "SYNCD_COMMIT": "a" * 40}


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger, with the process's own set-up put back afterwards."""
    root = logging.getLogger()
    handlers, level, levels = (
        root.handlers[:],
        root.level,
        {name: logging.getLogger(name).level for name in logging_setup.NOISY_LOGGERS},
    )
    yield logging.getLogger("syncd.test")
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def fields_in(raw: bytes) -> dict[str, str]:
    """What journald would read."""
    found: dict[str, str] = {}
    while raw:
        line, _, rest = raw.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            found[name.decode()], raw = value.decode(), rest
        else:
            length = int.from_bytes(rest[:8], "little")
            found[line.decode()], raw = rest[8 : 8 + length].decode(), rest[8 + length + 1 :]
    return found


def test_the_journal_gets_one_datagram_a_line_with_the_fields_of_the_run(
    tmp_path: Path, log: logging.Logger
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "socket"))
        handler = handler_for("journal", io.StringIO(), str(tmp_path / "socket"))
        log.addHandler(handler)
        try:
            log.error("nginx: it\nfailed", extra={"fields": FIELDS})
        finally:
            log.removeHandler(handler)
            handler.close()
        heard = fields_in(journald.recv(1 << 20))
    assert (
        heard["MESSAGE"] == "nginx: it\nfailed"
        and heard["PRIORITY"] == "3"
        and heard["SYSLOG_IDENTIFIER"] == "syncd"
    )
    assert heard["SYNCD_JOB"] == "nginx" and heard["SYNCD_COMMIT"] == "a" * 40


def test_without_a_journal_the_line_goes_to_stderr_with_its_priority(tmp_path: Path) -> None:
    said = io.StringIO()
    handler = handler_for("journal", said, str(tmp_path / "nobody"))
    handler.emit(logging.LogRecord("syncd", logging.WARNING, __file__, 1, "one\ntwo", (), None))
    handler.close()
    assert said.getvalue() == "<4>one\n<4>two\n"


def test_a_value_of_many_lines_and_one_that_is_too_long_are_sent_as_the_protocol_has_it() -> None:
    assert fields_in(datagram({"A": "x=y", "B": "one\ntwo\n", "C": "ü"})) == {
        "A": "x=y",
        "B": "one\ntwo\n",
        "C": "ü",
    }
    assert len(datagram({"A": "x" * 1_000_000})) < 150_000


def test_the_journal_is_known_by_the_stream_and_not_by_a_variable_that_was_inherited(
    tmp_path: Path,
) -> None:
    with open(tmp_path / "log", "w") as file:
        found = os.fstat(file.fileno())
        assert (
            detect_format({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}, file) == "journal"
        )
        assert (
            detect_format({"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino + 1}"}, file) == "json"
        )
        assert detect_format({}, file) == "json"
    assert detect_format({"JOURNAL_STREAM": "8:1"}, io.StringIO()) == "json"


def test_json_lines_carry_the_fields_and_text_lines_are_for_people() -> None:
    record = logging.LogRecord(
        "syncd.job", logging.INFO, __file__, 1, "nginx: %d written", (3,), None
    )
    record.fields = FIELDS
    line = json.loads(JsonFormatter().format(record))
    assert (
        line["message"] == "nginx: 3 written"
        and line["job"] == "nginx"
        and line["level"] == "info"
        and line["at"].endswith("Z")
    )
    assert TextFormatter().format(record).endswith("info    nginx: 3 written")


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_is_shown_before_it_is_redacted(log: logging.Logger, form: str) -> None:
    add_secret(Secret("a-secret-of-the-log"))
    said = io.StringIO()
    logging_setup.set_up(form, "debug", {}, said)
    try:
        raise ValueError("a-secret-of-the-log")
    except ValueError:
        log.exception("met %s", "a-secret-of-the-log")
    assert (
        "a-secret-of-the-log" not in said.getvalue()
        and "***" in said.getvalue()
        and "Traceback" in said.getvalue()
    )


def test_the_level_is_honoured_and_libraries_stay_quiet(log: logging.Logger) -> None:
    said = io.StringIO()
    logging_setup.set_up("json", "info", {}, said)
    log.debug("no")
    log.info("yes")
    logging.getLogger("urllib3").info("no")
    assert [json.loads(line)["message"] for line in said.getvalue().splitlines()] == ["yes"]
    assert [priority_of(level) for level in (10, 20, 30, 40, 50)] == [7, 6, 4, 3, 2]
