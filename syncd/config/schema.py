"""The shape of the configuration as pydantic models over plain values: unknown keys refused, every text judged by syncd.config.value_types."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from syncd.config import commands, value_types
from syncd.cron import parse_cron
from syncd.identities import SecretRef
from syncd.models import Drift, Hook, Lfs, Prune, Publish, Submodules, Symlinks
from syncd.text import did_you_mean
from syncd.tree_walk import MAX_DEPTH


def _judged(judge: Callable[[Any], Any], **shape: Any) -> BeforeValidator:
    """Judged by our own function, whose texts are for people; `shape` is what editors are told of it (JSON Schema)."""
    return BeforeValidator(judge, json_schema_input_type=Annotated[Any, WithJsonSchema(shape)])


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"'{value}' is not true or false")


def _whole(low: int, high: int) -> BeforeValidator:
    def whole(value: Any) -> int:
        if (
            not isinstance(value, str)
            or not re.fullmatch(r"\d{1,18}", value)
            or not low <= int(value) <= high
        ):
            shown = (
                f"'{value[:40]}'"
                if isinstance(value, str)
                else str(value).lower()
                if isinstance(value, bool)
                else "a block"
            )
            raise ValueError(f"{shown} is not a whole number from {low} to {high}")
        return int(value)

    return _judged(
        whole, type=["integer", "string"], minimum=low, maximum=high, pattern=r"^[0-9]{1,18}$"
    )


def _one_of(*names: str) -> BeforeValidator:
    def one_of(value: Any) -> Any:
        if value not in names:
            raise ValueError(
                f"'{str(value)[:40]}' is not one of {', '.join(names)}"
                + did_you_mean(str(value), names)
            )
        return value

    return _judged(one_of, enum=[str(name) for name in names])


def _plain(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(
            "must be text" + ("; write it in quotes" if isinstance(value, bool) else "")
        )
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("has a control character in it")
    return value


NAME = {"type": "string", "minLength": 1}
SECRET = [
    {"type": "string", "pattern": "^/"},
    *(
        {
            "type": "object",
            "properties": {kind: NAME},
            "required": [kind],
            "additionalProperties": False,
        }
        for kind in ("credential", "file", "env")
    ),
]
CHECK = {"enum": list(commands.CHECKS)}
COMMAND = [
    NAME,
    {"type": "array", "items": {"type": "string"}, "minItems": 1},
    {
        "type": "object",
        "properties": {"shell": NAME},
        "required": ["shell"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {
            "check": {"anyOf": [CHECK, {"type": "array", "items": CHECK, "minItems": 1}]}
        },
        "required": ["check"],
        "additionalProperties": False,
    },
]
DURATION = r"^(?=.)(\d{1,6}w)?(\d{1,6}d)?(\d{1,6}h)?(\d{1,6}m)?(\d{1,6}s)?$"

# text that an editor's YAML takes for a number is text here
Text = Annotated[str, _judged(_plain, type=["string", "number"])]
Flag = Annotated[bool, _judged(_boolean, type="boolean")]
Duration = Annotated[float, _judged(value_types.positive_duration, type="string", pattern=DURATION)]
AnyDuration = Annotated[float, _judged(value_types.duration, type="string", pattern=DURATION)]
Mode = Annotated[int, _judged(value_types.mode, type="string", pattern="^0?0?[0-7]{3}$")]
Owner = Annotated[str, _judged(value_types.owner, type=["string", "number"])]
Size = Annotated[
    int,
    _judged(
        value_types.size, type=["string", "integer"], pattern=r"^\d{1,15}\s*[A-Za-z]*$", minimum=0
    ),
]
DeleteLimit = Annotated[
    tuple[float | None, int | None],
    _judged(
        value_types.delete_limit,
        type=["string", "integer"],
        pattern=r"^\d{1,9}$|^(\d{1,2}|100)%$",
        minimum=0,
    ),
]
SecretHere = Annotated[SecretRef, _judged(value_types.secret, anyOf=SECRET)]
Command = Annotated[Hook, _judged(commands.hook, anyOf=COMMAND)]
AppId = Annotated[
    int,
    _judged(
        value_types.app_id,
        type=["integer", "string"],
        minimum=1,
        maximum=10**12,
        pattern=r"^[0-9]{1,18}$",
    ),
]
ClientId = Annotated[str, _judged(value_types.client_id, type=["string", "number"])]
Patterns = Annotated[tuple[str, ...], _judged(value_types.patterns, type="array", items=NAME)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


class LimitsModel(Strict):
    delete: DeleteLimit = (0.5, None)
    files: Annotated[int, _whole(1, 10_000_000)] = 10_000
    size: Size = 1 << 30
    empty: Flag = False


class RequireModel(Strict):
    verified: Flag = False
    fast_forward: Flag = False


class PathModel(Strict):
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
                f"'{value}' must be a path inside the repository, without a leading slash ('/' alone is the whole repository)"
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
                f"'{folder}' ends in / and '{other}' does not: a trailing slash means a directory, on both sides or on neither"
            )
        if not self.from_.endswith("/") and (self.include or self.exclude):
            raise ValueError("include and exclude choose inside a directory; this is one file")
        return self


class JobModel(Strict):
    as_: Text | None = Field(None, alias="as")
    repo: Text
    ref: Text | None = None
    paths: list[PathModel] = Field(min_length=1)
    every: Duration | None = None
    cron: Text | None = None
    jitter: AnyDuration = 0.0
    on_push: Flag = True
    prune: Annotated[Prune, _one_of(*Prune)] = Prune.TRACKED
    drift: Annotated[Drift, _one_of(*Drift)] = Drift.RESTORE
    symlinks: Annotated[Symlinks, _one_of(*Symlinks)] = Symlinks.KEEP
    submodules: Annotated[Submodules, _one_of(*Submodules)] = Submodules.SKIP
    lfs: Annotated[Lfs, _one_of(*Lfs)] = Lfs.REFUSE
    owner: Owner | None = None
    mode: Mode | None = None
    dir_mode: Mode = 0o755
    limits: LimitsModel = LimitsModel()
    publish: Annotated[Publish, _one_of(*Publish)] = Publish.FILES
    keep: Annotated[int, _whole(1, 1000)] = 5
    validate_: Command | None = Field(None, alias="validate")
    on_change: Command | None = None
    undo_on_failure: Flag = False
    require: RequireModel = RequireModel()
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
            raise ValueError("has both 'every' and 'cron'; give exactly one")
        if self.every is None and self.cron is None:
            raise ValueError("needs 'every' or 'cron'")
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
        if value is not None and value.checks:
            raise ValueError("built-in checks are for validate only; write a command")
        return value


def _not_too_deep(path: str) -> str:
    """The path. Raises ValueError where it leads through more folders than syncd goes into."""
    if path.strip("/").count("/") >= MAX_DEPTH:
        shown = f"'{path[:40]}…'"
        raise ValueError(f"{shown} is nested deeper than {MAX_DEPTH} folders; write a shorter path")
    return path


def _meant(host: str) -> str | None:
    """The API's address on GitHub's own hosts, which is easily mistaken. Source: docs; an Enterprise Server has /api/v3, the others have not."""
    if host in ("github.com", "www.github.com", "api.github.com"):
        return "https://api.github.com"
    return f"https://api.{host.removeprefix('api.')}" if host.endswith(".ghe.com") else None


def _on_the_wire(host: str) -> str:
    """A name as the network knows it."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return "it as xn--..."


