"""A fleet's database for tests: logins, addresses, and the parts that read and write it.

It needs psycopg, which an installation without the `syncd[fleet]` extra has not: tests skip before
they import it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec import structs

from syncd.deadline import Deadline
from syncd.fleet import grants, leases
from syncd.fleet.database import DatabaseLimits, FleetDatabase
from syncd.fleet.leases import Lease
from syncd.fleet.link import Link
from syncd.fleet.manifest import ManifestEntry, Revision, manifest_digest, roots_of
from syncd.fleet.migrate import initialise
from syncd.fleet.publish import Publication, publish
from syncd.fleet.schema import CHANNEL
from syncd.fleet.signing import Signer, TrustedKeys
from syncd.fleet.source import FleetSource
from syncd.git_objects import FILE, blob_id
from syncd.models import Job, PathRule
from syncd.ports import BlobRequest, Head
from syncd.redaction import Secret
from syncd.store.blobs import BlobCache
from tests.support.clock import FakeClock
from tests.support.postgresql import Cluster
from tests.support.secret_scan import SecretScan
from tests.support.sync_env import SyncEnv

AGENTS = ("web01", "web02")


@dataclass
class Fleet:
    """A database with a fleet's schema, the login of a controller (`c1`), and those of agents."""

    cluster: Cluster
    name: str

    def address(self, login: str | None = None) -> str:
        return self.cluster.address(self.name, login)

    def database(self, login: str | None = None, connections: int = 4) -> FleetDatabase:
        limits = DatabaseLimits(connections)
        return FleetDatabase(Secret(self.address(login)), "syncd-test", limits)


def made_fleet(cluster: Cluster, name: str) -> Fleet:
    """Make the database `name` with a fleet's schema, and the logins."""
    cluster.execute(f"CREATE DATABASE {name}")
    fleet = Fleet(cluster, name)
    database = fleet.database()
    with database.begin() as connection:
        initialise(connection)
    database.close()
    cluster.execute("CREATE ROLE c1 LOGIN IN ROLE syncd_controller")
    for agent in AGENTS:
        cluster.execute(f"CREATE ROLE {agent} LOGIN CONNECTION LIMIT 3 IN ROLE syncd_agent")
    return fleet


class Publisher:
    """A controller's part without GitHub: claims a job, and publishes files as a commit."""

    def __init__(self, fleet: Fleet, key: Signer | None = None, login: str = "c1") -> None:
        self.fleet, self.signer = fleet, key or new_signer()
        self.database = fleet.database(login)

    def claim(self, job: Job, worker: str = "c1", ttl_seconds: float = 60.0) -> Lease:
        with self.database.begin() as connection:
            leases.register(connection, {job.name: job})
            leases.make_due(connection, [job.name])
            return leases.claim(connection, worker, [job.name], ttl_seconds, 1)[0]

    def publish(self, job: Job, files: Mapping[str, bytes], commit: str) -> Revision:
        """Publish in one step, as a controller that claims and gives back."""
        lease = self.claim(job)
        made = structs.replace(publication(job, files, commit), rollout=job.rollout)
        with self.database.begin() as connection:
            revision = publish(connection, lease, made, self.signer)
        with self.database.begin() as connection:
            leases.release(connection, lease, leases.PollResult(60.0))
        return revision

    def grant(self, agent: str, job: Job) -> None:
        with self.database.begin() as connection:
            grants.grant(connection, [agent], [job.name], "test")

    def close(self) -> None:
        self.database.close()


def new_signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


def publication(job: Job, files: Mapping[str, bytes], commit: str) -> Publication:
    """What a controller makes of a commit with these files."""
    entries = [
        ManifestEntry(path, FILE, blob_id(data), hashlib.sha256(data).hexdigest(), len(data))
        for path, data in sorted(files.items())
    ]
    roots = roots_of(job.paths)
    digest = manifest_digest(roots, entries)
    unsigned = Revision(job.name, job.repo, job.ref, commit, 0, roots, digest)
    contents = [(one, lambda path=one.path: files[path]) for one in entries]
    return Publication(unsigned, entries, contents, "settings", "c1")


def job_of(name: str = "nginx", to: str = "/etc/nginx", **values: Any) -> Job:
    """A job of acme/infra that lists the folder `nginx/`."""
    rules = (PathRule("nginx", to, True),)
    return Job(name, "fleet", "acme/infra", values.pop("ref", "main"), rules, **values)


