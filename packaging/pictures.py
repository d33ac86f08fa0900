"""Draws the pictures of docs/pictures: `python3 dev pictures` writes them again.

Each picture is one SVG file with colours for a light and for a dark page, and without anything
from outside: no font, no script. The terminal picture shows a real run of `syncd demo`; the
others are drawn from the values below. benchmarks/growth.py draws docs/growth.svg.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs/pictures"
SANS = "ui-sans-serif, system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# name: on a light page, on a dark page
COLOURS = {
    "page": ("#ffffff", "#0d1117"),
    "card": ("#f6f8fa", "#161b22"),
    "ink": ("#1f2328", "#e6edf3"),
    "dim": ("#59636e", "#9198a1"),
    "edge": ("#c8d1da", "#3d444d"),
    "blue": ("#0b5cad", "#6cb6ff"),
    "bluefill": ("#ddf0ff", "#12304f"),
    "green": ("#116329", "#6bc46d"),
    "greenfill": ("#daf5e0", "#12361f"),
    "amber": ("#8a4600", "#e0a458"),
    "amberfill": ("#fff1cf", "#41300c"),
    "red": ("#a40e26", "#ff938a"),
}


def style() -> str:
    """Return the style sheet: a class for each colour, as a fill and as a stroke."""

    def rules(column: int) -> str:
        return "".join(
            f".{name}{{fill:{pair[column]}}}.{name}-line{{stroke:{pair[column]}}}"
            for name, pair in COLOURS.items()
        )

    return f"<style>{rules(0)}@media (prefers-color-scheme:dark){{{rules(1)}}}</style>"


@dataclass
class Picture:
    """An SVG picture that is being drawn; `text` and the others add to it, `svg` returns it."""

    width: int
    height: int
    title: str
    parts: list[str] = field(default_factory=list)

    def svg(self) -> str:
        """Return the whole file."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'width="{self.width}" height="{self.height}" role="img">'
        )
        marker = (
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto-start-reverse"><path class="dim" '
            'd="M0 0L10 5L0 10z"/></marker></defs>'
        )
        page = '<rect class="page" width="100%" height="100%" rx="8"/>'
        body = [head, f"<title>{escape(self.title)}</title>", style(), marker, page, *self.parts]
        return "\n".join([*body, "</svg>"]) + "\n"

    def text(self, x: float, y: float, text: str, look: str = "ink", **more: object) -> None:
        """Add a line of text; `more` are attributes, with `_` for `-`."""
        attributes = {"font_family": SANS, "font_size": 13} | more
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" class="{look}"{_attributes(attributes)}>'
            f"{escape(text)}</text>"
        )

    def box(self, x: float, y: float, width: float, height: float, look: str, edge: str) -> None:
        """Add a box with rounded corners."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" '
            f'class="{look} {edge}-line"/>'
        )

    def arrow(self, x: float, y: float, to_x: float, to_y: float, dashed: bool = False) -> None:
        """Add an arrow."""
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" class="dim-line" '
            f'stroke-width="1.5" marker-end="url(#tip)"{dashes}/>'
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, look: str = "edge") -> None:
        """Add a line."""
        self.parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" class="{look}-line" '
            'stroke-width="1.5"/>'
        )


def _attributes(values: dict[str, object]) -> str:
    return "".join(
        f' {name.replace("_", "-")}="{escape(str(value))}"' for name, value in values.items()
    )


# --- a run, step by step --------------------------------------------------------------------------

READS, WRITES, AFTER = "blue", "amber", "green"
# phase, step, what it does, how a run can end there
STEPS = (
    (READS, "Recover", "look at what an interrupted run left, and forget its intent", ""),
    (READS, "Resolve", "ask GitHub which commit the ref names (304: the same)", ""),
    (READS, "List", "read which files that commit has, and verify the listing", ""),
    (READS, "Scan", "look at the files and folders at the destination", ""),
    (
        READS,
        "Plan",
        "compare repository, ledger and disk",
        "nothing to do: unchanged · past a limit: refused",
    ),
    (READS, "Stage", "fetch missing content; check every byte against its git id", ""),
    (
        READS,
        "Validate",
        "your command checks the complete set",
        "command fails: commit rejected, nothing written",
    ),
    (READS, "Save intent", "store the plan durably, before the first rename", ""),
    (WRITES, "Apply", "write beside each file, sync, rename; remove last", ""),
    (AFTER, "Record", "ledger, history and commit in one transaction", ""),
    (
        AFTER,
        "Reload",
        "your on_change command runs",
        "command fails: pending, the next run repeats it",
    ),
)
PHASES = {
    READS: "the destination is only read",
    WRITES: "files change",
    AFTER: "the new set is in place",
}


def run_picture() -> str:
    """Return the picture of a run: its steps in order, and where it can end early."""
    row, top, left, wide = 46, 56, 204, 548
    picture = Picture(1090, top + row * len(STEPS) + 16, "A run of syncd, step by step")
    picture.text(24, 34, "One run of one job", font_size=17, font_weight=600)
    for number, (phase, name, what, _) in enumerate(STEPS):
        y = top + row * number
        picture.box(left, y, wide, row - 12, f"{phase}fill", phase)
        picture.text(left + 14, y + 22, f"{number + 1}", "dim", font_size=12)
        picture.text(left + 38, y + 22, name, font_weight=600)
        picture.text(left + 132, y + 22, what, font_size=12)
        if number:
            picture.arrow(left + 60, y - 12, left + 60, y - 1)
    _ends(picture, left + wide, top, row)
    _phases(picture, top, row)
    return picture.svg()


def _ends(picture: Picture, x: float, top: float, row: float) -> None:
    for number, (_, _, _, ends) in enumerate(STEPS):
        for line, text in enumerate(ends.split(" · ") if ends else ()):
            y = top + row * number + 17
            if not line:
                picture.arrow(x, y, x + 26, y, dashed=True)
            picture.text(x + 32, y + 4 + 15 * line, text, "dim", font_size=12)


def _phases(picture: Picture, top: float, row: float) -> None:
    for phase, text in PHASES.items():
        rows = [number for number, step in enumerate(STEPS) if step[0] == phase]
        y, end = top + row * rows[0], top + row * (rows[-1] + 1) - 12
        picture.line(192, y, 192, end, phase)
        picture.text(182, (y + end) / 2 + 4, text, phase, font_size=12, text_anchor="end")


# --- the token flow -------------------------------------------------------------------------------

# where: "here" is a note of syncd's own, ">" a request, "<" an answer
TOKEN_FLOW = (
    (
        "here",
        "sign a JWT with the App's private key",
        "RS256; iat 60 s ago, exp in 9 min, iss: the App",
    ),
    (">", "POST /app/installations/42/access_tokens", "Bearer JWT; contents: read, these repos"),
    ("<", "201: installation token", "ends after one hour"),
    ("here", "keep the token in memory alone", "renew it when 5 minutes are left"),
    (">", "GET /repos/acme/infra/commits/heads/main", "Bearer token; If-None-Match: last commit"),
    ("<", "304: nothing changed", "costs nothing of the limit; nothing to fetch"),
    ("<", "200: id of the new commit", "every later request names this commit"),
    (">", "GET /repos/acme/infra/contents/nginx?ref=4c0ffee", "Bearer token; also git/trees"),
    ("<", "200: listing, then the bytes of each new file", ""),
    ("here", "compute each git id and compare", "a file that differs is never written"),
)


def token_picture() -> str:
    """Return the picture of the token flow: JWT, installation token, contents."""
    row, top, here, there = 58, 84, 190, 720
    height, middle = top + row * len(TOKEN_FLOW) + 8, (here + there) / 2
    picture = Picture(860, height, "How syncd signs in as a GitHub App and reads contents")
    for x, name in ((here, "syncd on your server"), (there, "GitHub's API")):
        picture.box(x - 110, 20, 220, 36, "card", "edge")
        picture.text(x, 43, name, font_weight=600, text_anchor="middle")
        picture.line(x, 56, x, height - 14)
    for number, (where, what, more) in enumerate(TOKEN_FLOW):
        y = top + row * number
        if where == "here":
            picture.box(here - 165, y - 14, 330, 46, "bluefill", "blue")
            picture.text(here, y + 5, what, text_anchor="middle")
            picture.text(here, y + 22, more, "dim", font_size=12, text_anchor="middle")
            continue
        ends = (here + 4, there - 4) if where == ">" else (there - 4, here + 4)
        code = {"font_family": MONO, "font_size": 12.5} if where == ">" else {}
        picture.text(middle, y + 2, what, text_anchor="middle", **code)
        picture.arrow(ends[0], y + 11, ends[1], y + 11, dashed=where == "<")
        picture.text(middle, y + 26, more, "dim", font_size=12, text_anchor="middle")
    return picture.svg()


# --- drift policies -------------------------------------------------------------------------------

MOMENTS = (
    "after a sync",
    "you edit the file",
    "the next run",
    "upstream changes the file",
    "the next run",
)
# policy, what it is for, then what the file holds at each moment and what happened to it
DRIFT = (
    (
        ("restore", "the default"),
        ("v1", ""),
        ("edit", ""),
        ("v1", "edit goes to the trash"),
        ("v1", ""),
        ("v2", ""),
    ),
    (
        ("report", "count it"),
        ("v1", ""),
        ("edit", ""),
        ("edit", "counted as drift"),
        ("edit", ""),
        ("v2", "edit goes to the trash"),
    ),
    (
        ("keep", "your file wins"),
        ("v1", ""),
        ("edit", ""),
        ("edit", "not counted"),
        ("edit", ""),
        ("edit", "stays for good"),
    ),
)
CONTENTS = {
    "v1": ("version 1", "bluefill", "blue"),
    "v2": ("version 2", "greenfill", "green"),
    "edit": ("your edit", "amberfill", "amber"),
}


def drift_picture() -> str:
    """Return the picture of the three drift policies: one file, an edit, and a commit."""
    column, row, left, top = 172, 92, 150, 86
    picture = Picture(left + column * 5, top + row * 3 + 8, "What each drift policy does")
    picture.text(24, 34, "One file under each drift policy", font_size=17, font_weight=600)
    for number, moment in enumerate(MOMENTS):
        x = left + column * number + 68
        picture.text(x, 68, moment, "dim", font_size=12, text_anchor="middle")
    for line, ((policy, use), *cells) in enumerate(DRIFT):
        y = top + row * line
        picture.text(24, y + 22, policy, font_family=MONO, font_size=14, font_weight=600)
        picture.text(24, y + 40, use, "dim", font_size=12)
        for number, (content, event) in enumerate(cells):
            name, look, edge = CONTENTS[content]
            x = left + column * number
            picture.box(x, y, 136, 46, look, edge)
            picture.text(x + 68, y + 28, name, text_anchor="middle")
            picture.text(x + 68, y + 64, event, "dim", font_size=12, text_anchor="middle")
            if number:
                picture.arrow(x - 35, y + 23, x - 2, y + 23)
    return picture.svg()


# --- a run of the demo, as a terminal shows it ----------------------------------------------------

PLACE = re.compile(r"/[\w/.-]*syncd-demo-\w+")
CODE = re.compile(r"\x1b\[([\d;]*)m")
LOOKS = {"31": "red", "32": "green", "33": "amber", "34": "blue", "36": "blue", "2": "dim"}
CELL, LINE = 8.0, 20


def demo_output() -> str:
    """Return what `syncd demo` prints on a terminal with colours; its folder is named /srv/demo."""
    command = [sys.executable, "-m", "syncd", "--color", "always", "demo"]
    clean = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=clean, capture_output=True, check=True, text=True)
    return PLACE.sub("/srv/demo", done.stdout)


def terminal_picture(output: str, command: str, title: str) -> str:
    """Return the picture of a terminal that shows the command and its output."""
    lines = output.rstrip("\n").split("\n")
    columns = max(len(CODE.sub("", line)) for line in lines)
    width, height = round(columns * CELL) + 48, LINE * (len(lines) + 2) + 40
    picture = Picture(width, height, title)
    picture.box(1, 1, width - 2, height - 2, "card", "edge")
    picture.text(24, 36, f"$ {command}", **_mono(font_weight=600))
    for number, line in enumerate(lines):
        _terminal_line(picture, 36 + LINE * (number + 2), line)
    return picture.svg()


def _mono(**more: object) -> dict[str, object]:
    return {"font_family": MONO, "font_size": 13, **more}


def _terminal_line(picture: Picture, y: float, line: str) -> None:
    """Add each word group of one colour at its own column, as wide as its cells."""
    column = 0
    for text, look, bold in _runs(line):
        more = {"font_weight": 600} if bold else {}
        for found in re.finditer(r"\S+(?: \S+)*", text):
            x, cells = 24 + (column + found.start()) * CELL, len(found[0]) * CELL
            picture.text(x, y, found[0], look, **_mono(textLength=f"{cells:g}", **more))
        column += len(text)


def _runs(line: str) -> Iterator[tuple[str, str, bool]]:
    """Return the pieces of a line with one look each: text, colour, whether bold."""
    look, bold = "ink", False
    pieces = CODE.split(line)
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            yield piece, look, bold
            continue
        codes = [code.lstrip("0") for code in piece.split(";") if code.lstrip("0")]
        look = next((LOOKS[code] for code in codes if code in LOOKS), "ink")
        bold = "1" in codes


# --- the files ------------------------------------------------------------------------------------


def pictures() -> dict[str, str]:
    """Return each picture by its name in docs/pictures."""
    title = "syncd demo: five syncs against a simulated GitHub"
    return {
        "demo.svg": terminal_picture(demo_output(), "make demo", title),
        "run.svg": run_picture(),
        "tokens.svg": token_picture(),
        "drift.svg": drift_picture(),
    }


def texts(svg: str) -> list[str]:
    """Return the texts of a picture in order, to compare two of them without their layout."""
    found: Iterable[str] = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    return [" ".join(text.split()) for text in found]


def main() -> int:
    """Write every picture."""
    FOLDER.mkdir(exist_ok=True)
    for name, svg in pictures().items():
        (FOLDER / name).write_text(svg)
        print(f"docs/pictures/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
