"""Where the attention heads of a model lie in its weights.

A head is its rows in the query, key and value projections and its columns in the output projection. Where several query
heads share one key-value head (grouped-query attention), they and it are one group. Three layouts are known: separate
projections; one fused matrix with all queries, then all keys, then all values (GPT-2's c_attn, Phi-3's qkv_proj); and one
fused matrix with query, key and value of each head next to each other (query_key_value of GPT-NeoX, BLOOM, Persimmon).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from hf_langcore.architecture import Weight, decoder_weights, unwrap
from hf_langcore.errors import UnsupportedModelError
from hf_langcore.masks.groups import Slab, layer_of

Projections = Mapping[str, Mapping[str, Weight]]  # "q_proj" -> "weight" or "bias" -> weight

_SEPARATE = (("q_proj", "k_proj", "v_proj"), ("q", "k", "v"))
_FUSED = ("c_attn", "qkv_proj", "query_key_value")
_OUTPUTS = ("o_proj", "out_proj", "c_proj", "dense", "o")
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class HeadGroup:
    """One key-value head and the query heads that read it: one of them, or several with grouped-query attention.

    Attributes:
        layer: Number of the decoder layer.
        index: Number of the key-value head in its attention.
        queries: Number of the query head -> its rows in the query projection and its columns in the output projection.
        shared: Rows of the key and of the value projection.
    """

    layer: int
    index: int
    queries: Mapping[int, tuple[Slab, ...]]
    shared: tuple[Slab, ...]

    @property
    def slabs(self) -> tuple[Slab, ...]:
        """All weights of the group."""
        return (*(slab for one in self.queries.values() for slab in one), *self.shared)


def attention_heads(model: nn.Module) -> list[HeadGroup]:
    """The attention heads of all decoder layers, layer by layer.

    Layers without attention (of hybrid models) have none.

    Args:
        model: A causal LM, bare or wrapped.

    Raises:
        UnsupportedModelError: The model has no attention, or one whose layout is not known.
    """
    count = _number_of_heads(model)
    groups: list[HeadGroup] = []
    for prefix, projections in _attentions(decoder_weights(model, quantized=True)).items():
        layer = layer_of(f"{prefix}.")
        number = int(layer.rsplit(".", 1)[-1]) if layer else 0
        groups += _groups_of(prefix, number, projections, count)
    if not groups:
        raise UnsupportedModelError(
            f"{type(unwrap(model)).__name__} has no attention projections with known names ({', '.join(_SEPARATE[0])}, "
            f"{', '.join(_FUSED)}), so its heads cannot be told. Choose rows, columns or layers instead."
        )
    return groups


def _number_of_heads(model: nn.Module) -> int:
    config: Any = getattr(unwrap(model), "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    count = getattr(config, "num_attention_heads", None)
    if not isinstance(count, int):
        raise UnsupportedModelError(
            f"The config of {type(unwrap(model)).__name__} does not say how many attention heads a layer has "
            f"(num_attention_heads is {count!r}). Choose rows, columns or layers instead."
        )
    return count


def _attentions(weights: Mapping[str, Weight]) -> dict[str, dict[str, dict[str, Weight]]]:
    """Name of each attention module -> its projections, where names promise any."""
    modules: dict[str, dict[str, dict[str, Weight]]] = {}
    for name, weight in weights.items():
        path = name.split(".")
        if len(path) > _MATRIX and path[-1] in {"weight", "bias"}:
            modules.setdefault(".".join(path[:-2]), {}).setdefault(path[-2], {})[path[-1]] = weight
    return {prefix: modules[prefix] for prefix in modules if _is_attention(prefix, modules[prefix])}


def _is_attention(prefix: str, projections: Projections) -> bool:
    """Also an attention whose layout is not known, so that it is refused and not passed over."""
    known = any(set(names) <= projections.keys() for names in _SEPARATE) or any(one in projections for one in _FUSED)
    module = prefix.rsplit(".", 1)[-1].lower()
    has_matrices = any(one.get("weight") is not None and len(one["weight"].shape) > 1 for one in projections.values())
    return known or (("attn" in module or "attention" in module) and has_matrices)


def _groups_of(prefix: str, layer: int, projections: Projections, count: int) -> Iterator[HeadGroup]:
    """The groups of one attention module with `count` query heads."""
    output = next((projections[one]["weight"] for one in _OUTPUTS if one in projections), None)
    parts = None
    if output is not None and _inputs(output) % count == 0:
        parts = _separate(projections, count, _inputs(output)) or _fused(projections, count, _inputs(output))
    if output is None or parts is None:
        raise UnsupportedModelError(
            f"The layout of the attention {prefix!r} with {', '.join(projections)} is not known, so its heads cannot be told. "
            "Choose rows, columns or layers instead."
        )
    size = _inputs(output) // count
    queries, shared = parts
    share = count // len(shared)
    axis = output.storage_axis(1)
    for index, of_group in enumerate(shared):
        members = range(index * share, (index + 1) * share)
        columns = {head: Slab(output.name, axis, head * size, (head + 1) * size) for head in members}
        yield HeadGroup(layer, index, {head: (*queries[head], columns[head]) for head in members}, tuple(of_group))


Parts = tuple[list[list[Slab]], list[list[Slab]]]  # rows of each query head, rows of each key-value head


def _separate(projections: Projections, count: int, inputs: int) -> Parts | None:
    names = next((names for names in _SEPARATE if set(names) <= projections.keys()), None)
    if names is None:
        return None
    query, key, value = (projections[name] for name in names)
    groups = _rows(value) * count // inputs  # value heads are as long as what the output projection reads of each
    if not _divides(groups, count) or _rows(value) * count != groups * inputs:
        return None
    if _rows(query) % count or _rows(key) % groups:
        return None
    keys, values = _split(key, groups), _split(value, groups)
    return _split(query, count), [[*one, *other] for one, other in zip(keys, values, strict=True)]


def _fused(projections: Projections, count: int, inputs: int) -> Parts | None:
    name = next((name for name in _FUSED if name in projections), None)
    if name is None:
        return None
    fused = projections[name]
    if name == "query_key_value":
        return (_split(fused, count), [[] for _ in range(count)]) if _rows(fused) == 3 * inputs else None
    # Others than GPT-2 and Phi-3 use these names for other layouts: CodeGen's qkv_proj, GPT-BigCode's c_attn.
    is_known = fused["weight"].is_transposed if name == "c_attn" else "o_proj" in projections
    size = inputs // count
    groups = (_rows(fused) - inputs) // (2 * size)
    if not is_known or not _divides(groups, count) or _rows(fused) != inputs + 2 * groups * size:
        return None
    keys = _split(fused, groups, start=inputs, stop=inputs + groups * size)
    values = _split(fused, groups, start=inputs + groups * size)
    return _split(fused, count, stop=inputs), [[*one, *other] for one, other in zip(keys, values, strict=True)]


def _split(
    projection: Mapping[str, Weight], parts: int, *, start: int = 0, stop: int | None = None
) -> list[list[Slab]]:
    """The rows of a projection in equal parts, those of its bias with them."""
    size = ((_rows(projection) if stop is None else stop) - start) // parts
    axes = [(one.name, one.storage_axis(0)) for one in projection.values()]
    return [
        [Slab(name, axis, start + part * size, start + (part + 1) * size) for name, axis in axes]
        for part in range(parts)
    ]


def _divides(part: int, whole: int) -> bool:
    return part > 0 and whole % part == 0


def _rows(projection: Mapping[str, Weight]) -> int:
    weight = projection["weight"]
    return weight.shape[weight.storage_axis(0)]


def _inputs(weight: Weight) -> int:
    return weight.shape[weight.storage_axis(1)]
