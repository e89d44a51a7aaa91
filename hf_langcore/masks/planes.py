"""The tensors of a mask, held in their stored form and decoded when they are asked for.

A mask of one percent of a model with seven billion weights takes 70 MB so, where its packed bits would take 0.8 GB.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from hf_langcore.masks.bits import PackedBits
from hf_langcore.masks.coding import Coded, decode, decode_bools, decode_chunks, encode, encode_smallest


class Planes(Mapping[str, PackedBits]):
    """Name -> packed bits, decoded on demand: no more of them exist than somebody holds.

    Immutable, as what it maps to; only the stored form may get smaller.
    """

    __slots__ = ("_alive", "_coded", "_digest")

    def __init__(self, coded: Mapping[str, Coded], *, digest: str | None = None) -> None:
        self._coded = dict(coded)
        self._digest = digest
        self._alive: weakref.WeakValueDictionary[str, PackedBits] = weakref.WeakValueDictionary()

    @classmethod
    def of(cls, tensors: Mapping[str, Any]) -> Planes:
        """Encode boolean tensors, arrays or packed bits, one after the other.

        Args:
            tensors: Name -> values. A mapping that makes its values when they are asked for is asked for one at a time.
        """
        if isinstance(tensors, Planes):
            return tensors
        planes = cls({})
        for name in tensors:
            planes._add(str(name), tensors[name])
        return planes

    def _add(self, name: str, value: Any) -> None:
        given = isinstance(value, PackedBits)
        packed = value if given else PackedBits.from_bool(value)
        self._coded[name] = encode(packed)
        if given:
            self._alive[name] = packed  # who holds it gets the same object back

    def __getitem__(self, name: str) -> PackedBits:
        packed = self._alive.get(name)
        if packed is None:
            packed = decode(name, self._coded[name])
            self._alive[name] = packed
        return packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._coded)

    def __len__(self) -> int:
        return len(self._coded)

    def __contains__(self, name: object) -> bool:
        return name in self._coded

    def __reduce__(self) -> tuple[Any, ...]:
        return Planes, (self._coded,)

    def tensor(self, name: str) -> torch.Tensor:
        """A fresh boolean tensor on the CPU."""
        packed = self._alive.get(name)
        if packed is not None:
            return packed.to_tensor()
        return torch.from_numpy(decode_bools(name, self._coded[name]))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, without decoding."""
        return {name: coded.entry.shape for name, coded in self._coded.items()}

    def count(self, name: str) -> int:
        """Number of True entries of one tensor, without decoding."""
        return self._coded[name].entry.true_count

    def size(self, name: str) -> int:
        """Number of entries of one tensor."""
        return self._coded[name].entry.size

    def coded(self) -> Mapping[str, Coded]:
        """Name -> stored form."""
        return self._coded

    def nbytes(self) -> int:
        """Bytes of all stored forms."""
        return sum(coded.nbytes for coded in self._coded.values())

    def restricted_to(self, names: Iterable[str]) -> Planes:
        """The planes of `names`, in the order of this mapping."""
        kept = set(names)
        return Planes({name: coded for name, coded in self._coded.items() if name in kept})

    def shrink(self) -> None:
        """Bring every tensor into its smallest form, one after the other."""
        for name in self._coded:
            self._coded[name] = encode_smallest(self[name])

    def digest(self) -> str:
        """Hex sha256 of names, shapes and bits; every tensor is decoded and checked in pieces.

        Raises:
            CoreMaskFormatError: A stored form is damaged.
        """
        if self._digest is None:
            digest = hashlib.sha256()
            for name, coded in sorted(self._coded.items(), key=lambda item: item[0]):
                digest.update(f"{name}|{list(coded.entry.shape)}|".encode())
                for chunk in decode_chunks(name, coded):
                    digest.update(chunk.data)
            self._digest = digest.hexdigest()
        return self._digest


class Computed(Mapping[str, PackedBits]):
    """Name -> packed bits that are computed each time they are asked for."""

    __slots__ = ("_compute", "_names")

    def __init__(self, names: Iterable[str], compute: Callable[[str], PackedBits]) -> None:
        self._names = dict.fromkeys(names)
        self._compute = compute

    def __getitem__(self, name: str) -> PackedBits:
        if name not in self._names:
            raise KeyError(name)
        return self._compute(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
