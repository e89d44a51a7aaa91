"""Core masks on the Hub: one commit, pinned, cached, checked; old or new, never half."""

from __future__ import annotations

import errno
import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from hf_langcore import CoreMask, PerplexityReport, compute_core_mask, push_eval_results
from hf_langcore.errors import (
    ConfigurationError,
    CoreMaskFormatError,
    CoreMaskMismatchError,
    HubAccessError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    InputError,
)
from hf_langcore.evaluation import LanguageScore
from hf_langcore.hub import sharing
from hf_langcore.masks import Provenance
from hf_langcore.masks.storage import CONFIG_FILE, MASK_FILE

REPO = "me/core"


@pytest.fixture
def base(online: Any, llama: Any, tmp_path: Path) -> str:
    """A base model on the Hub, loaded once, so that it is in the cache."""
    llama.save_pretrained(tmp_path / "base")
    files = {path.name: path.read_bytes() for path in (tmp_path / "base").iterdir()}
    files["README.md"] = b"---\nlicense: apache-2.0\n---\n"
    name = f"{online.hub.user}/base"
    online.hub.create(name, files=files)
    return name


@pytest.fixture
def found(base: str) -> CoreMask:
    """A mask as users find it: the model is loaded by name, and transformers does not say which commit that was."""
    model = AutoModelForCausalLM.from_pretrained(base)
    return compute_core_mask(model, None, None, method="magnitude", fraction=0.05)


@pytest.fixture
def repo(online: Any) -> str:
    return f"{online.hub.user}/core"


def another(found: CoreMask) -> CoreMask:
    """Another mask of the same model."""
    return CoreMask(dict(found.random_like(seed=1)), provenance=found.provenance)


def report() -> PerplexityReport:
    """Figures of a model and of the same model without its core."""
    scores = {"en": LanguageScore(2.0, 100), "zh": LanguageScore(3.0, 50)}
    harmed = {"en": LanguageScore(9.0, 100), "zh": LanguageScore(8.5, 50)}
    return PerplexityReport(
        {"base": scores, "core zeroed": harmed}, settings={"model": "org/base", "text_sha256": "a" * 64}
    )


def test_a_mask_goes_up_and_comes_down(online: Any, base: str, found: CoreMask, repo: str) -> None:
    """One commit with mask, description and card; what comes back is equal and knows where it is from."""
    done = found.push_to_hub("core", private=True)
    assert sorted(online.hub.files(repo)) == ["README.md", MASK_FILE, CONFIG_FILE]
    assert len(online.hub.commits(repo)) == 2
    loaded = CoreMask.from_pretrained(repo)
    assert loaded == found
    assert loaded.origin is not None
    assert (loaded.origin.repo_id, loaded.origin.revision) == (repo, done.oid)
    assert found.origin == loaded.origin
    assert CoreMask.from_pretrained(repo, revision=done.oid) == found
    online.login(None)
    with pytest.raises(HubNotFoundError):
        CoreMask.from_pretrained(repo, cache_dir=online.home / "other")


def test_it_is_pinned_to_its_base(online: Any, base: str, found: CoreMask, repo: str) -> None:
    """Repository, 40-hex commit and fingerprint, in the description and in the card."""
    found.push_to_hub(repo)
    commit = online.hub.commits(base)[0]["sha"]
    source = CoreMask.from_pretrained(repo).provenance
    assert (source.base_model, source.base_revision) == (base, commit)
    assert source.base_fingerprint == found.provenance.base_fingerprint
    card = ModelCard(online.hub.files(repo)["README.md"].decode())
    assert card.data.base_model == base
    assert card.data.license == "apache-2.0"
    assert commit in card.content
    assert found.digest() in card.content


def test_the_commit_is_found_by_the_weights(online: Any, base: str, found: CoreMask, repo: str) -> None:
    """Not the newest one, if the model has been changed since it was loaded."""
    commit = online.hub.commits(base)[0]["sha"]
    online.hub.commit(base, {"README.md": "newer"})
    found.push_to_hub(repo)
    assert CoreMask.from_pretrained(repo).provenance.base_revision == commit


