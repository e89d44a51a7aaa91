"""Reading named files of one commit: cache, offline, limits, commits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import HubAccessError, HubError, HubNotFoundError, InputError
from hf_langcore.hub.fetch import Repository, commit_of, commit_of_path, download_options
from hf_langcore.masks.origin import is_repository_id


def test_a_file_of_a_revision(online: Any) -> None:
    """Branch, tag, commit or none; the path says which commit it was."""
    old = online.hub.create("me/core", files={"a.txt": "1", "sub/a.txt": "3"})
    new = online.hub.commit("me/core", {"a.txt": "2"})
    for revision, text, sha in ((None, "2", new), ("main", "2", new), (old, "1", old)):
        path = Repository("me/core", revision=revision).fetch("a.txt")
        assert path.read_text() == text
        assert commit_of_path(path) == sha
    path = Repository("me/core", subfolder="sub").fetch("a.txt")
    assert path.read_text() == "3"
    assert commit_of_path(path) == new
    assert commit_of_path(Path("a/b")) is None


def test_the_cache_is_used(online: Any) -> None:
    """Offline, with `local_files_only`, and where the Hub is down; `force_download` fetches again."""
    online.hub.create("me/core", files={"a.txt": "1"})
    path = Repository("me/core").fetch("a.txt")
    downloads = len(online.hub.log("GET", "/resolve/"))
    assert Repository("me/core", local_files_only=True).fetch("a.txt") == path
    online.offline()
    assert Repository("me/core").fetch("a.txt") == path
    online.offline(on=False)
    online.hub.fault("drop", times=None)
    assert Repository("me/core").fetch("a.txt") == path
    online.hub.calm()
    assert len([one for one in online.hub.log("GET", "/resolve/") if not one["fault"]]) == downloads
    Repository("me/core", force_download=True).fetch("a.txt")
    assert len([one for one in online.hub.log("GET", "/resolve/") if not one["fault"]]) == downloads + 1


def test_another_cache(online: Any, tmp_path: Path) -> None:
    online.hub.create("me/core", files={"a.txt": "1"})
    path = Repository("me/core", cache_dir=tmp_path / "elsewhere").fetch("a.txt")
    assert path.is_relative_to(tmp_path / "elsewhere")


def test_not_in_the_cache(online: Any) -> None:
    online.hub.create("me/core", files={"a.txt": "1"})
    with pytest.raises(HubError, match=r"not in the cache.*HF_HUB_OFFLINE"):
        Repository("me/core", local_files_only=True).fetch("a.txt")
    online.offline()
    with pytest.raises(HubError, match="only what is in the cache can be read"):
        Repository("me/core").fetch("a.txt")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        Repository("me/core").fetch("a.txt", limit=100)


@pytest.mark.parametrize(
    "asked, kind, message",
    [
        (Repository("me/none"), HubNotFoundError, "Check the spelling"),
        (Repository("me/core", revision="none"), HubNotFoundError, "Check the revision"),
        (Repository("me/gated"), HubAccessError, "gated: ask for access"),
        (Repository("other/private"), HubNotFoundError, "private, log in"),
        (Repository("a/b/c"), InputError, "no id of a repository"),
    ],
)
def test_what_cannot_be_read(online: Any, asked: Repository, kind: type[Exception], message: str) -> None:
    online.hub.create("me/core", files={"a.txt": "1"})
    online.hub.create("me/gated", files={"a.txt": "1"})
    online.hub.gate("me/gated", [])
    online.hub.create("other/private", private=True, files={"a.txt": "1"})
    for limit in (None, 100):
        with pytest.raises(kind, match=message):
            asked.fetch("a.txt", limit=limit)


def test_a_missing_file(online: Any) -> None:
    online.hub.create("me/core", files={"a.txt": "1"})
    for limit in (None, 100):
        with pytest.raises(HubNotFoundError, match=r"b.txt.*no such file"):
            Repository("me/core").fetch("b.txt", limit=limit)
    assert Repository("me/core").has("a.txt")
    assert not Repository("me/core").has("b.txt")
    assert not Repository("me/none").has("b.txt")
    online.offline()
    assert not Repository("me/core").has("a.txt")


def test_files_that_are_too_large_are_not_downloaded(online: Any) -> None:
    """The size is asked for first."""
    online.hub.create("me/core", files={"a.txt": "x" * 101})
    with pytest.raises(HubError, match="101 bytes and should have at most 100"):
        Repository("me/core").fetch("a.txt", limit=100)
    assert not online.hub.log("GET", "/resolve/")
    assert Repository("me/core").fetch("a.txt", limit=101).stat().st_size == 101


@pytest.mark.parametrize("kind", ["drop", "cut", "truncate", "status"])
def test_trouble_is_overcome(online: Any, kind: str) -> None:
    """A connection that breaks before or in the middle of a file, and a busy Hub."""
    online.hub.create("me/core", files={"w.safetensors": "0123456789" * 1000})
    options = {"status": 503} if kind == "status" else {}
    online.hub.fault(kind, method="GET", path="/resolve/", **options)
    assert Repository("me/core").fetch("w.safetensors").read_text() == "0123456789" * 1000


def test_a_connection_that_stays_broken_leaves_the_old_file(online: Any) -> None:
    """What the cache held before is still there, whole."""
    old = online.hub.create("me/core", files={"w.safetensors": "0" * 1000})
    path = Repository("me/core").fetch("w.safetensors")
    online.hub.commit("me/core", {"w.safetensors": "1" * 1000})
    online.hub.fault("cut", method="GET", path="/resolve/", times=None)
    with pytest.raises(HubError, match=r"connection broke|still there"):
        Repository("me/core").fetch("w.safetensors")
    assert path.read_text() == "0" * 1000
    assert Repository("me/core", revision=old, local_files_only=True).fetch("w.safetensors") == path


def test_a_cache_that_may_not_be_written(online: Any, tmp_path: Path) -> None:
    """Root may write anywhere, so that a file stands where the folder should be."""
    online.hub.create("me/core", files={"a.txt": "1"})
    (tmp_path / "file").write_text("x")
    with pytest.raises(HubError, match=r"Cannot read a\.txt of 'me/core'"):
        Repository("me/core", cache_dir=tmp_path / "file").fetch("a.txt")


def test_commits_of_revisions(online: Any) -> None:
    """From the Hub, or from the cache where it cannot be asked; a commit needs neither."""
    sha = online.hub.create("me/base", files={"config.json": "{}"})
    assert commit_of("me/base") == commit_of("me/base", "main") == sha
    assert commit_of("nobody/nothing", "a" * 40) == "a" * 40
    with pytest.raises(HubNotFoundError, match="Check the revision"):
        commit_of("me/base", "none")
    online.offline()
    with pytest.raises(HubError, match="find the commit of 'me/base'"):
        commit_of("me/base")
    online.offline(on=False)
    Repository("me/base").fetch("config.json")
    online.offline()
    assert commit_of("me/base") == sha


def test_names_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of that name comes first, as everywhere in transformers."""
    monkeypatch.chdir(tmp_path)
    assert is_repository_id("me/core")
    for path in ("core", "./me/core", "../core", "~/core", "/me/core", "a/b/c", "me/", "/core", "me\\core/x", ""):
        assert not is_repository_id(path), path
    Path("me/core").mkdir(parents=True)
    assert not is_repository_id("me/core")


def test_options_of_other_libraries() -> None:
    given = {"revision": "v1", "token": None, "cache_dir": "c", "proxies": {}, "force_download": True}
    assert download_options(given) == {"revision": "v1", "cache_dir": "c", "force_download": True}
