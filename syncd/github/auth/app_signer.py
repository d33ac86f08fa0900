"""Requests that are signed with a GitHub App's key.

Source: docs "Generating a JSON Web Token (JWT) for a GitHub App", "Managing private keys for
GitHub Apps".
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from msgspec.structs import replace

from syncd.app_jwt import app_jwt
from syncd.clock import Clock
from syncd.deadline import Deadline
from syncd.errors import AuthError, RemoteUnavailableError, SyncdError, TimedOutError
from syncd.github.attempts import MAX_ATTEMPTS, Attempts
from syncd.github.auth.credentials import bearer, share_failure
from syncd.github.auth.rotating_key import RotatingKey
from syncd.github.error_responses import failure, parse_error
from syncd.github.protocol import (
    BufferedResponse,
    Request,
    Response,
    Transport,
    buffered,
    date_of,
    read_body,
)
from syncd.github.refusal_texts import is_about_the_clock
from syncd.redaction import Secret, add_secret

log = logging.getLogger(__name__)


class AppSigner:
    """Send requests as the App `issuer`, which is its client or App id.

    `offset_seconds` is GitHub's clock minus ours, once a refusal has shown a difference.
    """

    def __init__(self, issuer: str, keys: RotatingKey, transport: Transport, clock: Clock) -> None:
        self._issuer, self._keys, self._transport, self._clock = issuer, keys, transport, clock
        self._failing_urls: set[str] = set()  # addresses that have not answered since they failed
        self.offset_seconds = 0.0

    def server_now(self) -> datetime:
        """Return GitHub's time, as far as its difference to ours is known."""
        return self._clock.now() + timedelta(seconds=self.offset_seconds)

    def send(self, request: Request, deadline: Deadline) -> Response:
        """Return the whole answer to a request signed as the App.

        A key that GitHub does not know is replaced by the other one, where there is one. Raises
        what `failure` makes of a refusal.
        """
        with share_failure((self, "app"), deadline, _affects_every_request):
            # after a failure the next caller is the retry
            limit = 1 if request.url in self._failing_urls else MAX_ATTEMPTS
            attempts = Attempts(limit)
            answer = self._send_whole(replace(request, attempts=attempts), attempts, deadline)
            self._failing_urls.discard(request.url)
            return answer

    def _send_whole(self, request: Request, attempts: Attempts, deadline: Deadline) -> Response:
        """Return the answer with its body; one that breaks off is requested again."""
        while True:
            try:
                answer = self._try_keys(request, deadline)
                return BufferedResponse(
                    answer.status, answer.headers, answer.url, read_body(answer)
                )
            except TimedOutError:
                raise
            except RemoteUnavailableError as error:
                delay = attempts.next_delay_seconds(deadline, answered=error.status is None)
                if delay is None:
                    self._failing_urls.add(request.url)
                    raise
            deadline.wait(delay)

    def _try_keys(self, request: Request, deadline: Deadline) -> Response:
        for key in self._keys.candidates():
            answer = self._send_with_clock_fix(request, key, deadline)
            if answer.status in (200, 201):
                self._keys.mark_accepted(key)
                return answer
            error = failure(request, parse_error(answer), self._clock.now())
            if not isinstance(error, AuthError) or error.state not in ("key", "app"):
                break
        raise error

    def _send_with_clock_fix(self, request: Request, key: Secret, deadline: Deadline) -> Response:
        """Return the answer; after a refusal about clocks, correct ours and send again."""
        answer = self._signed(request, key, deadline)
        if answer.status != 401:
            return answer
        answer = buffered(answer)
        server = date_of(answer.headers)
        if server is None or not is_about_the_clock(parse_error(answer).message):
            return answer
        self.offset_seconds = float(round((server - self._clock.now()).total_seconds()))
        log.warning(
            "this machine's clock is %.0f s off GitHub's; syncd corrects for it, but set up NTP",
            -self.offset_seconds,
        )
        return self._signed(request, key, deadline)

    def _signed(self, request: Request, key: Secret, deadline: Deadline) -> Response:
        return self._transport.send(bearer(request, Secret(self._jwt(key))), deadline)

    def _jwt(self, key: Secret) -> str:
        try:
            text = app_jwt(self._issuer, key.reveal(), self.server_now().timestamp())
        except ValueError as error:
            raise AuthError(
                "the private key can't sign: it is not an unencrypted RSA key in PEM form",
                id="auth/unusable-key",
                state="key",
                hint="run: syncd check",
            ) from error
        add_secret(Secret(text), long_lived=False)
        return text


def _affects_every_request(error: SyncdError) -> bool:
    """Return whether the refusal applies to every request that the App signs."""
    return isinstance(error, AuthError) and error.state in ("key", "clock")


__all__ = ["AppSigner"]