def test_other_weights_are_refused(online: Any, base: str, found: CoreMask, repo: str) -> None:
    """A mask of a model that was edited after it was loaded is none of that repository."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5)
    other = compute_core_mask(model, None, None, method="magnitude", fraction=0.05)
    with pytest.raises(CoreMaskMismatchError, match="found on other weights than those of"):
        other.push_to_hub(repo)
    with pytest.raises(CoreMaskMismatchError, match="not found on"):
        other.push_to_hub(repo, base_revision="main")
    assert [kind for kind, name in online.hub.repos() if name == repo] == []


def test_a_base_that_is_only_a_folder(online: Any, base: str, found: CoreMask, repo: str) -> None:
    """Its repository has to be named; what can be compared is."""
    local = CoreMask(dict(found), provenance=replace(found.provenance, base_model="/data/models/mine"))
    with pytest.raises(InputError, match=r"the folder 'mine'.*base_model=") as caught:
        local.push_to_hub(repo)
    assert "/data" not in str(caught.value)
    local.push_to_hub(repo, base_model=base)
    source = CoreMask.from_pretrained(repo).provenance
    assert (source.base_model, source.base_revision) == (base, online.hub.commits(base)[0]["sha"])


def test_a_base_that_was_never_downloaded(online: Any, base: str, found: CoreMask, repo: str) -> None:
    """Pinned to the newest commit, with a warning; to a named one without."""
    commit = online.hub.commits(base)[0]["sha"]
    online.use_cache(online.home / "empty")
    with pytest.warns(UserWarning, match=f"pinned to the newest one, {commit}"):
        found.push_to_hub(repo)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.push_to_hub(repo, base_revision="main")
    assert CoreMask.from_pretrained(repo).provenance.base_revision == commit


def test_contradictions_are_refused(online: Any, base: str, found: CoreMask, repo: str) -> None:
    known = replace(found.provenance, base_revision="a" * 40)
    with pytest.raises(InputError, match="is another commit"):
        CoreMask(dict(found), provenance=known).push_to_hub(repo, base_revision="main")
    with pytest.raises(HubNotFoundError, match="Check the revision"):
        found.push_to_hub(repo, base_revision="none")
    with pytest.raises(HubNotFoundError, match="Check the spelling"):
        found.push_to_hub(repo, base_model="me/none")
    with pytest.raises(InputError, match="a model without a name"):
        CoreMask({"w": torch.ones(3, dtype=torch.bool)}).push_to_hub(repo)


def test_an_update_keeps_what_others_wrote(online: Any, found: CoreMask, repo: str) -> None:
    """Files, text around our part of the card, and metadata of their own."""
    found.push_to_hub(repo)
    card = online.hub.files(repo)["README.md"].decode()
    mine = card.replace("---\n", "---\nmy_key: mine\n", 1) + "\n## My notes\n\nKeep me.\n"
    online.hub.commit(repo, {"README.md": mine, "notes.txt": "x"})
    smaller = CoreMask(dict(found - found.random_like(seed=1)), provenance=found.provenance)
    smaller.push_to_hub(repo)
    files = online.hub.files(repo)
    after = files["README.md"].decode()
    assert "Keep me." in after
    assert ModelCard(after).data.to_dict()["my_key"] == "mine"
    assert smaller.digest() in after
    assert found.digest() not in after
    assert files["notes.txt"] == b"x"
    assert CoreMask.from_pretrained(repo) == smaller


def test_results_travel_with_the_mask(online: Any, found: CoreMask, repo: str) -> None:
    """In the same commit: the file is the truth, the card shows and mirrors it."""
    found.push_to_hub(repo, results=report())
    files = online.hub.files(repo)
    assert len(online.hub.commits(repo)) == 2
    records = json.loads(files["eval/results.json"])["records"]
    assert {(one["condition"], one["language"]) for one in records} == {
        (condition, language) for condition in ("base", "core zeroed") for language in ("en", "zh")
    }
    card = ModelCard(files["README.md"].decode())
    assert card.data.eval_results
    assert "core zeroed" in card.text
    found.push_to_hub(repo)
    assert json.loads(online.hub.files(repo)["eval/results.json"])["records"] == records


def test_a_push_of_results_renews_the_table(online: Any, found: CoreMask, repo: str) -> None:
    """In the card of a mask, also where there was none, and nothing else of the text."""
    found.push_to_hub(repo)
    before = online.hub.files(repo)["README.md"].decode()
    assert "## Results" not in before
    push_eval_results(report(), repo, core_mask=found)
    after = ModelCard(online.hub.files(repo)["README.md"].decode()).text
    assert "core zeroed" in after
    assert after.count("## Results") == 1
    start, end = after.index("## Results"), after.index("<!-- /core-mask-results -->")
    without = ModelCard(before).text
    assert (after[:start] + after[end:]).split() == without.split()


def test_pictures_stand_in_the_card(online: Any, found: CoreMask, repo: str, tmp_path: Path) -> None:
    """They go up in the same commit; a missing one, or two of one name, stop the push before anything is sent."""
    pictures = [tmp_path / "a" / "shares.png", tmp_path / "b" / "shares.png"]
    for number, path in enumerate(pictures):
        path.parent.mkdir()
        path.write_bytes(b"\x89PNG" + bytes([number]))
    found.push_to_hub(repo, figures={pictures[0]: "Share of the core by layer [and role]"})
    assert online.hub.files(repo)["figures/shares.png"] == pictures[0].read_bytes()
    assert (
        "![Share of the core by layer  and role](figures/shares.png)" in online.hub.files(repo)["README.md"].decode()
    )
    commits = online.hub.commits(repo)
    with pytest.raises(InputError, match=r"called 'shares.png'"):
        found.push_to_hub(repo, figures=dict.fromkeys(pictures, "twice"))
    with pytest.raises(InputError, match="no picture"):
        found.push_to_hub(repo, figures={tmp_path / "missing.png": "gone"})
    with pytest.raises(InputError, match="ends in one of"):
        found.push_to_hub(repo, figures={__file__: "no picture"})
    assert online.hub.commits(repo) == commits


def test_a_pull_request(online: Any, found: CoreMask) -> None:
    """To somebody else's mask; it can be loaded by its revision."""
    online.hub.create("other/core", files={"README.md": "theirs"})
    done = found.push_to_hub("other/core", create_pr=True)
    assert done.pr_url is not None
    assert CoreMask.from_pretrained("other/core", revision="refs/pr/1") == found
    assert found.origin is not None
    assert found.origin.revision == done.oid


