"""The questions about GitHub: which host, and as whom syncd reads there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from syncd.cli.wizard import terminal
from syncd.cli.wizard.answers import GITHUB
from syncd.cli.wizard.session import Session
from syncd.cli.wizard.terminal import Choice, Mistake
from syncd.config.convert import default_state
from syncd.config.identity_schema import IdentityModel
from syncd.config.schema import mistake_in
from syncd.config.secrets import read_key, read_token
from syncd.errors import ConfigError
from syncd.github.auth.fingerprint import key_fingerprint
from syncd.github.installations import InstallationInfo
from syncd.identities import SecretRef
from syncd.text import did_you_mean
from syncd.trusted_path import state_owner

KINDS = (
    Choice("app", "a GitHub App and its private key (recommended)"),
    Choice("token", "a personal access token in a file"),
    Choice("login", "you, in a browser, with `syncd login` afterwards"),
    Choice("public", "no sign-in: public repositories only, 60 requests an hour"),
)
NETWORK_LOCATION = r"([\w.-]+|\[[0-9a-fA-F:]+\])(:\d{1,5})?"
CLIENT_ID = r"Iv[A-Za-z0-9.]{6,60}"
OAUTH_CLIENT_ID = r"[IO]v[A-Za-z0-9.]{6,60}|[0-9a-f]{20}"
SETTINGS = "GitHub → Settings → Developer settings → GitHub Apps → the App"


def ask_host(session: Session) -> bool:
    """Ask which GitHub it is: github.com, or an Enterprise Server."""
    answers = session.answers

    def judge(text: str) -> str:
        """Return the API's address. Raises Mistake."""
        api = api_of(text)
        if (mistake := mistake_in(IdentityModel, {"anonymous": True, "api": api})) is not None:
            raise Mistake(mistake)
        answers.host = text
        return api

    api = terminal.ask("GitHub host (or your Enterprise Server's)", judge, answers.host)
    if api != answers.api:
        answers.ca_file = ""
    answers.api, session.online = api, True
    if api != GITHUB:
        terminal.ok(f"its API is {api}")
    return True


def api_of(text: str) -> str:
    """Return the address of the API for a host, or an address on it. Raises Mistake.

    Source: GitHub's docs: https://HOST/api/v3, except on github.com and ghe.com.
    """
    parts = _split(text if "://" in text else f"https://{text}")
    if parts is None or not re.fullmatch(
        r"[\w.-]+(:\d{1,5})?|\[[0-9a-fA-F:]+\](:\d{1,5})?", parts.netloc
    ):
        raise Mistake(f"'{text}' is not a host; write it like github.com or github.example.com")
    host = (parts.hostname or "").removeprefix("www.").removeprefix("api.")
    if host == "github.com":
        return GITHUB
    if host.endswith(".ghe.com"):
        return f"https://api.{host}"
    return f"{parts.scheme}://{parts.netloc}/api/v3"


def _split(address: str) -> SplitResult | None:
    try:
        return urlsplit(address)
    except ValueError:  # brackets that hold no IPv6 address
        return None


def ask_kind(session: Session) -> bool:
    """Ask how syncd signs in."""
    terminal.say(f"How syncd signs in to {session.host}:")
    session.answers.kind = terminal.choose("Sign in as", KINDS, session.answers.kind)
    session.online, session.app, session.installation = True, None, None
    session.answers.installation, session.answers.about = None, ""
    return True


# --- a GitHub App ---------------------------------------------------------------------------------


def ask_app(session: Session) -> bool:
    """Ask for the App's id or client id."""
    if session.answers.kind != "app":
        return False
    session.answers.app = terminal.ask("App id or client id", _app, session.answers.app)
    return True


def _app(text: str) -> str:
    if text.isascii() and text.isdigit():
        mistake = mistake_in(IdentityModel, {"app_id": text, "private_key": "/x"})
        if mistake is not None:
            raise Mistake(mistake)
        return text
    if text.startswith("Ov"):
        raise Mistake(
            f"'{text}' is the client id of an OAuth app, which has no private key",
            "go back (<) and choose login",
        )
    if not re.fullmatch(CLIENT_ID, text):
        raise Mistake(
            f"'{text}' is no App id, which is a number like 12345, and no client id, which looks"
            " like Iv23liAbCdEfGhIjKlMn",
            f"both are on the App's page: {SETTINGS}",
        )
    return text


def ask_key(session: Session) -> bool:
    """Ask for the App's private key, and check that it can sign and who may read it."""
    if session.answers.kind != "app":
        return False
    default = session.answers.key_file or str(session.answers.place.absolute().parent / "app.pem")

    def judge(text: str) -> str:
        """Return the key's path. Raises Mistake."""
        path = _path(text)
        _refuse_missing(path, "*.pem")
        ref = SecretRef("file", path)
        try:
            key = read_key(ref, session.environ, "key", _state_owner(session))
        except ConfigError as error:
            raise Mistake.of(error, "key") from error
        terminal.ok(f"an RSA key that can sign, {key_fingerprint(key)}")
        return path

    session.answers.key_file = terminal.ask("File with its private key", judge, default)
    return True


