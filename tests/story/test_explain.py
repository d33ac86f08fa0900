"""`explain` of files that a job kept, dropped or removed: which job, and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.sync_env import SyncEnv


def mine(_hub: SyncEnv, file: Path) -> None:
    file.write_text("mine\n")


def private(_hub: SyncEnv, file: Path) -> None:
    file.chmod(0o600)


def equal_but_private(_hub: SyncEnv, file: Path) -> None:
    file.write_text("one\n")
    file.chmod(0o600)


def removed(_hub: SyncEnv, file: Path) -> None:
    file.unlink()


def dropped(hub: SyncEnv, _file: Path) -> None:
    hub.repo.commit({"nginx/nginx.conf": None})


def dropped_and_edited(hub: SyncEnv, file: Path) -> None:
    mine(hub, file)
    dropped(hub, file)


def forgotten(hub: SyncEnv, _file: Path) -> None:
    assert hub.call("sync", "--forget", "nginx").code == 0


OF = "FILE: nginx/nginx.conf of acme/infra@main, by the job nginx"
FOREIGN = "  kept: another file was here first, and drift: {} leaves it"
MIRRORED = (
    "  the job nginx mirrors acme/infra's nginx here; it would come from nginx/nginx.conf, if the"
    " repository has that. A file of your own is left alone"
)
Change = Callable[[SyncEnv, Path], None] | None


@pytest.mark.parametrize(
    ("drift", "before", "after", "code", "lines"),
    [
        ("keep", mine, None, 0, [OF, FOREIGN.format("keep"), "  now: it holds other bytes"]),
        (
            "report",
            mine,
            None,
            0,
            [
                OF,
                FOREIGN.format("report") + " until upstream changes it",
                "  now: it holds other bytes",
            ],
        ),
        (
            "keep",
            equal_but_private,
            None,
            0,
            [OF, FOREIGN.format("keep"), "  now: its mode is 0600 and should be 0644"],
        ),
        (
            "keep",
            None,
            mine,
            0,
            [OF, "  applied: ...", "  now: it holds other bytes; drift: keep leaves it"],
        ),
        (
            "report",
            None,
            private,
            0,
            [
                OF,
                "  applied: ...",
                "  now: its mode is 0600 and should be 0644; drift: report leaves it until upstream"
                " changes it",
            ],
        ),
        (
            "keep",
            None,
            removed,
            0,
            [OF, "  applied: ...", "  now: it is not there; drift: keep leaves it"],
        ),
        (
            "restore",
            None,
            dropped_and_edited,
            1,
            [
                "FILE: the job nginx keeps it: it was dropped upstream at COMMIT, but edited here",
                MIRRORED,
            ],
        ),
        (
            "restore",
            None,
            dropped,
            1,
            ["FILE: the job nginx removed it at COMMIT: it was dropped upstream", MIRRORED],
        ),
        (
            "keep",
            mine,
            forgotten,
            1,
            ["FILE: the job nginx kept it at COMMIT; it is not recorded any more", MIRRORED],
        ),
        (
            "restore",
            None,
            forgotten,
            1,
            ["FILE: the job nginx wrote it at COMMIT; it is not recorded any more", MIRRORED],
        ),
    ],
)
def test_explain_names_the_job_that_kept_removed_or_forgot_a_file(
    hub: SyncEnv, drift: str, before: Change, after: Change, code: int, lines: list[str]
) -> None:
    hub.write_config(drift=drift)
    file = hub.dest / "nginx.conf"
    if before is not None:
        before(hub, file)
    hub.sync()
    if after is not None:
        after(hub, file)
    if after is not forgotten:
        hub.sync()
    done = hub.call("explain", str(file))
    shown = done.out.replace(str(file), "FILE").replace(hub.repo.head()[:7], "COMMIT").splitlines()
    shown = ["  applied: ..." if line.startswith("  applied: ") else line for line in shown]
    assert (done.code, shown[: len(lines)]) == (code, lines)


def test_explain_of_a_path_that_no_job_ever_wrote_says_so(hub: SyncEnv) -> None:
    hub.sync()
    done = hub.call("explain", str(hub.dest / "other.conf"))
    assert done.code == 1
    assert done.out.splitlines()[0] == f"{hub.dest}/other.conf: no job has written it"
