"""The faults that `planted.py` tries: what a module then does wrong, and the test that fails.

Each row is the name of the fault, a text that is in the module exactly once, what it is replaced
with, and the test. If no test of the push lane fails with a new row, write that test first.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.fault.planted import Fault
from tests.fault.planted_health_faults import HEALTH_FAULTS
from tests.fault.planted_signature_faults import SIGNATURE_FAULTS
from tests.fault.planted_timing_faults import TIMING_FAULTS

Rows = Mapping[str, tuple[str, str, str]]  # name -> old text, new text, test

HOOKS = "tests/story/test_hooks.py"
POLICIES = "tests/story/test_policies.py"
RELOADS = "tests/story/test_pending_reloads.py"
RECOVERY_TESTS = "tests/fault/test_recovery.py"
WAY_BACK = "tests/story/test_rollback.py"
APPLY_TESTS = "tests/unit/engine/test_apply.py"
FOLDERS = "tests/story/test_folders.py"
CLOCKS = "tests/story/test_clock_steps.py"
PLAN_TESTS = "tests/unit/engine/test_plan.py"
TABLE = f"{PLAN_TESTS}::test_the_plan_for_one_file_is_as_the_table_says"

PLAN: Rows = {
    "keep never writes a new file": (
        "if have is None and (recorded is None",
        "if self.job.drift is not Drift.KEEP and have is None and (recorded is None",
        TABLE,
    ),
    "report keeps an edit when upstream changes the file": (
        "if self._leaves(first_meeting or not upstream_changed):",
        "if self._leaves(True):",
        TABLE,
    ),
    "report replaces another file at the first meeting": (
        "if self._leaves(first_meeting or not upstream_changed):",
        "if self._leaves(not upstream_changed):",
        TABLE,
    ),
    "report adopts nothing": (
        "        if want.same_permissions(have):",
        "        if want.same_permissions(have) and self.job.drift is Drift.REPORT:\n"
        "            return None\n        if want.same_permissions(have):",
        TABLE,
    ),
    "a row of a file that is gone on both sides is never forgotten": (
        'return self._action(ActionKind.FORGET, None, "gone on both sides")',
        "return None",
        TABLE,
    ),
    "a row of another file is never forgotten": (
        'return self._action(ActionKind.FORGET, None, "never ours")',
        "return None",
        TABLE,
    ),
    "an edited file that upstream dropped stays without a word": (
        'return self._action(ActionKind.KEEP, None, "dropped upstream, but edited here")',
        "return None",
        TABLE,
    ),
    "an edited file that upstream dropped is removed": (
        "if not self.recorded.entry.same_content(self.local):",
        "if self.recorded.entry.kind is not self.local.kind:",
        TABLE,
    ),
    "another file is removed when upstream drops the path": (
        "if self.recorded.ownership is Ownership.FOREIGN:\n            return self._action",
        "if False:\n            return self._action",
        TABLE,
    ),
    "prune: off removes": (
        "if self.job.prune is Prune.OFF:",
        "if self.job.prune is Prune.OFF and self.recorded.ownership is Ownership.UNLISTED:",
        TABLE,
    ),
    "prune: off names what it leaves": (
        "if self.job.prune is Prune.OFF:\n            return None",
        (
            "if self.job.prune is Prune.OFF:\n"
            '            return self._action(ActionKind.KEEP, None, "left")'
        ),
        TABLE,
    ),
    "an edit that is put back does not go to the trash": (
        "is_drift=True,\n            replaces_foreign=is_foreign,",
        "is_drift=True,",
        TABLE,
    ),
    "another file that is taken over does not go to the trash": (
        '"takes over", replaces_foreign=is_foreign)',
        '"takes over")',
        TABLE,
    ),
    "syncd's own bytes go to the trash": (
        'return self._action(ActionKind.WRITE, want, "changed upstream")',
        'return self._action(ActionKind.WRITE, want, "changed upstream", replaces_foreign=True)',
        TABLE,
    ),
    "drift that is put back is not counted": (
        "is_drift=True,\n            replaces_foreign",
        "replaces_foreign",
        TABLE,
    ),
    "keep counts an edit as drift": (
        "is_drift = self.job.drift is Drift.REPORT",
        "is_drift = True",
        TABLE,
    ),
    "keep counts another mode as drift": (
        'return self._kept(want, "mode or owner changed here")',
        'return self._action(ActionKind.KEEP, want, "mode or owner changed here", is_drift=True)',
        TABLE,
    ),
    "another `mode:` in the configuration counts as drift": (
        "is_drift = own is not None and not asked_now",
        "is_drift = own is not None",
        TABLE,
    ),
    "report leaves a file's mode for good": (
        "self._leaves(self.recorded is None or not asked_now)",
        "self._leaves(True)",
        TABLE,
    ),
    "report sets another mode at the first meeting": (
        "self._leaves(self.recorded is None or not asked_now)",
        "self._leaves(not asked_now)",
        TABLE,
    ),
    "keep loses another mode when upstream changes the file": (
        "if self.job.drift is Drift.KEEP and not own.same_permissions(have):",
        "if self.job.drift is Drift.KEEP and own.kind is not have.kind:",
        TABLE,
    ),
    "a file that upstream adds again counts as removed here": (
        "if have is None and (recorded is None or recorded.ownership is not Ownership.OWNED):",
        "if have is None and own is None:",
        TABLE,
    ),
    "an edit is compared with syncd's version and not with the repository's": (
        "        before = self.recorded.upstream\n        return not",
        "        before = self.recorded.entry\n        return not",
        TABLE,
    ),
    "a version that was remembered beside a row is never cleared": (
        "        and row.wanted is None\n",
        "",
        TABLE,
    ),
    "a file under another inode is not noticed": (
        "        and row.stat == have.stat\n",
        "",
        f"{PLAN_TESTS}::test_an_equal_file_is_adopted_where_the_ledger_says_anything_else",
    ),
    "a file from another path of the repository is not noticed": (
        "and row.entry == want",
        "and row.entry.same_content(want)",
        f"{PLAN_TESTS}::test_an_equal_file_is_adopted_where_the_ledger_says_anything_else",
    ),
    "a new executable bit does not count as an upstream change": (
        " or _executable_changed(before, want)",
        "",
        f"{PLAN_TESTS}::test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit",
    ),
    "the executable bit counts where `mode:` makes it meaningless": (
        "        and before.mode != want.mode\n",
        "",
        f"{PLAN_TESTS}::test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit",
    ),
    "an owner in the configuration that changes counts as drift": (
        "(want.mode, want.uid, want.gid)",
        "(want.mode, before.uid, before.gid)",
        f"{PLAN_TESTS}::test_an_owner_is_judged_as_a_mode_is",
    ),
    "a folder never becomes a file": (
        "have.kind is Kind.DIRECTORY and self.was_own_directory",
        "have.kind is Kind.DIRECTORY and recorded is not None",
        f"{PLAN_TESTS}::test_a_folder_of_the_job_becomes_a_file_under_every_policy",
    ),
    "a folder with files of others becomes a file": (
        (
            "        path for path, row in recorded.items() if row.ownership is not "
            "Ownership.FOREIGN\n"
        ),
        "        path for path, row in recorded.items()\n",
        f"{PLAN_TESTS}::test_a_folder_that_only_holds_files_of_others_does_not_become_a_file_under_report",
    ),
}

DELETE_LIMITS: Rows = {
    "one removal more than the limit is allowed": (
        "if removals > allowed:",
        "if removals > allowed + 1:",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
    "the limit itself is refused": (
        "if removals > allowed:",
        "if removals >= allowed:",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
    "an empty commit removes everything": (
        "if not remote and not job.limits.empty and allow_delete is None:",
        "if not remote and not job.limits.empty and not recorded:",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
    "a share counts for few files": (
        "max(MIN_DELETE_ALLOWANCE, int(share * tracked))",
        "int(share * tracked)",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
}

DECISION: Rows = {
    "the limit stops a rollback": (
        "        allow_delete = len(recorded)",
        "        allow_delete = run.options.allow_delete",
        f"{WAY_BACK}::test_more_removals_than_the_limit_do_not_stop_a_rollback",
    ),
    "a place that can't be looked at is no problem": (
        "    _refuse_unreadable(run.job,",
        "    _ = (run.job,",
        "tests/story/test_destination_trouble.py::test_a_link_above_to_that_leads_nowhere_is_named_with_what_to_make",
    ),
}

UPSTREAM: Rows = {
    "a rejected commit is applied": (
        "    if refusal is not None:\n        return _last_accepted",
        "    if False:\n        return _last_accepted",
        f"{HOOKS}::test_a_vetoed_commit_changes_nothing_and_is_not_tried_again_but_the_next_good_one_is_taken",
    ),
    "an older set is believed after the configuration changed": (
        "if same_commit and same_config else None",
        "if same_commit else None",
        f"{POLICIES}::test_paths_that_the_configuration_drops_count_as_dropped",
    ),
    "dropped rows are part of the remembered set": (
        "entries = applied_set(ledger.recorded())",
        "entries = {path: row.upstream for path, row in ledger.recorded().items()}",
        f"{POLICIES}::test_prune_off_leaves_dropped_files_and_tracked_later_takes_them",
    ),
}

RUN: Rows = {
    "a paused job runs": (
        "if not self.is_rollback and self.state.paused(self._started_at):",
        "if False:",
        f"{WAY_BACK}::test_a_paused_job_costs_nothing_and_says_why",
    ),
    "validate is not asked": (
        "if hook is None or not decision.plan.changes_disk:",
        "if hook is None or decision.plan.changes_disk:",
        f"{HOOKS}::test_a_vetoed_commit_changes_nothing_and_is_not_tried_again_but_the_next_good_one_is_taken",
    ),
    "no intent is saved": (
        "        self.ctx.store.begin_intent(",
        "        _ = (",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "a run never plans anew": (
        "if not applied.only_changed_underneath or attempt == MAX_ATTEMPTS:",
        "if True:",
        f"{FOLDERS}::test_a_folder_that_changes_between_plan_and_step_is_left_alone_and_planned_anew",
    ),
}

RUN_RESULT: Rows = {
    "an unchanged run is reported as changed": (
        "return any(change.action is not ActionKind.KEEP for change in report.changes)",
        "return bool(report.changes)",
        f"{POLICIES}::test_report_leaves_an_edit_counts_it_and_replaces_it_when_upstream_changes",
    ),
    "repaired drift still counts": (
        "decision.plan.drift_count - _repaired(decision.plan, result)",
        "decision.plan.drift_count",
        f"{POLICIES}::test_drift_that_was_put_back_is_not_counted_any_more",
    ),
    "a rollback does not hold": (
        "held=run.state.held or run.is_rollback",
        "held=run.state.held",
        f"{WAY_BACK}::test_a_held_job_is_left_alone_until_it_is_resumed",
    ),
    "a failure does not count": (
        "return state.after_failure(error)",
        "return replace(state.after_failure(error), failures=state.failures)",
        f"{RELOADS}::test_each_failed_run_is_counted_until_one_succeeds",
    ),
}

RECOVERY: Rows = {
    "a reload that was pending before is lost": (
        "if not (intent.reload_was_pending or (",
        "if not ((",
        f"{RECOVERY_TESTS}::test_a_reload_that_was_pending_before_a_killed_run_is_pending_after_it",
    ),
    "a reload is pending though nothing took effect": (
        "(intent.reload_after and carried_out)",
        "intent.reload_after",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "no reload is pending after a killed run": (
        "(intent.reload_after and carried_out)",
        "False",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "half a set is reloaded": (
        "if carried_out == len(intent.actions):",
        "if carried_out:",
        f"{RECOVERY_TESTS}::test_half_a_set_is_recorded_as_far_as_it_came_and_is_not_reloaded",
    ),
    "a reload from before cannot run without GitHub": (
        "return pending if carried_out == 0 else replace(pending, commit=None)",
        "return replace(pending, commit=None)",
        f"{RECOVERY_TESTS}::test_a_reload_that_was_pending_before_a_killed_run_is_pending_after_it",
    ),
    "a removal that took effect stays in the ledger": (
        "        effect.removals.add(action.path)\n",
        "",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "a removal that did not take effect is believed": (
        "    if have is None or have.kind is Kind.DIRECTORY:\n        effect",
        "    if True:\n        effect",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "the intent is believed": (
        "elif have is not None and _has_content(action, have) and _has_permissions(action, have):",
        "elif have is not None:",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "a mode that was not set is believed": (
        "elif have is not None and _has_content(action, have) and _has_permissions(action, have):",
        "elif have is not None and _has_content(action, have):",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "what a killed run staged stays": (
        "    mirror.remove_temp_files(intent.id, _temp_directories(intent))\n",
        "",
        f"{RECOVERY_TESTS}::test_what_a_killed_run_staged_is_gone_after_the_next_start",
    ),
    "folders that were made are forgotten": (
        "        directories_created=tuple(folder for folder in created if folder not in gone),\n",
        "",
        f"{RECOVERY_TESTS}::test_folders_that_a_killed_run_made_go_when_the_repository_goes_back",
    ),
    "the reload is not told what the killed run changed": (
        "        tuple(carried_out(action) for action in effect.actions),\n",
        "        (),\n",
        f"{RECOVERY_TESTS}::test_the_reload_after_a_killed_run_is_told_what_that_run_changed",
    ),
    "a stat that proves nothing is trusted after a killed run": (
        "LedgerRow(action.wanted, have.recordable_stat)",
        "LedgerRow(action.wanted, have.stat)",
        f"{CLOCKS}::test_an_edit_after_an_interrupted_run_was_concluded_is_noticed",
    ),
    "a saved intent is not looked at": (
        "    if intent is not None:\n        return _conclude",
        (
            "    if intent is None:\n        return state\n    if not intent.actions:\n"
            "        return _conclude"
        ),
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "a folder in the place of a removed file counts as the file": (
        "    if have is None or have.kind is Kind.DIRECTORY:\n        effect",
        "    if have is None:\n        effect",
        f"{RECOVERY_TESTS}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
}

COMMIT_CONTENTS: Rows = {
    "a damaged blob is believed": (
        (
            "        try:\n            self.blobs.open(blob).close()\n        except KeyError:\n"
            "            return False\n        return True"
        ),
        "        return True",
        f"{WAY_BACK}::test_a_cached_blob_that_the_disk_damaged_is_noticed_and_fetched_again",
    ),
}

APPLY: Rows = {
    "a file left at the first meeting counts as syncd's own": (
        "return LedgerRow(action.wanted, None, Ownership.FOREIGN)",
        "return LedgerRow(action.wanted, None)",
        TABLE,
    ),
    "the repository's version is not remembered beside an edit": (
        "replace(action.recorded, wanted=action.wanted, ownership=Ownership.OWNED)",
        "replace(action.recorded, ownership=Ownership.OWNED)",
        TABLE,
    ),
    "a dropped row stays part of the set": (
        "replace(row, ownership=Ownership.UNLISTED)",
        "row",
        TABLE,
    ),
    "the rows of removed files stay": (
        "elif action.wanted is None:\n            removals.add",
        (
            "elif action.wanted is None and action.kind is not ActionKind.REMOVE:\n"
            "            removals.add"
        ),
        TABLE,
    ),
    "an action that failed is recorded as done": (
        "            errors.append(outcome.error)\n            continue",
        "            errors.append(outcome.error)",
        f"{APPLY_TESTS}::test_a_failed_action_leaves_its_row_and_is_no_change",
    ),
    "troubles beside the actions are swallowed": (
        "errors: list[MirrorError] = list(applied.other_errors)",
        "errors: list[MirrorError] = []",
        f"{APPLY_TESTS}::test_trouble_beside_the_actions_is_an_error_of_the_run",
    ),
    "adopted files are reported as changes": (
        "        if action.kind.is_public:",
        "        if action.kind.is_public or action.kind is ActionKind.ADOPT:",
        f"{POLICIES}::test_an_equal_file_met_first_is_adopted_without_a_write",
    ),
    "a stat that proves nothing is trusted": (
        "outcome.local.recordable_stat if outcome.local else None",
        "outcome.local.stat if outcome.local else None",
        f"{CLOCKS}::test_an_edit_of_equal_size_right_after_a_sync_is_noticed",
    ),
    "a kept file is reported as replaced": (
        "if action.kind is ActionKind.KEEP or action.is_directory:",
        "if action.is_directory:",
        "tests/story/test_policy_table.py::test_every_kind_of_difference_is_answered_as_the_page_says[restore-tracked]",
    ),
    "links are not checked": (
        "        check_link(contents.job, path, target, remote)",
        "        _unused = (contents.job, path, target, remote)",
        "tests/story/test_sync.py::test_a_link_that_leads_out_fails_the_job_before_anything_is_written",
    ),
    "LFS pointers are written as files": (
        "if job.lfs is not Lfs.REFUSE:",
        "if job.lfs is not Lfs.FETCH:",
        "tests/story/test_lfs.py::test_refuse_names_the_file_and_pointer_mirrors_it_as_it_is",
    ),
    "carried edits are taken for syncd's own": (
        "copied is None or row.stat != copied.before",
        "copied is None",
        "tests/story/test_publish.py::test_an_edit_that_is_carried_on_stays_known_as_an_edit",
    ),
    "a file that is edited meanwhile fails the run at once": (
        "return bool(self.errors) and all(",
        "return False and all(",
        f"{APPLY_TESTS}::test_a_run_plans_anew_only_for_files_that_were_changed_meanwhile",
    ),
}

RELOAD: Rows = {
    "on_change runs for half a set": (
        "not reload_state.is_reload_due(job, state)",
        "state.pending_reload is None",
        f"{RECOVERY_TESTS}::test_half_a_set_is_recorded_as_far_as_it_came_and_is_not_reloaded",
    ),
    "a failed reload is not owed any more": (
        "    if error is not None:\n        return _record_failure(one, error)\n",
        "",
        f"{HOOKS}::test_a_failed_reload_is_owed_until_it_succeeds",
    ),
    "a reload that succeeded stays owed": (
        "lambda state: reload_state.reload_done(state, report, now)",
        "lambda state: state",
        f"{HOOKS}::test_a_failed_reload_is_owed_until_it_succeeds",
    ),
    "a backed-off reload is run at once": (
        "    if until is None:\n        return None\n",
        "    return None\n",
        f"{RELOADS}::test_a_scheduled_run_waits_with_a_failed_reload_and_a_manual_one_does_not",
    ),
    "an undo is not followed by a second reload": (
        "            end = _run_command(hook, due, deadline)\n        error",
        "            pass\n        error",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "nothing is undone": (
        "    if end.status == 0:\n        return {}",
        "    if end.status is not None:\n        return {}",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "a command that could not run undoes": (
        "        if verdict is None or not one.job.undo_on_failure:\n            continue",
        (
            "        if verdict is None:\n"
            "            verdict = HookFailedError('x', rejected=True, commit=one.pending.commit)"
        ),
        f"{HOOKS}::test_a_command_that_could_not_be_run_at_all_undoes_nothing",
    ),
    "an undone commit counts as changed": (
        "status = RunStatus.REFUSED",
        "status = RunStatus.CHANGED",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "jobs with one command run it each for themselves": (
        "                return []\n            return sorted",
        "                return [(member, held)]\n            return sorted",
        f"{HOOKS}::test_equal_commands_of_several_jobs_run_once_after_all_and_others_by_themselves",
    ),
    "on_change is told of the last run's changes alone": (
        "pending[one.name].since or one.now",
        "one.now",
        f"{HOOKS}::test_an_owed_reload_is_told_everything_since_the_last_that_succeeded",
    ),
    "a reload that fails after another error hides that one": (
        "if report.error is None:\n        return replace(report, reload_pending=True, status",
        "if True:\n        return replace(report, reload_pending=True, status",
        f"{RELOADS}::test_a_failed_reload_is_named_beside_the_error_that_the_run_had",
    ),
}

UNDO_PLAN: Rows = {
    "edits made since are overwritten": (
        "if have is not None and have.kind is not Kind.DIRECTORY and not unedited:",
        "if False:",
        f"{HOOKS}::test_an_undo_leaves_alone_what_was_edited_after_the_change_and_names_it",
    ),
    "an edited new file is removed": (
        "        if unedited:\n            return Action(ActionKind.REMOVE",
        "        if True:\n            return Action(ActionKind.REMOVE",
        f"{HOOKS}::test_an_undo_leaves_alone_what_was_edited_after_the_change_and_names_it",
    ),
    "files that were new stay": (
        "        if have is None or have.kind is Kind.DIRECTORY:\n            return None",
        (
            "        if was is None or have is None or have.kind is Kind.DIRECTORY:\n"
            "            return None"
        ),
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "only the last change is undone": (
        "return replace(earlier, places={**places, **earlier.places})",
        "return replace(earlier, places={**earlier.places, **places})",
        f"{HOOKS}::test_an_undo_goes_back_past_every_change_without_a_reload",
    ),
    "modes are not brought back": (
        (
            "        if have is None or want.same_permissions(have):\n            return None\n"
            "        return Action(ActionKind.MODE"
        ),
        (
            "        if have is not None or want.same_permissions(have):\n            return None\n"
            "        return Action(ActionKind.MODE"
        ),
        f"{HOOKS}::test_an_undo_crosses_from_files_to_folders_and_modes",
    ),
    "folders' modes are not brought back": (
        'return Action(ActionKind.MODE, path, want, None, have, "undone")',
        "return None",
        f"{FOLDERS}::test_an_undo_brings_back_the_modes_that_stood_before_the_change",
    ),
    "rows of files that were not there stay": (
        "        if before.row is None:\n            removals.add(path)",
        "        if before.row is None:\n            continue",
        f"{HOOKS}::test_an_undo_brings_back_what_stood_there_whoever_put_it_there",
    ),
    "the ledger trusts another file's stat": (
        "stat = now.recordable_stat if is_back and now is not None else None",
        "stat = now.stat if now is not None else None",
        f"{HOOKS}::test_an_undo_brings_back_what_stood_there_whoever_put_it_there",
    ),
    "rows that `prune: off` let go stay dropped": (
        "if path not in remote and row.ownership is Ownership.OWNED:",
        "if False:",
        f"{HOOKS}::test_an_undo_brings_back_the_ledger_of_files_that_the_commit_had_dropped",
    ),
}

UNDO: Rows = {
    "the bytes of an edit are not kept": (
        "            _keep_bytes(action, undo.places[action.path].root, ctx)",
        "            pass",
        f"{HOOKS}::test_an_undo_brings_back_what_stood_there_whoever_put_it_there",
    ),
    "the bytes are not pinned": (
        "tuple(sorted(undo.blobs))",
        "()",
        f"{HOOKS}::test_the_bytes_of_the_way_back_are_pinned_while_a_reload_is_owed",
    ),
    "a repair is undone too": (
        "    if not may_be_undone or is_repair:",
        "    if not may_be_undone:",
        f"{RELOADS}::test_a_failed_reload_after_a_repair_undoes_nothing",
    ),
    "the commit is not rejected": (
        "rejected = rejection.record_rejection(with_known_listing(job, ctx), state, error)",
        "rejected = state",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "no reload is pending for the set that was put back": (
        'pending_reload=self._pending_reload(self.undo.commit or "")',
        "pending_reload=None",
        f"{HOOKS}::test_a_reload_that_fails_with_the_previous_set_too_stays_owed",
    ),
    "left-alone paths are not named": (
        "return tuple(action.path for action in plan.of(ActionKind.KEEP))",
        "return ()",
        f"{HOOKS}::test_an_undo_leaves_alone_what_was_edited_after_the_change_and_names_it",
    ),
    "applied commit stays the bad one": (
        "            applied_commit=self.undo.commit,\n",
        "",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "an interrupted undo is forgotten": (
        "if state.undo is None or not state.undo.begun:\n        return state",
        "if True:\n        return replace(state, undo=None)",
        "tests/fault/test_hook_faults.py::test_killed_anywhere_on_the_way_there_and_back_an_undo_ends_with_what_stood_before",
    ),
}

UNCHANGED_TESTS = "tests/unit/test_unchanged.py"
CHANGE_OF_DESTINATION = f"{UNCHANGED_TESTS}::test_a_change_of_a_destination_is_noticed"

UNCHANGED: Rows = {
    "a file's content is looked at by its size alone": (
        "times = (one.st_size, one.st_mtime_ns, one.st_ctime_ns)",
        "times = (one.st_size, 0, 0)",
        CHANGE_OF_DESTINATION,
    ),
    "a file's mode is not looked at, and its change time is taken for its write time": (
        "% (one.st_dev, one.st_ino, one.st_mode, one.st_uid, one.st_gid, *times)",
        "% (one.st_dev, one.st_ino, 0, one.st_uid, one.st_gid, times[0], times[1], times[1])",
        CHANGE_OF_DESTINATION,
    ),
    "a directory's mode is not looked at": (
        "% (found.st_dev, found.st_ino, found.st_mode, found.st_uid, found.st_gid)",
        "% (found.st_dev, found.st_ino, 0, found.st_uid, found.st_gid)",
        CHANGE_OF_DESTINATION,
    ),
    "links are followed": (
        "hasher, lstat = hashlib.blake2b(digest_size=16), os.lstat",
        "hasher, lstat = hashlib.blake2b(digest_size=16), os.stat",
        f"{UNCHANGED_TESTS}::test_a_link_is_looked_at_itself_and_not_what_it_leads_to",
    ),
    "a missing file is no change": (
        "    except (OSError, KeyError):\n        return False",
        "    except (OSError, KeyError):\n        return True",
        CHANGE_OF_DESTINATION,
    ),
    "the directories between are not looked at": (
        "            found.setdefault(directory, [])\n",
        "            pass\n",
        f"{UNCHANGED_TESTS}::test_every_directory_between_a_root_and_its_destinations_is_looked_at",
    ),
    "an owner's new ids are not noticed": (
        "return same and stat_digest(seen.directories) == seen.stat_digest",
        "return stat_digest(seen.directories) == seen.stat_digest",
        f"{UNCHANGED_TESTS}::test_an_owner_whose_ids_have_changed_is_noticed",
    ),
}

ENGINE_UNCHANGED_TESTS = "tests/unit/engine/test_unchanged.py"
EVERY_FACT = (
    f"{ENGINE_UNCHANGED_TESTS}"
    "::test_a_job_is_unchanged_only_where_every_fact_is_as_the_last_run_left_it"
)

ENGINE_UNCHANGED: Rows = {
    "a changed configuration is no change": (
        "same_job = known.job == job and known.scope == ctx.scope",
        "same_job = known.scope == ctx.scope",
        EVERY_FACT,
    ),
    "another identity is no change": (
        "same_job = known.job == job and known.scope == ctx.scope",
        "same_job = known.job == job",
        EVERY_FACT,
    ),
    "a changed state is no change": (
        "if not same_job or not same_state(",
        "if not same_job and not same_state(",
        EVERY_FACT,
    ),
    "a short name is never checked for a second meaning": (
        "if is_check_due(job.ref, known.head.checked_at, started_at.timestamp()):",
        "if False:",
        EVERY_FACT,
    ),
    "the disk is not looked at": (
        "if not _is_same_head(known, ctx, deadline) or not is_as_seen(known.seen):",
        "if not _is_same_head(known, ctx, deadline):",
        EVERY_FACT,
    ),
    "a pushed commit is not noticed": (
        "if head.commit != known.head.commit:",
        "if False:",
        EVERY_FACT,
    ),
    "an error of GitHub counts as unchanged": (
        "    except SyncdError:\n        return False",
        "    except SyncdError:\n        return True",
        EVERY_FACT,
    ),
    "a later check makes the state another one": (
        "return replace(one, last_run_at=None, last_success_at=None) == replace(\n"
        "        other, last_run_at=None, last_success_at=None\n    )",
        "return one == other",
        EVERY_FACT,
    ),
}

FAULTS = [
    Fault(name, module if "." in module else f"syncd.engine.{module}", *row)
    for module, rows in {
        "plan": PLAN,
        "delete_limits": DELETE_LIMITS,
        "decision": DECISION,
        "upstream": UPSTREAM,
        "run": RUN,
        "run_result": RUN_RESULT,
        "recovery": RECOVERY,
        "commit_contents": COMMIT_CONTENTS,
        "apply": APPLY,
        "reload": RELOAD,
        "undo_plan": UNDO_PLAN,
        "undo": UNDO,
        "syncd.unchanged": UNCHANGED,
        "unchanged": ENGINE_UNCHANGED,
    }.items()
    for name, row in rows.items()
]
FAULTS += HEALTH_FAULTS
FAULTS += TIMING_FAULTS
FAULTS += SIGNATURE_FAULTS