def check_app(session: Session) -> bool:
    """Ask GitHub for the App, and name it."""
    if session.answers.kind != "app":
        return False
    session.answers.installation, session.answers.about = None, ""
    found = session.github(lambda github: github.app())
    session.app = found
    if found is not None:
        owner = f", owned by {found.owner}" if found.owner else ""
        session.answers.about = f"{found.slug}{owner}"
        terminal.ok(f"the App is {found.slug} ({found.id}){owner}")
    return False


def ask_installation(session: Session) -> bool:
    """Choose the App's installation; the only one is taken without asking."""
    if session.answers.kind != "app" or session.app is None:
        return False
    asked = False
    while not (usable := [one for one in session.app.installations if not _problem(one)]):
        asked = True
        _tell_unusable(session)
        terminal.ask("Press Enter when that is done, or type < to go back", lambda text: text)
        session.app = session.github(lambda github: github.app())
        if session.app is None:
            return True
    if len(usable) == 1:
        chosen = usable[0]
    else:
        asked, chosen = True, _chosen(session, usable)
    answers = session.answers
    session.installation, answers.installation, answers.account = chosen, chosen.id, chosen.account
    terminal.ok(f"installation {chosen.id} on {chosen.account}: {chosen.selection} repositories")
    return asked


def _chosen(session: Session, usable: list[InstallationInfo]) -> InstallationInfo:
    by_account = {one.account: one for one in usable}
    terminal.say("It is installed on")
    for one in session.app.installations if session.app is not None else ():
        if (problem := _problem(one)) is not None:
            terminal.warn(f"{one.account} ({one.id}) can't be used: {problem}")
    choices = [
        Choice(one.account, f"installation {one.id}, {one.selection} repositories")
        for one in usable
    ]
    before = session.answers.account if session.answers.account in by_account else ""
    return by_account[terminal.choose("Account", choices, before)]


def _problem(one: InstallationInfo) -> str | None:
    if one.suspended:
        return "it is suspended; an owner can unsuspend it under Settings → Applications"
    if not any(permission.startswith("contents: ") for permission in one.permissions):
        return "it may not read contents; grant the App Contents: read, and accept it there"
    return None


def _tell_unusable(session: Session) -> None:
    app = session.app
    if app is None:
        return
    for one in app.installations:
        terminal.bad(f"installation {one.id} on {one.account}: {_problem(one)}")
    if not app.installations:
        terminal.bad(
            f"the App {app.slug} is not installed on any account",
            f"install it: {session.web}/apps/{app.slug}/installations/new",
        )


# --- a token, a login -----------------------------------------------------------------------------


def ask_token(session: Session) -> bool:
    """Ask for the file of a personal access token."""
    if session.answers.kind != "token":
        return False
    place = session.answers.place.absolute().parent
    default = session.answers.token_file or str(place / "github.token")

    def judge(text: str) -> str:
        """Return the path. Raises Mistake."""
        path = _path(text)
        _refuse_missing(path, "*token*")
        ref = SecretRef("file", path)
        try:
            read_token(ref, session.environ, "token", _state_owner(session))
        except ConfigError as error:
            raise Mistake.of(error, "token") from error
        return path

    session.answers.token_file = terminal.ask("File with the token alone in it", judge, default)
    return True


def check_token(session: Session) -> bool:
    """Ask GitHub whose token it is, and say so."""
    if session.answers.kind != "token":
        return False
    login = session.github(lambda github: github.user())
    session.answers.account = login or ""
    session.answers.about = f"a token of {login}" if login else ""
    if login:
        terminal.ok(f"the token is of {login} on {session.host}")
    return False


def ask_client_id(session: Session) -> bool:
    """Ask for the client id of the app that a user logs in to."""
    if session.answers.kind != "login":
        return False

    def judge(text: str) -> str:
        """Return the client id. Raises Mistake."""
        if not re.fullmatch(OAUTH_CLIENT_ID, text):
            raise Mistake(
                f"'{text}' is no client id, which looks like Iv23liAbCdEfGhIjKlMn or"
                " Ov23liAbCdEfGhIjKlMn",
                "it is on the app's page, where Device Flow has to be enabled:"
                " GitHub → Settings → Developer settings",
            )
        return text

    session.answers.client_id = terminal.ask(
        "Client id of the GitHub App or OAuth app", judge, session.answers.client_id
    )
    session.online = False
    terminal.warn("you log in afterwards, so GitHub does not confirm the next answers")
    return True


# --- files ----------------------------------------------------------------------------------------


def _path(text: str) -> str:
    if not text:
        raise Mistake("name a file")
    return os.path.abspath(os.path.expanduser(text))


def _refuse_missing(path: str, pattern: str) -> None:
    """Raise Mistake for a folder or nothing, with the file nearby that may be meant."""
    is_folder = os.path.isdir(path)
    if os.path.lexists(path) and not is_folder:
        return
    folder = Path(path) if is_folder else Path(path).parent
    there = sorted(map(str, folder.glob(pattern))) if os.access(folder, os.R_OK) else []
    meant = f"; did you mean '{there[0]}'?" if len(there) == 1 else did_you_mean(path, there)
    hint = f"generate and download one: {SETTINGS} → Private keys" if pattern == "*.pem" else None
    text = f"{path} is a folder" if is_folder else f"there is no file {path}"
    raise Mistake(f"{text}{meant}", None if meant else hint)


def _state_owner(session: Session) -> int | None:
    """Return the user of the state, whose files root reads too."""
    return state_owner(default_state(session.answers.place, session.environ))
