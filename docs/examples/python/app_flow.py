"""Print one file of a private repository, read as a GitHub App.

usage: app_flow.py API APP_ID KEY_FILE OWNER/REPO PATH
"""

import sys
import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import jwt
import requests


class AppReader:
    """Reads one repository with the installation tokens of a GitHub App."""

    def __init__(self, api, app_id, key, repo):
        self.api, self.app_id, self.key, self.repo = api, app_id, key, repo
        self.token, self.renew_at = "", 0.0
        self.session = requests.Session()
        self.session.trust_env = False  # else ~/.netrc replaces the Authorization header

    def call(self, method, path, bearer, accept="application/vnd.github+json", more=(), body=None):
        headers = {"Authorization": f"Bearer {bearer}", "Accept": accept, **dict(more)}
        url = self.api + path
        answer = self.session.request(method, url, headers=headers, json=body, timeout=30)
        if answer.status_code >= 400:
            sys.exit(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    def sign_jwt(self):
        """Step 1: prove with the private key which App this is."""
        now = int(time.time())  # GitHub refuses fractions of a second
        claims = {"iat": now - 60, "exp": now + 540, "iss": self.app_id}
        return jwt.encode(claims, self.key, algorithm="RS256")

    def installation_token(self):
        """Steps 2 and 3: find the installation, and ask for a token that lasts an hour."""
        if time.monotonic() >= self.renew_at:
            proof, name = self.sign_jwt(), self.repo.partition("/")[2]
            found = self.call("GET", f"/repos/{self.repo}/installation", proof).json()
            path = f"/app/installations/{found['id']}/access_tokens"
            narrow = {"repositories": [name], "permissions": {"contents": "read"}}
            answer = self.call("POST", path, proof, body=narrow)
            self.token, ends = answer.json()["token"], answer.json()["expires_at"]
            left = datetime.fromisoformat(ends) - parsedate_to_datetime(answer.headers["Date"])
            self.renew_at = time.monotonic() + left.total_seconds() - 300
        return self.token

    def head(self, ref, known=None):
        """Step 4: return the commit that `ref` names; a 304 says that it is still `known`."""
        path = f"/repos/{self.repo}/commits/{quote(ref)}"
        more = {"If-None-Match": f'"{known}"'} if known else {}
        media = "application/vnd.github.sha"
        answer = self.call("GET", path, self.installation_token(), media, more)
        return known if answer.status_code == 304 else answer.text

    def read(self, path, commit):
        """Step 5: return the bytes of a file at a commit."""
        path = f"/repos/{self.repo}/contents/{quote(path)}?ref={commit}"
        media = "application/vnd.github.raw+json"
        return self.call("GET", path, self.installation_token(), media).content


if __name__ == "__main__":
    api, app_id, key_file, repo, path = sys.argv[1:]
    reader = AppReader(api, app_id, Path(key_file).read_text(), repo)
    sys.stdout.buffer.write(reader.read(path, reader.head("HEAD")))
