"""Finds, reads and checks the configuration.

The result is every mistake at once, each with its position, or frozen values.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from pydantic import BaseModel, ValidationError

from syncd.config import convert, cross_checks
from syncd.config.commands import PasteableMistake
from syncd.config.folder import Folder, ignored_line, list_folder, unreadable_error
from syncd.config.identity_schema import IdentityModel
from syncd.config.key_aliases import meant_by
from syncd.config.model import Config
from syncd.config.partial import valid_part
from syncd.config.protected import protected_paths
from syncd.config.schema import ConfigModel, JobModel
from syncd.config.secrets import doubts_about_files
from syncd.config.web_schema import WebUserModel
from syncd.config.yaml_reader import Key, YamlDocument, merge, read_document, without_nulls
from syncd.errors import ConfigError, Problem
from syncd.text import did_you_mean
from syncd.trusted_path import problems_for_owner, state_owner

SYSTEM = Path("/etc/syncd/config.yaml")
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
MAX_SUGGESTIONS = 100  # looked up at most: more unknown keys mean another kind of file
SECRETS = frozenset(("private_key", "token", "password", "secret", "database", "sign"))
EXCLUSIVE = ("every", "cron")  # a job's own replaces both of the defaults'


def find_config(explicit: str | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration's file or folder, in the order of the contract.

    Raises ConfigError that names every path tried, and for an unreadable one who may read it.
    """
    if explicit:
        return _require_exists(Path(explicit), "-c")
    if environ.get("SYNCD_CONFIG"):
        return _require_exists(Path(environ["SYNCD_CONFIG"]), "$SYNCD_CONFIG")
    home = environ.get("XDG_CONFIG_HOME") or (
        f"{environ['HOME']}/.config" if environ.get("HOME") else None
    )
    places = [SYSTEM] + ([Path(home) / "syncd" / "config.yaml"] if home else [])
    for place in places:
        if _exists(place):
            return place
    raise ConfigError(
        f"there is no configuration: looked for {', '.join(map(str, places))}",
        id="config/not-found",
        hint="write one with `syncd init`, name one with -c, or try `syncd demo`",
    )


def _require_exists(path: Path, by: str) -> Path:
    if not _exists(path):
        raise ConfigError(
            f"there is no configuration at {path} ({by})",
            id="config/not-found",
            hint="correct the path, or write one with `syncd init`",
        )
    return path


