"""What the exports have in common: the adapter's layers, other things that it trained, and the folder to write."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer, check_target_module_exists
from peft.utils import SAFETENSORS_WEIGHTS_NAME, AuxiliaryTrainingWrapper
from safetensors.torch import save_file
from torch import nn

from hf_langcore.errors import InputError, LangCoreError, NonFiniteError, UnsupportedModelError
from hf_langcore.files import new_folder
from hf_langcore.tuner.embedding import CoreRegionEmbedding
from hf_langcore.tuner.layer import CoreRegionLayer
from hf_langcore.tuner.saving import as_peft_model

PREFIX = "base_model.model."
"""Before the names of all modules in PEFT's adapter files."""

ADAPTER_CONFIG = "adapter_config.json"

_ADAPTER_WEIGHTS = r"adapter_model\.(safetensors|bin)"


class ExportError(LangCoreError, ValueError):
    """The adapter's change does not fit into the wanted format; the message says what does not and what would."""


def chosen_adapter(tuner: Any, adapter_name: str | None) -> str:
    """The named adapter, or the active one.

    Raises:
        InputError: There is no such adapter, or none or several are active.
    """
    if adapter_name is not None:
        require_adapters(tuner, [adapter_name])
        return adapter_name
    active = list(tuner.active_adapters)
    if len(active) != 1:
        raise InputError(
            f"One adapter can be exported at a time, but {active} are active. Name it: adapter_name="
            f"{next(iter(tuner.peft_config), None)!r}. Several together fit into a merged checkpoint (save_merged)."
        )
    return str(active[0])


def require_adapters(tuner: Any, names: Sequence[str]) -> None:
    """Refuse names of adapters that do not exist.

    Raises:
        InputError: There is no such adapter.
    """
    unknown = [name for name in names if name not in tuner.peft_config]
    if unknown:
        raise InputError(f"The model has no adapter {unknown[0]!r}; it has {sorted(tuner.peft_config)}.")


def adapter_layers(tuner: Any, adapter_name: str) -> list[tuple[str, CoreRegionLayer]]:
    """The layers that an adapter changes, by their name in the bare model.

    Raises:
        UnsupportedModelError: There are layers of another PEFT method.
    """
    found = []
    for key, module in _base_modules(tuner.model):
        if isinstance(module, BaseTunerLayer):
            require_own(key, module)
        if isinstance(module, CoreRegionLayer) and any(
            adapter_name in one.core_region_mask for one in _nested(module)
        ):
            found.append((key, module))
    return found


def require_own(key: str, module: nn.Module) -> None:
    """Refuse layers of other PEFT methods.

    Raises:
        UnsupportedModelError: `module` is or contains one.
    """
    layers = _nested(module)
    other = layers[-1].base_layer if layers else module
    if isinstance(other, BaseTunerLayer):
        raise UnsupportedModelError(
            f"Module {key!r} has adapters of another PEFT method ({type(other).__name__}), which an export of CORE_REGION "
            "adapters cannot write. Unload them first."
        )


def oriented(layer: CoreRegionLayer, matrix: torch.Tensor) -> torch.Tensor:
    """A stored matrix in nn.Linear's orientation, (out, in); a view."""
    return matrix.mT if layer.fan_in_fan_out else matrix


def masked_change(key: str, layer: CoreRegionLayer, adapter_name: str) -> torch.Tensor:
    """What the adapter adds to the weight, (out, in), float32 or wider; exactly 0 in the core.

    Raises:
        NonFiniteError: It contains NaN or infinity.
    """
    with torch.no_grad():
        change = oriented(layer, layer.get_delta_weight(adapter_name))
    if not bool(change.isfinite().all()):
        raise NonFiniteError(
            f"The change of {key!r} by adapter {adapter_name!r} contains NaN or infinity. The adapter is broken: export "
            "an earlier checkpoint of it."
        )
    return change


def trained_in_full(tuner: Any, adapter_name: str, layers: Sequence[tuple[str, CoreRegionLayer]]) -> dict[str, Any]:
    """Weights of `modules_to_save` and trainable tokens under the names of PEFT's files, as every method saves them."""
    # Where embeddings are adapted, PEFT's "auto" would add their base weights to the file.
    embeddings = any(isinstance(layer, CoreRegionEmbedding) for _, layer in layers)
    saved = get_peft_model_state_dict(
        as_peft_model(tuner), adapter_name=adapter_name, save_embedding_layers=False if embeddings else "auto"
    )
    return {key: value.detach().clone() for key, value in saved.items() if ".core_region_" not in key}


def set_targets(config: Any, tuner: Any, keys: Sequence[str]) -> None:
    """Set `target_modules` of another method's config so that it means these modules and no other.

    Endings as short as people write them where that is possible, else full names, else a regular expression (one full
    name may be the ending of another).
    """
    names = [name for name, _ in _base_modules(tuner.model)]
    candidates: list[Any] = [{key.rpartition(".")[2] for key in keys}, set(keys), "|".join(map(re.escape, keys))]
    for candidate in candidates:
        config.target_modules = candidate
        if {name for name in names if check_target_module_exists(config, name)} == set(keys):
            return


def common_options(tuner: Any, adapter_name: str) -> dict[str, Any]:
    """Fields that the configs of all PEFT methods share."""
    config = tuner.peft_config[adapter_name]
    return {
        "task_type": config.task_type,
        "base_model_name_or_path": config.base_model_name_or_path,
        "revision": config.revision,
        "inference_mode": True,
        "modules_to_save": None if config.modules_to_save is None else list(config.modules_to_save),
    }


def save_adapter(folder: str | Path, config: Any, state_dict: dict[str, torch.Tensor], *, overwrite: bool) -> None:
    """Write an adapter as PEFT does: adapter_config.json and adapter_model.safetensors, both or neither.

    Raises:
        ArtifactExistsError: See `new_folder`.
    """
    with new_folder(folder, overwrite=overwrite, last=ADAPTER_CONFIG, stale=_ADAPTER_WEIGHTS) as staging:
        save_file(state_dict, staging / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
        config.save_pretrained(str(staging))


def _nested(layer: nn.Module) -> list[CoreRegionLayer]:
    """A layer and those inside it: several adapted parameters of one module wrap one another."""
    layers = []
    while isinstance(layer, CoreRegionLayer):
        layers.append(layer)
        layer = layer.base_layer
    return layers


def _base_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules by their name in the bare model; PEFT's layers and wrappers stand for what is inside them."""
    covers: tuple[str, ...] = ()
    for key, module in model.named_modules():
        if key and not key.startswith(covers or ("\0",)):
            yield key, module
            if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)):
                covers = (*covers, f"{key}.")
