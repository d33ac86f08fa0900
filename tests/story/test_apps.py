"""What can become of an App while syncd lives: each a state of the job with its own words, asked
about sparingly, and over by itself once it is mended.

One app lives through all of it, as a daemon's does, over real sockets; time passes when somebody
waits or says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd.config.load import load_config
from syncd.daemon.backoff import Backoff, next_backoff
from syncd.engine.run import run_job
from syncd.errors import AuthError
from syncd.models import RunReport, RunStatus
from syncd.simulator import faults
from syncd.simulator.accounts import Accounts
from syncd.wiring import AppContext
from tests.support.fast_clock import PassingClock
from tests.support.sync_env import SyncEnv, app_with_known_key, sync_env

ALLOW_LIST = (
    "Although you appear to have the correct authorization credentials, the `acme` organization "
    "has an IP allow list enabled, and your IP address is not permitted to access this resource."
)


@pytest.fixture
def clock() -> PassingClock:
    return PassingClock()


class Life:
    """A daemon's memory over many runs of one job, and when it would run it next."""

    def __init__(self, hub: SyncEnv, clock: PassingClock) -> None:
        self.hub, self.clock = hub, clock
        self.config = load_config(hub.config, {})
        self.app = AppContext.open(self.config, {}, clock=clock)
        self.hold: Backoff | None = None

    def run(self, name: str = "nginx") -> RunReport:
        self.app._sources.clear()  # as a daemon does at each tick, heads are asked anew
        job = self.config.jobs[name]
        deadline = self.app.deadline(job)
        deadline.failures = {}
        report = run_job(job, self.app.run_context(job), deadline)
        self.hold = next_backoff(report, self.hold, job.every_seconds, self.clock, 1.0)
        return report

    def error(self, name: str = "nginx") -> AuthError:
        report = self.run(name)
        assert report.status is RunStatus.FAILED and isinstance(report.error, AuthError), (
            report.error
        )
        return report.error


@pytest.fixture
def hub(tmp_path: Path, clock: PassingClock) -> Iterator[SyncEnv]:
    with sync_env(tmp_path) as made:
        made.github._real_now = lambda: clock.now().timestamp()
        yield made


@pytest.fixture
def life(hub: SyncEnv, clock: PassingClock) -> Iterator[Life]:
    made = Life(hub, clock)
    assert made.run().status is RunStatus.CHANGED
    yield made
    made.app.close()


def installation(hub: SyncEnv) -> Any:
    return hub.github.accounts.installations[42]


def suspended(yes: bool) -> Callable[[SyncEnv], object]:
    return lambda hub: setattr(installation(hub), "suspended", yes)


def selected(names: list[str] | None) -> Callable[[SyncEnv], object]:
    return lambda hub: setattr(installation(hub), "repositories", names)


def refused(message: str, headers: dict[str, str] | None = None) -> Callable[[SyncEnv], object]:
    return lambda hub: hub.github.add_fault("head", faults.status(403, message, headers), 10_000)


