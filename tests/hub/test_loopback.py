"""Each endpoint of the loopback Hub through huggingface_hub's own client."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    get_session,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from loopback.switching import Online


def status_of(call: Callable[[], object]) -> int:
    """The HTTP status with which a call fails."""
    with pytest.raises(HfHubHTTPError) as caught:
        call()
    return caught.value.response.status_code


def test_a_repository_is_created_updated_and_deleted(online: Online) -> None:
    api = HfApi()
    url = api.create_repo("ada/one", private=True)
    assert (url.repo_id, url.endpoint, str(url)) == ("ada/one", online.hub.url, f"{online.hub.url}/ada/one")
    assert status_of(lambda: api.create_repo("ada/one")) == 409
    assert api.create_repo("ada/one", exist_ok=True) == url
    assert api.model_info("ada/one").private
    assert [sibling.rfilename for sibling in api.model_info("ada/one").siblings] == [".gitattributes"]
    api.update_repo_settings("ada/one", private=False, gated="manual")
    info = api.model_info("ada/one")
    assert (info.private, info.gated) == (False, "manual")
    api.delete_repo("ada/one")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("ada/one")
    api.delete_repo("ada/one", missing_ok=True)
    assert api.create_repo("short").repo_id == "ada/short"


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_other_kinds_of_repositories_have_their_own_names(online: Online, kind: str, tmp_path: Path) -> None:
    api = HfApi()
    api.create_repo("ada/same")
    api.create_repo("ada/same", repo_type=kind, space_sdk="static" if kind == "space" else None)
    (tmp_path / "a.txt").write_text("words")
    api.upload_file(path_or_fileobj=tmp_path / "a.txt", path_in_repo="a.txt", repo_id="ada/same", repo_type=kind)
    assert Path(hf_hub_download("ada/same", "a.txt", repo_type=kind)).read_text() == "words"
    assert api.repo_info("ada/same", repo_type=kind).sha == online.hub.commits("ada/same", kind=kind)[0]["sha"]
    assert online.hub.files("ada/same") == {}


def test_who_am_i(online: Online) -> None:
    identity = HfApi().whoami()
    assert (identity["name"], [org["name"] for org in identity["orgs"]]) == ("ada", ["guild"])
    assert HfApi(token=online.hub.tokens.read).whoami()["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token=online.hub.tokens.invalid).whoami()


def test_files_go_up_and_down_regular_and_large(online: Online, tmp_path: Path) -> None:
    api, large = HfApi(), os.urandom(11 * 2**20)
    api.create_repo("ada/files")
    folder = tmp_path / "up"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "ä b.txt").write_text("small")
    (folder / "large.dat").write_bytes(large)
    (folder / "empty.txt").touch()
    commit = api.upload_folder(folder_path=folder, repo_id="ada/files", commit_message="All", commit_description="Why")
    newest = online.hub.commits("ada/files")[0]
    assert (newest["sha"], newest["title"], newest["message"]) == (commit.oid, "All", "Why")
    assert online.hub.files("ada/files") == {"sub/ä b.txt": b"small", "large.dat": large, "empty.txt": b""}

    found = Path(snapshot_download("ada/files", revision=commit.oid))
    assert found == online.cache / "models--ada--files" / "snapshots" / commit.oid
    assert (found / "large.dat").read_bytes() == large
    assert (found / "sub" / "ä b.txt").read_text() == "small"
    assert (found / "large.dat").resolve().name == api.get_paths_info("ada/files", "large.dat")[0].lfs.sha256
    assert api.verify_repo_checksums("ada/files").mismatches == []
    storage = [entry for entry in online.hub.log() if entry["storage"]]
    assert {entry["method"] for entry in storage} == {"PUT", "GET"}
    assert not any(entry["token"] for entry in storage)


def test_very_large_files_go_up_in_parts(online: Online, tmp_path: Path) -> None:
    online.hub.configure(multipart_above=1000, part_size=400)
    HfApi().create_repo("ada/parts")
    data = os.urandom(1500)
    (tmp_path / "a.safetensors").write_bytes(data)
    HfApi().upload_file(path_or_fileobj=tmp_path / "a.safetensors", path_in_repo="a.safetensors", repo_id="ada/parts")
    assert online.hub.files("ada/parts")["a.safetensors"] == data
    assert [entry["path"][-2:] for entry in online.hub.log("PUT")] == ["/1", "/2", "/3", "/4"]


def test_the_same_content_again_makes_no_commit(online: Online) -> None:
    api = HfApi()
    api.create_repo("ada/again")
    operations = [CommitOperationAdd("a.txt", b"same"), CommitOperationAdd("b.bin", b"\0same")]
    first = api.create_commit("ada/again", operations, commit_message="1")
    operations = [CommitOperationAdd("a.txt", b"same"), CommitOperationAdd("b.bin", b"\0same")]
    assert api.create_commit("ada/again", operations, commit_message="2").oid == first.oid
    assert len(online.hub.commits("ada/again")) == 2
    api.upload_file(path_or_fileobj=b"\0same", path_in_repo="c.bin", repo_id="ada/again")
    assert len(online.hub.log("PUT")) == 1, "content that is there already is not sent again"


def test_files_are_copied_and_deleted(online: Online) -> None:
    api = HfApi()
    online.hub.create("ada/move", files={"a.txt": "a", "d/1.bin": b"\0", "d/2.txt": "2", "old.txt": ""})
    copies = [CommitOperationCopy("a.txt", "b.txt"), CommitOperationCopy("d/1.bin", "c.bin")]
    deletes = [CommitOperationDelete("old.txt"), CommitOperationDelete("d/")]
    api.create_commit("ada/move", [*copies, *deletes], commit_message="move")
    assert online.hub.files("ada/move") == {"a.txt": b"a", "b.txt": b"a", "c.bin": b"\0"}
    with pytest.raises(EntryNotFoundError):
        api.delete_file("absent.txt", "ada/move")


def test_a_commit_on_an_old_parent_is_refused(online: Online) -> None:
    old = online.hub.create("ada/parent", files={"a.txt": "1"})
    new = online.hub.commit("ada/parent", {"a.txt": "2"}, title="Other", author="bob")
    api, change = HfApi(), [CommitOperationAdd("a.txt", b"3")]
    assert status_of(lambda: api.create_commit("ada/parent", change, commit_message="m", parent_commit=old)) == 412
    assert online.hub.files("ada/parent") == {"a.txt": b"2"}
    api.create_commit("ada/parent", change, commit_message="m", parent_commit=new)
    assert [commit["author"] for commit in online.hub.commits("ada/parent")] == ["ada", "bob", "bob", "ada"]


def test_pull_requests_are_opened_listed_changed_and_merged(online: Online) -> None:
    base = online.hub.create("bob/theirs", files={"a.txt": "1"})
    api, add = HfApi(), CommitOperationAdd("b.txt", b"new")
    assert status_of(lambda: api.create_commit("bob/theirs", [add], commit_message="m")) == 403
    commit = api.create_commit("bob/theirs", [add], commit_message="Add b", create_pr=True)
    assert (commit.pr_num, commit.pr_revision) == (1, "refs/pr/1")
    assert online.hub.files("bob/theirs") == {"a.txt": b"1"}
    second = CommitOperationAdd("c.txt", b"more")
    api.create_commit("bob/theirs", [second], commit_message="Add c", revision="refs/pr/1", parent_commit=commit.oid)
    assert set(online.hub.files("bob/theirs", "refs/pr/1")) == {"a.txt", "b.txt", "c.txt"}
    assert Path(hf_hub_download("bob/theirs", "c.txt", revision="refs/pr/1")).read_text() == "more"
    [pull] = api.get_repo_discussions("bob/theirs", discussion_type="pull_request", discussion_status="open")
    assert (pull.num, pull.title, pull.author, pull.is_pull_request) == (1, "Add b", "ada", True)
    details = api.get_discussion_details("bob/theirs", 1)
    assert [event.summary for event in details.events] == ["Add b", "Add c"]
    assert status_of(lambda: api.merge_pull_request("bob/theirs", 1)) == 403
    online.hub.commit("bob/theirs", {"d.txt": "meanwhile"})
    HfApi(token=online.hub.tokens.other).merge_pull_request("bob/theirs", 1)
    assert set(online.hub.files("bob/theirs")) == {"a.txt", "b.txt", "c.txt", "d.txt"}
    assert api.get_discussion_details("bob/theirs", 1).status == "merged"
    assert base in {commit["sha"] for commit in online.hub.commits("bob/theirs")}


def test_a_pull_request_with_conflicts_is_not_merged(online: Online) -> None:
    online.hub.create("ada/conflict", files={"a.txt": "1"})
    api = HfApi()
    api.create_commit("ada/conflict", [CommitOperationAdd("a.txt", b"2")], commit_message="m", create_pr=True)
    online.hub.commit("ada/conflict", {"a.txt": "3"})
    assert api.get_discussion_details("ada/conflict", 1).conflicting_files == ["a.txt"]
    assert status_of(lambda: api.merge_pull_request("ada/conflict", 1)) == 409
    assert online.hub.files("ada/conflict") == {"a.txt": b"3"}


def test_branches_and_tags(online: Online) -> None:
    first = online.hub.create("ada/refs", files={"a.txt": "1"})
    second = online.hub.commit("ada/refs", {"a.txt": "2"})
    api = HfApi()
    api.create_branch("ada/refs", branch="feature/x", revision=first)
    api.create_tag("ada/refs", tag="v1", revision=second)
    api.upload_file(path_or_fileobj=b"3", path_in_repo="a.txt", repo_id="ada/refs", revision="feature/x")
    assert online.hub.files("ada/refs", "feature/x") == {"a.txt": b"3"}
    assert Path(hf_hub_download("ada/refs", "a.txt", revision="v1")).read_text() == "2"
    assert status_of(lambda: api.create_branch("ada/refs", branch="feature/x")) == 409
    assert status_of(lambda: api.create_tag("ada/refs", tag="v1")) == 409
    refs = api.list_repo_refs("ada/refs", include_pull_requests=True)
    assert {ref.name for ref in refs.branches} == {"main", "feature/x"}
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", second)]
    api.delete_branch("ada/refs", branch="feature/x")
    api.delete_tag("ada/refs", tag="v1")
    for revision in ("feature/x", "v1", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            api.model_info("ada/refs", revision=revision)
    assert api.model_info("ada/refs", revision=first[:10]).sha == first


def test_lists_come_in_pages(online: Online) -> None:
    online.hub.configure(page_size=3)
    api, names = HfApi(), {f"{number}.txt" for number in range(8)}
    online.hub.create("ada/pages", files=dict.fromkeys(names, "x"))
    for number in range(7):
        online.hub.create(f"bob/model-{number}", files={"sub/a.txt": str(number)})
    assert {entry.path for entry in api.list_repo_tree("ada/pages")} == names | {".gitattributes"}
    for number in range(7):
        online.hub.commit("ada/pages", {"a.txt": str(number)})
    assert len(api.list_repo_commits("ada/pages")) == 9
    assert len({model.id for model in api.list_models(author="bob")}) == 7
    assert len(list(api.list_models(author="bob", limit=5))) == 5
    assert len(list(api.list_models(search="MODEL"))) == 7
    assert len(online.hub.log("GET", "/api/models/ada/pages/tree")) == 3


def test_information_about_paths_and_revisions(online: Online) -> None:
    first = online.hub.create("ada/info", files={"a.txt": "1", "d/b.bin": b"\0" * 5})
    second = online.hub.commit("ada/info", {"a.txt": None})
    api = HfApi()
    assert [entry.path for entry in api.get_paths_info("ada/info", ["d", "a.txt"], revision=first)] == ["d", "a.txt"]
    [file] = api.get_paths_info("ada/info", ["d/b.bin", "gone"], expand=True)
    assert (file.size, file.lfs.size, file.last_commit.oid) == (5, 5, second)
    info = api.model_info("ada/info", revision=first, files_metadata=True)
    assert (info.sha, {entry.rfilename: entry.size for entry in info.siblings}["d/b.bin"]) == (first, 5)
    assert api.file_exists("ada/info", "a.txt", revision=first)
    assert not api.file_exists("ada/info", "a.txt")
    assert api.revision_exists("ada/info", first)
    assert not api.repo_exists("ada/none")


def test_a_file_system_reads_ranges(online: Online) -> None:
    data = bytes(range(200))
    online.hub.create("ada/ranges", files={"a.bin": data, "d/t.txt": "line"})
    files = HfFileSystem()
    assert sorted(files.ls("ada/ranges", detail=False)) == [
        "ada/ranges/.gitattributes",
        "ada/ranges/a.bin",
        "ada/ranges/d",
    ]
    with files.open("ada/ranges/a.bin", block_size=16) as file:
        file.seek(100)
        assert file.read(4) == data[100:104]
    assert any(entry["status"] == 206 and entry["range"] for entry in online.hub.log("GET"))
    with files.open("ada/ranges/d/new.txt", "w") as file:
        file.write("written")
    assert online.hub.files("ada/ranges")["d/new.txt"] == b"written"


@pytest.mark.parametrize(
    "asked, status, answered, part",
    [
        ("bytes=0-9", 206, "bytes 0-9/200", slice(0, 10)),
        ("bytes=190-", 206, "bytes 190-199/200", slice(190, 200)),
        ("bytes=-5", 206, "bytes 195-199/200", slice(195, 200)),
        ("bytes=150-999", 206, "bytes 150-199/200", slice(150, 200)),
        ("bytes=200-", 416, "bytes */200", None),
        ("lines=1-2", 200, None, slice(0, 200)),
    ],
)
def test_ranges(online: Online, asked: str, status: int, answered: str | None, part: slice | None) -> None:
    data = bytes(range(200))
    online.hub.create("ada/ranges", files={"a.bin": data})
    response = get_session().get(hf_hub_url("ada/ranges", "a.bin"), headers={"Range": asked})
    assert (response.status_code, response.headers.get("Content-Range")) == (status, answered)
    assert part is None or response.content == data[part]


def test_many_commits_at_once_lose_nothing(online: Online) -> None:
    online.hub.create("ada/busy")
    api, names = HfApi(), [f"{number}.bin" for number in range(16)]

    def commit(name: str) -> str:
        add = CommitOperationAdd(name, b"\0" + name.encode())
        return api.create_commit("ada/busy", [add], commit_message=name).oid

    with ThreadPoolExecutor(8) as pool:
        oids = set(pool.map(commit, names))
    assert online.hub.files("ada/busy") == {name: b"\0" + name.encode() for name in names}
    assert oids == {made["sha"] for made in online.hub.commits("ada/busy")[:16]}


def test_datasets_loads_streams_and_pushes(online: Online) -> None:
    from datasets import load_dataset

    readme = "---\nconfigs:\n- config_name: mini\n  data_files: train.jsonl\n---\n"
    rows = "".join(f'{{"text": "row {number}"}}\n' for number in range(5))
    online.hub.create("ada/data", kind="dataset", files={"README.md": readme, "train.jsonl": rows})
    loaded = load_dataset("ada/data", "mini", split="train")
    assert loaded["text"][4] == "row 4"
    assert next(iter(load_dataset("ada/data", "mini", split="train", streaming=True))) == {"text": "row 0"}
    loaded.push_to_hub("ada/out")
    assert load_dataset("ada/out", split="train").num_rows == 5
    assert (online.home / "datasets").is_dir()
