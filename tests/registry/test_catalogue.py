"""The shipped facts, and finding them."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

from hf_langcore import registry
from hf_langcore.architecture import find_weight, unwrap
from hf_langcore.errors import InputError
from hf_langcore.registry.catalogue import nearby, read_entries, shipped
from hf_langcore.registry.entry import Entry

SUPER_WEIGHTS = {
    "huggyllama/llama-7b": {(2, 3968, 7003)},
    "huggyllama/llama-13b": {(2, 2231, 2278), (2, 2231, 6939)},
    "huggyllama/llama-30b": {(3, 5633, 12817), (3, 5633, 17439), (10, 5633, 14386)},
    "meta-llama/Llama-2-7b-hf": {(1, 2533, 7890)},
    "meta-llama/Llama-2-13b-hf": {(3, 4743, 7678)},
    "mistralai/Mistral-7B-v0.1": {(1, 2070, 7310)},
    "allenai/OLMo-1B-0724-hf": {(1, 1764, 1710), (2, 1764, 8041), (1, 1764, 8041)},
    "allenai/OLMo-7B-0724-hf": {(1, 269, 7467), (2, 269, 8275), (7, 269, 453), (24, 269, 2300)},
    "microsoft/Phi-3-mini-4k-instruct": {
        (2, 525, 808), (2, 1693, 808), (2, 1113, 808), (4, 525, 2723), (4, 1113, 2723), (4, 1693, 2723),
    },
    "meta-llama/Meta-Llama-3-8B": {(1, 788, 2427), (1, 1384, 2427), (1, 4062, 2427)},
}  # fmt: skip
MASSIVE = {
    "meta-llama/Llama-2-7b-hf": {2533, 1415, 1512},
    "meta-llama/Llama-2-13b-hf": {4743, 2100},
    "meta-llama/Llama-3.2-1B": {400, 698, 2029, 1159},
    "meta-llama/Llama-3.2-3B": {588, 1016, 3046, 1731},
    "mistralai/Mistral-7B-v0.3": {2070, 3398},
    "allenai/OLMo-7B-0724-hf": {269},
    "tiiuae/falcon-7b": {2002, 3080, 350, 3775, 2242, 1673},
    "tiiuae/falcon-11B": {3621, 3830, 1926, 2303, 597},
    "google/gemma-7b": {2362, 87, 1995, 1723},
    "google/gemma-2-2b": {334, 535},
    "google/gemma-2-9b": {504, 1480},
    "openai-community/gpt2": {447},
    "facebook/opt-6.7b": {2394},
    "microsoft/phi-2": {743, 293, 1129},
    "microsoft/phi-4": {893, 1367, 1002, 3693, 4532},
}
NONE_MASSIVE = {"allenai/OLMo-2-1124-7B", "google/gemma-3-1b-pt", "google/gemma-3-4b-pt", "google/gemma-3-12b-pt"}
# What zeroing the massive dimensions does with a start token on WikiText: before, after.
ZEROED = {
    "meta-llama/Llama-2-7b-hf": (5.13, 8977), "meta-llama/Llama-3.2-1B": (9.08, 6249), "meta-llama/Llama-3.2-3B": (7.26, 18441),
    "mistralai/Mistral-7B-v0.3": (4.99, 2.6e7), "allenai/OLMo-7B-0724-hf": (7.14, 15550), "tiiuae/falcon-7b": (10.89, 10.89),
    "tiiuae/falcon-11B": (4.91, 5.01), "google/gemma-7b": (6.40, 6.40), "google/gemma-2-2b": (8.05, 8.07),
    "google/gemma-2-9b": (6.38, 6.38), "openai-community/gpt2": (30.4, 30.4), "facebook/opt-6.7b": (11.0, 11.0),
    "microsoft/phi-2": (64.4, 64.4), "microsoft/phi-4": (6.08, 6.23),
}  # fmt: skip
COLLAPSING = {"meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B",
              "mistralai/Mistral-7B-v0.3", "allenai/OLMo-7B-0724-hf"}  # fmt: skip
CONFIRMED = {
    ("huggyllama/llama-7b", (3968, 7003)), ("huggyllama/llama-30b", (5633, 12817)), ("mistralai/Mistral-7B-v0.1", (2070, 7310)),
    ("allenai/OLMo-1B-0724-hf", (1764, 1710)), ("allenai/OLMo-7B-0724-hf", (269, 7467)),
}  # fmt: skip
LLAMA = {"num_hidden_layers": 32, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "vocab_size": 32,
         "pad_token_id": 0}  # fmt: skip
ARCHITECTURES = {
    "llama": lambda: (t.LlamaForCausalLM, t.LlamaConfig(**LLAMA)),
    "mistral": lambda: (t.MistralForCausalLM, t.MistralConfig(**LLAMA, num_key_value_heads=2)),
    "olmo": lambda: (t.OlmoForCausalLM, t.OlmoConfig(**LLAMA)),
    "phi-3": lambda: (t.Phi3ForCausalLM, t.Phi3Config(**LLAMA)),
    "phi-4": lambda: (t.Phi3ForCausalLM, t.Phi3Config(**LLAMA)),
    "phi-2": lambda: (t.PhiForCausalLM, t.PhiConfig(**LLAMA)),
    "qwen2": lambda: (t.Qwen2ForCausalLM, t.Qwen2Config(**LLAMA, num_key_value_heads=2)),
    "gemma-2": lambda: (t.Gemma2ForCausalLM, t.Gemma2Config(**LLAMA, num_key_value_heads=2, head_dim=8)),
    "gemma-7": lambda: (t.GemmaForCausalLM, t.GemmaConfig(**LLAMA, num_key_value_heads=2, head_dim=8)),
    "falcon": lambda: (t.FalconForCausalLM, t.FalconConfig(num_hidden_layers=32, hidden_size=16, num_attention_heads=2, vocab_size=32)),
    "opt": lambda: (t.OPTForCausalLM, t.OPTConfig(num_hidden_layers=32, hidden_size=16, ffn_dim=24, num_attention_heads=2, vocab_size=32, word_embed_proj_dim=16)),
    "gpt2": lambda: (t.GPT2LMHeadModel, t.GPT2Config(n_layer=12, n_embd=16, n_head=2, vocab_size=32)),
}  # fmt: skip


def by_model(kind: str) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in shipped():
        if entry.kind == kind:
            found.setdefault(entry.model_id, []).append(entry)
    return found


def test_super_weights_are_those_of_the_sources() -> None:
    """Every model and coordinate, each with its layer."""
    found = {
        model: {(entry.layer, *entry.place) for entry in entries}
        for model, entries in by_model("super_weight").items()
    }
    assert found == SUPER_WEIGHTS


def test_statuses_follow_the_re_test() -> None:
    """5 of 21 coordinates are catastrophic alone; Llama-3's three are reported together; OLMo-1B's second has two layers."""
    entries = [entry for entries in by_model("super_weight").values() for entry in entries]
    alone = {(one.model_id, one.index) for one in entries if one.status == "confirmed" and not one.is_joint}
    assert alone == CONFIRMED
    joint = {one.model_id for one in entries if one.is_joint}
    assert joint == {"meta-llama/Meta-Llama-3-8B"}
    conflicts = [one for one in entries if one.status == "conflict"]
    assert {(one.model_id, one.layer, one.index, one.source_kind) for one in conflicts} == {
        ("allenai/OLMo-1B-0724-hf", 2, (1764, 8041), "code"),
        ("allenai/OLMo-1B-0724-hf", 1, (1764, 8041), "paper"),
    }
    assert sum(one.status == "not_reproduced" for one in entries) == 21 - 5 - 1
    for one in entries:
        if one.status == "confirmed":
            assert one.effect is not None
            assert one.effect.ratio is not None
            assert one.effect.ratio >= 16


def test_massive_dimensions_are_those_of_the_sources() -> None:
    """Also the models in which nothing happens, and those that have none."""
    found = {
        model: {entry.index for entry in entries if entry.index is not None}
        for model, entries in by_model("massive_activation").items()
    }
    assert found == {**MASSIVE, **{model: set() for model in NONE_MASSIVE}}
    for model in NONE_MASSIVE:
        assert [entry.expected for entry in registry.lookup(model)] == ["none"]


@pytest.mark.parametrize("model", ZEROED)
def test_what_zeroing_does(model: str) -> None:
    """Only the Llamas, Mistral and the first OLMo collapse; set to the mean, all are as before."""
    base, after = ZEROED[model]
    found = [entry for entry in registry.lookup(model, kind="massive_activation") if entry.effect is not None]
    for entry in found:
        effects = [entry.effect, *entry.further_effects]
        (zero,) = [one for one in effects if one and one.operation == "zero" and one.start_token]
        assert zero.base == pytest.approx(base, rel=0.01)
        assert zero.after == pytest.approx(after, rel=0.02)
        assert entry.expected == ("explodes" if model in COLLAPSING else "none")
        for one in effects:
            if one is not None and one.operation == "mean-set":
                assert one.ratio == pytest.approx(1.0, abs=0.03)
    assert found
    assert model not in COLLAPSING or all(
        {(one.operation, one.start_token) for one in entry.further_effects}
        == {("mean-set", True), ("zero", False), ("mean-set", False)}
        for entry in found
    )


def test_values_of_activations() -> None:
    """With and without a start token, and those in Sun et al.'s code."""
    (entry,) = [one for one in registry.lookup("gpt2") if one.index == 447]
    assert [(one.max_abs, one.start_token, one.first_layer, one.last_layer) for one in entry.activations] == [
        (3040.0, True, 2, 10), (3072.0, False, 2, 10),
    ]  # fmt: skip
    sun = {one.index: [value.max_abs for value in one.activations] for one in shipped() if "2402.17762" in one.source}
    assert sun == {2533: [767.6, 2546.8], 1415: [458.55, 1502.0], 4743: [1223.5], 2100: [717.95]}


