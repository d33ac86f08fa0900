"""`require: {signed_by: FILE}`: a commit is applied when, and only when, a signer of the file
signed it, whatever GitHub says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.simulator.faults import Answer
from tests.support.signing import GitRepository, SshKey, needs, ssh_config
from tests.support.sync_env import SyncEnv

ADA, EVE = SshKey("ada@example.org"), SshKey("eve@example.org")


def signers_file(hub: SyncEnv, *keys: SshKey, options: str = "") -> Path:
    file = hub.folder / "allowed_signers"
    file.write_text("".join(key.line(options) for key in keys))
    return file


@pytest.fixture
def guarded(hub: SyncEnv) -> SyncEnv:
    hub.write_config(require={"signed_by": str(signers_file(hub, ADA))})
    return hub


def push(hub: SyncEnv, content: str, key: SshKey | None = ADA) -> str:
    return hub.repo.commit({"nginx/nginx.conf": content}, sign=key.sign if key else None)


def test_only_commits_of_a_listed_signer_are_applied(guarded: SyncEnv) -> None:
    unsigned = guarded.sync()
    error = unsigned.job["error"]
    assert (unsigned.code, unsigned.job["status"]) == (6, "refused") and guarded.tree() == {}
    assert (error["kind"], error["id"]) == ("limit", "limit/commit-unsigned")
    assert "has no signature" in error["message"] and "git commit --amend -S" in error["hint"]
    push(guarded, "signed\n")
    assert guarded.sync().code == 0 and guarded.tree()["nginx.conf"] == b"signed\n"
    assert guarded.sync().json["requests"] == {"total": 2, "not_modified": 1}
    head = push(guarded, "evil\n", EVE)
    refused = guarded.sync()
    assert refused.job["error"]["id"] == "limit/signature-refused" and refused.code == 6
    assert f"commit {head[:7]}" in refused.job["error"]["message"]
    assert "is not in the file" in refused.job["error"]["message"]
    assert guarded.tree()["nginx.conf"] == b"signed\n"


def test_a_refused_commit_is_not_asked_about_again_until_the_file_changes(
    guarded: SyncEnv,
) -> None:
    push(guarded, "of eve\n", EVE)
    assert guarded.sync().code == 6
    again = guarded.sync()
    assert again.code == 6 and again.json["requests"] == {"total": 2, "not_modified": 1}
    signers_file(guarded, ADA, EVE)
    assert guarded.sync().code == 0 and guarded.tree()["nginx.conf"] == b"of eve\n"


def test_a_key_that_leaves_the_file_signs_no_new_commit(guarded: SyncEnv) -> None:
    push(guarded, "one\n")
    assert guarded.sync().code == 0
    signers_file(guarded, EVE)
    assert guarded.sync().job["status"] == "unchanged", "what was applied stays"
    push(guarded, "two\n")
    assert guarded.sync().code == 6 and guarded.tree()["nginx.conf"] == b"one\n"


def test_a_plan_and_a_ref_named_by_hand_need_a_signature_too(guarded: SyncEnv) -> None:
    head = guarded.repo.head()
    planned = guarded.plan()
    assert (planned.code, planned.job["error"]["id"]) == (6, "limit/commit-unsigned")
    assert guarded.call("sync", "nginx", "--ref", head).code == 6 and guarded.tree() == {}
    assert guarded.call("sync", "nginx", "--ref", head, "--now").code == 6 and guarded.tree() == {}


def test_a_commit_that_is_applied_is_refused_when_signatures_are_asked_for(hub: SyncEnv) -> None:
    assert hub.sync().code == 0
    before = hub.tree()
    hub.write_config(require={"signed_by": str(signers_file(hub, ADA)), "fast_forward": True})
    for asked in ((), ("nginx", "--ref", hub.repo.head()), ("nginx", "--now")):
        assert hub.sync(*asked).code == 6 and hub.tree() == before
    assert hub.call("status", "--json").job["state"] == "failing"


# --- a GitHub that lies ---------------------------------------------------------------------------


def lie(change: Callable[[dict[str, object]], None]) -> Callable[[Answer], Answer]:
    def effect(answer: Answer) -> Answer:
        value = json.loads(answer.body)
        change(value)
        return replace(answer, body=json.dumps(value).encode())

    return effect


def test_a_signature_of_another_commit_is_not_believed(guarded: SyncEnv) -> None:
    good = push(guarded, "signed\n")
    verification = {
        "payload": guarded.repo.commits[good].payload,
        "signature": guarded.repo.commits[good].signature,
        "reason": "valid",
        "verified": True,
    }
    push(guarded, "evil\n", None)
    guarded.github.add_fault(
        "commit", lie(lambda value: value.update(verification=verification)), times=99
    )
    done = guarded.sync()
    assert done.code in (5, 6) and guarded.tree() == {}
    assert done.job["error"]["id"] in ("limit/commit-unsigned", "bad_response/other-object")


def test_an_unsigned_commit_that_github_calls_verified_is_refused(guarded: SyncEnv) -> None:
    guarded.repo.commit({"nginx/nginx.conf": "evil\n"}, verification="valid")
    assert guarded.sync().job["error"]["id"] == "limit/commit-unsigned" and guarded.tree() == {}


@pytest.mark.parametrize("path", ["nginx/", "nginx/nginx.conf", "/"])
def test_the_files_of_another_tree_are_not_taken_for_those_of_the_signed_commit(
    guarded: SyncEnv, path: str
) -> None:
    """GitHub lists an evil commit's files under the id of the signed one."""
    to = str(guarded.dest / "nginx.conf") if path.endswith("conf") else f"{guarded.dest}/"
    guarded.write_config(paths=[{"from": path, "to": to}])
    push(guarded, "signed\n")
    evil = guarded.repo.commit({"nginx/nginx.conf": "evil\n"}, branch="evil", sign=EVE.sign)
    signed = guarded.repo.head()
    commits = guarded.repo.commits
    honest = commits[signed]

    def swap() -> None:
        commits[signed] = replace(honest, tree=commits[evil].tree)

    for route in ("contents", "tree"):
        guarded.github.call_before(route, 1, swap)
    done = guarded.sync()
    assert (done.code, done.job["error"]["kind"]) == (5, "bad_response") and guarded.tree() == {}
    assert done.job["error"]["id"] == "bad_response/other-tree"
    commits[signed] = honest
    assert guarded.sync().code == 0