class LoginModel(Strict):
    client_id: ClientId


class IdentityModel(Strict):
    app_id: AppId | None = None
    client_id: ClientId | None = None
    installation_id: Annotated[int, _whole(1, 10**15)] | None = None
    private_key: SecretHere | None = None
    token: SecretHere | None = None
    login: LoginModel | None = None
    anonymous: Flag | None = None
    api: Text = "https://api.github.com"
    ca_file: Text | None = None

    @field_validator("api")
    @classmethod
    def _api(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"'{value}' is not an address") from error
        loopback = host in ("localhost", "::1") or (host or "").startswith("127.")
        if (
            not host
            or parts.username
            or parts.query
            or parts.fragment
            or parts.scheme not in ("https", "http")
        ):
            raise ValueError(
                f"'{value}' is not an API address; write it like https://api.github.com or https://HOST/api/v3"
            )
        if not host.isascii():
            raise ValueError(
                f"'{value}' has a host with letters that the network does not know; write {_on_the_wire(host)}"
            )
        if parts.scheme == "http" and not loopback:
            raise ValueError(
                f"'{value}' would send credentials in the clear; use https (http is for loopback only)"
            )
        path = parts.path.rstrip("/")
        meant = _meant(host)
        if meant is not None and (path or f"https://{host}" != meant):
            raise ValueError(f"'{value}' is not where the API is; write {meant}")
        return value.rstrip("/")

    @field_validator("ca_file")
    @classmethod
    def _ca_file(cls, value: str | None) -> str | None:
        if value is not None and not posixpath.isabs(value):
            raise ValueError(f"'{value}' is not an absolute path")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> IdentityModel:
        app = any(one is not None for one in (self.app_id, self.client_id, self.private_key))
        kinds = [
            name
            for name, used in (
                ("app_id", app),
                ("token", self.token),
                ("login", self.login),
                ("anonymous", self.anonymous),
            )
            if used
        ]
        if len(kinds) != 1:
            found = f"has {' and '.join(kinds)}" if kinds else "says nothing of who we are"
            raise ValueError(
                f"{found}; give exactly one of: app_id with private_key, token, login, or anonymous: true"
            )
        if app and (self.app_id is None) == (self.client_id is None):
            raise ValueError("an App needs exactly one of app_id and client_id")
        if app and self.private_key is None:
            raise ValueError("an App needs its private_key")
        if not app and self.installation_id is not None:
            raise ValueError("installation_id belongs to an App")
        return self


