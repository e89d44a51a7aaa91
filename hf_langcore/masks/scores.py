"""ImportanceScores: one non-negative number per weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from hf_langcore.errors import CoreMaskMismatchError
from hf_langcore.masks import scores_storage
from hf_langcore.masks.provenance import Provenance


class ImportanceScores(Mapping[str, torch.Tensor]):
    """Parameter name -> float32 tensor of the weight's shape, on the CPU.

    Attributes:
        provenance: How the scores were made.
    """

    __slots__ = ("_tensors", "provenance")

    def __init__(self, tensors: Mapping[str, torch.Tensor], *, provenance: Provenance | None = None) -> None:
        self._tensors: Mapping[str, torch.Tensor] = {
            name: value.detach().to("cpu", torch.float32) for name, value in tensors.items()
        }
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

    def save_pretrained(self, save_directory: str | Path, *, overwrite: bool = False) -> None:
        """Write the scores and `importance_config.json` into a folder, all or nothing; four bytes a weight.

        Args:
            save_directory: Folder; made if it is missing. Other files in it are left alone.
            overwrite: Replace other scores that are there already.

        Raises:
            ArtifactExistsError: The folder holds different scores and `overwrite` is False, or is a file.
        """
        scores_storage.save(self._tensors, self.provenance, Path(save_directory), overwrite=overwrite)

    @classmethod
    def from_pretrained(cls, pretrained_path: str | Path) -> ImportanceScores:
        """Open the scores in a folder. Their sha256 is checked now, each tensor is read when it is asked for.

        Raises:
            InputError: There is no such folder or no scores in it.
            CoreMaskFormatError: The files are damaged, altered or of a newer format.
        """
        tensors, provenance = scores_storage.load(Path(pretrained_path))
        scores = cls({}, provenance=provenance)
        scores._tensors = tensors
        return scores

    def __repr__(self) -> str:
        size = sum(value.numel() for value in self._tensors.values())
        return f"ImportanceScores({self.provenance.summary()}: {size:,} weights in {len(self)} tensors)"
