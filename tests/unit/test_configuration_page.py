"""docs/configuration.md has an entry for each key of the schema and no other, with its default.

An entry is a heading with the key, and below it a line `**Type:** ... **Default:** ...`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from syncd.config import fleet_schema, identity_schema, schema, web_schema
from syncd.config.strict_model import Strict

pytestmark = pytest.mark.docs

PAGE = (Path(__file__).resolve().parents[2] / "docs/configuration.md").read_text()

# section of the page -> what is written before a key there, and the model that has it
SECTIONS: dict[str, dict[str, type[BaseModel]]] = {
    "Top level": {
        "": schema.ConfigModel,
        "log.": schema.LogModel,
        "trash.": schema.TrashModel,
    },
    "Identities: `github`": {
        "": identity_schema.IdentityModel,
        "login.": identity_schema.LoginModel,
    },
    "Keys of a job": {
        "": schema.JobModel,
        "limits.": schema.LimitsModel,
        "health.": schema.HealthModel,
        "require.": schema.RequireModel,
        "apply.": schema.ApplyModel,
        "reload.": schema.ReloadModel,
        "first.": schema.FirstModel,
        "apply.windows.": schema.WindowModel,
        "apply.freeze.": schema.FreezeModel,
        "report.": schema.ReportModel,
        "rollout.": fleet_schema.RolloutModel,
    },
    "Keys of a path": {"": schema.PathModel},
    "The listener: `web`": {
        "web.": web_schema.WebModel,
        "web.users.NAME.": web_schema.WebUserModel,
        "web.webhook.": web_schema.WebhookModel,
    },
    "The fleet: `fleet`": {"fleet.": fleet_schema.FleetModel},
    "Notifications: `notify`": {"notify.": schema.NotifyModel},
}
ENTRY = re.compile(
    r"^### (?P<keys>.*`.*)\n\n\*\*Type:\*\* .+ \*\*Default:\*\* (.+)\.$", re.MULTILINE
)
WITHOUT_VALUE = (None, (), [], {})


def entries(section: str) -> dict[str, str]:
    """Return key -> default, of one section."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = {
        key: match[2] for match in ENTRY.finditer(text) for key in re.findall("`(.+?)`", match[1])
    }
    headings = re.findall(r"^### .*`.*", text, re.MULTILINE)
    assert len(headings) == len(ENTRY.findall(text)), f"{section}: a heading without Type, Default"
    return found


def fields(section: str) -> dict[str, FieldInfo]:
    return {
        f"{prefix}{info.alias or name}": info
        for prefix, model in SECTIONS[section].items()
        for name, info in model.model_fields.items()
    }


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_every_key_and_no_other(section: str) -> None:
    assert sorted(entries(section)) == sorted(fields(section))


def test_the_models_of_the_page_are_those_of_the_schema() -> None:
    checked = {model for models in SECTIONS.values() for model in models.values()}
    assert checked == {
        one
        for one in (
            vars(schema) | vars(identity_schema) | vars(web_schema) | vars(fleet_schema)
        ).values()
        if isinstance(one, type) and issubclass(one, Strict) and one is not Strict
    }


@pytest.mark.parametrize(
    ("section", "key"), [(section, key) for section in SECTIONS for key in fields(section)]
)
def test_the_page_has_the_default_of_the_key(section: str, key: str) -> None:
    info, text = fields(section)[key], entries(section)[key]
    written = re.fullmatch("`([^`]+)`", text)
    if written is not None:
        assert read(info, written[1]) == info.default
    elif text == "see its keys":
        assert isinstance(info.default, Strict)
    elif text == "all four":
        assert info.default == ["validate", "hook", "health", "drift"]
    elif text == "`failed`, `recovered` and `drift`":
        assert info.default == ["failed", "recovered", "drift"]
    else:
        assert info.is_required() == (text == "required")
        assert info.is_required() or info.get_default(call_default_factory=True) in WITHOUT_VALUE


def read(info: FieldInfo, text: str) -> Any:
    """Return the value of a text of the configuration."""
    value = yaml.safe_load(text) if text in ("true", "false") else text
    adapter: TypeAdapter[Any] = TypeAdapter(Annotated[info.annotation, *info.metadata])
    return adapter.validate_python(value)


def test_the_first_example_loads(tmp_path: Path) -> None:
    from syncd.config.load import load_config

    [text] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "config.yaml").write_text(text)
    assert list(load_config(tmp_path / "config.yaml", {"HOME": "/root"}).jobs) == ["nginx"]
