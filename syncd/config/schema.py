"""Describes the configuration as pydantic models over plain values.

Unknown keys are refused, and each text is checked by syncd.config.value_types.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from syncd.config import value_types
from syncd.config.field_types import (
    AnyDuration,
    Command,
    DateOrTime,
    DeleteLimit,
    Duration,
    Flag,
    Mode,
    Owner,
    Patterns,
    SecretHere,
    Size,
    Text,
    one_of,
    whole_number,
)
from syncd.config.fleet_schema import FleetModel, Labels, RolloutModel
from syncd.config.identity_schema import IdentityModel
from syncd.config.strict_model import Strict
from syncd.config.web_schema import WebModel
from syncd.cron import parse_cron
from syncd.git_objects import is_object_id
from syncd.models import Hook
from syncd.notice_template import mistake_in as mistake_in_template
from syncd.policies import Drift, Lfs, Prune, Publish, Submodules, Symlinks
from syncd.time_zones import time_zone, why_unknown
from syncd.tree_walk import MAX_DEPTH

EVENTS = (
    *("failed", "recovered", "drift"),
    *("changed", "rolled_back", "rejected", "waiting", "stale"),
)


class LimitsModel(Strict):
    """The limits of a job, `limits:`."""

    delete: DeleteLimit = (0.5, None)
    files: Annotated[int, whole_number(1, 10_000_000)] = 10_000
    size: Size = 1 << 30
    empty: Flag = False


class RequireModel(Strict):
    """The conditions on a commit, `require:`."""

    verified: Flag = False
    fast_forward: Flag = False
    signed_by: Text | None = None
    since: Text | None = None

    @field_validator("signed_by")
    @classmethod
    def _signed_by(cls, value: str | None) -> str | None:
        if value is not None and not posixpath.isabs(value):
            raise ValueError(f"'{value}' is not an absolute path")
        return value

    @field_validator("since")
    @classmethod
    def _since(cls, value: str | None) -> str | None:
        if value is not None and not is_object_id(value):
            raise ValueError(
                f"'{value[:60]}' is not a full commit id; write the 40 digits of git rev-parse"
            )
        return value

    @model_validator(mode="after")
    def _since_what(self) -> RequireModel:
        if self.since is not None and self.signed_by is None:
            raise ValueError("since has no meaning without signed_by")
        return self


class HealthModel(Strict):
    """The check that a change has to pass, `health:`."""

    command: Command
    for_: Duration = Field(120.0, alias="for")
    every: Duration = 5.0
    timeout: Duration = 5.0
    failures: Annotated[int, whole_number(1, 1000)] = 2

    @field_validator("command")
    @classmethod
    def _no_checks(cls, value: Hook) -> Hook:
        return _command_only(value)

    @model_validator(mode="after")
    def _fits(self) -> HealthModel:
        for name, seconds in (("every", self.every), ("timeout", self.timeout)):
            if seconds > self.for_:
                raise ValueError(
                    f"'{name}' is longer than 'for' ({self.for_:g} s): no check fits in"
                )
        return self


class WindowModel(Strict):
    """One item of `apply.windows`."""

    start: Text
    for_: Duration = Field(alias="for")

    @field_validator("start")
    @classmethod
    def _start(cls, value: str) -> str:
        parse_cron(value)
        return value


class FreezeModel(Strict):
    """One item of `apply.freeze`."""

    from_: DateOrTime = Field(alias="from")
    to: DateOrTime
    reason: Text | None = None


class ApplyModel(Strict):
    """When new commits may be applied, `apply:`."""

    windows: list[WindowModel] = Field(default=[], min_length=1)
    freeze: list[FreezeModel] = Field(default=[], min_length=1)


class ReloadModel(Strict):
    """How far apart the runs of `on_change` are, `reload:`."""

    at_most_every: AnyDuration = 0.0
    quiet: AnyDuration = 0.0


class FirstModel(Strict):
    """How a job is tried until its first success, `first:`."""

    every: Duration = 15.0
    for_: Duration = Field(600.0, alias="for")


class ReportModel(Strict):
    """What is reported to GitHub, `report:`."""

    status: Flag = False
    context: Text = "syncd/{host}/{job}"
    as_: Text | None = Field(None, alias="as")

    @field_validator("context")
    @classmethod
    def _context(cls, value: str) -> str:
        left = value.replace("{host}", "").replace("{job}", "")
        if not value.isprintable() or not 1 <= len(value) <= 100 or set(left) & {"{", "}"}:
            raise ValueError(
                f"'{value[:60]}' is no context; write up to 100 characters with {{host}}, {{job}}"
            )
        return value

    @model_validator(mode="after")
    def _identity(self) -> ReportModel:
        if self.status and self.as_ is None:
            raise ValueError("status: true needs 'as', the identity that may write statuses")
        return self


class PathModel(Strict):
    """One item of `paths:`."""

    from_: Text = Field(alias="from")
    to: Text
    include: Patterns = ()
    exclude: Patterns = ()
    mode: Mode | None = None
    owner: Owner | None = None
    dir_mode: Mode | None = None

    @field_validator("from_")
    @classmethod
    def _source(cls, value: str) -> str:
        if value == "/":
            return value
        if not value or value.startswith("/"):
            raise ValueError(
                f"'{value}' must be a path inside the repository, without a leading slash ('/'"
                " alone is the whole repository)"
            )
        if any(part in ("", ".", "..") for part in value.removesuffix("/").split("/")):
            raise ValueError(f"'{value}' must be a plain path: no empty part, no . and no ..")
        return _not_too_deep(value)

    @field_validator("to")
    @classmethod
    def _destination(cls, value: str) -> str:
        if value == "/":
            raise ValueError(
                "'/' would make the whole machine the mirror; name a folder of its own"
            )
        if not value.startswith("/"):
            raise ValueError(f"'{value}' must be an absolute path")
        if any(part in ("", ".", "..") for part in value.removesuffix("/").split("/")[1:]):
            raise ValueError(f"'{value}' must be a plain path: no empty part, no . and no ..")
        return _not_too_deep(value)

    @model_validator(mode="after")
    def _both_or_neither(self) -> PathModel:
        if self.from_.endswith("/") != self.to.endswith("/"):
            folder, other = ("from", "to") if self.from_.endswith("/") else ("to", "from")
            raise ValueError(
                f"'{folder}' ends in / and '{other}' does not: a trailing slash means a directory,"
                " on both sides or on neither"
            )
        if not self.from_.endswith("/") and (self.include or self.exclude):
            raise ValueError("include and exclude choose inside a directory; this is one file")
        return self


class JobModel(Strict):
    """One job, with the values of `defaults:` filled in."""

    as_: Text | None = Field(None, alias="as")
    repo: Text
    ref: Text | None = None
    paths: list[PathModel] = Field(min_length=1)
    every: Duration | None = None
    cron: Text | None = None
    jitter: AnyDuration = 0.0
    on_push: Flag = True
    prune: Annotated[Prune, one_of(*Prune)] = Prune.TRACKED
    drift: Annotated[Drift, one_of(*Drift)] = Drift.RESTORE
    symlinks: Annotated[Symlinks, one_of(*Symlinks)] = Symlinks.KEEP
    submodules: Annotated[Submodules, one_of(*Submodules)] = Submodules.SKIP
    lfs: Annotated[Lfs, one_of(*Lfs)] = Lfs.REFUSE
    owner: Owner | None = None
    mode: Mode | None = None
    dir_mode: Mode = 0o755
    limits: LimitsModel = LimitsModel()
    publish: Annotated[Publish, one_of(*Publish)] = Publish.FILES
    keep: Annotated[int, whole_number(1, 1000)] = 5
    validate_: Command | None = Field(None, alias="validate")
    on_change: Command | None = None
    undo_on_failure: Flag = False
    health: HealthModel | None = None
    require: RequireModel = RequireModel()
    apply: ApplyModel = ApplyModel()
    reload: ReloadModel = ReloadModel()
    first: FirstModel | None = None
    report: ReportModel = ReportModel()
    rollout: RolloutModel | None = None
    where: Labels | None = None
    timeout: Duration = 600.0
    hook_timeout: Duration = 60.0
    hook_user: Text | None = None

    @field_validator("repo")
    @classmethod
    def _repo(cls, value: str) -> str:
        return value_types.repository(value)

    @field_validator("ref")
    @classmethod
    def _ref(cls, value: str | None) -> str | None:
        # git-check-ref-format(1), as far as a typing mistake goes
        if value is not None and (
            not value
            or re.search(r"[\s~^:?*\[\\]|\.\.|@\{|//|^[/-]|[/.]$|\.lock$", value)
            or len(value) > 255
        ):
            raise ValueError(
                f"'{value[:60]}' is not a ref; write a branch, a tag, a full commit id or refs/..."
            )
        return value

    @field_validator("cron")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None:
            parse_cron(value)
        return value

    @model_validator(mode="after")
    def _together(self) -> JobModel:
        if self.every is not None and self.cron is not None:
            raise ValueError("the job has both 'every' and 'cron'; give exactly one")
        if self.every is None and self.cron is None:
            raise ValueError("the job needs 'every' or 'cron'")
        if self.publish is Publish.SYMLINK and (
            len(self.paths) != 1 or not self.paths[0].to.endswith("/")
        ):
            raise ValueError("publish: symlink needs exactly one path, and that a directory")
        if (
            self.validate_ is not None
            and self.validate_.checks
            and self.on_change is not None
            and self.on_change.checks
        ):
            raise ValueError("on_change can't be a check")
        return self

    @field_validator("on_change")
    @classmethod
    def _no_checks(cls, value: Hook | None) -> Hook | None:
        return None if value is None else _command_only(value)


def _command_only(value: Hook) -> Hook:
    """Return the command. Raises ValueError for built-in checks, which look at a staged set."""
    if value.checks:
        raise ValueError("built-in checks are for validate only; write a command")
    return value


def _not_too_deep(path: str) -> str:
    """Return the path. Raises ValueError if it leads through more folders than syncd enters."""
    if path.strip("/").count("/") >= MAX_DEPTH:
        shown = f"'{path[:40]}…'"
        raise ValueError(f"{shown} is nested deeper than {MAX_DEPTH} folders; write a shorter path")
    return path


class LogModel(Strict):
    """The log, `log:`."""

    format: Annotated[Text, one_of("auto", "journal", "text", "json")] = "auto"
    level: Annotated[Text, one_of("debug", "info", "warning", "error")] = "info"


class NotifyModel(Strict):
    """One item of `notify:`."""

    webhook: SecretHere
    when: list[Annotated[Text, one_of(*EVENTS)]] = Field(
        default=["failed", "recovered", "drift"], min_length=1
    )
    template: Text | None = None

    @field_validator("template")
    @classmethod
    def _template(cls, value: str | None) -> str | None:
        mistake = mistake_in_template(value) if value is not None else None
        if mistake is not None:
            raise ValueError(f"the template can't be rendered: {mistake}")
        return value


class TrashModel(Strict):
    """The trash, `trash:`."""

    keep: Duration = 7 * 86400.0
    size: Size = 1 << 30


class ConfigModel(Strict):
    """The whole configuration."""

    version: Annotated[int, whole_number(1, 1)]
    state: Text | None = None
    state_group: Text | None = None
    workers: Annotated[int, whole_number(1, 256)] = 8
    requests_at_once: Annotated[int, whole_number(1, 64)] = 16
    timezone: Text = "UTC"
    log: LogModel = LogModel()
    # required, but not on an agent of a fleet: config/load.py
    github: dict[str, IdentityModel] = Field(default_factory=dict, min_length=1)
    defaults: dict[str, Any] = Field(default_factory=dict)
    jobs: dict[str, JobModel] = Field(min_length=1)
    web: WebModel | None = None
    notify: list[NotifyModel] = Field(default_factory=list)
    trash: TrashModel = TrashModel()
    fleet: FleetModel | None = None

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            time_zone(value)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(why_unknown(value)) from error
        return value

    @field_validator("state_group")
    @classmethod
    def _state_group(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}", value):
            raise ValueError(f"'{value[:40]}' is not the name or number of a group")
        return value

    @field_validator("state")
    @classmethod
    def _state(cls, value: str | None) -> str | None:
        if value is not None and (not posixpath.isabs(value) or value == "/"):
            raise ValueError(f"'{value}' is not an absolute path")
        return value if value is None else _not_too_deep(value)


def mistake_in(model: type[Strict], value: Mapping[str, Any]) -> str | None:
    """Return the first mistake in a value on its own, as `check` words it; None if there
    is none.
    """
    try:
        model.model_validate(value)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None
