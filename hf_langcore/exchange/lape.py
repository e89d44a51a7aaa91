"""Neuron lists of LAPE (RUCAIBox/Language-Specific-Neurons) and of projects that write the same files.

For each language and decoder layer a tensor of the numbers of feed-forward neurons. The files do not say which language is
which; the order of the published ones is en, zh, fr, es, vi, id, ja.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch

from hf_langcore.errors import ConfigurationError, CoreMaskMismatchError, InputError
from hf_langcore.exchange.feed_forward import FeedForward, Part, feed_forwards
from hf_langcore.exchange.names import Parameters
from hf_langcore.exchange.planes import refuse, whole_numbers
from hf_langcore.exchange.reading import Artifact
from hf_langcore.exchange.stored import Stored
from hf_langcore.masks import PackedBits
from hf_langcore.masks.groups import Slab, fill

_MOST_LANGUAGES = 1000

Layers = list[Any]  # of one language: one tensor or list of numbers for each decoder layer


def lape_planes(
    artifact: Artifact,
    parameters: Parameters,
    *,
    language: str | int | None,
    languages: Sequence[str] | None,
    parts: Sequence[Part],
) -> tuple[dict[str, PackedBits], str]:
    """The bits of the neurons of one language, or of all, and what was imported in words.

    The mask covers the feed-forward matrices of all layers, of which `parts` are taken.

    Raises:
        InputError: `language` or `languages` does not fit the file.
        CoreMaskMismatchError: The file is for a model with other layers.
        CoreMaskFormatError: The file is damaged.
        UnsupportedModelError: The model's feed-forward layers are not known.
    """
    by_language = _by_language(artifact, languages)
    chosen = _chosen(by_language, language, artifact.name)
    layers = feed_forwards(parameters)
    slabs: set[Slab] = set()
    for name in chosen:
        slabs.update(_slabs(by_language[name], layers, parts, where=f"{artifact.name}, language {name}"))
    shapes = {weight.name: weight.shape for layer in layers for weight in layer.weights(parts)}
    words = f"language {chosen[0]}" if len(chosen) == 1 else f"all {len(chosen)} languages"
    taken = "" if len(parts) > 1 else f", {parts[0]} only"
    return fill(shapes, sorted(slabs)), f"lape neurons, {words}{taken}"


def _by_language(artifact: Artifact, languages: Sequence[str] | None) -> dict[str, Layers]:
    """Language, or its number in the file, -> layers."""
    content = artifact.content
    if isinstance(content, dict) and all(isinstance(one, list) for one in content.values()):
        if languages is not None:
            raise ConfigurationError(f"{artifact.name!r} names its languages itself: leave out languages=.")
        named = {str(name): layers for name, layers in content.items()}
    elif isinstance(content, (list, tuple)) and content:
        lists = [content] if all(isinstance(one, Stored) for one in content) else list(content)
        if languages is not None and len(languages) != len(lists):
            raise InputError(
                f"{artifact.name!r} holds {len(lists)} languages, and languages= names {len(languages)}: {list(languages)!r}."
            )
        named = dict(zip(languages or map(str, range(len(lists))), lists, strict=True))
    else:
        named = {}
    if not 0 < len(named) <= _MOST_LANGUAGES or not all(isinstance(one, (list, tuple)) for one in named.values()):
        refuse(artifact.name, "languages", "expected for each language a list with one tensor for each layer")
    return named


def _chosen(by_language: dict[str, Layers], language: str | int | None, source: str) -> list[str]:
    names = list(by_language)
    if language is None:
        return names
    is_number = isinstance(language, int) and not isinstance(language, bool)
    if is_number and 0 <= language < len(names):  # type: ignore[operator]
        return [names[language]]  # type: ignore[index]
    if language in by_language:
        return [str(language)]
    hint = (
        ""
        if names[0] != "0"
        else " Name them with languages=[...], in the order of the file, to choose one by its code."
    )
    raise InputError(
        f"There is no language {language!r} in {source!r}: it holds {len(names)} languages: {', '.join(names)}.{hint}"
    )


def _slabs(numbers: Layers, layers: Sequence[FeedForward], parts: Collection[Part], *, where: str) -> Iterator[Slab]:
    if len(numbers) != len(layers):
        raise CoreMaskMismatchError(
            f"{where!r} lists neurons of {len(numbers)} layers, and the model has {len(layers)}. Pass the model that the "
            "file was made for."
        )
    for index, (given, layer) in enumerate(zip(numbers, layers, strict=True)):
        for neuron in _neurons(given, layer, where=where, layer=f"layer {index}"):
            yield from layer.slabs(neuron, parts)


def _neurons(given: Any, of: FeedForward, *, where: str, layer: str) -> list[int]:
    """The numbers of the neurons in one layer."""
    if not isinstance(given, Stored):
        refuse(where, layer, f"expected a tensor of numbers of neurons, got a {type(given).__name__}")
    if len(given.shape) != 1 or given.shape[0] > of.neurons:
        refuse(
            where, layer, f"expected at most {of.neurons:,} numbers of neurons, got a tensor of shape {given.shape}"
        )
    values: torch.Tensor = whole_numbers(given, source=where, name=layer)
    neurons: list[int] = values.tolist()
    if neurons and not 0 <= min(neurons) <= max(neurons) < of.neurons:
        raise CoreMaskMismatchError(
            f"{where!r} names neuron {min(neurons) if min(neurons) < 0 else max(neurons)} of {layer}, and the model's are "
            f"numbered 0 to {of.neurons - 1}. Pass the model that the file was made for."
        )
    if len(set(neurons)) != len(neurons):
        refuse(where, layer, "a neuron stands twice")
    return neurons
