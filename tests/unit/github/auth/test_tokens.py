"""Tokens: minted once for all who want one, renewed in time on either clock, replaced once when
refused, and asked for sparingly when they are not granted.

Against the simulator's own rules for Apps and tokens, on a clock that both share and that moves
only when somebody waits.
"""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from syncd.deadline import Deadline
from syncd.errors import (
    AuthError,
    BadResponseError,
    ConfigError,
    RateLimitedError,
    StoppedError,
    SyncdError,
)
from syncd.github.auth.app import AppCredentials
from syncd.github.auth.credentials import FRESH_TOKEN_SECONDS, AuthTransport, StaticToken, Token
from syncd.github.auth.grants import MAX_REPOSITORIES_PER_TOKEN
from syncd.github.protocol import Request, Response, get
from syncd.redaction import Secret
from syncd.simulator import faults
from syncd.simulator.faults import Answer
from syncd.simulator.github import GitHub
from tests.contract.doors import MemoryTransport
from tests.support.clock import FakeClock
from tests.support.sync_env import app_with_known_key

API = "https://apps.test"
THREADS = 32
HEAD = get(API, "/repos/acme/infra/commits/main", "head", "main of acme/infra", "acme/infra")


class World:
    """A GitHub and an App on one clock. `requests` are what was sent, minting included."""

    def __init__(
        self,
        repos: tuple[str, ...] = ("acme/infra",),
        installation_id: int | None = 42,
        install: bool = True,
    ) -> None:
        self.clock = FakeClock()
        self.github = GitHub(now=lambda: self.clock.now().timestamp())
        for repo in repos:
            self.github.add_repo(repo, {"f": "x"})
        self.key = app_with_known_key(self.github, 12345)
        if install:
            self.github.accounts.install(12345, "acme", 42)
        self.wire = MemoryTransport(self.github)
        self.bodies: list[Any] = []
        self.claims: list[dict[str, Any]] = []
        self.installation = AppCredentials(
            API, "12345", Secret(self.key), installation_id, repos, self, self.clock
        )
        self.authorised = AuthTransport(self.wire, self.installation, self.clock)

    def send(self, request: Request, deadline: Deadline) -> Response:
        """What is sent as the App passes here."""
        self.bodies.append(json.loads(request.body) if request.body else None)
        self.claims.append(
            jwt.decode(
                request.headers["Authorization"].partition(" ")[2],
                options={"verify_signature": False, "verify_exp": False, "verify_iat": False},
            )
        )
        return self.wire.send(request, deadline)

    def deadline(self, seconds: float = 86400) -> Deadline:
        return Deadline(self.clock, seconds)

    def token(self, repo: str = "acme/infra") -> Token:
        found = self.installation.token_for(repo, self.deadline())
        assert found is not None
        return found

    @property
    def mints(self) -> int:
        return self.github.count("token")


