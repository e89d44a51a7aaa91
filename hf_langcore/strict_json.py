"""Reading JSON that somebody else wrote: what plain `json` lets pass or trips over is refused in one short sentence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

_SHOWN = 200
_MOST_VALUES = 1 << 22  # numbers, texts, lists and objects in one file


def read_json(path: Path, *, limit: int) -> Any:
    """The values of a JSON file.

    Args:
        path: An ordinary file, or a link to one.
        limit: Bytes of the largest file that is read.

    Raises:
        ValueError: It is none, cannot be read or is too large, a key stands twice in it, or a number is not finite.
    """
    try:
        if not path.is_file():
            raise ValueError("it is missing or no ordinary file")
        if path.stat().st_size > limit:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, at most {limit:,} are read")
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be opened: {error.strerror or type(error).__name__}") from error
    return parse_json(content)


def parse_json(source: str | bytes) -> Any:
    """The values of a JSON text.

    Raises:
        ValueError: It is none, a key stands twice in it, it is nested too deeply, or a number is not finite.
    """
    try:
        text = source.decode("utf-8") if isinstance(source, bytes) else source
        if text.count(",") + text.count("[") + text.count("{") > _MOST_VALUES:
            raise ValueError(f"it holds more than {_MOST_VALUES:,} values")  # noqa: TRY301 one place for all
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(str(error)[:_SHOWN]) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key[:80]!r} stands twice in one object")
        values[key] = value
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:80]} is too large for a number")
    return value


def _refused(constant: str) -> Any:
    raise ValueError(f'{constant} is no JSON, because {constant} is no number; an infinite figure is written as "inf"')
