"""Trees with everything a path and a file can be: what a mirror must bring exactly."""

from __future__ import annotations

import random
from typing import Any

from syncd.simulator.repository import File, Link

ODD_NAMES = (
    "with space",
    "hash#tag",
    "per%25cent",
    "per%cent",
    "question?",
    "plus+plus",
    "quote'",
    'double"quote',
    "back\\slash",
    "-dash",
    "--help",
    "semi;colon",
    "amp&ersand",
    "st*r",
    "br[ack]et",
    "br{ace}",
    "tilde~",
    "at@",
    "eq=",
    "comma,",
    "colon:",
    "pipe|",
    "less<",
    "caret^",
    "dollar$HOME",
    "`tick`",
    "emoji-\U0001f600",
    "日本語",
    "composed-\u00e9",
    "decomposed-e\u0301x",
    "dot.",
    ".hidden",
    "..double",
    "trailing ",
    "UPPER",
    "ñandú",
    "a" * 200,
)


def everything() -> dict[str, Any]:
    """1,400 and more files below `nginx/`: odd names, empty, binary, 5 MB, executable, inward
    links, a folder of 1,300, twelve levels deep.
    """
    rng = random.Random(7)
    files: dict[str, Any] = {
        f"nginx/many/f{number:04d}.conf": f"{number}\n" * (number % 7) for number in range(1300)
    }
    files |= {f"nginx/odd/{name}": f"content of {name}\n" for name in ODD_NAMES}
    files |= {f"nginx/odd-folders/{name}/inner {name}": "x\n" for name in ODD_NAMES}
    files |= {f"nginx/few/module-{number}.py": f"value = {number}\n" for number in range(30)}
    files |= {
        "nginx/empty": b"",
        "nginx/binary": bytes(range(256)) * 40,
        "nginx/crlf": b"one\r\ntwo\r\n",
        "nginx/large": rng.randbytes(5 << 20),
        "nginx/tool": File(b"#!/bin/sh\nexit 0\n", executable=True),
        "nginx/deep/" + "/".join(f"l{level}" for level in range(12)) + "/end": "deep\n",
        "nginx/to-file": Link("many/f0001.conf"),
        "nginx/to-folder": Link("odd"),
        "nginx/deep/up": Link("../empty"),
        "nginx/same-a": "twins\n",
        "nginx/same-b": "twins\n",
        "elsewhere/not-listed": "never\n",
    }
    return files


def mirrored(files: dict[str, Any]) -> dict[str, Any]:
    """What `tree_of` shows of a mirror that holds `nginx/` of these files."""
    shown: dict[str, Any] = {}
    for path, node in files.items():
        if not path.startswith("nginx/"):
            continue
        name = path.removeprefix("nginx/")
        if isinstance(node, Link):
            shown[name] = ("link", node.target)
        elif isinstance(node, File):
            shown[name] = ("exec", node.content) if node.executable else node.content
        else:
            shown[name] = node.encode() if isinstance(node, str) else node
    return shown
