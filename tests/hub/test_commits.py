"""One commit or none: creation, branches, pull requests, conflicts, busy Hubs, broken connections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import HubAccessError, HubConflictError, HubError, HubNotFoundError, InputError
from hf_langcore.hub.commits import Head, commit

FILES = {"a.txt": b"one", "b/c.bin": b"two"}


def constant(_: Head) -> Mapping[str, Any]:
    return FILES


def appending(head: Head) -> Mapping[str, Any]:
    """Adds to what the repository holds, as results and cards do."""
    return {"list.txt": (head.read("list.txt", limit=1000) or b"") + b"mine\n"}


def test_a_repository_is_made_with_one_commit(online: Any) -> None:
    """All files together, in the namespace of the user where none is named."""
    done = commit("core", constant, message="First", description="More.", private=True)
    repo = f"{online.hub.user}/core"
    assert online.hub.files(repo) == FILES
    newest, first = online.hub.commits(repo)
    assert (newest["sha"], newest["title"], newest["message"]) == (done.oid, "First", "More.")
    assert first["parent"] in {None, ""}
    online.login(online.hub.tokens.other)
    with pytest.raises(HubNotFoundError):
        commit(repo, constant, message="x", create_pr=True)


def test_files_may_lie_on_disk(online: Any, tmp_path: Path) -> None:
    """Large ones are not read into memory."""
    (tmp_path / "large").write_bytes(b"x" * 3000)
    commit(f"{online.hub.user}/core", lambda _: {"w.safetensors": tmp_path / "large"}, message="x")
    assert online.hub.files(f"{online.hub.user}/core") == {"w.safetensors": b"x" * 3000}


def test_an_update_sends_only_what_changed(online: Any) -> None:
    """And pushing the same again is no commit."""
    repo = f"{online.hub.user}/core"
    first = commit(repo, constant, message="x")
    again = commit(repo, constant, message="y")
    assert again.oid == first.oid
    changed = commit(repo, lambda _: {"a.txt": b"three"}, message="z")
    assert changed.oid != first.oid
    assert online.hub.files(repo) == {**FILES, "a.txt": b"three"}


def test_a_branch_is_made(online: Any) -> None:
    repo = f"{online.hub.user}/core"
    commit(repo, constant, message="x", revision="trial")
    assert online.hub.files(repo) == {}
    assert online.hub.files(repo, "trial") == FILES


def test_a_pull_request_to_somebody_else(online: Any) -> None:
    """It changes nothing until it is merged, and needs no right to write."""
    online.hub.create("other/core", files={"README.md": "theirs"})
    done = commit("other/core", constant, message="x", create_pr=True)
    assert done.pr_url is not None
    assert online.hub.files("other/core") == {"README.md": b"theirs"}
    assert online.hub.files("other/core", "refs/pr/1") == {"README.md": b"theirs", **FILES}


def test_the_head_can_be_read(online: Any) -> None:
    """As it is at the commit, and only up to a size."""
    repo = f"{online.hub.user}/core"
    online.hub.create(repo, files={"small.txt": "abc", "large.txt": "x" * 100})
    seen: list[Head] = []
    commit(repo, lambda head: seen.append(head) or {"new": b"x"}, message="x")
    (head,) = seen
    assert head.files >= {"small.txt", "large.txt"}
    assert head.read("small.txt", limit=3) == b"abc"
    assert head.read("none.txt", limit=3) is None
    online.hub.commit(repo, {"small.txt": "newer"})
    assert head.read("small.txt", limit=3) == b"abc"
    with pytest.raises(HubError, match=r"large\.txt of .* at most 50 bytes"):
        head.read("large.txt", limit=50)


def test_what_others_push_meanwhile_is_kept(online: Any) -> None:
    """The commit is built anew on theirs."""
    repo = f"{online.hub.user}/core"
    online.hub.create(repo, files={"list.txt": "first\n"})
    online.hub.fault("push", method="POST", path="/commit/", files={"list.txt": "first\ntheirs\n"})
    commit(repo, appending, message="x")
    assert online.hub.files(repo) == {"list.txt": b"first\ntheirs\nmine\n"}


def test_others_who_push_all_the_time(online: Any) -> None:
    """After five times it is said, and theirs is there."""
    repo = f"{online.hub.user}/core"
    online.hub.create(repo)
    online.hub.fault("push", method="POST", path="/commit/", files={"list.txt": "theirs"}, times=None)
    with pytest.raises(HubConflictError, match="changed meanwhile"):
        commit(repo, appending, message="x")
    assert online.hub.files(repo) == {"list.txt": b"theirs"}
    assert len(online.hub.log("POST", "/commit/")) == 5


def test_a_named_parent_is_a_condition(online: Any) -> None:
    """Whoever names it wants to look first."""
    repo = f"{online.hub.user}/core"
    old = online.hub.create(repo, files={"a.txt": "1"})
    new = online.hub.commit(repo, {"a.txt": "2"})
    with pytest.raises(HubConflictError, match="without parent_commit, or with the new one"):
        commit(repo, constant, message="x", parent_commit=old)
    assert online.hub.files(repo) == {"a.txt": b"2"}
    commit(repo, constant, message="x", parent_commit=new)
    assert online.hub.files(repo) == FILES


@pytest.mark.parametrize("path", ["/repos/create", "/preupload/", "/commit/", "/info/lfs/objects/batch", "/_upload/"])
@pytest.mark.parametrize("kind", ["status", "drop", "cut_upload", "lose"])
def test_trouble_in_any_place_is_overcome(online: Any, path: str, kind: str) -> None:
    """Busy, refused connections, cut uploads, lost answers: tried again, and the result is one commit."""
    options = {"status": 503} if kind == "status" else {}
    online.hub.fault(kind, path=path, times=1, **options)
    repo = f"{online.hub.user}/core"
    files = {**FILES, "w.safetensors": b"w" * 5000}
    commit(repo, lambda _: files, message="x")
    assert online.hub.files(repo) == files
    assert len(online.hub.commits(repo)) == 2


def test_a_limit_is_waited_for(online: Any) -> None:
    online.hub.fault("status", method="POST", path="/commit/", status=429, retry_after=9)
    commit(f"{online.hub.user}/core", constant, message="x")
    assert 9 in online.naps


def test_a_hub_that_stays_down(online: Any) -> None:
    """Old or new, never half: nothing was written."""
    repo = f"{online.hub.user}/core"
    online.hub.create(repo, files={"a.txt": "old"})
    online.hub.fault("status", method="POST", path="/commit/", status=502, times=None)
    with pytest.raises(HubError, match="try again later") as caught:
        commit(repo, constant, message="x")
    assert caught.value.status == 502
    assert online.hub.files(repo) == {"a.txt": b"old"}


def test_no_second_pull_request(online: Any) -> None:
    """The answer was lost, so that nobody knows whether it was opened."""
    online.hub.create("other/core", files={"README.md": "theirs"})
    online.hub.fault("lose", method="POST", path="/commit/")
    with pytest.raises(HubError, match=r"connection broke.* look at the discussions of 'other/core' before you try"):
        commit("other/core", constant, message="x", create_pr=True)
    assert len(online.hub.log("POST", "/commit/")) == 1


@pytest.mark.parametrize(
    "who, repo, kind, message",
    [
        ("read", "me/core", HubAccessError, "right to write"),
        ("write", "other/core", HubAccessError, "create_pr=True"),
        ("invalid", "me/core", HubAccessError, "hf auth login"),
        (None, "me/core", HubAccessError, "hf auth login"),
    ],
)
def test_who_may_not(online: Any, who: str | None, repo: str, kind: type[HubError], message: str) -> None:
    """The message says whether it is the token or the account."""
    online.login(getattr(online.hub.tokens, who) if who else None)
    repo = repo.replace("me/", f"{online.hub.user}/")
    online.hub.create("other/core")
    with pytest.raises(kind, match=message) as caught:
        commit(repo, constant, message="x")
    for token in (online.hub.tokens.write, online.hub.tokens.read, online.hub.tokens.invalid):
        assert token not in str(caught.value)


def test_a_token_may_be_given(online: Any) -> None:
    online.login(None)
    commit(f"{online.hub.user}/core", constant, message="x", token=online.hub.tokens.write)
    assert online.hub.files(f"{online.hub.user}/core") == FILES
    with pytest.raises(InputError, match="no access token"):
        commit(f"{online.hub.user}/core", constant, message="x", token="hf_a\n")  # noqa: S106 no real one


@pytest.mark.parametrize("repo", ["a/b/c", "", "me/..", "me/a b"])
def test_no_name_of_a_repository(online: Any, repo: str) -> None:
    with pytest.raises(InputError, match="no id of a repository"):
        commit(repo, constant, message="x")


def test_echoed_tokens_are_hidden(online: Any) -> None:
    """A Hub, or a proxy in front of it, that repeats what it was sent."""
    online.hub.fault("echo", path="/commit/", status=400)
    with pytest.raises(HubError) as caught:
        commit(f"{online.hub.user}/core", constant, message="x")
    assert "<hidden>" in str(caught.value)
    assert online.hub.tokens.write not in str(caught.value)


def test_a_card_that_the_hub_refuses(online: Any) -> None:
    """Before anything is uploaded; the Hub's reason is in the message."""
    repo = f"{online.hub.user}/core"
    with pytest.raises(HubError, match=r"(?i)metadata|license|yaml"):
        commit(repo, lambda _: {**FILES, "README.md": b"---\nlicense: [1, 2\n---\n"}, message="x")
    assert online.hub.files(repo) == {}


def test_nothing_is_pushed_to_a_commit(online: Any) -> None:
    """A branch of that name would stand before the commit from then on."""
    repo = f"{online.hub.user}/core"
    sha = online.hub.create(repo, files={"a.txt": "1"})
    with pytest.raises(InputError, match="nothing can be pushed to one"):
        commit(repo, constant, message="x", revision=sha)
    assert online.hub.files(repo) == {"a.txt": b"1"}
