"""`syncd status` says whether the daemon runs: beside it, after it was stopped,
and after it was killed.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.support.daemon import daemon
from tests.support.sync_env import SyncEnv, sync_env


def seen(hub: SyncEnv) -> tuple[int, Any]:
    done = hub.call("status", "--json")
    return done.code, done.json["daemon"]


def test_status_tells_a_running_a_stopped_and_a_killed_daemon_apart(tmp_path: Path) -> None:
    with sync_env(tmp_path, {"nginx/a.conf": "a\n"}, as_app=False) as hub:
        hub.write_config(every="1h")
        assert hub.sync().code == 0
        assert seen(hub) == (0, None)

        with daemon(hub) as running:
            code, beside = seen(hub)
            assert (code, beside["alive"], beside["stopped"]) == (0, True, False)
            assert beside["overdue"] == []
            assert beside["last_heartbeat"] >= beside["started"]
            running.ends(signal.SIGTERM)
        code, stopped = seen(hub)
        assert (code, stopped["alive"], stopped["stopped"]) == (0, False, True)

        with daemon(hub) as running:
            running.ends(signal.SIGKILL)
        code, killed = seen(hub)
        assert (code, killed["alive"], killed["stopped"]) == (0, False, False)
        assert killed["last_heartbeat"].endswith("Z")
