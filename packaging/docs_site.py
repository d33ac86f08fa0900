"""Builds the site of docs/: `make docs` leaves it in build/site, readable from the disk.

A warning fails the build: a link that leads nowhere, or a page that docs/index.md does not name.
`dev` installs Sphinx first, as for the docs lane. docs/conf.py has Sphinx's configuration.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build/site"
NEEDED = {"sphinx": "Sphinx", "myst_parser": "MyST", "furo": "Furo"}


def missing() -> list[str]:
    """Return the names of the tools that are not installed."""
    return [name for module, name in NEEDED.items() if find_spec(module) is None]


def build(site: Path = SITE) -> subprocess.CompletedProcess[str]:
    """Build the site; its warnings and errors are in `stderr`."""
    pages = site.with_name(f"{site.name}-pages")  # what Sphinx has read, for the next build
    options = ("-q", "-W", "--keep-going", "-b", "html", "-c", "docs", "-d", str(pages))
    command = [sys.executable, "-m", "sphinx", *options, ".", str(site)]
    return subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.PIPE, text=True)


def main() -> int:
    """Build into build/site and print where it is, or what is wrong."""
    if lacking := missing():
        print(f"{', '.join(lacking)}: not installed; is the network there?", file=sys.stderr)
        return 1
    done = build()
    print(done.stderr, file=sys.stderr, end="")
    if done.returncode == 0:
        print(f"open {(SITE / 'index.html').relative_to(ROOT)}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
