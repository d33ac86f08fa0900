"""What the owner of a fleet's database may write into it to get a file onto an agent: seeded tries.

Each try is made on a revision that a controller published and the agent has not applied. A try is
a name and statements; the names tell the kinds apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from msgspec.structs import replace

from syncd.fleet.manifest import ManifestEntry, Revision, manifest_digest
from syncd.fleet.signing import Signer
from syncd.git_objects import blob_id

Statement = tuple[str, tuple[Any, ...]]
NEWEST = (
    "(SELECT revision.id FROM syncd.revision JOIN syncd.job ON job.id = job_id "
    "WHERE job.name = 'nginx' ORDER BY revision.sequence DESC LIMIT 1)"
)
OF_NEWEST = f"WHERE revision_id = {NEWEST}"
ONE_FILE = f"{OF_NEWEST} AND path = 'nginx/nginx.conf'"


@dataclass(frozen=True)
class Target:
    """What the attacker has: the signed revisions, another key, and the mark of a run command."""

    newest: Revision
    entries: tuple[ManifestEntry, ...]
    other_job: Revision
    stranger: Signer
    mark: str

    @property
    def commands(self) -> tuple[str, ...]:
        touch = f"touch {self.mark}"
        return (
            f"$({touch})",
            f"`{touch}`",
            f"; {touch};",
            f"| {touch}",
            f"main\n{touch}",
            json.dumps({"on_change": touch, "validate": touch, "to": "/etc/cron.d/"}),
            f"{{staged}} && {touch}",
            f"ssh://-oProxyCommand={touch}/x",
        )


PATHS = (
    "nginx/../../../etc/cron.d/evil",
    "/etc/shadow",
    "nginx//nginx.conf",
    "nginx/./nginx.conf",
    "nginx/.git/hooks/post-checkout",
    "nginx/a\nb",
    "nginx/\u202efnoc.xnign",
    "ngin\u0445/nginx.conf",  # a Cyrillic letter
    "nginx/ngi\u0301nx.conf",
    "nginx/\ufeffnginx.conf",
    "nginx/nginx.conf/",
    "nginx/NGINX.CONF",
    "nginx/~/.ssh/authorized_keys",
    "nginx/" + "a" * 5000,
    "nginx/" + "a/" * 400 + "b",
    "-rf",
    "",
    "..",
)
MODES = (0o100755, 0o120000, 0o160000, 0o40000, 0o104755, 0o102755, 0, -1, 1, 2**31 - 1)
SIZES = (-1, 0, 1, 10**6, 2**31, 2**62)
JSONS = (
    "5",
    "null",
    '"nginx/"',
    "{}",
    "[]",
    '["/"]',
    '["nginx/", "../"]',
    "[[]]",
    "[null]",
    "true",
)


def _text(random: Random, target: Target) -> str:
    """A value for any text: a command, a path, or an id that is none."""
    id_like = random.choice(
        ("f" * 40, "F" * 40, "f" * 39, "f" * 64, "\uff11" * 40, "f" * 40 + "\n")
    )
    return random.choice((*target.commands, random.choice(PATHS), id_like))


def _set(column: str, value: Any) -> list[Statement]:
    return [(f"UPDATE syncd.revision SET {column} = %s WHERE id = {NEWEST}", (value,))]


def _set_entry(column: str, value: Any) -> list[Statement]:
    return [(f"UPDATE syncd.manifest SET {column} = %s {ONE_FILE}", (value,))]


def _content(data: bytes) -> Statement:
    """A content that the database did not have, with the ids that belong to it."""
    row = (blob_id(data), hashlib.sha256(data).hexdigest(), len(data), data)
    return "INSERT INTO syncd.blob (id, sha256, size, data) VALUES (%s, %s, %s, %s)", row


def _evil(random: Random, target: Target) -> bytes:
    command = random.choice(target.commands).encode()
    return b"#!/bin/sh\n" + command + b"\n# " + random.randbytes(8).hex().encode()


def commit(random: Random, target: Target) -> list[Statement]:
    return _set("commit_sha", _text(random, target))


def repository(random: Random, target: Target) -> list[Statement]:
    return _set(random.choice(("repo", "ref")), _text(random, target))


def number(random: Random, target: Target) -> list[Statement]:
    now = target.newest.sequence
    return _set("sequence", random.choice((now + 1, now + 10**6, 2**62, now - 1)))


def signature(random: Random, target: Target) -> list[Statement]:
    good = target.newest.signature
    flipped = bytearray(good)
    flipped[random.randrange(64)] ^= 1 << random.randrange(8)
    order = 2**252 + 27742317777372353535851937790883648493  # of the curve: RFC 8032, 5.1
    malleable = (
        good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(33, "little")[:32]
    )
    forged = target.stranger.sign(target.newest.signed_text)
    others = (b"", b"\0" * 64, good[: random.randrange(64)], good + b"\0", random.randbytes(64))
    chosen = random.choice((*others, bytes(flipped), malleable, forged, target.other_job.signature))
    return _set("signature", chosen)


def roots(random: Random, target: Target) -> list[Statement]:
    smuggled = json.dumps([random.choice((*target.commands, *PATHS))])
    return _set("roots", random.choice((*JSONS, smuggled)))


def digest(random: Random, target: Target) -> list[Statement]:
    entries = [ManifestEntry(*_fields(one)) for one in target.entries[1:]]
    other = manifest_digest(target.newest.roots, entries)
    return _set("manifest_sha256", random.choice((other, _text(random, target))))


def _fields(one: ManifestEntry) -> tuple[str, int, str, str, int]:
    return one.path, one.mode, one.blob, one.sha256, one.size


def path(random: Random, target: Target) -> list[Statement]:
    return _set_entry("path", random.choice((*PATHS, *target.commands)))


def mode(random: Random, target: Target) -> list[Statement]:
    return _set_entry("mode", random.choice(MODES))


def size(random: Random, target: Target) -> list[Statement]:
    return _set_entry("size", random.choice(SIZES))


def sha256(random: Random, target: Target) -> list[Statement]:
    return _set_entry("sha256", _text(random, target))


def another_content(random: Random, target: Target) -> list[Statement]:
    """The content of another job, or one that the attacker made, in place of a file's."""
    if random.random() < 0.5:
        return [
            (
                f"UPDATE syncd.manifest SET blob_id = (SELECT blob_id FROM syncd.manifest m JOIN "
                f"syncd.revision r ON r.id = m.revision_id WHERE r.commit_sha = %s) {ONE_FILE}",
                (target.other_job.commit,),
            )
        ]
    data = _evil(random, target)
    entry = (blob_id(data), hashlib.sha256(data).hexdigest(), len(data))
    change = f"UPDATE syncd.manifest SET blob_id = %s, sha256 = %s, size = %s {ONE_FILE}"
    return [_content(data), (change, entry)]


