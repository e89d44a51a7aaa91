"""The scan as a whole: contract, restored models, families of models, what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM, Phi3Config, Phi3ForCausalLM

from hf_langcore.editing import scale_dimension
from hf_langcore.errors import CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.masks import CoreMask
from hf_langcore.scanning import CriticalScan, find_critical_dimensions
from hf_langcore.scanning import critical as critical_module
from hf_langcore.scanning.tensors import Tensors
from hf_langcore.sealing import is_intact

TEXT = {"max_tokens": 64, "block_size": 32}
OPTIONS = {**TEXT, "progress": False, "candidates": 24, "confirm": 6, "controls": 3}


def train_on(model: Any, tokenizer: Any, texts: dict[str, list[str]], steps: int = 60) -> None:
    """Let the model learn the texts, so that there is something to lose."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rows = [
        torch.tensor([[1, *tokenizer(t, add_special_tokens=False)["input_ids"]]]) for d in texts.values() for t in d
    ]
    for step in range(steps):
        ids = rows[step % len(rows)][:, :48]
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def trained(llama: Any, tokenizer: Any, texts: Any) -> Any:
    train_on(llama, tokenizer, texts)
    return llama


@pytest.fixture
def planted(trained: Any) -> Any:
    """Two gains of one norm that hold each other in balance."""
    plant(trained, 1, (21, 3))
    return trained


def plant(model: Any, layer: int, twins: tuple[int, int], strength: float = 40.0) -> None:
    """Two dimensions that carry the same and are read with large opposite weights: an edit of either sets them free."""
    first, second = twins
    with torch.no_grad():
        model.model.embed_tokens.weight[:, second] = model.model.embed_tokens.weight[:, first]
        for block in model.model.layers:
            for writer in (block.self_attn.o_proj, block.mlp.down_proj):
                writer.weight[second] = writer.weight[first]
            for norm in (block.input_layernorm, block.post_attention_layernorm):
                norm.weight[second] = norm.weight[first]
        reader = model.model.layers[layer].mlp.up_proj.weight
        reader[:, first] += strength
        reader[:, second] -= strength


def test_the_result_says_all(planted: Any, tokenizer: Any, texts: Any, tmp_path: Any) -> None:
    """Reported and measured, controls, leave-one-out, settings, JSON with a seal, a map and a table."""
    before = [parameter.detach().clone() for parameter in planted.parameters()]
    scan = find_critical_dimensions(planted, tokenizer, texts, **OPTIONS)
    assert all(torch.equal(one, old) for one, old in zip(planted.parameters(), before, strict=True))
    assert isinstance(scan, CriticalScan)
    name = "model.layers.1.post_attention_layernorm.weight"
    assert {(one.parameter, one.axis, one.index) for one in scan[:2]} == {(name, 0, 21), (name, 0, 3)}
    assert {scan[0].residual, scan[1].residual} == {21, 3}
    for one in scan:
        assert one.interval.low >= 2
        assert one.interval.low <= one.perplexity_ratio <= one.interval.high
        assert one.perplexity_ratio > one.control_ratio
    ratios = [one.perplexity_ratio for one in scan.measured]
    assert ratios == sorted(ratios, reverse=True)
    assert {(one.parameter, one.kind, one.index) for one in scan} <= {
        (one.parameter, one.kind, one.index) for one in scan.measured
    }
    assert {control.of for control in scan.controls} >= {(name, "norm", 21), (name, "norm", 3)}
    assert not {control.index for control in scan.controls if control.of[0] == name} & {21, 3}
    assert set(scan.joint.without) <= {(one.parameter, one.kind, one.index) for one in scan}
    assert scan.joint.rise > 1
    values = json.loads(scan.to_json(tmp_path / "scan.json"))
    assert is_intact(values)
    assert json.loads((tmp_path / "scan.json").read_text(encoding="utf-8")) == values
    assert values["critical"][0]["parameter"] == name
    assert scan.settings["edits"] > 24
    assert scan.settings["edits"] < scan.settings["forward_passes"]
    assert "post_attention_layernorm" in str(scan)
    found = scan.map()
    assert found.values.shape == (3, 32)
    assert found.rows == ("0", "1", "outside")
    assert found.values[1, 21] >= np.log(scan[0].perplexity_ratio) - 1e-9 or scan[0].index == 3
    assert np.isnan(found.values).any()


