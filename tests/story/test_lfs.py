"""Git LFS: `refuse` by name, the `pointer` as it is, or `fetch` of what it stands for, checked, and
without our token at the storage host.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.engine.lfs import pointer_of
from syncd.errors import MirrorError
from syncd.simulator import faults
from tests.support.sync_env import SyncEnv, signatures, sync_env

BIG = bytes(range(256)) * 3000


@pytest.fixture
def large(hub: SyncEnv) -> SyncEnv:
    """nginx/data.bin is kept in LFS; nginx/nginx.conf is not."""
    hub.repo.commit({"nginx/data.bin": hub.repo.lfs_pointer(BIG)})
    hub.write_config(lfs="fetch")
    return hub


def test_the_content_is_mirrored_and_a_second_run_asks_for_nothing(large: SyncEnv) -> None:
    done = large.sync()
    assert done.code == 0, done.job["error"]
    assert large.tree()["data.bin"] == BIG and large.tree()["nginx.conf"] == b"one\n"
    before = signatures(large.dest)
    again = large.sync()
    assert (
        again.job["status"] == "unchanged"
        and again.json["requests"] == {"total": 2, "not_modified": 1}
        and signatures(large.dest) == before
    )


def test_what_is_known_is_not_asked_for_again_when_something_else_changes(large: SyncEnv) -> None:
    large.sync()
    large.repo.commit({"nginx/nginx.conf": "two\n"})
    assert large.sync().job["status"] == "changed"
    assert large.github.count("lfs") == 0 and large.github.count("lfs_object") == 0
    large.repo.commit({"nginx/data.bin": large.repo.lfs_pointer(BIG + b"more")})
    done = large.sync()
    assert (
        done.code == 0
        and large.tree()["data.bin"] == BIG + b"more"
        and large.github.count("lfs") == 1
    )


def test_an_edit_is_put_back_from_the_cache_and_a_lost_cache_is_filled_again(
    large: SyncEnv,
) -> None:
    large.sync()
    (large.dest / "data.bin").write_bytes(b"edited")
    assert large.sync().job["changes"][0]["action"] == "restore"
    assert large.tree()["data.bin"] == BIG and large.github.count("lfs_object") == 0
    for file in (large.state / "blobs").glob("??/*"):
        file.unlink()
    (large.dest / "data.bin").write_bytes(b"edited")
    assert (
        large.sync().code == 0
        and large.tree()["data.bin"] == BIG
        and large.github.count("lfs_object") == 1
    )


def test_a_lost_store_adopts_the_content(large: SyncEnv) -> None:
    large.sync()
    before = signatures(large.dest)
    for file in large.state.glob("syncd.db*"):
        file.unlink()
    assert large.sync().job["status"] == "unchanged" and signatures(large.dest) == before


def test_a_rollback_brings_the_content_back_too(large: SyncEnv) -> None:
    large.sync()
    large.repo.commit({"nginx/data.bin": large.repo.lfs_pointer(b"other")})
    large.sync()
    done = large.call("rollback", "nginx", "--json")
    assert (
        done.code == 0 and large.tree()["data.bin"] == BIG and done.json["requests"]["total"] == 0
    )


def test_plan_names_the_changes_that_sync_makes(large: SyncEnv) -> None:
    planned = large.plan().job["changes"]
    assert planned == large.sync().job["changes"]


def test_the_storage_host_sees_no_token(large: SyncEnv) -> None:
    large.sync()
    (batch,) = [one for one in large.github.requests if one.route == "lfs"]
    (download,) = [one for one in large.github.requests if one.route == "lfs_object"]
    assert batch.headers["authorization"].startswith("Basic ")
    assert "authorization" not in download.headers and download.headers["x-storage"].startswith(
        "key-"
    )


@pytest.mark.parametrize("as_app", [True, False], ids=["App", "token"])
@pytest.mark.parametrize("status", [301, 302, 307])
def test_the_content_of_a_renamed_repository_is_fetched_where_it_is_now(
    tmp_path: Path, as_app: bool, status: int
) -> None:
    with sync_env(tmp_path, as_app=as_app) as hub:
        hub.write_config(lfs="fetch")
        assert hub.sync().code == 0
        hub.github.rename("acme/infra", "acme/platform")
        hub.repo.commit({"nginx/data.bin": hub.repo.lfs_pointer(BIG)})
        hub.github.add_fault("lfs", lambda answer: replace(answer, status=status))
        done = hub.sync()
        assert done.code == 0 and hub.tree()["data.bin"] == BIG, done.job["error"]
        old, new = [one for one in hub.github.requests if one.route == "lfs"]
        assert (old.path, old.method, old.status) == (
            "/acme/infra.git/info/lfs/objects/batch",
            "POST",
            status,
        )
        assert (new.path, new.method, new.status) == (
            "/acme/platform.git/info/lfs/objects/batch",
            "POST",
            200,
        )


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:1/acme/infra.git/info/lfs/objects/batch",
        "https://evil.example/x",
        "/acme/infra.git/info/lfs/objects/batch",
    ],
)
def test_a_batch_request_follows_no_redirect_to_another_host_nor_in_a_circle(
    large: SyncEnv, location: str
) -> None:
    large.github.add_fault(
        "lfs", lambda answer: faults.Answer(301, {"location": location}), times=99
    )
    done = large.sync()
    assert (done.code, done.job["error"]["kind"]) == (
        5,
        "bad_response",
    ) and "redirected" in done.job["error"]["message"], done.job["error"]
    assert large.github.count("lfs") <= 6 and large.tree() == {}


@pytest.mark.parametrize("spoil", ["corrupt", "cut", "html", "503", "other content"])
def test_other_bytes_than_the_pointer_says_are_never_written(
    large: SyncEnv, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.005)
    act = {
        "corrupt": faults.corrupt(0.5),
        "cut": faults.cut(30),
        "html": faults.html(),
        "503": faults.status(503),
        "other content": faults.other_content(),
    }[spoil]
    made = large.github.add_fault("lfs_object", act, times=99)
    done = large.sync()
    assert (
        done.code == 5
        and done.job["error"]["kind"] in ("bad_response", "unavailable")
        and large.tree() == {}
    )
    made.times = 0
    assert large.sync().code == 0 and large.tree()["data.bin"] == BIG


@pytest.mark.parametrize(
    "spoil", ["html", "not json", "502", "no objects", "no place", "bad header", "elsewhere"]
)
def test_a_batch_answer_that_makes_no_sense_is_refused(
    large: SyncEnv, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.github.attempts.BACKOFF_SECONDS", 0.005)

    def answered(body: object) -> faults.FaultEffect:
        return faults.other_content(json.dumps(body).encode())

    oid = next(iter(large.repo.lfs_objects))
    action = (
        {"href": "http://169.254.169.254/latest"}
        if spoil == "elsewhere"
        else {"href": f"{large.served.url}/x", "header": {"X-Bad": "a\r\nb: c"}}
    )
    act = {
        "html": faults.html(),
        "not json": faults.other_content(b"{"),
        "502": faults.status(502),
        "no objects": answered({}),
        "no place": answered({"objects": [{"oid": oid}]}),
    }.get(spoil, answered({"objects": [{"oid": oid, "actions": {"download": action}}]}))
    large.github.add_fault("lfs", act, times=99)
    done = large.sync()
    assert done.code == 5 and done.job["error"]["kind"] in ("bad_response", "unavailable"), (
        done.job["error"]
    )
    assert large.tree() == {} and large.github.count("lfs_object") == 0


def test_content_that_the_host_does_not_have_is_named(large: SyncEnv) -> None:
    large.repo.lfs_objects.clear()
    done = large.sync()
    assert (
        done.code == 1
        and done.job["error"]["kind"] == "not_found"
        and "nginx/data.bin" in done.job["error"]["message"]
    )
    assert large.tree() == {}


def test_the_size_limit_counts_the_content_and_stops_before_anything_is_brought(
    large: SyncEnv,
) -> None:
    large.write_config(limits={"size": "100KiB"})
    done = large.sync()
    assert (
        done.code == 6 and done.job["error"]["kind"] == "limit" and large.github.count("lfs") == 0
    )


def test_refuse_names_the_file_and_pointer_mirrors_it_as_it_is(hub: SyncEnv) -> None:
    pointer = hub.repo.lfs_pointer(BIG)
    hub.repo.commit({"nginx/data.bin": pointer})
    refused = hub.sync()
    assert (
        refused.code == 1
        and refused.job["error"]["kind"] == "mirror"
        and "nginx/data.bin" in refused.job["error"]["message"]
        and hub.tree() == {}
    )
    hub.write_config(lfs="pointer")
    assert hub.sync().code == 0 and hub.tree()["data.bin"] == pointer
    hub.write_config(lfs="fetch")
    assert hub.sync().code == 0 and hub.tree()["data.bin"] == BIG, (
        "pointers mirrored before become what they stand for"
    )


def test_many_pointers_come_in_batches(tmp_path: Path) -> None:
    with sync_env(tmp_path) as hub:
        hub.repo.commit(
            {f"nginx/f{number:03d}": hub.repo.lfs_pointer(b"%d" % number) for number in range(130)}
        )
        hub.write_config(lfs="fetch")
        assert (
            hub.sync().code == 0 and hub.github.count("lfs") == 2 and hub.tree()["f129"] == b"129"
        )


def test_pointers_are_told_from_files_that_only_begin_like_one() -> None:
    good = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 12\n"
    assert pointer_of(good, "p") is not None
    assert (
        pointer_of(b"version https://git-lfs.github.com/spec/v2\n", "p") is None
        and pointer_of(b"", "p") is None
    )
    for broken in (
        good.replace(b"sha256:", b"md5:"),
        good.replace(b"size 12", b"size -1"),
        good.replace(b"ab", b"AB"),
        good + b"x" * 1024,
    ):
        with pytest.raises(MirrorError):
            pointer_of(broken, "p")


CHOSEN = (
    "Host",
    "connection",
    "Transfer-Encoding",
    "content-length",
    "Upgrade",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Expect",
    "Cookie",
    "Keep-Alive",
    "Range",
    "if-range",
    "accept-encoding",
)


def test_an_answer_of_lfs_does_not_choose_headers_of_the_connection(large: SyncEnv) -> None:
    def choose(answer: faults.Answer) -> faults.Answer:
        found = json.loads(answer.body)
        for one in found["objects"]:
            one["actions"]["download"]["header"] |= dict.fromkeys(CHOSEN, "chosen.example")
        return replace(answer, body=json.dumps(found).encode())

    large.github.add_fault("lfs", choose, times=99)
    done = large.sync()
    (download,) = [one for one in large.github.requests if one.route == "lfs_object"]
    assert done.code == 0 and large.tree()["data.bin"] == BIG, done.job["error"]
    assert (
        download.headers["x-storage"].startswith("key-")
        and download.headers["host"] != "chosen.example"
    )
    assert "chosen.example" not in download.headers.values()