SAML, SSO = (
    "Resource protected by organization SAML enforcement.",
    "https://github.com/orgs/acme/sso",
)
# what happens -> (how, how it is mended, state, words, what to do)
STATES: dict[
    str, tuple[Callable[[SyncEnv], object], Callable[[SyncEnv], object], str, str, str]
] = {
    "suspended": (
        suspended(True),
        suspended(False),
        "suspended",
        "This installation has been suspended",
        "unsuspend",
    ),
    "removed": (
        lambda hub: hub.github.accounts.installations.clear(),
        lambda hub: hub.github.accounts.install(12345, "acme", 42),
        "installation",
        "installation 42",
        "installation_id",
    ),
    "deselected": (selected(["other"]), selected(None), "grant", "not accessible", "Configure"),
    "permission lowered": (
        lambda hub: installation(hub).permissions.pop("contents"),
        lambda hub: installation(hub).permissions.update(contents="read"),
        "permission",
        "not granted",
        "contents: read",
    ),
    "key deleted": (
        lambda hub: hub.github.accounts.apps["12345"].public_keys.clear(),
        lambda hub: mended_app(hub),
        "key",
        "must generate a public key",
        "generate a private key",
    ),
    "the App deleted": (
        lambda hub: hub.github.accounts.apps.clear(),
        lambda hub: mended_app(hub),
        "app",
        "Integration not found",
        "app_id or client_id",
    ),
    "another key": (
        lambda hub: other_key(hub),
        lambda hub: mended_app(hub),
        "key",
        "could not be decoded",
        "does not belong to this App",
    ),
    "repository blocked": (
        lambda hub: setattr(hub.repo, "blocked", (403, "tos", "https://github.com/tos")),
        lambda hub: setattr(hub.repo, "blocked", None),
        "blocked",
        "Repository access blocked",
        "(tos, https://github.com/tos)",
    ),
    "IP allow list": (
        refused(ALLOW_LIST),
        lambda hub: hub.github.faults.clear(),
        "allow_list",
        "IP allow list",
        "add this server's address",
    ),
    "single sign-on": (
        refused(SAML, {"x-github-sso": f"required; url={SSO}?x=1"}),
        lambda hub: hub.github.faults.clear(),
        "sso",
        "SAML",
        SSO,
    ),
    "repository deleted": (
        lambda hub: hub.github.repos.pop("acme/infra"),
        lambda hub: hub.github.repos.update({"acme/infra": hub.repo}),
        "grant",
        "not accessible",
        "renamed",
    ),
}


def other_key(hub: SyncEnv) -> None:
    hub.github.accounts.apps["12345"].public_keys.clear()
    new_key(hub.github.accounts)


def mended_app(hub: SyncEnv) -> None:
    app_with_known_key(hub.github, 12345)
    installation(hub).app = hub.github.accounts.apps["12345"]


@pytest.mark.parametrize("name", STATES)
def test_a_state_has_its_own_words_costs_little_and_is_over_once_it_is_mended(
    life: Life, hub: SyncEnv, clock: PassingClock, name: str
) -> None:
    happen, mend, state, said, hint = STATES[name]
    before = hub.tree()
    happen(hub)
    clock.advance(3600)  # so that no token of before is left
    hub.github.forget_requests()
    error = life.error()
    assert (
        (error.state, error.kind, error.exit_code) == (state, "auth", 4)
        and said in error.message
        and hint in (error.hint or "")
    ), (error.state, error.message, error.hint)
    assert hub.github.count() <= 3, hub.github.routes()
    assert life.hold is not None and life.hold.until - clock.monotonic() >= 300, (
        "slower than its interval"
    )
    for _ in range(3):
        assert life.hold is not None
        clock.advance(life.hold.until - clock.monotonic())
        assert life.error().state == state
    hub.github.forget_requests()
    for _ in range(6):  # somebody presses the button again and again
        life.error()
    assert (
        hub.github.count() <= 6
        and hub.github.count("token") + hub.github.count("installation") == 0
        and hub.tree() == before
    )
    mend(hub)
    clock.advance(61)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    assert (
        life.run().status is RunStatus.CHANGED
        and life.hold is None
        and hub.tree()["nginx.conf"] == b"two\n"
    )


def test_each_state_has_words_of_its_own() -> None:
    assert len({(state, said) for _, _, state, said, _ in STATES.values()}) >= 8


# what GitHub answers while a token of before the change still lives
@pytest.mark.parametrize(
    ("happen", "state"),
    [
        (suspended(True), "suspended"),
        (selected(["other"]), "hidden"),
        (lambda hub: installation(hub).permissions.pop("contents"), "permission"),
    ],
    ids=["suspended", "deselected", "permission lowered"],
)
def test_it_is_noticed_also_with_a_token_of_before(
    life: Life, hub: SyncEnv, clock: PassingClock, happen: Callable[[SyncEnv], object], state: str
) -> None:
    clock.advance(600)
    happen(hub)
    assert life.error().state == state


# --- what a person's token meets ------------------------------------------------------------------

