"""Who may see and change what on the loopback Hub, and the exceptions that huggingface_hub makes of its refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback.switching import Online


def commit(api: HfApi, repo_id: str) -> object:
    """A commit of one small file."""
    return api.create_commit(repo_id, [CommitOperationAdd("a.txt", b"new")], commit_message="m")


def status_of(call: Callable[[], object]) -> int:
    """The HTTP status with which a call fails."""
    with pytest.raises(HfHubHTTPError) as caught:
        call()
    return caught.value.response.status_code


def test_missing_things_have_their_own_exceptions(online: Online) -> None:
    online.hub.create("ada/there", files={"a.txt": "1"})
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("ada/absent", "a.txt")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("ada/there", "a.txt", revision="absent")
    with pytest.raises(EntryNotFoundError) as caught:
        hf_hub_download("ada/there", "absent.txt")
    assert not isinstance(caught.value, LocalEntryNotFoundError)
    with pytest.raises(RevisionNotFoundError):
        snapshot_download("ada/there", revision="absent")
    with pytest.raises(RepositoryNotFoundError):
        commit(HfApi(), "ada/absent")
    with pytest.raises(EntryNotFoundError):
        list(HfApi().list_repo_tree("ada/there", "absent"))


def test_tokens_that_cannot_write(online: Online) -> None:
    online.hub.create("ada/mine")
    online.hub.create("bob/theirs")
    tokens = online.hub.tokens
    for token, repo_id, status in [
        (tokens.read, "ada/mine", 403),
        (tokens.write, "bob/theirs", 403),
        (tokens.member, "ada/mine", 403),
        (tokens.invalid, "ada/mine", 401),
        (False, "ada/mine", 401),
    ]:
        api = HfApi(token=token)
        assert status_of(lambda api=api, repo_id=repo_id: commit(api, repo_id)) == status
        assert status_of(lambda api=api, repo_id=repo_id: api.create_repo(f"{repo_id}-2")) == status
        assert status_of(lambda api=api, repo_id=repo_id: api.create_tag(repo_id, tag="v1")) == status
        assert status_of(lambda api=api, repo_id=repo_id: api.delete_repo(repo_id)) == status
    assert online.hub.repos() == [("model", "ada/mine"), ("model", "bob/theirs")]
    assert online.hub.files("ada/mine") == {}


def test_members_write_to_their_organisation(online: Online) -> None:
    for token in (online.hub.tokens.write, online.hub.tokens.member):
        HfApi(token=token).create_repo("guild/shared", exist_ok=True)
        commit(HfApi(token=token), "guild/shared")
        online.hub.commit("guild/shared", {"a.txt": None})
    assert [made["author"] for made in online.hub.commits("guild/shared") if made["title"] == "m"] == ["mia", "ada"]
    assert status_of(lambda: HfApi(token=online.hub.tokens.other).delete_repo("guild/shared")) == 403


def test_private_repositories_do_not_exist_for_others(online: Online) -> None:
    online.hub.create("ada/secret", private=True, files={"a.txt": "1"})
    for token in (online.hub.tokens.other, False):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).model_info("ada/secret")
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("ada/secret", "a.txt", token=token)
        assert list(HfApi(token=token).list_models()) == []
    assert Path(hf_hub_download("ada/secret", "a.txt")).read_text() == "1"


def test_gated_repositories_show_their_metadata_only(online: Online) -> None:
    online.hub.create("bob/gated", files={"a.txt": "1", "b.bin": b"\0"})
    online.hub.gate("bob/gated", ["mia"])
    assert HfApi().model_info("bob/gated").gated == "manual"
    assert len(list(HfApi().list_repo_tree("bob/gated"))) == 3
    for name in ("a.txt", "b.bin"):
        with pytest.raises(GatedRepoError):
            hf_hub_download("bob/gated", name)
        with pytest.raises(GatedRepoError):
            hf_hub_download("bob/gated", name, token=False)
    for token, status in ((None, 403), (False, 401)):
        with pytest.raises(GatedRepoError) as caught:
            HfApi(token=token).auth_check("bob/gated")
        assert caught.value.response.status_code == status
    for token in (online.hub.tokens.member, online.hub.tokens.other):
        assert Path(hf_hub_download("bob/gated", "b.bin", token=token, force_download=True)).read_bytes() == b"\0"
    online.hub.gate("bob/gated", None)
    assert Path(hf_hub_download("bob/gated", "a.txt")).read_text() == "1"


def test_the_test_can_be_anybody_and_go_offline(online: Online, tmp_path: Path) -> None:
    online.hub.create("ada/cached", files={"a.txt": "1"})
    online.login(online.hub.tokens.other)
    assert HfApi().whoami()["name"] == "bob"
    online.login(None)
    assert Path(hf_hub_download("ada/cached", "a.txt")).read_text() == "1"
    assert {entry["user"] for entry in online.hub.log("HEAD")} == {None}
    online.offline()
    count = len(online.hub.log())
    assert Path(hf_hub_download("ada/cached", "a.txt")).read_text() == "1"
    with pytest.raises(OfflineModeIsEnabled):
        HfApi().model_info("ada/cached")
    online.use_cache(tmp_path / "another")
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download("ada/cached", "a.txt")
    assert len(online.hub.log()) == count
    online.offline(on=False)
    assert Path(hf_hub_download("ada/cached", "a.txt")).is_relative_to(tmp_path / "another")