def test_a_branch_and_a_condition(online: Any, found: CoreMask, repo: str) -> None:
    found.push_to_hub(repo, revision="trial")
    assert CoreMask.from_pretrained(repo, revision="trial") == found
    with pytest.raises(HubNotFoundError, match="holds no core mask"):
        CoreMask.from_pretrained(repo)
    with pytest.raises(HubConflictError):
        found.push_to_hub(repo, parent_commit="b" * 40)


def test_others_who_push_meanwhile(online: Any, found: CoreMask, repo: str) -> None:
    """What they wrote into the card is there afterwards."""
    found.push_to_hub(repo)
    card = online.hub.files(repo)["README.md"].decode()
    online.hub.fault("push", method="POST", path="/commit/", files={"README.md": f"{card}\nJust now.\n"})
    another(found).push_to_hub(repo)
    assert "Just now." in online.hub.files(repo)["README.md"].decode()
    assert CoreMask.from_pretrained(repo) == another(found)


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
def test_repositories_of_models_and_adapters_are_left_alone(
    online: Any, found: CoreMask, repo: str, name: str
) -> None:
    """Their card and, of an adapter, their mask would be replaced."""
    online.hub.create(repo, files={name: "{}", "README.md": "theirs"})
    with pytest.raises(InputError, match="core-mask'"):
        found.push_to_hub(repo)
    assert online.hub.files(repo)["README.md"] == b"theirs"


def test_the_base_models_repository_is_left_alone(online: Any, base: str, found: CoreMask) -> None:
    for options in ({}, {"create_pr": True}):
        with pytest.raises(InputError, match="whose card and files a mask would replace"):
            found.push_to_hub(base, **options)


def test_offline_from_the_cache(online: Any, found: CoreMask, repo: str) -> None:
    """Once loaded, it needs no Hub; by branch and by commit."""
    done = found.push_to_hub(repo)
    CoreMask.from_pretrained(repo)
    online.offline()
    for options in ({}, {"revision": "main"}, {"revision": done.oid}, {"local_files_only": True}):
        assert CoreMask.from_pretrained(repo, **options) == found
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE\): only what is in the cache"):
        CoreMask.from_pretrained("me/other")


