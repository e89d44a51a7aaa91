"""Does this mask belong to this model? Checked before anything is edited, trained or wrapped."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Literal, get_args

import torch
from torch import nn

from hf_langcore._version import __version__
from hf_langcore.architecture import Weight, bare_weights, unwrap
from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.masks import CoreMask, Provenance, fingerprint
from hf_langcore.masks.fingerprint import digest_of
from hf_langcore.masks.origin import is_repository_id

BaseCheck = Literal["error", "warn", "off"]

_VERSIONED = ("torch", "transformers", "numpy")

LINEAGE_ATTRIBUTE = "core_region_lineage"
"""Name of the list in a model's config that holds the fingerprints of the weights that it was trained from."""


def bind(
    model: nn.Module,
    core_mask: CoreMask,
    *,
    base_check: str = "error",
    value_of: Callable[[Weight], torch.Tensor] | None = None,
) -> dict[str, Weight]:
    """The weights that `core_mask` covers, after checking that it was found on this model.

    Names and shapes must always fit. The fingerprint of the weights must fit too, unless the model says that it
    was derived from the mask's base (training with a frozen core records that in the config). Of quantised weights
    the names of the repositories are compared instead. Revisions must be the same wherever both are known.

    Args:
        model: A bare or wrapped model.
        core_mask: The mask.
        base_check: "error", "warn" or "off": what to do when the weights are not those that the mask was found on.
        value_of: Gives the values to be checked where these are not the weight's current ones (under an open edit) or
            where this process holds only a part of them.

    Raises:
        CoreMaskMismatchError: Names, shapes or weights do not fit.
        InputError: `base_check` is none of the three.
    """
    if base_check not in get_args(BaseCheck):
        raise InputError(f"base_check must be one of {list(get_args(BaseCheck))}, got {base_check!r}.")
    weights = _covered(model, core_mask)
    if base_check != "off":
        problem = _other_weights(model, weights, core_mask, value_of or _current)
        if problem and base_check == "error":
            raise CoreMaskMismatchError(problem)
        if problem:
            warnings.warn(problem, stacklevel=3)
    return weights


def fits_base(
    model: nn.Module, core_mask: CoreMask, *, value_of: Callable[[Weight], torch.Tensor] | None = None
) -> bool:
    """Whether the model's weights are those that the mask was found on, or derived from them by recorded training.

    Args:
        model: A bare or wrapped model.
        core_mask: The mask.
        value_of: As in `bind`.

    Raises:
        CoreMaskMismatchError: Names or shapes do not fit.
    """
    return _other_weights(model, _covered(model, core_mask), core_mask, value_of or _current) is None


def record_lineage(model: nn.Module, core_mask: CoreMask) -> None:
    """Note in the model's config that its weights are about to be trained from the mask's base.

    The note travels with `save_pretrained`, so that the mask keeps fitting the trained model.
    """
    expected = core_mask.provenance.base_fingerprint
    config = getattr(unwrap(model), "config", None)
    if config is not None and expected is not None:
        lineage = list(getattr(config, LINEAGE_ATTRIBUTE, None) or [])
        if expected.total not in lineage:
            setattr(config, LINEAGE_ATTRIBUTE, [*lineage, expected.total])


def provenance_of(model: nn.Module, weights: Mapping[str, Weight], *, method: str) -> Provenance:
    """Where scores or a mask of `weights` come from: model, revision, fingerprint, layout, versions.

    Args:
        model: The model, bare or wrapped.
        weights: The weights that are scored.
        method: The scorer.
    """
    config = getattr(unwrap(model), "config", None)
    parameters = {name: weight.parameter for name, weight in weights.items()}
    # Codes of another library are no weights: the same base has others in every way of quantising it.
    is_quantized = any(weight.is_quantized for weight in weights.values())
    return Provenance(
        method=method,
        base_model=getattr(config, "_name_or_path", None) or None,
        base_revision=getattr(config, "_commit_hash", None),
        base_fingerprint=None if is_quantized else fingerprint(parameters),
        transposed=tuple(name for name, weight in weights.items() if weight.is_transposed),
        versions={"hf_langcore": __version__, **{name: metadata.version(name) for name in _VERSIONED}},
    )


