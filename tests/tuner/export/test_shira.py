from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import nn

from hf_langcore.architecture import decoder_weights
from hf_langcore.errors import ArtifactExistsError, InputError, UnsupportedModelError
from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.tuner import CoreRegionConfig, CoreRegionLinear
from hf_langcore.tuner.export.parts import ExportError, adapter_layers
from hf_langcore.tuner.export.shira import save_as_shira, shira_entries, to_shira

Wrap = Callable[..., Any]

# PEFT's SHiRA makes sparse tensors without saying whether torch is to check them.
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")

LINEAR = pytest.mark.parametrize("kind", ["llama", "opt", "qwen3", "gemma3"])


def nearly_everything(model: nn.Module, seed: int = 0) -> CoreMask:
    """A mask that leaves 50 weights of every tensor outside the core."""
    torch.manual_seed(seed)
    planes = {}
    for name, weight in decoder_weights(model).items():
        planes[name] = torch.ones(weight.parameter.shape, dtype=torch.bool)
        planes[name].view(-1)[torch.randperm(weight.parameter.numel())[:50]] = False
    return CoreMask(planes)


def single(core: torch.Tensor, **options: Any) -> CoreRegionLinear:
    config = CoreRegionConfig(**{"method": "random", "r": 2, "init_weights": False, **options})
    base = nn.Linear(core.shape[1], core.shape[0])
    return CoreRegionLinear(base, "default", PackedBits.from_bool(core), config=config)


def changes(loaded: Any, key: str) -> torch.Tensor:
    delta: torch.Tensor = loaded.base_model.model.get_submodule(key).get_delta_weight("default").to_dense()
    return delta.detach()


@LINEAR
@pytest.mark.parametrize("options", [{"lora_alpha": 12}, {"r": 0}])
def test_nothing_is_lost(
    kind: str, options: dict[str, Any], build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """Where few weights change, r=None finds the smallest r, and PEFT's own code loads exactly these changes."""
    base = build_model(kind)
    model = make_wrapped(base, nearly_everything(base), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config, _ = to_shira(model.base_model)
    assert config.r == 2  # 50 changes; 24 + 12 entries for each r in the smallest layer
    save_as_shira(model.base_model, tmp_path / "shira")
    loaded = PeftModel.from_pretrained(build_model(kind), tmp_path / "shira")
    assert type(loaded.base_model).__name__ == "ShiraModel"
    for key, layer in adapter_layers(model.base_model, "default"):
        assert torch.equal(changes(loaded, key), layer.get_delta_weight("default").detach())
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-5)


@LINEAR
def test_the_largest_changes_are_kept(
    kind: str, build_model: Wrap, make_wrapped: Wrap, make_mask: Wrap, tmp_path: Path
) -> None:
    """With a small r, what is kept has the right values, is larger than what is lost, and never core."""
    model = make_wrapped(base := build_model(kind), make_mask(base))
    with pytest.warns(UserWarning, match=r"r=3 keeps \d\d\.\d\d% of the change's squared norm"):
        save_as_shira(model.base_model, tmp_path / "shira", r=3)
    loaded = PeftModel.from_pretrained(build_model(kind), tmp_path / "shira")
    for key, layer in adapter_layers(model.base_model, "default"):
        kept, wanted = changes(loaded, key), layer.get_delta_weight("default").detach()
        assert (kept[layer.core_mask("default")] == 0).all()
        assert kept.count_nonzero() == 3 * sum(kept.shape)
        assert torch.equal(kept[kept != 0], wanted[kept != 0])
        assert kept[kept != 0].abs().min() >= wanted[kept == 0].abs().max()


def test_the_share_that_is_kept(llama: Any, make_wrapped: Wrap, make_mask: Wrap) -> None:
    """The warning's number is the squared norm of what is kept over that of the whole change."""
    model = make_wrapped(llama, make_mask(llama))
    with pytest.warns(UserWarning, match="SHiRA") as caught:
        _, weights = to_shira(model.base_model, r=2)
    kept = sum(float(value.square().sum()) for key, value in weights.items() if key.endswith("weight"))
    layers = adapter_layers(model.base_model, "default")
    total = sum(float(layer.get_delta_weight("default").detach().square().sum()) for _, layer in layers)
    assert f"keeps {kept / total:.2%} of" in str(caught[0].message)


def test_no_r_is_enough(llama: Any, make_wrapped: Wrap, make_mask: Wrap, tmp_path: Path) -> None:
    """The message says which layers disagree and how much the largest r would keep; nothing is written."""
    model = make_wrapped(llama, make_mask(llama))
    message = (
        r"up_proj' needs r=12, and '.*k_proj' allows r=8 at most.*With r=8 it would keep (\d\d\.\d\d%) .*save_merged"
    )
    with pytest.raises(ExportError, match=message) as error:
        save_as_shira(model.base_model, tmp_path / "shira")
    assert list(tmp_path.iterdir()) == []
    with pytest.warns(UserWarning, match=str(error.value).split("keep ")[1].split(" ")[0]):
        to_shira(model.base_model, r=8)


@pytest.mark.parametrize("r", [0, -1, True, 1.5, 9])
def test_impossible_ranks(r: Any, llama: Any, make_wrapped: Wrap) -> None:
    """A whole number, no larger than the smallest layer allows."""
    with pytest.raises(InputError, match=r"r must be a whole number|the largest r is 8"):
        to_shira(make_wrapped(llama).base_model, r=r)


@settings(deadline=None)
@given(st.data())
def test_padding(data: st.DataObject) -> None:
    """Entries are distinct; core entries appear only when nothing else is left, and with value 0."""
    outputs, inputs = (data.draw(st.integers(3, 7)) for _ in range(2))
    r = data.draw(st.integers(1, outputs * inputs // (outputs + inputs)))
    core = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99)))) < 0.6
    layer = single(core, init_weights=data.draw(st.booleans()))
    values, places = shira_entries("layer", layer, "default", r=r)
    flat = places[0].long() * inputs + places[1]
    assert places.dtype == torch.int32
    assert len(flat.unique()) == len(flat) == len(values) == r * (outputs + inputs)
    in_core = core.view(-1)[flat]
    assert (values[in_core] == 0).all()
    assert not in_core.any() or (~core).sum() == (~in_core).sum()


