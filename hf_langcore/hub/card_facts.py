"""What a mask's card says about the mask itself: how it was found and where it lies, as Markdown tables."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib import metadata

from hf_langcore._version import __version__
from hf_langcore.hub.markdown import model_link, table
from hf_langcore.hub.references import public_base
from hf_langcore.masks import CoreMask

_DIMENSIONS = 10
_AXES = ("row (output)", "column (input)")
_PACKAGES = ("torch", "transformers", "huggingface_hub", "numpy", "safetensors")

_METHODS = {
    "taylor": "abs(sum over batches of gradient * weight) for each language, summed over languages",
    "taylor_abs": "sum over batches of abs(gradient * weight), summed over languages",
    "fisher": "mean over batches of the squared gradient (empirical Fisher information), summed over languages",
    "weight_change": "abs(ΔW) / abs(W), summed over checkpoints that were trained further in one language each",
    "magnitude": "abs(W): a control, no text was read",
    "wanda": "abs(W) * the norm of the input feature",
    "random": "drawn at random: a control, no core",
}


def how_it_was_found(core_mask: CoreMask) -> str:
    """Method, share, texts, seed."""
    source = core_mask.provenance
    base, revision = public_base(core_mask)
    tokens = sum(source.tokens.values())
    rows = [
        ("base model", model_link(base, revision, otherwise="a model that is not on the Hub")),
        ("method", f"`{source.method}`{_meaning(source.method)}"),
        ("made of other masks", source.operation),
        ("chosen", _chosen(core_mask)),
        ("languages", f"{len(source.tokens)}: {', '.join(source.languages)}" if source.tokens else None),
        ("tokens", f"{tokens:,} in all: {_each(core_mask)}" if source.tokens else None),
        ("block size", f"{source.block_size:,} tokens, start token included" if source.block_size else None),
        ("batch size", f"{source.batch_size:,} blocks" if source.batch_size else None),
        ("seed", source.seed),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(source.versions.items())) or None),
    ]
    return table(("", ""), [row for row in rows if row[1] is not None])


def facts(core_mask: CoreMask) -> str:
    """Size and density."""
    count, size = core_mask.count(), core_mask.numel()
    rows = [
        ("weights in the covered tensors", f"{size:,}"),
        ("core weights", f"{count:,}"),
        ("density", percent(core_mask.density())),
        ("tensors", f"{len(core_mask):,}"),
    ]
    return table(("", ""), rows, right=1)


def by_kind(core_mask: CoreMask) -> str:
    """How much of the mask lies in each kind of weight, over all layers."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in core_mask:
        kinds[re.sub(r"(?<=\.)\d+(?=\.)", "*", name)].append(name)
    rows = []
    for kind, names in kinds.items():
        count, size = sum(map(core_mask.count, names)), sum(core_mask.packed(name).size for name in names)
        share = count / size if size else 0.0
        rows.append((f"`{kind}`", f"{len(names):,}", f"{size:,}", f"{count:,}", percent(share)))
    return table(("kind of weight", "tensors", "weights", "core weights", "density"), rows, right=4)


def dimensions(core_mask: CoreMask) -> str:
    """The rows, columns and single weights in which the mask concentrates; empty where it does not."""
    rows = [
        (
            f"`{one.parameter}`",
            "single weight" if one.size == 1 else _axis(one.axis, len(core_mask.packed(one.parameter).shape)),
            f"{one.index:,}",
            f"{one.count:,} of {one.size:,}",
        )
        for one in core_mask.dimensions(limit=_DIMENSIONS)
    ]
    return table(("tensor", "dimension", "index", "core weights"), rows, right=2) if rows else ""


def pins(core_mask: CoreMask) -> str:
    """What the mask is tied to."""
    source = core_mask.provenance
    base, revision = public_base(core_mask)
    print_ = source.base_fingerprint
    rows = [
        ("base model", f"`{base}` @ `{revision}`" if base and revision else f"`{base}`" if base else "not on the Hub"),
        ("fingerprint of its weights", f"`{print_.total}` ({print_.algorithm})" if print_ else "none"),
        ("digest of the mask", f"`{core_mask.digest()}`"),
    ]
    return table(("", ""), rows)


def frameworks() -> str:
    """The versions that wrote the card."""
    versions = [f"- hf_langcore: {__version__}", *(f"- {name}: {metadata.version(name)}" for name in _PACKAGES)]
    return "\n".join(versions)


def percent(share: float) -> str:
    """A share with three significant digits."""
    return f"{100 * share:.3g} %"


def _meaning(method: str) -> str:
    return f": {_METHODS[method]}" if method in _METHODS else ""


def _chosen(core_mask: CoreMask) -> str | None:
    source = core_mask.provenance
    if source.which is None or source.fraction is None:
        return None
    which = {"top": "the highest scores", "bottom": "the lowest scores"}.get(source.which, "at random")
    unit = source.granularity or "single weights"
    where = "of the model" if source.granularity in {"heads", "layers"} else "of every tensor"
    return f"{percent(source.fraction)} {where}, {unit}, {which}"


def _each(core_mask: CoreMask) -> str:
    return ", ".join(f"{language} {count:,}" for language, count in core_mask.provenance.tokens.items())


def _axis(axis: int, ndim: int) -> str:
    return _AXES[axis] if ndim == len(_AXES) else f"axis {axis}"
