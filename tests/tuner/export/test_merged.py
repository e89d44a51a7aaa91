from __future__ import annotations

import json
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from hf_langcore.architecture import bare_weights
from hf_langcore.binding import bind
from hf_langcore.editing import conversion
from hf_langcore.errors import (
    ArtifactExistsError,
    ConfigurationError,
    InputError,
    ModelChangedError,
    UnsupportedModelError,
)
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig
from hf_langcore.tuner.export import state as export_state
from hf_langcore.tuner.export.merged import save_merged

Wrap = Callable[..., Any]
Bits = Callable[[torch.Tensor], torch.Tensor]

_SIZES = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": 2}
_MIXTURES: dict[str, dict[str, Any]] = {
    "Mixtral": {"num_local_experts": 4},
    "Qwen3Moe": {"num_experts": 4, "moe_intermediate_size": 16, "head_dim": 8},
    "GptOss": {"num_local_experts": 4, "head_dim": 8},
    "DeepseekV3": {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16, "q_lora_rank": 8,
                   "first_k_dense_replace": 1, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4,
                   "v_head_dim": 8},
}  # fmt: skip


def mixture(name: str) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**_SIZES, **_HEADS, **_MIXTURES[name])
    return getattr(transformers, f"{name}ForCausalLM")(config).eval()


def over_everything(model: nn.Module) -> CoreMask:
    torch.manual_seed(0)
    return CoreMask({name: torch.rand(w.parameter.shape) < 0.2 for name, w in bare_weights(model).items()})


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def check_same_files(model: Any, folder: Path, bits: Bits, **options: Any) -> None:
    """What save_merged writes is what merging in memory and saving writes."""
    expected = folder.parent / "expected"
    save_merged(model.base_model, folder, **options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        model.merge_and_unload(adapter_names=options.get("adapter_names")).save_pretrained(expected)
    mine, theirs = tensors(folder), tensors(expected)
    assert sorted(mine) == sorted(theirs)
    assert all(mine[key].dtype == theirs[key].dtype for key in mine)
    assert all(torch.equal(bits(mine[key]), bits(theirs[key])) for key in mine)
    config, other = (json.loads((one / "config.json").read_text()) for one in (folder, expected))
    assert {key: value for key, value in config.items() if key != "core_region_lineage"} == other
    assert (folder / "generation_config.json").exists() == (expected / "generation_config.json").exists()


@pytest.mark.parametrize("size", [20_000, "5GB"])
def test_equal_to_merging_in_memory(
    size: Any, any_model: Any, make_wrapped: Wrap, bits: Bits, tmp_path: Path, tokens: torch.Tensor
) -> None:
    """Bit for bit, in one file or several; the model itself goes on as before."""
    model = make_wrapped(any_model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = model(tokens).logits
    save_merged(model.base_model, tmp_path / "first", max_shard_size=size)
    assert (tmp_path / "first" / "model.safetensors.index.json").exists() == (size != "5GB")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(tokens).logits, logits)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "first")
    torch.testing.assert_close(loaded(tokens).logits, logits, rtol=1e-4, atol=1e-5)
    check_same_files(model, tmp_path / "merged", bits, max_shard_size=size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_core_keeps_every_bit(
    dtype: torch.dtype, llama: Any, make_wrapped: Wrap, make_mask: Wrap, plant: Any, bits: Bits, tmp_path: Path
) -> None:
    """Also -0.0 and NaN, in both widths; the loaded model fits the mask still."""
    base = llama.to(dtype)
    for weight in bare_weights(base).values():
        plant(weight.parameter)
    before = {name: bits(weight.parameter) for name, weight in bare_weights(base).items()}
    mask = over_everything(base)
    save_merged(make_wrapped(base, mask).base_model, tmp_path / "merged")
    after = tensors(tmp_path / "merged")
    assert all(torch.equal(bits(after[name])[mask[name]], before[name][mask[name]]) for name in mask)
    assert any(not torch.equal(bits(after[name]), before[name]) for name in mask)


def test_the_mask_fits_the_merged_model(saved_base: Path, make_mask: Wrap, make_wrapped: Wrap, tmp_path: Path) -> None:
    """The checkpoint notes which weights its core comes from, so that editing and training around it go on."""
    base = AutoModelForCausalLM.from_pretrained(saved_base)
    model = get_peft_model(base, CoreRegionConfig(method="magnitude", init_weights=False))
    mask = model.core_mask
    save_merged(model.base_model, tmp_path / "merged")
    bind(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), mask)
    assert not hasattr(base.config, "core_region_lineage")
    model.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "core_mask_config.json").unlink()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(saved_base), tmp_path / "adapter")
    save_merged(loaded.base_model, tmp_path / "described")
    bind(AutoModelForCausalLM.from_pretrained(tmp_path / "described"), mask)


