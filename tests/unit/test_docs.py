"""What the documents say and what the program does are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from syncd.cli.main import COMMANDS, LazyGroup, cli
from syncd.config.identity_schema import IdentityModel
from syncd.config.load import load_config
from syncd.config.schema import (
    ConfigModel,
    JobModel,
    LimitsModel,
    LogModel,
    PathModel,
    RequireModel,
    WebhookModel,
    WebModel,
)

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
        set(config.identities) == {"ops", "bot", "me", "public"}
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
        ConfigModel,
        JobModel,
        PathModel,
        LimitsModel,
        RequireModel,
        IdentityModel,
        LogModel,
        WebModel,
        WebhookModel,
    ):
        for name, info in model.model_fields.items():
            key = info.alias or name
            assert re.search(rf"\b{key}\b", example), f"{key} is not in config.example.yaml"


def test_every_command_and_option_is_in_the_commands_page_and_the_reverse() -> None:
    page = (ROOT / "docs/commands.md").read_text()
    assert isinstance(cli, LazyGroup)
    for name in COMMANDS:
        assert f"`syncd {name}" in page, name
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--"):
                    assert option in page, f"{name} {option}"
    for name in re.findall(r"^\| `syncd (\w+)", page, re.MULTILINE):
        assert name in COMMANDS


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


def test_every_exit_code_and_error_kind_is_documented() -> None:
    from syncd import errors

    page = (ROOT / "docs/commands.md").read_text()
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, errors.SyncdError):
            assert f"`{one.kind}`" in page and f"| {one.exit_code} |" in page


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
