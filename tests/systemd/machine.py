"""A machine of its own for tests: Debian's systemd as process 1 in new namespaces,
with syncd installed from the built wheel.

The tree is made by mmdebstrap and kept in the temporary folder; each machine runs on an overlay
above it, so that every session meets a fresh one. GitHub is the simulator in the test's own
process, listening on the machine's loopback. Needs root.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "systemd,systemd-sysv,dbus,python3,nginx,polkitd,sudo,man-db,zsh,fish,bash-completion"
SUITE = "bookworm"
CLONE_NEWNET = 0x40000000
DEADLINE_SECONDS = 60.0

# Source: systemd's container interface (systemd.io/CONTAINER_INTERFACE): /proc, /sys, its own
# cgroup tree, /dev and /run are the manager's
BOOT = r"""
set -e
mount --make-rprivate /
layers="lowerdir=$TREE,upperdir=$SCRATCH/upper,workdir=$SCRATCH/work"
mount -t overlay overlay -o "$layers" "$SCRATCH/root"
cd "$SCRATCH/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mountpoint -q sys/fs/cgroup && umount sys/fs/cgroup || true
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<< "$device"
    mknod -m 666 "dev/$name" c "$major" "$minor"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p .old
pivot_root . .old
umount -l /.old
cd /
# the kernel's settings are those of this machine too
ln -sf /dev/null etc/systemd/system/systemd-sysctl.service
mount --make-rshared /
ip link set lo up 2>/dev/null || /usr/bin/python3 -c "
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH14s', b'lo', 1, b''))"
export container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec /lib/systemd/systemd systemd.unit=multi-user.target
"""


class CannotBoot(Exception):
    """This machine can't host another; the text says why."""


