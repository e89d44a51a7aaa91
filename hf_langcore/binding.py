"""Does this mask belong to this model? Checked before anything is edited, trained or wrapped."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import metadata
from typing import Literal, get_args

from torch import nn

from hf_langcore._version import __version__
from hf_langcore.architecture import Weight, bare_weights, unwrap
from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.masks import CoreMask, Fingerprint, Provenance, fingerprint

BaseCheck = Literal["error", "warn", "off"]

_VERSIONED = ("torch", "transformers", "numpy")

LINEAGE_ATTRIBUTE = "core_region_lineage"
"""Name of the list in a model's config that holds the fingerprints of the weights that it was trained from."""


def bind(model: nn.Module, core_mask: CoreMask, *, base_check: str = "error") -> dict[str, Weight]:
    """The weights that `core_mask` covers, after checking that it was found on this model.

    Names and shapes must always fit. The fingerprint of the weights must fit too, unless the model says that it
    was derived from the mask's base (training with a frozen core records that in the config).

    Args:
        model: A bare or wrapped model.
        core_mask: The mask.
        base_check: "error", "warn" or "off": what to do when the weights are not those that the mask was found on.

    Raises:
        CoreMaskMismatchError: Names, shapes or weights do not fit.
        InputError: `base_check` is none of the three.
    """
    if base_check not in get_args(BaseCheck):
        raise InputError(f"base_check must be one of {list(get_args(BaseCheck))}, got {base_check!r}.")
    weights = _covered(model, core_mask)
    expected = core_mask.provenance.base_fingerprint
    if base_check != "off" and expected is not None:
        problem = _other_weights(model, weights, core_mask, expected)
        if problem and base_check == "error":
            raise CoreMaskMismatchError(problem)
        if problem:
            warnings.warn(problem, stacklevel=3)
    return weights


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
    return Provenance(
        method=method,
        base_model=getattr(config, "_name_or_path", None) or None,
        base_revision=getattr(config, "_commit_hash", None),
        base_fingerprint=fingerprint({name: weight.parameter for name, weight in weights.items()}),
        transposed=tuple(name for name, weight in weights.items() if weight.is_transposed),
        versions={"hf_langcore": __version__, **{name: metadata.version(name) for name in _VERSIONED}},
    )


def _covered(model: nn.Module, core_mask: CoreMask) -> dict[str, Weight]:
    weights = bare_weights(model)
    missing = [name for name in core_mask if name not in weights]
    if missing:
        raise CoreMaskMismatchError(
            f"The mask is for another architecture: {len(missing)} of its {len(core_mask)} tensors are not in "
            f"{type(unwrap(model)).__name__}, the first is {missing[0]!r}. {_origin(core_mask)}"
        )
    for name, shape in core_mask.shapes().items():
        if tuple(weights[name].parameter.shape) != shape:
            raise CoreMaskMismatchError(
                f"The mask does not fit the model: {name!r} has shape {tuple(weights[name].parameter.shape)}, "
                f"the mask {shape}. {_origin(core_mask)}"
            )
    return {name: weights[name] for name in core_mask}


def _other_weights(
    model: nn.Module, weights: dict[str, Weight], core_mask: CoreMask, expected: Fingerprint
) -> str | None:
    lineage = getattr(getattr(unwrap(model), "config", None), LINEAGE_ATTRIBUTE, None) or []
    if expected.total in lineage:
        return None
    floating = {name: weight.parameter for name, weight in weights.items() if weight.parameter.dtype.is_floating_point}
    if len(floating) < len(weights):
        return None  # quantised weights have no fingerprint; repository and revision are all there is
    actual = fingerprint(floating)
    differing = [name for name in expected.differing(actual) if name in weights]
    if not differing:
        return None
    return (
        f"The mask was found on other weights of the same architecture: {len(differing)} of {len(weights)} tensors "
        f"differ, the first is {differing[0]!r}. {_origin(core_mask)} If the model was fine-tuned from that base on "
        'purpose, pass base_check="warn" or "off".'
    )


def _origin(core_mask: CoreMask) -> str:
    source = core_mask.provenance
    revision = f" at revision {source.base_revision}" if source.base_revision else ""
    return (
        f"It was made on {source.base_model!r}{revision}: load that model, or compute a mask for this one with "
        "compute_core_mask."
    )
