"""What of a model can be scanned: norm gains and matrices, rows and columns always in nn.Linear orientation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import Weight, bare_weights, decoder_weights, require_editable, unwrap
from hf_langcore.errors import UnsupportedModelError
from hf_langcore.masks.groups import layer_of

_MATRIX, _STACKED = 2, 3
_OUTPUTS = ("down_proj", "c_proj", "dense_4h_to_h", "fc2", "fc_out", "w2")
_INPUTS = (
    ("gate_proj", "up_proj"),
    ("gate_up_proj",),
    ("w1", "w3"),
    ("c_fc_0", "c_fc_1"),
    ("up_proj",),
    ("c_fc",),
    ("dense_h_to_4h",),
    ("fc1",),
    ("fc_in",),
)
_WRITERS = {*_OUTPUTS, "o_proj", "out_proj", "dense", "o"}  # what they compute is added to the residual stream


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight matrix, or a stack of matrices of equal shape, one for each expert of a mixture.

    Attributes:
        name: Name of the parameter.
        weight: The parameter.
        is_transposed: It is stored (inputs, outputs): GPT-2's Conv1D, and the experts of some mixtures.
        is_writer: What it computes is added to the residual stream, so that its rows are residual dimensions; of other
            matrices the columns are, where they are as many.
    """

    name: str
    weight: Weight
    is_transposed: bool
    is_writer: bool

    def values(self) -> torch.Tensor:
        """The entries, (outputs, inputs) or (experts, outputs, inputs): a view that writes through."""
        stored = self.weight.parameter.detach()
        return stored.transpose(-1, -2) if self.is_transposed else stored

    @property
    def is_stacked(self) -> bool:
        """Whether it holds the matrices of several experts."""
        return self.weight.parameter.dim() == _STACKED

    @property
    def axis(self) -> Mapping[str, int]:
        """Kind of a slice -> axis of the oriented matrix along which it is counted."""
        return {"row": -2, "column": -1}


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The matrices of one feed-forward module: inputs (a gate and another one, both in one, or no gate) and output."""

    inputs: tuple[Matrix, ...]
    output: Matrix

    def strengths(self) -> torch.Tensor:
        """What each neuron can give, judged by its rows alone: product of their norms, float32, (..., neurons)."""
        norms = [matrix.values().float().norm(dim=-1) for matrix in self.inputs]
        neurons = self.output.values().shape[-1]
        if len(norms) == 1 and norms[0].shape[-1] == 2 * neurons:  # gates and the others in one matrix
            norms = [norms[0][..., :neurons], norms[0][..., neurons:]]
        return torch.stack(norms).prod(dim=0)


@dataclass(frozen=True, slots=True)
class Tensors:
    """What of a model can be scanned.

    Attributes:
        norms: Name -> norm gains, the final norm included.
        matrices: Name -> matrix of the decoder layers.
        feed_forwards: Modules whose names and shapes are known.
        layers: Names of the decoder layers, such as "model.layers.0", in order.
        width: Number of residual dimensions; 0 where that is not known.
    """

    norms: Mapping[str, Weight]
    matrices: Mapping[str, Matrix]
    feed_forwards: tuple[FeedForward, ...]
    layers: tuple[str, ...]
    width: int

    @classmethod
    def of(cls, model: nn.Module) -> Tensors:
        """Look at a model once.

        Raises:
            UnsupportedModelError: It has no decoder layers, or its weights are quantised or on the meta device.
        """
        weights = decoder_weights(model)
        transposed = _transposed_experts(weights)
        matrices = {
            name: Matrix(name, weight, weight.is_transposed or name in transposed, _last(name) in _WRITERS)
            for name, weight in weights.items()
            if _is_matrix(weight) and not weight.is_shadowed
        }
        layers = dict.fromkeys(layer for name in weights if (layer := layer_of(name)) is not None)
        return cls(_norms(model), matrices, tuple(_feed_forwards(matrices)), tuple(layers), _width(model))

    def weight(self, name: str) -> Weight:
        """The parameter called `name`."""
        return self.norms[name] if name in self.norms else self.matrices[name].weight

    def layer(self, name: str) -> int | None:
        """Number of the decoder layer that a parameter belongs to; None outside of layers."""
        layer = layer_of(name)
        return self.layers.index(layer) if layer in self.layers else None


def norm_weights(model: nn.Module) -> dict[str, Weight]:
    """The gains of all norms, the final one included.

    Raises:
        UnsupportedModelError: There are none.
    """
    norms = _norms(model)
    if not norms:
        raise UnsupportedModelError(
            "The model has no norm weights (no module with 'norm' in its class name and a weight vector), so there are no "
            'norm dimensions to scan. Other kinds can be: kinds=("row", "column", "weight").'
        )
    return norms


def _norms(model: nn.Module) -> dict[str, Weight]:
    norms = {
        name: weight
        for name, weight in bare_weights(model).items()
        if weight.parameter.dim() == 1 and name.endswith(".weight") and "norm" in type(weight.owner).__name__.lower()
    }
    for weight in norms.values():
        require_editable(weight)
    return norms


def _is_matrix(weight: Weight) -> bool:
    if isinstance(weight.owner, (nn.Embedding, nn.modules.conv._ConvNd)):  # noqa: SLF001 the class of all convolutions
        return False
    return weight.parameter.dim() in {_MATRIX, _STACKED} and min(weight.parameter.shape[-2:]) > 1


def _last(name: str) -> str:
    """The name that says what a matrix is for: "down_proj", also where it is a parameter itself."""
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def _width(model: nn.Module) -> int:
    config: Any = getattr(unwrap(model), "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    size = getattr(config, "hidden_size", None)
    return size if isinstance(size, int) else 0


def _transposed_experts(weights: Mapping[str, Weight]) -> set[str]:
    """Stacked matrices that are stored (experts, inputs, outputs), as transformers notes or as their shapes tell."""
    stacked = {name: weight for name, weight in weights.items() if weight.parameter.dim() == _STACKED}
    found = {name for name, weight in stacked.items() if getattr(weight.owner, "is_transposed", False)}
    for name, weight in stacked.items():
        other = stacked.get(name.replace("gate_up_proj", "down_proj"))
        if other is None or other is weight:
            continue
        shape, down = weight.parameter.shape[1:], other.parameter.shape[1:]
        if shape[0] == down[1] and shape[1] == 2 * down[0]:
            found |= {name, other.name}
    return found


def _feed_forwards(matrices: Mapping[str, Matrix]) -> Iterator[FeedForward]:
    modules: dict[str, dict[str, Matrix]] = {}
    for name, matrix in matrices.items():
        prefix = name.removesuffix(".weight").rpartition(".")[0]
        modules.setdefault(prefix, {})[_last(name)] = matrix
    for found in modules.values():
        output = next((found[name] for name in _OUTPUTS if name in found), None)
        names = next((names for names in _INPUTS if set(names) <= found.keys()), None)
        if output is not None and names is not None:
            inputs = tuple(found[name] for name in names)
            neurons, rows = output.values().shape[-1], {matrix.values().shape[-2] for matrix in inputs}
            if rows == {neurons} or (len(inputs) == 1 and rows == {2 * neurons}):
                yield FeedForward(inputs, output)
