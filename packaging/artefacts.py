"""What a release hands out: `dist` builds the wheel and the sdist into dist/, and checks them.

Called by `dev`, in its .venv. The build needs no network. Times in the files are SOURCE_DATE_EPOCH,
else the time of the last commit, so that two builds of one commit have equal bytes. Beside the two
are the versions that syncd is tested with, the same with hashes, and SHA256SUMS.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from packaging.metadata import Metadata

HERE = Path(__file__).resolve().parents[1]
SUMS = "SHA256SUMS"
BESIDE = ("constraints.txt", "constraints-hashed.txt")
# folder of the source tree: where the wheel has its files
PLACES = {"syncd": "syncd", "migrations": "syncd/_migrations", "systemd": "syncd/_systemd"}


class BuildError(Exception):
    """A build or a check of its result failed; the text says which, and why."""


def dist(source: Path, target: Path, epoch: int) -> list[Path]:
    """Build and check everything that needs no Debian tools; return the files, SHA256SUMS last."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="syncd-dist-") as folder:
        wheel, sdist = build(source, Path(folder), epoch)
        check_metadata(wheel, sdist)
        check_contents(source, wheel, sdist)
        check_rebuilt(wheel, sdist, epoch)
        made = [shutil.copy2(file, target) for file in (wheel, sdist)]
    made += [shutil.copy2(source / name, target) for name in BESIDE]
    return [*made, write_sums(target, made)]


def build(
    source: Path, target: Path, epoch: int, kinds: Iterable[str] = ("wheel", "sdist")
) -> list[Path]:
    """Build with hatchling, without isolation and so without a network; one file of each kind."""
    options = [part for kind in kinds for part in ("-t", kind)]
    _run(source, epoch, sys.executable, "-m", "hatchling", "build", "-d", str(target), *options)
    endings = {"wheel": "*.whl", "sdist": "*.tar.gz"}
    return [next(target.glob(endings[kind])) for kind in kinds]


def _run(folder: Path, epoch: int, *command: str) -> str:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


# --- checks ---------------------------------------------------------------------------------------


def check_metadata(wheel: Path, sdist: Path) -> None:
    """Twine's check where twine is installed; else the same fields by the library that it uses."""
    if find_spec("twine"):
        command = (sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist))
        _run(HERE, 0, *command)
        return
    for text in (_text_of_wheel(wheel, "METADATA"), _text_of_sdist(sdist, "PKG-INFO")):
        found = Metadata.from_email(text, validate=True)
        if not found.description or found.description_content_type != "text/markdown":
            raise BuildError("the metadata have no description as text/markdown")


def check_contents(source: Path, wheel: Path, sdist: Path) -> None:
    """Everything of the source tree's program is in both files, and nothing else in the wheel."""
    wanted = {wheel_name(name) for name in _source_names(source)}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
        licence = [
            name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")
        ]
    if found != wanted or not licence:
        raise BuildError(
            f"the wheel lacks {sorted(wanted - found)} and has {sorted(found - wanted)}"
        )
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    lacking = {*BESIDE, *_source_names(source), "LICENSE", "pyproject.toml"} - inside
    if lacking:
        raise BuildError(f"the sdist lacks {sorted(lacking)}")


def wheel_name(name: str) -> str:
    """The name that a file of the source tree has in a wheel."""
    folder, slash, rest = name.partition("/")
    return f"{PLACES[folder]}/{rest}" if slash else f"syncd/{name}"


def _source_names(source: Path) -> list[str]:
    files = [file for place in PLACES for file in (source / place).rglob("*") if file.is_file()]
    kept = [str(file.relative_to(source)) for file in files if file.suffix != ".pyc"]
    return sorted([*kept, "config.example.yaml"])


def check_rebuilt(wheel: Path, sdist: Path, epoch: int) -> None:
    """The sdist builds the same wheel, byte for byte."""
    with tempfile.TemporaryDirectory(prefix="syncd-sdist-") as folder:
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        [unpacked] = Path(folder).iterdir()
        [again] = build(unpacked, Path(folder, "again"), epoch, ["wheel"])
        if again.read_bytes() != wheel.read_bytes():
            raise BuildError("the sdist builds another wheel than the source tree does")


def _text_of_wheel(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [found] = [one for one in archive.namelist() if one.endswith(f".dist-info/{name}")]
        return archive.read(found).decode()


def _text_of_sdist(sdist: Path, name: str) -> str:
    with tarfile.open(sdist) as archive:
        file = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/{name}")
        assert file is not None
        return file.read().decode()


# --- sums and times -------------------------------------------------------------------------------


def write_sums(folder: Path, files: Iterable[Path]) -> Path:
    """Write SHA256SUMS over the files, as `sha256sum -c` reads it."""
    lines = [
        f"{hashlib.sha256(Path(file).read_bytes()).hexdigest()}  {Path(file).name}\n"
        for file in sorted(files, key=lambda one: Path(one).name)
    ]
    sums = folder / SUMS
    sums.write_text("".join(lines))
    return sums


def build_time(source: Path) -> int:
    """SOURCE_DATE_EPOCH, else the last commit's time, else now: in seconds since 1970."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    if not (source / ".git").exists():
        return int(time.time())
    return int(_run(source, 0, "git", "log", "-1", "--format=%ct"))


def main() -> int:
    """Build into dist/, and print what was made."""
    try:
        made = dist(HERE, HERE / "dist", build_time(HERE))
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    for file in made:
        print(Path(file).relative_to(HERE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
