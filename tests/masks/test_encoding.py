"""Descriptions of stored tensors: what no encoder writes is refused before anything is allocated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import PackedBits
from hf_langcore.masks.coding import encode
from hf_langcore.masks.encoding import MAX_SIZE, MAX_SIZE_IN_CLASSES, Block, Entry, check_entry

SPARSE = encode(PackedBits.from_bool(np.arange(5000).reshape(50, 100) % 47 == 0)).entry
BLOCK = SPARSE.blocks[0]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"shape": (-50, -100)}, "impossible"),
        ({"shape": (MAX_SIZE, 2)}, "impossible"),
        ({"shape": (1 << 4000, 0)}, "impossible"),
        ({"shape": (5,)}, "do not fit"),
        ({"shape": (100, 100, 1 << 21)}, "impossible"),
        ({"count": -1}, "do not fit"),
        ({"count": 0}, "contradictory"),
        ({"count": 4000}, "do not fit"),
        ({"count": SPARSE.count - 1}, "one block of another number"),
        ({"low_bits": 1}, "contradictory"),
        ({"kind": "bits"}, "in blocks is contradictory"),
        ({"kind": "bits", "blocks": (), "classes": (1, 2)}, "in blocks is contradictory"),
        ({"kind": "empty"}, "contradictory"),
        ({"kind": "elias-fano"}, "0 low bits is contradictory"),
        ({"kind": "zip"}, "no form 'zip'"),
        ({"inverted": "false"}, "inverted = 'false'"),
        ({"blocks": ()}, "in 0 blocks"),
        ({"blocks": (BLOCK, BLOCK)}, "in 2 blocks"),
        ({"blocks": (replace(BLOCK, inverted=True),)}, "one block of another number"),
        ({"blocks": (replace(BLOCK, inverted=2),)}, "no encoder writes"),
        ({"blocks": (replace(BLOCK, low_bits=40),)}, "no encoder writes"),
        ({"blocks": (replace(BLOCK, high_bytes=1 << 40),)}, "no encoder writes"),
        ({"blocks": (Block(0, 3, 0),)}, "no encoder writes"),
        ({"classes": (0, 1)}, "in 1 blocks of"),
        ({"classes": (9, 1), "blocks": (BLOCK,) * 9}, "in 9 blocks of"),
        ({"classes": (2, 2)}, "in 1 blocks of"),
        ({"classes": (1, 2), "blocks": (BLOCK,) * 2, "shape": (2, MAX_SIZE_IN_CLASSES)}, "in classes of"),
    ],
)
def test_contradictory_descriptions_are_refused(change: dict[str, Any], problem: str) -> None:
    """Whatever an altered file says, the sizes that follow from it are checked first."""
    check_entry("model.w", SPARSE)
    with pytest.raises(CoreMaskFormatError, match=f"'model.w' is damaged: .*{problem}"):
        check_entry("model.w", replace(SPARSE, **change))


def test_the_largest_tensor_is_allowed() -> None:
    """An empty one costs nothing however large it is."""
    check_entry("w", Entry((1 << 17, 1 << 17), 0, "empty"))
    check_entry("w", Entry((0, 3), 0, "empty"))


def test_counts_of_true_entries() -> None:
    """Of both sides."""
    assert Entry((4, 5), 3, "bits").true_count == 3
    assert Entry((4, 5), 3, "bits", inverted=True).true_count == 17
