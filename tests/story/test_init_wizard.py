"""`syncd init` on a terminal: every answer is checked with GitHub before the next question."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from syncd.simulator import faults
from tests.story.test_tls import served
from tests.support.sync_env import SyncEnv, sync_env, tree_of
from tests.support.terminal import Screen

FILES = {
    "nginx/nginx.conf": "one\n",
    "nginx/sites/a.conf": "a\n",
    "certs/public.pem": "p\n",
    "motd": "hello\n",
    "evil\x1b[31m\u202ename": "x",
}
HOST, KIND, APP = "GitHub host", "Sign in as", "App id or client id"
KEY, TOKEN, CLIENT = "File with its private key", "File with the token", "Client id of the"
ACCOUNT, REPO, REF, WHAT = "Account", "Repository", "Branch, tag or commit", "What to mirror"
WHERE, EVERY, COMMAND, WRITE = "Where to", "How often", "Command after a change", "Write this to"
NOBODY = 65534
AGAIN, ANYWAY, DONE = "Now", "Use it anyway", "Press Enter when that is done"

Start = Callable[..., Screen]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path / "hub", FILES) as made:
        made.github.add_repo("acme/site", {"index.html": "hi\n"})
        made.canary.spared.add(tmp_path / "hub/token")
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the wizard writes to."""
    return tmp_path / "new/config.yaml"


@pytest.fixture
def start(tmp_path: Path, place: Path) -> Iterator[Start]:
    started: list[Screen] = []

    # so wide that no path of a test is folded
    def begin(columns: int = 250, where: Path = place) -> Screen:
        screen = Screen(
            "-c", str(where), "init", env={"HOME": str(tmp_path / "home")}, columns=columns
        )
        started.append(screen)
        return screen

    yield begin
    for screen in started:
        screen.kill()


def as_app(screen: Screen, hub: SyncEnv) -> str:
    """Answer as the App, up to its key; return what GitHub was found to say."""
    screen.answer(HOST, hub.served.url)
    screen.answer(KIND, "app")
    screen.answer(APP, "12345")
    return screen.answer(KEY, f"{hub.folder}/app.pem")


def finish(screen: Screen, to: str) -> str:
    """Answer the questions about this machine, and write; return the last screen."""
    screen.answer(WHERE, to)
    screen.answer(EVERY, "")
    screen.answer(COMMAND, "")
    screen.answer(WRITE, "")
    assert screen.end() == 0, screen.shown
    return screen.shown