@pytest.mark.parametrize("name", list(_MIXTURES))
@pytest.mark.parametrize("loaded", [False, True])
def test_weights_that_transformers_converts(
    name: str, loaded: bool, make_wrapped: Wrap, bits: Bits, tmp_path: Path
) -> None:
    """Experts go back into the form of the files, in shards smaller than a layer's experts are together."""
    base = mixture(name)
    if loaded:
        base.save_pretrained(tmp_path / "base")
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    model = make_wrapped(base, over_everything(base), target_modules="all-linear")
    check_same_files(model, tmp_path / "merged", bits, max_shard_size=12_000)
    AutoModelForCausalLM.from_pretrained(tmp_path / "merged")


@pytest.mark.parametrize("name", ["Mixtral", "GptOss"])
def test_experts(name: str, make_wrapped: Wrap, bits: Bits, tmp_path: Path) -> None:
    """Adapted experts (target_parameters), two parameters of one module."""
    base = mixture(name)
    parameters = ["experts.gate_up_proj", "experts.down_proj"]
    model = make_wrapped(base, over_everything(base), target_parameters=parameters)
    check_same_files(model, tmp_path / "merged", bits, max_shard_size=12_000)


@pytest.mark.filterwarnings("ignore:Model (has|with) `tie_word_embeddings=True`:UserWarning")
@pytest.mark.parametrize("kind", ["llama", "llama-tied"])
@pytest.mark.parametrize(
    "options",
    [
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"trainable_token_indices": [1, 5]},
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": ["lm_head"]},
    ],
)
def test_embeddings_and_heads(
    kind: str, options: dict[str, Any], build_model: Wrap, make_wrapped: Wrap, bits: Bits, tokens: torch.Tensor,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Trained copies, trained rows and adapted embeddings, tied or not: what still is one tensor is written once."""
    base = build_model(kind)
    model = make_wrapped(base, over_everything(base) if "target_modules" in options else None, **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "core_region" not in name:
                parameter.normal_()
        logits = model(tokens).logits
    save_merged(model.base_model, tmp_path / "first")
    assert ("lm_head.weight" in tensors(tmp_path / "first")) == (
        kind == "llama" or "trainable_token_indices" not in options
    )
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "first")
    torch.testing.assert_close(loaded(tokens).logits, logits, rtol=1e-4, atol=1e-5)
    assert model.config.tie_word_embeddings == (kind == "llama-tied")
    check_same_files(model, tmp_path / "merged", bits)


class TestSeveralAdapters:
    @pytest.fixture
    def model(self, llama: Any, make_mask: Wrap, make_wrapped: Wrap) -> Any:
        model = make_wrapped(llama, make_mask(llama), target_modules=["q_proj", "up_proj"])
        options = {"init_weights": False, "target_modules": ["q_proj", "down_proj"], "lora_alpha": 3}
        model.add_adapter("other", CoreRegionConfig(core_mask=make_mask(llama, "random"), **options))
        return model

    @pytest.mark.parametrize("names", [None, ["other"], ["default", "other"], ["other", "default"]])
    def test_chosen_ones(self, names: list[str] | None, model: Any, bits: Bits, tmp_path: Path) -> None:
        """The active ones by default; together they keep off the union of their cores."""
        check_same_files(model, tmp_path / "merged", bits, adapter_names=names)

    def test_merged_already(self, model: Any, bits: Bits, tmp_path: Path) -> None:
        """The same adapters merged: their weights as they are. Others: a clear refusal instead of both."""
        save_merged(model.base_model, tmp_path / "before")
        model.merge_adapter()
        save_merged(model.base_model, tmp_path / "after")
        before, after = tensors(tmp_path / "before"), tensors(tmp_path / "after")
        assert all(torch.equal(bits(before[key]), bits(after[key])) for key in before)
        with pytest.raises(ConfigurationError, match=r"\['default'\] are merged.*unmerge_adapter"):
            save_merged(model.base_model, tmp_path / "other", adapter_names=["other"])

    def test_unknown_ones(self, model: Any, tmp_path: Path) -> None:
        """Names must exist, be a list, and be at least one."""
        with pytest.raises(InputError, match="no adapter 'third'"):
            save_merged(model.base_model, tmp_path / "merged", adapter_names=["third"])
        with pytest.raises(InputError, match=r"Write \['default'\]"):
            save_merged(model.base_model, tmp_path / "merged", adapter_names="default")
        with pytest.raises(InputError, match="No adapter is to be merged"):
            save_merged(model.base_model, tmp_path / "merged", adapter_names=[])

    def test_two_copies_of_one_module(self, build_model: Wrap, make_wrapped: Wrap, tmp_path: Path) -> None:
        """Two adapters that each trained the head in full cannot be merged; one of them can, active or not."""
        model = make_wrapped(build_model("llama"), modules_to_save=["lm_head"])
        config = CoreRegionConfig(core_mask=model.core_mask, modules_to_save=["lm_head"])
        model.add_adapter("other", config)
        copies = model.base_model.model.lm_head.modules_to_save
        nn.init.normal_(copies["other"].weight)
        with pytest.raises(ConfigurationError, match=r"each trained 'lm_head' in full"):
            save_merged(model.base_model, tmp_path / "both", adapter_names=["default", "other"])
        save_merged(model.base_model, tmp_path / "other", adapter_names=["other"])
        assert torch.equal(tensors(tmp_path / "other")["lm_head.weight"], copies["other"].weight)


def test_little_memory(llama: Any, make_wrapped: Wrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the weights that adapters change, no more are in memory at any time than one shard holds."""
    alive: dict[int, int] = {}
    most = 0
    value = export_state.Entry.value

    def counted(entry: export_state.Entry) -> torch.Tensor:
        nonlocal most
        result = value(entry)
        if entry.change is not None:
            key = id(result.untyped_storage())
            alive[key] = result.nbytes
            weakref.finalize(result, alive.pop, key, None)
        most = max(most, sum(alive.values()))
        return result

    monkeypatch.setattr(export_state.Entry, "value", counted)
    save_merged(make_wrapped(llama).base_model, tmp_path / "merged", max_shard_size=8_000)
    assert len(list((tmp_path / "merged").glob("model-*.safetensors"))) > 5
    assert 0 < most <= 8_000
    assert not alive


class TestFolders:
    def test_not_empty(self, llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
        """Refused without overwrite=True; with it, old weights go and other files stay."""
        model = make_wrapped(llama)
        folder = tmp_path / "merged"
        save_merged(model.base_model, folder, max_shard_size=20_000)
        (folder / "tokenizer.json").write_text("{}")
        (folder / "pytorch_model.bin").write_text("old")
        with pytest.raises(ArtifactExistsError, match="not empty"):
            save_merged(model.base_model, folder)
        save_merged(model.base_model, folder, overwrite=True)
        names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
        assert sorted(path.name for path in folder.iterdir()) == names
        assert [path.name for path in tmp_path.iterdir()] == ["merged"]

    def test_the_adapters_own_folder(self, llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
        """Transformers would load the adapter on top of the merged weights, so its folder is refused."""
        model = make_wrapped(llama)
        model.save_pretrained(tmp_path / "adapter")
        with pytest.raises(ArtifactExistsError, match="holds an adapter"):
            save_merged(model.base_model, tmp_path / "adapter", overwrite=True)

    def test_a_file(self, llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
        """A file is no folder."""
        (tmp_path / "merged").write_text("")
        with pytest.raises(ArtifactExistsError, match="it is a file"):
            save_merged(make_wrapped(llama).base_model, tmp_path / "merged", overwrite=True)

    @pytest.mark.parametrize("exists", [False, True])
    def test_failures_leave_nothing(
        self, exists: bool, llama: Any, make_wrapped: Wrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A full disk in the second shard: what was there is still there, and nothing else."""
        folder = tmp_path / "merged"
        model = make_wrapped(llama)
        if exists:
            save_merged(model.base_model, folder)
        before = sorted(path.name for path in tmp_path.rglob("*"))
        calls: Iterator[int] = iter(range(99))
        save = conversion.save_file

        def fails(*args: Any, **kwargs: Any) -> None:
            if next(calls):
                raise OSError("No space left on device")
            save(*args, **kwargs)

        monkeypatch.setattr(conversion, "save_file", fails)
        with pytest.raises(OSError, match="No space"):
            save_merged(model.base_model, folder, max_shard_size=20_000, overwrite=True)
        assert sorted(path.name for path in tmp_path.rglob("*")) == before


class TestRefused:
    def test_models_without_values(self, llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
        """Weights on the meta device."""
        model = make_wrapped(llama)
        model.base_model.model.model.norm.to("meta")
        with pytest.raises(UnsupportedModelError, match=r"model\.norm\.weight.*meta device"):
            save_merged(model.base_model, tmp_path / "merged")

    def test_quantised_models(self, llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
        """The message says why and what to load instead."""
        model = make_wrapped(llama)
        model.base_model.model.hf_quantizer = object()
        with pytest.raises(UnsupportedModelError, match=r"quantised.*changes core.*bfloat16"):
            save_merged(model.base_model, tmp_path / "merged")

    def test_other_models(self, tmp_path: Path) -> None:
        """Only transformers models have checkpoints."""
        tree = nn.ModuleDict({"lin": nn.Linear(3, 3)})
        config = CoreRegionConfig(core_mask=CoreMask({"lin.weight": torch.ones(3, 3).bool()}), target_modules=["lin"])
        with pytest.raises(UnsupportedModelError, match="ModuleDict is none"):
            save_merged(get_peft_model(tree, config).base_model, tmp_path / "merged")

    def test_open_edits(self, llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
        """A perturbed model is no trained one."""
        model = make_wrapped(llama)
        with model.perturb("core"), pytest.raises(ModelChangedError, match="edit is open"):
            save_merged(model.base_model, tmp_path / "merged")

    def test_other_methods(self, llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
        """Layers of another PEFT method beside those of this one."""
        model = make_wrapped(llama, target_modules=["q_proj"])
        model.base_model.model.model.layers[0].mlp = get_peft_model(
            model.base_model.model.model.layers[0].mlp, LoraConfig(target_modules=["up_proj"])
        ).base_model.model
        with pytest.raises(UnsupportedModelError, match=r"up_proj' has adapters of another PEFT method \(Linear\)"):
            save_merged(model.base_model, tmp_path / "merged")

    def test_conversions_that_need_values(
        self, llama: Any, make_wrapped: Wrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where transformers' conversion cannot do without values, the message names the other way."""

        def needs_values(model: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {key: value * value.max().item() for key, value in state.items()}

        monkeypatch.setattr(conversion, "revert_weight_conversion", needs_values)
        with pytest.raises(UnsupportedModelError, match=r"LlamaForCausalLM.*merge_and_unload"):
            save_merged(make_wrapped(llama).base_model, tmp_path / "merged")