def _exists(path: Path) -> bool:
    """Return whether the configuration exists. Raises ConfigError if this user may not read it."""
    try:
        found = os.stat(path)
    except PermissionError as error:
        raise unreadable_error(path) from error
    except (OSError, ValueError):
        return False
    wanted = os.R_OK | os.X_OK if stat.S_ISDIR(found.st_mode) else os.R_OK
    if not os.access(path, wanted, effective_ids=True):
        raise unreadable_error(path)
    return True


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Return the configuration. Raises ConfigError with all problems, in file order."""
    return load_with_positions(path, environ)[0]


def load_with_positions(
    path: Path, environ: Mapping[str, str]
) -> tuple[Config, cross_checks.ProblemFactory]:
    """Return the configuration, and a function that turns a later mistake into a Problem.

    The function takes a key and a text, and knows the key's position. Raises as `load_config` does.
    """
    folder = list_folder(path) if path.is_dir() else Folder((path,), (), ())
    if not folder.files:
        raise ConfigError(
            f"there is no *.yaml in {path}",
            id="config/empty-folder",
            hint=ignored_line(folder.ignored)
            or "put the configuration there, or give -c another folder",
        )
    for file in folder.files:
        _exists(file)
    unreadable = {problem.file for problem in folder.problems}
    documents = [read_document(file) for file in folder.files if str(file) not in unreadable]
    if unreadable:
        raise ConfigError(
            [
                *folder.problems,
                *_ordered(
                    [problem for document in documents for problem in document.problems], documents
                ),
            ]
        )
    problems = [problem for document in documents for problem in document.problems]
    whole = [document for document in documents if isinstance(document.value, dict)]
    problems += [
        document.problem((), "must be keys and values, beginning with version: 1")
        for document in documents
        if not isinstance(document.value, dict) and not document.problems
    ]
    if len(whole) < len(documents):
        raise ConfigError(_ordered(problems, documents))
    loader = ConfigLoader(whole, problems)
    model = loader.validated()
    config = (
        convert.to_config(model, path, folder, environ, _digest(documents))
        if model is not None
        else None
    )
    problems = loader.problems + (
        cross_checks.check_config(config, loader.problem, protected_paths(config, environ))
        if config is not None
        else []
    )
    state = _state_folder(documents, path, environ) if config is None else config.state
    problems = _write_access_problems(config, state, folder, documents, loader) + problems
    if problems or config is None or not loader.whole:
        raise ConfigError(_ordered(problems, documents))
    return config, loader.problem


def _state_folder(documents: list[YamlDocument], path: Path, environ: Mapping[str, str]) -> Path:
    """Return the state folder that a configuration with mistakes names, or the default one."""
    given = next(
        (one.value["state"] for one in documents if isinstance(one.value.get("state"), str)), None
    )
    return Path(given) if given else convert.default_state(path, environ)


def _write_access_problems(
    config: Config | None,
    state: Path,
    folder: Folder,
    documents: list[YamlDocument],
    loader: ConfigLoader,
) -> list[Problem]:
    """Return who else may write the configuration, and in that case the files that it names.

    All are reported at once, so that they are corrected at once. The user of the state is trusted:
    root may inspect a service's state, and only its own user may change it.
    """
    owner = state_owner(state)
    found = problems_for_owner(
        [*folder.doubts, *(doubt for document in documents for doubt in document.doubts)], owner
    )
    if not found:
        return []
    named = doubts_about_files(config, owner) if config is not None else {}
    others = [
        loader.problem(key, str(one))
        for key, doubts in named.items()
        for one in doubts
        if one not in found
    ]
    return [Problem(one.path, 0, 0, "", f"{one.text}; {one.fix}") for one in found] + others


def _ordered(problems: list[Problem], documents: list[YamlDocument]) -> list[Problem]:
    """Return the problems in file order and without duplicates, as `defaults` apply to each job."""
    order = {document.file: index for index, document in enumerate(documents)}
    first: dict[tuple[str, int, int, str], Problem] = {}
    for problem in problems:
        first.setdefault((problem.file, problem.line, problem.column, problem.text), problem)
    return sorted(
        first.values(),
        key=lambda problem: (order.get(problem.file, 0), problem.line, problem.column),
    )


def _digest(documents: list[YamlDocument]) -> str:
    """Return the digest of the bytes that were read; a file may have been replaced since, or be a
    pipe.
    """
    hasher = hashlib.sha256()
    for document in documents:
        hasher.update(os.fsencode(document.file) + b"\0" + document.content + b"\0")
    return hasher.hexdigest()


def _names_a_file(line: str) -> bool:
    """Return whether the line gives an absolute path, which may be shown.

    No token and no key begins with a slash.
    """
    return line.partition(":")[2].strip().startswith("/")


class ConfigLoader:
    """Joins the documents to one value, and collects every problem on the way."""

    def __init__(self, documents: list[YamlDocument], problems: list[Problem]) -> None:
        self.documents, self.problems = documents, list(problems)
        self._origin: dict[Key, YamlDocument] = {}
        self._suggestions = MAX_SUGGESTIONS
        self.whole = True  # whether the model is all of the configuration

    def validated(self) -> ConfigModel | None:
        """Return the model; with problems, the model of the valid part, or None if that is too
        little.
        """
        value = self._joined()
        self._names(value)
        defaults = value.get("defaults")
        if isinstance(defaults, dict):
            self._unknown(JobModel, defaults, ("defaults",))
            for key in ("repo", "paths"):
                if key in defaults and key == "paths":
                    self.problems.append(
                        self.problem(
                            ("defaults", key),
                            "paths belong to one job; two jobs can't write the same files",
                        )
                    )
        jobs = value.get("jobs")
        if isinstance(jobs, dict):
            value = {
                **value,
                "jobs": {name: self._with_defaults(defaults, job) for name, job in jobs.items()},
            }
        if value.get("github") is None and not _is_agent(value):
            self.whole = False
            self.problems.append(self.problem(("github",), "'github' is required"))
        try:
            model = ConfigModel.model_validate(without_nulls(value))
            return model if self.whole else None
        except ValidationError as error:
            self.whole = False
            details = error.errors(include_url=False)
            self.problems += [self._translated(dict(found)) for found in details]
            part = valid_part(
                without_nulls(value),
                (found["loc"] for found in error.errors(include_url=False, include_input=False)),
            )
        with suppress(ValidationError):
            return None if part is None else ConfigModel.model_validate(part)
        return None

    def problem(self, key: Key, text: str, at_name: bool = False) -> Problem:
        """Return the Problem of a key, at its value or at its name, without a secret's line."""
        document, shown = self._document_of(key)
        place = document.place(key) if self._has(document, key) else document.place(shown)
        if at_name:
            place = document.names.get(key) or document.names.get(shown, place)
        found = document.problem(key, text, place)
        secret = SECRETS & set(key) or (
            key[:1] == ("notify",) and "webhook" in key
        )  # everyone who knows the address can post to it
        return (
            replace(found, source_line="")
            if secret and not _names_a_file(found.source_line)
            else found
        )  # it may be a secret, written there by mistake

    # --- joining ----------------------------------------------------------------------------------

    def _joined(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for document in self.documents:
            for name, item in document.value.items():
                if str(name).startswith("x-"):
                    continue
                if name in ("jobs", "github") and isinstance(item, dict):
                    mine = result.setdefault(name, {})
                    for inner, inner_value in item.items():
                        self._claim((name, inner), document)
                        if isinstance(mine, dict):
                            mine.setdefault(inner, inner_value)
                else:
                    self._claim((name,), document)
                    result.setdefault(name, item)
        return result

    def _claim(self, key: Key, document: YamlDocument) -> None:
        first = self._origin.setdefault(key, document)
        if first is not document:
            self.problems.append(
                document.problem(
                    key,
                    f"'{key[-1]}' is given twice; the first is {first.file}:{first.place(key)[0]}",
                )
            )

    def _document_of(self, key: Key) -> tuple[YamlDocument, Key]:
        """Return the file that has the key; for a value from `defaults`, that key there."""
        document = self._origin.get(key[:2]) or self._origin.get(key[:1]) or self.documents[0]
        if len(key) > 2 and key[0] == "jobs" and not self._has(document, key[:3]):
            from_defaults: Key = ("defaults", *key[2:])
            home = self._origin.get(("defaults",))
            if home is not None and self._has(home, from_defaults[:2]):
                return home, from_defaults
        return document, key

    @staticmethod
    def _has(document: YamlDocument, key: Key) -> bool:
        return key in document.places

    @staticmethod
    def _with_defaults(defaults: Any, job: Any) -> Any:
        if not isinstance(job, dict) or not isinstance(defaults, dict):
            return job
        base = {
            key: value
            for key, value in defaults.items()
            if not (key in EXCLUSIVE and any(name in job for name in EXCLUSIVE))
        }
        return merge(base, job)

    def _names(self, value: Mapping[str, Any]) -> None:
        import re

        for section, what in (("jobs", "job"), ("github", "identity")):
            names = value.get(section)
            for name in names if isinstance(names, dict) else ():
                if not re.fullmatch(NAME_PATTERN, name):
                    self.problems.append(
                        self.problem(
                            (section, name),
                            f"'{name[:40]}' can't name a {what}; use letters, digits, '-', '_'"
                            " and '.'",
                        )
                    )

    # --- pydantic's findings as ours --------------------------------------------------------------

    def _unknown(self, model: type[BaseModel], value: Mapping[str, Any], key: Key) -> None:
        for name in value:
            if name not in _aliases(model):
                self.problems.append(
                    self.problem((*key, name), self._unknown_text(name, model), at_name=True)
                )

    def _unknown_text(self, name: str, model: type[BaseModel] | None) -> str:
        self._suggestions -= 1
        text, name = f"unknown key '{name[:60]}'", name[:60]
        if model is None or self._suggestions < 0:
            return text
        keys = _aliases(model)
        meant = meant_by(name, keys)
        return text + (did_you_mean(name, keys) if meant is None else f"; did you mean '{meant}'?")

    def _translated(self, found: dict[str, Any]) -> Problem:
        key: Key = tuple(found["loc"])
        kind, message = found["type"], found["msg"]
        if kind == "extra_forbidden":
            return self.problem(
                key, self._unknown_text(str(key[-1]), _model_at(key[:-1])), at_name=True
            )
        if kind == "missing":
            return (
                self.problem(key[:-1], f"'{key[-1]}' is required")
                if len(key) > 1
                else self.problem(
                    key,
                    f"'{key[-1]}' is required"
                    + ("; write version: 1" if key[-1] == "version" else ""),
                )
            )
        texts = {
            "dict_type": "the value must be keys and values",
            "model_type": "the value must be keys and values",
            "model_attributes_type": "the value must be keys and values",
            "list_type": "the value must be a list",
            "too_short": "the value must not be empty",
            "string_type": "the value must be text",
        }
        if isinstance(found.get("ctx", {}).get("error"), PasteableMistake):
            return replace(self.problem(key, ""), text=message.removeprefix("Value error, "))
        return self.problem(key, texts.get(kind) or message.removeprefix("Value error, "))


def _is_agent(value: Mapping[str, Any]) -> bool:
    """Return whether the configuration is of an agent, which needs no identity at GitHub."""
    fleet = value.get("fleet")
    return isinstance(fleet, dict) and fleet.get("role") == "agent"


def _aliases(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _model_at(key: Key) -> type[BaseModel] | None:
    """Return the model whose fields are at this key."""
    model: type[BaseModel] = ConfigModel
    if key[:1] in (("jobs",), ("github",)):
        if len(key) < 2:
            return None
        model, key = (JobModel if key[0] == "jobs" else IdentityModel), key[2:]
    elif key[:2] == ("web", "users") and len(key) > 2:
        model, key = WebUserModel, key[3:]
    for part in key:
        if isinstance(part, int):
            continue
        info = next(
            (info for name, info in model.model_fields.items() if part in (name, info.alias)), None
        )
        inner = (
            next(
                (
                    one
                    for one in _types(info.annotation)
                    if isinstance(one, type) and issubclass(one, BaseModel)
                ),
                None,
            )
            if info is not None
            else None
        )
        if inner is None:
            return None
        model = inner
    return model


def _types(annotation: Any) -> list[Any]:
    from typing import get_args

    arguments = get_args(annotation)
    return (
        [annotation]
        if not arguments
        else [one for argument in arguments for one in _types(argument)]
    )