def weights_digest(model: nn.Module) -> str:
    """A digest of every bit of every parameter, in their dtypes: the identity of a model for kept results."""
    digest = hashlib.blake2b(digest_size=32)
    for name, weight in bare_weights(model).items():
        parameter = weight.parameter.detach()
        digest.update(f"{name}|{parameter.dtype}|{list(parameter.shape)}|".encode())
        digest.update(parameter.contiguous().view(-1).view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()


def _covered(model: nn.Module, core_mask: CoreMask) -> dict[str, Weight]:
    weights = bare_weights(model)
    missing = [name for name in core_mask if name not in weights]
    if missing:
        raise CoreMaskMismatchError(
            f"The mask is for another architecture: {len(missing)} of its {len(core_mask)} tensors are not in "
            f"{type(unwrap(model)).__name__}, the first is {missing[0]!r}. {_origin(core_mask)}"
        )
    for name, shape in core_mask.shapes().items():
        if weights[name].shape != shape:
            raise CoreMaskMismatchError(
                f"The mask does not fit the model: {name!r} has shape {weights[name].shape}, "
                f"the mask {shape}. {_origin(core_mask)}"
            )
    return {name: weights[name] for name in core_mask}


def _current(weight: Weight) -> torch.Tensor:
    return weight.parameter


def _other_weights(
    model: nn.Module, weights: dict[str, Weight], core_mask: CoreMask, value_of: Callable[[Weight], torch.Tensor]
) -> str | None:
    """What is wrong with the weights, or None where they are those of the mask or derived from them."""
    expected = core_mask.provenance.base_fingerprint
    config = getattr(unwrap(model), "config", None)
    if expected is not None and expected.total in (getattr(config, LINEAGE_ATTRIBUTE, None) or []):
        return None
    wanted, found = core_mask.provenance.base_revision, getattr(config, "_commit_hash", None)
    if wanted and found and wanted != found:
        # A fingerprint samples the weights, so that it cannot vouch for another revision.
        return (
            f"The mask was found on revision {wanted} of {core_mask.provenance.base_model!r}, the model is of revision "
            f"{found}. Load the model with revision={wanted!r}, or, if the two differ in other files than the weights, pass "
            'base_check="warn" or "off".'
        )
    if expected is None:
        return None
    if any(weight.is_quantized for weight in weights.values()):
        return _other_repository(model, core_mask)
    names = [name for name in expected.tensors if name in weights]
    differing = [name for name in names if digest_of(name, value_of(weights[name])) != expected.tensors[name]]
    if not differing:
        return None
    return (
        f"The mask was found on other weights of the same architecture: {len(differing)} of {len(weights)} tensors "
        f"differ, the first is {differing[0]!r}. {_origin(core_mask)} If the model was fine-tuned from that base on "
        'purpose, pass base_check="warn" or "off".'
    )


def _other_repository(model: nn.Module, core_mask: CoreMask) -> str | None:
    """Quantised weights have no fingerprint that could be compared, so that only the repository can tell.

    Other revisions are found before. Where both are known and agree, the repository has been renamed at most; a folder may
    hold a copy of any repository.
    """
    source, config = core_mask.provenance, getattr(unwrap(model), "config", None)
    wanted, found = source.base_model, getattr(config, "_name_or_path", None)
    is_same_revision = source.base_revision is not None and source.base_revision == getattr(
        config, "_commit_hash", None
    )
    if is_same_revision or wanted == found or not (is_repository_id(wanted or "") and is_repository_id(found or "")):
        return None
    return (
        f"The mask was made on {wanted!r}, the quantised model is {found!r}. Load that model, or pass "
        'base_check="warn" or "off" if it is the same one under another name.'
    )


def _origin(core_mask: CoreMask) -> str:
    source = core_mask.provenance
    revision = f" at revision {source.base_revision}" if source.base_revision else ""
    return (
        f"It was made on {source.base_model!r}{revision}: load that model, or compute a mask for this one with "
        "compute_core_mask."
    )
