"""What the documents say and what the program does are the same."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import click
import pytest
import yaml

from syncd.cli.main import COMMANDS, LazyGroup, cli
from syncd.config.identity_schema import IdentityModel
from syncd.config.load import load_config
from syncd.config.schema import (
    ApplyModel,
    ConfigModel,
    FirstModel,
    FreezeModel,
    HealthModel,
    JobModel,
    LimitsModel,
    LogModel,
    PathModel,
    ReloadModel,
    RequireModel,
    WindowModel,
)
from syncd.config.web_schema import WebhookModel, WebModel, WebUserModel
from syncd.engine.verify import Finding

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_configuration_is_valid_and_says_the_defaults() -> None:
    config = load_config(ROOT / "config.example.yaml", {"HOME": "/root"})
    bare = yaml.safe_load((ROOT / "config.example.yaml").read_text())
    assert list(config.jobs) == ["nginx"] and bare["workers"] == config.workers == 8
    job, model = config.jobs["nginx"], JobModel.model_fields
    for name in (
        "prune",
        "drift",
        "symlinks",
        "submodules",
        "lfs",
        "publish",
        "keep",
        "on_push",
        "dir_mode",
    ):
        assert getattr(job, name) == model[name].default, name


def test_the_lines_of_the_example_have_at_most_100_columns() -> None:
    lines = (ROOT / "config.example.yaml").read_text().splitlines()
    assert [line for line in lines if len(line) > 100] == []


def test_every_line_of_the_example_that_is_commented_out_can_be_taken_as_it_is(
    tmp_path: Path,
) -> None:
    text = (ROOT / "config.example.yaml").read_text()
    taken, count = re.subn(r"^( *)# (?=( *)(- )?[a-z_]+:( |$))", r"\1", text, flags=re.MULTILINE)
    assert count > 15
    (tmp_path / "config.yaml").write_text(taken)
    config = load_config(tmp_path / "config.yaml", {"HOME": "/root"})
    job = config.jobs["nginx"]
    assert (
        set(config.identities) == {"ops", "bot", "me", "public", "fleet"}
        and config.web is not None
        and config.web.webhook is not None
        and len(config.notify) == 1
    )
    assert (
        job.validate is not None
        and job.on_change is not None
        and job.hook_user == "www-data"
        and job.owner == "root:root"
        and job.mode == 0o644
    )


def test_every_key_of_the_schema_is_in_the_example() -> None:
    example = (ROOT / "config.example.yaml").read_text()
    for model in (
        ApplyModel,
        ReloadModel,
        FirstModel,
        WindowModel,
        FreezeModel,
        ConfigModel,
        JobModel,
        PathModel,
        LimitsModel,
        RequireModel,
        HealthModel,
        IdentityModel,
        LogModel,
        WebModel,
        WebhookModel,
        WebUserModel,
    ):
        for name, info in model.model_fields.items():
            key = info.alias or name
            assert re.search(rf"\b{key}\b", example), f"{key} is not in config.example.yaml"


GLOBAL_OPTIONS = {"--config", "--verbose", "--quiet", "--color", "--help"}


def test_every_command_and_option_is_in_the_commands_page_and_the_reverse() -> None:
    page = (ROOT / "docs/commands.md").read_text()
    assert isinstance(cli, LazyGroup)
    for name in COMMANDS:
        assert f"### syncd {name}\n" in page and f"\n    syncd {name}" in page, name
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        section = page.partition(f"### syncd {name}\n")[2].partition("\n##")[0]
        subcommands = command.commands.values() if isinstance(command, click.Group) else []
        for one in (command, *subcommands):
            for parameter in one.params:
                for option in parameter.opts:
                    where = page if option in GLOBAL_OPTIONS else section
                    assert not option.startswith("--") or option in where, f"{name} {option}"
    assert set(re.findall(r"^### syncd (\w+)$", page, re.MULTILINE)) == set(COMMANDS)


def test_every_state_of_an_identity_says_what_to_do() -> None:
    from syncd.github.refusal_texts import FORBIDDEN, UNAUTHORISED

    page = (ROOT / "docs/authentication.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "syncd").rglob("*.py"))
    states = set(re.findall(r'state(?:: str)? ?= ?"(\w+)"', code))
    states |= {known.state for known in (*FORBIDDEN, *UNAUTHORISED)}
    assert {"key", "clock", "suspended", "suspended_user", "login", "refused"} <= states
    for state in states:
        assert f"| `{state}` |" in page, state
    assert states == set(
        re.findall(
            r"^\| `(\w+)` \| (?!required)",
            page.partition("## When GitHub refuses")[2],
            re.MULTILINE,
        )
    )


def _properties(value: object) -> set[str]:
    """Return the names of all properties of a JSON schema, at every depth."""
    if isinstance(value, list):
        return set().union(*map(_properties, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    own = value.get("properties", {})
    return set(own).union(*map(_properties, value.values())) if own or value else set()


def test_every_key_that_the_reference_page_has_a_heading_for_is_a_key_of_the_schema() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    shown = re.findall(r"^### `([a-z_.]+)`$", page, re.MULTILINE)
    keys = _properties(json.loads((ROOT / "docs/config.schema.json").read_text()))
    assert len(shown) > 40 and "no_such_key" not in keys
    assert {part for key in shown for part in key.split(".")} - keys == set()


def _rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of each row of the first table below a heading."""
    section = page.partition(f"\n{heading}\n")[2]
    table = section.partition("\n| ---")[2].partition("\n")[2].partition("\n\n")[0]
    return [line.strip("| ").split(" | ") for line in table.splitlines()]


