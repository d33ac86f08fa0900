"""Controllers of a fleet that are killed, frozen or cut off at moments that a seed draws.

Each controller is a real `syncd run`, and so is the agent. A moment: commits are pushed, one
controller gets to a point of its work, the fault happens to it there, and the others have to
publish what was pushed. What happened meanwhile is judged at the end (fleet_oracle.py).
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from syncd.simulator.server import serve
from tests.support.daemon import Running, daemon
from tests.support.fleet import Fleet, Publisher, job_of, machines
from tests.support.fleet_oracle import (
    Asked,
    LeaseEvent,
    Published,
    wrong_arrivals,
    wrong_leases,
    wrong_notices,
    wrong_pollers,
    wrong_revisions,
)
from tests.support.fleet_watch import ANY_TIME, POINTS, REQUESTS, ObservedGitHub, Watch, until
from tests.support.sync_env import SyncEnv, sync_env

CONTROLLERS, AGENT = ("c1", "c2", "c3"), "agent"
REPOS = {"nginx": "acme/infra", "second": "acme/second"}  # job -> repository
FILES = tuple(f"nginx/{name}.conf" for name in "abc")
KILLED, FROZEN, NO_DATABASE, NO_NETWORK = "killed", "frozen", "no database", "no network"
SESSIONS = """
SELECT application_name, pid, state, wait_event, now() - state_change AS since,
       pg_blocking_pids(pid), left(query, 60)
  FROM pg_stat_activity WHERE application_name LIKE 'syncd %%' ORDER BY 1
"""
MANIFESTS = """
SELECT revision.id, name, commit_sha, array_agg(path || ' ' || convert_from(data, 'UTF8'))
  FROM syncd.revision JOIN syncd.job ON job.id = job_id
  LEFT JOIN syncd.manifest ON revision_id = revision.id LEFT JOIN syncd.blob ON blob.id = blob_id
 WHERE revision.id > %s GROUP BY 1, 2, 3 ORDER BY 1
"""
PUBLISHED = "SELECT controller, job, sequence, epoch, commit_sha FROM watch.revision ORDER BY id"
LONG = 0.6  # the share of faults that last until another controller has taken over
BRIEF_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 90.0


class Networks(Protocol):
    """The networks of controllers that can be cut off."""

    def namespace(self, controller: str) -> str: ...
    def cut(self, controller: str, from_github: bool) -> None: ...
    def mend(self, controller: str) -> None: ...


@dataclass(frozen=True)
class Moment:
    """A fault: what, where in the work, and whether another controller has to take over."""

    fault: str
    point: str
    lasts: bool
    pushes: int
    delay_seconds: float


@dataclass
class Happened:
    """What a moment was, to whom, and the seconds until its jobs were another controller's."""

    moment: Moment
    controller: str
    at: float
    seconds: float
    mended_at: float = 0.0


def moments(seed: int, count: int, faults: tuple[str, ...]) -> Iterator[Moment]:
    """Draw moments: every point and every fault comes up before one comes up twice."""
    draw = random.Random(seed)
    pairs: list[tuple[str, str]] = []
    for _ in range(count):
        if not pairs:
            points, kinds = list(POINTS), list(faults)
            draw.shuffle(points)
            draw.shuffle(kinds)
            pairs = [(point, kinds[number % len(kinds)]) for number, point in enumerate(points)]
        point, fault = pairs.pop()
        lasts, pushes = draw.random() < LONG, draw.choice((1, 1, 2))
        yield Moment(fault, point, lasts, pushes, draw.uniform(0.0, 2.5))