def at_once(work: Callable[[], Any]) -> list[Any]:
    """What `THREADS` threads get that begin together; an error is a result too."""
    found: list[Any] = []
    barrier = threading.Barrier(THREADS)

    def one() -> None:
        barrier.wait(30)
        try:
            found.append(work())
        except SyncdError as error:
            found.append(error)

    threads = [threading.Thread(target=one) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == THREADS
    return found


# --- one mint -------------------------------------------------------------------------------------


def test_many_threads_and_no_token_make_one_mint() -> None:
    world = World()
    assert len({token.value for token in at_once(world.token)}) == 1 and world.mints == 1


def test_many_threads_and_an_expiring_token_make_one_mint() -> None:
    world = World()
    first = world.token()
    world.clock.advance(3600 - 200)
    after = {token.value for token in at_once(world.token)}
    assert len(after) == 1 and first.value not in after and world.mints == 2


def test_many_threads_whose_token_was_refused_make_one_mint() -> None:
    world = World()
    first = world.token()

    def refused() -> Token:
        world.installation.invalidate("acme/infra", first)
        return world.token()

    assert len({token.value for token in at_once(refused)}) == 1 and world.mints == 2


def test_many_threads_whose_token_is_revoked_all_get_their_answer_from_one_more() -> None:
    world = World()
    first = world.token()
    world.clock.advance(60)
    world.github.accounts.credentials[first.value.reveal()].revoked = True
    answers = at_once(lambda: world.authorised.send(HEAD, world.deadline()).status)
    assert set(answers) == {200} and world.mints == 2


def test_owners_do_not_wait_for_each_other() -> None:
    world = World(("acme/infra", "other/infra"), installation_id=None)
    world.github.accounts.install(12345, "other", 43)
    entered, go_on = threading.Event(), threading.Event()
    held = world.send

    def slow(request: Request, deadline: Deadline) -> Response:
        if "/installations/42/" in request.url:
            entered.set()
            assert go_on.wait(30)
        return held(request, deadline)

    world.installation._signer._transport = type("Slow", (), {"send": staticmethod(slow)})()
    thread = threading.Thread(target=world.token)
    thread.start()
    assert entered.wait(30)
    assert world.token("other/infra").usable_at(world.clock.now(), world.clock.monotonic())
    go_on.set()
    thread.join(30)


def test_waiting_for_anothers_mint_ends_with_a_signal() -> None:
    world = World()
    stop = threading.Event()
    with world.installation._owner_lock("acme", world.deadline()):
        threading.Timer(0.05, stop.set).start()
        with pytest.raises(StoppedError):
            world.installation.token_for("acme/infra", Deadline(world.clock, 600, stop))


# --- renewed in time ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wall", "monotonic", "mints"),
    [
        (0, 0, 1),
        (3200, 3200, 1),
        (3400, 3400, 2),
        (0, 3400, 2),
        (-7200, 3400, 2),
        (3400, 0, 2),
        (-7200, 0, 1),
    ],
    ids=[
        "young",
        "near its end",
        "too near",
        "the wall clock stands",
        "the wall clock was set back",
        "asleep",
        "set back while young",
    ],
)
def test_a_token_ends_on_whichever_clock_comes_first(
    wall: float, monotonic: float, mints: int
) -> None:
    world = World()
    world.token()
    world.clock.at += timedelta(seconds=wall)
    world.clock.seconds += monotonic
    world.token()
    assert world.mints == mints


def test_a_token_of_a_short_life_is_used_and_not_minted_for_each_request() -> None:
    world = World()
    world.github.accounts.token_seconds = 120
    for _ in range(12):
        assert world.authorised.send(HEAD, world.deadline()).status == 200
        world.clock.advance(30)
    assert world.mints <= 6