def tree() -> Path:
    """A minimal Debian with systemd, nginx, man and three shells, kept between sessions.

    Raises CannotBoot.
    """
    for tool in ("mmdebstrap", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            raise CannotBoot(f"{tool} is not installed")
    if os.geteuid() != 0:
        raise CannotBoot("needs root")
    place = (
        Path(tempfile.gettempdir())
        / f"syncd-systemd-tree-{hashlib.sha256(f'{SUITE} {PACKAGES}'.encode()).hexdigest()[:12]}"
    )
    if not place.exists():
        making = Path(tempfile.mkdtemp(prefix="syncd-systemd-making-"))
        done = subprocess.run(
            [
                "mmdebstrap",
                "--variant=minbase",
                f"--include={PACKAGES}",
                SUITE,
                str(making / "tree"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(making, ignore_errors=True)
            raise CannotBoot(f"mmdebstrap: {done.stderr[-400:]}")
        with suppress(OSError):  # somebody else was faster
            (making / "tree").rename(place)
        shutil.rmtree(making, ignore_errors=True)
    return place


def built_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("syncd-*.whl"))


def requirements(
    name: str, found: dict[str, importlib.metadata.Distribution] | None = None
) -> dict[str, importlib.metadata.Distribution]:
    """Every distribution that `name` needs to run, itself left out."""
    found = {} if found is None else found
    for line in importlib.metadata.distribution(name).requires or ():
        if ";" in line and "extra ==" in line:
            continue
        needed = re.split(r"[^A-Za-z0-9_.-]", line)[0]
        with suppress(importlib.metadata.PackageNotFoundError):  # needed on other systems only
            distribution = importlib.metadata.distribution(needed)
            if needed.lower() not in found:
                found[needed.lower()] = distribution
                requirements(needed, found)
    return found


def install(root: Path, wheel: Path) -> None:
    """syncd stands in /opt/syncd below `root`, put there by pip from the wheel;
    what it needs is copied from this environment.
    """
    chroot = ["chroot", str(root)]
    subprocess.run(
        [*chroot, "/usr/bin/python3", "-m", "venv", "--without-pip", "/opt/syncd"], check=True
    )
    site = root / "opt/syncd/lib/python3.11/site-packages"
    for distribution in [*requirements("syncd").values(), importlib.metadata.distribution("pip")]:
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if (
                not str(file).startswith("..") and source.is_file()
            ):  # with what is compiled: the service's user could not keep it
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, site / file)
    shutil.copy2(wheel, root / "opt" / wheel.name)
    subprocess.run(
        [
            *chroot,
            "/opt/syncd/bin/python",
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            f"/opt/{wheel.name}",
        ],
        check=True,
        capture_output=True,
    )


def entered(pid: int, *argv: str) -> list[str]:
    """The command line that runs `argv` inside the machine whose process 1 is `pid`."""
    return [
        "nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i",
        "PATH=/opt/syncd/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", *argv,
    ]  # fmt: skip


@dataclass
class Machine:
    """`pid` is its process 1 as we see it."""

    pid: int
    log: Path

    def run(
        self,
        *argv: str,
        check: bool = True,
        stdin: str | None = None,
        timeout: float = DEADLINE_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """A command inside, as root."""
        done = subprocess.run(
            entered(self.pid, *argv),
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, (
            f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()[-3000:]}"
        )
        return done

    def path(self, inside: str) -> Path:
        """A path inside, as we reach it."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(text)
        self.path(inside).chmod(mode)

    def systemctl(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("systemctl", *argv, check=check)

    def show(self, unit: str, key: str) -> str:
        return self.systemctl("show", "-P", key, unit).stdout.strip()

    def journal(self, unit: str | None = None) -> str:
        """Everything that was logged, of one unit or of all."""
        return self.run(
            "journalctl", "--no-pager", "-o", "cat", *(("-u", unit) if unit else ()), check=False
        ).stdout

    def in_network(self, act: Callable[[], object]) -> None:
        """`act` is done by a thread that sees the machine's network:
        a socket made there stays there.

        Source: setns(2), it moves one thread.
        """
        failure: list[BaseException] = []

        def there() -> None:
            try:
                descriptor = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
                try:
                    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                finally:
                    os.close(descriptor)
                act()
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=there)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]


def until(what: str, asked: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """Returns as soon as the answer is true; fails by name after `seconds`."""
    ends = time.monotonic() + seconds
    while not asked():
        assert time.monotonic() < ends, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


@contextmanager
def booted(base: Path, prepare: Callable[[Path], None], scratch: Path) -> Iterator[Machine]:
    """A machine above the tree `base`, up to multi-user; `prepare` changes its root first.

    Nothing of it is left afterwards. Raises CannotBoot.
    """
    for name in ("upper", "work", "root"):
        (scratch / name).mkdir()
    _with_overlay(base, scratch, prepare)
    group = _own_group()
    log = scratch / "console.log"
    with open(log, "wb") as console:
        started = subprocess.Popen(
            [
                "unshare",
                "--pid",
                "--mount",
                "--uts",
                "--ipc",
                "--net",
                "--cgroup",
                "--fork",
                "--kill-child",
                "bash",
                "-c",
                BOOT,
            ],
            env={"TREE": str(base), "SCRATCH": str(scratch), "PATH": os.environ["PATH"]},
            stdout=console,
            stderr=console,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: (group / "cgroup.procs").write_text("0"),
        )
    try:
        yield Machine(_process_one(started, log), log)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(
                started.pid, signal.SIGKILL
            )  # process 1 of a namespace takes everything in it along
        started.wait()
        _remove_group(group)
        shutil.rmtree(scratch, ignore_errors=True)


def _with_overlay(base: Path, scratch: Path, act: Callable[[Path], None]) -> None:
    mounted = scratch / "root"
    subprocess.run(
        [
            "mount",
            "-t",
            "overlay",
            "overlay",
            "-o",
            f"lowerdir={base},upperdir={scratch}/upper,workdir={scratch}/work",
            str(mounted),
        ],
        check=True,
    )
    try:
        act(mounted)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def _own_group() -> Path:
    """A cgroup (v2) of its own, so that the machine's manager touches nothing of the host's."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            group = Path(left.split()[4]) / f"syncd-test-{os.getpid()}"
            group.mkdir(exist_ok=True)
            return group
    raise CannotBoot("no cgroup v2 is mounted")


def _remove_group(group: Path) -> None:
    def empty() -> bool:
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
        return not group.exists()

    until("the machine's cgroups are gone", empty)


def _process_one(started: subprocess.Popen[bytes], log: Path) -> int:
    """The pid of the machine's process 1 once it is up."""
    ends = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < ends and started.poll() is None:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            asked = subprocess.run(
                [
                    "nsenter",
                    "-t",
                    children[0],
                    "-m",
                    "-u",
                    "-i",
                    "-n",
                    "-p",
                    "-C",
                    "--",
                    "systemctl",
                    "is-system-running",
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if asked.stdout.strip() in ("running", "degraded"):
                return int(children[0])
        time.sleep(0.05)
    raise CannotBoot(f"systemd did not come up: {log.read_text(errors='replace')[-1000:]}")
