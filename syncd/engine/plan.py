"""PURE: three snapshots in, a Plan out. Every case of what may happen to a file is on this page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from syncd.engine.directories import NO_DIRECTORIES, OwnedDirectories, directory_actions
from syncd.errors import LimitError
from syncd.models import (
    Action,
    ActionKind,
    Drift,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    Plan,
    Prune,
    WantedFile,
)

MIN_DELETE_ALLOWANCE = (
    10  # a share of few files says nothing: removals up to this many are never braked by a share
)


def make_plan(
    job: Job,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    local: Mapping[str, LocalFile | None],
    allow_delete: int | None = None,
    folders: OwnedDirectories = NO_DIRECTORIES,
) -> Plan:
    """Choose, for every path that is or was ours, the one action that makes local equal remote.

    Pure: same arguments, same plan, in path order. A path only the mirror has was never ours and does not appear; of folders, only
    those appear that syncd made and that are not as the set asks.
    Raises BrakeError when more would go than the limits allow: a wrong ref looks exactly like this.
    """
    actions = []
    own_folders = _folders_of(
        path for path, row in recorded.items() if row.ownership is not Ownership.FOREIGN
    )
    for path in sorted(remote.keys() | recorded.keys()):
        want, had, have = remote.get(path), recorded.get(path), local.get(path)
        if (
            want is not None
            and have is not None
            and have.kind is Kind.DIRECTORY
            and path in own_folders
        ):
            step: Action | None = Action(
                ActionKind.WRITE, path, want, had, have, "a folder becomes a file"
            )  # nobody's drift: it empties in this very plan
        else:
            step = (
                _decide(job, path, want, had, have)
                if want is not None
                else _drop(job, path, had, have)
            )
        if step is not None:
            actions.append(step)
    plan = Plan(
        tuple(
            sorted(
                [*actions, *directory_actions(job, folders, local)], key=lambda action: action.path
            )
        ),
        files=len(remote),
    )
    _brake(job, plan, remote, recorded, allow_delete)
    return plan


def _decide(
    job: Job, path: str, want: WantedFile, had: LedgerRow | None, have: LocalFile | None
) -> Action | None:
    """What to do about a path that the repository has."""
    ours = had.entry if had is not None and had.ownership is not Ownership.FOREIGN else None
    if want.same_content(have):
        return _looks(job, path, want, had, ours, have)
    if have is None and (had is None or had.ownership is not Ownership.OWNED):
        # a file that upstream dropped was not part of the last set: its removal here is no drift
        return Action(ActionKind.WRITE, path, want, had, None, "new")
    upstream_changed = (
        had is None or not had.upstream.same_content(want) or _made_executable(had.upstream, want)
    )
    if ours is not None and have is not None and ours.same_content(have):
        if job.drift is Drift.KEEP and not ours.same_permissions(have):
            return Action(ActionKind.KEEP, path, want, had, have, "mode or owner changed here")
        return Action(ActionKind.WRITE, path, want, had, have, "changed upstream")
    # from here somebody else's doing stands at the path: an edit, a deletion, or a file that was there before us
    first_meeting = had is None
    foreign = have is not None
    if job.drift is Drift.KEEP or (
        job.drift is Drift.REPORT and (first_meeting or not upstream_changed)
    ):
        reason = (
            "another file stands here"
            if had is None or ours is None
            else "edited here"
            if foreign
            else "removed here"
        )
        return Action(
            ActionKind.KEEP, path, want, had, have, reason, is_drift=job.drift is Drift.REPORT
        )
    if ours is None:
        return Action(
            ActionKind.WRITE, path, want, had, have, "takes over", replaces_foreign=foreign
        )
    verb = ActionKind.WRITE if upstream_changed else ActionKind.RESTORE
    reason = (
        "changed upstream"
        if upstream_changed
        else "edited here; put back"
        if foreign
        else "removed here; put back"
    )
    return Action(
        verb,
        path,
        want,
        had,
        have,
        reason,
        is_drift=verb is ActionKind.RESTORE,
        replaces_foreign=foreign,
    )


def _made_executable(before: WantedFile, want: WantedFile) -> bool:
    """Has git's executable bit changed, and with it the mode? A commit that changes the bit has changed the file; another `mode:` in the configuration has not."""
    return (
        None not in (before.executable, want.executable)
        and before.executable != want.executable
        and before.mode != want.mode
    )