def test_the_talk() -> None:
    """One norm weight of LLaMA2-13B and its controls, set to 1 and multiplied; which norm is open."""
    found = registry.lookup("LLaMA2-13B", kind="norm_weight")
    assert {(one.layer, one.index, one.operation, one.value): one.effect.after for one in found if one.effect} == {
        (1, 2100, "set", 1.0): 83224.078, (1, 2100, "scale", 10.0): 39462.238,
        (0, 2100, "set", 1.0): 5.866, (0, 2100, "scale", 10.0): 5.866,
        (1, 2800, "set", 1.0): 5.86, (1, 2800, "scale", 10.0): 5.859,
        (1, 4200, "set", 1.0): 5.858, (1, 4200, "scale", 10.0): 5.864,
    }  # fmt: skip
    for one in found:
        assert one.which == "unspecified"
        assert {name.rsplit(".", 2)[-2] for name in one.tensors} == {"input_layernorm", "post_attention_layernorm"}
        assert one.expected == ("explodes" if (one.layer, one.index) == (1, 2100) else "none")
    dose = {(one.value, one.base, one.after) for entry in found for one in entry.further_effects}
    assert dose == {(4.0, 5.877, 257.722), (10.0, 5.877, 376079936.0)}


def test_every_entry_is_whole() -> None:
    """Ids are unique, sources can be found, and nobody's own entry is shipped."""
    assert len({entry.id for entry in shipped()}) == len(shipped())
    for entry in shipped():
        assert re.search(r"arXiv:\d{4}\.\d{5}|Castillo 2026|Slides of the talk", entry.source), entry.id
        assert not entry.is_users
        assert entry.provenance is None
        assert entry.effect is None or entry.effect.ratio is not None
        assert math.isfinite(entry.value or 0.0)
        assert entry.aliases == registry.lookup(entry.model_id)[0].aliases
        assert Entry.from_dict(entry.to_dict()) == entry


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_templates_are_names_of_the_architecture(name: str) -> None:
    """Every tensor of the models of this kind exists in transformers' model, whatever its size."""
    kind, config = ARCHITECTURES[name]()
    with torch.device("meta"):
        model = kind(config)
    mine = [entry for entry in shipped() if _architecture(entry.model_id) == name and entry.tensor]
    assert mine
    for entry in mine:
        for tensor in entry.tensors:
            if entry.kind == "massive_activation":
                unwrap(model).get_submodule(re.sub(r"\{layer\}|\d+$", "0", tensor))
                continue
            shape = find_weight(model, re.sub(r"\d+", "0", tensor)).shape
            assert len(shape) == (1 if entry.kind == "norm_weight" else 2)
            assert "down_proj" not in tensor or shape[0] < shape[1]  # rows are residual dimensions


