from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import ShiraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from hf_langcore.errors import CoreMaskFormatError, CoreMaskMismatchError, InputError
from hf_langcore.exchange import import_core_mask
from hf_langcore.masks import CoreMask
from hf_langcore.tuner import CoreRegionConfig

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled:UserWarning")
UP = "base_model.model.model.layers.0.mlp.up_proj"


@pytest.fixture
def adapter(llama: Any, tmp_path: Path) -> tuple[Path, Any]:
    """What PEFT itself writes, and the model that wrote it."""
    config = ShiraConfig(r=1, target_modules=["q_proj", "up_proj"], random_seed=3, modules_to_save=["lm_head"])
    wrapped = get_peft_model(llama, config)
    wrapped.save_pretrained(tmp_path / "shira")
    return tmp_path / "shira", wrapped


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of the first layer's up_proj."""
    tensors = load_file(folder / "adapter_model.safetensors")
    for name, tensor in changes.items():
        tensors.pop(f"{UP}.shira_{name}")
        if tensor is not None:
            tensors[f"{UP}.shira_{name}"] = tensor
    save_file(tensors, folder / "adapter_model.safetensors")


def test_what_peft_writes(adapter: tuple[Path, Any]) -> None:
    """The mask is where the adapter's change may be, and all of the modules that are trained in full."""
    folder, wrapped = adapter
    mask = import_core_mask(folder, wrapped)
    layers = {
        name: module for name, module in wrapped.base_model.model.named_modules() if hasattr(module, "shira_indices")
    }
    assert set(mask) == {*(f"{name}.weight" for name in layers), "lm_head.weight"}
    for name, layer in layers.items():
        layer.shira_weight["default"].data.fill_(1)
        assert torch.equal(mask[f"{name}.weight"], layer.get_delta_weight("default").to_dense().bool())
    assert mask.density("lm_head.weight") == 1
    assert str(mask.provenance.operation).startswith("imported shira adapter's trained weights")
    config = json.loads((folder / "adapter_config.json").read_text())
    for base, shown in (
        ("me/base", "of me/base,"),
        ("/home/me/models/base", "of base,"),
        ("C:\\me\\base", "of base,"),
    ):
        (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
        assert shown in str(import_core_mask(folder, wrapped).provenance.operation)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    bare = wrapped.unload()
    assert import_core_mask(folder, bare, format="shira") == mask
    assert import_core_mask(folder / "adapter_model.safetensors", bare) == mask


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_our_own_adapters_as_shira(suffix: str, llama: Any, tmp_path: Path, make_mask: Any) -> None:
    """The import of save_as_shira's output is the complement of the core where the core is nearly everything."""
    core = ~make_mask(llama, density=0.02, seed=1)
    config = CoreRegionConfig(core_mask=core, r=0, target_modules=["q_proj", "up_proj"], init_weights=False)
    model = get_peft_model(llama, config)
    model.base_model.save_as_shira(tmp_path / "out")
    if suffix == "bin":
        path = tmp_path / "out" / "adapter_model.safetensors"
        torch.save(load_file(path), path.with_suffix(".bin"))
        path.unlink()
    found = import_core_mask(tmp_path / "out", llama)
    assert set(found) == {name for name in core if "q_proj" in name or "up_proj" in name}
    complement = (~core).restricted_to(set(found))
    trained = json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"]
    for name in found:
        # Every layer has r * (in + out) entries: all that changed, and as many others as fill the list.
        assert found.count(name) == trained * sum(found.shapes()[name])
        assert (complement.packed(name) - found.packed(name)).count() == 0


def test_windows_indices(adapter: tuple[Path, Any]) -> None:
    folder, wrapped = adapter
    expected = import_core_mask(folder, wrapped)
    indices = load_file(folder / "adapter_model.safetensors")[f"{UP}.shira_indices"]
    rewrite(folder, indices=indices.float())
    assert import_core_mask(folder, wrapped) == expected


def change(tensor: torch.Tensor, value: float) -> torch.Tensor:
    tensor = tensor.clone()
    tensor.view(-1)[0] = value
    return tensor


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"indices": None}, "no shira_weight or no shira_indices"),
        ({"weight": None}, "no shira_weight or no shira_indices"),
        ({"indices": lambda old: old[:, :-1].contiguous()}, "its indices"),
        ({"indices": lambda old: torch.cat([old, old])}, "its indices"),
        ({"indices": lambda old: change(old, 48)}, "outside 0 to 47"),
        ({"indices": lambda old: change(old, -1)}, "outside 0 to 47"),
        ({"indices": torch.zeros_like}, "stands twice"),
        ({"indices": lambda old: change(old.float(), float("nan"))}, "no whole numbers"),
        ({"weight": lambda old: change(old, float("nan"))}, "NaN"),
        ({"weight": lambda old: old[None]}, "its values have shape"),
    ],
)
def test_damaged_adapters(changes: dict[str, Any], reason: str, adapter: tuple[Path, Any]) -> None:
    folder, wrapped = adapter
    tensors = load_file(folder / "adapter_model.safetensors")
    rewrite(folder, **{k: make and make(tensors[f"{UP}.shira_{k}"]) for k, make in changes.items()})
    with pytest.raises(CoreMaskFormatError, match=reason):
        import_core_mask(folder, wrapped)


def test_more_values_than_weights(adapter: tuple[Path, Any]) -> None:
    folder, wrapped = adapter
    rewrite(folder, weight=torch.ones(2000), indices=torch.zeros(2, 2000, dtype=torch.int32))
    with pytest.raises(CoreMaskFormatError, match="in 1,536 weights"):
        import_core_mask(folder, wrapped)


def test_adapters_of_other_models(adapter: tuple[Path, Any], gpt2: Any) -> None:
    with pytest.raises(CoreMaskMismatchError, match="GPT2LMHeadModel has no such parameter"):
        import_core_mask(adapter[0], gpt2)


def test_other_adapters(adapter: tuple[Path, Any], llama: Any, tmp_path: Path) -> None:
    folder, _ = adapter
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    for content, error, reason in [
        (json.dumps({**config, "peft_type": "LORA"}), InputError, "type 'LORA'"),
        ("[1]", InputError, "type None"),
        ("{", CoreMaskFormatError, "cannot be read"),
        ("[" * 100_000, CoreMaskFormatError, "cannot be read"),
        (" " * (1 << 20) + "{}", CoreMaskFormatError, "at most"),
    ]:
        path.write_text(content)
        with pytest.raises(error, match=reason):
            import_core_mask(folder, llama)
    path.write_text(json.dumps(config))
    save_file({"lm_head.weight": torch.ones(2)}, folder / "adapter_model.safetensors")
    with pytest.raises(InputError, match="no SHiRA weights"):
        import_core_mask(folder, llama)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="Download all of it"):
        import_core_mask(folder, llama)


def test_modules_in_full_have_to_fit(adapter: tuple[Path, Any], llama: Any) -> None:
    folder, wrapped = adapter
    path = folder / "adapter_model.safetensors"
    save_file(load_file(path) | {"base_model.model.lm_head.weight": torch.ones(2, 2)}, path)
    with pytest.raises(CoreMaskMismatchError, match="lm_head"):
        import_core_mask(folder, wrapped)


def test_a_mask_of_trained_weights_has_a_complement(adapter: tuple[Path, Any]) -> None:
    folder, wrapped = adapter
    mask = import_core_mask(folder, wrapped)
    assert isinstance(mask.complement(), CoreMask)
    assert mask.complement().count() == mask.numel() - mask.count()
