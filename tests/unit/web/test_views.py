"""Which answer of a view is given again, and to whom."""

from __future__ import annotations

import threading

import pytest
from flask import Flask, Response

from syncd.web import views
from syncd.web.views import Personal, TooBusyError, Views


class Maker:
    """Makes answers that count up. `hold` is waited for inside, where it is set."""

    def __init__(self) -> None:
        self.made, self.hold = 0, threading.Event()
        self.hold.set()
        self.began = threading.Semaphore(0)

    def __call__(self) -> Response:
        self.made += 1
        number = self.made
        self.began.release()
        self.hold.wait(10)
        answer = Response(f"{number} NAME")
        answer.set_etag(f"e{number}")
        return answer


def ask(app: Flask, shared: Views, maker: Maker, personal: Personal = views.ANY_PERSON) -> str:
    with app.test_request_context("/"):
        return shared.answer("/", maker, "", personal).get_data(as_text=True)


def test_whoever_asks_while_the_next_answer_is_made_gets_the_last_one_if_it_is_not_old() -> None:
    now, maker, app = [100.0], Maker(), Flask(__name__)
    shared = Views(lambda: 0, lambda: now[0], lambda seconds: None)
    assert ask(app, shared, maker) == "1 NAME"
    now[0] += views.MAX_CACHE_SECONDS + 1
    maker.hold.clear()
    two = [threading.Thread(target=ask, args=(app, shared, maker)) for _ in range(2)]
    for thread in two:
        thread.start()
    maker.began.acquire(), maker.began.acquire()
    while shared._views["/"].places.acquire(blocking=False):  # until the second one waits as well
        shared._views["/"].places.release()
    assert ask(app, shared, maker) == "1 NAME"
    now[0] += views.MAX_STALE_SECONDS
    with pytest.raises(TooBusyError):
        ask(app, shared, maker)
    now[0] -= views.MAX_STALE_SECONDS
    shared.acted()
    with pytest.raises(TooBusyError):
        ask(app, shared, maker)
    maker.hold.set()
    for thread in two:
        thread.join()


def test_an_action_makes_every_answer_anew_and_each_person_gets_their_own() -> None:
    maker, app = Maker(), Flask(__name__)
    shared = Views(lambda: 0, lambda: 100.0, lambda seconds: None)
    ada = Personal({b"NAME": b"ada"}, "-ada")
    assert ask(app, shared, maker, ada) == "1 ada"
    shared.acted()
    assert ask(app, shared, maker) == "2 NAME"
    with app.test_request_context("/", headers={"If-None-Match": '"e3-ada"'}):
        shared.acted()
        assert shared.answer("/", maker, "", ada).status_code == 304
