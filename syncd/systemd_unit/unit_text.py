"""Templates of unit files, and quoting for systemd and for a shell. Pure: no I/O."""

from __future__ import annotations

import re
import shlex

SOCKET = """\
# syncd: written by `syncd init --systemd`: the socket of web.listen.
# Another address: systemctl edit syncd-web.socket

[Socket]
ListenStream=127.0.0.1:8480
FileDescriptorName={name}
Service={unit}

[Install]
WantedBy=sockets.target
"""
HEADER = (
    "# syncd: written by `syncd init --systemd` from {config}; write it again after changes there."
    " Lines of your own belong in another drop-in."
)


def quoted(path: str, command: bool = False) -> str:
    """Return a path as systemd reads it: specifiers doubled, and in quotes where needed."""
    text = path.replace("%", "%%")
    if command:
        text = text.replace("$", "$$")
    if re.fullmatch(r"[\w./@%:+,~$-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def shell(path: str) -> str:
    """Return the path quoted for a shell."""
    return shlex.quote(path)


def clean(text: str) -> str:
    """Return the text without characters that could end a comment line."""
    return re.sub(r"[\x00-\x1f\x7f\\]", "?", text)
