"""What a repository, a server or a hook puts into a text never acts on a terminal: every looking
command, every log format, the page.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import socket
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from urllib.request import urlopen

import pytest

from syncd.cli.main import run
from syncd.config.load import load_config
from syncd.config.model import Web as WebConfig
from syncd.daemon import logging_setup
from syncd.text import in_quotes, json_text, on_terminal, one_line, styled, visible
from syncd.web.server import Web
from tests.support.fork_server import MODULE, ForkedSyncd
from tests.support.status_board import StoreBoard
from tests.support.sync_env import SyncEnv, sync_env

ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
STYLES = re.compile(r"\x1b\[(?:0|1|2|31|32|33|36)m")
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x7f\u202e\u2066\u2028\u200b"
NAME = "a\u202egpj.\u2066sh"  # no control character, which no name may hold
COMMANDS = (
    ["plan"],
    ["plan", "--diff"],
    ["status"],
    ["history"],
    ["history", "--diff"],
    ["history", "--path", "/x\x1b[2J"],
    ["explain", "/srv/\x1b[2J\n✓ all is well"],
    ["verify"],
    ["doctor"],
    ["sync"],
    ["sync", "no\x1b[2Jjob"],
    ["no\x1b[2Jcommand"],
    ["-c", "/no\x1b[2Jfile", "status"],
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncEnv]:
    """A job whose names, lines, ref, hook and server are hostile; its last run failed."""
    with sync_env(
        tmp_path_factory.mktemp("visible"),
        {f"nginx/{NAME}": "one\n", "nginx/b": "one\n", f"nginx/{NAME}.d/c": "one\n"},
        as_app=False,
    ) as made:
        made.repo.refs["refs/heads/m\u202eain"] = made.repo.head()
        assert made.sync().code == 0
        made.repo.commit(
            {f"nginx/{NAME}": f"one{EVIL}\n", "nginx/b": f"two {EVIL}\n"}, f"message {EVIL}"
        )
        assert made.sync().code == 0
        made.repo.commit({"nginx/b": f"three {EVIL}\n"}, f"message {EVIL}")
        hook = made.folder / "hook"
        hook.write_text(f"#!/bin/sh\ncat {made.folder}/said\nexit 1\n")
        hook.chmod(0o755)
        (made.folder / "said").write_bytes(f"the hook says {EVIL}\n".encode() + b"\xff\xfe\n")
        made.write_config(validate=str(hook))
        assert made.sync().code != 0
        yield made


def shown(hub: SyncEnv, arguments: list[str], stream: type[io.StringIO]) -> str:
    out = stream()
    with redirect_stdout(out), redirect_stderr(out):
        run([*([] if "-c" in arguments else ["-c", str(hub.config)]), *arguments])
    return out.getvalue()


@pytest.mark.parametrize("stream", [Terminal, io.StringIO], ids=["terminal", "pipe"])
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: repr(" ".join(arguments)))
def test_no_command_lets_a_text_act_on_the_terminal(
    hub: SyncEnv, arguments: list[str], stream: type[io.StringIO]
) -> None:
    text = shown(hub, arguments, stream)
    assert text and not ACTS.search(STYLES.sub("", text) if stream is Terminal else text), repr(
        text
    )


def test_hostile_text_is_shown_as_escapes_and_own_styles_remain(hub: SyncEnv) -> None:
    status, history = shown(hub, ["status"], Terminal), shown(hub, ["history", "--diff"], Terminal)
    assert (
        "the hook says \\x1b[2J\\x1b]0;owned\\x07\\x9b31m" in status
        and "\x1b[31mfailing\x1b[0m" in status
    )
    assert "a\\u202egpj.\\u2066sh" in history and "\x1b[32m      +two \\x1b[2J" in history


def test_a_real_terminal_receives_no_sequence_but_ours(hub: SyncEnv) -> None:
    ours, theirs = pty.openpty()
    done = ForkedSyncd(
        [*MODULE, "-c", str(hub.config), "status"],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        received += part
    os.close(ours)
    assert done.wait() == 3
    text = received.decode().replace("\r\n", "\n")
    assert (
        "\x1b[1mSTATE" in text and "\\x1b[2J" in text and not ACTS.search(STYLES.sub("", text))
    ), repr(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan", "--json"],
        ["status", "--json"],
        ["history", "--json"],
        ["verify", "--json"],
        ["sync", "--json"],
    ],
    ids=" ".join,
)
def test_json_is_ascii_and_names_can_be_read_back(hub: SyncEnv, arguments: list[str]) -> None:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        run(["-c", str(hub.config), *arguments])
    text = out.getvalue()
    assert text.isascii() and text.rstrip("\n").isprintable() and json.loads(text)
    if arguments[0] == "history":
        paths = {change["path"] for one in json.loads(text)["runs"] for change in one["changes"]}
        assert f"{hub.dest}/{NAME}" in paths


@pytest.mark.parametrize("form", ["text", "json", "journal"])
def test_no_log_format_lets_a_text_act(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "journal"))
    stream = io.StringIO()
    handler = logging_setup.handler_for(form, stream, str(tmp_path / "journal"))
    handler.addFilter(logging_setup.RedactingFilter())
    logger = logging.Logger("evil")
    logger.addHandler(handler)
    try:
        raise ValueError(EVIL)
    except ValueError:
        logger.exception("failed: %s", EVIL, extra={"fields": {"SYNCD_REF": EVIL}})
    handler.close()
    said = receiver.recv(65536).decode(errors="replace") if form == "journal" else stream.getvalue()
    receiver.close()
    if form == "journal":  # a value of several lines has its length before it, in eight bytes
        said = said.replace("\x00", "")
        said = re.sub("MESSAGE\n.{1,2}failed", "failed", said, flags=re.DOTALL)
    assert "x1b[2J" in said and "u202e" in said and not ACTS.search(said), repr(said)


def test_the_page_shows_escapes(hub: SyncEnv) -> None:
    web = Web(
        WebConfig("127.0.0.1:0", show_diffs=True), StoreBoard(load_config(hub.config, {})), {}
    )
    try:
        with urlopen(web.names[0]) as answer:
            page = answer.read().decode()
        with urlopen(f"{web.names[0]}api/v1/status") as answer:
            status = answer.read().decode()
    finally:
        web.close()
    assert (
        not ACTS.search(page)
        and "a\\u202egpj" in page
        and "the hook says \\x1b[2J" in page
        and "+two \\x1b[2J" in page
    ), page
    assert status.isascii() and status.rstrip("\n").isprintable()


def test_styles_are_ours_alone() -> None:
    assert (
        on_terminal(f"{styled('✕', fg='red', bold=True)} \x1b[32mgreen\x1b[0m")
        == "\x1b[31;1m✕\x1b[0m \\x1b[32mgreen\\x1b[0m"
    )
    assert on_terminal(styled("\x1b[32mx", dim=True)) == "\x1b[2m\\x1b[32mx\x1b[0m"
    assert on_terminal("\x1b[0123456789abcdef;31mx") == "\\x1b[0123456789abcdef;31mx"


def test_visible_text() -> None:
    assert visible("plain é 漢 😀\n\tx") == "plain é 漢 😀\n\tx"
    assert (
        visible("\x00\x1b\x7f\x9b\r\u2028\u202e\u2066\ud800")
        == "\\x00\\x1b\\x7f\\x9b\\r\\u2028\\u202e\\u2066\\ud800"
    )
    assert one_line("a\nb\tc") == "a\\nb\\tc"
    assert in_quotes("a\nb") == "'a\\nb'" and len(in_quotes("\x1b" * 500)) <= 160
    assert json_text({"x": "\x7f\x9b\u202e"}) == '{"x": "\\u007f\\u009b\\u202e"}'
