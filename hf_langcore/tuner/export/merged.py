"""A merged, ordinary transformers checkpoint, written shard by shard from a model that stays as it is.

Only what adapters change is computed, and only for the shard that is being written; everything else goes from the model
to the file without a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_utils import remove_tied_weights_from_state_dict

from hf_langcore.architecture import bare_weights, require_editable
from hf_langcore.binding import LINEAGE_ATTRIBUTE
from hf_langcore.editing.conversion import CONFIG, MODEL_WEIGHTS, FileForm, save_shards
from hf_langcore.errors import ArtifactExistsError, InputError, UnsupportedModelError
from hf_langcore.files import new_folder, require_free
from hf_langcore.masks import CoreMask
from hf_langcore.tuner.export.parts import ADAPTER_CONFIG, require_adapters
from hf_langcore.tuner.export.state import Entry, merged_state


def save_merged(
    tuner: Any,
    folder: str | Path,
    *,
    adapter_names: Sequence[str] | None = None,
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
) -> None:
    """See `AdapterExport.save_merged`."""
    names = _chosen(tuner, adapter_names)
    _require_savable(tuner)
    _require_no_adapter(require_free(folder, overwrite=overwrite))
    model: PreTrainedModel = tuner.model
    state = merged_state(model, names)
    config = _config(model, state, [tuner.peft_config[name].core_mask for name in names])
    written = _without_aliases(model, state)
    form = _file_form(model, written)
    parameters = sum(each.stored.numel() for each in written.values() if isinstance(each.stored, torch.nn.Parameter))
    with new_folder(folder, overwrite=overwrite, last=CONFIG, stale=MODEL_WEIGHTS) as staging:
        save_shards(
            staging,
            form.layout,
            lambda keys: form.convert(lambda name: written[name].value().cpu(), keys),
            max_shard_size=max_shard_size,
            metadata={"total_parameters": parameters},
        )
        if model.is_remote_code():
            custom_object_save(model, staging, config=config)
        config.save_pretrained(staging)
        if model.can_generate():
            model.generation_config.save_pretrained(staging)


def _file_form(model: PreTrainedModel, state: Mapping[str, Entry]) -> FileForm:
    try:
        return FileForm(model, {name: entry.stored for name, entry in state.items()})
    except UnsupportedModelError as error:
        raise UnsupportedModelError(
            f"{error} Use merge_and_unload().save_pretrained(...), which needs memory for all of them."
        ) from error


def _chosen(tuner: Any, adapter_names: Sequence[str] | None) -> list[str]:
    if isinstance(adapter_names, str):
        raise InputError(f"adapter_names takes a list of names, got {adapter_names!r}. Write [{adapter_names!r}].")
    names = list(dict.fromkeys(tuner.active_adapters if adapter_names is None else adapter_names))
    require_adapters(tuner, names)
    if not names:
        raise InputError(
            "No adapter is to be merged, so the checkpoint would be the base model. Name adapters, or activate one."
        )
    return names


def _require_savable(tuner: Any) -> None:
    """Refuse models whose weights cannot be written as they are.

    Raises:
        UnsupportedModelError: It is no transformers model, is quantised, or has weights without values.
    """
    model = tuner.model
    if not isinstance(model, PreTrainedModel):
        raise UnsupportedModelError(
            f"save_merged writes transformers models, and {type(model).__name__} is none. Use merge_and_unload() and save "
            "what it returns."
        )
    if getattr(model, "hf_quantizer", None) is not None:
        raise UnsupportedModelError(
            "The base model is quantised: a merged checkpoint would have to quantise the sums again, which changes core "
            "weights too. Load the base in bfloat16 or float32, load the adapter onto it and save that."
        )
    for weight in bare_weights(tuner).values():
        require_editable(weight)


def _require_no_adapter(target: Path) -> None:
    if (target / ADAPTER_CONFIG).exists():
        raise ArtifactExistsError(
            f"{str(target)!r} holds an adapter, which transformers would load on top of the merged checkpoint. Name "
            "another folder."
        )


def _without_aliases(model: PreTrainedModel, state: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries to be written: of tied ones that which transformers keeps, and none that it never saves."""
    ignored = set(model._keys_to_ignore_on_save or ())  # noqa: SLF001
    # Tied tensors are recognised by their memory. What adapters change gets a place of its own.
    places = {entry.identity: torch.empty(1) for entry in state.values() if entry.change is not None}
    memory = {
        name: places.get(entry.identity, entry.stored.detach()) for name, entry in state.items() if name not in ignored
    }
    return {name: state[name] for name in remove_tied_weights_from_state_dict(memory, model)}


def _config(model: PreTrainedModel, state: Mapping[str, Entry], masks: Sequence[Any]) -> Any:
    """The config of the merged model: a copy, as `save_pretrained` and `merge_and_unload` would have changed it."""
    config = copy.deepcopy(model.config)
    floating = (entry.stored.dtype for entry in state.values() if entry.stored.dtype.is_floating_point)
    config.dtype = str(next(floating)).removeprefix("torch.")
    config.architectures = [type(model).__name__.removeprefix("FSDP")]
    if getattr(config, "tie_word_embeddings", False) and not _embeddings_are_tied(model, state):
        config.tie_word_embeddings = False
    lineage = [*(getattr(config, LINEAGE_ATTRIBUTE, None) or []), *filter(None, map(_base_of, masks))]
    if lineage:
        # As in training with a frozen core: the masks go on fitting, because the core is what it was.
        setattr(config, LINEAGE_ATTRIBUTE, list(dict.fromkeys(lineage)))
    return config


def _embeddings_are_tied(model: PreTrainedModel, state: Mapping[str, Entry]) -> bool:
    names = {id(module): name for name, module in model.named_modules()}
    pair = [
        state.get(f"{names.get(id(module))}.weight")
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
    ]
    return any(entry is None for entry in pair) or len({entry.identity for entry in pair if entry is not None}) == 1


def _base_of(core_mask: Any) -> str | None:
    """Fingerprint of the weights that a mask was found on."""
    if isinstance(core_mask, CoreMask):
        found = core_mask.provenance.base_fingerprint
        return None if found is None else found.total
    described = core_mask["provenance"].get("base_fingerprint") or {}
    total: str | None = described.get("total")
    return total
