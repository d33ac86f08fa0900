"""Jobs side by side: how many at once, and that who waits for a limit keeps nobody else waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

from syncd.engine.worker_pool import WorkerPool
from syncd.models import Job


def job(name: str, identity: str = "ops") -> Job:
    return Job(name=name, identity=identity, repo="acme/infra", ref=None, paths=())


def test_every_job_is_done_once_and_never_more_at_once_than_there_are_places() -> None:
    done, inside, most, guard, together = [], 0, 0, threading.Lock(), threading.Barrier(3)

    def work(one: Job, _rests: Callable[[bool], None]) -> None:
        nonlocal inside, most
        with guard:
            inside += 1
            most = max(most, inside)
        together.wait(30)  # three at a time, so the places are both kept and used
        with guard:
            inside -= 1
            done.append(one.name)

    WorkerPool(3).run_all([job(f"j{number}") for number in range(30)], work)
    assert sorted(done) == sorted(f"j{number}" for number in range(30)) and (most, inside) == (3, 0)


def test_jobs_that_rest_give_their_places_to_other_identities_and_not_to_their_own() -> None:
    begun: list[str] = []
    others_done, resting = threading.Event(), threading.Barrier(2)

    def work(one: Job, rests: Callable[[bool], None]) -> None:
        begun.append(one.name)
        if one.identity == "ops":
            if not others_done.is_set():
                resting.wait(30)  # both places are theirs, and both meet the limit
                rests(True)
                assert others_done.wait(30), "the other identity was kept waiting"
                rests(False)
        elif one.name == "bot9":
            others_done.set()

    WorkerPool(2).run_all(
        [
            *(job(f"ops{number}") for number in range(5)),
            *(job(f"bot{number}", "bot") for number in range(10)),
        ],
        work,
    )
    assert begun[:2] == ["ops0", "ops1"] and set(begun[2:12]) == {
        f"bot{number}" for number in range(10)
    }
    assert set(begun[12:]) == {"ops2", "ops3", "ops4"}


def test_jobs_that_rest_keep_no_job_of_another_limit_waiting() -> None:
    done, beta_done = [], threading.Event()

    def work(one: Job, rests: Callable[[bool], None]) -> None:
        if one.name.startswith("acme"):
            rests(True)
            assert beta_done.wait(30), "the other account was kept waiting"
            rests(False)
        done.append(one.name)
        if one.name == "beta2":
            beta_done.set()

    jobs = [job(f"{owner}{number}") for owner in ("acme", "beta") for number in range(3)]
    WorkerPool(1, lambda one: one.name[:4]).run_all(jobs, work)
    assert done[:3] == ["beta0", "beta1", "beta2"]
    assert sorted(done[3:]) == ["acme0", "acme1", "acme2"]


def test_no_job_at_all_is_done_at_once() -> None:
    WorkerPool(2).run_all([], lambda _job, _rests: None)


def test_what_goes_wrong_in_one_thread_ends_no_other() -> None:
    done: list[str] = []
    told: list[object] = []

    def work(one: Job, _rests: Callable[[bool], None]) -> None:
        if one.name == "j1":
            raise SystemExit
        done.append(one.name)

    before, threading.excepthook = threading.excepthook, lambda what: told.append(what.exc_type)
    try:
        WorkerPool(1).run_all([job(f"j{number}") for number in range(4)], work)
    finally:
        threading.excepthook = before
    assert done == ["j0", "j2", "j3"]
