"""Where the neurons of the feed-forward layers lie in a model's weights.

A neuron is what one entry of the hidden activation is made of: a row of the input projections (of the gate, too, where
there is one) with its bias, and a column of the output projection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from hf_langcore.architecture import Weight
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.exchange.names import Parameters
from hf_langcore.masks.groups import Slab, layer_of

Part = Literal["rows", "columns"]
Projections = Mapping[str, Mapping[str, Weight]]  # "up_proj" -> "weight" or "bias" -> weight

_MATRIX = 2
_FUSED = 2


class _Layout(NamedTuple):
    """Names of the input projections and of the output projection, as transformers' models call them."""

    inputs: tuple[str, ...]
    output: str


_LAYOUTS = (
    _Layout(("gate_proj", "up_proj"), "down_proj"),  # Llama, Mistral, Qwen, Gemma, OLMo
    _Layout(("gate_up_proj",), "down_proj"),  # Phi-3, GLM: all gates, then all ups
    _Layout(("up_proj",), "down_proj"),  # Nemotron, MPT
    _Layout(("c_fc_0", "c_fc_1"), "c_proj"),  # EXAONE
    _Layout(("c_fc",), "c_proj"),  # GPT-2, GPT-BigCode, StarCoder2
    _Layout(("dense_h_to_4h",), "dense_4h_to_h"),  # GPT-NeoX, BLOOM, Falcon; ChatGLM: gates, then ups
    _Layout(("fc1",), "fc2"),  # OPT, Phi, XGLM
    _Layout(("fc_in",), "fc_out"),  # GPT-J, CodeGen
    _Layout(("w1", "w3"), "w2"),  # InternLM and others
)


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The feed-forward matrices of one decoder layer.

    Attributes:
        inputs: The input projections with their biases.
        output: The weight of the output projection.
        neurons: Number of neurons.
        copies: How often the rows of a fused input projection hold each neuron: 2 for gate and up in one matrix.
    """

    inputs: tuple[Weight, ...]
    output: Weight
    neurons: int
    copies: int

    def slabs(self, neuron: int, parts: Collection[Part]) -> Iterator[Slab]:
        """Where a neuron lies."""
        if "rows" in parts:
            for weight in self.inputs:
                axis = weight.storage_axis(0) if len(weight.shape) == _MATRIX else 0
                for copy in range(self.copies):
                    row = copy * self.neurons + neuron
                    yield Slab(weight.name, axis, row, row + 1)
        if "columns" in parts:
            yield Slab(self.output.name, self.output.storage_axis(1), neuron, neuron + 1)

    def weights(self, parts: Collection[Part]) -> tuple[Weight, ...]:
        """The parameters in which the parts of neurons lie."""
        return (*(self.inputs if "rows" in parts else ()), *((self.output,) if "columns" in parts else ()))


def check_parts(parts: Collection[str]) -> tuple[Part, ...]:
    """Return `parts` if they are some.

    Raises:
        InputError: They are not.
    """
    chosen = (parts,) if isinstance(parts, str) else tuple(parts)
    if not chosen or not set(chosen) <= set(get_args(Part)):
        raise InputError(
            f'parts names "rows" (of the input projections), "columns" (of the output projection) or both, got {parts!r}.'
        )
    return chosen  # type: ignore[return-value]


def feed_forwards(parameters: Parameters) -> list[FeedForward]:
    """The feed-forward matrices of all decoder layers, first layer first.

    Raises:
        UnsupportedModelError: The model is an encoder-decoder or a mixture of experts, or the layout is not known.
    """
    kind = type(parameters.model).__name__
    if getattr(getattr(parameters.model, "config", None), "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{kind} has an encoder and a decoder, so the number of a layer does not say which layer is meant. Pass a "
            "decoder-only language model."
        )
    found = [_of_layer(layer, modules, kind) for layer, modules in _layers(parameters).items()]
    if not found:
        raise UnsupportedModelError(f"{kind} has no numbered decoder layers. Pass a causal language model.")
    return found


def _layers(parameters: Parameters) -> dict[str, dict[str, dict[str, dict[str, Weight]]]]:
    """Layer -> path of a module in it -> its projections."""
    layers: dict[str, dict[str, dict[str, dict[str, Weight]]]] = {}
    inside = _decoder_prefix(parameters)
    for name, weight in parameters.items():
        layer = layer_of(name) if name.startswith(inside) else None
        path = name.rsplit(".", 2)
        if layer is None or len(path) < _MATRIX + 1:
            continue
        # The vectors of norms make a layer known that has no matrices with these names.
        layers.setdefault(layer, {}).setdefault(path[0], {}).setdefault(path[1], {})[path[2]] = weight
    stacks = {layer.rsplit(".", 1)[0] for layer in layers}
    if len(stacks) > 1:
        raise UnsupportedModelError(
            f"{type(parameters.model).__name__} has several stacks of layers ({', '.join(sorted(stacks))}), so the number "
            "of a layer does not say which layer is meant. Pass the language model alone."
        )
    return layers


def _decoder_prefix(parameters: Parameters) -> str:
    """Name prefix of the text decoder in models that have other towers beside it."""
    get_decoder = getattr(parameters.model, "get_decoder", None)
    decoder = get_decoder() if callable(get_decoder) else None
    for name, module in parameters.model.named_modules():
        if module is decoder and name:
            return f"{name}."
    return ""


def _of_layer(layer: str, modules: Mapping[str, Projections], kind: str) -> FeedForward:
    candidates = [
        (projections, layout)
        for projections in modules.values()
        if (layout := next((one for one in _LAYOUTS if _has(projections, one)), None)) is not None
    ]
    many = len(candidates) > 1 or any("experts" in path.split(".") for path in _paths(modules))
    if many:
        raise UnsupportedModelError(
            f"{layer!r} of {kind} has several feed-forward modules (a mixture of experts), so the number of a neuron does "
            "not say in which of them it lies. Only models with one feed-forward module a layer can take neuron lists."
        )
    fitting = [one for projections, layout in candidates if (one := _sized(projections, layout)) is not None]
    if not fitting:
        known = ", ".join(f"{' + '.join(one.inputs)} -> {one.output}" for one in _LAYOUTS)
        raise UnsupportedModelError(
            f"The feed-forward matrices of {layer!r} of {kind} are not known: expected one of {known}. Give the mask as "
            "boolean tensors."
        )
    return fitting[0]


def _has(projections: Projections, layout: _Layout) -> bool:
    return all("weight" in projections.get(name, ()) for name in (*layout.inputs, layout.output))


def _paths(modules: Mapping[str, Projections]) -> Iterator[str]:
    for path, projections in modules.items():
        yield from (f"{path}.{name}" for name in projections)


def _sized(projections: Projections, layout: _Layout) -> FeedForward | None:
    """The matrices, or None where their sizes do not fit together."""
    output = projections[layout.output]["weight"]
    if len(output.shape) != _MATRIX:
        return None
    neurons = output.shape[output.storage_axis(1)]
    inputs = [weight for name in layout.inputs for weight in projections[name].values()]
    rows = {weight.shape[weight.storage_axis(0) if len(weight.shape) == _MATRIX else 0] for weight in inputs}
    if rows == {neurons}:
        return FeedForward(tuple(inputs), output, neurons, 1)
    if rows == {_FUSED * neurons} and len(layout.inputs) == 1:
        return FeedForward(tuple(inputs), output, neurons, _FUSED)
    return None