def _architecture(model_id: str) -> str:
    name = model_id.rsplit("/", 1)[-1].lower()
    prefixes = {"meta-llama": "llama", "qwen2.5": "qwen2", "olmo-2": "-", "gemma-3": "-"}
    name = next((new + name.removeprefix(old) for old, new in prefixes.items() if name.startswith(old)), name)
    return next((one for one in ARCHITECTURES if name.startswith(one)), "-")


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-2-7b-hf",
        "META-LLAMA/llama-2-7B-HF",
        "Llama-2-7b-hf",
        "Llama-2-7b",
        "llama2-7b",
        " Llama-2-7b ",
    ],
)
def test_names_of_one_model(name: str) -> None:
    """Hub id, bare name, other names; upper and lower case are the same."""
    assert {entry.model_id for entry in registry.lookup(name)} == {"meta-llama/Llama-2-7b-hf"}


@pytest.mark.parametrize(
    "name",
    [
        "/models/Llama-2-7b-hf", "./Llama-2-7b-hf", "~/Llama-2-7b-hf", "models/Llama-2-7b-hf", "a/b/gpt2", r"C:\models\gpt2",
        "me/gpt2", "Llama-2-7b-chat-hf", "Llama-2", "unheard/of",
    ],
)  # fmt: skip
def test_paths_and_other_owners_do_not_match(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last part of a path means nothing, whether there is such a folder or not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "Llama-2-7b-hf").mkdir(parents=True)
    assert registry.lookup(name) == []


