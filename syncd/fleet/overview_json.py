"""The fleet as JSON: of `syncd fleet status` and `agents`, and of the listener."""

from __future__ import annotations

from collections.abc import Iterable

from syncd.clock import rfc3339
from syncd.fleet.overview import AgentJob, FleetAgent, FleetJob


def jobs_json(jobs: Iterable[FleetJob]) -> dict[str, object]:
    """Return the object of `fleet status --json`."""
    return {"schema": "syncd.fleet/1", "jobs": [_job(one) for one in jobs]}


def agents_json(agents: Iterable[FleetAgent]) -> dict[str, object]:
    """Return the object of `fleet agents --json`."""
    return {"schema": "syncd.fleet.agents/1", "agents": [_agent(one) for one in agents]}


def _job(job: FleetJob) -> dict[str, object]:
    return {
        "job": job.name,
        "repo": job.repo,
        "ref": job.ref,
        "commit": job.commit,
        "revision": job.sequence or None,
        "published_at": rfc3339(job.published_at),
        "controller": job.worker,
        "polled_at": rfc3339(job.polled_at),
        "next_poll": rfc3339(job.next_at),
        "failures": job.failures,
        "error": _error(job.error_id, job.error),
        "halted": _halted(job),
        "rollout": _rollout(job),
        "where": dict(job.where),
        "controllers": None if job.controllers is None else sorted(job.controllers),
        "agents": [{"agent": one.agent, **_report(one)} for one in job.agents],
    }


def _halted(job: FleetJob) -> dict[str, object] | None:
    halted = job.halted
    if halted is None:
        return None
    return {"at": rfc3339(halted.at), "by": halted.by, "reason": halted.reason or None}


def _rollout(job: FleetJob) -> dict[str, object] | None:
    rollout = job.rollout
    if rollout is None:
        return None
    return {
        "wave": rollout.wave,
        "waves": rollout.waves,
        "agents": len(rollout.agents),
        "healthy": len(rollout.healthy),
        "waits_for": rollout.waits_for,
        "stopped": rollout.stopped,
    }


def _agent(agent: FleetAgent) -> dict[str, object]:
    return {
        "agent": agent.name,
        "host": agent.host,
        "version": agent.version,
        "seen_at": rfc3339(agent.seen_at),
        "twins": list(agent.twins),
        "labels": dict(agent.labels),
        "asked_labels": dict(agent.asked),
        "jobs": [{"job": one.job, **_report(one)} for one in agent.jobs],
    }


def _report(one: AgentJob) -> dict[str, object]:
    return {
        "state": one.state.value,
        "commit": one.commit,
        "since": rfc3339(one.since),
        "reported_at": rfc3339(one.reported_at),
        "error": _error(one.error_id, one.error),
    }


def _error(error_id: str | None, message: str | None) -> dict[str, str | None] | None:
    return None if message is None else {"id": error_id, "message": message}


__all__ = ["agents_json", "jobs_json"]
