"""File names are the repository's bytes under every locale,
and no command fails because the terminal can't show one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from syncd.fastpath import check as fastpath
from tests.support.daemon import daemon
from tests.support.sync_env import SyncEnv, signatures, sync_env

ROOT = Path(__file__).resolve().parents[2]
FILES = {"nginx/ü.conf": "u\n", "nginx/日本/é.conf": "e\n", "nginx/plain.conf": "p\n"}
NAMES = {"ü.conf".encode(), "日本/é.conf".encode(), b"plain.conf"}
LATIN = {"LC_ALL": "de_DE.ISO-8859-1"}
LOCALES = [
    {"LC_ALL": "C.UTF-8"},
    LATIN,
    {"LC_CTYPE": "de_DE.ISO-8859-1"},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {**LATIN, "PYTHONUTF8": "0"},
    {**LATIN, "PYTHONUTF8": "1"},
    {**LATIN, "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1:strict"},
    {"LC_ALL": "no_SUCH.locale"},
    {},
]
IDS = [" ".join(f"{name}={value}" for name, value in one.items()) or "none" for one in LOCALES]
# two of them at a push, the others in the root lane: each test starts processes
EACH_LOCALE = pytest.mark.parametrize(
    "locale",
    [
        pytest.param(one, id=name, marks=[] if number in (1, 5) else [pytest.mark.root])
        for number, (one, name) in enumerate(zip(LOCALES, IDS, strict=True))
    ],
)


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real Latin-1 locale."""
    if shutil.which("localedef") is None:
        pytest.skip("localedef is not here, which makes the Latin-1 locale")
    folder = tmp_path_factory.mktemp("locales")
    made = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / "de_DE.ISO-8859-1")],
        capture_output=True,
        text=True,
        check=False,
    )
    if not (folder / "de_DE.ISO-8859-1").exists():
        pytest.skip(f"localedef can't make the Latin-1 locale: {made.stderr.strip()}")
    return folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[SyncEnv]:
    with sync_env(tmp_path, FILES, as_app=False) as made:
        yield made


class Shell:
    """Calls commands as a user does whose shell has this locale."""

    def __init__(self, hub: SyncEnv, locales: Path) -> None:
        self.hub, self.locales = hub, locales

    def environ(self, locale: Mapping[str, str]) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.hub.folder),
            "LOCPATH": str(self.locales),
            "PYTHONPATH": str(ROOT),
            **locale,
        }

    def call(
        self,
        locale: Mapping[str, str],
        *arguments: str | bytes,
        config: str | bytes | None = None,
        start: tuple[str, ...] = ("-m", "syncd"),
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, *start, "-c", config or str(self.hub.config), *arguments]
        return subprocess.run(
            command, capture_output=True, env=self.environ(locale), cwd=self.hub.folder, check=False
        )


@pytest.fixture
def shell(hub: SyncEnv, locales: Path) -> Shell:
    return Shell(hub, locales)


def names(folder: Path) -> set[bytes]:
    """Every file below the folder, as the kernel names it."""
    top = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(place, name), top)
        for place, _, files in os.walk(top)
        for name in files
    }


