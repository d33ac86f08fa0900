"""Configuration of a job as syncd understood it, in words. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from syncd.engine.hook_result import shown_command
from syncd.models import Hook, Job, PathRule
from syncd.policies import Publish, Require
from syncd.status import duration


class Destination(Struct, frozen=True):
    """One item of `paths:`. `rules` says what is taken, and with which mode and owner."""

    source: str
    to: str
    rules: str


def settings(job: Job) -> tuple[tuple[str, str], ...]:
    """Return the settings of a job, defaults included, without its paths."""
    return (
        ("identity", job.identity),
        ("schedule", _schedule(job)),
        ("prune", job.prune.value),
        ("drift", job.drift.value),
        ("publish", _publish(job)),
        ("links and modules", f"symlinks: {job.symlinks}, submodules: {job.submodules}"),
        ("lfs", job.lfs.value),
        ("owner and mode", _owner(job)),
        ("limits", _limits(job)),
        *_hooks(job),
        *_conditions(job),
        ("timeout", f"{duration(job.timeout_seconds)}, each hook {_hook_timeout(job)}"),
    )


def destinations(job: Job) -> tuple[Destination, ...]:
    """Return the paths of a job."""
    return tuple(
        Destination(rule.source + "/" * rule.directory or "/", _to(rule), ", ".join(_rules(rule)))
        for rule in job.paths
    )


def _to(rule: PathRule) -> str:
    return rule.to + "/" * rule.directory


def _rules(rule: PathRule) -> Iterator[str]:
    if rule.include:
        yield f"only {' '.join(rule.include)}"
    if rule.exclude:
        yield f"without {' '.join(rule.exclude)}"
    if rule.owner is not None:
        yield f"owner {rule.owner}"
    if rule.mode is not None:
        yield f"mode {rule.mode:04o}"


def _schedule(job: Job) -> str:
    when = f"every {duration(job.every_seconds)}" if job.every_seconds else f"cron {job.cron}"
    jitter = f", up to {duration(job.jitter_seconds)} later" if job.jitter_seconds else ""
    return when + jitter + (", and on a push" if job.on_push else "")


def _publish(job: Job) -> str:
    return "files" if job.publish is Publish.FILES else f"symlink, keeps {job.keep} trees"


def _owner(job: Job) -> str:
    mode = "as git says" if job.mode is None else f"{job.mode:04o}"
    return f"{job.owner or 'the user who runs syncd'}, files {mode}, folders {job.dir_mode:04o}"


def _limits(job: Job) -> str:
    limits = job.limits
    share = f"{(limits.delete_share or 0) * 100:.0f} %"
    deletes = share if limits.delete_count is None else f"{limits.delete_count:,}"
    empty = ", may become empty" if limits.empty else ""
    return f"delete {deletes}, {limits.files:,} files, {limits.size_bytes >> 20:,} MiB{empty}"


def _hooks(job: Job) -> Iterator[tuple[str, str]]:
    health = None if job.health is None else job.health.command
    hooks: tuple[tuple[str, Hook | None], ...] = (
        ("validate", job.validate),
        ("on_change", job.on_change),
        ("health", health),
    )
    yield from ((name, shown_command(hook)) for name, hook in hooks if hook is not None)
    if job.hook_user is not None:
        yield "hook_user", job.hook_user
    if job.undo_on_failure:
        yield "undo_on_failure", "on"


def _hook_timeout(job: Job) -> str:
    return duration(job.hook_timeout_seconds)


def _conditions(job: Job) -> Iterator[tuple[str, str]]:
    if job.require != Require():
        yield "require", _require(job.require)
    if job.apply.windows or job.apply.freezes:
        windows, freezes = len(job.apply.windows), len(job.apply.freezes)
        yield "apply", f"windows: {windows}, freezes: {freezes}"


def _require(require: Require) -> str:
    parts = [name for name in ("verified", "fast_forward") if getattr(require, name)]
    return ", ".join([*parts, *([f"signed_by {require.signed_by}"] if require.signed_by else [])])


__all__ = ["Destination", "destinations", "settings"]