@dataclass
class Stand:
    """Three controllers and an agent, as processes, and what watches them."""

    fleet: Fleet
    env: SyncEnv
    watch: Watch
    draw: random.Random
    networks: Networks | None = None
    envs: dict[str, SyncEnv] = field(default_factory=dict)
    running: dict[str, Running] = field(default_factory=dict)
    done: list[Happened] = field(default_factory=list)
    branches: dict[str, list[str]] = field(default_factory=dict)
    checked: int = 0  # the last revision whose manifest was compared
    wrong: list[str] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    # --- machines ---------------------------------------------------------------------------------

    def start(self, controller: str) -> None:
        """Start a controller, in a network of its own where controllers are to be cut off."""
        inside = self.networks.namespace(controller) if self.networks else None
        began = daemon(self.envs[controller], inside=inside)
        self.running[controller] = self.stack.enter_context(began)

    def push(self) -> None:
        """Commit to the branch of each job: each file says which commit it is."""
        for job, repo in REPOS.items():
            branch = self.branches[job]
            files = {path: f"{len(branch)}\n" for path in FILES}
            branch.append(self.env.github.repos[repo].commit(files))

    def is_published(self) -> bool:
        """Return whether the last revision of each job is of the last commit."""
        last = {job: commits[-1] for job, commits in self.branches.items()}
        return self.watch.published() == last

    # --- moments ----------------------------------------------------------------------------------

    def go_through(self, moment: Moment) -> None:
        """Let one moment happen, and wait until what was pushed in it is published."""
        victim = self._caught(moment)
        self._strike(moment.fault, victim)
        struck_at = time.time()
        self.watch.go_on(moment.point)
        if moment.lasts:
            until(lambda: not self.watch.jobs_of(victim), f"{moment}: taken over", 60.0)
            seconds = time.time() - struck_at
            until(self.is_published, f"{moment}: published by another", LONGEST_WAIT_SECONDS)
        else:
            seconds = 0.0
            pause(BRIEF_SECONDS)
        self.done.append(Happened(moment, victim, struck_at, seconds, time.time()))
        self._mend(moment.fault, victim)
        until(self.is_published, f"{moment} of {victim}: published", LONGEST_WAIT_SECONDS)
        self.compare_manifests()

    def _caught(self, moment: Moment) -> str:
        """Push; return the controller that is first to get to the point."""
        if moment.point == ANY_TIME:
            for _ in range(moment.pushes):
                self.push()
            pause(moment.delay_seconds)
            return self.draw.choice(CONTROLLERS)
        self.watch.stop_at(moment.point)
        try:
            for _ in range(moment.pushes):
                self.push()
            what = f"{moment}: a controller gets there"
            return str(until(lambda: self.watch.stopped(moment.point), what))
        except BaseException:
            self.watch.go_on(moment.point)
            raise

    def said(self) -> str:
        """Return the last lines of each controller's log and what it waits for, for a message."""
        ends = {name: running.said()[-12:] for name, running in self.running.items()}
        lines = [f"{name}: {line}" for name, said in ends.items() for line in said]
        for query in (SESSIONS, "SELECT name, worker, lease_until, next_at, epoch FROM syncd.job"):
            lines += [" ".join(map(str, row)) for row in self.watch.rows(query)]
        return "\n".join([*lines, *map(str, self.done[-3:])])

    def _strike(self, fault: str, victim: str) -> None:
        if fault == KILLED:
            self.running[victim].process.kill()
            self.running[victim].process.wait()
        elif fault == FROZEN:
            self.running[victim].send(signal.SIGSTOP)
        elif self.networks is not None:
            self.networks.cut(victim, from_github=fault == NO_NETWORK)

    def _mend(self, fault: str, victim: str) -> None:
        if fault == KILLED:
            self.start(victim)
        elif fault == FROZEN:
            self.running[victim].send(signal.SIGCONT)
        elif self.networks is not None:
            self.networks.mend(victim)

    def end(self) -> list[str]:
        """Return what is wrong. At the end the controller of the last fault publishes alone."""
        alone = self.done[-1].controller
        for controller in CONTROLLERS:
            if controller != alone:
                self.running[controller].ends()
        self.push()
        until(self.is_published, f"{alone} publishes alone", LONGEST_WAIT_SECONDS)
        until(lambda: not list(self._wrong_arrivals()), "the agent has the last commit")
        self.compare_manifests()
        return [*self.wrong, *self._wrong_arrivals(), *self._judged()]

    # --- what is judged ---------------------------------------------------------------------------

    def compare_manifests(self) -> None:
        """Compare the manifest of each new revision with the tree of its commit."""
        rows = self.watch.rows(MANIFESTS, self.checked)
        for revision, job, commit, files in rows:
            number = self.branches[job].index(commit)
            if sorted(map(str, files)) != [f"{path} {number}\n" for path in FILES]:
                self.wrong.append(f"{job}: the revision of commit {number} has {files}")
            self.checked = revision

    def published(self) -> list[Published]:
        query = (
            "SELECT controller, job, sequence, epoch, commit_sha FROM watch.revision ORDER BY id"
        )
        return [Published(*row) for row in self.watch.rows(query)]

    def _judged(self) -> list[str]:
        query = (
            "SELECT at, controller, action, job, epoch, seconds, seconds_before"
            " FROM watch.lease ORDER BY id"
        )
        events = [LeaseEvent(*row) for row in self.watch.rows(query)]
        published = self.published()
        jobs = {repo: job for job, repo in REPOS.items()}
        asked = [
            Asked(one.at, one.controller, jobs[one.repo], REQUESTS["contents"] in one.target)
            for one in self.watch.github.log
        ]
        mended = [(one.controller, one.mended_at) for one in self.done]
        return [
            *wrong_leases(events),
            *wrong_revisions(published, events, self.branches),
            *wrong_pollers(asked, events, mended),
            *wrong_notices(self.watch.notices, published),
        ]

    def _wrong_arrivals(self) -> Iterator[str]:
        published = self.published()
        for job, branch in self.branches.items():
            lines = self._ledger(job).read_text().splitlines() if self._ledger(job).exists() else []
            yield from wrong_arrivals(job, lines, branch, published)

    def _ledger(self, job: str) -> Path:
        return self.envs[AGENT].folder / f"{job}.log"


