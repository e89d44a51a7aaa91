"""Stored forms: exact for every density and structure, small, and sure of what they read."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.masks import PackedBits
from hf_langcore.masks.coding import Coded, decode, decode_bools, decode_chunks, encode, encode_smallest
from hf_langcore.masks.encoding import Entry

DENSITIES = st.sampled_from([0.0, 0.001, 0.01, 0.03, 0.2, 0.25, 0.26, 0.5, 0.6, 0.9, 0.999, 1.0])
SIZES = st.sampled_from([(), (0,), (1,), (7,), (8,), (9,), (3, 0, 2), (64, 64), (5, 7, 11), (2, 3, 4, 5), (40_000,)])


def random_mask(shape: tuple[int, ...], density: float, seed: int = 0) -> PackedBits:
    return PackedBits.from_bool(np.asarray(np.random.default_rng(seed).random(shape) < density))


def hot(shape: tuple[int, int] = (300, 400), *, lines: int = 3, share: float = 0.5) -> PackedBits:
    """A sparse matrix with some hot rows and columns."""
    generator = np.random.default_rng(0)
    values = generator.random(shape) < 0.01
    values[5 : 5 + lines] |= generator.random((lines, shape[1])) < share
    values[:, 7 : 7 + lines] |= generator.random((shape[0], lines)) < share
    return PackedBits.from_bool(values)


def entropy_bytes(mask: PackedBits) -> float:
    share = mask.count() / mask.size
    return -mask.size * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8


def require_same(coded: Coded, mask: PackedBits) -> None:
    assert decode("w", coded).data.tolist() == mask.data.tolist()
    assert np.array_equal(decode_bools("w", coded), mask.to_bool())
    assert {name: part.shape for name, part in coded.parts.items()} == coded.entry.part_shapes()
    assert all(part.dtype == np.uint8 for part in coded.parts.values())
    assert coded.entry.true_count == mask.count()


@given(SIZES, DENSITIES, st.integers(0, 1000))
@example((1,), 1.0, 0)
@example((), 1.0, 0)
def test_round_trip(shape: tuple[int, ...], density: float, seed: int) -> None:
    """What is encoded is decoded bit for bit, and the arrays have the shapes that the entry declares."""
    mask = random_mask(shape, density, seed)
    require_same(encode(mask), mask)
    require_same(encode_smallest(mask), mask)


@pytest.mark.parametrize("shape", [(300, 400), (64, 1024), (1023, 65)])
@pytest.mark.parametrize("share", [0.35, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("inverted", [False, True])
def test_hot_rows_and_columns_lie_below_the_bound(shape: tuple[int, int], share: float, inverted: bool) -> None:
    """Of a mask of the same density whose entries are evenly spread; also of the complement."""
    mask = ~hot(shape, share=share) if inverted else hot(shape, share=share)
    coded = encode_smallest(mask)
    require_same(coded, mask)
    assert coded.entry.has_classes()
    assert coded.nbytes < 0.95 * entropy_bytes(mask)


@pytest.mark.parametrize("axis", [0, 1])
def test_whole_rows_and_columns_cost_their_labels(axis: int) -> None:
    """A mask of whole rows or columns says which, and nothing about single weights."""
    values = np.zeros((500, 600), dtype=bool)
    np.moveaxis(values, axis, 0)[::9] = True
    coded = encode_smallest(PackedBits.from_bool(values))
    require_same(coded, PackedBits.from_bool(values))
    assert coded.nbytes == math.ceil(values.shape[axis] / 8)


def test_stacked_matrices_are_cut_too() -> None:
    """Experts in one tensor: all axes but the last are rows."""
    mask = PackedBits(hot((300, 400)).data, (3, 100, 400))
    assert encode_smallest(mask).entry.has_classes()
    require_same(encode_smallest(mask), mask)


def test_random_matrices_are_not_cut() -> None:
    """Classes make decoding slower and would save nothing."""
    mask = random_mask((500, 400), 0.03)
    assert encode_smallest(mask).entry == encode(mask).entry


@pytest.mark.parametrize(
    ("density", "kind", "inverted"),
    [
        (0.0, "empty", False),
        (0.1, "rice", False),
        (0.4, "bits", False),
        (0.7, "bits", True),
        (0.9, "rice", True),
        (1.0, "empty", True),
    ],
)
def test_the_smaller_side_is_stored(density: float, kind: str, inverted: bool) -> None:
    """Complements cost no more than masks, and extremes cost nothing."""
    entry, parts = encode(random_mask((100, 50), density))
    assert (entry.kind, entry.inverted) == (kind, inverted)
    assert sum(part.nbytes for part in parts.values()) <= 5000 // 8
    assert entry.count * 2 <= entry.size


@pytest.mark.parametrize("size", [3_000_000, 1 << 20, (1 << 20) + 3])
def test_chunks_are_the_packed_bits(size: int) -> None:
    """Clusters, and gaps and empty stretches longer than a chunk; of every form, inverted too."""
    values = np.zeros(size, dtype=bool)
    values[:100_000:7] = True
    values[-1] = True
    dense = np.arange(size) % 3 == 0
    for given_ in (values, ~values, dense, ~dense, np.zeros_like(values), ~np.zeros_like(values)):
        mask = PackedBits.from_bool(given_)
        chunks = list(decode_chunks("w", encode(mask)))
        assert np.array_equal(np.concatenate(chunks), mask.data)
        assert max(chunk.size for chunk in chunks) <= 1 << 20


def test_decoded_bits_cannot_be_written() -> None:
    """Masks share them."""
    for mask in (random_mask((50,), 0.04), random_mask((50,), 0.5), hot()):
        with pytest.raises(ValueError, match="read-only"):
            decode("w", encode_smallest(mask)).data[0] = 0


def refuse(coded: Coded, problem: str) -> None:
    for read in (decode, decode_bools, lambda *coded: list(decode_chunks(*coded))):
        with pytest.raises(CoreMaskFormatError, match=f"'model.w' is damaged: .*{problem}"):
            read("model.w", coded)


def test_arrays_of_another_form_are_refused() -> None:
    """A wrong dtype, a wrong size and a missing array each name the array."""
    entry, parts = encode(random_mask((50, 100), 0.02))
    refuse(Coded(entry, {"rice": parts["rice"].astype(np.int32)}), "'rice' should be uint8 .*int32")
    refuse(Coded(entry, {"rice": parts["rice"][:-1]}), "'rice' should be")
    refuse(Coded(entry, {}), "holds nothing")


def test_bits_beyond_the_end_are_refused() -> None:
    """Stray bits after the last entry of packed bits."""
    entry, parts = encode(PackedBits.from_bool(np.arange(9) < 4))
    assert entry.kind == "bits"
    moved = parts["bits"].copy()
    moved[-1] |= 0x80
    moved[0] &= moved[0] - 1
    refuse(Coded(entry, {"bits": moved}), "another number")


def test_classes_that_contradict_the_blocks_are_refused() -> None:
    """Labels beyond the classes, stray labels, blocks of another size, another count."""
    entry, parts = encode_smallest(hot())
    data = parts["rice"]
    assert entry.has_classes()

    def changed(at: int) -> Coded:
        altered = data.copy()
        altered[at] ^= 0xFF
        return Coded(entry, {"rice": altered})

    refuse(changed(300 // 8), "beyond its last label")
    refuse(Coded(replace(entry, count=entry.count - 1), parts), "its blocks hold")
    refuse(changed(0), "do not fit a block|outside|positions|label")


@given(st.data())
@pytest.mark.parametrize("mask", [random_mask((50, 100), 0.02), hot((60, 80))], ids=["plain", "classes"])
def test_no_flipped_bit_goes_unnoticed_as_another_error(mask: PackedBits, data: st.DataObject) -> None:
    """A flipped bit gives a mask of the declared count or a format error, never any other exception."""
    coded = encode_smallest(mask)
    flipped = coded.parts["rice"].copy()
    flipped[data.draw(st.integers(0, flipped.size - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert decode("model.w", Coded(coded.entry, {"rice": flipped})).count() == coded.entry.count
    except CoreMaskFormatError as error:
        assert "'model.w' is damaged" in str(error)  # noqa: PT017 either outcome is right


def test_empty_masks_of_huge_tensors_cost_only_their_bits() -> None:
    """A declared size is not allocated as booleans before anything is known to be in it."""
    decoded = decode("w", Coded(Entry((1 << 16, 1 << 12), 0, "empty"), {}))
    assert decoded.data.nbytes == 1 << 25
    assert decoded.shape == (1 << 16, 1 << 12)
