"""`import_core_mask`: a mask out of what another project wrote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from hf_langcore.binding import provenance_of
from hf_langcore.errors import ConfigurationError
from hf_langcore.exchange.boolean import boolean_planes
from hf_langcore.exchange.feed_forward import check_parts
from hf_langcore.exchange.lape import lape_planes
from hf_langcore.exchange.names import Parameters
from hf_langcore.exchange.reading import Artifact, check_format, open_artifact, recognise
from hf_langcore.exchange.shira import shira_planes
from hf_langcore.exchange.sparse_diff import sparse_planes
from hf_langcore.masks import CoreMask, PackedBits, Provenance

_BOTH = ("rows", "columns")
_PLANES = {"shira": shira_planes, "sparse_diff": sparse_planes, "tensors": boolean_planes}


def import_core_mask(
    source: str | Path,
    model: nn.Module,
    *,
    format: str | None = None,  # noqa: A002 the word that users know
    language: str | int | None = None,
    languages: Sequence[str] | None = None,
    parts: Collection[str] = _BOTH,
) -> CoreMask:
    """A core mask out of a file or folder of another project. No code of the file is run.

    - "lape": neuron lists of LAPE. A neuron is a row of the feed-forward input projections with its bias (of the gate, too)
      and a column of the output projection. The mask covers these matrices of all layers.
    - "shira": a SHiRA adapter of PEFT. The mask is what the adapter trains, zeros included; what it leaves alone is
      `.complement()`. It covers the layers that the adapter targets.
    - "sparse_diff": differences of a sparse fine-tuning (composable-sft). The mask is where they are not zero.
    - "tensors": booleans, or 0 and 1, by parameter name, in safetensors, files of torch.save, `.npz`, or a folder with one
      file for each parameter. The mask covers what the files name.

    Args:
        source: File or folder on this machine.
        model: The causal LM that the artifact was made for, bare or wrapped; on the meta device names and shapes are
            known and the mask is not pinned to weights.
        format: One of the four, or None to recognise it by content.
        language: For "lape": number or code of one language; None takes the neurons of all.
        languages: For "lape": codes of the languages in the order of the file, which does not say them. In the published
            files it is en, zh, fr, es, vi, id, ja.
        parts: For "lape": "rows", "columns" or both.

    Returns:
        The mask, with the fingerprint of the weights that it covers and words that say where it came from.

    Raises:
        InputError: There is no such file, its format is not known or could be several, or an option is wrong.
        ConfigurationError: `language`, `languages` or `parts` is given for another format than "lape".
        CoreMaskFormatError: A file is damaged, or asks for more than data.
        CoreMaskMismatchError: It is for another model.
        UnsupportedModelError: Neurons are given for a model whose feed-forward layers are not known or are several.

    Example:
        >>> mask = import_core_mask("LLaMA-2-7B.neuron.pth", model, language=1)  # doctest: +SKIP
    """
    wanted = check_format(format) if format is not None else None
    chosen = check_parts(parts)
    artifact = open_artifact(source)
    kind = wanted or recognise(artifact)
    parameters = Parameters(model)
    if kind == "lape":
        planes, words = lape_planes(artifact, parameters, language=language, languages=languages, parts=chosen)
    elif language is not None or languages is not None or set(chosen) != set(_BOTH):
        raise ConfigurationError(
            f"language, languages and parts are for lape neuron lists, and {str(source)!r} is {kind}."
        )
    else:
        planes, words = _PLANES[kind](artifact, parameters)
    return CoreMask(planes, provenance=_provenance(parameters, planes, artifact, words))


def _provenance(parameters: Parameters, planes: dict[str, PackedBits], artifact: Artifact, words: str) -> Provenance:
    covered = {name: parameters[name] for name in planes}
    without_values = any(weight.parameter.is_meta for weight in covered.values())
    source = provenance_of(parameters.model, {} if without_values else covered, method="given")
    if without_values:
        transposed = tuple(name for name, weight in covered.items() if weight.is_transposed)
        source = replace(source, base_fingerprint=None, transposed=transposed)
    return replace(source, operation=f"imported {words}, from {artifact.name[:200]!r}")
