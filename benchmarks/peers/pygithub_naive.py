"""PyGithub as most scripts use it: every file's content, every time. JOBS STATE: see bench.py."""

import os
import sys
from pathlib import Path

from github import Auth, Github


def main() -> None:
    github = Github(
        auth=Auth.Token(os.environ["HUB_TOKEN"]),
        base_url=os.environ["HUB_URL"],
        seconds_between_requests=0,
        seconds_between_writes=0,
    )
    for line in Path(sys.argv[1]).read_text().splitlines():
        name, dest, paths = line.split("\t")
        repo, todo = github.get_repo(name, lazy=True), paths.split()
        while todo:
            found = repo.get_contents(todo.pop().rstrip("/"), ref="main")
            for one in found if isinstance(found, list) else [found]:
                if one.type == "dir":
                    todo.append(one.path)
                    continue
                file = Path(dest) / one.path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(one.decoded_content)


main()