def test_all_norm_dimensions_as_edits_really_do(trained: Any, tokenizer: Any, texts: Any) -> None:
    """Every one is measured under every factor, and the figures are those of the edit."""
    scan = find_critical_dimensions(trained, tokenizer, texts, **{**OPTIONS, "kinds": ("norm",), "candidates": None})
    assert len(scan.measured) == 5 * 32
    assert scan.settings["edits"] == 2 * 5 * 32
    assert {one.kind for one in scan.measured} == {"norm"}
    for one in (scan.measured[0], scan.measured[-1]):
        with scale_dimension(trained, one.parameter, one.index, factor=one.factor):
            edited = evaluate_perplexity(trained, tokenizer, texts, progress=False, **TEXT)
        assert one.perplexity == pytest.approx(edited.mean(), rel=1e-5)
    base = evaluate_perplexity(trained, tokenizer, texts, progress=False, **TEXT)
    assert scan.base_perplexity == pytest.approx(base.mean(), rel=1e-5)


def test_half_of_all_dimensions_alike_are_not_special(trained: Any, tokenizer: Any, texts: Any) -> None:
    """Where every second pair of gains is planted none of them stands out, however much each does."""
    for number in range(8):
        plant(trained, 1, (4 * number, 4 * number + 1), strength=10.0)
    scan = find_critical_dimensions(
        trained, tokenizer, texts, **{**OPTIONS, "kinds": ("norm",), "candidates": None, "controls": 8}
    )
    name = "model.layers.1.post_attention_layernorm.weight"
    strong = [one for one in scan.measured if one.parameter == name and one.perplexity_ratio > 2]
    assert len(strong) >= 12
    assert not [one for one in scan if one.parameter == name]


def test_named_dimensions_and_masks_are_looked_at(trained: Any, tokenizer: Any, texts: Any) -> None:
    """Beside what is proposed, and with their source."""
    name = "model.layers.0.mlp.down_proj.weight"
    rows = torch.zeros(32, 48, dtype=torch.bool)
    rows[7] = True
    core_mask = CoreMask({name: rows})
    scan = find_critical_dimensions(
        trained, tokenizer, texts, core_mask=core_mask, dimensions=[(name, (3, 4)), ("model.norm", 9)], **OPTIONS
    )
    sources = {(one.parameter, one.index): one.sources for one in scan.measured}
    assert "given" in sources[name, (3, 4)]
    assert "given" in sources["model.norm.weight", 9]
    assert "mask" in sources[name, 7]
    with pytest.raises(InputError, match="0 to 31"):
        find_critical_dimensions(trained, tokenizer, texts, dimensions=[("model.norm", 32)], **OPTIONS)


