"""OpenPGP signatures, verified by gpgv, which Debian installs with apt.

gpgv sees the keys of the file of allowed signers and no others; key and signature are handed over
in memory, so nothing is written. Its exit status is 0 for a revoked or expired key as well, so its
status lines decide. gpgv judges the expiry and the revocation of a key at the present time, as
`git verify-commit` does.

Source: gpgv(1), and GnuPG's doc/DETAILS for the status lines.
"""

from __future__ import annotations

import binascii
import os
import shutil
import subprocess
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
TIMEOUT_SECONDS = 10.0  # one signature takes 10 ms
BINARY_SIGNATURE = "00"  # the other class ignores line ends: gpgv(1), RFC 9580 section 5.2.1
# Status lines that make a signature unacceptable, and what they mean.
REFUSALS = {
    "BADSIG": "it was not made over this content",
    "EXPSIG": "the signature has expired",
    "EXPKEYSIG": "the key {key} has expired",
    "REVKEYSIG": "the key {key} is revoked",
    "NO_PUBKEY": "the key {key} is not in the file",
    "ERRSIG": "it can't be checked with the keys in the file (key {key})",
}


class GpgvMissingError(Exception):
    """There is no gpgv on this machine, or it can't be run."""


def read_keys(blocks: Sequence[str]) -> bytes:
    """Return armored keys as one keyring. Raises ValueError for a block that is damaged."""
    return b"".join(_without_armor(block) for block in blocks)


def _without_armor(block: str) -> bytes:
    lines = [line.strip() for line in block.strip().splitlines()[1:-1]]
    body = lines[lines.index("") + 1 :] if "" in lines else lines
    try:
        content = b64decode("".join(line for line in body if line[:1] != "="), validate=True)
    except binascii.Error as error:
        raise ValueError("an OpenPGP key is no base64") from error
    if not content or not content[0] & 0x80:
        raise ValueError("an OpenPGP key is empty or damaged")
    return content


def find_signer(keys: bytes, signature: str, payload: bytes) -> tuple[str | None, str]:
    """Return (name of the signer, "") for a good signature, or (None, what is wrong with it).

    Raises GpgvMissingError.
    """
    program = shutil.which("gpgv", path=SEARCH_PATH)
    if program is None:
        raise GpgvMissingError("there is no gpgv")
    with _in_memory(keys) as ring, _in_memory(signature.encode()) as made:
        options = ["--homedir", "/nonexistent", "--status-fd", "1", "--weak-digest", "SHA1"]
        files = [f"/proc/self/fd/{ring}", f"/proc/self/fd/{made}"]
        try:
            done = subprocess.run(
                [program, *options, "--keyring", *files, "-"],
                input=payload,
                capture_output=True,
                pass_fds=(ring, made),
                env={"PATH": SEARCH_PATH, "LC_ALL": "C"},
                cwd="/",
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise GpgvMissingError(f"{program} can't be run: {error}") from error
    return _judge(done.returncode, done.stdout.decode("utf-8", "replace"))


def _judge(exit_status: int, output: str) -> tuple[str | None, str]:
    """Return what the status lines say: exactly one signature, good, over the bytes as they are."""
    lines = [line.split(" ")[1:] for line in output.splitlines() if line.startswith("[GNUPG:] ")]
    for words in lines:
        if words[0] in REFUSALS:
            return None, REFUSALS[words[0]].format(key=words[1] if len(words) > 1 else "")
    count = {name: sum(words[0] == name for words in lines) for name in ("NEWSIG", "GOODSIG")}
    valid = [words for words in lines if words[0] == "VALIDSIG"]
    if exit_status != 0 or set(count.values()) != {1} or len(valid) != 1 or len(valid[0]) < 11:
        return None, "it is damaged, or there are several"
    if valid[0][9] != BINARY_SIGNATURE:
        return None, "it is a signature of text, which does not cover line ends"
    name = next(" ".join(words[2:]) for words in lines if words[0] == "GOODSIG")
    return name or valid[0][1], ""


@contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("syncd-signature")
    try:
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
