"""Masks of format version 1 stay readable, and what is wrong in them is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import CoreMask
from hf_langcore.masks.coding import Coded, decode, decode_bools
from hf_langcore.masks.elias_fano import low_bits_of
from hf_langcore.masks.encoding import Entry

FORMAT_1 = Path(__file__).parent / "format_1"


def elias_fano(values: np.ndarray) -> Coded:
    """As the encoder of format version 1 wrote it."""
    count, size = int(values.sum()), values.size
    low_bits = low_bits_of(size, count)
    positions = np.flatnonzero(values)
    unary = np.zeros(count + (size >> low_bits) + 1, dtype=np.bool_)
    unary[(positions >> low_bits) + np.arange(count)] = True
    low = np.stack([np.packbits(positions >> plane & 1 != 0, bitorder="little") for plane in range(low_bits)])
    parts = {"high": np.packbits(unary, bitorder="little"), "low": low}
    return Coded(Entry(values.shape, count, "elias-fano", low_bits=low_bits), parts)


def refuse(values: np.ndarray, problem: str, **changed: np.ndarray) -> None:
    coded = elias_fano(values)
    with pytest.raises(CoreMaskFormatError, match=f"'w' is damaged: .*{problem}"):
        decode("w", Coded(coded.entry, {**coded.parts, **changed}))


def test_a_file_of_version_1_is_read() -> None:
    """Written by the first release: every form, inverted ones, empty and scalar tensors, its digest as it was."""
    index = torch.arange
    mask = CoreMask.from_pretrained(FORMAT_1)
    layer = "model.layers.0."
    assert torch.equal(mask[layer + "sparse.weight"].view(-1), index(640) * index(640) % 29 == 3)
    assert torch.equal(mask[layer + "nearly_full.weight"].view(-1), index(600) % 37 != 5)
    assert torch.equal(mask[layer + "half.weight"].view(-1), index(77) % 3 == 0)
    assert torch.equal(mask[layer + "mostly.weight"].view(-1), index(77) % 3 != 0)
    assert [mask.count(layer + name) for name in ("none.weight", "all.weight", "scalar", "nothing")] == [0, 9, 1, 0]
    assert mask.shapes()[layer + "nothing"] == (0, 3)
    assert mask.digest() == "96ac812a81390db1c83c4896b1c7f35eb1abb2e2756945bfc7c1e33d8e1b208e"
    assert mask.provenance.tokens == {"en": 1024}


def test_it_is_written_in_the_new_form(tmp_path: Path) -> None:
    """The mask stays the same mask."""
    mask = CoreMask.from_pretrained(FORMAT_1)
    mask.save_pretrained(tmp_path)
    assert CoreMask.from_pretrained(tmp_path) == mask
    assert "elias-fano" not in (tmp_path / "core_mask_config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("density", [0.001, 0.05, 0.24])
def test_long_tensors_are_decoded_over_several_blocks(density: float) -> None:
    """Clusters, and gaps longer than the decoder's block."""
    values = np.random.default_rng(0).random(2_000_000) < density
    values[:60_000:2] = True
    values[500_000:1_900_000] = False
    values[-1] = True
    coded = elias_fano(values)
    assert np.array_equal(decode_bools("w", coded), values)
    assert np.array_equal(decode("w", coded).to_bool(), values)


def test_wrong_positions_are_refused() -> None:
    """Too few, too many, not increasing (also between blocks), outside, and bits beyond the end."""
    two = np.isin(np.arange(64), [8, 9])
    low = elias_fano(two).parts["low"].copy()
    low[0] ^= 0b11
    refuse(two, "do not increase", low=low)
    low[0] = 0
    refuse(two, "do not increase", low=low)
    last = np.arange(70) == 69
    refuse(last, "outside the tensor", low=np.ones_like(elias_fano(last).parts["low"]))
    clustered = np.arange(4_000_000) < 40_000
    refuse(clustered, "do not increase", low=np.zeros_like(elias_fano(clustered).parts["low"]))
    high = elias_fano(two).parts["high"]
    refuse(two, "declares 2 positions and holds 0", high=np.zeros_like(high))
    refuse(two, "more positions than it declares", high=np.full_like(high, 0xFF))
    low = elias_fano(two).parts["low"].copy()
    low[0, -1] |= 0x80
    refuse(two, "beyond its last position", low=low)