def test_only_two_files_are_downloaded(online: Any, found: CoreMask, repo: str) -> None:
    """Whatever else somebody keeps in the repository."""
    found.push_to_hub(repo)
    online.hub.commit(repo, {"pytorch_model.bin": "x" * 100, "code.py": "print(1)"})
    online.use_cache(online.home / "empty")
    CoreMask.from_pretrained(repo)
    fetched = {entry["path"].rsplit("/", 1)[-1] for entry in online.hub.log("GET", "/resolve/")}
    assert fetched <= {
        MASK_FILE,
        CONFIG_FILE,
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "README.md",
    }


def test_a_download_that_was_damaged_is_repeated(online: Any, found: CoreMask, repo: str) -> None:
    """huggingface_hub does not compare it with the sha256; a copy that is damaged in the cache heals, too."""
    found.push_to_hub(repo)
    online.hub.fault("corrupt", method="GET", path=MASK_FILE)
    assert CoreMask.from_pretrained(repo) == found
    cached = next(online.cache.rglob(MASK_FILE)).resolve()
    cached.write_bytes(cached.read_bytes()[:-1])
    online.offline()
    with pytest.raises(CoreMaskFormatError, match="truncated or altered"):
        CoreMask.from_pretrained(repo)
    online.offline(on=False)
    assert CoreMask.from_pretrained(repo) == found


@pytest.mark.parametrize("content", [b"{}", b"", b"{", None])
def test_a_description_that_was_damaged_is_fetched_again(
    online: Any, found: CoreMask, repo: str, content: bytes | None
) -> None:
    """While it was downloaded, or in the cache."""
    found.push_to_hub(repo)
    online.hub.fault("corrupt", method="GET", path=CONFIG_FILE, times=1 if content is None else 0)
    assert CoreMask.from_pretrained(repo) == found
    if content is not None:
        next(online.cache.rglob(CONFIG_FILE)).resolve().write_bytes(content)
        online.offline()
        with pytest.raises(CoreMaskFormatError, match="force_download=True fetches it anew"):
            CoreMask.from_pretrained(repo)
        online.offline(on=False)
        assert CoreMask.from_pretrained(repo) == found


