"""Masks of other projects, as `import_core_mask` reads them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from artifact import Files, Kind, content_of
from json_damage import JSON_DAMAGES, VALUES
from kinds_masks import BYTES, written
from safetensors.torch import load_file, save_file
from safetensors_damage import SAFETENSORS_DAMAGES, join, split
from zip_damage import archive_damage, npy_bomb, pickle_damage, program

from hf_langcore.exchange import import_core_mask
from hf_langcore.exchange.names import Parameters

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"
NEURONS, HIDDEN = 24, 16
SHIRA_WEIGHTS, SHIRA_CONFIG = "adapter_model.safetensors", "adapter_config.json"
ZIPS = {"archives": archive_damage, "programs in pickles": program, "pickles": pickle_damage}


def _build() -> Any:
    """A Llama without values: names and shapes are enough."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32,
        hidden_size=HIDDEN,
        intermediate_size=NEURONS,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def _loader(format_: str | None = None) -> tuple[Any, Callable[[Path], Any]]:
    model = _build()

    def load(folder: Path) -> Any:
        mask = import_core_mask(folder, model, format=format_)
        return {name: mask[name].tolist() for name in mask}

    return model, load


def _core(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.2


def lape() -> Kind:
    """Lists of neurons."""
    neurons = [[torch.tensor([1, 5, 7])], [torch.tensor([0, 23])]]
    files = written(lambda folder: torch.save(neurons, folder / "neurons.pth"))
    return Kind("LAPE neurons (.pth)", (files,), _loader("lape")[1], {**BYTES, **ZIPS})


def sparse_differences() -> Kind:
    """Composable sparse fine-tunings."""
    steps = {"size": [NEURONS, HIDDEN], "index_steps": [3, 4, 9], "values": torch.tensor([0.5, -1.0, 2.0])}
    sparse = _core((HIDDEN, NEURONS), 1).float().to_sparse()
    content = {"diffs": {UP: steps, DOWN: sparse}, "abs": {}}
    files = written(lambda folder: torch.save(content, folder / "pytorch_diff.bin"))
    return Kind("sparse differences (.bin)", (files,), _loader("sparse_diff")[1], {**BYTES, **ZIPS})


def booleans() -> Kind:
    """Boolean tensors in safetensors, which have no checksum."""
    model, load = _loader()

    def reference(folder: Path) -> Any:
        tensors = load_file(folder / "core.safetensors")
        assert all(
            bool(((value.view(torch.uint8) if value.dtype is torch.bool else value) <= 1).all())
            for value in tensors.values()
        )
        return _by_parameter(model, {name: value != 0 for name, value in tensors.items()})

    tensors = {UP: _core((NEURONS, HIDDEN), 0), DOWN: _core((HIDDEN, NEURONS), 1)}
    files = written(lambda folder: save_file(tensors, folder / "core.safetensors"))
    return Kind("boolean safetensors", (files,), load, {**BYTES, **SAFETENSORS_DAMAGES}, reference)


def arrays() -> Kind:
    """Boolean arrays of numpy, one for each parameter, or in an archive with checksums."""
    model, load = _loader()

    def reference(folder: Path) -> Any:
        found: dict[str, Any] = {}
        for path in folder.iterdir():
            loaded = np.load(path, allow_pickle=False)
            found |= {path.name.removesuffix(".npy"): loaded} if path.suffix == ".npy" else dict(loaded)
        assert all((value <= 1).all() for value in found.values())
        return _by_parameter(model, {name: torch.from_numpy(value != 0) for name, value in found.items()})

    tensors = {UP: _core((NEURONS, HIDDEN), 0).numpy(), DOWN: _core((HIDDEN, NEURONS), 1).numpy()}
    apart = written(lambda folder: [np.save(folder / f"{name}.npy", value) for name, value in tensors.items()])
    together = written(lambda folder: np.savez(folder / "core.npz", **tensors))
    return Kind("boolean arrays (.npy, .npz)", (apart, together), load, {**BYTES, "header bombs": npy_bomb}, reference)


def shira() -> Kind:
    """SHiRA adapters, which have no checksum."""
    model, load = _loader()
    layer = "base_model.model.model.layers.0.mlp.up_proj"

    def save(folder: Path) -> None:
        indices = torch.stack([torch.tensor([0, 3, 20]), torch.tensor([1, 2, 15])]).int()
        save_file(
            {f"{layer}.shira_weight": torch.tensor([0.5, 1.0, 0.0]), f"{layer}.shira_indices": indices},
            folder / SHIRA_WEIGHTS,
        )
        (folder / SHIRA_CONFIG).write_text(
            json.dumps({"peft_type": "SHIRA", "base_model_name_or_path": "me/model", "r": 2})
        )

    def reference(folder: Path) -> Any:
        tensors = load_file(folder / SHIRA_WEIGHTS)
        rows, columns = tensors.pop(f"{layer}.shira_indices").long()
        assert tensors.pop(f"{layer}.shira_weight").isfinite().all()
        assert not tensors
        found = torch.zeros(NEURONS, HIDDEN, dtype=torch.bool)
        found[rows, columns] = True
        assert int(found.sum()) == rows.numel()
        assert min(int(rows.min()), int(columns.min())) >= 0
        return _by_parameter(model, {UP: found})

    def indices(rng: random.Random, files: Files) -> Files:
        """Places outside the matrix, or the same one twice."""
        header, data = split(content_of(files, SHIRA_WEIGHTS))
        start, stop = header[f"{layer}.shira_indices"]["data_offsets"]
        values = np.frombuffer(data[start:stop], np.int32).copy()
        values[rng.randrange(values.size)] = rng.choice((-1, NEURONS, 2**31 - 1, -(2**31), 16))
        if rng.random() < 0.3:
            values[:] = 1
        return {**files, SHIRA_WEIGHTS: join(header, data[:start] + values.tobytes() + data[stop:])}

    def config(rng: random.Random, files: Files) -> Files:
        """Nonsense in the adapter's config."""
        values = rng.choice(
            (
                {"peft_type": rng.choice(VALUES)},
                {"peft_type": "SHIRA", "base_model_name_or_path": rng.choice(VALUES)},
                [],
                5,
            )
        )
        return {**files, SHIRA_CONFIG: json.dumps(values).encode()}

    damages = {**BYTES, **JSON_DAMAGES, **SAFETENSORS_DAMAGES, "places outside": indices, "adapter's config": config}
    damages.pop("other versions")
    return Kind("SHiRA adapter", (written(save),), load, damages, reference)


def _by_parameter(model: Any, tensors: dict[str, torch.Tensor]) -> Any:
    parameters = Parameters(model)
    return {parameters.find(name, source="a file").name: value.tolist() for name, value in tensors.items()}