def a_file_more(random: Random, target: Target) -> list[Statement]:
    data = _evil(random, target)
    values = (f"nginx/{random.randbytes(4).hex()}", random.choice(MODES[:4]), blob_id(data))
    row = (*values, hashlib.sha256(data).hexdigest(), len(data))
    return [
        _content(data),
        (f"INSERT INTO syncd.manifest SELECT {NEWEST}, %s, %s, %s, %s, %s", row),
    ]


def a_file_less(random: Random, target: Target) -> list[Statement]:
    only = "" if random.random() < 0.3 else " AND path = 'nginx/nginx.conf'"
    return [(f"DELETE FROM syncd.manifest {OF_NEWEST}{only}", ())]


def a_path_twice(random: Random, target: Target) -> list[Statement]:
    data = _evil(random, target)
    row = (blob_id(data), hashlib.sha256(data).hexdigest(), len(data))
    made = f"SELECT revision_id, path, mode, %s, %s, %s FROM syncd.manifest {ONE_FILE}"
    copy = f"INSERT INTO syncd.manifest {made}"
    return [
        _content(data),
        ("ALTER TABLE syncd.manifest DROP CONSTRAINT manifest_pkey", ()),
        (copy, row),
    ]


def bytes_of_a_content(random: Random, target: Target) -> list[Statement]:
    one = next(entry for entry in target.entries if entry.path == "nginx/nginx.conf")
    evil = _evil(random, target)
    same_length = (evil * 20)[: one.size]
    chosen = random.choice((evil, same_length, b"", b"\0" * one.size, evil * 20_000))
    return [("UPDATE syncd.blob SET data = %s WHERE id = %s", (chosen, one.blob))]


