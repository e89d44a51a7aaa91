"""Masks from plain words: which norms, biases, dimensions, rows, columns, heads and layers are to be frozen."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from hf_langcore.architecture import Weight, bare_weights, decoder_weights, find_weight
from hf_langcore.binding import provenance_of
from hf_langcore.errors import InputError
from hf_langcore.heads import attention_heads
from hf_langcore.masks import CoreMask
from hf_langcore.masks.groups import Slab, fill, layer_of

Indices = Mapping[str, int | Iterable[int]]

_AXES = {"rows": 0, "columns": 1}
_MATRIX = 2


def freeze_mask(
    model: nn.Module,
    *,
    norms: bool = False,
    biases: bool = False,
    parameters: str | Iterable[str] = (),
    dimensions: Iterable[Any] = (),
    rows: Indices | None = None,
    columns: Indices | None = None,
    heads: Mapping[int, int | Iterable[int]] | None = None,
    layers: int | Iterable[int] = (),
) -> CoreMask:
    """A mask of what is named: to freeze, to protect or to edit. Several words add up.

    The mask covers all decoder layers and every other tensor that is named, so that `|` combines it with any mask of
    the same model: `core_mask | freeze_mask(model, norms=True)`.

    Args:
        model: A causal LM, bare or wrapped.
        norms: All weights of all norms, their biases and the final norm included.
        biases: All bias vectors, those of norms included.
        parameters: Names of parameters, of modules (which means their `.weight`), or patterns with `*`, `?` and `[...]`
            such as "model.layers.*.mlp.down_proj.weight".
        dimensions: Single dimensions: (name, index) of a vector, (name, index, axis) of a matrix in nn.Linear
            orientation (axis 0 = an output, 1 = an input), single weights (name, (row, column)), or objects with
            `parameter`, `axis` and `index`, such as
            `find_critical_dimensions` and `CoreMask.dimensions` return.
        rows: Name of a matrix -> its rows, the outputs of the linear map.
        columns: Name of a matrix -> its columns, the inputs of the linear map.
        heads: Number of a decoder layer -> numbers of its query heads. A head is its rows in the query, key and value
            projections and its columns in the output projection; with grouped-query attention the key-value head that it
            reads belongs to it, which other query heads may read too.
        layers: Numbers of decoder layers; all their tensors.

    Returns:
        The mask, with the fingerprint of the weights that it covers.

    Raises:
        InputError: Nothing is named, or a name, index or number that the model does not have.
        UnsupportedModelError: A name is the second one of a tied parameter, or the layout of the heads is not known.

    Example:
        >>> mask = freeze_mask(model, norms=True, heads={0: [3, 5]}, layers=[1])  # doctest: +SKIP
    """
    words = {
        "norms": [_whole(weight) for weight in _norms(model)] if norms else [],
        "biases": [_whole(weight) for weight in _biases(model)] if biases else [],
        "parameters": [_whole(weight) for weight in _matching(model, _several(parameters))],
        "dimensions": [_dimension(model, one) for one in _listed(dimensions)],
        "rows": list(_slices(model, rows or {}, "rows")),
        "columns": list(_slices(model, columns or {}, "columns")),
        "heads": list(_heads(model, heads or {})),
        "layers": list(_layers(model, _several(layers))),
    }
    slabs = [slab for chosen in words.values() for slab in chosen]
    if not slabs:
        raise InputError(
            "freeze_mask names nothing: expected norms=True, biases=True, parameters=[...], dimensions=[...], rows={...}, "
            "columns={...}, heads={...} or layers=[...], or the model has none of what was named."
        )
    weights = bare_weights(model)
    covered = {*decoder_weights(model, quantized=True), *(slab.parameter for slab in slabs)}
    chosen = {name: weight for name, weight in weights.items() if name in covered}
    planes = fill({name: weight.shape for name, weight in chosen.items()}, slabs)
    said = " + ".join(word for word, found in words.items() if found)
    return CoreMask(
        planes, provenance=replace(provenance_of(model, chosen, method="given"), operation=f"given {said}")
    )


def _whole(weight: Weight) -> Slab:
    return Slab(weight.name, 0, 0, weight.shape[0] if weight.shape else 1)


def _norms(model: nn.Module) -> list[Weight]:
    weights = bare_weights(model).values()
    return [weight for weight in weights if "norm" in type(weight.owner).__name__.lower() and len(weight.shape) == 1]


def _biases(model: nn.Module) -> list[Weight]:
    weights = bare_weights(model).values()
    return [weight for weight in weights if weight.name.rsplit(".", 1)[-1] == "bias" and len(weight.shape) == 1]


def _matching(model: nn.Module, patterns: Sequence[Any]) -> Iterator[Weight]:
    weights = bare_weights(model)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise InputError(f"parameters takes names and patterns of names, got {pattern!r}.")
        found = [weight for name, weight in weights.items() if fnmatchcase(name, pattern)]
        if not found and _is_pattern(pattern):
            near = ", ".join(map(repr, _nearest(pattern, weights)))
            raise InputError(
                f"No parameter matches {pattern!r}. Nearest names: {near or 'none'}. Patterns match the "
                "whole name: '*norm*' finds a norm anywhere."
            )
        yield from found or [find_weight(model, pattern)]


def _is_pattern(word: str) -> bool:
    return any(sign in word for sign in "*?[")


def _nearest(pattern: str, names: Iterable[str]) -> list[str]:
    """Names that resemble a pattern in its parts without signs, counted from the end; one of each kind."""
    parts = list(enumerate(reversed(pattern.split(".")), start=1))
    plain = [place for place, part in parts if not _is_pattern(part)]

    def words(name: str) -> str:
        path = name.split(".")
        return ".".join(path[-place] for place in reversed(plain) if place <= len(path))

    kinds = {words(name): name for name in names} if plain else {}
    return [kinds[kind] for kind in difflib.get_close_matches(words(pattern), kinds, n=4, cutoff=0.4)]


def _listed(dimensions: Any) -> Iterable[Any]:
    if isinstance(dimensions, str) or not isinstance(dimensions, Iterable):
        raise InputError(f"dimensions= is a list of dimensions, such as [(name, index)], got {dimensions!r}.")
    return dimensions


def _dimension(model: nn.Module, given: Any) -> Slab:
    if all(hasattr(given, field) for field in ("parameter", "axis", "index")):
        name, index, axis = given.parameter, given.index, given.axis
    elif isinstance(given, (tuple, list)) and len(given) in {2, 3}:
        name, index, axis = (*given, None)[:3]
    else:
        raise InputError(
            f"A dimension is (name, index), (name, index, axis) or an object with parameter, axis and index, got {given!r}."
        )
    weight = find_weight(model, str(name))
    dims = len(weight.shape)
    if isinstance(index, (tuple, list)):
        return _entry(weight, index)
    if axis is None and dims > 1:
        raise InputError(
            f"{weight.name!r} has shape {weight.shape}: say which axis, ({weight.name!r}, {index!r}, axis). 0 is an output (a "
            "row), 1 an input (a column), in nn.Linear orientation; a single weight is (name, (row, column))."
        )
    axis = _index("axis", axis or 0, dims, f"axes of {weight.name!r}")
    stored = weight.storage_axis(axis)
    index = _index("index", index, weight.shape[stored], f"axis {axis} of {weight.name!r}")
    return Slab(weight.name, stored, index, index + 1)


def _entry(weight: Weight, index: Sequence[Any]) -> Slab:
    """A single weight of a matrix."""
    if len(weight.shape) != _MATRIX or len(index) != _MATRIX:
        raise InputError(
            f"A single weight is (row, column) of a matrix, got {tuple(index)!r} of {weight.name!r} with shape {weight.shape}. "
            "Weights of stacked experts cannot be named one by one; name the parameter."
        )
    stored = [weight.storage_axis(axis) for axis in range(_MATRIX)]
    row, column = (
        _index("index", one, weight.shape[axis], f"{word} of {weight.name!r}")
        for one, axis, word in zip(index, stored, ("rows", "columns"), strict=True)
    )
    return Slab(weight.name, stored[0], row, row + 1, ((stored[1], column),))


def _slices(model: nn.Module, given: Indices, word: str) -> Iterator[Slab]:
    for name, indices in _mapping(word, given, "names of matrices").items():
        weight = find_weight(model, str(name))
        if len(weight.shape) != _MATRIX:
            raise InputError(
                f"{word}= takes matrices, and {weight.name!r} has shape {weight.shape}. Name single dimensions of it with "
                f"dimensions=[({weight.name!r}, index)], or with an axis."
            )
        axis = weight.storage_axis(_AXES[word])
        for one in _several(indices):
            index = _index(word, one, weight.shape[axis], f"{word} of {weight.name!r}")
            yield Slab(weight.name, axis, index, index + 1)


def _heads(model: nn.Module, given: Mapping[int, int | Iterable[int]]) -> Iterator[Slab]:
    groups = attention_heads(model) if _mapping("heads", given, "numbers of layers") else []
    for number, heads in given.items():
        in_layer = [group for group in groups if group.layer == number]
        if not in_layer:
            raise InputError(
                f"heads: there is no attention in layer {number!r}; layers with one: {sorted({g.layer for g in groups})}."
            )
        if len({group.index for group in in_layer}) < len(in_layer):
            raise InputError(
                f"heads: layer {number!r} has several attentions, so that a number does not say which head is meant. Name "
                "their rows and columns with rows= and columns=."
            )
        count = sum(len(group.queries) for group in in_layer)
        for one in _several(heads):
            head = _index("heads", one, count, f"query heads of layer {number}")
            group = next(group for group in in_layer if head in group.queries)
            yield from (*group.queries[head], *group.shared)


def _layers(model: nn.Module, numbers: Sequence[Any]) -> Iterator[Slab]:
    weights = decoder_weights(model, quantized=True) if numbers else {}
    layers: dict[str, list[Weight]] = {}
    for name, weight in weights.items():
        layers.setdefault(layer_of(name) or name, []).append(weight)
    stacks = {layer.rsplit(".", 1)[0] for layer in layers}
    if len(stacks) > 1:
        raise InputError(
            f"layers: the model has several stacks of layers ({', '.join(sorted(stacks))}), so that a number does not say "
            "which layer is meant. Name them with parameters=, such as 'decoder.block.0.*'."
        )
    for one in numbers:
        number = _index("layers", one, len(layers), "decoder layers")
        yield from map(_whole, list(layers.values())[number])


def _mapping(word: str, given: Any, keys: str) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"{word} maps {keys} to indices, such as {{key: [0, 5]}}; got {given!r}.")
    return given


def _several(given: Any) -> list[Any]:
    """One word or number, or several."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def _index(word: str, given: Any, size: int, what: str) -> int:
    try:
        index = operator.index(given)
    except TypeError as error:
        raise InputError(f"{word}: expected a whole number, got {given!r}.") from error
    if isinstance(given, bool) or not 0 <= index < size:
        raise InputError(f"{word}: got {given!r}, and the {what} are numbered 0 to {size - 1}.")
    return index
