"""The core of one layer as its forward pass needs it: a few indices where the core is small, bits where it is not."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from hf_langcore.masks import CoreMask, unpack_bits

SPARSE_BELOW = 1 / 16
"""Cores of at most this share are held as indices (4 bytes each, so less than twice the packed bits)."""

_INT32_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CoreIndex:
    """The entries of a small core in the order of the flattened weight.

    Attributes:
        flat: Their positions, int32 (int64 where the weight is too large for that), ascending.
        row_starts: How many of them lie in earlier rows: rows + 1 numbers, as in the CSR format.
        shape: Rows and columns of the weight; a stack of matrices counts as one with all their rows.
        busy_rows: How many rows have core entries.
    """

    flat: torch.Tensor
    row_starts: torch.Tensor
    shape: tuple[int, int]
    busy_rows: int

    def columns(self) -> torch.Tensor:
        """Column of every entry."""
        return self.flat % self.shape[1]

    def rows(self) -> torch.Tensor:
        """Row of every entry."""
        return torch.div(self.flat, self.shape[1], rounding_mode="floor")

    def pattern(self, values: torch.Tensor) -> torch.Tensor:
        """A sparse CSR matrix with these values at the core entries."""
        return _sparse_csr(self.row_starts, self.columns(), values, self.shape)

    def sampled(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Entries of `left @ right` in the core and nowhere else, as a CSR matrix.

        Args:
            left: (rows, k); fastest if its rows are contiguous.
            right: (k, columns); fastest if its columns are contiguous.
        """
        empty = self.pattern(torch.zeros(self.flat.numel(), dtype=left.dtype, device=left.device))
        entries: torch.Tensor = torch.sparse.sampled_addmm(empty, left, right, beta=0.0)
        return entries


class LayerCore:
    """The core of one weight tensor.

    Made once for a set of active adapters and kept by the layer, because finding the entries among the bits takes
    as long as several passes over the weight.

    Attributes:
        packed: uint8, the bits in the layout of `hf_langcore.masks.PackedBits`, on the layer's device.
        shape: Shape of the weight: (rows, columns) or (experts, rows, columns).
        index: The entries, found when they are first asked for; None where the core is too large for that to pay.
    """

    def __init__(self, packed: torch.Tensor, shape: tuple[int, ...]) -> None:
        self.packed = packed
        self.shape = shape
        self._found: list[CoreIndex | None] = []

    @property
    def index(self) -> CoreIndex | None:
        """The entries, or None."""
        if not self._found:
            self._found.append(_index_of(self.packed, self.shape))
        return self._found[0]

    @property
    def device(self) -> torch.device:
        """Where the bits are."""
        return self.packed.device

    def mask(self) -> torch.Tensor:
        """A fresh boolean tensor of `shape`, True = core."""
        return unpack_bits(self.packed, self.shape)

    def count(self) -> int:
        """Number of core entries."""
        return _count(self.packed) if self.index is None else self.index.flat.numel()

    def rows(self, tokens: torch.Tensor) -> torch.Tensor:
        """The rows of a matrix's mask that tokens stand for: boolean, (*tokens.shape, columns)."""
        columns = torch.arange(self.shape[1], device=tokens.device)
        positions = tokens.long().unsqueeze(-1) * self.shape[1] + columns
        return ((self.packed[positions >> 3] >> (positions & 7)) & 1).bool()

    def to(self, device: torch.device) -> LayerCore:
        """The same core on another device."""
        return self if self.packed.device == device else LayerCore(self.packed.to(device), self.shape)

    def keep(self, changed: torch.Tensor, original: torch.Tensor) -> torch.Tensor:
        """`where(core, original, changed)`; may write into `changed`. The core's bits are copied, never computed."""
        if self.index is None or not changed.is_contiguous() or not original.is_contiguous():
            return torch.where(self.mask(), original, changed)
        values = original.view(-1).index_select(0, self.index.flat)
        changed.view(-1).index_copy_(0, self.index.flat.long(), values)
        return changed

    def clear(self, change: torch.Tensor) -> torch.Tensor:
        """`where(core, 0, change)`; writes into `change`."""
        if self.index is None or not change.is_contiguous():
            return change.masked_fill_(self.mask(), 0)
        change.view(-1).index_fill_(0, self.index.flat.long(), 0)
        return change


class Elsewhere:
    """What adapters say of a weight whose layer they do not target: the bits of their masks.

    Attributes:
        masks: The tuner's masks by name of adapter.
        weight_name: Name of the weight in the bare model.
    """

    def __init__(self, masks: dict[str, Any], weight_name: str) -> None:
        self.masks = masks
        self.weight_name = weight_name
        self._known: dict[str, tuple[CoreMask, torch.Tensor]] = {}

    def forget(self, name: str) -> None:
        """A deleted adapter protects nothing any more."""
        self.masks.pop(name, None)
        self._known.pop(name, None)

    def bits(self, name: str) -> torch.Tensor | None:
        """The packed bits on the CPU, the same tensor each time; None where the mask does not cover the weight."""
        core_mask = self.masks.get(name)
        if not isinstance(core_mask, CoreMask) or self.weight_name not in core_mask:
            return None
        known = self._known.get(name)
        if known is None or known[0] is not core_mask:
            bits = torch.from_numpy(core_mask.packed(self.weight_name).data.copy())
            self._known[name] = known = (core_mask, bits)
        return known[1]


def _index_of(packed: torch.Tensor, shape: tuple[int, ...]) -> CoreIndex | None:
    size = math.prod(shape)
    if packed.is_meta or _count(packed) > SPARSE_BELOW * size:
        return None
    # Only the bytes that hold a core bit are unpacked: eight times as many booleans as the weight has entries / 8
    # would be the largest thing in memory.
    occupied = packed.nonzero().squeeze(1)
    bits = torch.arange(8, device=packed.device)
    positions = occupied[:, None] * 8 + bits
    flat = positions[((packed[occupied][:, None] >> bits) & 1).bool()]
    columns = shape[-1]
    rows = size // columns
    in_rows = torch.bincount(flat // columns, minlength=rows)
    row_starts = torch.zeros(rows + 1, dtype=torch.int64, device=packed.device)
    row_starts[1:] = in_rows.cumsum(0)
    dtype = torch.int32 if size <= _INT32_MAX else torch.int64
    return CoreIndex(flat.to(dtype), row_starts.to(dtype), (rows, columns), int((in_rows > 0).sum()))


def _count(packed: torch.Tensor) -> int:
    ones = torch.tensor([byte.bit_count() for byte in range(256)], device=packed.device)
    return int((torch.bincount(packed.long(), minlength=256) * ones).sum())


def _sparse_csr(
    row_starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]
) -> torch.Tensor:
    with warnings.catch_warnings():
        # torch says once a process that its CSR tensors are in beta; nobody can act on that here.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(row_starts, columns, values, size=shape, check_invariants=False)
