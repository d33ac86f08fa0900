"""The faults that `planted.py` tries: what a module then does wrong, and the test that fails.

Each row is the name of the fault, a text that is in the module exactly once, what it is replaced
with, and the test. If no test of the push lane fails with a new row, write that test first.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.fault.planted import Fault

Rows = Mapping[str, tuple[str, str, str]]  # name -> old text, new text, test

HOOKS = "tests/story/test_hooks.py"
POLICIES = "tests/story/test_policies.py"
RELOADS = "tests/story/test_pending_reloads.py"
RECOVERY = "tests/fault/test_recovery.py"
WAY_BACK = "tests/story/test_rollback.py"
APPLY_TESTS = "tests/unit/engine/test_apply.py"
FOLDERS = "tests/story/test_folders.py"
CLOCKS = "tests/story/test_clock_steps.py"
PLAN_TESTS = "tests/unit/engine/test_plan.py"
TABLE = f"{PLAN_TESTS}::test_the_plan_for_one_file_is_as_the_table_says"

PLAN: Rows = {
    "keep never writes a new file": (
        "if have is None and (had is None",
        "if job.drift is not Drift.KEEP and have is None and (had is None",
        TABLE,
    ),
    "report keeps an edit when upstream changes the file": (
        "job.drift is Drift.REPORT and (first_meeting or not upstream_changed)",
        "job.drift is Drift.REPORT",
        TABLE,
    ),
    "report replaces another file at the first meeting": (
        "(first_meeting or not upstream_changed)",
        "(not upstream_changed)",
        TABLE,
    ),
    "report adopts nothing": (
        "return None if known else",
        "return None if known or job.drift is Drift.REPORT else",
        TABLE,
    ),
    "a row of a file that is gone on both sides is never forgotten": (
        'return Action(ActionKind.FORGET, path, None, had, None, "gone on both sides")',
        "return None",
        TABLE,
    ),
    "a row of another file is never forgotten": (
        'return None if had is None else Action(ActionKind.FORGET, path, None, had, have, "never ours")',
        "return None",
        TABLE,
    ),
    "an edited file that upstream dropped stays without a word": (
        'return Action(ActionKind.KEEP, path, None, had, have, "dropped upstream, but edited here")',
        "return None",
        TABLE,
    ),
    "an edited file that upstream dropped is removed": (
        "if not had.entry.same_content(have):\n        return Action(ActionKind.KEEP",
        "if had.entry.kind is not have.kind:\n        return Action(ActionKind.KEEP",
        TABLE,
    ),
    "another file is removed when upstream drops the path": (
        "if had is None or had.standing is Ownership.MET:\n        return None",
        "if had is None:\n        return None",
        TABLE,
    ),
    "prune: off removes": (
        "if job.prune is Prune.OFF:\n        return None",
        "if job.prune is Prune.OFF and had.standing is Ownership.DROPPED:\n        return None",
        TABLE,
    ),
    "prune: off names what it leaves": (
        "if job.prune is Prune.OFF:\n        return None",
        'if job.prune is Prune.OFF:\n        return Action(ActionKind.KEEP, path, None, had, have, "left")',
        TABLE,
    ),
    "an edit that is put back does not go to the trash": (
        "drifted=verb is ActionKind.RESTORE, takes_over=foreign)",
        "drifted=verb is ActionKind.RESTORE)",
        TABLE,
    ),
    "another file that is taken over does not go to the trash": (
        '"takes over", takes_over=foreign)',
        '"takes over")',
        TABLE,
    ),
    "syncd's own bytes go to the trash": (
        'had, have, "changed upstream")',
        'had, have, "changed upstream", takes_over=True)',
        TABLE,
    ),
    "drift that is put back is not counted": (
        "drifted=verb is ActionKind.RESTORE, takes_over",
        "takes_over",
        TABLE,
    ),
    "keep counts an edit as drift": (
        "reason, drifted=job.drift is Drift.REPORT)",
        "reason, drifted=True)",
        TABLE,
    ),
    "keep counts another mode as drift": (
        '"mode or owner changed here", drifted=job.drift is Drift.REPORT)',
        '"mode or owner changed here", drifted=True)',
        TABLE,
    ),
    "another `mode:` in the configuration counts as drift": (
        "drifted=ours is not None and not asked_anew)",
        "drifted=ours is not None)",
        TABLE,
    ),
    "report leaves a file's mode for good": (
        "job.drift is Drift.REPORT and (had is None or not asked_anew)",
        "job.drift is Drift.REPORT",
        TABLE,
    ),
    "report sets another mode at the first meeting": (
        "job.drift is Drift.REPORT and (had is None or not asked_anew)",
        "job.drift is Drift.REPORT and not asked_anew",
        TABLE,
    ),
    "keep loses another mode when upstream changes the file": (
        "if job.drift is Drift.KEEP and not ours.same_looks(have):",
        "if job.drift is Drift.KEEP and ours.kind is not have.kind:",
        TABLE,
    ),
    "a file that upstream adds again counts as removed here": (
        "if have is None and (had is None or had.standing is not Ownership.OURS):",
        "if have is None and ours is None:",
        TABLE,
    ),
    "an edit is compared with syncd's version and not with the repository's": (
        "not had.upstream.same_content(want)",
        "not had.entry.same_content(want)",
        TABLE,
    ),
    "a version that was remembered beside a row is never cleared": (
        " and had.wanted is None\n",
        "\n",
        TABLE,
    ),
    "a file under another inode is not noticed": (
        "had.stat == have.stat and had.entry == want",
        "had.entry == want",
        f"{PLAN_TESTS}::test_an_equal_file_is_adopted_where_the_ledger_says_anything_else",
    ),
    "a file from another path of the repository is not noticed": (
        "had.stat == have.stat and had.entry == want",
        "had.stat == have.stat and had.entry.same_content(want)",
        f"{PLAN_TESTS}::test_an_equal_file_is_adopted_where_the_ledger_says_anything_else",
    ),
    "a new executable bit does not count as an upstream change": (
        " or _made_executable(had.upstream, want)",
        "",
        f"{PLAN_TESTS}::test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit",
    ),
    "the executable bit counts where `mode:` makes it meaningless": (
        " and before.mode != want.mode",
        "",
        f"{PLAN_TESTS}::test_an_edit_that_is_only_reported_gives_way_when_a_commit_changes_the_executable_bit",
    ),
    "an owner in the configuration that changes counts as drift": (
        "(want.mode, want.uid, want.gid)",
        "(want.mode, asked_before.uid, asked_before.gid)",
        f"{PLAN_TESTS}::test_an_owner_is_judged_as_a_mode_is",
    ),
    "a folder never becomes a file": (
        "have.kind is Kind.DIRECTORY and path in own_folders",
        "have.kind is Kind.DIRECTORY and path in recorded",
        f"{PLAN_TESTS}::test_a_folder_of_the_job_becomes_a_file_under_every_policy",
    ),
    "a folder with files of others becomes a file": (
        "for path, row in recorded.items() if row.standing is not Ownership.MET)\n",
        "for path, row in recorded.items())\n",
        f"{PLAN_TESTS}::test_a_folder_that_only_holds_files_of_others_does_not_become_a_file_under_report",
    ),
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
        "if not remote and not limits.empty and allow_delete is None:",
        "if not remote and not limits.empty and not recorded:",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
    "a share counts for few files": (
        "max(SHARE_COUNTS_PAST, int(share * tracked))",
        "int(share * tracked)",
        f"{PLAN_TESTS}::test_limits_on_removals",
    ),
}

APPLY: Rows = {
    "a file left at the first meeting counts as syncd's own": (
        "return Recorded(action.want, None, Ownership.MET)",
        "return Recorded(action.want, None)",
        TABLE,
    ),
    "the repository's version is not remembered beside an edit": (
        "return replace(action.had, wanted=action.want, standing=Ownership.OURS)",
        "return replace(action.had, standing=Ownership.OURS)",
        TABLE,
    ),
    "a dropped row stays part of the set": (
        "replace(row, standing=Ownership.DROPPED)",
        "row",
        TABLE,
    ),
    "the rows of removed files stay": (
        "elif action.want is None:\n            removals.add",
        "elif action.want is None and action.verb is not ActionKind.REMOVE:\n            removals.add",
        TABLE,
    ),
    "an action that failed is recorded as done": (
        "            errors.append(outcome.error)\n            continue",
        "            errors.append(outcome.error)",
        f"{APPLY_TESTS}::test_a_failed_action_leaves_its_row_and_is_no_change",
    ),
    "troubles beside the actions are swallowed": (
        "errors: list[MirrorError] = list(applied.troubles)",
        "errors: list[MirrorError] = []",
        f"{APPLY_TESTS}::test_trouble_beside_the_actions_is_an_error_of_the_run",
    ),
    "adopted files are reported as changes": (
        "if action.verb.is_public:",
        "if action.verb.is_public or action.verb is ActionKind.ADOPT:",
        f"{POLICIES}::test_an_equal_file_met_first_is_adopted_without_a_write",
    ),
    "a stat that proves nothing is trusted": (
        "outcome.local.recordable_stat if outcome.local else None",
        "outcome.local.stat if outcome.local else None",
        f"{CLOCKS}::test_an_edit_of_equal_size_right_after_a_sync_is_noticed",
    ),
    "a kept file is reported as replaced": (
        "if action.verb is ActionKind.KEEP or action.is_folder:",
        "if action.is_folder:",
        "tests/story/test_policy_table.py::test_every_kind_of_difference_is_answered_as_the_page_says[restore-tracked]",
    ),
    "a damaged blob is believed": (
        "    try:\n        blobs.open(blob).close()\n    except KeyError:\n        return False\n    return True",
        "    return True",
        f"{WAY_BACK}::test_a_cached_blob_that_the_disk_damaged_is_noticed_and_fetched_again",
    ),
    "links are not checked": (
        "        check_link(job, path, _read(",
        "        _unused = (job, path, _read(",
        "tests/story/test_sync.py::test_a_link_that_leads_out_fails_the_job_before_anything_is_written",
    ),
    "LFS pointers are written as files": (
        "if job.lfs is Lfs.REFUSE:",
        "if job.lfs is Lfs.FETCH:",
        "tests/story/test_lfs.py::test_refuse_names_the_file_and_pointer_mirrors_it_as_it_is",
    ),
    "carried edits are taken for syncd's own": (
        "carried is None or row.stat != carried.was",
        "carried is None",
        "tests/story/test_publish.py::test_an_edit_that_is_carried_on_stays_known_as_an_edit",
    ),
    "a file that is edited meanwhile fails the run at once": (
        "return bool(self.errors) and all(isinstance(error, ChangedUnderneathError) for error in self.errors)",
        "return False",
        f"{APPLY_TESTS}::test_a_run_plans_anew_only_for_files_that_were_changed_meanwhile",
    ),
}

PAY: Rows = {
    "on_change runs for half a set": (
        "not hooks.is_due(job, state)",
        "not state.reload_pending",
        f"{RECOVERY}::test_half_a_set_is_recorded_as_far_as_it_came_and_is_not_reloaded",
    ),
    "a failed reload is not owed any more": (
        "if error is None:\n        before",
        "if error is None or True:\n        before",
        f"{HOOKS}::test_a_failed_reload_is_owed_until_it_succeeds",
    ),
    "a reload that succeeded stays owed": (
        "lambda state: hooks.paid(state, report, now)",
        "lambda state: state",
        f"{HOOKS}::test_a_failed_reload_is_owed_until_it_succeeds",
    ),
    "a backed-off reload is run at once": (
        "    if until is None:\n        return None\n",
        "    return None\n",
        f"{RELOADS}::test_a_scheduled_run_waits_with_a_failed_reload_and_a_manual_one_does_not",
    ),
    "an undo is not followed by a second reload": (
        "_run(hook, due, deadline) if whole else end",
        "end",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "nothing is undone": (
        "for one in due if end.status != 0 else ():",
        "for one in due if end.status is None else ():",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "a command that could not run undoes": (
        "        if verdict is None:\n            continue\n",
        "        if verdict is None:\n            verdict = HookFailedError('x', rejected=True, commit=one.ctx.store.state(one.job.name).reload_commit)\n",
        f"{HOOKS}::test_a_command_that_could_not_be_run_at_all_undoes_nothing",
    ),
    "an undone commit counts as changed": (
        "status, state = RunStatus.REFUSED,",
        "status, state = RunStatus.CHANGED,",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "jobs with one command run it each for themselves": (
        "return [] if self._missing[key] else",
        "return [(member, held)] if self._missing[key] else",
        f"{HOOKS}::test_equal_commands_of_several_jobs_run_once_after_all_and_others_by_themselves",
    ),
    "on_change is told of the last run's changes alone": (
        "states[one.job.name].reload_since or one.ctx.clock.now()",
        "one.ctx.clock.now()",
        f"{HOOKS}::test_an_owed_reload_is_told_everything_since_the_last_that_succeeded",
    ),
    "a reload that fails after another error hides that one": (
        "if report.error is None:\n        return replace(report, reload_pending=True, status",
        "if True:\n        return replace(report, reload_pending=True, status",
        f"{RELOADS}::test_a_failed_reload_is_named_beside_the_error_that_the_run_had",
    ),
}

UNDO: Rows = {
    "edits made since are overwritten": (
        "if have is not None and have.kind is not Kind.DIRECTORY and not ours:",
        "if False:",
        f"{HOOKS}::test_an_undo_leaves_alone_what_was_edited_after_the_change_and_names_it",
    ),
    "an edited new file is removed": (
        'if ours else Action(ActionKind.KEEP, path, None, row, have, "edited since")',
        'if True else Action(ActionKind.KEEP, path, None, row, have, "edited since")',
        f"{HOOKS}::test_an_undo_leaves_alone_what_was_edited_after_the_change_and_names_it",
    ),
    "files that were new stay": (
        "        if have is None or have.kind is Kind.DIRECTORY:\n            return None",
        "        if was is None or have is None or have.kind is Kind.DIRECTORY:\n            return None",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "only the last change is undone": (
        "return replace(earlier, places={**places, **earlier.places})",
        "return replace(earlier, places={**earlier.places, **places})",
        f"{HOOKS}::test_an_undo_goes_back_past_every_change_without_a_reload",
    ),
    "modes are not brought back": (
        "return None if have is None or want.same_looks(have) else",
        "return None if have is not None or want.same_looks(have) else",
        f"{HOOKS}::test_an_undo_crosses_from_files_to_folders_and_modes",
    ),
    "folders' modes are not brought back": (
        'return Action(ActionKind.MODE, path, want, None, have, "undone") if put.same_looks(have)',
        "return None if put.same_looks(have)",
        f"{FOLDERS}::test_an_undo_brings_back_the_modes_that_stood_before_the_change",
    ),
    "rows of files that were not there stay": (
        "        if before.row is None:\n            removals.add(path)",
        "        if before.row is None:\n            continue",
        f"{HOOKS}::test_an_undo_brings_back_what_stood_there_whoever_put_it_there",
    ),
    "the ledger trusts another file's stat": (
        "stat=now.recordable_stat if stands and now is not None else None",
        "stat=now.stat if now is not None else None",
        f"{HOOKS}::test_an_undo_brings_back_what_stood_there_whoever_put_it_there",
    ),
    "rows that `prune: off` let go stay dropped": (
        "if path not in remote and row.standing is Ownership.OURS:",
        "if False:",
        f"{HOOKS}::test_an_undo_brings_back_the_ledger_of_files_that_the_commit_had_dropped",
    ),
}

WITHDRAW: Rows = {
    "the bytes of an edit are not kept": (
        "            _keep_bytes(action, undo.places[action.path].root, ground)",
        "            pass",
        f"{HOOKS}::test_an_undo_brings_back_what_stood_there_whoever_put_it_there",
    ),
    "the bytes are not pinned": (
        "undo_blobs=tuple(sorted(undo.blobs))",
        "undo_blobs=()",
        f"{HOOKS}::test_the_bytes_of_the_way_back_are_pinned_while_a_reload_is_owed",
    ),
    "a repair is undone too": (
        " or (commit == state.applied_commit and job.digest == state.applied_config_digest)",
        "",
        f"{RELOADS}::test_a_failed_reload_after_a_repair_undoes_nothing",
    ),
    "the commit is not rejected": (
        "hooks.noted(job, state, error), ground, replace",
        "state, ground, replace",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "no reload is pending for the set that was put back": (
        "after = replace(state, consistent=False, reload_pending=True, reload_commit=None, undo_begun=True)",
        "after = replace(state, consistent=False, reload_pending=False, reload_commit=None, undo_begun=True)",
        f"{HOOKS}::test_a_reload_that_fails_with_the_previous_set_too_stays_owed",
    ),
    "left-alone paths are not named": (
        "return tuple(action.path for action in plan.of(ActionKind.KEEP))",
        "return ()",
        f"{HOOKS}::test_an_undo_leaves_alone_what_was_edited_after_the_change_and_names_it",
    ),
    "applied commit stays the bad one": (
        "applied_commit=undo.commit, applied_config_digest",
        "applied_config_digest",
        f"{HOOKS}::test_a_failed_reload_puts_the_previous_set_back_runs_once_more_and_rejects_the_commit",
    ),
    "an interrupted undo is forgotten": (
        "undo = read_undo(state, ground.blobs) if state.undo_begun else None",
        "undo = None",
        "tests/fault/test_hook_faults.py::test_killed_anywhere_on_the_way_there_and_back_an_undo_ends_with_what_stood_before",
    ),
}

RUN: Rows = {
    "a paused job runs": (
        "if options.rollback_set is None and state.paused(started_at):",
        "if False:",
        f"{WAY_BACK}::test_a_paused_job_costs_nothing_and_says_why",
    ),
    "validate is not asked": (
        "if job.validate is None or not decision.plan.changes_disk:",
        "if job.validate is None or decision.plan.changes_disk:",
        f"{HOOKS}::test_a_vetoed_commit_changes_nothing_and_is_not_tried_again_but_the_next_good_one_is_taken",
    ),
    "a rejected commit is applied": (
        "    if refusal is None:\n        check_required",
        "    if True:\n        check_required",
        f"{HOOKS}::test_a_vetoed_commit_changes_nothing_and_is_not_tried_again_but_the_next_good_one_is_taken",
    ),
    "an unchanged run is reported as changed": (
        "changed = any(change.action is not ActionKind.KEEP for change in changes)",
        "changed = bool(changes)",
        f"{POLICIES}::test_report_leaves_an_edit_counts_it_and_replaces_it_when_upstream_changes",
    ),
    "repaired drift still counts": (
        "decision.plan.drifted - _repaired(decision.plan, walked)",
        "decision.plan.drifted",
        f"{POLICIES}::test_drift_that_was_put_back_is_not_counted_any_more",
    ),
    "a rollback does not hold": (
        "held=state.held or rollback_set is not None",
        "held=state.held",
        f"{WAY_BACK}::test_a_held_job_is_left_alone_until_it_is_resumed",
    ),
    "the limit stops a rollback": (
        "allow_delete = len(own.recorded)",
        "allow_delete = options.allow_delete",
        f"{WAY_BACK}::test_more_removals_than_the_limit_do_not_stop_a_rollback",
    ),
    "no intent is saved": (
        "        ctx.store.begin_intent(",
        "        _ = (",
        f"{RECOVERY}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "an older set is believed after the configuration changed": (
        " or job.digest != state.applied_config_digest or",
        " or",
        f"{POLICIES}::test_paths_that_the_configuration_drops_count_as_dropped",
    ),
    "dropped rows are part of the remembered set": (
        "entries = {path: row.upstream for path, row in ahead.recorded().items() if row.standing is not Ownership.DROPPED}",
        "entries = {path: row.upstream for path, row in ahead.recorded().items()}",
        f"{POLICIES}::test_prune_off_leaves_dropped_files_and_tracked_later_takes_them",
    ),
    "a place that can't be looked at is no problem": (
        "        _refuse_unseen(job,",
        "        _ = (job,",
        "tests/story/test_destination_trouble.py::test_a_link_above_to_that_leads_nowhere_is_named_with_what_to_make",
    ),
    "a failure does not count": (
        "failures=state.failures + 1, last_error_kind=error.kind",
        "failures=state.failures, last_error_kind=error.kind",
        f"{RELOADS}::test_each_failed_run_is_counted_until_one_succeeds",
    ),
    "a run never plans anew": (
        "if not walked.only_changed_underneath or attempt == ATTEMPTS:",
        "if True:",
        f"{FOLDERS}::test_a_folder_that_changes_between_plan_and_step_is_left_alone_and_planned_anew",
    ),
}

SETTLE: Rows = {
    "a reload that was pending before is lost": (
        "owed = intent.reload_was_pending or (",
        "owed = (",
        f"{RECOVERY}::test_a_reload_that_was_pending_before_a_killed_run_is_pending_after_it",
    ),
    "a reload is pending though nothing took effect": (
        "(intent.reload_after and bool(took_effect))",
        "intent.reload_after",
        f"{RECOVERY}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "no reload is pending after a killed run": (
        "(intent.reload_after and bool(took_effect))",
        "False",
        f"{RECOVERY}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "half a set is reloaded": (
        "return intent.commit if took_effect == len(intent.actions) else",
        "return intent.commit if took_effect else",
        f"{RECOVERY}::test_half_a_set_is_recorded_as_far_as_it_came_and_is_not_reloaded",
    ),
    "a reload from before cannot run without GitHub": (
        " else state.reload_commit if took_effect == 0 else None",
        " else None",
        f"{RECOVERY}::test_a_reload_that_was_pending_before_a_killed_run_is_pending_after_it",
    ),
    "a removal that took effect stays in the ledger": (
        "                removals.add(action.path)\n",
        "",
        f"{RECOVERY}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "a removal that did not take effect is believed": (
        "if have is None or have.kind is Kind.DIRECTORY:",
        "if True:",
        f"{RECOVERY}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "the intent is believed": (
        "action.want.same_content(have) and action.want.same_looks(have):",
        "True:",
        f"{RECOVERY}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "a mode that was not set is believed": (
        "action.want.same_content(have) and action.want.same_looks(have):",
        "action.want.same_content(have):",
        f"{RECOVERY}::test_a_run_killed_before_its_first_write_leaves_no_reload_pending",
    ),
    "what a killed run staged stays": (
        "    mirror.remove_temp_files(intent.id, _with_leftovers(intent))\n",
        "",
        f"{RECOVERY}::test_what_a_killed_run_staged_is_gone_after_the_next_start",
    ),
    "folders that were made are forgotten": (
        "frozenset(removals), folders_made=kept,",
        "frozenset(removals),",
        f"{RECOVERY}::test_folders_that_a_killed_run_made_go_when_the_repository_goes_back",
    ),
    "the reload is not told what the killed run changed": (
        "changes = tuple(as_change(action) for action in took_effect)",
        "changes = ()",
        f"{RECOVERY}::test_the_reload_after_a_killed_run_is_told_what_that_run_changed",
    ),
    "a stat that proves nothing is trusted after a killed run": (
        "Recorded(action.want, have.recordable_stat)",
        "Recorded(action.want, have.stat)",
        f"{CLOCKS}::test_an_edit_after_an_interrupted_run_was_concluded_is_noticed",
    ),
    "a saved intent is not looked at": (
        "    if intent is not None:\n        return _conclude",
        "    if intent is None:\n        return state\n    if not intent.actions:\n        return _conclude",
        f"{RECOVERY}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
    "a folder in the place of a removed file counts as the file": (
        "if have is None or have.kind is Kind.DIRECTORY:",
        "if have is None:",
        f"{RECOVERY}::test_a_run_killed_before_its_record_is_recorded_at_the_next_start",
    ),
}

FAULTS = [
    Fault(name, f"syncd.engine.{module}", *row)
    for module, rows in {
        "plan": PLAN,
        "run": RUN,
        "settle": SETTLE,
        "apply": APPLY,
        "pay": PAY,
        "undo": UNDO,
        "withdraw": WITHDRAW,
    }.items()
    for name, row in rows.items()
]