@pytest.mark.parametrize("minutes", [-600, -10, -5, 5, 10, 600])
def test_a_clock_that_is_off_is_measured_once_and_reckoned_with(
    minutes: int, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.github.clock_offset = minutes * 60
    assert world.authorised.send(HEAD, world.deadline()).status == 200
    tries = world.mints
    assert tries <= 2 and world.installation.offset_seconds == (minutes * 60 if tries == 2 else 0)
    assert ("clock is" in caplog.text) == (tries == 2)
    world.clock.advance(3500)
    assert world.authorised.send(HEAD, world.deadline()).status == 200
    assert world.mints == tries + 1, "the second mint is right at once"


def test_a_refused_clock_without_a_date_is_an_error_that_says_so() -> None:
    world = World()
    world.github.clock_offset = 3600
    world.github.add_fault("token", faults.without_headers("date"), times=99)
    with pytest.raises(AuthError) as caught:
        world.token()
    assert caught.value.state == "clock" and "NTP" in (caught.value.hint or "") and world.mints == 1


# --- refused --------------------------------------------------------------------------------------

REFUSALS: dict[str, Callable[[World], object]] = {
    "suspended": lambda world: setattr(world.github.accounts.installations[42], "suspended", True),
    "uninstalled": lambda world: world.github.accounts.installations.clear(),
    "a wrong key": lambda world: world.github.accounts.apps["12345"].public_keys.clear(),
    "no contents": lambda world: world.github.accounts.installations[42].permissions.pop(
        "contents"
    ),
    "the App is gone": lambda world: world.github.accounts.apps.clear(),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_whoever_is_refused_for_good_asks_at_most_once_a_minute_however_many_jobs_there_are(
    name: str,
) -> None:
    world = World()
    REFUSALS[name](world)
    assert all(isinstance(error, AuthError) for error in at_once(world.token)) and world.mints == 1
    for _ in range(200):
        with pytest.raises(AuthError):
            world.token()
        world.clock.advance(3)
    assert world.mints <= 11


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_that_was_mended_is_over_within_a_minute(name: str) -> None:
    world = World()
    apps, keys = (
        dict(world.github.accounts.apps),
        list(world.github.accounts.apps["12345"].public_keys),
    )
    REFUSALS[name](world)
    with pytest.raises(AuthError):
        world.token()
    world.github.accounts.apps.update(apps)
    world.github.accounts.apps["12345"].public_keys[:] = keys
    world.github.accounts.install(12345, "acme", 42)
    world.clock.advance(61)
    assert world.token()


def test_a_server_that_refuses_every_token_it_hands_out_is_asked_for_one_a_minute() -> None:
    world = World()
    world.github.add_fault("head", faults.status(401, "Bad credentials"), times=10_000)
    began = world.clock.monotonic()
    for _ in range(60):
        assert world.authorised.send(HEAD, world.deadline()).status == 401
        world.clock.advance(5)
    assert world.mints <= 2 + (world.clock.monotonic() - began) / 60


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_token_too_young_to_be_known_everywhere_is_tried_again_and_not_replaced(
    status: int,
) -> None:
    world = World()
    world.github.accounts.lag_seconds, world.github.accounts.lag_status = 3.0, status
    assert world.authorised.send(HEAD, world.deadline()).status == 200
    assert world.mints == 1 and 3 <= sum(world.clock.waits) <= FRESH_TOKEN_SECONDS


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "Bad credentials"), (403, "Resource not accessible by integration"), (404, "Not Found")],
)
def test_a_young_tokens_refusal_is_waited_for_no_longer_than_ten_seconds(
    status: int, message: str
) -> None:
    world = World()
    world.github.add_fault("head", faults.status(status, message), times=10_000)
    world.token()
    world.installation._replaced_at.clear()
    assert world.authorised.send(HEAD, world.deadline()).status == status
    assert sum(world.clock.waits) <= 2 * FRESH_TOKEN_SECONDS and world.mints <= 2
    assert sum(world.clock.waits[: len(world.clock.waits) // world.mints]) <= FRESH_TOKEN_SECONDS, (
        "for each of the tokens"
    )
    asked = world.github.count("head")
    world.authorised.send(HEAD, world.deadline())
    assert world.github.count("head") - asked <= 2, "and not at all when it is older"


@pytest.mark.parametrize(
    ("status", "message", "headers"),
    [
        (
            403,
            (
                "Although you appear to have the correct authorization credentials, the `acme` "
                "organization has an IP allow list enabled"
            ),
            {},
        ),
        (403, "", {"x-github-sso": "required; url=https://github.com/orgs/acme/sso"}),
        (403, "You have exceeded a secondary rate limit", {"retry-after": "60"}),
        (403, "Repository access blocked", {}),
        (403, "API rate limit exceeded for installation ID 42.", {}),
        (404, "No commit found for the ref main", {}),
    ],
    ids=[
        "allow list",
        "single sign-on",
        "limit",
        "blocked",
        "limit without headers",
        "no such ref",
    ],
)
def test_what_no_time_mends_is_not_tried_again_with_a_young_token(
    status: int, message: str, headers: dict[str, str]
) -> None:
    world = World()
    world.github.add_fault("head", faults.status(status, message, headers), times=99)
    assert world.authorised.send(HEAD, world.deadline()).status == status
    assert world.clock.waits == [] and world.github.count("head") == 1


@pytest.mark.parametrize(("route", "waits"), [("contents", []), ("tree", [1.0, 2.0, 3.0, 3.0])])
def test_a_fresh_tokens_404_is_waited_out_only_for_objects_that_github_named(
    route: str, waits: list[float]
) -> None:
    world = World()
    assert world.authorised.send(HEAD, world.deadline()).status == 200
    path = {
        "contents": "/repos/acme/infra/contents/nothing",
        "tree": f"/repos/acme/infra/git/trees/{'0' * 40}",
    }[route]
    assert (
        world.authorised.send(get(API, path, route, "x", "acme/infra"), world.deadline()).status
        == 404
    )
    assert world.clock.waits == waits


def test_a_young_tokens_404_on_the_lfs_host_is_waited_out_too() -> None:
    world = World()
    world.authorised.send(HEAD, world.deadline())
    world.github.add_fault("lfs", faults.status(404, "Not Found"), times=2)
    request = Request(
        "POST",
        f"{API}/acme/infra.git/info/lfs/objects/batch",
        "lfs",
        "x",
        "acme/infra",
        {"User-Agent": "x"},
        b'{"objects": []}',
        basic_auth=True,
    )
    assert world.authorised.send(request, world.deadline()).status == 200 and world.clock.waits == [
        1.0,
        2.0,
    ]


def test_the_wait_for_a_young_token_fits_into_the_runs_time_or_is_left() -> None:
    world = World()
    world.github.accounts.lag_seconds = 60
    assert world.authorised.send(HEAD, world.deadline(4)).status == 401
    assert sum(world.clock.waits) < 4


def test_a_personal_token_is_refused_once_and_stays_what_it_is() -> None:
    github, clock = GitHub(), FakeClock()
    github.add_repo("acme/infra", {"f": "x"})
    mine = StaticToken(Secret("ghp_" + "z" * 36))
    answer = AuthTransport(MemoryTransport(github), mine, clock).send(HEAD, Deadline(clock, 600))
    assert answer.status == 401 and github.count("head") == 1 and clock.waits == []


# --- what is asked for ----------------------------------------------------------------------------


def test_a_token_is_narrowed_to_reading_the_configured_repositories() -> None:
    world = World(("acme/infra", "acme/web", "acme/API"))
    world.token()
    assert world.bodies == [
        {"permissions": {"contents": "read"}, "repositories": ["api", "infra", "web"]}
    ]
    assert world.token("acme/web") == world.token("acme/API") and world.mints == 1


def test_the_assertion_is_what_github_asks_for_and_lives_less_than_ten_minutes() -> None:
    world = World()
    world.token()
    now = int(world.clock.now().timestamp())
    [claims] = world.claims
    assert claims == {"iss": "12345", "iat": now - 60, "exp": now + 540}


def test_more_repositories_than_one_token_may_have_are_split() -> None:
    names = tuple(f"acme/r{number:04d}" for number in range(MAX_REPOSITORIES_PER_TOKEN + 3))
    world = World(names)
    first, last = world.token(names[0]), world.token(names[-1])
    assert first != last and [len(body["repositories"]) for body in world.bodies] == [
        MAX_REPOSITORIES_PER_TOKEN,
        3,
    ]


def test_a_wrong_name_among_the_repositories_fails_alone() -> None:
    world = World(("acme/infra", "acme/web"))
    world.github.repos.pop("acme/web")
    assert world.token("acme/infra")
    with pytest.raises(AuthError) as caught:
        world.token("acme/web")
    assert caught.value.state == "grant"
    assert world.authorised.send(HEAD, world.deadline()).status == 200


def test_the_installation_is_found_once_for_an_owner() -> None:
    world = World(("acme/infra", "acme/web"), installation_id=None)
    at_once(world.token)
    world.token("acme/web")
    assert world.github.routes() == {"installation": 1, "token": 1}


def test_where_the_app_is_not_installed_it_is_said_and_asked_at_most_once_a_minute() -> None:
    world = World(installation_id=None, install=False)
    for _ in range(100):
        with pytest.raises(AuthError, match="not installed on acme/infra") as caught:
            world.token()
        assert caught.value.hint
        world.clock.advance(3)
    assert world.github.count("installation") <= 6


def test_an_app_that_was_removed_and_installed_anew_is_found_again() -> None:
    world = World(installation_id=None)
    world.token()
    del world.github.accounts.installations[42]
    world.github.accounts.install(12345, "acme", 77)
    world.clock.advance(3600)
    assert world.token() and "/installations/77/" in world.github.requests[-1].path


@pytest.mark.parametrize(
    "answer", [[], {}, {"id": None}, {"id": "42"}, {"id": True}, [{"id": 1}, {"id": 2}]], ids=str
)
def test_an_installation_that_is_not_one_is_an_error(answer: Any) -> None:
    world = World(installation_id=None)
    world.github.add_fault(
        "installation",
        lambda _: Answer(200, {"content-type": "application/json"}, json.dumps(answer).encode()),
        times=99,
    )
    with pytest.raises(AuthError, match="ambiguous"):
        world.token()


NO_TOKENS: dict[str, Any] = {
    "nothing": {},
    "a list": [],
    "a number": {"token": 7, "expires_at": "2026-11-23T13:00:00Z"},
    "an empty one": {"token": "", "expires_at": "2026-11-23T13:00:00Z"},
    "a line end": {"token": "ghs_x\r\nX-Evil: 1", "expires_at": "2026-11-23T13:00:00Z"},
    "a space": {"token": "ghs_x y", "expires_at": "2026-11-23T13:00:00Z"},
    "not ASCII": {"token": "ghs_é", "expires_at": "2026-11-23T13:00:00Z"},
    "no end": {"token": "ghs_x"},
    "an end in words": {"token": "ghs_x", "expires_at": "soon"},
    "an end without a zone": {"token": "ghs_x", "expires_at": "2026-11-23T13:00:00"},
    "an end that is past": {"token": "ghs_x", "expires_at": "2026-11-23T11:00:00Z"},
    "an end as a number": {"token": "ghs_x", "expires_at": 1795000000},
}


@pytest.mark.parametrize("name", NO_TOKENS)
def test_an_answer_that_is_no_token_is_refused_and_not_shown(name: str) -> None:
    world = World()
    world.github.add_fault(
        "token", lambda answer: replace(answer, body=json.dumps(NO_TOKENS[name]).encode()), times=9
    )
    with pytest.raises(BadResponseError) as caught:
        world.token()
    assert "ghs_" not in f"{caught.value} {caught.value.hint}"


def test_a_limit_while_minting_is_a_limit_and_no_refusal() -> None:
    world = World()
    world.github.add_fault(
        "token",
        faults.status(403, "You have exceeded a secondary rate limit", {"retry-after": "30"}),
    )
    with pytest.raises(RateLimitedError):
        world.token()
    assert world.token()


# --- never shown ----------------------------------------------------------------------------------


def test_a_token_is_not_shown_by_its_repr_and_can_not_be_pickled() -> None:
    token = World().token()
    assert token.value.reveal() not in f"{token!r} {token} {token.value!r}"
    with pytest.raises(TypeError):
        pickle.dumps(token)


@pytest.mark.parametrize("text", ["", " ", "ghp_x\n", "ghp x", "ghp_\x00", "Bearer ghp_x", "ghp_ü"])
def test_a_text_that_can_not_be_a_token_is_a_mistake_of_the_configuration_and_not_shown(
    text: str,
) -> None:
    with pytest.raises(ConfigError) as caught:
        StaticToken(Secret(text))
    assert "ghp" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "key", ["", "no key", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"]
)
def test_a_key_that_can_not_sign_is_a_refusal_without_a_request(key: str) -> None:
    world = World()
    broken = AppCredentials(API, "12345", Secret(key), 42, ["acme/infra"], world, world.clock)
    with pytest.raises(AuthError) as caught:
        broken.token_for("acme/infra", world.deadline())
    assert caught.value.state == "key" and "AAAA" not in str(caught.value) and world.mints == 0
