"""The planted faults of health checks: rows for `planted_faults.py`."""

from __future__ import annotations

from tests.fault.planted import Fault

UNIT = "tests/unit/engine/test_health.py"
STORY = "tests/story/test_health.py"
DAEMON = "tests/story/test_daemon_health.py"
NOTICES = "tests/story/test_notices.py"
AWAY = "tests/story/test_notices_of_a_day_away.py"
KILLS = "tests/fault/test_health_faults.py"

ROWS: dict[str, dict[str, tuple[str, str, str]]] = {
    "syncd.engine.health": {
        "a change is healthy at the end of its window, whatever the checks said": (
            "    if pending.last is CheckResult.PASSED:\n        return Verdict.HEALTHY",
            "    if True:\n        return Verdict.HEALTHY",
            f"{UNIT}::test_the_verdict_is_as_the_table_says",
        ),
        "one pass is enough": (
            "if pending.seconds < health.window_seconds:",
            "if pending.seconds < health.window_seconds and not pending.passed:",
            f"{STORY}::test_a_good_change_is_done_when_its_window_has_ended",
        ),
        "failed checks count until the window ends": (
            "if pending.failed >= health.failures:",
            "if pending.failed >= health.failures and pending.seconds >= health.window_seconds:",
            f"{STORY}::test_a_bad_change_is_taken_back_and_its_commit_is_rejected",
        ),
        "one failure is too many": (
            "if pending.failed >= health.failures:",
            "if pending.failed:",
            f"{STORY}::test_one_failure_between_passes_is_forgiven",
        ),
        "time that was not watched counts": (
            "watched = min(max(0.0, _seconds_since_last(pending, began_at)), longest)",
            "watched = max(0.0, _seconds_since_last(pending, began_at))",
            f"{DAEMON}::test_a_machine_that_was_off_watches_the_rest_of_the_window",
        ),
        "a clock that was set back stops the checks": (
            "if 0 <= elapsed < health.interval_seconds else 0.0",
            "if elapsed < health.interval_seconds else 0.0",
            f"{DAEMON}::test_a_clock_that_was_set_changes_the_window_little",
        ),
        "a pass forgives no failure": (
            'passed, failed, reason = passed + 1, 0, ""',
            'passed, reason = passed + 1, ""',
            f"{UNIT}::test_a_check_is_counted_as_the_table_says",
        ),
        "a check that can't be run has passed": (
            "    if result is CheckResult.PASSED:",
            "    if result is not CheckResult.FAILED:",
            f"{UNIT}::test_a_check_is_counted_as_the_table_says",
        ),
        "the window opens before the reload": (
            "pending.since is not None or state.pending_reload is not None:",
            "pending.since is not None:",
            f"{UNIT}::test_the_window_opens_when_the_whole_set_is_in_place_and_reloaded",
        ),
        "the window opens for half a set": (
            "is_whole = state.consistent and pending.commit == state.applied_commit",
            "is_whole = pending.commit == state.applied_commit",
            f"{UNIT}::test_the_window_opens_when_the_whole_set_is_in_place_and_reloaded",
        ),
        "a repair is checked": (
            "if job.health is None or (is_applied and pending is None):",
            "if job.health is None:",
            f"{STORY}::test_a_run_that_changes_nothing_and_a_repair_are_not_checked",
        ),
        "a pending check is a success": (
            "    if state.pending_health is None:\n        return state.after_success(now)",
            "    if True:\n        return state.after_success(now)",
            f"{STORY}::test_an_interrupted_window_goes_on_with_the_next_run",
        ),
        "another check goes on with the old results": (
            "    if pending is None or pending.config_digest == digest:",
            "    if True:",
            f"{STORY}::test_another_health_command_begins_the_window_again",
        ),
    },
    "syncd.engine.health_check": {
        "a check that is not due is run": (
            "            if wait > 0:",
            "            if False:",
            f"{DAEMON}::test_a_schedule_shorter_than_the_window_checks_no_oftener",
        ),
        "failed checks are not stored": (
            "lambda state: replace(state, pending_health=after)",
            "lambda state: replace(state, pending_health=replace(after, failed=0))",
            f"{STORY}::test_a_bad_change_is_taken_back_and_its_commit_is_rejected",
        ),
        "a set that was taken back is not whole": (
            "        if undo is None:\n            return self._reject_only(pending)",
            "        if True:\n            return self._reject_only(pending)",
            f"{KILLS}::test_killed_in_the_check_itself",
        ),
        "a paused job is checked": (
            "if not state.checking or state.paused(now):",
            "if not state.checking:",
            f"{STORY}::test_a_pause_stops_the_checks_and_resume_lets_them_go_on",
        ),
        "a command that ends badly has passed": (
            "return CheckResult.PASSED if end.status == 0 else CheckResult.FAILED",
            "return CheckResult.PASSED",
            f"{STORY}::test_a_bad_change_is_taken_back_and_its_commit_is_rejected",
        ),
        "the check has the time of a hook": (
            "call = replace(call, timeout_seconds=self.health.timeout_seconds)",
            "call = replace(call, timeout_seconds=2.5)",
            f"{STORY}::test_a_slow_check_is_ended_after_its_own_timeout",
        ),
        "a one-shot does not wait for the window": (
            "        if report.checking and not report.reload_pending and report.error is None",
            "        if False",
            f"{STORY}::test_a_good_change_is_done_when_its_window_has_ended",
        ),
    },
    "syncd.engine.run": {
        "a kill before the record makes a change healthy": (
            "self.state = health.with_intended_check(self.job, self.state, decision.commit)",
            "pass",
            f"{STORY}::test_a_bad_change_is_taken_back_and_its_commit_is_rejected",
        ),
    },
    "syncd.engine.reload_state": {
        "a reload that failed is over when it is put off": (
            "if is_well and pending.attempts == 0:",
            "if is_well:",
            "tests/unit/engine/test_reload_state.py"
            "::test_a_job_is_waiting_while_its_reload_is_put_off_and_nothing_else_is_wrong",
        ),
        "the way back goes with the reload": (
            "undo = None if state.pending_health is None else state.undo",
            "undo = None",
            f"{STORY}::test_a_bad_change_is_taken_back_and_its_commit_is_rejected",
        ),
    },
    "syncd.engine.rejection": {
        "a rejection is of the present configuration": (
            "    if pending is not None and pending.commit == commit and not by_policy:",
            "    if False:",
            f"{STORY}::test_a_commit_is_tried_again_under_another_configuration_of_the_set",
        ),
        "a renamed job's check is of another configuration": (
            "    if pending is not None and pending.config_digest == before:",
            "    if False:",
            f"{STORY}::test_a_renamed_job_goes_on_with_the_window",
        ),
    },
    "syncd.engine.undo": {
        "the way back may be lost with the power": (
            "    ctx.blobs.sync([*sorted(undo.blobs), blob_id(content)])\n",
            "",
            f"{STORY}::test_the_way_back_is_on_the_disk_before_the_change_is_intended",
        ),
        "nothing is kept for a check that may fail": (
            " or job.health is not None",
            "",
            f"{STORY}::test_a_bad_change_is_taken_back_and_its_commit_is_rejected",
        ),
        "a check of the set that went is pending": (
            "            pending_health=None,\n            undo=None,",
            "            undo=None,",
            f"{STORY}::test_an_undo_of_a_failed_reload_leaves_no_check",
        ),
    },
    "syncd.engine.run_result": {
        "a fix that waits ends the rejection": (
            "if known is None or decision.waiting is not None or run.is_rollback:",
            "if known is None or run.is_rollback:",
            f"{NOTICES}::test_a_job_has_not_recovered_while_its_fix_waits",
        ),
        "a commit applied by hand ends the rejection": (
            "return known if asked_ref and known.commit != decision.commit else None",
            "return None",
            f"{STORY}::test_a_commit_that_the_operator_applies_by_hand_does_not_end_a_rejection",
        ),
        "a rollback leaves the check pending": (
            "state = health.without_check(state) if run.is_rollback else state",
            "pass",
            f"{STORY}::test_a_rollback_ends_the_window_and_holds_the_job",
        ),
    },
    "syncd.daemon.worker": {
        "a push in the window is lost": (
            "        if found is not None and waiting is not None:\n",
            "        if False:\n",
            f"{DAEMON}::test_a_push_in_the_window_is_applied_after_it",
        ),
        "no check follows the change": (
            "        if report.checking and not report.reload_pending and job.health is not None:",
            "        if False:",
            f"{DAEMON}::test_a_bad_change_is_taken_back_as_soon_as_its_checks_say_so",
        ),
    },
    "syncd.daemon.reload": {
        "a daemon that starts forgets the window": (
            "        if starting and state.pending_health is not None:",
            "        if False:",
            f"{DAEMON}::test_killed_inside_the_window_the_next_daemon_goes_on_with_it",
        ),
    },
    "syncd.ports.job_state": {
        "a reload that failed is a planned wait": (
            "return self.deferred_until if self.attempts == 0 else None",
            "return self.deferred_until",
            "tests/unit/test_status.py"
            "::test_a_job_is_not_stale_until_its_reload_may_run_unless_that_has_failed",
        ),
    },
    "syncd.notifications.events": {
        "a job has recovered while its fix waits": (
            "if report.waiting is not None and state.rejection is not None and reported == FAILED:",
            "if False:",
            "tests/unit/notifications/test_events.py"
            "::test_a_job_has_not_recovered_while_the_fix_of_a_rejected_commit_waits",
        ),
        "a change that was put back is forgotten after the next notice": (
            "    Event.ROLLED_BACK: VERDICT_SLOT,\n",
            "",
            f"{AWAY}::test_after_a_day_without_its_receiver_the_newest_of_each_kind_arrives",
        ),
    },
    "syncd.notifications.run_events": {
        "a commit is said to wait after it was applied": (
            '"waiting": COMMIT_SLOT, ',
            "",
            f"{AWAY}::test_a_commit_that_was_applied_meanwhile_is_not_said_to_wait",
        ),
    },
}

HEALTH_FAULTS = [
    Fault(name, module, *row) for module, rows in ROWS.items() for name, row in rows.items()
]
