"""Find, push; elsewhere pull by name, perturb, train, push; then do what the cards say.

Each step is a process of its own with an empty cache, and knows nothing of the others but names.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from card_checks import check_card, snippets
from card_models import files_in
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from hf_langcore import CoreMask, load_eval_results
from hf_langcore.data.mini import mini_corpora
from hf_langcore.hub.references import REFERENCE_FILE, read_reference
from hf_langcore.recipes.pretraining import TinyModel, pretrain

EXAMPLES = Path(__file__).parents[2] / "examples"
RunOnline = Callable[..., "subprocess.CompletedProcess[str]"]
START = "import os, runpy, sys; sys.path.insert(0, os.getcwd()); runpy.run_path(sys.argv.pop(1), run_name='__main__')"


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The files of a small model that has learned something, so that its core is worth finding."""
    shape = TinyModel(vocab_size=400, hidden_size=32, intermediate_size=64, layers=2, heads=2, block_size=64, steps=60)
    model, tokenizer = pretrain(mini_corpora(["en", "zh"], sentences=200), shape=shape, progress=False)
    folder = tmp_path_factory.mktemp("base")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {**files_in(folder), "README.md": b"---\nlicense: apache-2.0\nlanguage: [en, zh]\n---\n# A small model\n"}


@pytest.fixture
def names(online: Any, trained: Mapping[str, bytes]) -> dict[str, str]:
    """The base model on the Hub, and where the rest will go."""
    online.hub.create("org/base", files=trained)
    return {"base": "org/base"} | {name: f"{online.hub.user}/{name}" for name in ("core", "tuned", "adapter")}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_finding_a_core_to_a_published_model(
    online: Any, names: dict[str, str], run_online: RunOnline, tmp_path: Path
) -> None:
    """The whole way, as two examples and three cards tell it."""
    core_mask = publish(online, names, run_online)
    for name, options in (("tuned", []), ("adapter", ["--adapter-rank", "4"])):
        tune(online, names, run_online, name, options)
        require_reference(online, names, core_mask, name, tmp_path / name)
    before = AutoModelForCausalLM.from_pretrained(names["base"]).state_dict()
    after = AutoModelForCausalLM.from_pretrained(names["tuned"]).state_dict()
    assert all(bool((before[name] == after[name])[core_mask[name]].all()) for name in core_mask)
    assert any(bool((before[name] != after[name]).any()) for name in core_mask)
    for name, library in (("core", "hf_langcore"), ("tuned", "transformers"), ("adapter", "peft")):
        card = require_card(online, names, core_mask, name, tmp_path)
        assert card.data.library_name == library
        code = snippets(card.content)
        assert code
        for snippet in code[:2]:  # the third one of a mask trains, as the examples have done
            run_online(snippet)


def publish(online: Any, names: dict[str, str], run_online: RunOnline) -> CoreMask:
    """A first process finds the core and publishes it; what it pushed is looked at from here."""
    sizes = ["--block-size", "64", "--max-tokens", "2000", "--fraction", "0.05"]
    arguments = [names["base"], names["core"], "--languages", "en,zh", *sizes]
    out = run_online(START, str(EXAMPLES / "publish_core.py"), *arguments, token=online.hub.tokens.write).stdout
    assert "core zeroed" in out
    commit = online.hub.commits(names["base"])[0]["sha"]
    core_mask = CoreMask.from_pretrained(names["core"])
    source = core_mask.provenance
    assert (source.base_model, source.base_revision, source.languages) == (names["base"], commit, ("en", "zh"))
    results = load_eval_results(names["core"])
    mean = {name: results.report().mean(name) for name in ("base", "core zeroed", "random zeroed")}
    assert mean["core zeroed"] > mean["random zeroed"]
    assert {record.core_mask for record in results if record.condition == "core zeroed"} == {core_mask.digest()}
    assert {record.model_revision for record in results} == {commit}
    return core_mask


def tune(online: Any, names: dict[str, str], run_online: RunOnline, name: str, options: list[str]) -> None:
    """Another process knows the mask's name only, and publishes what it trained."""
    steps = ["--max-steps", "3", "--max-tokens", "500"]
    arguments = [names["core"], names[name], *steps, *options]
    script = str(EXAMPLES / "tune_with_published_core.py")
    out = run_online(START, script, *arguments, token=online.hub.tokens.write).stdout
    commits = {one: online.hub.commits(names[one])[0]["sha"] for one in ("core", "base")}
    assert f"from {names['core']} at {commits['core']}, of {names['base']} at {commits['base']}" in out
    tuned = load_eval_results(names[name])
    assert {(record.model, record.condition) for record in tuned} == {(names[name], "tuned")}


def require_reference(online: Any, names: dict[str, str], core_mask: CoreMask, name: str, folder: Path) -> None:
    """What was published names the mask, pinned."""
    folder.mkdir()
    (folder / REFERENCE_FILE).write_bytes(online.hub.files(names[name])[REFERENCE_FILE])
    found = read_reference(folder)
    commit = online.hub.commits(names["core"])[0]["sha"]
    assert (found.repo_id, found.revision, found.digest) == (names["core"], commit, core_mask.digest())


def require_card(online: Any, names: dict[str, str], core_mask: CoreMask, name: str, folder: Path) -> ModelCard:
    """A sound card that names base and mask, and neither a token nor a place on this machine."""
    content = online.hub.files(names[name])["README.md"].decode()
    card = check_card(content, private=folder)
    card.validate()
    assert card.data.base_model == names["base"]
    assert core_mask.digest() in content
    assert name == "core" or online.hub.commits(names["core"])[0]["sha"] in content
    assert online.hub.tokens.write not in content
    return card
