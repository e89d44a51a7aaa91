from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from hf_langcore.architecture import bare_weights, decoder_weights
from hf_langcore.errors import (
    ArtifactExistsError,
    InputError,
    LangCoreError,
    NonFiniteError,
    UnsupportedModelError,
)
from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.tuner import CoreRegionConfig, CoreRegionLinear
from hf_langcore.tuner.export.lora import lora_factors, save_as_lora, to_lora
from hf_langcore.tuner.export.parts import ExportError, adapter_layers

Wrap = Callable[..., Any]
Bools = NDArray[np.bool_]

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)


def dimensions_and_a_few(model: nn.Module, *, scattered: int = 2, seed: int = 0) -> CoreMask:
    """In every matrix two rows and a column, and a few single weights; a different number in every matrix."""
    generator = torch.Generator().manual_seed(seed)
    planes = {}
    for place, (name, weight) in enumerate(decoder_weights(model).items()):
        plane = torch.zeros(weight.parameter.shape, dtype=torch.bool)
        if plane.dim() == 2:
            plane[torch.randperm(len(plane), generator=generator)[:2]] = True
            plane[:, torch.randint(plane.shape[1], (1,), generator=generator)] = True
            count = scattered * (place % 3)
            plane.view(-1)[torch.randperm(plane.numel(), generator=generator)[:count]] = True
        planes[name] = plane
    return CoreMask(planes)


def over_everything(model: nn.Module, fraction: float = 0.02) -> CoreMask:
    """A random mask over all weights, embeddings and head too."""
    torch.manual_seed(0)
    return CoreMask({name: torch.rand(w.parameter.shape) < fraction for name, w in bare_weights(model).items()})


def single(core: Bools, *, kind: type = nn.Linear, **options: Any) -> CoreRegionLinear:
    """One layer (out, in) with this core in nn.Linear's orientation."""
    outputs, inputs = core.shape
    base: nn.Module = nn.Linear(inputs, outputs) if kind is nn.Linear else Conv1D(outputs, inputs)
    stored = core if kind is nn.Linear else np.ascontiguousarray(core.T)
    config = CoreRegionConfig(**{"method": "random", "r": 1, "init_weights": False, **options})
    return CoreRegionLinear(base, "default", PackedBits.from_bool(stored), config=config)


def components(marked: Bools, *, free: bool = True) -> int:
    """Fewest rows and columns that contain the marked entries; those that are marked as a whole may be free."""
    cost_of_rows = ~marked.all(axis=1) if free else np.ones(marked.shape[0], dtype=np.bool_)
    cost_of_columns = ~marked.all(axis=0) if free else np.ones(marked.shape[1], dtype=np.bool_)
    sets = (np.array(chosen, dtype=np.bool_) for chosen in itertools.product([False, True], repeat=marked.shape[0]))
    return min(
        int((rows & cost_of_rows).sum()) + int((marked[~rows].any(axis=0) & cost_of_columns).sum()) for rows in sets
    )


def check_loaded(model: Any, loaded: Any, tokens: torch.Tensor) -> None:
    """The same outputs, the same change, and exactly nothing in the core."""
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-5)
        for key, layer in adapter_layers(model.base_model, "default"):
            delta = loaded.base_model.model.get_submodule(key).get_delta_weight("default")
            assert (delta[layer.core_mask("default")] == 0).all()
            torch.testing.assert_close(delta, layer.get_delta_weight("default"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{"lora_alpha": 12}, {"use_rslora": True}, {"r": 0}])
def test_plain_peft_gets_the_same_model(
    options: dict[str, Any], any_model: Any, request: pytest.FixtureRequest, make_wrapped: Wrap, build_model: Wrap,
    tokens: torch.Tensor, tmp_path: Path,
) -> None:  # fmt: skip
    """Saved, then loaded onto a fresh base by PEFT's own code: same outputs, exactly 0 in the core."""
    model = make_wrapped(any_model, dimensions_and_a_few(any_model), **options)
    save_as_lora(model.base_model, tmp_path / "lora", max_rank=64)
    kind = request.node.callspec.params["any_model"]
    loaded = PeftModel.from_pretrained(build_model(kind), tmp_path / "lora")
    assert type(loaded.base_model).__name__ == "LoraModel"
    check_loaded(model, loaded, tokens)


@settings(deadline=None)
@given(st.data(), st.sampled_from([nn.Linear, Conv1D]), st.integers(0, 3))
def test_exact_and_as_small_as_possible(data: st.DataObject, kind: type, rank: int) -> None:
    """For any core: B @ A is the masked change, exactly 0 in the core, and no cover gives a smaller rank."""
    core = data.draw(hnp.arrays(np.bool_, data.draw(SHAPES)))
    torch.manual_seed(0)
    layer = single(core, kind=kind, r=rank)
    a, b = lora_factors("layer", layer, "default", max_rank=100)
    expected = layer.get_delta_weight("default")
    expected = expected.T if kind is Conv1D else expected
    delta = b @ a
    assert (delta[torch.from_numpy(core)] == 0).all()
    torch.testing.assert_close(delta, expected)
    alone = max(1, components((expected != 0).numpy(), free=False))
    around = rank + components(core)
    assert len(a) == (alone if rank == 0 else around if not core.any() else min(alone, around))
    assert b.shape[1] == len(a)