def test_the_locale_of_these_tests_is_real(shell: Shell) -> None:
    asked = [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"]
    found = subprocess.run(
        asked, capture_output=True, text=True, env=shell.environ(LATIN), check=False
    )
    assert found.stdout == "iso8859-1\n"


@EACH_LOCALE
def test_a_first_sync_writes_the_repositorys_bytes(shell: Shell, locale: dict[str, str]) -> None:
    done = shell.call(locale, "sync", "--json")
    assert done.returncode == 0, done.stderr
    assert names(shell.hub.dest) == NAMES


# at a push each of the two ways of a run with one of the two locales
@pytest.mark.parametrize(
    ("locale", "with_note"),
    [
        pytest.param(
            locale,
            with_note,
            id=f"{name}-{way}",
            marks=[] if (number, with_note) in ((1, True), (5, False)) else [pytest.mark.root],
        )
        for number, (locale, name) in enumerate(zip(LOCALES, IDS, strict=True))
        for with_note, way in ((True, "nothing to do"), (False, "full run"))
    ],
)
def test_a_second_sync_under_another_locale_changes_nothing(
    shell: Shell, locale: dict[str, str], with_note: bool
) -> None:
    assert shell.hub.call("sync").code == 0
    stood = signatures(shell.hub.dest)
    if not with_note:
        (shell.hub.state / fastpath.NAME).unlink()
    done = shell.call(locale, "sync", "--json")
    assert done.returncode == 0, done.stderr
    assert [job["status"] for job in json.loads(done.stdout)["jobs"]] == ["unchanged"]
    assert signatures(shell.hub.dest) == stood and names(shell.hub.dest) == NAMES


def test_syncs_under_one_locale_after_the_other_leave_one_file_and_follow_changes(
    shell: Shell,
) -> None:
    for number, locale in enumerate(({"LC_ALL": "C.UTF-8"}, LATIN, {"LC_ALL": "C"}, LATIN)):
        shell.hub.repo.commit({"nginx/ü.conf": f"{number}\n"})
        assert shell.call(locale, "sync").returncode == 0
        assert (
            names(shell.hub.dest) == NAMES
            and (shell.hub.dest / "ü.conf").read_text() == f"{number}\n"
        )
    shell.hub.repo.commit({"nginx/ü.conf": None})
    assert shell.call(LATIN, "sync").returncode == 0
    assert names(shell.hub.dest) == NAMES - {"ü.conf".encode()}


EACH_IN_TURN = """
import sys
from syncd.__main__ import main
config, commands = sys.argv[2], [line.split("\\t") for line in sys.argv[3].split("\\n")]
for number, arguments in enumerate(commands):
    sys.argv[1:] = ["-c", config, *arguments]
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 0, (arguments, ended.code)
    sys.stderr.write(f"ended {number}\\n")
"""


@EACH_LOCALE
def test_no_command_fails_on_printing_a_name(shell: Shell, locale: dict[str, str]) -> None:
    """One process calls them all: its first call starts it again where the locale asks for that."""
    path = str(shell.hub.dest / "ü.conf")
    commands = [
        ("plan",),
        ("-v", "sync"),
        ("status",),
        ("history",),
        ("explain", path),
        ("verify",),
        ("plan", "--diff"),
        ("check",),
    ]
    done = shell.call(
        locale, "\n".join("\t".join(one) for one in commands), start=("-c", EACH_IN_TURN)
    )
    assert (
        done.returncode == 0 and b"Traceback" not in done.stderr and b"Error" not in done.stderr
    ), done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith(b"ended ")] == [
        b"ended %d" % number for number in range(len(commands))
    ]
    assert done.stdout.count(b".conf") >= len(commands) - 2, "all but two of them name files"


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ({"LC_ALL": "C.UTF-8"}, "ü.conf".encode()),
        (LATIN, "ü.conf".encode("latin-1")),
        ({**LATIN, "PYTHONIOENCODING": "utf-8"}, "ü.conf".encode()),
    ],
)
def test_output_is_in_the_terminals_encoding(
    shell: Shell, locale: dict[str, str], shown: bytes
) -> None:
    done = shell.call(locale, "-v", "sync")
    assert done.returncode == 0 and shown in done.stderr


MAIN = "from syncd.__main__ import main; main()"
STARTS = [
    ("-m", "syncd"),
    ("-c", MAIN),
    ("-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {MAIN}"),
    ("-X", "utf8=0", "-m", "syncd"),
]


# two of them at a push, the others in the root lane
@pytest.mark.parametrize(
    "start",
    [
        STARTS[0],
        pytest.param(STARTS[1], marks=pytest.mark.root),
        STARTS[2],
        pytest.param(STARTS[3], marks=pytest.mark.root),
    ],
    ids=["module", "code", "isolated", "UTF-8 mode off"],
)
def test_every_way_to_start_the_command_starts_again_with_the_same_arguments(
    shell: Shell, start: tuple[str, ...]
) -> None:
    assert shell.call(LATIN, "sync", start=start).returncode == 0
    assert names(shell.hub.dest) == NAMES


def test_the_console_script_starts_again_too(shell: Shell) -> None:
    script = shell.hub.folder / "syncd"
    # pip's, for paths with spaces
    first = f"""#!/bin/sh\n'''exec' "{sys.executable}" "$0" "$@"\n' '''\n"""
    script.write_text(f"{first}import sys\nfrom syncd.__main__ import main\nsys.exit(main())\n")
    script.chmod(0o755)
    done = subprocess.run(
        [script, "-c", shell.hub.config, "sync"],
        env=shell.environ(LATIN),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and names(shell.hub.dest) == NAMES


# one name under each of two locales at a push, and the rest in the root lane
@pytest.mark.parametrize(
    ("locale", "name"),
    [
        pytest.param(
            locale,
            name,
            id=f"{called}-{written}",
            marks=[]
            if (called, written) in {("Latin-1", "UTF-8"), ("C", "neither")}
            else [pytest.mark.root],
        )
        for called, locale in (
            ("UTF-8", {"LC_ALL": "C.UTF-8"}),
            ("Latin-1", LATIN),
            ("C", {"LC_ALL": "C"}),
        )
        for written, name in (
            ("UTF-8", "kü.yaml".encode()),
            ("Latin-1", b"k\xfc.yaml"),
            ("neither", b"k\xff\xfe.yaml"),
        )
    ],
)
def test_paths_on_the_command_line_are_bytes(
    shell: Shell, locale: dict[str, str], name: bytes
) -> None:
    place = os.fsencode(shell.hub.folder)
    config, metrics = os.path.join(place, name), os.path.join(place, name + b".prom")
    shutil.copy(os.fsencode(shell.hub.config), config)
    for _ in range(2):
        done = shell.call(locale, "sync", "--metrics-file", metrics, config=config)
        assert done.returncode == 0, done.stderr
    assert shell.call(locale, "sync", config=config).returncode == 0
    assert os.path.exists(metrics) and names(shell.hub.dest) == NAMES
    assert {one for one in os.listdir(place) if one.startswith(b"k")} == {name, name + b".prom"}


# Latin-1 at a push, the others in the root lane
@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({"LC_ALL": "C.UTF-8"}, id="UTF-8", marks=pytest.mark.root),
        pytest.param(LATIN, id="Latin-1"),
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0"}, id="C", marks=pytest.mark.root),
    ],
)
def test_hooks_get_names_as_bytes_and_nothing_of_the_second_start(
    shell: Shell, locale: dict[str, str]
) -> None:
    place = shell.hub.folder / "hooks"
    place.mkdir()
    shell.hub.write_config(
        validate={"shell": "test -f {staged}" + f"{shell.hub.dest}/ü.conf"},
        on_change={"shell": f"env > {place}/ö.env"},
    )
    done = shell.call(locale, "sync")
    assert done.returncode == 0, done.stderr
    assert names(place) == {"ö.env".encode()}
    got = dict(line.split("=", 1) for line in (place / "ö.env").read_text().splitlines())
    assert {name for name in got if "PYTHON" in name or "UTF8" in name} == set()
    assert got.get("LC_ALL") == locale["LC_ALL"], "the operator's own locale is passed on"


