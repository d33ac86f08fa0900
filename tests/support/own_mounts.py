"""syncd as a process in mounts of its own. Needs root."""

from __future__ import annotations

import shlex
import subprocess
import sys

from tests.support.sync_env import CommandResult, SyncEnv


def in_own_mounts(hub: SyncEnv, mount: str, *arguments: str) -> CommandResult:
    """Run the shell text `mount`, then `syncd ARGUMENTS` on the stand's configuration; nobody else
    sees what was mounted. `BASE` in the text is the stand's folder.
    """
    command = shlex.join([sys.executable, "-m", "syncd", "-c", str(hub.config), *arguments])
    script = f"set -e; {mount.replace('BASE', str(hub.folder))}; exec {command}"
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


__all__ = ["in_own_mounts"]