POLICY = (
    "`acme` forbids access via a personal access token (classic). Please use a GitHub App, OAuth "
    "App, or a personal access token with fine-grained permissions."
)
PERSONAL: dict[str, tuple[Callable[[SyncEnv], object], str, str, str]] = {
    "suspended user": (
        lambda hub: hub.github.accounts.suspended_users.add("ada"),
        "suspended_user",
        "Your account was suspended",
        "GitHub suspended the user",
    ),
    "classic tokens forbidden": (
        lambda hub: hub.github.accounts.token_policies.update(acme=POLICY),
        "policy",
        "forbids access",
        "instead of the classic one",
    ),
    "blocked for legal reasons": (
        lambda hub: setattr(hub.repo, "blocked", (451, "dmca", "https://github.com/github/dmca")),
        "blocked",
        "451",
        "dmca",
    ),
}


@pytest.mark.parametrize("name", PERSONAL)
def test_a_refusal_of_a_persons_token_has_words_of_its_own_and_costs_one_request(
    tmp_path: Path, clock: PassingClock, name: str
) -> None:
    happen, state, said, hint = PERSONAL[name]
    with sync_env(tmp_path, as_app=False) as hub:
        happen(hub)
        life = Life(hub, clock)
        error = life.error()
        assert (
            (error.state, error.exit_code) == (state, 4)
            and said in error.message
            and hint in (error.hint or "")
        ), (error.message, error.hint)
        assert hub.github.count() == 1
        life.app.close()


# --- keys -----------------------------------------------------------------------------------------


def new_key(accounts: Accounts) -> str:
    """A second key of the App 12345, as its settings page gives one."""
    return accounts.add_app(12345)


def test_a_key_that_was_replaced_is_taken_without_a_restart_and_without_a_request_too_many(
    life: Life, hub: SyncEnv, clock: PassingClock
) -> None:
    file = Path(hub.identities["ops"]["private_key"])
    old = hub.github.accounts.apps["12345"].public_keys[0]
    file.write_text(new_key(hub.github.accounts))
    hub.github.accounts.apps["12345"].public_keys.remove(old)
    clock.advance(3600)
    hub.github.forget_requests()
    assert life.run().status is RunStatus.UNCHANGED and hub.github.routes() == {
        "token": 1,
        "head": 1,
    }


def test_a_key_that_is_replaced_just_while_the_old_one_is_refused_is_tried_at_once(
    life: Life, hub: SyncEnv, clock: PassingClock
) -> None:
    file = Path(hub.identities["ops"]["private_key"])
    clock.advance(3600)
    keys = life.app.connection(life.config.identities["ops"]).credentials._signer._keys  # type: ignore[attr-defined]
    keys._reload(0.0)  # it was read only now

    def replace() -> None:
        old = hub.github.accounts.apps["12345"].public_keys[0]
        file.write_text(new_key(hub.github.accounts))
        hub.github.accounts.apps["12345"].public_keys.remove(old)

    hub.github.call_before("token", hub.github.count("token") + 1, replace)
    hub.github.forget_requests()
    hub.github.callbacks[:] = [("token", 1, replace)]
    assert (
        life.run().status is RunStatus.UNCHANGED
        and hub.github.count("token") == 2
        and hub.github.count("token", 201) == 1
    )


def test_a_key_that_github_does_not_know_gives_way_to_the_one_before_it(
    life: Life, hub: SyncEnv, clock: PassingClock, caplog: pytest.LogCaptureFixture
) -> None:
    file = Path(hub.identities["ops"]["private_key"])
    file.write_text(new_key(Accounts()))
    for mints in (2, 1):  # the right one is remembered
        clock.advance(3600)
        hub.github.forget_requests()
        assert life.run().status is RunStatus.UNCHANGED and hub.github.count("token") == mints, (
            hub.github.routes()
        )
    assert "GitHub refuses the private key" in caplog.text


@pytest.mark.parametrize(
    "content", ["", "-----BEGIN RSA PRIVATE KEY-----\nhalf"], ids=["empty", "half written"]
)
def test_a_key_that_can_not_be_read_leaves_the_one_in_hand(
    life: Life, hub: SyncEnv, clock: PassingClock, content: str
) -> None:
    Path(hub.identities["ops"]["private_key"]).write_text(content)
    clock.advance(3600)
    assert life.run().status is RunStatus.UNCHANGED