def test_every_exit_code_and_error_kind_is_documented_and_no_other() -> None:
    from syncd import errors
    from syncd.cli.common import EXIT_BUG, EXIT_INTERRUPTED, EXIT_SOME_FAILED
    from syncd.cli.plan import EXIT_CHANGES

    page = (ROOT / "docs/commands.md").read_text()
    known = [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.SyncdError)
    ]
    codes = {one.exit_code for one in known} - {0}
    codes |= {0, EXIT_BUG, EXIT_INTERRUPTED, EXIT_SOME_FAILED, EXIT_CHANGES}
    assert [int(code) for code, _ in _rows(page, "## Exit codes")] == sorted(codes)
    kinds = {kind.strip("`"): int(code) for kind, code, _ in _rows(page, "### Errors")}
    assert set(kinds) == {one.kind for one in known}
    for one in known:
        if one not in (errors.SyncdError, errors.StoppedError):
            assert kinds[one.kind] == one.exit_code, one


# heading of the page -> the functions that make its JSON
JSON_OF = {
    "### Errors": [("cli/run_output.py", "_job")],
    "### Sync, plan and rollback": [
        ("cli/run_output.py", "as_json"),
        ("cli/run_output.py", "_job"),
        ("cli/run_output.py", "_change"),
    ],
    "### Status": [
        ("status/render.py", name)
        for name in (
            "status_json",
            "job_json",
            "_rate_limit_json",
            "_delivery_json",
            "_webhook_json",
            "_daemon_json",
            "_timer_json",
        )
    ],
    "### Trash": [("cli/trash.py", "_row")],
    "### Verify": [("cli/verify.py", "command"), ("cli/verify.py", "_verify")],
    "### Backup": [("cli/backup.py", "command"), ("cli/backup.py", "_fields")],
}
IN_ANOTHER_SECTION = {"schema", "kind", "id", "message", "hint", "subject", "author"}


def _keys(file: str, function: str) -> set[str]:
    """Return the literal keys of the dictionaries that a function of syncd makes."""
    tree = ast.parse((ROOT / "syncd" / file).read_text())
    (found,) = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    keys = {
        key.value
        for node in ast.walk(found)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    stored = {
        node.slice.value
        for node in ast.walk(found)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
    }
    return keys | {key for key in stored if function == "_job"}


@pytest.mark.parametrize("heading", JSON_OF)
def test_every_json_field_is_documented_and_no_other(heading: str) -> None:
    page = (ROOT / "docs/commands.md").read_text()
    section = page.partition(f"\n{heading}\n")[2].partition("\n##")[0]
    code = set().union(*(_keys(*place) for place in JSON_OF[heading]))
    if heading == "### Errors":
        code &= {"kind", "id", "message", "hint"}
    for key in code - IN_ANOTHER_SECTION if heading != "### Errors" else code:
        assert f"`{key}`" in section, key
    said = re.findall(r"^- ((?:`\w+`(?:, )?)+): ", section, re.MULTILINE)
    finding = set(Finding.__struct_fields__)
    for key in re.findall(r"`(\w+)`", " ".join(said)):
        assert key in code | finding, key


def test_every_test_that_the_documents_name_exists() -> None:
    """A page that promises a test for a hole is believed by somebody: the file has it,
    under that name.
    """
    named = 0
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "SECURITY.md"]:
        for file, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text()):
            named += 1
            assert (ROOT / file).is_file(), f"{page.name}: {file}"
            assert not name or re.search(
                rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE
            ), f"{page.name}: {file}::{name}"
    assert named > 20


def test_every_incident_has_a_test_that_shows_syncd_is_not_in_it() -> None:
    holes = (
        (ROOT / "docs/security.md")
        .read_text()
        .partition("## Known holes of this kind of program")[2]
        .partition("\n## ")[0]
    )
    entries = re.split(r"^### ", holes, flags=re.MULTILINE)[1:]
    assert len(entries) >= 21
    for entry in entries:
        happened, here, tests = re.split(r"^- \*\*", entry, flags=re.MULTILINE)[1:]
        assert happened.startswith("Happened to**: ") and len(happened.split()) > 4, entry
        assert here.startswith("In syncd it would be**: ") and len(here.split()) > 6, entry
        named = re.findall(r"`tests/[\w/]+\.py(::test_\w+)?`", tests)
        assert re.match(r"Tests?\*\*:\s", tests) and any(named), entry
