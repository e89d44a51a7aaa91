"""Where an adapter's core mask comes from: a folder, a repository, the adapter's own files or the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import Weight, bare_weights
from hf_langcore.binding import provenance_of
from hf_langcore.errors import ConfigurationError, CoreMaskFormatError
from hf_langcore.hub.fetch import Repository, download_options
from hf_langcore.hub.references import commit_or_none
from hf_langcore.masks import CoreMask
from hf_langcore.masks.origin import HubOrigin, is_repository_id
from hf_langcore.masks.storage import CONFIG_FILE
from hf_langcore.tuner.dequantizing import dequantized

METHODS = ("magnitude", "random")


def load_core_mask(source: str, revision: str | None) -> CoreMask:
    """The mask in a folder or, where there is no such folder, in a Hub repository.

    Raises:
        ConfigurationError: A revision was given for a folder.
        InputError: There is no mask.
        HubError: The repository cannot be read.
    """
    if revision is not None and not is_repository_id(source):
        raise ConfigurationError(
            f"core_mask_revision={revision!r} needs a Hub repository, but core_mask={source!r} is a folder, which "
            "has no revisions. Leave core_mask_revision out."
        )
    return CoreMask.from_pretrained(source, revision=revision)


def saved_core_mask(
    location: str, subfolder: str | None, description: dict[str, Any], download: Mapping[str, Any]
) -> CoreMask | dict[str, Any]:
    """The mask that was saved beside an adapter's config, or its description where only that was saved.

    Args:
        location: Folder or repository of the adapter.
        subfolder: Folder in it.
        description: What the config says of the mask; see `describe`.
        download: Options of `hf_hub_download`, as the config was loaded with.

    Raises:
        CoreMaskFormatError: The files are not those that the config describes.
        HubError: The repository cannot be read.
    """
    folder = Path(location, subfolder or "")
    options = download_options(download)
    if not folder.is_dir():
        is_there = Repository(location, subfolder=subfolder, **options).has(CONFIG_FILE)
    else:
        is_there, options = (folder / CONFIG_FILE).is_file(), {}
    if not is_there:
        return description  # the bits also travel in the adapter's weights
    core_mask = CoreMask.from_pretrained(location, subfolder=subfolder, **options)
    if core_mask.digest() != description["digest"]:
        raise CoreMaskFormatError(
            f"The core mask of {str(folder)!r} is not the one that the adapter was trained with: its digest is "
            f"{core_mask.digest()[:16]}..., adapter_config.json names {str(description['digest'])[:16]}... Download the "
            "adapter again."
        )
    # It was loaded from the adapter's files; where it can be had without the adapter is more worth knowing.
    return core_mask.with_origin(_origin(description) or core_mask.origin)


def computed_core_mask(
    model: nn.Module, weights: Mapping[str, Weight], *, method: str, fraction: float, seed: int
) -> CoreMask:
    """A mask from the weights alone.

    Args:
        model: The model, bare or wrapped.
        weights: Those of its weights that the mask is to cover.
        method: "magnitude" takes the largest weights of every tensor, "random" any.
        fraction: Share of every tensor, strictly between 0 and 1.
        seed: For "random".
    """
    which = "random" if method == "random" else "top"
    # One tensor at a time: absolute values of a whole model would be a second copy of it.
    planes = {
        name: CoreMask.from_scores(
            {name: _magnitudes(weight, method)}, fraction=fraction, which=which, seed=seed
        ).packed(name)
        for name, weight in weights.items()
    }
    provenance = provenance_of(model, weights, method=method)
    return CoreMask(planes, provenance=provenance.selected(which=which, fraction=fraction, seed=seed))


def _magnitudes(weight: Weight, method: str) -> torch.Tensor:
    if not weight.is_quantized:
        return weight.parameter.detach().abs()
    if method == "random":
        return torch.empty(weight.shape, device="meta")  # only the shape counts
    return dequantized(weight.name, weight.owner).abs()


def united(left: CoreMask, right: CoreMask) -> CoreMask:
    """The union of two masks of one model, which may cover different tensors."""
    if left.shapes() == right.shapes():
        return left | right
    planes = {name: mask.packed(name) for mask in (right, left) for name in mask}
    planes |= {name: left.packed(name) | right.packed(name) for name in left.keys() & right.keys()}
    transposed = dict.fromkeys([*left.provenance.transposed, *right.provenance.transposed])
    provenance = left.provenance.combined("|", right.provenance)
    return CoreMask(planes, provenance=replace(provenance, transposed=tuple(transposed)))


def in_todays_names(core_mask: CoreMask, model: nn.Module) -> CoreMask:
    """A mask under the names that the model's parameters have now, where transformers has renamed them since.

    Args:
        core_mask: The mask, perhaps under old names.
        model: A model; transformers keeps the rules (pattern -> replacement) as its `_checkpoint_conversion_mapping`.

    Returns:
        The mask itself where its names fit already. A renamed one has no fingerprint, which holds names, too.
    """
    rules = getattr(model, "_checkpoint_conversion_mapping", None) or {}
    present = bare_weights(model)
    if not rules or all(name in present for name in core_mask):
        return core_mask
    names = {name: _renamed(name, rules) for name in core_mask}
    if not all(name in present for name in names.values()):
        return core_mask
    transposed = tuple(names.get(name, name) for name in core_mask.provenance.transposed)
    provenance = replace(core_mask.provenance, base_fingerprint=None, transposed=transposed)
    return CoreMask({names[name]: core_mask.packed(name) for name in core_mask}, provenance=provenance)


def _renamed(name: str, rules: Mapping[str, str]) -> str:
    """By the first rule that applies, as transformers and PEFT do it."""
    for pattern, replacement in rules.items():
        new, count = re.subn(pattern, replacement, name)
        if count:
            return new
    return name


def without_paths(core_mask: CoreMask) -> CoreMask:
    """A mask as an adapter's folder holds it, which is often pushed as it is: of a folder of this machine only the name."""
    source = core_mask.provenance
    if source.base_model is None or not Path(source.base_model).is_absolute():
        return core_mask
    named = core_mask.with_provenance(replace(source, base_model=Path(source.base_model).name or None))
    return named.with_origin(core_mask.origin)


def describe(core_mask: CoreMask) -> dict[str, Any]:
    """What adapter_config.json says of a mask: identity, size and origin, never its bits and no path of this machine."""
    core_mask = without_paths(core_mask)
    provenance = core_mask.provenance.to_dict()
    print_ = core_mask.provenance.base_fingerprint
    if print_ is not None:
        # The digest of every single tensor would be most of the file; core_mask_config.json has them.
        provenance["base_fingerprint"] = {"algorithm": print_.algorithm, "total": print_.total}
    return {
        "digest": core_mask.digest(),
        "weights": core_mask.numel(),
        "core_weights": core_mask.count(),
        "provenance": provenance,
        **({} if core_mask.origin is None else {"origin": asdict(core_mask.origin)}),
    }


def _origin(description: Mapping[str, Any]) -> HubOrigin | None:
    """Where on the Hub the mask lay when the adapter was saved, if the description says so in the right form."""
    given = description.get("origin")
    if not isinstance(given, Mapping) or not all(isinstance(given.get(key), str) for key in ("repo_id", "revision")):
        return None
    is_right = is_repository_id(given["repo_id"]) and commit_or_none(given["revision"]) is not None
    return HubOrigin(given["repo_id"], given["revision"]) if is_right else None
