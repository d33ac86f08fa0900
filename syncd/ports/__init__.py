"""The Protocols between the engine and its neighbours, and the values that they exchange.

These are the few methods that the engine asks of GitHub (`remote`), of the disk (`local`), of the
operator's commands (`commands`), of the store (`storage`) and about signatures (`signers`). Every
implementation runs against the same suite in tests/contract.
"""

from __future__ import annotations

from syncd.ports.commands import HookCall, HookResult, Hooks, ReloadTurns, StagedFile
from syncd.ports.job_state import (
    AcceptedCommit,
    CheckResult,
    Condition,
    JobState,
    LastError,
    Pause,
    PendingHealth,
    PendingReload,
    Rejection,
    UndoInfo,
)
from syncd.ports.local import (
    NO_INODES,
    SMALL_FILE_BYTES,
    UNKNOWN_SIZE,
    ActionOutcome,
    ApplyOutcome,
    CopiedFile,
    Inodes,
    Mirror,
    Target,
)
from syncd.ports.remote import (
    BlobReader,
    BlobRequest,
    Blobs,
    BlobWriter,
    Head,
    ListingCache,
    PartialDownload,
    Pointer,
    Source,
)
from syncd.ports.signers import Signers
from syncd.ports.storage import AppliedSet, Intent, OwnedRow, RunRecord, Store

__all__ = [
    "NO_INODES",
    "SMALL_FILE_BYTES",
    "UNKNOWN_SIZE",
    "AcceptedCommit",
    "ActionOutcome",
    "AppliedSet",
    "ApplyOutcome",
    "BlobReader",
    "BlobRequest",
    "BlobWriter",
    "Blobs",
    "CheckResult",
    "Condition",
    "CopiedFile",
    "Head",
    "HookCall",
    "HookResult",
    "Hooks",
    "Inodes",
    "Intent",
    "JobState",
    "LastError",
    "ListingCache",
    "Mirror",
    "OwnedRow",
    "PartialDownload",
    "Pause",
    "PendingHealth",
    "PendingReload",
    "Pointer",
    "Rejection",
    "ReloadTurns",
    "RunRecord",
    "Signers",
    "Source",
    "StagedFile",
    "Store",
    "Target",
    "UndoInfo",
]