def test_no_core_in_a_layer(llama: Any, make_wrapped: Wrap) -> None:
    """The LoRA is the adapter itself: A as it is, B times the scaling."""
    empty = CoreMask({name: torch.zeros_like(w.parameter).bool() for name, w in decoder_weights(llama).items()})
    model = make_wrapped(llama, empty, lora_alpha=12)
    config, weights = to_lora(model.base_model)
    assert (config.r, config.lora_alpha, config.rank_pattern) == (4, 4, {})
    for key, layer in adapter_layers(model.base_model, "default"):
        prefix = f"base_model.model.{key}"
        assert torch.equal(weights[f"{prefix}.lora_A.weight"], layer.core_region_A["default"])
        assert torch.equal(weights[f"{prefix}.lora_B.weight"], 3 * layer.core_region_B["default"])


def test_whole_dimensions_cost_no_rank(llama: Any, make_wrapped: Wrap) -> None:
    """A core of rows and columns leaves the rank as it is, in every layer."""
    config, weights = to_lora(make_wrapped(llama, dimensions_and_a_few(llama, scattered=0)).base_model)
    assert config.r == 4
    assert config.rank_pattern == config.alpha_pattern == {}
    assert config.target_modules == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {weights[key].shape[0] for key in weights if "lora_A" in key} == {4}


def test_nearly_everything_is_core() -> None:
    """Where only few weights change, these are written instead of the product."""
    core = np.ones((8, 9), dtype=np.bool_)
    core[2, 3] = core[2, 5] = False
    a, b = lora_factors("layer", single(core, r=4), "default")
    assert len(a) == 1
    assert (b @ a).count_nonzero() == 2


def test_dense_changes_of_few_rows() -> None:
    """r=0: the rows in which something changes, and no more."""
    core = np.ones((8, 9), dtype=np.bool_)
    core[[1, 6]] = False
    layer = single(core, r=0)
    a, b = lora_factors("layer", layer, "default")
    assert len(a) == 2
    assert torch.equal(b @ a, layer.get_delta_weight("default"))


@pytest.mark.parametrize("rank", [0, 4])
def test_adapters_without_a_change(rank: int, llama: Any, make_wrapped: Wrap, make_mask: Wrap) -> None:
    """A fresh adapter becomes a LoRA that changes nothing and can be loaded."""
    model = make_wrapped(llama, make_mask(llama), r=rank, init_weights=True)
    config, weights = to_lora(model.base_model)
    assert config.r == 1
    assert all((weights[key] == 0).all() for key in weights)


def test_scattered_cores_are_refused(llama: Any, make_wrapped: Wrap, make_mask: Wrap, tmp_path: Path) -> None:
    """The message names the layer, the rank that it needs, the limit, and what to do; nothing is written."""
    model = make_wrapped(llama, make_mask(llama, "random"))
    with pytest.raises(ExportError, match=r"q_proj.*takes rank 2\d, and from 13 on it is larger.*save_merged"):
        save_as_lora(model.base_model, tmp_path / "lora")
    with pytest.raises(LangCoreError, match="max_rank=5 allows 5"):
        to_lora(model.base_model, max_rank=5)
    assert list(tmp_path.iterdir()) == []


def test_the_adapters_own_rank_is_always_allowed() -> None:
    """An adapter with a needlessly large rank is not refused because of it; with max_rank it is."""
    layer = single(np.zeros((4, 4), dtype=np.bool_), r=16)
    assert len(lora_factors("layer", layer, "default")[0]) == 16
    with pytest.raises(ExportError, match="takes rank 16"):
        lora_factors("layer", layer, "default", max_rank=8)


@pytest.mark.parametrize("max_rank", [0, -1, True, 2.0])
def test_impossible_limits(max_rank: Any, llama: Any, make_wrapped: Wrap) -> None:
    """max_rank is a whole number."""
    with pytest.raises(InputError, match="max_rank"):
        to_lora(make_wrapped(llama).base_model, max_rank=max_rank)