class LogModel(Strict):
    format: Annotated[Text, _one_of("auto", "journal", "text", "json")] = "auto"
    level: Annotated[Text, _one_of("debug", "info", "warning", "error")] = "info"


class WebhookModel(Strict):
    path: Text
    secret: SecretHere

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if (
            not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", value)
            or {".", ".."} & set(value.split("/"))
            or value.split("/")[1] in ("healthz", "readyz", "metrics", "api", "static")
        ):
            raise ValueError(f"'{value}' can't be the webhook's path; write it like /github")
        return value


class WebModel(Strict):
    listen: Text
    password: SecretHere | None = None
    show_diffs: Flag = False
    webhook: WebhookModel | None = None

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        if re.fullmatch(r"unix:/.+|fd:[A-Za-z0-9_.-]+", value):
            return value
        found = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):(\d{1,5})", value)
        if found is None or not 0 <= int(found.group(2)) <= 65535:
            raise ValueError(
                f"'{value}' is not a listening address; write 127.0.0.1:8480, unix:/run/syncd/web.sock or fd:NAME"
            )
        return value


class NotifyModel(Strict):
    webhook: SecretHere
    when: list[Annotated[Text, _one_of("failed", "recovered", "drift")]] = Field(
        default=["failed", "recovered", "drift"], min_length=1
    )


class TrashModel(Strict):
    keep: Duration = 7 * 86400.0
    size: Size = 1 << 30


class ConfigModel(Strict):
    version: Annotated[int, _whole(1, 1)]
    state: Text | None = None
    state_group: Text | None = None
    workers: Annotated[int, _whole(1, 256)] = 8
    requests_at_once: Annotated[int, _whole(1, 64)] = 16
    timezone: Text = "UTC"
    log: LogModel = LogModel()
    github: dict[str, IdentityModel] = Field(min_length=1)
    defaults: dict[str, Any] = Field(default_factory=dict)
    jobs: dict[str, JobModel] = Field(min_length=1)
    web: WebModel | None = None
    notify: list[NotifyModel] = Field(default_factory=list)
    trash: TrashModel = TrashModel()

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(
                f"'{value[:40]}' is not a time zone; write it like UTC or Europe/Berlin"
            ) from error
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
    """The first thing that is wrong with a value on its own, in the words of a check; None for a good one."""
    try:
        model.model_validate(value)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None
