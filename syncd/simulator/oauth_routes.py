"""The web host's routes for logging in: device codes, tokens and their end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode

from syncd.simulator.faults import Answer
from syncd.simulator.oauth import ERROR_TEXTS
from syncd.simulator.request import Route, SimRequest
from syncd.simulator.responses import JSON_TYPE
from syncd.simulator.state import SimulatorState

FORM_TYPE = "application/x-www-form-urlencoded; charset=utf-8"


def route(state: SimulatorState, request: SimRequest, parts: Sequence[str]) -> Route | None:
    """Return the route of a request to the web host, and what answers it."""
    match parts:
        case ["login", "device", "code"] if request.method == "POST":
            return "device", lambda: _device_code(state, request)
        case ["login", "oauth", "access_token"] if request.method == "POST":
            refreshes = _fields(request).get("grant_type") == "refresh_token"
            return "refresh" if refreshes else "poll", lambda: _token(state, request)
        case ["applications", client_id, "token" | "grant" as what] if request.method == "DELETE":
            return "end", lambda: _end(state, request, client_id, what == "grant")
    return None


def _device_code(state: SimulatorState, request: SimRequest) -> Answer:
    found = state.oauth.start(_fields(request), request.origin, state.now())
    return _encoded(state, request, found)


def _token(state: SimulatorState, request: SimRequest) -> Answer:
    return _encoded(state, request, state.oauth.token(_fields(request), state.now()))


def _end(state: SimulatorState, request: SimRequest, client_id: str, whole_grant: bool) -> Answer:
    token = json.loads(request.body or b"{}").get("access_token", "")
    return Answer(state.oauth.end(client_id, request.authorization, token, whole_grant))


def _fields(request: SimRequest) -> dict[str, str]:
    return dict(parse_qsl(request.body.decode("utf-8", "replace")))


def _encoded(state: SimulatorState, request: SimRequest, found: dict[str, Any] | int) -> Answer:
    """Return the response as JSON where that was asked for, else form-encoded."""
    if isinstance(found, int):
        return Answer(found, {"content-type": JSON_TYPE}, b'{"error":"Not Found"}')
    error, status = found.get("error"), 200
    if error is not None:
        word = error.replace("token_expired", "expired_token")
        text = ERROR_TEXTS.get(word, "")
        found = {**found, "error_description": text, "error_uri": "https://docs.github.com"}
    if error == "device_flow_disabled":
        status = state.oauth.disabled_status
    if "application/json" in request.headers.get("accept", ""):
        return Answer(status, {"content-type": JSON_TYPE}, json.dumps(found).encode())
    return Answer(status, {"content-type": FORM_TYPE}, urlencode(found).encode())