def test_ranks_of_layers_with_similar_names(tokens: torch.Tensor, make_wrapped: Wrap) -> None:
    """PEFT takes the keys of rank_pattern for regular expressions: layer 1 is not layer 11."""

    def build() -> Any:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=61, hidden_size=8, num_hidden_layers=12, num_attention_heads=2, intermediate_size=16
        )
        return transformers.LlamaForCausalLM(config).eval()

    base = build()
    planes = {name: torch.zeros_like(w.parameter).bool() for name, w in decoder_weights(base).items()}
    for layer in range(12):
        planes[f"model.layers.{layer}.self_attn.q_proj.weight"].fill_diagonal_(fill_value=True)
        planes[f"model.layers.{layer}.self_attn.q_proj.weight"][layer % 7 :] = False
    model = make_wrapped(base, CoreMask(planes), r=1, target_modules=["q_proj"])
    config, weights = to_lora(model.base_model, max_rank=8)
    assert {tensor.shape[0] for key, tensor in weights.items() if "lora_A" in key} == set(range(1, 8))
    loaded = get_peft_model(build(), config)
    missing = set_peft_model_state_dict(loaded, weights)
    assert not missing.unexpected_keys
    check_loaded(model, loaded, tokens)


def _two_layers() -> nn.ModuleDict:
    return nn.ModuleDict({"lin": nn.Linear(3, 3), "deep": nn.ModuleDict({"lin": nn.Linear(3, 3)})})


@pytest.mark.parametrize(
    ("targets", "expected"),
    [("lin", "lin"), (["deep.lin"], {"deep.lin"}), (["lin"], {"lin"}), (r"(deep\.)?lin", {"lin"})],
)
def test_names_that_end_like_others(targets: Any, expected: Any) -> None:
    """Targets and ranks mean exactly the adapted modules, even where the name of one is the ending of another."""
    planes = {name: torch.zeros(3, 3).bool() for name in ("lin.weight", "deep.lin.weight")}
    planes["deep.lin.weight"].fill_diagonal_(fill_value=True)
    config = CoreRegionConfig(core_mask=CoreMask(planes), target_modules=targets, r=1, init_weights=False)
    adapted = get_peft_model(_two_layers(), config)
    lora, weights = to_lora(adapted.base_model, max_rank=8)
    assert lora.target_modules == expected
    loaded = get_peft_model(_two_layers(), lora)
    set_peft_model_state_dict(loaded, weights)
    layers = adapter_layers(adapted.base_model, "default")
    assert loaded.base_model.targeted_module_names == [key for key, _ in layers]
    for key, layer in layers:
        delta = loaded.base_model.model.get_submodule(key).get_delta_weight("default")
        torch.testing.assert_close(delta, layer.get_delta_weight("default"))


