"""A seal: a checksum over all that a JSON file says, so that damage is noticed wherever it struck.

It says nothing about the author, who can seal anything. Layout and order of keys may change; no word of the content may.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "content_sha256"
"""The key of the seal, beside the others at the top of the file."""


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values and their seal.

    Args:
        values: JSON values by name. NaN and infinity are none.
    """
    return {**values, SEAL: seal_of(values)}


def seal_of(values: Mapping[str, Any]) -> str:
    """Hex sha256 of the values, the seal itself left out."""
    content = {name: value for name, value in values.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def is_intact(values: Mapping[str, Any], *, may_lack: bool = False) -> bool:
    """Whether the values are those that were sealed.

    Args:
        values: The top of a JSON file.
        may_lack: Take values without a seal for intact: files of before there were any.
    """
    if SEAL not in values:
        return may_lack
    try:
        return bool(values[SEAL] == seal_of(values))
    except (ValueError, TypeError, RecursionError):  # what cannot be JSON was never sealed
        return False