def loaded(place: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(place.read_text())
    return found


def test_init_plan_and_sync_lead_from_a_key_to_the_mirrored_files(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    screen = start()
    said = as_app(screen, hub)
    assert "✓ the App is acme-ops (12345), owned by acme" in said
    assert "✓ installation 42 on acme: all repositories" in said
    assert "Repositories of acme (2): 1 acme/infra 2 acme/site" in said
    assert "✓ acme/infra, private" in screen.answer(REPO, "1")
    assert f"✓ main is at {hub.repo.head()[:7]}" in screen.answer(REF, "")
    assert "✓ nginx/: the folder and all below it" in screen.answer(WHAT, "2")
    shown = finish(screen, f"{tmp_path}/etc/nginx")
    mode = place.stat().st_mode & 0o777
    assert mode == (0o644 if os.geteuid() == 0 else 0o600)
    assert shown.endswith(
        f"wrote {place} ({mode:04o})\nnext:\n"
        f"  syncd -c {place} plan   # what a sync would do; nothing is written\n"
        f"  syncd -c {place} sync\n"
    )
    assert loaded(place) == {
        "version": 1,
        "github": {
            "ops": {
                "app_id": 12345,
                "installation_id": 42,
                "private_key": {"file": f"{hub.folder}/app.pem"},
                "api": f"{hub.served.url}/api/v3",
            }
        },
        "jobs": {
            "infra": {
                "repo": "acme/infra",
                "ref": "main",
                "paths": [{"from": "nginx/", "to": f"{tmp_path}/etc/nginx/"}],
                "every": "5m",
            }
        },
    }
    for command in ("plan", "sync"):
        run = Screen("-c", str(place), command, env={"HOME": str(tmp_path / "home")})
        assert run.end() == 0, run.shown
    assert tree_of(tmp_path / "etc") == {
        "nginx/nginx.conf": b"one\n",
        "nginx/sites/a.conf": b"a\n",
    }


# question -> (wrong answer, what is said of it), in the order in which they are asked
BROKEN_ANSWERS: list[tuple[str, str, str]] = [
    (HOST, "git hub", "✕ 'git hub' is not a host; write it like github.com or github.example.com"),
    (
        HOST,
        "http://ghe.example.com",
        "✕ 'http://ghe.example.com/api/v3' would send credentials in the clear; use https (http is"
        " for loopback only)",
    ),
    (HOST, "{url}", ""),
    (KIND, "aap", "✕ 'aap' is not one of app, token, login, public; did you mean 'app'?"),
    (KIND, "", ""),
    (
        APP,
        "abc",
        "✕ 'abc' is no App id, which is a number like 12345, and no client id, which looks like"
        " Iv23liAbCdEfGhIjKlMn → both are on the App's page: GitHub → Settings → Developer"
        " settings → GitHub Apps → the App",
    ),
    (
        APP,
        "Ov23liAbCdEf",
        "✕ 'Ov23liAbCdEf' is the client id of an OAuth app, which has no private key → go back (<)"
        " and choose login",
    ),
    (APP, "99", ""),
    (KEY, "{hub}/ap.pem", "✕ there is no file {hub}/ap.pem; did you mean '{hub}/app.pem'?"),
    (KEY, "{hub}", "✕ {hub} is a folder; did you mean '{hub}/app.pem'?"),
    (
        KEY,
        "{hub}/keys/open",
        "✕ {hub}/keys/open can be read by others (mode 0644) → chmod 600 {hub}/keys/open",
    ),
    (
        KEY,
        "{hub}/keys/public",
        "✕ this is a public key or a certificate; the private key is needed → download a private"
        " key in the App's settings, and give that file as it is",
    ),
    (
        KEY,
        "{hub}/app.pem",
        (
            "✕ GitHub answered 404 to the request for the App itself (Integration not found) → "
            "this host knows no such App: check app_id or client_id, that private_key is that "
            "App's, and the host in api: App id or client id [99]: "
        ),
    ),
    (APP, "12345", ""),
    (KEY, "", "✓ the App is acme-ops (12345), owned by acme"),
    (REPO, "acme/infar", "did you mean 'acme/infra'?"),
    (REPO, "zzz", "✕ 'zzz' is not in the list"),
    (REPO, "INFRA", "✓ acme/infra, private"),
    (REF, "v1 x", "✕ 'v1 x' is not a ref; write a branch, a tag, a full commit id or refs/..."),
    (REF, "mian", "✕ there is no branch, tag or commit 'mian' in acme/infra"),
    (REF, "main", "✓ main is at"),
    (WHAT, "ngnix/", "✕ there is no 'ngnix/' in acme/infra at main; did you mean 'nginx/'?"),
    (
        WHAT,
        "nginx/site/",
        "✕ there is no 'nginx/site/' in acme/infra at main; did you mean 'nginx/sites/'?",
    ),
    (WHAT, "../x", "✕ '../x' must be a plain path: no empty part, no . and no .."),
    (WHAT, "nginx/sites", "✓ nginx/sites/: the folder and all below it"),
    (WHERE, "<", ""),
    (WHAT, "motd/", "✓ motd: one file"),
    (WHERE, "<", ""),
    (WHAT, "nginx", "✓ nginx/: the folder and all below it"),
    (WHERE, "etc/nginx", "✕ 'etc/nginx' must be an absolute path"),
    (WHERE, "/", "✕ '/' would make the whole machine the mirror; name a folder of its own"),
    (
        WHERE,
        "/etc/syncd/keys",
        "✕ '/etc/syncd/keys' is syncd's configuration (/etc/syncd); a mirror must not write there",
    ),
    (WHERE, "{new}", "→ name a folder below it, which holds nothing of syncd"),
    (WHERE, "{new}/../dest", "must be a plain path: no empty part, no . and no .."),
    (WHERE, "{hub}/dest", "✓ {hub}/dest/ exists and is empty"),
    (EVERY, "5 parsecs", "✕ '5 parsecs' is not a duration; write it like 30s, 5m, 1h30m or 1d"),
    (EVERY, "1h30m", ""),
    (
        COMMAND,
        "nosuchcmd reload",
        "! there is no command 'nosuchcmd' in"
        " /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin → install it, or write its"
        " whole path; a hook has this PATH, whatever yours is",
    ),
    (ANYWAY, "maybe", "✕ 'maybe' is neither yes nor no"),
    (ANYWAY, "n", "✕ type another command, or none"),
    (COMMAND, "true && false", "! only a shell understands all of this"),
    ("Run it with /bin/sh", "n", "✕ type one command with its arguments"),
    (COMMAND, "true", "on_change: true"),
]


def test_each_broken_answer_is_named_and_asked_again(
    hub: SyncEnv, start: Start, place: Path
) -> None:
    key = (hub.folder / "app.pem").read_text()
    (hub.folder / "keys").mkdir()
    (hub.folder / "keys/open").write_text(key)
    (hub.folder / "keys/open").chmod(0o644)
    (hub.folder / "keys/public").write_text("-----BEGIN PUBLIC KEY-----\n")
    (hub.folder / "keys/public").chmod(0o600)
    hub.canary.spared |= {hub.folder / "keys/open"}
    facts = {"url": hub.served.url, "hub": str(hub.folder), "new": str(place.parent)}
    screen = start(columns=100)
    missed = []
    for question, text, said in BROKEN_ANSWERS:
        shown = screen.answer(question, text.format(**facts))
        if said.format(**facts) not in shown:
            missed.append((text, said, shown))
    assert missed == []
    screen.answer(WRITE, "yes")
    assert screen.end() == 0
    assert loaded(place)["jobs"]["infra"]["on_change"] is True  # type: ignore[index]


def test_back_leads_to_the_question_before_with_its_answer_in_brackets(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    screen = start()
    assert "this is the first question" in screen.answer(HOST, "<")
    as_app(screen, hub)
    screen.answer(REPO, "site")
    assert f"{KEY} [{hub.folder}/app.pem]" in screen.answer(
        REF,
        "<",
    ) + screen.answer(REPO, "back")
    screen.answer(KEY, "")
    screen.answer(REPO, "infra")
    screen.answer(REF, "")
    screen.answer(WHAT, "motd")
    assert "How often" in screen.answer(WHERE, f"{tmp_path}/one/")
    screen.answer(EVERY, "<")
    screen.answer(WHERE, "<")
    assert "[motd]" in screen.shown[-200:]
    screen.answer(WHAT, "nginx/")
    finish(screen, f"{tmp_path}/two")
    job = loaded(place)["jobs"]["infra"]  # type: ignore[index]
    assert job["paths"] == [{"from": "nginx/", "to": f"{tmp_path}/two/"}]


def test_a_file_gets_its_own_name_in_the_folder_that_is_given(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    screen = start()
    as_app(screen, hub)
    screen.answer(REPO, "infra")
    screen.answer(REF, "")
    assert "✓ certs/public.pem: one file" in screen.answer(WHAT, "certs/public.pem")
    finish(screen, f"{tmp_path}/ssl/")
    job = loaded(place)["jobs"]["infra"]  # type: ignore[index]
    assert job["paths"] == [{"from": "certs/public.pem", "to": f"{tmp_path}/ssl/public.pem"}]


@pytest.mark.parametrize("question", [HOST, KIND, KEY, REPO, WHERE, WRITE])
def test_ctrl_c_leaves_nothing(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path, question: str
) -> None:
    screen = start()
    answers = {
        HOST: hub.served.url,
        KIND: "",
        APP: "12345",
        KEY: f"{hub.folder}/app.pem",
        REPO: "infra",
        REF: "",
        WHAT: "nginx/",
        WHERE: f"{tmp_path}/etc",
        EVERY: "",
        COMMAND: "",
    }
    for asked, text in answers.items():
        if asked == question:
            break
        screen.answer(asked, text)
    screen.interrupt(question)
    assert screen.end() == 130
    assert "nothing was written" in screen.shown and "Traceback" not in screen.shown
    assert not place.parent.exists() and not (tmp_path / "home").exists()
    assert {value.revoked for value in hub.github.accounts.credentials.values()} <= {True}


def test_no_to_the_last_question_writes_nothing(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    screen = start()
    as_app(screen, hub)
    screen.answer(REPO, "infra")
    screen.answer(REF, "")
    screen.answer(WHAT, "/")
    screen.answer(WHERE, f"{tmp_path}/all")
    screen.answer(EVERY, "15 3 * * mon-fri")
    assert 'cron: "15 3 * * mon-fri"' in screen.answer(COMMAND, "none")
    screen.answer(WRITE, "no")
    assert screen.end() == 1 and "nothing was written" in screen.shown
    assert not place.parent.exists()


def test_an_existing_file_stays_and_the_command_for_it_is_named(start: Start, place: Path) -> None:
    place.parent.mkdir()
    place.write_text("mine")
    screen = start()
    assert screen.end() == 2 and place.read_text() == "mine"
    assert flat_lines(screen) == [
        f"syncd: {place} is there already, and stays as it is",
        f"edit it, then: syncd -c {place} check; or name another file: syncd -c FILE init",
    ]


def flat_lines(screen: Screen) -> list[str]:
    return [line.strip() for line in screen.shown.splitlines()]


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_is_told_what_only_root_may_do_and_gets_a_private_file(hub: SyncEnv) -> None:
    home = Path(tempfile.mkdtemp(prefix="syncd-init-"))
    home.chmod(0o755)
    try:
        refused = Screen("-c", "/etc/syncd-x/c.yaml", "init", env={"HOME": str(home)}, uid=NOBODY)
        assert refused.end() == 2 and "/etc/syncd-x/c.yaml can't be written" in refused.shown
        assert HOST not in refused.shown
        shutil.copy2(hub.folder / "app.pem", home / "app.pem")
        for file in (home, home / "app.pem"):
            os.chown(file, NOBODY, NOBODY)
        screen = Screen("init", env={"HOME": str(home)}, uid=NOBODY)
        screen.answer(HOST, hub.served.url)
        screen.answer(KIND, "app")
        screen.answer(APP, "12345")
        assert "✓ an RSA key" in screen.answer(KEY, "~/app.pem")
        screen.answer(REPO, "infra")
        screen.answer(REF, "")
        screen.answer(WHAT, "nginx")
        said = screen.answer(WHERE, "/etc/acme-x")
        assert "! /etc can't be written to" in said and "run: sudo syncd init" in said
        screen.answer(ANYWAY, "n")
        shown = finish(screen, f"{home}/etc")
        place = home / ".config/syncd/config.yaml"
        assert place.stat().st_mode & 0o777 == 0o600 and f"wrote {place} (0600)" in shown
        assert shown.endswith("  syncd sync\n")
    finally:
        shutil.rmtree(home)


def test_ctrl_c_ends_a_question_that_github_does_not_answer(
    hub: SyncEnv, start: Start, place: Path
) -> None:
    hub.github.add_fault("app", faults.hang(30), times=1)
    screen = start()
    screen.answer(HOST, hub.served.url)
    screen.answer(KIND, "")
    screen.answer(APP, "12345")
    screen.type(KEY, f"{hub.folder}/app.pem")
    screen.wait_for(f"asking {hub.served.url.removeprefix('http://')} ...")
    screen.press_ctrl_c()
    assert screen.end() == 130 and "nothing was written" in screen.shown
    assert not place.parent.exists()


def test_names_of_a_repository_are_shown_as_text_and_a_hostile_one_is_not_taken(
    hub: SyncEnv, start: Start
) -> None:
    screen = start()
    as_app(screen, hub)
    screen.answer(REPO, "infra")
    assert "3 evil\\x1b[31m\\u202ename" in screen.answer(REF, "")
    assert b"\x1b[31mname" not in screen.raw and "\u202e" not in screen.shown
    said = screen.answer(WHAT, "3")
    assert "✕ 'evil\\x1b[31m\\u202ename' has a character in it that no configuration" in said
    assert b"\x1b[31mname" not in screen.raw and "\u202e" not in screen.shown


def test_names_of_repositories_and_apps_are_shown_as_text(hub: SyncEnv, start: Start) -> None:
    hub.github.accounts.apps["12345"].slug = "acme\x1b]0;title\x07-ops"
    hub.github.add_repo("acme/x\x1b[2Jy", {"a": "1"})
    screen = start()
    said = as_app(screen, hub)
    assert b"\x1b]0" not in screen.raw and b"\x1b[2J" not in screen.raw
    assert "acme/x" in said and "(3)" in said


def test_an_enterprise_server_of_a_private_authority_is_asked_for_its_ca_file(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    with served(hub.github, authority.issue_cert("localhost")) as address:
        host = address.removeprefix("https://")
        screen = start()
        assert f"✓ its API is {address}/api/v3" in screen.answer(HOST, host)
        screen.answer(KIND, "app")
        screen.answer(APP, "Iv23li12345")
        said = screen.answer(KEY, f"{hub.folder}/app.pem")
        assert "its certificate can't be trusted" in said
        authority_of = f"File with the certificate authority of {host}"
        assert "can't be read" in screen.answer(authority_of, "/nowhere.pem")
        assert "✓ the App is acme-ops (12345)" in screen.answer(authority_of, str(file))
        screen.answer(REPO, "infra")
        screen.answer(REF, "")
        screen.answer(WHAT, "motd")
        finish(screen, f"{tmp_path}/motd")
    assert loaded(place)["github"] == {
        "ops": {
            "client_id": "Iv23li12345",
            "installation_id": 42,
            "private_key": {"file": f"{hub.folder}/app.pem"},
            "api": f"{address}/api/v3",
            "ca_file": str(file),
        }
    }


def test_an_unreachable_github_is_said_and_left_out_only_if_the_user_agrees(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    screen = start()
    screen.answer(HOST, "http://127.0.0.1:1")
    screen.answer(KIND, "")
    screen.answer(APP, "12345")
    said = screen.answer(KEY, f"{hub.folder}/app.pem")
    assert (
        "✕ GitHub cannot be reached: the request for the App itself failed: 127.0.0.1:1 can't be"
        in said
    )
    assert "GitHub cannot be reached" in screen.answer(AGAIN, "")
    assert "Repository (owner/name): " in screen.answer(AGAIN, "skip")
    assert "is not a repository" in screen.answer(REPO, "infra")
    assert "[the default branch]" in screen.answer(REPO, "acme/infra")
    screen.answer(REF, "")
    screen.answer(WHAT, "nginx/")
    shown = finish(screen, f"{tmp_path}/etc/nginx")
    assert f"next:\n  syncd -c {place} check --online   # every mistake" in shown
    assert loaded(place)["jobs"] == {
        "infra": {
            "repo": "acme/infra",
            "paths": [{"from": "nginx/", "to": f"{tmp_path}/etc/nginx/"}],
            "every": "5m",
        }
    }


def test_an_answer_that_fails_in_the_middle_can_be_asked_for_again(
    hub: SyncEnv, start: Start
) -> None:
    screen = start()
    as_app(screen, hub)
    hub.github.add_fault("head", faults.status(502), times=1)
    screen.answer(REPO, "infra")
    assert "✕ GitHub cannot be reached" in screen.answer(REF, "main")
    assert "✓ main is at" in screen.answer(AGAIN, "again")


def test_one_of_several_installations_is_chosen_and_a_suspended_one_is_not_offered(
    hub: SyncEnv, start: Start
) -> None:
    hub.github.accounts.install(12345, "beta", 43)
    hub.github.accounts.install(12345, "gone", 44).suspended = True
    hub.github.add_repo("beta/web", {"a": "1"})
    screen = start()
    said = as_app(screen, hub)
    assert "! gone (44) can't be used: it is suspended" in said
    assert "1 acme installation 42, all repositories 2 beta installation 43" in said
    assert "is not one of acme, beta" in screen.answer(ACCOUNT, "gone")
    said = screen.answer(ACCOUNT, "2")
    assert "✓ installation 43 on beta" in said and "(1): 1 beta/web" in said
    assert "[beta/web]" in said


def test_an_app_that_is_installed_nowhere_is_looked_for_again_after_enter(
    hub: SyncEnv, start: Start
) -> None:
    hub.github.accounts.installations.clear()
    screen = start()
    said = as_app(screen, hub)
    assert "✕ the App acme-ops is not installed on any account" in said
    assert f"→ install it: {hub.served.url}/apps/acme-ops/installations/new" in said
    hub.github.accounts.install(12345, "acme", 42)
    assert "✓ installation 42 on acme" in screen.answer(DONE, "")


def test_a_token_is_named_and_offers_what_its_user_reaches(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    hub.github.accounts.add_personal_token("ghp_wizard00000000000000000000000000000")
    token = hub.folder / "token"
    token.write_text("ghp_wrong000000000000000000000000000000")
    token.chmod(0o600)
    screen = start()
    screen.answer(HOST, hub.served.url)
    screen.answer(KIND, "token")
    assert "Bad credentials" in screen.answer(TOKEN, str(token))
    token.write_text("ghp_wizard00000000000000000000000000000")
    said = screen.answer(TOKEN, "")
    assert "✓ the token is of ada" in said and "Repositories reached by ada (2)" in said
    screen.answer(REPO, "acme/infra")
    screen.answer(REF, "")
    screen.answer(WHAT, "/")
    finish(screen, f"{tmp_path}/all")
    assert loaded(place)["github"] == {
        "bot": {"token": {"file": str(token)}, "api": f"{hub.served.url}/api/v3"}
    }


def test_a_login_is_written_unconfirmed_and_comes_first_in_the_next_commands(
    hub: SyncEnv, start: Start, place: Path, tmp_path: Path
) -> None:
    screen = start()
    screen.answer(HOST, "")
    screen.answer(KIND, "login")
    assert "✕ '12345' is no client id" in screen.answer(CLIENT, "12345")
    screen.answer(CLIENT, "Ov23liAbCdEf")
    screen.answer(REPO, "acme/infra")
    screen.answer(REF, "v1")
    screen.answer(WHAT, "nginx/")
    shown = finish(screen, f"{tmp_path}/etc")
    commands = [line.partition("#")[0].strip() for line in shown.splitlines()[-4:]]
    assert commands == [
        f"syncd -c {place} {command}" for command in ("login me", "check --online", "plan", "sync")
    ]
    assert loaded(place)["github"] == {"me": {"login": {"client_id": "Ov23liAbCdEf"}}}


def test_without_sign_in_a_public_repository_is_checked(
    hub: SyncEnv, start: Start, place: Path
) -> None:
    hub.github.add_repo("acme/open", {"a.txt": "1"}, private=False)
    screen = start()
    screen.answer(HOST, hub.served.url)
    screen.answer(KIND, "4")
    assert "✕" in screen.answer(REPO, "acme/infra")
    assert "✓ acme/open, public" in screen.answer(REPO, "https://github.com/acme/open", "acme/open")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_the_next_commands_name_the_user_who_owns_the_state(
    hub: SyncEnv, place: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 1, 1)
    env = {"HOME": str(tmp_path / "home"), "STATE_DIRECTORY": str(state)}
    screen = Screen("-c", str(place), "init", env=env)
    as_app(screen, hub)
    screen.answer(REPO, "infra")
    screen.answer(REF, "")
    screen.answer(WHAT, "motd")
    shown = finish(screen, f"{tmp_path}/motd")
    assert shown.endswith(f"  sudo -u daemon syncd -c {place} sync\n")


def test_a_file_in_the_usual_place_needs_no_option(hub: SyncEnv, tmp_path: Path) -> None:
    home = tmp_path / "home"
    place = home / ".config/syncd/config.yaml"
    screen = Screen("-c", str(place), "init", env={"HOME": str(home)})
    as_app(screen, hub)
    screen.answer(REPO, "infra")
    screen.answer(REF, "")
    screen.answer(WHAT, "motd")
    shown = finish(screen, f"{tmp_path}/motd")
    assert shown.endswith(
        "next:\n  syncd plan   # what a sync would do; nothing is written\n  syncd sync\n"
    )