# --- since ----------------------------------------------------------------------------------------


def test_unsigned_history_up_to_a_named_commit_is_allowed(hub: SyncEnv) -> None:
    file = str(signers_file(hub, ADA))
    first = hub.repo.head()
    second = push(hub, "two\n", None)
    hub.write_config(require={"signed_by": file, "since": second}, ref=first)
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"one\n"
    hub.write_config(ref=None)
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"two\n"
    after = push(hub, "unsigned\n", None)
    assert hub.sync().job["error"]["id"] == "limit/commit-unsigned"
    hub.repo.commit({"nginx/nginx.conf": "beside\n"}, parents=(first,))
    assert hub.sync().job["error"]["id"] == "limit/commit-unsigned", "a branch is not before it"
    hub.repo.refs["refs/heads/main"] = after
    push(hub, "signed\n")
    assert hub.sync().code == 0 and hub.tree()["nginx.conf"] == b"signed\n"


def test_a_history_that_github_makes_up_lets_nothing_in(hub: SyncEnv) -> None:
    since = hub.repo.head()
    evil = hub.repo.commit({"nginx/nginx.conf": "evil\n"}, parents=())
    hub.write_config(require={"signed_by": str(signers_file(hub, ADA)), "since": since})

    def insert(rows: object) -> None:
        assert isinstance(rows, list)
        rows[0]["parents"] = [{"sha": evil}]

    hub.github.add_fault("commits", lie(insert), times=99)
    assert hub.sync().job["error"]["id"] == "limit/commit-unsigned" and hub.tree() == {}


