"""Links of the documentation lead somewhere, its configurations load, its commands exist."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import click
import pytest
import yaml

from syncd.cli.main import COMMANDS, cli
from syncd.config.load import load_config
from tests.support.prose import ROOT, pages

pytestmark = pytest.mark.docs

PAGES = {**pages(), "CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text()}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks of the languages."""
    return [textwrap.dedent(found[3]) for found in FENCE.finditer(text) if found[2] in languages]


# --- links ----------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub makes them."""
    found: dict[str, int] = {}
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#+ +(.*?)(?: +#+)?$", FENCE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return names


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page that lead to no file, or to no heading of it."""
    bare = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))
    targets = re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", bare)
    targets += re.findall(r"^\[[^\]]+\]: +(\S+)$", bare, re.MULTILINE)
    targets += re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", bare)
    found = []
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        is_there = file.exists()
        if is_there and anchor and file.suffix == ".md":
            is_there = anchor in anchors(file.read_text() if name else text)
        if not is_there:
            found.append(target)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_every_relative_link_leads_to_a_file_and_a_heading(name: str) -> None:
    assert broken_links(ROOT / name, PAGES[name]) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# The `b`, of c\n\n## Twice\n## Twice\n")
    text = (
        "# Own\n[1](b.md) [2](b.md#the-b-of-c) [3](#own) [4](https://x.test/#y) [5](b.md#twice-1)\n"
        "[6](c.md) [7](b.md#twice-2) [8](#none) `[9](d.md)`\n\n```\n[10](e.md)\n```\n"
        '<img src="f.svg">\n'
    )
    page = tmp_path / "a.md"
    page.write_text(text)
    assert broken_links(page, text) == ["c.md", "b.md#twice-2", "#none", "f.svg"]


def test_the_list_of_decisions_has_each_record_with_its_title() -> None:
    listed = re.findall(
        r"^\| \[([^\]]+)\]\((\d{4}-[\w-]+\.md)\) \|",
        PAGES["docs/decisions/README.md"],
        re.MULTILINE,
    )
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    titles = [path.read_text().split("\n")[0] for path in records]
    shown = [title.removeprefix("# ").removesuffix(" (superseded)") for title in titles]
    assert listed == [(title, path.name) for title, path in zip(shown, records, strict=True)]
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(1, len(numbers) + 1)), "two records have one number"


PAGES_OF_GIT_LFS = {"docs/spec.md", "docs/api/batch.md", "docs/api/server-discovery.md"}


def test_code_and_packaging_refer_to_pages_that_exist() -> None:
    """A page that moved is found by its name in a message, a unit, a comment or a test."""
    missing = []
    for folder in ("syncd", "tests", "packaging", "systemd", "migrations", "benchmarks", ".ci"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".db"):
                text = path.read_text(errors="replace")
                for name in re.findall(r"\bdocs/[\w/.-]+\.(?:md|svg|json|yml)\b", text):
                    is_there = (ROOT / name).is_file() or name in PAGES_OF_GIT_LFS
                    missing += [] if is_there else [f"{path.name}: {name}"]
    assert missing == []


# --- configurations -------------------------------------------------------------------------------

CONFIGURATIONS = [
    (name, block)
    for name, text in PAGES.items()
    for block in blocks(text, "yaml")
    if re.search(r"^(version|jobs|github|web|notify):", block, re.MULTILINE)
    and "job_name:" not in block
]
JOB = {
    "repo": "acme/infra",
    "every": "5m",
    "as": "public",
    "paths": [{"from": "nginx/", "to": "/etc/nginx/"}],
}


@pytest.mark.parametrize(("name", "block"), CONFIGURATIONS)
def test_every_configuration_of_the_pages_loads(name: str, block: str, tmp_path: Path) -> None:
    """A block with a key of the top is a configuration; keys that it needs are added to one that
    has no `version:`, because it shows a part.
    """
    shown = yaml.safe_load(block)
    if "version" not in shown:
        shown = {"version": 1, **shown}
        shown["github"] = {"public": {"anonymous": True}, **shown.get("github", {})}
        shown["jobs"] = {
            job: {**JOB, **keys} for job, keys in shown.get("jobs", {"nginx": {}}).items()
        }
        block = yaml.safe_dump(shown, sort_keys=False)
    (tmp_path / "config.yaml").write_text(block)
    config = load_config(tmp_path / "config.yaml", {"HOME": "/root"})
    assert list(config.jobs or config.polled_jobs) == list(shown["jobs"])


def test_every_yaml_block_is_yaml() -> None:
    count = 0
    for name, text in PAGES.items():
        for block in blocks(text, "yaml", "yml"):
            count += 1
            assert yaml.safe_load(block) is not None, name
    assert count > 10


# --- commands -------------------------------------------------------------------------------------

SUDO = re.compile(r"\bsudo +(?:-[ug] +\S+ +|-[a-zA-Z]+ +)*")
CALL = re.compile(
    r"(?:^|[;&|(] *|\$ |\bexec |/bin/|=)syncd((?: +-[cvq]+(?: +[^\s-]\S*)?| +--?[a-z]\S*)*)"
    r" +([a-z]+)\b([^`\n;&|]*)"
)


def code(text: str) -> list[str]:
    """Return the lines of a page that are for a shell: of blocks, and code within a line.

    Of a block with prompts only the lines with a prompt are typed.
    """
    lines: list[str] = []
    for block in blocks(text, "console", "sh", "bash", ""):
        typed = block.replace("\\\n", " ").splitlines()
        prompts = [line[2:] for line in typed if line.startswith("$ ")]
        lines += prompts or typed
    bare = FENCE.sub("", text)
    lines += re.findall(r"^ {4,}(?:\$ )?((?:sudo .*)?syncd .*)$", bare, re.MULTILINE)
    lines += re.findall(r"`((?:sudo [^`\n]*)?syncd [^`\n]+)`", bare)
    return [SUDO.sub("", line.strip()).partition("  #")[0] for line in lines]


def options_of(name: str) -> set[str]:
    """Return the options of a command and of its sub-commands."""
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    every = [command, *(command.commands.values() if isinstance(command, click.Group) else [])]
    found = {
        option
        for one in every
        for parameter in [*one.params, *cli.params]
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    return {*found, "--help", "-h"}


def wrong_calls(text: str) -> list[str]:
    """Return what a page calls syncd with, and what syncd does not know."""
    found = []
    for line in code(text):
        for call in CALL.finditer(line):
            name = call[2]
            if name not in COMMANDS:
                found.append(f"syncd {name}")
                continue
            used = re.findall(r"(?<![\w-])--[a-z][\w-]*", re.sub(r" -- .*|#.*", "", call[3]))
            found += [f"{name} {one}" for one in used if one not in options_of(name)]
    return found


@pytest.mark.parametrize("name", [name for name in PAGES if name != "CHANGELOG.md"])
def test_every_command_of_the_pages_exists_with_its_options(name: str) -> None:
    assert wrong_calls(PAGES[name]) == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("    syncd sync nginx --ref main", []),
        ("    sudo -u syncd syncd plan", []),
        ("    $ syncd snyc", ["syncd snyc"]),
        ("`syncd plan --diff --no-such`", ["plan --no-such"]),
        ("```console\nsyncd -c x.yaml sync --josn\n```", ["sync --josn"]),
        ("```console\nsudo syncd check && syncd snc -v\n```", ["syncd snc"]),
        ("`syncd trash restore ID --to FILE`", []),
        ("    $ sudo -u syncd syncd status --wach", ["status --wach"]),
        ("```\n$ syncd status\nsyncd does not run\n```", []),
        ("syncd writes in prose", []),
    ],
)
def test_a_wrong_command_is_found(line: str, wrong: list[str]) -> None:
    assert wrong_calls(line) == wrong
