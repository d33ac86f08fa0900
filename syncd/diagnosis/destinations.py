"""Judges the places that jobs write to: access, links, mounts, file systems and sandboxes."""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Iterator

from syncd.diagnosis.finding import Finding, error, ok, warning
from syncd.mirror.destination_checks import destination_warnings
from syncd.mirror.destination_facts import (
    DestinationFacts,
    destination_facts,
    is_read_only_for,
)
from syncd.models import Job, PathRule
from syncd.policies import Publish
from syncd.unit_name import service_in_use

# Source: filesystems(5), and the file systems' own pages in the kernel's documentation.
KERNEL = frozenset(
    (
        *("proc", "sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "configfs"),
        *("devpts", "efivarfs", "bpf", "pstore", "mqueue", "binfmt_misc", "fusectl"),
    )
)
MEMORY = frozenset(("tmpfs", "ramfs", "devtmpfs"))
WITHOUT_MODES = frozenset(("vfat", "msdos", "exfat", "ntfs", "ntfs3", "hfs"))
NETWORK = frozenset(("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "afs"))


def check_destination(job: Job, rule: PathRule, daemon_pid: int | None) -> Iterator[Finding]:
    """Yield what keeps one destination of a job from being written, or what to know of it.

    `daemon_pid` is the running daemon's process, whose view of the disk may be another.
    """
    to = f"{rule.to}{'/' if rule.directory else ''}"
    place = list(_place(job, rule, daemon_pid))
    is_kernels = any(one.id == "doctor/kernel-file-system" for one in place)
    found = place if is_kernels else [*_access(job, rule), *place]
    yield from found
    if any(one.exit_code for one in found):
        return
    folder = folder_of(job, rule)
    if os.path.isdir(folder):
        yield ok("doctor/destination", "destination", f"{to} ({job.name}) can be written")
        return
    mode = rule.dir_mode if rule.dir_mode is not None else job.dir_mode
    owner = rule.owner or job.owner or "the user who runs syncd"
    yield ok(
        "doctor/destination",
        "destination",
        f"{to} ({job.name}) does not exist yet; the first sync creates {folder},"
        f" mode {mode:04o}, owner {owner}",
    )


def folder_of(job: Job, rule: PathRule) -> str:
    """Return the folder that files of the rule are made in."""
    if rule.directory and job.publish is not Publish.SYMLINK:
        return rule.to
    return posixpath.dirname(rule.to) or "/"


def _access(job: Job, rule: PathRule) -> Iterator[Finding]:
    for one in destination_warnings(rule.to, rule.directory):
        if one.id == "doctor/destination-is-a-link" and job.publish is Publish.SYMLINK:
            continue  # the link is what syncd publishes
        make = error if one.is_error else warning
        yield make(one.id, "destination", f"{job.name}: {one.text}", one.hint)


def _place(job: Job, rule: PathRule, daemon_pid: int | None) -> Iterator[Finding]:
    try:
        facts = destination_facts(folder_of(job, rule))
    except OSError as failure:
        if failure.errno != errno.EACCES:  # that is said by `_access`
            yield error(
                "doctor/destination-unreadable",
                "destination",
                f"{job.name}: {rule.to} can't be looked at: {failure.strerror}",
                "look at its disk: dmesg | tail",
            )
        return
    remedy = f"syncd init --systemd --install, then: systemctl restart {service_in_use(daemon_pid)}"
    yield from judge_place(job.name, facts, remedy)
    in_daemon = is_read_only_for(daemon_pid, facts.existing) if daemon_pid is not None else None
    if in_daemon and not facts.read_only:
        yield error(
            "doctor/sandboxed",
            "destination",
            f"{job.name}: {facts.existing} is read-only for the running daemon (pid {daemon_pid}),"
            f" whose unit lacks ReadWritePaths={facts.folder}",
            remedy,
        )


def judge_place(job: str, facts: DestinationFacts, remedy: str) -> Iterator[Finding]:
    """Yield what the file system and the mounts of a destination mean for it. Pure.

    `remedy` is what to type where a unit's sandbox closes it.
    """
    place = f"{facts.folder} is on {facts.file_system}, mounted at {facts.mount}"
    if facts.file_system in KERNEL:
        yield error(
            "doctor/kernel-file-system",
            "destination",
            f"{job}: {place}: the kernel's own view, which keeps no files",
            f"correct to: of {job}; it has to be a folder on a disk",
        )
        return
    if facts.read_only:
        yield error(
            "doctor/read-only",
            "destination",
            f"{job}: {place}, and is read-only here",
            f"mount -o remount,rw {facts.mount}; in a unit: {remedy}",
        )
    yield from _file_system(job, facts, place)
    for point in facts.mounted_files:
        yield warning(
            "doctor/mounted-file",
            "destination",
            f"{job}: {point} is a mount of its own: syncd can't replace it",
            f"mount the folder instead of the file, or exclude it from the job; umount {point}",
        )


def _file_system(job: str, facts: DestinationFacts, place: str) -> Iterator[Finding]:
    kind = facts.file_system
    text = hint = None
    if kind in MEMORY:
        text = f"{place}: its files are gone at the next start of the machine"
        hint = "fine if that is meant: the next sync writes them again; else correct to:"
    elif kind in WITHOUT_MODES:
        text = f"{place}: it keeps no modes and owners, and a sync fails where they differ"
        hint = f"mount {facts.mount} with the uid, gid and umask that the job asks for"
    elif kind == "overlay":
        text = f"{place}: in a container its files are gone with the container"
        hint = f"mount a volume at {facts.folder}, if they are to stay"
    elif kind.startswith("fuse") and kind != "fuseblk":
        text = f"{place}: a FUSE file system may not keep modes and owners"
        hint = "after the first sync: syncd verify"
    elif kind in NETWORK:
        text = f"{place}: a network file system, which other machines may write too"
        hint = "let one machine alone mirror to it; the state folder has to be on a local disk"
    if text is not None:
        yield warning("doctor/special-file-system", "destination", f"{job}: {text}", hint)


__all__ = [
    "check_destination",
    "folder_of",
    "judge_place",
]
