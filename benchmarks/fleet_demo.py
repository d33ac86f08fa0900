"""A fleet on this machine: `make fleet-demo`.

A throw-away PostgreSQL, a stand-in for GitHub, two controllers and three agents, each a process of
its own on loopback. It shows a push, a canary that stops a bad commit, a controller that is killed,
and a database that is killed and started again. Nothing is left after it.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.sync_env import SyncEnv

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
DEADLINE_SECONDS = 90.0
AGENTS = ("web01", "web02", "web03")
STARTED = time.monotonic()


def main() -> int:
    """Run the demo; return the exit code."""
    from tests.support.postgresql import binaries

    if binaries() is None:
        print("fleet-demo starts a PostgreSQL of its own, and its server is not installed here.")
        print("→ Debian: sudo apt install postgresql")
        return 1
    with tempfile.TemporaryDirectory(prefix="syncd-fleet-demo-") as folder, ExitStack() as stack:
        Demo(Path(folder), stack).run()
    return 0


class Demo:
    """The machines, and what happens to them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        from tests.support.fleet import machines, made_fleet
        from tests.support.postgresql import cluster
        from tests.support.sync_env import sync_env

        self.stack = stack
        self.server = stack.enter_context(cluster())
        fleet = made_fleet(self.server, "syncd")
        self.server.execute("CREATE ROLE web03 LOGIN CONNECTION LIMIT 3 IN ROLE syncd_agent")
        self.controller = stack.enter_context(sync_env(folder / "c1"))
        self.stand = machines(fleet, self.controller)
        self.controller.write_config(rollout={"canary": "5%", "pause": "0s"})
        self.envs = {name: self._agent(name) for name in AGENTS}
        self.agents = {name: env.dest / "nginx.conf" for name, env in self.envs.items()}

    def _agent(self, name: str) -> SyncEnv:
        """Make an agent whose `validate` refuses a file with the word `bad`."""
        env = self.stand.agent(name)
        env.write_config(validate={"shell": f"! grep -q bad {{staged}}{env.dest}/nginx.conf"})
        return env

    def run(self) -> None:
        """Tell the story."""
        from tests.support.daemon import daemon
        from tests.support.fleet import Publisher, job_of

        say("PostgreSQL runs; two controllers and three agents start")
        first = self.stack.enter_context(daemon(self.controller))
        first.says("published")
        publisher = Publisher(self.stand.fleet, self.stand.signer)
        for name in AGENTS:
            publisher.grant(name, job_of())
        publisher.close()
        self.stack.enter_context(daemon(self.stand.another_controller("c2")))
        for env in self.envs.values():
            self.stack.enter_context(daemon(env))
        self._push("hello\n", "a push: the canary gets it, then the others")
        self._bad_commit()
        say("controller c1 is killed")
        first.send(signal.SIGKILL)
        self._push("after a killed controller\n", "a push: controller c2 publishes it")
        say("PostgreSQL is killed; a file is edited by hand on web01 meanwhile")
        self.server.kill()
        self.agents["web01"].write_text("edited by hand\n")
        self.server.start()
        say("PostgreSQL runs again")
        self._push("after a killed database\n", "a push: everything goes on")
        print(self.controller.call("fleet", "status").out.rstrip())
        print(self.controller.call("fleet", "agents").out.rstrip())
        requests = self.controller.github.routes()
        say(f"GitHub was asked for {requests.get('token', 0)} tokens, by controllers alone")

    def _push(self, content: str, what: str) -> None:
        say(what)
        began = time.monotonic()
        self.controller.repo.commit({"nginx/nginx.conf": content})
        for name, file in self.agents.items():
            until(partial(has, file, content), f"{name} has the commit")
        say(f"  on all agents after {time.monotonic() - began:.1f} s")

    def _bad_commit(self) -> None:
        say("a bad commit: the canary's validate refuses it")
        before = {name: read(file) for name, file in self.agents.items()}
        self.controller.repo.commit({"nginx/nginx.conf": "bad\n"})
        until(lambda: "rollout stopped" in self._status(), "the rollout stops")
        assert {name: read(file) for name, file in self.agents.items()} == before
        print(self._status().rstrip())
        say("  no agent has it")

    def _status(self) -> str:
        return self.controller.call("fleet", "status").out


def read(file: Path) -> str | None:
    """Return what a file holds; None where it is not there."""
    return file.read_text() if file.exists() else None


def has(file: Path, content: str) -> bool:
    """Return whether a file holds this."""
    return read(file) == content


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    ends_at = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > ends_at:
            sys.exit(f"fleet-demo: waited {DEADLINE_SECONDS:g} s in vain: {what}")
        time.sleep(0.05)


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:6.1f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
