from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hf_langcore.errors import CoreMaskFormatError, CoreMaskMismatchError, InputError
from hf_langcore.exchange import export_core_mask, import_core_mask

Save = Callable[..., Path]


def write_folder(tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    """One file for each parameter, as the published regions are."""
    folder.mkdir()
    for name, tensor in tensors.items():
        torch.save(tensor, folder / f"{name}.pt")
    return folder


def write_shards(tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    folder.mkdir()
    names = list(tensors)
    for number, part in enumerate((names[:3], names[3:])):
        save_file({name: tensors[name] for name in part}, folder / f"mask-{number}.safetensors")
    return folder


def write_safetensors(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    save_file(tensors, path)
    return path


def write_numpy(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    np.savez_compressed(f"{path}.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    return path.with_name(f"{path.name}.npz")


def write_torch(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save(tensors, path)
    return path


def write_nested(tensors: dict[str, torch.Tensor], path: Path) -> Path:
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in tensors.items()}}, path)
    return path


WRITERS = [write_folder, write_shards, write_safetensors, write_numpy, write_torch, write_nested]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_every_kind_of_file(write: Any, dtype: torch.dtype, model: Any, make_mask: Any, tmp_path: Path) -> None:
    mask = make_mask(model)
    path = write({name: mask[name].to(dtype) for name in mask}, tmp_path / "foreign")
    found = import_core_mask(path, model)
    assert found.digest() == mask.digest()
    assert found.provenance.operation == f"imported boolean tensors, from {path.name!r}"


def test_part_of_a_model(llama: Any, tmp_path: Path) -> None:
    """What a file does not name is not covered."""
    path = write_safetensors({"layers.1.self_attn.q_proj.weight": torch.eye(32).bool()}, tmp_path / "f")
    mask = import_core_mask(path, llama)
    assert mask.shapes() == {"model.layers.1.self_attn.q_proj.weight": (32, 32)}
    assert mask.count() == 32


def test_floats_need_a_word(llama: Any, tmp_path: Path) -> None:
    path = write_safetensors({"layers.1.self_attn.q_proj.weight": torch.eye(32)}, tmp_path / "f")
    with pytest.raises(InputError, match='format="tensors" takes 0 and 1 only'):
        import_core_mask(path, llama)
    assert import_core_mask(path, llama, format="tensors").count() == 32


def test_conv1d_as_linear(gpt2: Any, make_mask: Any, saved: Save) -> None:
    """Matrices that are not square tell that a file has (out, in), so that square ones are turned, too."""
    mask = make_mask(gpt2)
    turned = {name: mask[name].t().contiguous() if "c_" in name and "weight" in name else mask[name] for name in mask}
    square = "transformer.h.0.attn.c_proj.weight"
    assert not torch.equal(turned[square], mask[square])
    assert import_core_mask(saved(turned), gpt2).digest() == mask.digest()
    alone = import_core_mask(saved({square: mask[square]}), gpt2)
    assert torch.equal(alone[square], mask[square])
    mixed = {**turned, "transformer.h.0.mlp.c_fc.weight": mask["transformer.h.0.mlp.c_fc.weight"]}
    with pytest.raises(CoreMaskMismatchError, match=r"and 'transformer\.h\.0\.mlp\.c_fc\.weight' otherwise"):
        import_core_mask(saved(mixed), gpt2)


def test_linear_layers_are_not_turned(llama: Any, saved: Save) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(CoreMaskMismatchError, match=r"\(48, 32\), and the file's tensor \(32, 48\)"):
        import_core_mask(saved({name: torch.zeros(32, 48, dtype=torch.bool)}), llama)


def test_huge_declared_shapes(llama: Any, tmp_path: Path) -> None:
    """Shapes are compared before anything of their size is allocated."""
    name = "model.layers.0.mlp.up_proj.weight"
    np.save(tmp_path / f"{name}.npy", np.zeros((2, 2), dtype=bool))
    path = tmp_path / f"{name}.npy"
    path.write_bytes(path.read_bytes().replace(b"(2, 2), }" + b" " * 20, b"(1048576, 10485760), }" + b" " * 7))
    with pytest.raises(CoreMaskMismatchError, match="1048576, 10485760"):
        import_core_mask(path, llama)


def test_tied_names(gpt2: Any, saved: Save) -> None:
    """A state dict names tied parameters twice; both have to say the same."""
    core = torch.rand(120, 32) < 0.5
    both = {"transformer.wte.weight": core, "lm_head.weight": core.clone()}
    assert list(import_core_mask(saved(both), gpt2)) == ["transformer.wte.weight"]
    both["lm_head.weight"][0] = ~core[0]
    with pytest.raises(CoreMaskFormatError, match="says otherwise"):
        import_core_mask(saved(both), gpt2)


@pytest.mark.parametrize("value", [2, -1, 255])
def test_values_that_no_mask_has(value: int, llama: Any, saved: Save) -> None:
    core = torch.zeros(32, 32, dtype=torch.int16)
    core[3, 4] = value
    with pytest.raises(CoreMaskFormatError, match="0 and 1 only"):
        import_core_mask(saved({"layers.1.self_attn.q_proj.weight": core}), llama)


def test_contents_that_are_no_tensors(llama: Any, saved: Save) -> None:
    with pytest.raises(InputError, match="holds no tensors by parameter name"):
        import_core_mask(saved([torch.ones(2)]), llama, format="tensors")
    with pytest.raises(InputError, match=r'is sparse\. Pass format="sparse_diff"'):
        import_core_mask(saved({"a": torch.eye(3).to_sparse()}), llama, format="tensors")


def test_our_own_files_notice_a_changed_bit(llama: Any, make_mask: Any, tmp_path: Path) -> None:
    """Safetensors have no checksum, so the digest of the mask stands in the ones that are written here."""
    path = tmp_path / "core.safetensors"
    export_core_mask(make_mask(llama), path, format="tensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CoreMaskFormatError, match="another one than the digest in the file"):
        import_core_mask(path, llama)
    export_core_mask(make_mask(llama), path, format="tensors", overwrite=True)
    assert next(iter(import_core_mask(path, llama.model))).startswith("layers.")