# --- tags -----------------------------------------------------------------------------------------


def test_the_signature_of_an_annotated_tag_counts_for_a_tag(guarded: SyncEnv) -> None:
    guarded.write_config(ref="v1")
    head = guarded.repo.head()
    guarded.repo.tag("v1", head, annotated=True, sign=ADA.sign)
    assert guarded.sync().code == 0 and guarded.tree()["nginx.conf"] == b"one\n"
    evil = push(guarded, "evil\n", None)
    for sign in (EVE.sign, None):
        guarded.repo.tag("v1", evil, annotated=True, sign=sign)
        assert guarded.sync().job["status"] == "refused"
    guarded.repo.tag("v1", evil)
    assert guarded.sync().job["status"] == "refused"
    good = push(guarded, "signed\n")
    guarded.repo.tag("v1", good)
    assert guarded.sync().code == 0, "the commit's own signature counts for a plain tag"


def test_a_signed_tag_under_another_name_is_refused(guarded: SyncEnv) -> None:
    guarded.write_config(ref="refs/tags/v2")
    guarded.repo.tag("v1", guarded.repo.head(), annotated=True, sign=ADA.sign)
    guarded.repo.refs["refs/tags/v2"] = guarded.repo.refs["refs/tags/v1"]
    done = guarded.sync()
    assert done.job["error"]["id"] == "limit/signature-refused" and guarded.tree() == {}
    assert "its tag is 'v1'" in done.job["error"]["message"]


# --- the file -------------------------------------------------------------------------------------


def test_check_names_what_is_wrong_with_the_file(hub: SyncEnv) -> None:
    file = signers_file(hub, ADA)
    file.write_text(f"{ADA.line()}ada nonsense\n")
    hub.write_config(require={"signed_by": str(file)})
    said = hub.call("check")
    assert said.code == 2 and f"{file}:2: there is no public key" in said.err
    assert "jobs.nginx.require.signed_by" in said.err
    done = hub.sync()
    assert done.code == 2 and done.job["error"]["id"] == "config/signers-file"


def test_a_mirror_never_writes_the_file_of_allowed_signers(hub: SyncEnv) -> None:
    hub.dest.mkdir(exist_ok=True)
    file = hub.dest / "nginx.conf"
    file.write_text(ADA.line())
    hub.write_config(require={"signed_by": str(file)})
    said = hub.call("check")
    assert said.code == 2 and "the allowed signers of jobs.nginx" in said.err


@pytest.mark.parametrize(
    ("require", "problem"),
    [
        ({"signed_by": "signers"}, "not an absolute path"),
        ({"since": "0" * 40}, "no meaning without signed_by"),
        ({"signed_by": "/etc/signers", "since": "main"}, "not a full commit id"),
    ],
)
def test_mistakes_in_require_are_named(hub: SyncEnv, require: dict[str, str], problem: str) -> None:
    hub.write_config(require=require)
    said = hub.call("check", "--without-secrets")
    assert said.code == 2 and problem in said.err


# --- objects of git itself ------------------------------------------------------------------------


@needs("git", "ssh-keygen")
def test_a_commit_that_git_made_and_signed_is_applied(guarded: SyncEnv, tmp_path: Path) -> None:
    key = ADA.write(tmp_path)
    work = GitRepository.create(tmp_path / "work", *ssh_config(key))
    (work.folder / "nginx").mkdir()
    (work.folder / "nginx/nginx.conf").write_text("from git\n")
    work.git("add", "-A")
    commit = work.commit("Grüße\n\nwith a body", "-S", GIT_COMMITTER_DATE="1700000000 +0545")
    guarded.repo.add_git_objects(
        {name: (kind, work.raw(kind, name)) for kind, name in work.objects()}
    )
    guarded.repo.refs["refs/heads/main"] = commit
    assert guarded.sync().code == 0 and guarded.tree()["nginx.conf"] == b"from git\n"
