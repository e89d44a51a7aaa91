"""What a scan has found, kept as the user's own coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.errors import InputError
from hf_langcore.registry.entry import Entry
from hf_langcore.registry.user_file import circumstances, register_all
from hf_langcore.registry.verification import name_of

_KINDS: Mapping[str, str] = {
    "norm": "norm_weight",
    "row": "dimension",
    "column": "dimension",
    "weight": "super_weight",
}
_AXES: Mapping[str, int | None] = {"norm": 0, "row": 0, "column": 1, "weight": None}


def register_scan(
    scan: Sequence[Any],
    model: nn.Module,
    *,
    model_id: str | None = None,
    minimum_ratio: float = 1.0,
    path: str | Path | None = None,
) -> list[Entry]:
    """Keep what a scan found as the user's own coordinates, in one step.

    Args:
        scan: What `find_critical_dimensions` gives.
        model: The model that was scanned.
        model_id: What it is called; what it was loaded from if None (of a folder the whole path).
        minimum_ratio: Keep dimensions whose edit multiplies perplexity by at least this; where there is an interval, its
            lower end counts.
        path: File of the user's own coordinates; see `register`.

    Returns:
        The entries that were written; none where nothing reached the ratio.

    Raises:
        InputError: The model does not say what it was loaded from and `model_id` is not given, or the file is damaged.
        WriteError: The file cannot be written.
    """
    name = model_id or name_of(model)
    if not name:
        raise InputError("The model does not say what it was loaded from, so nobody could look it up. Pass model_id=.")
    revision = getattr(getattr(unwrap(model), "config", None), "_commit_hash", None)
    digest = getattr(scan, "settings", {}).get("text_sha256")
    chosen = [one for one in scan if _sure_ratio(one) >= minimum_ratio]
    fields = [{**_fields(one, digest), "model_id": name, "revision": revision} for one in chosen]
    return register_all(fields, path=path) if fields else []


def _sure_ratio(found: Any) -> float:
    return float(found.perplexity_ratio if found.interval is None else found.interval.low)


def _fields(found: Any, digest: str | None) -> dict[str, Any]:
    operation, value = ("zero", None) if found.factor == 0 else ("scale", float(found.factor))
    interval = None if found.interval is None else [_figure(found.interval.low), _figure(found.interval.high)]
    parameter, part = found.parameter, f".{found.layer}."
    has_layer = found.layer is not None and part in parameter
    return {
        "kind": _KINDS[found.kind],
        "tensor": parameter.replace(part, ".{layer}.", 1) if has_layer else parameter,
        "layer": found.layer if has_layer else None,
        "axis": _AXES[found.kind],
        "index": found.index,
        "operation": operation,
        "value": value,
        "effect": {
            "metric": "perplexity",
            "data": f"text with sha256 {digest}" if digest else "the text of the scan",
            "operation": operation,
            "value": value,
            "base": _figure(found.base_perplexity),
            "after": _figure(found.perplexity),
            "ratio": _figure(found.perplexity_ratio),
            "start_token": True,
        },
        "source": "A scan by find_critical_dimensions",
        "status_reason": "Measured by the user's own scan; no publication is behind it.",
        "provenance": {
            **circumstances(text_sha256=digest),
            "control_ratio": _figure(found.control_ratio),
            "interval": interval,
        },
    }


def _figure(value: float | None) -> float | str | None:
    return "inf" if value is not None and math.isinf(value) else value
