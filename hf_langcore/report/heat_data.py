"""Heat maps as the page's script reads them: shares as bytes, so that forty matrices take a few hundred kilobytes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hf_langcore.report.heat_figure import as_array, short_names, strongest
from hf_langcore.report.parts import HeatMap, HeatMaps

_MOST = 255


def pack(part: HeatMaps) -> str:
    """JSON that may stand in a script element: no character in it ends one.

    Bytes hold roots of shares: a byte b means top * (b / 255) ** 2. `top` is the same for all matrices, and profiles
    have their own.
    """
    top = strongest(part.maps)
    names = short_names([one.parameter for one in part.maps])
    maps = [_packed(one, name, top) for one, name in zip(part.maps, names, strict=True)]
    text = json.dumps({"top": top, "maps": maps}, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def share_of(one: HeatMap) -> float | None:
    """The region's share of a matrix: the mean over the cells; None without any."""
    grid = as_array(one.density)
    return float(grid.mean()) if one.density and math.isfinite(grid.mean()) else None


def _packed(one: HeatMap, name: str, top: float) -> dict[str, Any]:
    grid = as_array(one.density)
    values = {
        "name": name,
        "full": one.parameter,
        "shape": list(one.shape),
        "cells": list(grid.shape),
        "density": _bytes(np.sqrt(grid / top) if top > 0 else grid * 0),
        "rows": _profile(one.row_profile),
        "columns": _profile(one.column_profile),
        "share": share_of(one),
    }
    if one.detail is not None and one.detail[2]:
        values["detail"] = _detail(*one.detail)
    return values


def _profile(shares: Sequence[float]) -> dict[str, Any]:
    values = as_array([list(shares)])[0]
    most = float(values.max())
    return {"most": most, "values": _bytes(values / most if most > 0 else values)}


def _detail(row: int, column: int, bits: Sequence[Sequence[int]]) -> dict[str, Any]:
    window = as_array(bits) > 0
    return {"row": row, "column": column, "size": list(window.shape), "bits": _coded(np.packbits(window.ravel()))}


def _bytes(shares: Any) -> str:
    return _coded(np.rint(np.clip(shares, 0.0, 1.0) * _MOST).astype(np.uint8))


def _coded(values: Any) -> str:
    return base64.b64encode(values.tobytes()).decode()
