"""Which files of a configuration folder count, which are named, and which are a mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.config import load
from syncd.config.load import load_config
from syncd.config.yaml_reader import YamlDocument
from syncd.errors import ConfigError

MAIN = "version: 1\ngithub: {ops: {anonymous: true}}\n"


def job(name: str) -> str:
    return (
        f"jobs:\n  {name}:\n    repo: acme/infra\n    every: 5m\n"
        f"    paths: [{{from: {name}/, to: /srv/{name}/}}]\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """conf/ with main.yaml and web.yaml."""
    made = tmp_path / "conf"
    made.mkdir()
    (made / "main.yaml").write_text(MAIN)
    (made / "web.yaml").write_text(job("web"))
    return made


def refusals(folder: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(folder, {"HOME": "/root"})
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_what_editors_packages_and_systems_leave_beside_a_file_is_not_read(folder: Path) -> None:
    before = load_config(folder, {"HOME": "/root"})
    (folder / ".#web.yaml").symlink_to("user@host.1234:5678")
    (folder / "._web.yaml").write_bytes(b"\x00\x05\x16\x07\xff")
    (folder / ".web.yaml.swp").write_bytes(b"b0VIM\xff")
    (folder / ".yaml").write_text("[")
    (folder / ".old.yml").write_text("[")
    (folder / "..2026_11_29").mkdir()
    os.mkfifo(folder / ".pipe.yaml")
    for name in (
        "web.yaml~",
        "#web.yaml#",
        "web.yaml.dpkg-dist",
        "web.yaml.rpmnew",
        "web.yaml.bak",
        "4913",
    ):
        (folder / name).write_text("[")
    after = load_config(folder, {"HOME": "/root"})
    assert after == before and not after.ignored


def test_files_are_read_in_the_order_of_their_names_and_through_links(folder: Path) -> None:
    (folder / "..data").mkdir()
    (folder / "..data/b.yaml").write_text(job("linked"))
    (folder / "10.yaml").symlink_to("..data/b.yaml")
    (folder / "9.yaml").write_text(job("nine"))
    (folder / "Z.yaml").write_text(job("upper"))
    config = load_config(folder, {"HOME": "/root"})
    assert [file.name for file in config.files] == [
        "10.yaml",
        "9.yaml",
        "Z.yaml",
        "main.yaml",
        "web.yaml",
    ]
    assert list(config.jobs) == ["linked", "nine", "upper", "web"]


def test_files_with_another_suffix_are_named_and_not_read(folder: Path) -> None:
    for name in ("jobs.yml", "OLD.YAML", "more.Yml"):
        (folder / name).write_text("[")
    config = load_config(folder, {"HOME": "/root"})
    assert [file.name for file in config.ignored] == ["OLD.YAML", "jobs.yml", "more.Yml"]


def test_a_folder_that_holds_only_another_suffix_says_to_rename_it(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(MAIN)
    (tmp_path / ".config.yaml").write_text(MAIN)
    with pytest.raises(ConfigError, match=r"there is no \*\.yaml in") as caught:
        load_config(tmp_path, {"HOME": "/root"})
    assert "config.yml is ignored" in (caught.value.hint or "")
    assert "rename it" in (caught.value.hint or "")


def test_what_is_called_like_a_file_and_is_none_is_a_mistake_beside_the_others(
    folder: Path,
) -> None:
    (folder / "a.yaml").mkdir()
    os.mkfifo(folder / "b.yaml")
    (folder / "c.yaml").symlink_to("nowhere")
    (folder / "d.yaml").symlink_to("d.yaml")
    (folder / "e.yaml").write_text("jobs: [\n")
    assert refusals(folder) == [
        "a.yaml: is a folder; a configuration file was expected: rename it, or move it away",
        "b.yaml: is no regular file; a configuration file was expected: rename it, or move it away",
        "c.yaml: is a link that leads nowhere; correct it, or remove it",
        "d.yaml: can't be read: Too many levels of symbolic links",
        "e.yaml:2:1: is not YAML: while parsing a flow node, did not find expected node content",
    ]


def test_a_file_that_changes_while_it_is_read_is_judged_and_remembered_as_it_was_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_config(folder, {"HOME": "/root"})
    original = load.read_document

    def lost(path: Path) -> YamlDocument:
        document = original(path)
        path.unlink()
        return document

    monkeypatch.setattr(load, "read_document", lost)
    assert load_config(folder, {"HOME": "/root"}) == expected