def test_built_in_checks_find_files_under_a_latin_1_locale(shell: Shell) -> None:
    shell.hub.repo.commit({"nginx/ä.json": "{}\n"})
    shell.hub.write_config(validate={"check": ["json"]})
    done = shell.call(LATIN, "sync")
    assert done.returncode == 0, done.stderr
    shell.hub.repo.commit({"nginx/ä.json": "{\n"})
    refused = shell.call(LATIN, "sync", "--json")
    assert (
        refused.returncode == 1
        and "ä.json" in json.loads(refused.stdout)["jobs"][0]["error"]["message"]
    )


def test_the_daemon_keeps_its_process_id(shell: Shell) -> None:
    environ = {
        name: value for name, value in shell.environ(LATIN).items() if name not in ("PATH", "HOME")
    }
    with daemon(shell.hub, environ=environ, ready=False, forked=False) as running:
        line = running.says("ready: ")
        assert line["message"].endswith(f"pid {running.process.pid}")
        running.says("nginx")
        assert running.ends() == 0
    assert names(shell.hub.dest) == NAMES


def test_where_python_can_t_be_started_again_nothing_is_written(shell: Shell) -> None:
    start = ("-X", "syncd_output=utf-8", "-m", "syncd")  # as after a second start that was in vain
    done = shell.call(LATIN, "sync", start=start)
    assert (
        done.returncode == 1
        and b"nothing was done" in done.stderr
        and b"LC_ALL=C.UTF-8" in done.stderr
    )
    gone = (
        "import sys; sys.executable = '/nonexistent/python'; from syncd.__main__ import main; "
        "main()"
    )
    done = shell.call(LATIN, "sync", start=("-c", gone))
    assert done.returncode == 1 and b"No such file or directory; nothing was done" in done.stderr
    assert names(shell.hub.dest) == set() and not shell.hub.state.exists()


NOT_UTF_8: list[list[str | bytes]] = [
    ["sync", "nginx", "--ref", b"v\xff"],
    ["sync", "--forget", b"j\xff"],
    ["explain", b"/tmp/\xff"],
    ["history", "--path", b"/tmp/\xff"],
    ["pause", "nginx", "--reason", b"\xff"],
    ["sync", b"j\xff"],
    ["history", b"j\xff"],
]


@pytest.mark.parametrize("arguments", NOT_UTF_8, ids=lambda arguments: arguments[0])
def test_an_argument_that_is_not_utf_8_is_refused_by_name(
    hub: SyncEnv, arguments: list[str | bytes]
) -> None:
    done = hub.call(*(os.fsdecode(one) for one in arguments))
    assert done.code == 2 and done.err and "Traceback" not in done.err, done.err


@pytest.mark.parametrize(
    ("locale", "number"),
    [
        pytest.param({"LC_ALL": "C.UTF-8"}, 0, marks=pytest.mark.root),
        (LATIN, 2),
        pytest.param(LATIN, 4, marks=pytest.mark.root),
        pytest.param(LATIN, 6, marks=pytest.mark.root),
        ({"LC_ALL": "C"}, 5),
    ],
    ids=["UTF-8", "Latin-1", "Latin-1 reason", "Latin-1 job", "C"],
)
def test_it_is_refused_under_every_locale(
    shell: Shell, locale: dict[str, str], number: int
) -> None:
    done = shell.call(locale, *NOT_UTF_8[number])
    assert done.returncode == 2 and b"Traceback" not in done.stderr, done.stderr
