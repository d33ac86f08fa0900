"""The questions about the repository: which one, at which ref, and what of it."""

from __future__ import annotations

from syncd.cli.wizard import terminal
from syncd.cli.wizard.lookup import MAX_LIST_PAGES
from syncd.cli.wizard.session import Session
from syncd.cli.wizard.terminal import Mistake
from syncd.config.schema import JobModel, PathModel, mistake_in
from syncd.github.path_suggestions import find_similar
from syncd.text import did_you_mean, in_quotes, one_line

ROOT = "/"
LISTED_AT_MOST = 100 * MAX_LIST_PAGES
VALID_JOB = {"repo": "a/b", "every": "5m", "paths": [{"from": "x", "to": "/x"}]}


def ask_repository(session: Session) -> bool:
    """Choose the repository from those that the identity reaches, or type any other."""
    names = _reachable(session)

    def typed(text: str) -> str | None:
        """Return the repository as GitHub spells it; None for a part of a name. Raises Mistake."""
        if "/" not in text and names:
            owned = [name for name in names if name.partition("/")[2].lower() == text.lower()]
            if len(owned) != 1:
                return None
            text = owned[0]
        if (mistake := mistake_in(JobModel, {**VALID_JOB, "repo": text})) is not None:
            raise Mistake(mistake)
        return _checked_repository(session, text, names)

    if names:
        verb = "reached by" if session.answers.kind == "token" else "of"
        count = f"the first {len(names)}" if len(names) >= LISTED_AT_MOST else str(len(names))
        terminal.say(f"Repositories {verb} {session.answers.account} ({count}):")
    only = names[0] if len(names) == 1 else ""
    question = "Repository (number, part of a name, or owner/name)" if names else REPOSITORY
    session.answers.repo = terminal.pick(question, names, typed, session.answers.repo or only)
    return True


REPOSITORY = "Repository (owner/name)"


def _reachable(session: Session) -> tuple[str, ...]:
    """Return the repositories to choose from; none where GitHub does not list them."""
    if session.answers.kind not in ("app", "token"):
        return ()
    try:
        found = session.github(lambda github: github.repositories(session.installation))
    except Mistake as error:  # the token may read a repository all the same
        terminal.warn(str(error), error.hint)
        return ()
    return found or ()


def _checked_repository(session: Session, repo: str, names: tuple[str, ...]) -> str:
    try:
        found = session.github(lambda github: github.repository(repo))
    except Mistake as error:
        meant = did_you_mean(repo, names)
        raise Mistake(f"{error}{meant}", None if meant else error.hint) from error
    session.default_branch = found.default_branch if found is not None else ""
    if found is None:
        return repo
    if found.full_name.lower() != repo.lower():
        terminal.warn(f"{repo} has another name now: {found.full_name}")
    terminal.ok(f"{found.full_name}, {'private' if found.private else 'public'}")
    return found.full_name


def ask_ref(session: Session) -> bool:
    """Ask for the branch, tag or commit, and check that it exists."""

    def judge(text: str) -> str:
        """Return the ref, empty for the default branch. Raises Mistake."""
        mistake = mistake_in(JobModel, {**VALID_JOB, "ref": text}) if text else None
        if mistake is not None:
            raise Mistake(mistake)
        repo = session.answers.repo
        session.commit = session.github(lambda github: github.commit(repo, text or None)) or ""
        if session.commit:
            terminal.ok(f"{text or 'the default branch'} is at {session.commit[:7]}")
        return text

    default = session.answers.ref or session.default_branch
    shown = "" if default else "the default branch"
    session.answers.ref = terminal.ask("Branch, tag or commit", judge, default, shown)
    return True


def ask_source(session: Session) -> bool:
    """Choose a folder or file of the repository at that ref."""
    names = _top_names(session)

    def typed(text: str) -> str | None:
        """Return the path; None for a part of a name. Raises Mistake."""
        if names and "/" not in text and text not in names:
            return _folder_or_none(text, names)
        path = text if text == ROOT else text.removeprefix("./").lstrip("/")
        to = "/x/" if path.endswith("/") else "/x"
        if not path.isprintable():
            raise Mistake(f"{in_quotes(path)} has a character in it that no configuration can name")
        if (mistake := mistake_in(PathModel, {"from": path, "to": to})) is not None:
            raise Mistake(mistake)
        return path if path == ROOT else _checked_path(session, path)

    if names:
        ref = session.answers.ref or session.commit[:7]
        terminal.say(f"In {session.answers.repo} at {ref}:")
    question = "What to mirror (a folder/ or a file; / is everything)"
    session.answers.source = terminal.pick(question, names, typed, session.answers.source)
    terminal.ok(_described(session.answers.source))
    return True


def _described(source: str) -> str:
    if source == ROOT:
        return "the whole repository"
    return f"{source}: {'the folder and all below it' if source.endswith('/') else 'one file'}"


def _top_names(session: Session) -> list[str]:
    """Return the folders, then the files, of the root of the commit."""
    if not session.commit:
        return []
    found = _names_in(session, "")
    folders = sorted(f"{name}/" for name, is_folder in found.items() if is_folder)
    return [*folders, *sorted(name for name, is_folder in found.items() if not is_folder)]


def _folder_or_none(text: str, names: list[str]) -> str | None:
    return f"{text}/" if f"{text}/" in names else None


def _names_in(session: Session, folder: str) -> dict[str, bool]:
    repo, commit = session.answers.repo, session.commit
    found = session.github(lambda github: github.names(repo, commit, folder))
    return found.names if found is not None else {}


def _checked_path(session: Session, path: str) -> str:
    """Return the path as the commit has it, a folder's with a slash. Raises Mistake."""
    if not session.commit:
        return path
    bare = path.removesuffix("/")
    folder, _, name = bare.rpartition("/")
    is_folder = _names_in(session, folder).get(name)
    if not session.online:
        return path
    if is_folder is None:
        similar = _similar(session, bare, path.endswith("/"))
        meant = f"; did you mean '{one_line(similar)}'?" if similar else ""
        where = f"{session.answers.repo} at {session.answers.ref or session.commit[:7]}"
        raise Mistake(f"there is no '{one_line(path)}' in {where}{meant}")
    return f"{bare}/" if is_folder else bare


def _similar(session: Session, bare: str, is_folder: bool) -> str | None:
    """Return a path of the commit that may be meant: of the same kind first, then of the other."""

    def names(folder: str) -> dict[str, bool]:
        """Return the names in a folder."""
        return _names_in(session, folder)

    return find_similar(bare, is_folder, names) or find_similar(bare, not is_folder, names)