def test_a_personal_token_that_was_replaced_is_taken_without_a_restart(
    tmp_path: Path, clock: PassingClock
) -> None:
    with sync_env(tmp_path, as_app=False) as hub:
        life = Life(hub, clock)
        assert life.run().status is RunStatus.CHANGED
        next(iter(hub.github.accounts.credentials.values())).revoked = True
        assert life.error().state == "token"
        hub.github.accounts.add_personal_token("ghp_another0000000000000000000000000000")
        (hub.folder / "token").write_text("ghp_another0000000000000000000000000000\n")
        assert life.run().status is RunStatus.UNCHANGED
        life.app.close()


# --- renamed and transferred ----------------------------------------------------------------------


@pytest.mark.parametrize("given", [True, False], ids=["installation_id given", "looked up"])
def test_a_renamed_repository_is_reached_by_its_number_also_with_the_next_token(
    hub: SyncEnv, clock: PassingClock, caplog: pytest.LogCaptureFixture, given: bool
) -> None:
    if not given:
        del hub.identities["ops"]["installation_id"]
    hub.write()
    life = Life(hub, clock)
    assert life.run().status is RunStatus.CHANGED
    hub.github.rename("acme/infra", "acme/platform")
    for content in ("two\n", "three\n"):
        hub.repo.commit({"nginx/nginx.conf": content})
        clock.advance(3600)
        assert (
            life.run().status is RunStatus.CHANGED and hub.tree()["nginx.conf"] == content.encode()
        )
    assert (
        "acme/infra was renamed or moved" in caplog.text
        and "write its new name into repo:" in caplog.text
    )
    hub.github.forget_requests()
    clock.advance(3600)
    assert life.run().status is RunStatus.UNCHANGED and hub.github.count("token") == 1, (
        "its number is remembered"
    )
    life.app.close()


def test_one_of_several_repositories_that_was_renamed_does_not_trouble_the_others(
    hub: SyncEnv, clock: PassingClock
) -> None:
    hub.github.add_repo("acme/web", {"f": "x"})
    hub.jobs["web"] = {
        **hub.jobs["nginx"],
        "repo": "acme/web",
        "paths": [{"from": "/", "to": f"{hub.folder}/web/"}],
    }
    hub.write()
    life = Life(hub, clock)
    assert {life.run(name).status for name in ("nginx", "web")} == {RunStatus.CHANGED}
    hub.github.rename("acme/web", "acme/www")
    clock.advance(3600)
    assert {life.run(name).status for name in ("nginx", "web")} == {RunStatus.UNCHANGED}
    life.app.close()


def test_a_transferred_repository_is_followed_where_its_new_owner_installed_the_app(
    hub: SyncEnv, clock: PassingClock
) -> None:
    del hub.identities["ops"]["installation_id"]
    hub.write()
    life = Life(hub, clock)
    assert life.run().status is RunStatus.CHANGED
    hub.github.rename("acme/infra", "umbrella/infra")
    clock.advance(3600)
    assert life.error().state == "grant"
    hub.github.accounts.install(12345, "umbrella", 77)
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    clock.advance(61)
    assert life.run().status is RunStatus.CHANGED
    assert (
        hub.github.accounts.credentials[hub.github.requests[-1].credential or ""].installation
        is hub.github.accounts.installations[77]
    )
    life.app.close()


def test_a_transferred_repository_is_not_followed_out_of_the_configured_installation(
    life: Life, hub: SyncEnv, clock: PassingClock
) -> None:
    hub.github.rename("acme/infra", "umbrella/infra")
    hub.github.accounts.install(12345, "umbrella", 77)
    clock.advance(3600)
    error = life.error()
    assert (
        error.state == "moved"
        and "installation 77 (of umbrella)" in error.message
        and "installation_id: into the identity" in (error.hint or "")
    )


# --- the end of tokens ----------------------------------------------------------------------------


def test_a_clean_stop_ends_the_tokens_and_a_one_shot_leaves_them(life: Life, hub: SyncEnv) -> None:
    tokens = [one for one in hub.github.accounts.credentials.values() if one.kind == "installation"]
    assert len(tokens) == 1
    life.app.stop.set()  # a daemon stops for a signal
    life.app.close(revoke=True)
    assert tokens[0].revoked and hub.github.count("revoke") == 1
    assert hub.sync().code == 0 and hub.github.count("revoke") == 0