JOB_NGINX = job_of()


class Agent:
    """One login of an agent, and what it reads of a job."""

    def __init__(
        self,
        fleet: Fleet,
        controller: Publisher,
        folder: Path,
        login: str = "web01",
        limits: DatabaseLimits = DatabaseLimits(),
    ) -> None:
        self.clock = FakeClock()
        self.database = FleetDatabase(Secret(fleet.address(login)), "syncd-test", limits)
        self.link = Link(self.database, self.clock, lambda: 1.0)
        self.trusted = TrustedKeys([controller.signer.public_key])
        self.blobs = BlobCache(folder / "blobs")
        self.deadline = Deadline(self.clock, 60.0)

    def source(self, job: Job = JOB_NGINX, goes_on: bool = False) -> FleetSource:
        return FleetSource(job, self.link, self.trusted, self.clock, goes_on)

    def resolve(
        self, job: Job = JOB_NGINX, known: Head | None = None, goes_on: bool = False
    ) -> Head:
        return self.source(job, goes_on).resolve(job.repo, job.ref, known, self.deadline)

    def contents(self, job: Job = JOB_NGINX, commit: str = "1" * 40) -> dict[str, bytes]:
        """Everything that the job lists at the commit, as a run fetches it."""
        source = self.source(job)
        listing = source.listing(job.repo, commit, job.paths, None, self.deadline)  # type: ignore[arg-type]
        wanted = [BlobRequest(path, entry) for path, entry in listing.entries.items()]
        source.fetch(job.repo, commit, wanted, self.blobs, self.deadline)
        return {one.path: self._content(one.entry.id) for one in wanted}

    def _content(self, blob: str) -> bytes:
        with self.blobs.open(blob) as content:
            return content.read()


@dataclass
class FleetMachines:
    """A controller over the simulator, and agents of its fleet: each a configuration of its own."""

    fleet: Fleet
    controller: SyncEnv
    signer: Signer

    def agent(self, name: str, **job: Any) -> SyncEnv:
        """An agent that is granted the job `nginx`, and its configuration in a folder beside."""
        folder = self.controller.folder.parent / name
        (folder / "dest").mkdir(parents=True)
        env = replace(
            self.controller, folder=folder, jobs={}, identities={}, extra={}, canary=SecretScan()
        )
        paths = [{"from": "nginx/", "to": f"{folder}/dest/"}]
        env.jobs["nginx"] = {"repo": "acme/infra", "every": "1h", "paths": paths, **job}
        env.extra["fleet"] = {
            "database": {"file": secret_file(folder / "database", self.fleet.address(name))},
            "role": "agent",
            "trust": [self.signer.public_key],
        }
        env.write()
        return env

    def another_controller(self, name: str) -> SyncEnv:
        """A second controller with the same jobs and key, and a state of its own."""
        folder = self.controller.folder.parent / name
        folder.mkdir()
        env = replace(self.controller, folder=folder, extra=dict(self.controller.extra))
        env.extra["fleet"] = {**self.controller.extra["fleet"], "name": name}
        env.write()
        return env

    def published(self, timeout_seconds: float = 60.0) -> AbstractContextManager[None]:
        """Leave the block when a controller has published something since it began."""
        return _published(self.fleet.address("c1"), timeout_seconds)


@contextmanager
def _published(address: str, timeout_seconds: float) -> Iterator[None]:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        yield
        assert list(connection.notifies(timeout=timeout_seconds, stop_after=1)), "nothing published"


def machines(fleet: Fleet, env: SyncEnv) -> FleetMachines:
    """Make the stand of a controller whose job `nginx` is due every second."""
    signer = new_signer()
    key = signer._key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    env.extra["fleet"] = {
        "database": {"file": secret_file(env.folder / "database", fleet.address("c1"))},
        "role": "controller",
        "name": "c1",
        "sign": {"file": secret_file(env.folder / "fleet.key", key.decode())},
    }
    env.write_config(every="1s")
    return FleetMachines(fleet, env, signer)


def secret_file(path: Path, text: str) -> str:
    """Write a secret as an operator would; return its path."""
    path.write_text(text)
    path.chmod(0o600)
    return str(path)