def test_other_trained_things_come_along(
    build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """modules_to_save, trainable tokens, dropout, and what else the config says."""
    base = build_model("llama")
    model = make_wrapped(
        base,
        dimensions_and_a_few(base),
        modules_to_save=["lm_head"],
        trainable_token_indices=[1, 5],
        lora_dropout=0.25,
        task_type="CAUSAL_LM",
        revision="main",
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "core_region" not in name:
                parameter.normal_()
    model.eval()
    save_as_lora(model.base_model, tmp_path / "lora")
    loaded = PeftModel.from_pretrained(build_model("llama"), tmp_path / "lora")
    check_loaded(model, loaded, tokens)
    config = loaded.peft_config["default"]
    assert (config.lora_dropout, config.task_type, config.inference_mode) == (0.25, "CAUSAL_LM", True)
    saved = get_peft_model_state_dict(loaded)
    assert set(saved) == set(load_file(tmp_path / "lora" / "adapter_model.safetensors"))


def test_embeddings_and_heads(build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path) -> None:
    """An adapted embedding becomes LoRA's form for embeddings."""
    base = build_model("gemma3")
    base.config.tie_word_embeddings = False
    base.lm_head.weight = nn.Parameter(base.lm_head.weight.clone())
    again = build_model("gemma3")
    mask = over_everything(base, 0.005)
    model = make_wrapped(base, mask, target_modules=["embed_tokens", "lm_head", "q_proj"])
    save_as_lora(model.base_model, tmp_path / "lora", max_rank=64)
    again.config.tie_word_embeddings = False
    again.lm_head.weight = nn.Parameter(again.lm_head.weight.clone())
    check_loaded(model, PeftModel.from_pretrained(again, tmp_path / "lora"), tokens)
    weights = load_file(tmp_path / "lora" / "adapter_model.safetensors")
    assert "base_model.model.model.embed_tokens.lora_embedding_A" in weights
    assert all("lora_" in key for key in weights)


def test_merging_keeps_the_core(
    build_model: Wrap, make_wrapped: Wrap, bits: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    """Merged into a bfloat16 base by PEFT, the core has its old bits; only a -0.0 becomes 0.0."""
    base, fresh = (build_model("llama").bfloat16() for _ in range(2))
    for model in (base, fresh):
        with torch.no_grad():
            for weight in decoder_weights(model).values():
                weight.parameter.view(-1)[::7] = -0.0
    before = {name: w.parameter.detach().clone() for name, w in decoder_weights(base).items()}
    mask = dimensions_and_a_few(base)
    save_as_lora(make_wrapped(base, mask).base_model, tmp_path / "lora")
    merged = PeftModel.from_pretrained(fresh, tmp_path / "lora").merge_and_unload()
    for name, weight in decoder_weights(merged).items():
        without_sign = before[name] + 0.0
        assert torch.equal(bits(weight.parameter[mask[name]]), bits(without_sign[mask[name]])) or mask[name].sum() == 0


def test_which_adapter(llama: Any, make_wrapped: Wrap, make_mask: Wrap) -> None:
    """The active one by default, any by its name, and only its own layers."""
    model = make_wrapped(llama, dimensions_and_a_few(llama), target_modules=["q_proj"])
    model.add_adapter(
        "other", CoreRegionConfig(core_mask=dimensions_and_a_few(llama), target_modules=["k_proj"], init_weights=False)
    )
    assert to_lora(model.base_model, max_rank=64)[0].target_modules == {"q_proj"}
    assert to_lora(model.base_model, "other", max_rank=64)[0].target_modules == {"k_proj"}
    with pytest.raises(InputError, match=r"no adapter 'third'; it has \['default', 'other'\]"):
        to_lora(model.base_model, "third")
    model.base_model.set_adapter(["default", "other"])
    with pytest.raises(InputError, match=r"\['default', 'other'\] are active.*save_merged"):
        to_lora(model.base_model)


def test_merged_adapters_are_exported_all_the_same(llama: Any, make_wrapped: Wrap) -> None:
    """An export reads the adapter, not the weights."""
    model = make_wrapped(llama, dimensions_and_a_few(llama))
    _, before = to_lora(model.base_model)
    model.merge_adapter()
    _, after = to_lora(model.base_model)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_broken_adapters(llama: Any, make_wrapped: Wrap) -> None:
    """NaN times 0 is no 0, so a broken adapter is refused."""
    model = make_wrapped(llama)
    layer = model.base_model.model.model.layers[1].mlp.up_proj
    with torch.no_grad():
        layer.core_region_A["default"][0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match=r"layers\.1\.mlp\.up_proj.*NaN or infinity"):
        to_lora(model.base_model, max_rank=100)


def _mixture(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": 2}
    config = getattr(transformers, f"{name}Config")(**sizes, **heads, **options)
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def test_single_parameters_are_refused(make_wrapped: Wrap) -> None:
    """Experts cannot be exported as a LoRA; the message says what can be done."""
    base = _mixture("Mixtral", num_local_experts=4)
    model = make_wrapped(base, over_everything(base), target_parameters=["experts.down_proj"])
    with pytest.raises(UnsupportedModelError, match=r"experts.*target_parameters.*save_merged"):
        to_lora(model.base_model)


def test_mixtures_of_experts(make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path) -> None:
    """Linear layers of a mixture, a shared expert among them."""
    options = {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 20}
    base = _mixture("Qwen2Moe", **options)
    model = make_wrapped(base, dimensions_and_a_few(base), target_modules=["q_proj", "up_proj"])
    save_as_lora(model.base_model, tmp_path / "lora", max_rank=64)
    check_loaded(model, PeftModel.from_pretrained(_mixture("Qwen2Moe", **options), tmp_path / "lora"), tokens)


@pytest.mark.parametrize("targets", [["up_proj"], ["gate_proj", "up_proj", "down_proj"]])
def test_targets_that_peft_renames(targets: list[str], make_wrapped: Wrap) -> None:
    """In some mixtures PEFT takes a dense layer's projections for experts while loading a LoRA: refused."""
    base = _mixture("Qwen3Moe", num_experts=4, moe_intermediate_size=16, head_dim=8, mlp_only_layers=[0])
    model = make_wrapped(base, dimensions_and_a_few(base), target_modules=targets)
    with pytest.raises(UnsupportedModelError, match="older form of the model"):
        to_lora(model.base_model, max_rank=64)


def test_folders(llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
    """A folder with something in it is left alone; with overwrite=True weights are replaced and the rest stays."""
    model = make_wrapped(llama, dimensions_and_a_few(llama))
    folder = tmp_path / "lora"
    save_as_lora(model.base_model, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    (folder / "notes.txt").write_text("mine")
    (folder / "model.safetensors").write_text("a base model that lies here too")
    (folder / "adapter_model.bin").write_text("old")
    with pytest.raises(ArtifactExistsError, match="not empty"):
        save_as_lora(model.base_model, folder)
    save_as_lora(model.base_model, folder, overwrite=True)
    names = ["adapter_config.json", "adapter_model.safetensors", "model.safetensors", "notes.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [path.name for path in tmp_path.iterdir()] == ["lora"]