def test_sixteen_bits(build_model: Wrap, make_wrapped: Wrap, tmp_path: Path) -> None:
    """Merged by PEFT into a bfloat16 base, the weights are those that the adapter itself would merge."""
    base = build_model("llama").bfloat16()
    model = make_wrapped(base, nearly_everything(base))
    save_as_shira(model.base_model, tmp_path / "shira")
    merged = PeftModel.from_pretrained(build_model("llama").bfloat16(), tmp_path / "shira").merge_and_unload()
    expected = model.merge_and_unload()
    for (name, one), (_, other) in zip(merged.named_parameters(), expected.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_modules_to_save_come_along(
    build_model: Wrap, make_wrapped: Wrap, tokens: torch.Tensor, tmp_path: Path
) -> None:
    """Modules that were trained in full are part of the SHiRA adapter."""
    base = build_model("llama")
    model = make_wrapped(base, nearly_everything(base), modules_to_save=["lm_head"])
    with torch.no_grad():
        model.base_model.model.lm_head.modules_to_save["default"].weight.normal_()
    save_as_shira(model.base_model, tmp_path / "shira")
    loaded = PeftModel.from_pretrained(build_model("llama"), tmp_path / "shira")
    torch.testing.assert_close(loaded(tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-5)


def test_what_shira_does_not_have(gpt2: Any, llama: Any, make_wrapped: Wrap) -> None:
    """GPT-2's Conv1D and trainable tokens are refused with another way out."""
    with pytest.raises(UnsupportedModelError, match=r"is a Conv1D.*save_as_lora.*save_merged"):
        to_shira(make_wrapped(gpt2).base_model)
    with pytest.raises(UnsupportedModelError, match=r"trainable_token_indices.*save_merged"):
        to_shira(make_wrapped(llama, trainable_token_indices=[1]).base_model)


def test_folders(llama: Any, make_wrapped: Wrap, tmp_path: Path) -> None:
    """A folder with something in it is left alone unless overwrite=True."""
    model = make_wrapped(llama, nearly_everything(llama))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactExistsError, match="not empty"):
        save_as_shira(model.base_model, tmp_path)
    save_as_shira(model.base_model, tmp_path, overwrite=True)
    names = ["adapter_config.json", "adapter_model.safetensors", "notes.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
