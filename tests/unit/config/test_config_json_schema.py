"""The JSON Schema for editors: current, accepting what syncd accepts,
and red where a key or a shape is wrong.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config.json_schema import json_schema, schema_text
from syncd.config.load import load_config
from syncd.config.yaml_reader import read_document
from syncd.errors import ConfigError
from tests.support.json_schema import mistakes

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = json_schema()
WHOLE = """
version: 1
state: /var/lib/other
workers: 4
x-mine: &paths [anything]
log: {format: json, level: debug}
github:
  ops:
    {app_id: 12345, installation_id: 42, private_key: {credential: app.pem},
     api: "https://ghe.example/api/v3", ca_file: /etc/ssl/ghe.pem}
  by-client: {client_id: Iv23li, private_key: /etc/syncd/app.pem}
  bot: {token: {file: /etc/syncd/bot.token}}
  me: {login: {client_id: Iv1.abc}}
  public: {anonymous: true}
defaults: {as: ops, every: 1h30m, limits: {delete: 20, files: 7}, mode: null}
jobs:
  nginx:
    repo: acme/infra
    ref: 2024
    paths:
      - {from: nginx/, to: /etc/nginx/, include: ["*.conf"], exclude: ["*.md"],
         mode: "0644", owner: "root:root", dir_mode: "0750"}
    cron: "15 3 * * mon-fri"
    every: null
    jitter: 30s
    prune: "off"
    validate: {check: [json, yaml]}
    on_change: [systemctl, reload, nginx]
    limits: {delete: 50%, size: 1GiB}
  other: {repo: acme/other, paths: [{from: a, to: /srv/a}], validate: nginx -t,
          on_change: {shell: "a | b"}, keep: 3}
web:
  {listen: "127.0.0.1:8480", password: {credential: web},
   webhook: {path: /github, secret: {credential: hook}}}
notify: [{webhook: {env: HOOK_URL}, when: [failed, drift]}, {webhook: /etc/syncd/hook}]
"""


def wrong(value: Any) -> list[str]:
    return list(mistakes(value, SCHEMA))


def test_the_file_in_the_documents_is_what_the_models_say() -> None:
    assert (ROOT / "docs/config.schema.json").read_text() == schema_text(), (
        "write it anew: python -c 'from syncd.config.json_schema import schema_text; "
        'print(schema_text(), end="")\' > docs/config.schema.json'
    )


@pytest.mark.parametrize(
    "text", [(ROOT / "config.example.yaml").read_text(), WHOLE], ids=["the example", "every key"]
)
def test_a_good_configuration_is_accepted_as_syncd_reads_it_and_as_an_editor_does(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert wrong(yaml.safe_load(text)) == []
    assert wrong(read_document(file).value) == []


def test_the_defaults_it_tells_are_the_ones_that_are_used() -> None:
    for shape in (SCHEMA, *SCHEMA["$defs"].values()):
        for name, one in shape["properties"].items():
            if "default" in one:
                assert list(mistakes(one["default"], one, SCHEMA)) == [], name


WRONG: dict[str, tuple[tuple[Any, ...], Any]] = {
    "an unknown key at the top": (("workerz",), 3),
    "an unknown key of a job": (("jobs", "nginx", "evry"), "5m"),
    "an unknown key of a path": (("jobs", "nginx", "paths", 0, "inclde"), []),
    "an unknown key of the limits": (("jobs", "nginx", "limits", "deletes"), 5),
    "an unknown key of an identity": (("github", "ops", "private_kee"), "/x"),
    "paths in the defaults": (("defaults", "paths"), []),
    "no duration": (("jobs", "nginx", "timeout"), "5 parsecs"),
    "a bare number of time": (("jobs", "nginx", "timeout"), 300),
    "too many workers": (("workers",), 257),
    "a mode as a number": (("jobs", "nginx", "mode"), 644),
    "a mode beyond permissions": (("jobs", "nginx", "mode"), "4755"),
    "an unknown policy": (("jobs", "nginx", "drift"), "repor"),
    "a flag in words": (("jobs", "nginx", "on_push"), "yes"),
    "a share over 100": (("jobs", "nginx", "limits", "delete"), "150%"),
    "no paths": (("jobs", "nginx", "paths"), []),
    "a secret of two kinds": (("github", "ops", "private_key"), {"file": "/a", "env": "B"}),
    "a relative secret": (("github", "ops", "private_key"), "app.pem"),
    "an unknown check": (("jobs", "nginx", "validate"), {"check": ["ini"]}),
    "an empty hook": (("jobs", "nginx", "on_change"), []),
    "a job's name": (("jobs", "ng inx"), {"paths": [{"from": "a", "to": "/a"}]}),
    "another version": (("version",), 2),
    "jobs as a list": (("jobs",), [1]),
    "no jobs": (("jobs",), {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_by_itself_is_red_in_an_editor(name: str) -> None:
    value = yaml.safe_load(WHOLE)
    *above, last = WRONG[name][0]
    holder = value
    for key in above:
        holder = holder[key]
    holder[last] = WRONG[name][1]
    assert wrong(value)


KNOWN = [
    "",
    "0",
    "1",
    "5m",
    "/srv/x",
    "/srv/x/",
    "a/b",
    "50%",
    "20",
    "0644",
    "00644",
    "644",
    "true",
    "off",
    "UTC",
    "4096",
    "1 GiB",
]
scalars = st.one_of(st.none(), st.booleans(), st.text(max_size=10), st.sampled_from(KNOWN))
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def spots(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [at] if at else []
    for key, item in (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    ):
        found += spots(item, (*at, key))
    return found


@settings(max_examples=200)
@given(st.integers(0, 10_000), anything)
def test_whatever_syncd_accepts_the_schema_accepts(tmp_path: Path, where: int, value: Any) -> None:
    changed = copy.deepcopy(yaml.safe_load((ROOT / "config.example.yaml").read_text()))
    places = spots(changed)
    *above, last = places[where % len(places)]
    holder = changed
    for key in above:
        holder = holder[key]
    holder[last] = value
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(changed), errors="surrogatepass")
    try:
        load_config(file, {"HOME": str(tmp_path)})
    except ConfigError:
        return
    assert wrong(read_document(file).value) == []