def test_filters() -> None:
    """By kind; entries without a revision fit any."""
    assert {entry.kind for entry in registry.lookup("Llama-2-13b", kind="norm_weight")} == {"norm_weight"}
    assert registry.lookup("gpt2", revision="0" * 40) == registry.lookup("gpt2")
    with pytest.raises(InputError, match="kind must be one of"):
        registry.lookup("gpt2", kind="magic")  # type: ignore[arg-type]
    for wrong in ("", "  ", None):
        with pytest.raises(InputError, match="model_id must be a name"):
            registry.lookup(wrong)  # type: ignore[arg-type]


def test_models_and_nearby_names() -> None:
    """All ids, and those that are meant by a misspelt one."""
    assert set(registry.models()) >= {*SUPER_WEIGHTS, *MASSIVE, *NONE_MASSIVE}
    assert nearby("mistralai/Mistral-7B-v0.2")[0].startswith("mistralai/Mistral-7B")
    assert "huggyllama/llama-7b" in nearby("/home/me/llama-7b")


def test_lookup_and_register_need_no_torch() -> None:
    """Seen in a fresh process, in which torch cannot be imported at all."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from hf_langcore import registry\n"
        "print(len(registry.lookup('gpt2')), len(registry.models()))\n"
        "registry.register({'model_id': 'me/x', 'kind': 'note', 'note': 'Nothing found.'})\n"
        "print(len(registry.lookup('me/x')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert ran.stdout.split() == ["1", str(len(registry.models()) - 1), "1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-20], "no file of critical coordinates"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "has format version 2"),
        (lambda text: text.replace('"layer"', '"layer": 1, "layer"', 1), "the key 'layer' stands twice"),
        (lambda text: text.replace("gpt2-massive-447", "opt-6-7b-massive-2394"), "two entries have the id"),
        (lambda text: text.replace('"base": 5.67', '"base": NaN'), "NaN is no JSON"),
    ],
)
def test_damaged_files(tmp_path: Path, change: Any, message: str) -> None:
    """Each is named, with what to do."""
    source = Path(registry.__file__).with_name("critical_coordinates.json").read_text(encoding="utf-8")
    assert len(read_entries(_written(tmp_path / "whole.json", source))) == len(json.loads(source)["entries"])
    with pytest.raises(InputError, match=message) as caught:
        read_entries(_written(tmp_path / "damaged.json", change(source)))
    assert "damaged.json" in str(caught.value)
    with pytest.raises(InputError, match="missing"):
        read_entries(tmp_path / "none.json")


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
