"""docs/first-job.md and docs/github-app.md: what they show is what the commands print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from syncd.simulator.github import GitHub
from tests.support.sync_env import SyncEnv, sync_env
from tests.support.terminal import Screen

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/first-job.md").read_text()
APP_PAGE = (ROOT / "docs/github-app.md").read_text()
FILES = {
    "nginx/nginx.conf": "worker_processes 1;\n",
    "nginx/conf.d/site.conf": "server { listen 80; }\n",
    "motd": "hello\n",
    "README.md": "x\n",
}
# What differs between two runs, and what the pages and this test write for it.
VARYING = [
    (r"SHA256:\S+", "SHA256:KEY"),
    (r"State: \S+", "State: FOLDER"),
    (r"\b[0-9a-f]{7}\b", "COMMIT"),
    (r"\b\d+\.\d s\b", "N s"),
    (r"\b\d\d:\d\d UTC", "TIME"),
    (r"\b\d+s( ago)?\b *", r"AGE\1 "),
    (r"\bin \dm\b", "in Nm"),
]


def shown_for(page: str, command: str) -> list[str]:
    """Return the output that the page shows for the command, a block for each time."""
    blocks = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [output for typed, output in blocks if typed == command]


def masked(text: str) -> str:
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@dataclass
class FirstJob:
    """The machine of the page: the wizard has written its configuration."""

    hub: SyncEnv
    place: Path
    talk: str

    def output_of(self, *arguments: str) -> str:
        """Return what the command prints, with the paths and the host of the page."""
        done = self.hub.call("-c", str(self.place), *arguments)
        return self.as_shown(done.out + done.err)

    def as_shown(self, text: str) -> str:
        replaced = {
            str(self.place.parent): "/etc/syncd",
            str(self.hub.folder): "",
            f"{self.hub.served.url}/api/v3": "https://api.github.com",
            self.hub.served.url: "github.com",
            self.hub.served.url.removeprefix("http://"): "github.com",
        }
        for found, shown in replaced.items():
            text = text.replace(found, shown)
        # the terminal is narrower for the longer paths of the test
        return re.sub(r"(^  ✓ .*)\n {4}(?=\S)", r"\1 ", text.replace("\r", ""), flags=re.MULTILINE)


@pytest.fixture
def first(tmp_path: Path) -> Iterator[FirstJob]:
    place = tmp_path / "syncd/config.yaml"
    with sync_env(tmp_path / "hub", FILES) as hub:
        hub.github.add_repo("acme/site", {"index.html": "hi\n"})
        place.parent.mkdir()
        (hub.folder / "app.pem").rename(place.parent / "app.pem")
        screen = Screen("-c", str(place), "init", env={"HOME": str(tmp_path)}, columns=250)
        for question, answer in re.findall(
            r"^(\S.*?)(?: \(.*\)| \[.*\])*: (\S+)$", shown_for(PAGE, "syncd init")[0], re.MULTILINE
        ):
            typed = {
                "github.com": hub.served.url,
                "/etc/nginx": f"{hub.folder}/etc/nginx",
                "/etc/syncd/app.pem": f"{place.parent}/app.pem",
            }
            screen.answer(question, typed.get(answer, answer))
        screen.answer("Write this to", "")
        assert screen.end() == 0, screen.shown
        yield FirstJob(hub, place, screen.shown)


def test_the_page_shows_the_questions_of_init_as_they_are(first: FirstJob) -> None:
    shown = masked(shown_for(PAGE, "syncd init")[0])
    assert masked(first.as_shown(first.talk)).startswith(shown)


def test_the_page_shows_what_init_writes(first: FirstJob) -> None:
    block = re.findall(r"^```yaml\n(version: .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    written = yaml.safe_load(first.as_shown(first.place.read_text()))
    assert written["github"]["ops"].pop("api") == "https://api.github.com"
    assert written == yaml.safe_load(block)


def test_the_page_shows_what_the_commands_print(first: FirstJob) -> None:
    for command in ("check --online", "plan", "sync", "status"):
        for shown in shown_for(PAGE, f"syncd {command}"):
            assert masked(first.output_of(*command.split())) == masked(shown), command


def test_both_pages_show_what_a_wrong_path_and_a_readable_key_are_answered(
    first: FirstJob,
) -> None:
    right = first.place.read_text()
    first.place.write_text(right.replace("nginx/,", "ngnix/,"))
    said = masked(first.output_of("check", "--online"))
    assert said.splitlines()[-2:] == [
        masked(line) if line.startswith("✕") else f"    {line}"
        for line in re.findall(r"^    (?:    )?((?:✕|→) .*(?:ngnix|nginx).*)$", PAGE, re.MULTILINE)
    ]
    first.place.write_text(right)
    (first.place.parent / "app.pem").chmod(0o644)
    [mode] = re.findall(r"github\.ops\.private_key: (.*)$", APP_PAGE, re.MULTILINE)
    assert mode in first.output_of("check")


def test_the_page_of_the_app_shows_what_check_prints(first: FirstJob) -> None:
    text = first.place.read_text().replace("infra:\n", "nginx:\n")
    first.place.write_text(re.sub(r" *installation_id: .*\n", "", text))
    [shown] = shown_for(APP_PAGE, "syncd check --online")
    assert masked(first.output_of("check", "--online")) == masked(shown)


def test_the_links_that_create_an_app_ask_for_contents_read_only() -> None:
    links = re.findall(r"https://github\.com/\S*settings/apps/new\?[^\s)]+", APP_PAGE)
    assert [urlsplit(link).path for link in links] == [
        "/settings/apps/new",
        "/organizations/ORGANIZATION/settings/apps/new",
    ]
    for link in links:
        fields = dict(parse_qsl(urlsplit(link).query))
        assert fields.pop("url").startswith("https://github.com")
        assert fields == {
            "description": "syncd reads listed files",
            "public": "false",
            "webhook_active": "false",
            "contents": "read",
            "metadata": "read",
        }


def wrong_id(hub: SyncEnv) -> None:
    hub.identities["ops"]["app_id"] = "99"
    hub.write()


def other_key(hub: SyncEnv) -> None:
    key = Path(hub.identities["ops"]["private_key"])
    key.write_text(GitHub().accounts.add_app(1))
    hub.canary.spared.add(key)


def not_installed(hub: SyncEnv) -> None:
    hub.github.accounts.installations.clear()


def not_selected(hub: SyncEnv) -> None:
    hub.github.accounts.installations[42].repositories = ["site"]


def not_permitted(hub: SyncEnv) -> None:
    hub.github.accounts.installations[42].permissions = {"metadata": "read"}


def suspended(hub: SyncEnv) -> None:
    hub.github.accounts.installations[42].suspended = True


# in the order of the table's rows
CAUSES = [wrong_id, other_key, not_installed, not_selected, not_permitted, suspended]


@pytest.mark.parametrize("row", range(len(CAUSES)))
def test_the_table_of_the_app_page_has_the_line_that_each_cause_gives(
    tmp_path: Path, row: int
) -> None:
    table = APP_PAGE.partition("| line | cause | remedy |\n")[2].partition("\n\n")[0]
    lines = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert len(lines) == len(CAUSES)
    with sync_env(tmp_path) as hub:
        del hub.identities["ops"]["installation_id"]
        hub.write()
        CAUSES[row](hub)
        done = hub.call("check", "--online")
    assert done.code == 4
    shown = re.escape(lines[row]).replace("…", ".*").replace("OWNER/REPO", "acme/infra")
    assert re.search(shown, done.out + done.err)
