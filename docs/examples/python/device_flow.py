"""Log a user in with the device flow, print who it is, and refresh the tokens once.

usage: device_flow.py WEB API CLIENT_ID [SCOPE]
"""

import sys
import time

import requests

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class DeviceLogin:
    """The device flow of one app on one host. `tokens` is the last answer that has some."""

    def __init__(self, web, api, client_id):
        self.web, self.api, self.client_id, self.tokens = web, api, client_id, {}
        self.session = requests.Session()
        self.session.trust_env = False  # else ~/.netrc replaces the Authorization header

    def post(self, path, **fields):
        """Send a form to the web host; an answer with status 200 may still hold an error."""
        form = {"client_id": self.client_id, **fields}
        headers = {"Accept": "application/json"}  # else the answer is form-encoded
        answer = self.session.post(self.web + path, data=form, headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def start(self, scope):
        """Step 1: ask for a code that the user enters in any browser."""
        found = self.post("/login/device/code", scope=scope)
        if "error" in found:
            sys.exit(f"the device flow did not start: {found['error']}")
        return found

    def wait(self, device):
        """Step 2: poll until the user has entered the code, no faster than GitHub allows."""
        interval, code = device["interval"], device["device_code"]
        while "access_token" not in self.tokens:
            time.sleep(interval)
            path = "/login/oauth/access_token"
            found = self.post(path, device_code=code, grant_type=DEVICE_GRANT)
            if found.get("error") == "slow_down":
                interval = found["interval"]
            elif "access_token" in found:
                self.tokens = found
            elif found["error"] != "authorization_pending":
                sys.exit(f"not logged in: {found['error']}")

    def user(self):
        """Step 3: return the user's name, read with the access token."""
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        answer = self.session.get(self.api + "/user", headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()["login"]

    def refresh(self):
        """Step 4: replace both tokens. The refresh token works once: save the new pair at once."""
        fields = {"grant_type": "refresh_token", "refresh_token": self.tokens["refresh_token"]}
        found = self.post("/login/oauth/access_token", **fields)
        if "error" in found:
            sys.exit(f"log in again: {found['error']}")
        self.tokens = found


if __name__ == "__main__":
    web, api, client_id, *scope = sys.argv[1:]
    login = DeviceLogin(web, api, client_id)
    device = login.start(" ".join(scope))
    print(f"Open {device['verification_uri']} and enter {device['user_code']}", flush=True)
    login.wait(device)
    print(f"logged in as {login.user()}")
    if "refresh_token" in login.tokens:  # of a GitHub App: the access token ends in eight hours
        login.refresh()
        print(f"refreshed as {login.user()}")
