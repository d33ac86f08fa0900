"""Compare three snapshots and make a plan. Every case of what may happen to a file is on this page.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from syncd.engine.directories import NO_DIRECTORIES, OwnedDirectories, directory_actions
from syncd.models import (
    Action,
    ActionKind,
    Job,
    Kind,
    LedgerRow,
    LocalFile,
    Ownership,
    Plan,
    WantedFile,
)
from syncd.policies import Drift, Prune


def make_plan(
    job: Job,
    remote: Mapping[str, WantedFile],
    recorded: Mapping[str, LedgerRow],
    local: Mapping[str, LocalFile | None],
    directories: OwnedDirectories = NO_DIRECTORIES,
) -> Plan:
    """Choose, for every path that is or was syncd's, the one action that makes local equal remote.

    Pure: same arguments, same plan, in path order. A path that only the disk has was never syncd's
    and does not appear; of directories, only those appear that syncd made and that are not as the
    set asks. Whether the job's limits allow so many removals is judged in delete_limits.py.
    """
    own_directories = _directories_of(
        path for path, row in recorded.items() if row.ownership is not Ownership.FOREIGN
    )
    actions: list[Action] = []
    for path in remote.keys() | recorded.keys():
        want, row, have = remote.get(path), recorded.get(path), local.get(path)
        if _is_as_recorded(want, row, have):
            continue  # nearly every path
        case = _Case(job, path, row, have, path in own_directories)
        action = case.drop() if want is None else case.decide(want)
        if action is not None:
            actions.append(action)
    actions += directory_actions(job, directories, local)
    return Plan(tuple(sorted(actions, key=lambda action: action.path)), files=len(remote))


def _directories_of(paths: Iterable[str]) -> set[str]:
    """Return every directory above these paths, without `/`."""
    found: set[str] = set()
    for folder in {path[: path.rfind("/")] for path in paths}:
        while folder and folder not in found:
            found.add(folder)
            folder = folder[: folder.rfind("/")]
    return found


def _is_as_recorded(want: WantedFile | None, row: LedgerRow | None, have: LocalFile | None) -> bool:
    """Return whether the disk has what is wanted, and the ledger already says exactly this."""
    return (
        want is not None
        and row is not None
        and have is not None
        and row.stat == have.stat
        and row.entry == want
        and row.ownership is Ownership.OWNED
        and row.wanted is None
        and want.same_content(have)
        and want.same_permissions(have)
    )


class _Case(Struct, frozen=True):
    """One path: what the ledger says of it, and what is on disk.

    `was_own_directory`: syncd's own files are below the path, so a directory there is no drift.
    """

    job: Job
    path: str
    recorded: LedgerRow | None
    local: LocalFile | None
    was_own_directory: bool = False

    @property
    def own(self) -> WantedFile | None:
        """What syncd itself last made of the path; None where a foreign file was left."""
        if self.recorded is None or self.recorded.ownership is Ownership.FOREIGN:
            return None
        return self.recorded.entry

    def decide(self, want: WantedFile) -> Action | None:
        """Choose the action for a path that the repository has, and that is not as recorded."""
        have, recorded, own = self.local, self.recorded, self.own
        if have is not None and have.kind is Kind.DIRECTORY and self.was_own_directory:
            # not drift: the directory becomes empty in this very plan
            return self._action(ActionKind.WRITE, want, "a folder becomes a file")
        if want.same_content(have):
            return self._same_content(want)
        if have is None and (recorded is None or recorded.ownership is not Ownership.OWNED):
            # a file that upstream dropped was not in the last set: its removal here is no drift
            return self._action(ActionKind.WRITE, want, "new")
        if own is not None and have is not None and own.same_content(have):
            if self.job.drift is Drift.KEEP and not own.same_permissions(have):
                return self._action(ActionKind.KEEP, want, "mode or owner changed here")
            return self._action(ActionKind.WRITE, want, "changed upstream")
        return self._drifted(want)

    def _drifted(self, want: WantedFile) -> Action:
        """Choose the action where the disk holds an edit, a deletion, or a file that was there
        before.
        """
        first_meeting, is_foreign = self.recorded is None, self.local is not None
        upstream_changed = self._upstream_changed(want)
        if self._leaves(first_meeting or not upstream_changed):
            return self._kept(want, self._drift_reason())
        if self.own is None:
            return self._action(ActionKind.WRITE, want, "takes over", replaces_foreign=is_foreign)
        if upstream_changed:
            return self._action(
                ActionKind.WRITE, want, "changed upstream", replaces_foreign=is_foreign
            )
        return self._action(
            ActionKind.RESTORE,
            want,
            f"{self._drift_reason()}; put back",
            is_drift=True,
            replaces_foreign=is_foreign,
        )

    def _leaves(self, unless_upstream_asks: bool) -> bool:
        """Return whether the `drift` policy leaves what was changed here."""
        drift = self.job.drift
        return drift is Drift.KEEP or (drift is Drift.REPORT and unless_upstream_asks)

    def _drift_reason(self) -> str:
        if self.own is None:
            return "another file is here"
        return "removed here" if self.local is None else "edited here"

    def _upstream_changed(self, want: WantedFile) -> bool:
        """Return whether the repository changed the file since it was last applied."""
        if self.recorded is None:
            return True
        before = self.recorded.upstream
        return not before.same_content(want) or _executable_changed(before, want)

    def _same_content(self, want: WantedFile) -> Action | None:
        """Choose the action where the content is right, and mode, owner or the ledger may not
        be.
        """
        have, own = self.local, self.own
        if have is None:
            return None
        if want.same_permissions(have):
            return self._action(ActionKind.ADOPT, want, "already so")
        changed_here = own is None or not own.same_permissions(have)
        asked_now = self._permissions_changed(want)
        if changed_here and self._leaves(self.recorded is None or not asked_now):
            return self._kept(want, "mode or owner changed here")
        is_drift = own is not None and not asked_now
        return self._action(ActionKind.MODE, want, "mode or owner", is_drift=is_drift)

    def _permissions_changed(self, want: WantedFile) -> bool:
        """Return whether mode or owner were asked otherwise when the file was last applied."""
        if self.recorded is None:
            return True
        before = self.recorded.upstream
        return (before.mode, before.uid, before.gid) != (want.mode, want.uid, want.gid)

    def drop(self) -> Action | None:
        """Choose the action for a path that the repository or the configuration no longer has."""
        if self.recorded is None:
            return None
        if self.recorded.ownership is Ownership.FOREIGN:
            return self._action(ActionKind.FORGET, None, "never ours")
        if self.local is None:
            return self._action(ActionKind.FORGET, None, "gone on both sides")
        if not self.recorded.entry.same_content(self.local):
            return self._action(ActionKind.KEEP, None, "dropped upstream, but edited here")
        if self.job.prune is Prune.OFF:
            return None
        return self._action(ActionKind.REMOVE, None, "dropped upstream")

    def _kept(self, want: WantedFile, reason: str) -> Action:
        """Leave what was changed here; under `report` it counts as drift."""
        is_drift = self.job.drift is Drift.REPORT
        return self._action(ActionKind.KEEP, want, reason, is_drift=is_drift)

    def _action(
        self,
        kind: ActionKind,
        want: WantedFile | None,
        reason: str,
        is_drift: bool = False,
        replaces_foreign: bool = False,
    ) -> Action:
        return Action(
            kind, self.path, want, self.recorded, self.local, reason, is_drift, replaces_foreign
        )


def _executable_changed(before: WantedFile, want: WantedFile) -> bool:
    """Return whether git's executable bit has changed, and with it the mode.

    A commit that changes the bit has changed the file; another `mode:` in the configuration has
    not.
    """
    return (
        None not in (before.executable, want.executable)
        and before.executable != want.executable
        and before.mode != want.mode
    )
