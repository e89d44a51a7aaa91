"""`export_core_mask`: a mask in a form that other projects read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from torch import nn

from hf_langcore.binding import bind
from hf_langcore.errors import ArtifactExistsError, ConfigurationError, InputError
from hf_langcore.exchange.boolean_file import write_boolean_file
from hf_langcore.exchange.dominated import check_threshold, dominated
from hf_langcore.exchange.mergekit import merge_config
from hf_langcore.exchange.quantizer import ignore_lists, matrices_by_module
from hf_langcore.files import replace_file, replace_text
from hf_langcore.masks import CoreMask

ExportFormat = Literal["tensors", "quantizer", "mergekit"]

_LOST = (
    "# mergekit takes one weight for each tensor and no mask within one: a tensor below is taken whole from the one model or\n"
    "# from the other. `langcore merge` merges weight by weight, also after a merge with mergekit.\n"
)


def export_core_mask(
    core_mask: CoreMask,
    path: str | Path,
    *,
    format: str,  # noqa: A002 the word that users know
    threshold: float | None = None,
    model: nn.Module | None = None,
    core_from: str | None = None,
    complement_from: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a mask for other projects, all or nothing. What they cannot express is lost; nothing else is.

    - "tensors": one boolean tensor for each parameter, safetensors. One byte a weight, written piece by piece; exact.
    - "quantizer": JSON with the modules that a quantiser is to leave in high precision, under the names of the options of
      transformers (`llm_int8_skip_modules`, `modules_to_not_convert`), compressed-tensors and llm-compressor (`ignore`) and
      GPTQModel (`dynamic`). Whole modules; the LM head is among them, since a list of one's own replaces the default that
      keeps it.
    - "mergekit": a `linear` merge that takes tensors with core weights from the one model and all others from the other.
      Whole tensors.

    Args:
        core_mask: The mask.
        path: The file to write.
        format: One of the three.
        threshold: For "quantizer" and "mergekit": a module or tensor counts as core from this share of core weights on,
            larger than 0, at most 1; None counts it from the first core weight on. Masks with the same share in every
            tensor need another mask or none: either all of them count or none.
        model: For "quantizer": the model, whose head is named in the lists; "lm_head" if None. The mask has to fit it.
        core_from: For "mergekit": folder or Hub id of the model whose core is kept; the mask's base model if None.
        complement_from: For "mergekit": folder or Hub id of the model of which everything else is taken.
        overwrite: Replace a file that is there.

    Raises:
        ArtifactExistsError: The file exists and `overwrite` is False, or it is a folder.
        InputError: `format` or `threshold` is wrong.
        ConfigurationError: An option is missing, or given for another format.
        CoreMaskMismatchError: The mask does not fit `model`.
    """
    if format not in get_args(ExportFormat):
        raise InputError(f"format must be one of {list(get_args(ExportFormat))}, got {format!r}.")
    given = {"threshold": threshold, "model": model, "core_from": core_from, "complement_from": complement_from}
    _require_known(format, given)
    target = _free(path, overwrite=overwrite)
    if format == "tensors":
        replace_file(target, lambda temporary: write_boolean_file(core_mask, temporary))
    elif format == "quantizer":
        lists = _lists(core_mask, check_threshold(threshold), model)
        replace_text(target, json.dumps(lists, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        config = _merge(core_mask, check_threshold(threshold), core_from, complement_from)
        replace_text(target, _LOST + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120))


_OPTIONS: dict[str, set[str]] = {
    "tensors": set(),
    "quantizer": {"threshold", "model"},
    "mergekit": {"threshold", "core_from", "complement_from"},
}


def _require_known(format: str, given: dict[str, Any]) -> None:  # noqa: A002 see above
    odd = [name for name, value in given.items() if value is not None and name not in _OPTIONS[format]]
    if odd:
        takes = ", ".join(sorted(_OPTIONS[format])) or "no options"
        raise ConfigurationError(f"format={format!r} takes {takes}, got {', '.join(odd)}. Leave it out.")


def _free(path: str | Path, *, overwrite: bool) -> Path:
    target = Path(path).resolve()
    if target.is_dir():
        raise ArtifactExistsError(f"Cannot write to {str(target)!r}: it is a folder. Name a file.")
    if target.exists() and not overwrite:
        raise ArtifactExistsError(
            f"{str(target)!r} exists. Name another file, or pass overwrite=True (--overwrite) to replace it."
        )
    return target


def _lists(core_mask: CoreMask, threshold: float | None, model: nn.Module | None) -> dict[str, Any]:
    if model is not None:
        bind(model, core_mask)
    modules = matrices_by_module(core_mask)
    chosen = dominated(core_mask, modules, threshold)
    _warn(len(chosen), len(modules), "module", "the quantiser would leave nothing to quantise", "keep nothing for it")
    return ignore_lists(core_mask, chosen, model, threshold=threshold)


def _merge(
    core_mask: CoreMask, threshold: float | None, core_from: str | None, complement_from: str | None
) -> dict[str, Any]:
    core_from = core_from or core_mask.provenance.base_model
    if core_from is None or complement_from is None:
        raise ConfigurationError(
            f"mergekit needs two models, folders or Hub ids: complement_from is {complement_from!r}, core_from is {core_from!r} (if "
            "it is not given, the model that the mask was found on). Name what is None."
        )
    chosen = dominated(core_mask, {name: [name] for name in core_mask}, threshold)
    _warn(
        len(chosen), len(core_mask), "tensor", f"everything that it covers would come from {core_from!r}", "take none"
    )
    return merge_config(core_mask, list(chosen), core_from=core_from, complement_from=complement_from)


def _warn(chosen: int, of: int, word: str, everything: str, nothing: str) -> None:
    """A list of all or of nothing is seldom what was meant."""
    if chosen in {0, of}:
        share, result = ("all", everything) if chosen else ("none", nothing)
        warnings.warn(
            f"With this threshold {share} of the {of} {word}s of the mask count as core: {result}. Choose another one; a "
            "mask with the same share in every tensor has none that tells them apart.",
            stacklevel=4,
        )