@contextmanager
def stand(
    fleet: Fleet, folder: Path, seed: int, networks: Networks | None = None, host: str = ""
) -> Iterator[Stand]:
    """Start the machines; everything that is pushed so far is published and on the agent's disk.

    `host` is where controllers reach the database, where they do not by its socket.
    """
    first = dict.fromkeys(FILES, "0\n")
    with sync_env(folder / "c1", first, github=ObservedGitHub) as env, ExitStack() as stack:
        github = env.github
        assert isinstance(github, ObservedGitHub)
        watch = Watch(fleet.address(), github)
        stack.callback(watch.close)
        made = Stand(fleet, env, watch, random.Random(seed), networks, stack=stack)
        github.add_repo("acme/second", first)
        made.branches = {job: [github.repos[repo].head()] for job, repo in REPOS.items()}
        _configure(made, host)
        for controller in CONTROLLERS:
            made.start(controller)
        until(made.is_published, "the first commits are published")
        made.compare_manifests()
        _start_agent(made)
        try:
            yield made
        finally:
            for running in made.running.values():
                running.process.kill()


def _configure(made: Stand, host: str) -> None:
    """Write the controllers' configurations: each reaches GitHub by a port of its own."""
    made.env.jobs["second"] = {**made.env.jobs["nginx"], "repo": "acme/second"}
    farm = machines(made.fleet, made.env)
    for job in made.env.jobs.values():
        job["every"] = "1s"
    if host:
        Path(made.env.extra["fleet"]["database"]["file"]).write_text(host)
    for controller in CONTROLLERS:
        env = made.env if controller == "c1" else farm.another_controller(controller)
        served = made.stack.enter_context(serve(made.env.github))
        made.watch.github.controllers[served.url] = controller
        env.identities = {"ops": {**env.identities["ops"], "api": served.url}}
        env.write()
        made.envs[controller] = replace(env)
    name = f"{made.fleet.name}_agent"  # logins are those of the cluster
    made.fleet.cluster.execute(f"CREATE ROLE {name} LOGIN IN ROLE syncd_agent")
    agent = farm.agent(name)
    agent.jobs = {job: _agents_job(job, agent.folder) for job in REPOS}
    agent.write()
    made.envs[AGENT] = agent


def _agents_job(job: str, folder: Path) -> dict[str, object]:
    """A job whose hook notes which commits its files are of."""
    to = folder / "dest" / job
    to.mkdir()
    note = f"echo $(cat {to}/*.conf | sort -u) >> {folder}/{job}.log"
    return {
        "repo": REPOS[job],
        "every": "1h",
        "paths": [{"from": "nginx/", "to": f"{to}/"}],
        "on_change": {"shell": note},
    }


def _start_agent(made: Stand) -> None:
    publisher = Publisher(made.fleet)
    for job in REPOS:
        publisher.grant(made.envs[AGENT].folder.name, job_of(job))
    publisher.close()
    made.watch.forget_grants(len(made.published()), len(REPOS))
    made.stack.enter_context(daemon(made.envs[AGENT]))


def pause(seconds: float) -> None:
    """Let a fault last, or come late: a moment is one of time."""
    time.sleep(seconds)


__all__ = ["FROZEN", "KILLED", "NO_DATABASE", "NO_NETWORK", "Happened", "Stand", "moments", "stand"]
