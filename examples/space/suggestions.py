"""Dimensions that are worth trying: found by a scan, known for this model, or full of core weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer import Explorer

from hf_langcore import registry
from hf_langcore.errors import InputError

LIMIT = 12  # of each source
LARGEST_FACTOR = 10.0  # of the page's slider
PAIR = 2  # row and column of one weight


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A dimension and why it is offered.

    Attributes:
        label: What the page calls it.
        parameter: Name of the parameter.
        index: Index of the dimension, or (row, column) of one weight.
        axis: None for vectors and single weights.
        factor: The factor to start with.
    """

    label: str
    parameter: str
    index: int | tuple[int, int]
    axis: int | None = None
    factor: float = 10.0

    @property
    def written_index(self) -> str:
        """As the page's field has it."""
        return ", ".join(map(str, self.index)) if isinstance(self.index, tuple) else str(self.index)


def suggested(model_id: str, explorer: Explorer, scan: str | None) -> tuple[Suggestion, ...]:
    """Dimensions of all sources, measured ones first.

    Args:
        model_id: Folder or Hub id of the model, for the registry.
        explorer: The model and its core.
        scan: File of `langcore scan`, or None.

    Raises:
        InputError: The scan is none, or of another model; the user's own registry is damaged.
    """
    return (*_scanned(scan, explorer), *_known(model_id, explorer), *_concentrated(explorer))


def _scanned(scan: str | None, explorer: Explorer) -> Iterator[Suggestion]:
    """The critical dimensions of a scan, strongest first, as far as this page can edit them."""
    for one in _critical(scan) if scan else ():
        index = tuple(one["index"]) if isinstance(one["index"], list) else one["index"]
        if one["parameter"] not in explorer.parameters:
            raise InputError(
                f"{scan!r} has {one['parameter']!r}, which this model has not. Give the file of a scan of this model."
            )
        if isinstance(index, tuple) and len(index) != PAIR:
            continue  # of one expert among several
        factor = float(one["factor"])
        ratio = float(one["perplexity_ratio"])
        label = f"{one['parameter']} {index}: perplexity x {ratio:,.3g} at factor {factor:g}"
        axis = None if one["kind"] in {"norm", "weight"} else one["axis"]
        yield Suggestion(label, one["parameter"], index, axis, _on_slider(factor))


def _critical(scan: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(Path(scan).read_text(encoding="utf-8"))["critical"]
        wanted = {"parameter", "index", "axis", "kind", "factor", "perplexity_ratio"}
        if not all(wanted <= one.keys() for one in found):
            raise KeyError(*wanted)  # noqa: TRY301 one message for all that may be wrong
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{scan!r} is no result of a scan ({type(error).__name__}: {error}). Give the file that "
            "`langcore scan --output` has written, or none."
        ) from error
    return list(found[:LIMIT])


def _known(model_id: str, explorer: Explorer) -> Iterator[Suggestion]:
    """What the registry has of this model, with the registry's own judgement of it."""
    for entry in registry.lookup(model_id):
        factor = {"zero": 0.0, "scale": entry.value}.get(entry.operation or "")
        if factor is None or entry.index is None or entry.kind == "massive_activation":
            continue  # activations are no weights; gains that are set to a value have no factor
        for name in set(entry.tensors) & set(explorer.parameters):
            label = f"{entry.coordinate()}, {entry.status.replace('_', ' ')} ({entry.source})"
            axis = entry.axis if entry.kind == "dimension" else None
            yield Suggestion(label, name, entry.index, axis, _on_slider(factor))


def _concentrated(explorer: Explorer) -> Iterator[Suggestion]:
    for one in explorer.core_mask.dimensions(limit=LIMIT):
        is_vector = len(explorer.core_mask.shapes()[one.parameter]) == 1
        what = "core weight" if is_vector else f"{'column' if one.axis else 'row'}, {100 * one.density:.0f} % core"
        axis = None if is_vector else one.axis
        yield Suggestion(f"{one.parameter} {one.index}: {what}", one.parameter, one.index, axis, 0.0)


def _on_slider(factor: float) -> float:
    return min(max(factor, 0.0), LARGEST_FACTOR)
