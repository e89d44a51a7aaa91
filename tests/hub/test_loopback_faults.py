"""Each fault of the loopback Hub, and what huggingface_hub makes of it: tries again by itself, or raises, and what."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from loopback.switching import Online

SMALL, LARGE = b"small" * 20, b"\0" + os.urandom(300_000)
TREE, COMMIT, PUT, FILES = (
    {"path": "/tree/"},
    {"path": "/commit/"},
    {"method": "PUT"},
    {"method": "GET", "path": "resolve"},
)


@pytest.fixture
def stocked(online: Online) -> Online:
    online.hub.create("ada/a", files={"small.txt": SMALL, "large.bin": LARGE})
    return online


def tree() -> object:
    return list(HfApi().list_repo_tree("ada/a"))


def information() -> object:
    return HfApi().model_info("ada/a")


def download() -> bytes:
    return Path(hf_hub_download("ada/a", "large.bin")).read_bytes()


def download_small() -> bytes:
    return Path(hf_hub_download("ada/a", "small.txt")).read_bytes()


def commit(parent: str | None = None) -> str:
    operations = [
        CommitOperationAdd("small.txt", os.urandom(9).hex().encode()),
        CommitOperationAdd("new.bin", LARGE[::-1]),
    ]
    return str(HfApi().create_commit("ada/a", operations, commit_message="mine", parent_commit=parent).oid)


def titles(stocked: Online) -> list[str]:
    return [entry["title"] for entry in stocked.hub.commits("ada/a")]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    "call, where",
    [
        (tree, TREE),
        (commit, PUT),
        (commit, {"path": "/preupload/"}),
        (commit, {"path": "batch"}),
        (commit, {"path": "_verify"}),
    ],
)
def test_lists_and_uploads_are_tried_again(
    stocked: Online, call: Callable[[], object], where: dict[str, str], status: int
) -> None:
    stocked.hub.fault("status", status=status, times=2, **where)
    call()
    assert stocked.naps == [1, 2]
    assert [entry["status"] for entry in stocked.hub.log() if entry["fault"]] == [status, status]


@pytest.mark.parametrize("status", [409, 412, 429, 500, 503])
@pytest.mark.parametrize("call, where", [(information, {"path": "/models/ada/a$"}), (commit, COMMIT)])
def test_commits_and_questions_are_not_tried_again(
    stocked: Online, call: Callable[[], object], where: dict[str, str], status: int
) -> None:
    stocked.hub.fault("status", status=status, message="no such luck", **where)
    with pytest.raises(HfHubHTTPError, match="no such luck") as caught:
        call()
    assert caught.value.response.status_code == status
    assert (stocked.naps, "mine" in titles(stocked)) == ([], False)


def test_an_upload_that_is_refused_for_good_is_a_runtime_error(stocked: Online) -> None:
    stocked.hub.fault("status", status=503, times=None, **PUT)
    with pytest.raises(RuntimeError, match=r"Error while uploading 'new.bin'") as caught:
        commit()
    assert isinstance(caught.value.__cause__, HfHubHTTPError)
    assert stocked.naps == [1, 2, 4, 8, 8]
    assert "mine" not in titles(stocked)


@pytest.mark.parametrize("options, nap", [({"retry_after": 7}, 8.0), ({"rate_limit": 30}, 31.0)])
def test_the_hub_says_how_long_to_wait(stocked: Online, options: dict[str, int], nap: float) -> None:
    stocked.hub.fault("status", status=429, **options, **TREE)
    tree()
    assert stocked.naps == [nap]
    stocked.hub.fault("status", status=429, **options, **COMMIT)
    with pytest.raises(HfHubHTTPError, match="429 Too Many Requests") as caught:
        commit()
    assert ("Retry after 30 seconds (0/500" in str(caught.value)) == ("rate_limit" in options)


def test_a_download_is_tried_again_after_429_but_not_after_500(stocked: Online) -> None:
    stocked.hub.fault("status", status=429, **FILES)
    assert download() == LARGE
    assert stocked.naps == [1]
    stocked.hub.fault("status", status=500, **FILES)
    with pytest.raises(HfHubHTTPError):
        download_small()
    stocked.hub.fault("status", status=500, method="HEAD")
    assert download_small() == SMALL
    stocked.hub.fault("status", status=500, method="HEAD", times=None)
    assert download_small() == SMALL, "it is cached by now"
    stocked.use_cache(stocked.home / "empty")
    with pytest.raises(LocalEntryNotFoundError):
        download_small()


@pytest.mark.parametrize("kind", ["drop", "lose", "cut_upload"])
@pytest.mark.parametrize(
    "call, where", [(tree, TREE), (commit, PUT), (commit, {"path": "_verify"}), (download, FILES)]
)
def test_a_broken_connection_is_tried_again(
    stocked: Online, kind: str, call: Callable[[], object], where: dict[str, str]
) -> None:
    stocked.hub.fault(kind, times=2, **where)
    call()
    assert len(stocked.naps) == 2
    assert [entry["fault"] for entry in stocked.hub.log() if entry["fault"]] == [kind, kind]
    if call is commit:
        assert stocked.hub.files("ada/a")["new.bin"] == LARGE[::-1]


@pytest.mark.parametrize("kind, arrived", [("drop", False), ("cut_upload", False), ("lose", True)])
def test_a_commit_on_a_broken_connection_is_not_tried_again(stocked: Online, kind: str, arrived: bool) -> None:
    stocked.hub.fault(kind, **COMMIT)
    with pytest.raises(httpx2.TransportError):
        commit()
    assert (stocked.naps, "mine" in titles(stocked)) == ([], arrived)
    assert set(stocked.hub.files("ada/a")) == {"small.txt", "large.bin", *(["new.bin"] if arrived else [])}


def test_a_dropped_question_about_a_file_is_raised_even_where_it_is_cached(stocked: Online) -> None:
    download()
    stocked.hub.fault("drop", method="HEAD")
    with pytest.raises(httpx2.RemoteProtocolError):
        download()


@pytest.mark.parametrize("kind", ["cut", "wrong_length"])
def test_a_download_that_breaks_off_goes_on(stocked: Online, kind: str) -> None:
    stocked.hub.fault(kind, **FILES)
    assert download() == LARGE
    assert stocked.naps == [1]
    stocked.hub.fault(kind, times=None, **FILES)
    with pytest.raises(httpx2.RemoteProtocolError):
        download_small()
    assert not list((stocked.cache / "models--ada--a" / "snapshots").rglob("small.txt"))


def test_a_short_file_is_noticed(stocked: Online) -> None:
    stocked.hub.fault("truncate", **FILES)
    with pytest.raises(OSError, match="Consistency check failed"):
        download()
    assert download() == LARGE


def test_changed_bytes_are_not_noticed(stocked: Online) -> None:
    stocked.hub.fault("corrupt", at=1000, **FILES)
    received = download()
    differing = [at for at, (got, sent) in enumerate(zip(received, LARGE, strict=True)) if got != sent]
    assert differing == [1000]
    assert len(HfApi().verify_repo_checksums("ada/a").mismatches) == 1
    assert stocked.hub.files("ada/a")["large.bin"] == LARGE


def test_an_upload_with_changed_bytes_is_refused(stocked: Online) -> None:
    stocked.hub.fault("corrupt_upload", **PUT)
    with pytest.raises(RuntimeError) as caught:
        commit()
    assert "sha256" in str(caught.value.__cause__)
    assert set(stocked.hub.files("ada/a")) == {"small.txt", "large.bin"}
    commit()
    assert stocked.hub.files("ada/a")["new.bin"] == LARGE[::-1]


def test_changed_bytes_of_an_answer_are_no_json(stocked: Online) -> None:
    stocked.hub.fault("truncate", path="/models/ada/a$")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        information()


def test_a_slow_answer_is_waited_for(stocked: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    stocked.hub.fault("slow", seconds=1.0, **FILES)
    assert download() == LARGE
    assert stocked.naps == [1]
    stocked.hub.fault("slow", seconds=0.3, **COMMIT)
    commit()
    assert "mine" in titles(stocked)


def test_an_error_that_repeats_the_token(stocked: Online) -> None:
    stocked.hub.fault("echo", status=403, **COMMIT)
    with pytest.raises(HfHubHTTPError) as caught:
        commit()
    assert stocked.hub.tokens.write in str(caught.value), "huggingface_hub passes it on: its callers have to redact it"
    assert stocked.hub.tokens.write in caught.value.response.headers["X-Request-Id"]


def test_somebody_pushes_just_before(stocked: Online) -> None:
    head = stocked.hub.commits("ada/a")[0]["sha"]
    stocked.hub.fault("push", files={"small.txt": "theirs"}, **COMMIT)
    with pytest.raises(HfHubHTTPError) as caught:
        commit(parent=head)
    assert caught.value.response.status_code == 412
    assert stocked.hub.files("ada/a") == {"small.txt": b"theirs", "large.bin": LARGE}
    assert stocked.hub.commits("ada/a")[0]["author"] == "bob"
    stocked.hub.fault("push", files={"small.txt": None}, **COMMIT)
    commit()
    assert titles(stocked)[:2] == ["mine", "Somebody else was here"]


def test_faults_can_wait_and_be_switched_off(stocked: Online) -> None:
    stocked.hub.fault("status", status=400, after=2, **TREE)
    tree()
    tree()
    with pytest.raises(HfHubHTTPError):
        tree()
    tree()
    stocked.hub.fault("drop", times=None)
    assert stocked.hub.calm() == 1
    tree()
