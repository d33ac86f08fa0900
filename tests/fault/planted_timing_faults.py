"""Planted faults in when things happen: windows, freezes, spacing of reloads, first runs.

The rows are as in `planted_faults.py`.
"""

from __future__ import annotations

from tests.fault.planted import Fault

TABLE = "tests/unit/test_apply_windows.py::test_a_commit_may_be_applied_when_the_table_says"
REASON = "tests/unit/test_apply_windows.py::test_the_reason_is_the_freeze_or_the_windows"
WINDOWS = "tests/story/test_apply_windows.py"
STORY = f"{WINDOWS}::test_the_file_has_the_versions_that_the_story_says"
SPACING_TABLE = (
    "tests/unit/engine/test_reload_spacing.py::test_the_command_may_begin_when_the_table_says"
)
SPACING = "tests/story/test_reload_spacing.py"
FIRST = "tests/unit/daemon/test_backoff.py::test_first_makes_the_wait_shorter_for_a_time"

TIMING_FAULTS = [
    Fault(name, f"syncd.{module}", old, new, test)
    for module, rows in {
        "apply_windows": {
            "a freeze does not hold": (
                "following = frozen.ends_at if frozen is not None else _next_open(",
                "following = _next_open(",
                TABLE,
            ),
            "a window is open for a second more": (
                "earliest = (moment - timedelta(seconds=window.seconds))",
                "earliest = (moment - timedelta(seconds=window.seconds + 1))",
                TABLE,
            ),
            "the last day of a freeze is free": (
                "following = date.fromisoformat(text) + timedelta(days=1)",
                "following = date.fromisoformat(text)",
                TABLE,
            ),
            "a freeze ends at the first of two equal local times": (
                "return max(_moments(text, zone))",
                "return _moments(text, zone)[0]",
                TABLE,
            ),
            "of two freezes the one that ends first is said": (
                "return max(held, key",
                "return min(held, key",
                REASON,
            ),
        },
        "engine.upstream": {
            "a new commit never waits": (
                "if waiting is not None and not run.options.now:",
                "if False:",
                f"{STORY}[a commit outside waits and is applied as the window opens]",
            ),
            "--now waits as well": (
                "if waiting is not None and not run.options.now:",
                "if waiting is not None:",
                f"{STORY}[--now applies the commit at once]",
            ),
            "a set whose application has begun is left half-way": (
                "commit = state.applying or state.applied_commit",
                "commit = state.applied_commit",
                f"{WINDOWS}::test_a_set_whose_application_has_begun_is_finished_outside_the_window",
            ),
        },
        "engine.run": {
            "a commit that waits is validated at each run": (
                "if waiting is None or (known and known.is_same_commit(waiting)):",
                "if waiting is None:",
                f"{WINDOWS}::test_a_commit_that_waits_costs_one_request_a_run_and_is_validated_once",
            ),
            "a commit that waits is not validated": (
                "        self._validate(ahead)\n",
                "",
                f"{WINDOWS}::test_a_commit_that_validate_rejects_is_refused_before_its_window",
            ),
        },
        "daemon.daemon": {
            "the daemon is not woken for a window": (
                "self.scheduler.wake_at(report.job, min(known, default=None))",
                "self.scheduler.wake_at(report.job, None)",
                f"{STORY}[the daemon runs a weekly job when the window opens]",
            ),
        },
        "daemon.reload": {
            "a restart forgets the window": (
                "parts.scheduler.wake_at(name, _wake_time(job, state, now))",
                "pass",
                f"{STORY}[a restart outside keeps the time of a weekly job's wake-up]",
            ),
        },
        "store.history": {
            "what --now overrode is not stored": (
                '"overrode": report.overrode,',
                '"overrode": None,',
                f"{WINDOWS}::test_now_applies_the_commit_and_history_says_so",
            ),
        },
        "engine.reload_spacing": {
            "the distance is not kept": (
                "spaced = now if last_start is None else last_start + every",
                "spaced = now",
                SPACING_TABLE,
            ),
            "changes that do not stop keep the reload away": (
                "rested = min(rested, first_change + QUIET_PERIODS * quiet)",
                "rested = max(rested, first_change)",
                SPACING_TABLE,
            ),
            "a start in the future counts": (
                "return None if moment is None or moment > now else moment",
                "return moment",
                SPACING_TABLE,
            ),
        },
        "engine.reload": {
            "the start of a command is not stored": (
                "turns.note_start(reload_state.command_digest(due[0].job), due[0].now)",
                "pass",
                f"{SPACING}::test_three_pushes_in_31_seconds_do_not_reload_a_service_that_still_starts",
            ),
            "a command runs though it is running": (
                "if is_ours and at <= now:",
                "if at <= now:",
                f"{SPACING}::test_a_command_that_is_running_elsewhere_is_not_run",
            ),
        },
        "daemon.worker": {
            "the reloads of several jobs are not joined": (
                "others = self._joined(run, locks) if run.job.reload.is_given else []",
                "others = list[JobRun]()",
                f"{SPACING}::test_jobs_that_share_the_command_share_the_run_and_its_distance",
            ),
        },
        "daemon.backoff": {
            "first: asks before the time that GitHub named": (
                "if hold.hard or now - failing_since >= first.seconds:",
                "if now - failing_since >= first.seconds:",
                FIRST,
            ),
            "first: never ends": (
                "if hold.hard or now - failing_since >= first.seconds:",
                "if hold.hard:",
                FIRST,
            ),
        },
    }.items()
    for name, (old, new, test) in rows.items()
]