def huge_manifest(random: Random, target: Target) -> list[Statement]:
    rows = random.choice((500, 3000))
    made = (
        f"SELECT {NEWEST}, 'nginx/' || n || %s, mode, blob_id, sha256, size FROM syncd.manifest, "
        f"generate_series(1, {rows}) n {ONE_FILE}"
    )
    return [(f"INSERT INTO syncd.manifest {made}", (random.choice(PATHS[-5:]),))]


def older_head(random: Random, target: Target) -> list[Statement]:
    """Only what the agent had before is left, and sometimes with a new number."""
    statements: list[Statement] = [
        ("DELETE FROM syncd.revision WHERE commit_sha = %s", (target.newest.commit,)),
        ("DELETE FROM syncd.revision WHERE commit_sha = %s", ("1" * 40,)),
    ]
    if random.random() < 0.5:
        statements += _set("sequence", target.newest.sequence + random.randrange(1, 10**6))
    return statements


def another_jobs_revision(random: Random, target: Target) -> list[Statement]:
    move = "UPDATE syncd.revision SET job_id = (SELECT id FROM syncd.job WHERE name = 'nginx')"
    number = random.randrange(10**5, 10**9)
    later = f"sequence = sequence + {number}"
    return [(f"{move}, {later} WHERE commit_sha = %s", (target.other_job.commit,))]


def jobs_exchanged(random: Random, target: Target) -> list[Statement]:
    rename = "UPDATE syncd.job SET name = %s WHERE name = %s"
    all_jobs = "SELECT 'web01', id FROM syncd.job ON CONFLICT DO NOTHING"
    grant = f"INSERT INTO syncd.job_grant (agent, job_id) {all_jobs}"
    return [(rename, ("x", "nginx")), (rename, ("nginx", "sshd")), (grant, ())]


def forged_revision(random: Random, target: Target) -> list[Statement]:
    """A revision that is right in all but its key, with an executable of the attacker."""
    data = _evil(random, target)
    name = random.choice(("nginx/nginx.conf", "nginx/evil", *PATHS[:6]))
    ids = (blob_id(data), hashlib.sha256(data).hexdigest(), len(data))
    entry = ManifestEntry(name, random.choice((0o100755, 0o120000)), *ids)
    newest = target.newest
    made = replace(
        newest,
        commit=random.randbytes(20).hex(),
        sequence=newest.sequence + 1,
        manifest_sha256=manifest_digest(newest.roots, [entry]),
    )
    columns = {
        "commit_sha": made.commit,
        "sequence": made.sequence,
        "manifest_sha256": made.manifest_sha256,
    }
    setting = ", ".join(f"{one} = %s" for one in columns)
    row = (*columns.values(), target.stranger.sign(made.signed_text))
    return [
        _content(data),
        (f"DELETE FROM syncd.manifest {OF_NEWEST}", ()),
        (f"INSERT INTO syncd.manifest SELECT {NEWEST}, %s, %s, %s, %s, %s", _fields(entry)),
        (f"UPDATE syncd.revision SET {setting}, signature = %s WHERE id = {NEWEST}", row),
    ]


KINDS: tuple[Callable[[Random, Target], list[Statement]], ...] = (
    commit,
    repository,
    number,
    signature,
    roots,
    digest,
    path,
    mode,
    size,
    sha256,
    another_content,
    a_file_more,
    a_file_less,
    a_path_twice,
    bytes_of_a_content,
    huge_manifest,
    older_head,
    another_jobs_revision,
    jobs_exchanged,
    forged_revision,
)


def smuggled(random: Random, target: Target) -> list[Statement]:
    """Commands and destinations in columns that no agent reads, and in the reasons of people."""
    value = random.choice(target.commands)
    return [
        ("UPDATE syncd.revision SET worker = %s, stopped = %s", (value, value)),
        ("UPDATE syncd.revision SET rollout = %s::jsonb", (json.dumps({"on_change": value}),)),
        ("UPDATE syncd.job SET settings = %s, error = %s, halted_reason = %s", (value,) * 3),
        ("UPDATE syncd.job SET selector = %s::jsonb", (json.dumps({"to": value}),)),
        ("UPDATE syncd.agent SET labels = %s::jsonb", (json.dumps({"to": value}),)),
    ]


__all__ = ["KINDS", "Statement", "Target", "smuggled"]
