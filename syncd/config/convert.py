"""Converts validated models into the frozen values of syncd.models and syncd.config.model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from syncd.apply_rules import ApplyRules, FirstRuns, Freeze, ReloadSpacing, Rollout, Window
from syncd.apply_windows import freeze_begin, freeze_end
from syncd.config.fleet_schema import FleetModel, RolloutModel
from syncd.config.folder import Folder
from syncd.config.identity_schema import IdentityModel
from syncd.config.model import Config, Fleet, Log, Notify, TrashRules, Web, Webhook
from syncd.config.schema import ApplyModel, ConfigModel, HealthModel, JobModel, PathModel
from syncd.config.web_schema import WebModel
from syncd.fleet_labels import has_labels
from syncd.identities import (
    FLEET,
    AnonymousIdentity,
    AppIdentity,
    FleetIdentity,
    Identity,
    LoginIdentity,
    TokenIdentity,
)
from syncd.models import Health, Job, PathRule
from syncd.policies import Limits, Report, Require
from syncd.time_zones import time_zone


def to_config(
    model: ConfigModel, path: Path, folder: Folder, environ: Mapping[str, str], digest: str
) -> Config:
    """Return the configuration as frozen values; `digest` is that of the files' bytes."""
    only = next(iter(model.github)) if len(model.github) == 1 else ""
    jobs = {name: _job(name, one, only, model.timezone) for name, one in model.jobs.items()}
    return Config(
        path=path,
        files=folder.files,
        ignored=folder.ignored,
        state=Path(model.state) if model.state else default_state(path, environ),
        state_group=model.state_group,
        identities=_identities(model),
        jobs=_mirrored(jobs, model.fleet),
        workers=model.workers,
        requests_at_once=model.requests_at_once,
        timezone=model.timezone,
        log=Log(model.log.format, model.log.level),
        web=_web(model.web) if model.web else None,
        notify=tuple(Notify(one.webhook, tuple(one.when), one.template) for one in model.notify),
        trash=TrashRules(model.trash.keep, model.trash.size),
        digest=digest,
        fleet=None if model.fleet is None else _fleet(model.fleet, jobs),
    )


def default_state(path: Path, environ: Mapping[str, str]) -> Path:
    """Return the state folder that is used when the configuration names none.

    It depends on the configuration's path, not on the user who runs the command.
    """
    if environ.get("STATE_DIRECTORY"):
        return Path(environ["STATE_DIRECTORY"].split(":")[0])
    if path.resolve().is_relative_to("/etc"):
        return Path("/var/lib/syncd")
    home = environ.get("XDG_STATE_HOME") or f"{environ.get('HOME') or Path.home()}/.local/state"
    return Path(home) / "syncd"


def _web(one: WebModel) -> Web:
    return Web(
        one.listen,
        one.password,
        one.show_diffs,
        Webhook(one.webhook.path, one.webhook.secret) if one.webhook else None,
        {name: user.hash for name, user in one.users.items()},
        one.token,
        one.prefix,
        tuple(one.trusted_proxies),
        one.actions,
    )


def _identities(model: ConfigModel) -> dict[str, Identity]:
    found = {name: _identity(name, one) for name, one in model.github.items()}
    if model.fleet is not None and model.fleet.role.mirrors:
        found.setdefault(FLEET, FleetIdentity(FLEET, api=""))
    return found


def _mirrored(jobs: Mapping[str, Job], fleet: FleetModel | None) -> Mapping[str, Job]:
    """Return the jobs that this machine mirrors: an agent's come from the database."""
    if fleet is None:
        return jobs
    if not fleet.role.mirrors:
        return {}
    return {name: _of_agent(job, fleet) for name, job in jobs.items() if _is_here(job, fleet)}


def _is_here(job: Job, fleet: FleetModel) -> bool:
    """Return whether the machine's labels have those of the job's `where:`."""
    return has_labels(fleet.labels or {}, job.where)


def _of_agent(job: Job, fleet: FleetModel) -> Job:
    """Return the job as an agent runs it; `require` is judged where GitHub is asked."""
    require = Require() if fleet.role.controls else job.require
    return replace(job, identity=FLEET, require=require)


def _fleet(one: FleetModel, jobs: Mapping[str, Job]) -> Fleet:
    published = jobs if one.role.controls else {}
    not_here = tuple(name for name, job in jobs.items() if not _is_here(job, one))
    return Fleet(
        one.role,
        one.database,
        one.name,
        one.sign,
        tuple(one.trust),
        published,
        one.labels or {},
        not_here if one.role.mirrors else (),
    )


def _identity(name: str, one: IdentityModel) -> Identity:
    if one.private_key is not None:
        return AppIdentity(
            name,
            one.api,
            one.ca_file,
            str(one.app_id or one.client_id),
            one.installation_id,
            one.private_key,
        )
    if one.token is not None:
        return TokenIdentity(name, one.api, one.ca_file, one.token)
    if one.login is not None:
        return LoginIdentity(name, one.api, one.ca_file, one.login.client_id)
    return AnonymousIdentity(name, one.api, one.ca_file)


def _job(name: str, one: JobModel, only_identity: str, timezone: str) -> Job:
    share, count = one.limits.delete
    return Job(
        name=name,
        identity=one.as_ or only_identity,
        repo=one.repo,
        ref=one.ref,
        paths=tuple(_rule(path) for path in one.paths),
        every_seconds=one.every,
        cron=one.cron,
        jitter_seconds=one.jitter,
        on_push=one.on_push,
        prune=one.prune,
        drift=one.drift,
        symlinks=one.symlinks,
        submodules=one.submodules,
        lfs=one.lfs,
        owner=one.owner,
        mode=one.mode,
        dir_mode=one.dir_mode,
        limits=Limits(share, count, one.limits.files, one.limits.size, one.limits.empty),
        publish=one.publish,
        keep=one.keep,
        validate=one.validate_,
        on_change=one.on_change,
        undo_on_failure=one.undo_on_failure,
        health=None if one.health is None else _health(one.health),
        require=Require(**one.require.model_dump()),
        apply=_apply_rules(one.apply, timezone),
        reload=ReloadSpacing(one.reload.at_most_every, one.reload.quiet),
        first=None if one.first is None else FirstRuns(one.first.every, one.first.for_),
        report=Report(one.report.status, one.report.context, one.report.as_),
        rollout=None if one.rollout is None else _rollout(one.rollout),
        where=tuple(sorted((one.where or {}).items())),
        timeout_seconds=one.timeout,
        hook_timeout_seconds=one.hook_timeout,
        hook_user=one.hook_user,
    )


def _rollout(one: RolloutModel) -> Rollout:
    shares = (one.canary,) if one.then is None else (one.canary, one.then)
    return Rollout(shares, one.pause, tuple(one.halt_on))


def _health(one: HealthModel) -> Health:
    return Health(one.command, one.for_, one.every, one.timeout, one.failures)


def _apply_rules(one: ApplyModel, timezone: str) -> ApplyRules:
    if not one.windows and not one.freeze:
        return ApplyRules()
    zone = time_zone(timezone)
    return ApplyRules(
        tuple(Window(window.start, window.for_) for window in one.windows),
        tuple(
            Freeze(
                freeze_begin(freeze.from_, zone), freeze_end(freeze.to, zone), freeze.reason or ""
            )
            for freeze in one.freeze
        ),
        timezone,
    )


def _rule(one: PathModel) -> PathRule:
    return PathRule(
        one.from_.strip("/"),
        one.to.rstrip("/"),
        one.to.endswith("/"),
        one.include,
        one.exclude,
        one.mode,
        one.owner,
        one.dir_mode,
    )