def _looks(
    job: Job,
    path: str,
    want: WantedFile,
    had: LedgerRow | None,
    ours: WantedFile | None,
    have: LocalFile | None,
) -> Action | None:
    """The content is right; mode, owner or our memory may not be."""
    if have is None:
        return None
    if want.same_permissions(have):
        known = (
            had is not None
            and had.ownership is Ownership.OWNED
            and had.stat == have.stat
            and had.entry == want
            and had.wanted is None
        )
        return None if known else Action(ActionKind.ADOPT, path, want, had, have, "already so")
    touched_here = ours is None or not ours.same_permissions(have)
    asked_before = had.upstream if had is not None else None
    asked_anew = asked_before is None or (
        asked_before.mode,
        asked_before.uid,
        asked_before.gid,
    ) != (want.mode, want.uid, want.gid)
    if touched_here and (
        job.drift is Drift.KEEP or (job.drift is Drift.REPORT and (had is None or not asked_anew))
    ):
        return Action(
            ActionKind.KEEP,
            path,
            want,
            had,
            have,
            "mode or owner changed here",
            is_drift=job.drift is Drift.REPORT,
        )
    return Action(
        ActionKind.MODE,
        path,
        want,
        had,
        have,
        "mode or owner",
        is_drift=ours is not None and not asked_anew,
    )


def _drop(job: Job, path: str, had: LedgerRow | None, have: LocalFile | None) -> Action | None:
    """What to do about a path that the repository, or the configuration, no longer has."""
    if had is None or had.ownership is Ownership.FOREIGN:
        return (
            None if had is None else Action(ActionKind.FORGET, path, None, had, have, "never ours")
        )
    if have is None:
        return Action(ActionKind.FORGET, path, None, had, None, "gone on both sides")
    if not had.entry.same_content(have):
        return Action(ActionKind.KEEP, path, None, had, have, "dropped upstream, but edited here")
    if job.prune is Prune.OFF:
        return None
    return Action(ActionKind.REMOVE, path, None, had, have, "dropped upstream")


def _folders_of(paths: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for path in {path[: path.rfind("/")] for path in paths}:
        while path and path not in found:
            found.add(path)
            path = path[: path.rfind("/")]
    return found


def _brake(
    job: Job,
    plan: Plan,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    allow_delete: int | None,
) -> None:
    limits = job.limits
    removals = len(plan.of(ActionKind.REMOVE))
    if not remote and not limits.empty and allow_delete is None:
        raise LimitError(
            f"the job's paths hold no file at this commit ({removals} would be removed); nothing was changed",
            hint=f"check ref:, paths: and include:; to agree once: syncd sync {job.name} --allow-delete {removals}; for good: limits: {{empty: true}}",
        )
    tracked = sum(row.ownership is not Ownership.FOREIGN for row in recorded.values())
    if allow_delete is not None:
        allowed, rule = allow_delete, f"--allow-delete {allow_delete}"
    elif limits.delete_count is not None:
        allowed, rule = limits.delete_count, f"limits.delete: {limits.delete_count}"
    else:
        share = limits.delete_share if limits.delete_share is not None else 1.0
        allowed, rule = (
            max(MIN_DELETE_ALLOWANCE, int(share * tracked)),
            f"limits.delete: {share:.0%}",
        )
    if removals > allowed:
        raise LimitError(
            f"{removals} of {tracked} files would be removed, more than {rule} allows; nothing was changed",
            hint=f"look at: syncd plan {job.name}; if that is right: syncd sync {job.name} --allow-delete {removals}",
        )