def test_a_mask_that_is_damaged_on_the_hub_is_refused(online: Any, found: CoreMask, repo: str) -> None:
    found.push_to_hub(repo)
    content = bytearray(online.hub.files(repo)[MASK_FILE])
    content[len(content) // 2] ^= 1
    online.hub.commit(repo, {MASK_FILE: bytes(content)})
    with pytest.raises(CoreMaskFormatError, match=r"damaged on the Hub, too: .*truncated or altered"):
        CoreMask.from_pretrained(repo)


def test_a_huge_file_is_not_downloaded(
    online: Any, found: CoreMask, repo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The description says how large the arrays can be at most."""
    found.push_to_hub(repo)
    online.hub.commit(repo, {MASK_FILE: b"x" * 3_000_000})
    with pytest.raises(HubError, match="3,000,000 bytes and should have at most"):
        CoreMask.from_pretrained(repo)
    assert not [one for one in online.hub.log("GET", MASK_FILE) if one["status"] == 200]


def test_two_commits_are_never_mixed(online: Any, found: CoreMask, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody pushes another mask between the two downloads."""
    found.push_to_hub(repo)
    other = another(found)
    original = sharing.commit_of_path

    def pushing(path: Path) -> str | None:
        monkeypatch.setattr(sharing, "commit_of_path", original)
        other.push_to_hub(repo)
        return original(path)

    monkeypatch.setattr(sharing, "commit_of_path", pushing)
    assert CoreMask.from_pretrained(repo) == found
    assert CoreMask.from_pretrained(repo) == other


@pytest.mark.parametrize("path", ["/preupload/", "/info/lfs/objects/batch", "/_upload/", "/commit/"])
def test_an_upload_that_breaks_leaves_the_old_mask(online: Any, found: CoreMask, repo: str, path: str) -> None:
    """However often: the repository holds the old one, whole, and the message says what to do."""
    found.push_to_hub(repo)
    before = online.hub.files(repo)
    online.hub.fault("cut_upload", path=path, times=None)
    with pytest.raises(HubError, match="connection broke"):
        another(found).push_to_hub(repo)
    online.hub.calm()
    assert online.hub.files(repo) == before
    assert CoreMask.from_pretrained(repo) == found


@pytest.mark.parametrize(
    "who, kind", [("read", HubAccessError), ("other", HubAccessError), ("invalid", HubAccessError)]
)
def test_who_may_not_push(online: Any, found: CoreMask, repo: str, who: str, kind: type[HubError]) -> None:
    found.push_to_hub(repo)
    online.login(getattr(online.hub.tokens, who))
    with pytest.raises(kind):
        found.push_to_hub(repo)


def test_gated_masks(online: Any, found: CoreMask, repo: str) -> None:
    found.push_to_hub(repo)
    online.hub.gate(repo, [])
    online.login(online.hub.tokens.other)
    with pytest.raises(HubAccessError, match="ask for access"):
        CoreMask.from_pretrained(repo)
    online.hub.gate(repo, [online.hub.other])
    assert CoreMask.from_pretrained(repo) == found


def test_folders_come_first_and_have_no_revision(
    online: Any, found: CoreMask, repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in transformers; a name that looks like a mistyped folder says both."""
    monkeypatch.chdir(tmp_path)
    (found - found).save_pretrained(repo)
    assert CoreMask.from_pretrained(repo).count() == 0
    assert CoreMask.from_pretrained(repo).origin is None
    with pytest.raises(ConfigurationError, match="is a folder, which has no"):
        CoreMask.from_pretrained(repo, revision="main")
    with pytest.raises(HubNotFoundError, match=r"There is no folder 'out/my-cor' in .*taken for a Hub repository"):
        CoreMask.from_pretrained("out/my-cor")


def test_a_subfolder(online: Any, found: CoreMask, tmp_path: Path) -> None:
    """Of a folder and of a repository."""
    found.save_pretrained(tmp_path / "all" / "three")
    assert CoreMask.from_pretrained(tmp_path / "all", subfolder="three") == found
    files = {f"three/{path.name}": path.read_bytes() for path in (tmp_path / "all" / "three").iterdir()}
    online.hub.create("me/masks", files=files)
    assert CoreMask.from_pretrained("me/masks", subfolder="three") == found
    with pytest.raises(HubNotFoundError, match=r"holds no core mask.*'four'"):
        CoreMask.from_pretrained("me/masks", subfolder="four")


def test_a_full_disk(online: Any, found: CoreMask, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While pushing and while loading: what was there is there, and the message says what to do."""
    found.push_to_hub(repo)
    before = online.hub.files(repo)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(CoreMask, "save_pretrained", full)
        with pytest.raises(HubError, match="The disk is full"):
            another(found).push_to_hub(repo)
    assert online.hub.files(repo) == before
    online.use_cache(online.home / "empty")
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(HubError, match=r"The disk is full.*cache_dir= or HF_HOME"):
            CoreMask.from_pretrained(repo)
    assert CoreMask.from_pretrained(repo) == found


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_cache(
    online: Any, found: CoreMask, repo: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """What is in it can be read, by commit and by branch; what is not cannot come, and the message says what to do."""
    done = found.push_to_hub(repo)
    CoreMask.from_pretrained(repo)

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(code, "may not be written", str(path))

    newer = another(found).push_to_hub(repo)
    with monkeypatch.context() as patch:  # whoever runs the tests may be allowed to write everywhere
        for name in ("os.makedirs", "os.mkdir", "tempfile.mkstemp"):
            patch.setattr(name, refuse)
        assert CoreMask.from_pretrained(repo, revision=done.oid) == found
        assert CoreMask.from_pretrained(repo, local_files_only=True) == found
        with pytest.raises(HubError, match=r"may not be written to.*cache_dir= or HF_HOME"):
            CoreMask.from_pretrained(repo, revision=newer.oid)
    assert CoreMask.from_pretrained(repo) == another(found)


def test_nothing_is_left_behind(
    online: Any, found: CoreMask, repo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary folders go, also after a failure."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    found.push_to_hub(repo)
    online.hub.fault("status", status=403, path="/commit/", times=None)
    with pytest.raises(HubError):
        another(found).push_to_hub(repo)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_quantised_or_renamed_base_is_pinned_by_name(online: Any, base: str, found: CoreMask, repo: str) -> None:
    """Without a fingerprint there is nothing to compare."""
    bare = CoreMask(dict(found), provenance=Provenance(method="given", base_model=base))
    with pytest.warns(UserWarning, match="pinned to the newest one"):
        bare.push_to_hub(repo)
