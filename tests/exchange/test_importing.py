from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from hf_langcore.binding import bind
from hf_langcore.errors import (
    ConfigurationError,
    CoreMaskFormatError,
    CoreMaskMismatchError,
    InputError,
    LangCoreError,
)
from hf_langcore.exchange import export_core_mask, import_core_mask

Save = Callable[..., Path]
ROWS = {"layers.1.self_attn.q_proj.weight": torch.eye(32).bool()}


def test_the_mask_is_pinned_to_the_weights(llama: Any, saved: Save) -> None:
    mask = import_core_mask(saved(ROWS), llama)
    source = mask.provenance
    assert (source.method, source.base_model) == ("given", llama.config._name_or_path or None)
    assert source.base_fingerprint is not None
    assert source.versions["torch"] == torch.__version__
    bind(llama, mask)
    with torch.no_grad():
        llama.model.layers[1].self_attn.q_proj.weight.add_(1)
    with pytest.raises(CoreMaskMismatchError):
        bind(llama, mask)


def test_a_model_without_values(gpt2: Any, make_mask: Any, tmp_path: Path) -> None:
    """Names, shapes and orientation are known, weights are not: the mask is not pinned to any."""
    mask = make_mask(gpt2)
    export_core_mask(mask, tmp_path / "f", format="tensors")
    with torch.device("meta"):
        empty = type(gpt2)(gpt2.config)
    found = import_core_mask(tmp_path / "f", empty)
    assert found.digest() == mask.digest()
    assert found.provenance.base_fingerprint is None
    assert found.provenance.transposed == import_core_mask(tmp_path / "f", gpt2).provenance.transposed != ()
    bind(gpt2, found)
    found.save_pretrained(tmp_path / "saved")


def test_wrapped_models(llama: Any, saved: Save) -> None:
    path = saved(ROWS)
    mask = import_core_mask(path, llama)
    wrapped = get_peft_model(llama, LoraConfig(target_modules=["q_proj"]))
    assert import_core_mask(path, wrapped) == mask


def test_masks_are_kept(llama: Any, saved: Save, tmp_path: Path) -> None:
    mask = import_core_mask(saved(ROWS), llama)
    mask.save_pretrained(tmp_path / "mask")
    again = type(mask).from_pretrained(tmp_path / "mask")
    assert (again, again.provenance.operation) == (mask, mask.provenance.operation)


@pytest.mark.parametrize("options", [{"language": 0}, {"languages": ["en"]}, {"parts": "rows"}])
def test_options_of_another_format(options: dict[str, Any], llama: Any, saved: Save) -> None:
    with pytest.raises(ConfigurationError, match=r"are for lape neuron lists, and .* is tensors"):
        import_core_mask(saved(ROWS), llama, **options)


def test_wrong_arguments(llama: Any, saved: Save) -> None:
    with pytest.raises(InputError, match="format must be one of"):
        import_core_mask(saved(ROWS), llama, format="pickle")
    with pytest.raises(InputError, match="Expected a model object"):
        import_core_mask(saved(ROWS), "llama")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="There is no 'nowhere'"):
        import_core_mask("nowhere", llama)


class Hostile:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("made"),)


@pytest.mark.parametrize("format_", [None, "lape", "sparse_diff", "tensors", "shira"])
@pytest.mark.parametrize("nested", [lambda bad: bad, lambda bad: [[bad]], lambda bad: {"diffs": {"w": bad}}])
def test_no_code_is_run(
    format_: str | None, nested: Any, llama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of a file that asks for it anywhere in it."""
    monkeypatch.chdir(tmp_path)
    torch.save(nested(Hostile()), tmp_path / "foreign.pth")
    with pytest.raises(CoreMaskFormatError, match="Nothing was run"):
        import_core_mask(tmp_path / "foreign.pth", llama, format=format_)
    assert not (tmp_path / "made").exists()


def test_a_hostile_pickle_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Hostile()))  # noqa: S301 that is the point
    assert (tmp_path / "made").exists()


@given(st.data())
def test_damage_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Changed, missing and added bytes in every kind of file: a mask or one of our errors, never another one."""
    files = _files()
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    place = data.draw(st.integers(0, len(content) - 1))
    stop = data.draw(st.sampled_from([place, place + 1, place + 8, len(content)]))
    content[place:stop] = data.draw(st.binary(max_size=8))
    path = tmp_path_factory.mktemp("damage") / name
    path.write_bytes(content)
    with suppress(LangCoreError):
        assert import_core_mask(path, _tiny(), format=data.draw(st.sampled_from([None, "tensors"]))).numel()


@cache
def _tiny() -> Any:
    config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    with torch.device("meta"):
        return LlamaForCausalLM(config)


@cache
def _files() -> dict[str, bytes]:
    """One whole file of each kind."""
    name, core = "model.layers.0.mlp.up_proj.weight", torch.eye(16, 8)
    steps = {"size": core.size(), "index_steps": [np.int64(0), *[17] * 7], "values": torch.ones(8)}
    shira = {"weight": torch.ones(8), "indices": torch.arange(8).expand(2, 8).contiguous()}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        torch.save([[torch.tensor([1, 15])], [torch.tensor([], dtype=torch.int64)]], place / "neurons.pth")
        torch.save({"diffs": {name: steps}, "abs": {}}, place / "pytorch_diff.bin")
        torch.save({name: core.bool()}, place / "mask.pt")
        save_file({name: core.bool()}, place / "mask.safetensors")
        layer = name.removesuffix(".weight")
        save_file({f"{layer}.shira_{key}": value for key, value in shira.items()}, place / "shira.safetensors")
        np.savez_compressed(place / "mask.npz", **{name: core.bool().numpy()})
        np.save(place / f"{name}.npy", core.bool().numpy())
        for path in place.iterdir():
            assert import_core_mask(path, _tiny()).count()
        return {path.name: path.read_bytes() for path in place.iterdir()}