SHAPE = {
    "vocab_size": 120,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def test_families_of_models(gpt2: Any, tokenizer: Any, texts: Any) -> None:
    """LayerNorms and Conv1D, fused projections, stacked experts, bfloat16, and an adapter around a model."""
    from peft import LoraConfig, get_peft_model

    mixture = MixtralForCausalLM(MixtralConfig(**SHAPE, num_local_experts=3, num_experts_per_tok=2))
    fused = Phi3ForCausalLM(Phi3Config(**SHAPE)).to(torch.bfloat16)
    wrapped = get_peft_model(Phi3ForCausalLM(Phi3Config(**SHAPE)), LoraConfig(target_modules=["qkv_proj"]))
    for model in (gpt2, mixture, fused, wrapped):
        before = [parameter.detach().clone() for parameter in model.parameters()]
        scan = find_critical_dimensions(model, tokenizer, texts, **OPTIONS)
        assert {one.kind for one in scan.measured} == {"norm", "row", "column", "weight"}
        assert not any(one.parameter.startswith("base_model") for one in scan.measured)
        assert all(torch.equal(one, old) for one, old in zip(model.parameters(), before, strict=True))
    scan = find_critical_dimensions(mixture, tokenizer, texts, **{**OPTIONS, "candidates": 200})
    inside = [one for one in scan.measured if "experts" in one.parameter]
    assert {len(one.index) for one in inside if one.kind == "weight"} == {3}
    assert {len(one.index) for one in inside if one.kind == "row"} == {2}
    assert all(one.axis is None for one in inside)


def test_models_without_norms(llama: Any, tokenizer: Any, texts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norm dimensions are skipped with a note, or missing is said where nothing else is asked for."""
    original = Tensors.of

    def without(model: Any) -> Tensors:
        found = original(model)
        return Tensors({}, found.matrices, found.feed_forwards, found.layers, found.width)

    monkeypatch.setattr(critical_module.Tensors, "of", without)
    scan = find_critical_dimensions(llama, tokenizer, texts, **OPTIONS)
    assert "no norm weights" in scan.settings["notes"][0]
    assert {one.kind for one in scan.measured} == {"row", "column", "weight"}
    monkeypatch.setattr("hf_langcore.scanning.tensors._norms", lambda _model: {})
    with pytest.raises(UnsupportedModelError, match="no norm weights"):
        find_critical_dimensions(llama, tokenizer, texts, kinds=("norm",), **OPTIONS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": ()}, "factor"),
        ({"factors": (float("nan"),)}, "finite"),
        ({"candidates": 0}, "candidate"),
        ({"kinds": ("neuron",)}, "kinds are"),
        ({"sources": ("hope",)}, "sources are"),
        ({"confirm": 0}, "confirm"),
        ({"controls": 0}, "controls"),
        ({"min_ratio": 1.0}, "min_ratio"),
        ({"reuse": "always"}, "reuse"),
    ],
)
def test_bad_input_is_named(llama: Any, tokenizer: Any, texts: Any, options: dict[str, Any], message: str) -> None:
    """Each error says what is needed."""
    with pytest.raises(InputError, match=message):
        find_critical_dimensions(llama, tokenizer, texts, **{**OPTIONS, **options})


def test_texts_that_are_too_short(llama: Any, tokenizer: Any) -> None:
    """How much is there, and how much is needed."""
    with pytest.raises(CorpusError):
        find_critical_dimensions(llama, tokenizer, {"en": []}, **OPTIONS)
    with pytest.raises(
        CorpusError, match=r"too short to tell: it has 2 pieces \(\d+ scored tokens\). At least 8 pieces"
    ):
        find_critical_dimensions(llama, tokenizer, {"en": ["a dog"], "de": ["ein Hund"]}, **OPTIONS)


def test_a_broken_model_is_an_error(llama: Any, tokenizer: Any, texts: Any) -> None:
    """Where the model itself gives NaN no edit can be compared with it; it is left as it was."""
    with torch.no_grad():
        llama.lm_head.weight[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="'en'"):
        find_critical_dimensions(llama, tokenizer, texts, **OPTIONS)
    assert not any(module._forward_hooks for module in llama.modules())


def test_an_empty_scan_says_where_to_look(llama: Any, tokenizer: Any, texts: Any) -> None:
    """On an untrained model: why nothing is reported, and what was measured nevertheless."""
    scan = find_critical_dimensions(llama, tokenizer, texts, **OPTIONS)
    assert len(scan) == 0
    assert list(scan) == []
    assert "uniform guess" in scan.settings["notes"][-1]
    with pytest.raises(IndexError, match="measured has all"):
        scan[0]
    assert "No critical dimension" in str(scan)
    assert scan.joint is None


def test_controls_that_do_as_much_are_candidates_themselves(planted: Any, tokenizer: Any, texts: Any) -> None:
    """Nobody has proposed the twin; it is drawn as a control, and is reported like any other."""
    name = "model.layers.1.post_attention_layernorm.weight"
    options = {**OPTIONS, "kinds": ("norm",), "candidates": 1, "controls": 31}
    scan = find_critical_dimensions(planted, tokenizer, texts, dimensions=[(name, 21)], **options)
    assert {(one.parameter, one.index) for one in scan[:2]} == {(name, 21), (name, 3)}
    twin = next(one for one in scan if one.index == 3)
    assert twin.sources == ("controls",)
    assert twin.interval.low >= 2
    assert twin.control_ratio < twin.perplexity_ratio


def test_the_same_dimension_is_looked_for_in_other_norms(planted: Any, tokenizer: Any, texts: Any) -> None:
    """Where one gain of a residual dimension does a lot those of other norms are edited, too, if gains are looked at."""
    plant(planted, 0, (21, 3))
    name = "model.layers.1.post_attention_layernorm.weight"
    options = {**OPTIONS, "kinds": ("norm",), "candidates": 1, "controls": 1}
    scan = find_critical_dimensions(planted, tokenizer, texts, dimensions=[(name, 21)], **options)
    sources = {(one.parameter, one.index): one.sources for one in scan.measured}
    assert "given" in sources[name, 21]
    assert sources["model.layers.0.post_attention_layernorm.weight", 21] == ("relatives",)
    rows = find_critical_dimensions(
        planted, tokenizer, texts, **{**options, "kinds": ("row",), "candidates": 4, "min_ratio": 1.0001}
    )
    assert {one.kind for one in rows.measured} == {"row"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": "0,10"}, "factors are numbers"),
        ({"factors": 10}, "factors are numbers"),
        ({"matrix_factors": ["a"]}, "matrix_factors are numbers"),
        ({"confirm": "3"}, "confirm is a whole number"),
        ({"seed": "a"}, "seed is a whole number"),
        ({"candidates": 1.5}, "candidates is a whole number"),
        ({"sources": "weights"}, "in a list"),
        ({"sources": []}, "sources are some of"),
        ({"core_mask": "my-core"}, "from_pretrained"),
    ],
)
def test_values_of_other_kinds(llama: Any, tokenizer: Any, texts: Any, options: Any, message: str) -> None:
    """Are known before anything is read."""
    with pytest.raises(InputError, match=message):
        find_critical_dimensions(llama, tokenizer, texts, progress=False, **options)
