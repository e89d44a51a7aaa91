"""All kinds of artifacts, by name."""

from __future__ import annotations

from collections.abc import Callable

from artifact import Kind
from kinds_foreign import arrays, booleans, lape, shira, sparse_differences
from kinds_hub import cards, listings, references, reports, results
from kinds_masks import adapters, core_values, masks, scores
from rogues import EXPECTED, rogue

KINDS: dict[str, Callable[[], Kind]] = {
    "core mask": masks,
    "adapter": adapters,
    "results": results,
    "reference": references,
    "card": cards,
    "search listing": listings,
    "importance scores": scores,
    "values of a frozen core": core_values,
    "report": reports,
    "LAPE neurons (.pth)": lape,
    "sparse differences (.bin)": sparse_differences,
    "SHiRA adapter": shira,
    "boolean safetensors": booleans,
    "boolean arrays (.npy, .npz)": arrays,
}
KINDS |= {f"rogue {name}": rogue(name) for name in EXPECTED}
