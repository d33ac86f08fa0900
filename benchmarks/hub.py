"""The stand-in for GitHub as a process of its own: REST by the project's simulator,
git by `git http-backend` over the same commits.

Every request waits `latency` first, on either door. Started by bench.py; its first line on stdout
is its address. What was asked is counted, and `/_bench/…` controls it: `counters`, `reset`,
`latency?ms=`, `commit?repo=` (a push that changes what workloads.py says).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from workloads import SETS, TOKEN, pushed

from syncd.simulator import archive
from syncd.simulator.github import GitHub
from syncd.simulator.repository import Commit, Repository

FREE = (
    "codeload",
    "token",
    "installation",
    "app",
)  # of the routes, those that no hourly limit pays for


class Hub:
    """Repositories on both doors, and what was asked of them."""

    def __init__(self, folder: Path, which: str) -> None:
        self.folder, self.latency_seconds = folder, 0.0
        self.github = GitHub()
        self.github.primary_limit = 10**9
        self.github.accounts.add_personal_token(TOKEN)
        self.counters: dict[str, int] = {}
        self.guard = threading.Lock()
        self.reset()
        for name, files in SETS[which]():
            self.github.add_repo(name, files)
            push_git(folder / f"{name}.git", files)
        app = folder / "app.pem"
        app.write_text(self.github.accounts.add_app(12345))
        app.chmod(0o600)
        self.github.accounts.install(12345, "acme", 42)

    def reset(self) -> None:
        self.github.forget_requests()
        self.counters = dict.fromkeys(("requests", "not_modified", "cost", "bytes"), 0)

    def commit(self, name: str, number: int) -> None:
        """The same push on both doors."""
        files = pushed(number)
        self.github.repos[name].commit(files, f"push {number}")
        push_git(self.folder / f"{name}.git", files)
        archive.tarball(
            self.github.repos[name], self.github.repos[name].commits[self.github.repos[name].head()]
        )

    def count(self, status: int, cost: int, size: int) -> None:
        with self.guard:
            self.counters["requests"] += 1
            self.counters["not_modified"] += status == 304
            self.counters["cost"] += cost
            self.counters["bytes"] += size


def push_git(repository: Path, files: dict[str, bytes]) -> None:
    """A commit that adds or changes these files is on the branch main of the bare repository."""
    first = not (repository / "HEAD").exists()
    if first:
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(repository)], check=True)
        for key, value in (
            ("uploadpack.allowFilter", "true"),
            ("uploadpack.allowAnySHA1InWant", "true"),
            ("gc.auto", "0"),
        ):
            subprocess.run(["git", "-C", str(repository), "config", key, value], check=True)
    parts = [
        (
            b"commit refs/heads/main\ncommitter bench <bench@localhost> 1700000000 +0000\ndata 4\n"
            b"push\n"
        )
    ]
    if not first:
        parts.append(b"from refs/heads/main^0\n")
    parts += [
        b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content)
        for name, content in files.items()
    ]
    subprocess.run(
        ["git", "-C", str(repository), "fast-import", "--quiet"], input=b"".join(parts), check=True
    )


def made_once() -> None:
    """GitHub keeps the archive of a commit: what making it costs is not the client's."""
    made: dict[str, bytes] = {}
    make = archive.tarball

    def kept(repo: Repository, commit: Commit) -> bytes:
        if commit.id not in made:
            made[commit.id] = make(repo, commit)
        return made[commit.id]

    archive.tarball = kept


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        """Counted, not logged."""

    def serve(self) -> None:
        path, _, query = self.path.partition("?")
        if path.startswith("/_bench/"):
            return self._control(path.removeprefix("/_bench/"), dict(parse_qsl(query)))
        body = self._body()
        time.sleep(self.hub.latency_seconds)
        if ".git/" in path:
            return self._git(path, query, body)
        answer = self.hub.github.handle(
            self.command,
            self.path,
            dict(self.headers.items()),
            body,
            f"http://{self.headers['Host']}",
        )
        free = (
            answer.status == 304
            or self.hub.github.requests[-1].route in FREE
            or path.startswith("/codeload")
        )
        return self._send(
            answer.status, dict(answer.headers), answer.body, len(body), 0 if free else 1
        )

    do_GET = do_POST = serve

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, taken: int, cost: int
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        head = (
            sum(
                len(name) + len(value) + 4
                for name, value in (*headers.items(), *self.headers.items())
            )
            + len(self.requestline)
            + 40
        )
        self.hub.count(status, cost, head + taken + len(body))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def _git(self, path: str, query: str, body: bytes) -> None:
        """One request through git's own CGI. Source: git-http-backend(1)."""
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.hub.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HOME": str(self.hub.folder),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        out = subprocess.run(
            ["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=environment, check=True
        ).stdout
        head, _, content = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._send(int(headers.pop("Status", "200").split()[0]), headers, content, len(body), 0)

    def _control(self, what: str, given: dict[str, str]) -> None:
        if what == "reset":
            self.hub.reset()
        elif what == "latency":
            self.hub.latency_seconds = float(given["ms"]) / 1000
        elif what == "commit":
            self.hub.commit(given["repo"], int(given["number"]))
        body = json.dumps(self.hub.counters).encode()
        self.send_response_only(200, "OK")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own business."""


def main() -> None:
    made_once()
    Handler.hub = Hub(Path(sys.argv[1]), sys.argv[2])
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
