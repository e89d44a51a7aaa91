"""ImportanceScores: one non-negative number per weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from hf_langcore.errors import CoreMaskMismatchError
from hf_langcore.masks.provenance import Provenance


class ImportanceScores(Mapping[str, torch.Tensor]):
    """Parameter name -> float32 tensor of the weight's shape, on the CPU.

    Attributes:
        provenance: How the scores were made.
    """

    __slots__ = ("_tensors", "provenance")

    def __init__(self, tensors: Mapping[str, torch.Tensor], *, provenance: Provenance | None = None) -> None:
        self._tensors = {name: value.detach().to("cpu", torch.float32) for name, value in tensors.items()}
        self.provenance = provenance or Provenance()

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __add__(self, other: ImportanceScores) -> ImportanceScores:
        """The sum over two sets of languages, as the published method sums over languages."""
        if not isinstance(other, ImportanceScores):
            return NotImplemented
        if {name: value.shape for name, value in self.items()} != {name: value.shape for name, value in other.items()}:
            raise CoreMaskMismatchError(
                "The two sets of scores cover different tensors: add scores of one model only."
            )
        tensors = {name: value + other[name] for name, value in self.items()}
        return ImportanceScores(tensors, provenance=self.provenance.combined("+", other.provenance))

    def __repr__(self) -> str:
        size = sum(value.numel() for value in self._tensors.values())
        return f"ImportanceScores({self.provenance.summary()}: {size:,} weights in {len(self)} tensors)"