@pytest.mark.parametrize(
    "wrong",
    [faults.hang(30), faults.reset(), faults.status(500), faults.status(401, "Bad credentials")],
    ids=["hang", "reset", "500", "401"],
)
def test_a_stop_is_held_up_by_nobody_who_can_not_be_reached(
    life: Life, hub: SyncEnv, monkeypatch: pytest.MonkeyPatch, wrong: faults.FaultEffect
) -> None:
    hub.github.add_fault("revoke", wrong, times=99)
    monkeypatch.setattr("syncd.wiring.connections.REVOKE_TIMEOUT_SECONDS", 0.2)
    life.app.clock = type(
        "Real",
        (),
        {
            "now": life.clock.now,
            "monotonic": __import__("time").monotonic,
            "wait": lambda _self, stop, seconds: stop.wait(seconds),
        },
    )()
    thread = threading.Thread(target=life.app.close, args=(True,))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize("form", ["long", "short"])
def test_tokens_of_either_form_are_carried_renewed_and_ended(
    hub: SyncEnv, clock: PassingClock, form: str
) -> None:
    hub.github.accounts.long_tokens = form == "long"
    life = Life(hub, clock)
    assert life.run().status is RunStatus.CHANGED
    clock.advance(3600)
    assert life.run().status is RunStatus.UNCHANGED
    life.app.close(revoke=True)
    values = [one.value for one in hub.github.accounts.credentials.values()]
    assert len(values) == 2 and all(
        len(value) > 500 if form == "long" else len(value) == 40 for value in values
    )
    assert [one.revoked for one in hub.github.accounts.credentials.values()] == [False, True]
    stored = b"".join(file.read_bytes() for file in hub.state.rglob("*") if file.is_file())
    assert not any(value.encode() in stored for value in values)


def test_a_suspended_laptop_goes_on_where_it_was(
    life: Life, hub: SyncEnv, clock: PassingClock
) -> None:
    """Asleep between two requests of one run: the monotonic clock stood still,
    the token did not.
    """
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/new": "new\n"})
    hub.github.forget_requests()
    hub.github.call_before(
        "contents",
        2,
        lambda: setattr(clock, "asleep", clock.asleep + timedelta(hours=9).total_seconds()),
    )
    assert (
        life.run().status is RunStatus.CHANGED
        and hub.github.count("token") == 1
        and hub.tree()["new"] == b"new\n"
    )


def test_a_monotonic_clock_that_jumped_costs_one_token(
    life: Life, hub: SyncEnv, clock: PassingClock
) -> None:
    clock.seconds += 9 * 3600
    clock.asleep -= 9 * 3600
    hub.repo.commit({"nginx/nginx.conf": "two\n"})
    hub.github.forget_requests()
    assert life.run().status is RunStatus.CHANGED and hub.github.count("token") == 1


def test_a_token_that_expires_between_list_and_fetch_is_replaced_and_the_run_goes_on(
    life: Life, hub: SyncEnv, clock: PassingClock
) -> None:
    clock.advance(3250)
    hub.repo.commit({"nginx/nginx.conf": "two\n", "nginx/new": "new\n"})
    hub.github.forget_requests()
    hub.github.call_before("contents", 2, lambda: clock.advance(400))
    assert (
        life.run().status is RunStatus.CHANGED
        and hub.github.count("token") == 1
        and hub.tree()["nginx.conf"] == b"two\n"
    )


def test_thirty_two_threads_and_one_ending_token_make_one_mint_over_sockets(
    life: Life, hub: SyncEnv, clock: PassingClock
) -> None:
    clock.advance(3400)
    hub.github.forget_requests()
    line, job = life.app.connection(life.config.identities["ops"]), life.config.jobs["nginx"]
    barrier, found = threading.Barrier(32), []

    def ask() -> None:
        barrier.wait(30)
        found.append(line.credentials.token_for(job.repo, life.app.deadline(job)))

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 32 and len(set(found)) == 1 and hub.github.routes() == {"token": 1}


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_servers_clock_ten_minutes_off_is_shown(hub: SyncEnv, minutes: int) -> None:
    hub.github.clock_offset = minutes * 60
    done = hub.call("doctor")
    assert done.code == 0 and "! clock" in done.out and "NTP" in done.out
    assert hub.sync().code == 0
