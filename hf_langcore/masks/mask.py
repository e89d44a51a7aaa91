"""CoreMask: which weights are core, as an immutable mapping with set algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.masks import storage
from hf_langcore.masks.bits import PackedBits
from hf_langcore.masks.dimensions import Dimension, concentrated
from hf_langcore.masks.groups import Group, check_granularity, fill, random_groups, select_groups
from hf_langcore.masks.provenance import Provenance
from hf_langcore.masks.selection import check_fraction, check_which


class CoreMask(Mapping[str, torch.Tensor]):
    """For each weight tensor of a model a boolean tensor, True = core.

    Immutable: `core_mask[name]` returns a fresh tensor on the CPU, and every operation a new mask. The bits are
    kept packed, an eighth of a byte per weight. Names are parameter names of the bare model.

    Example:
        >>> a = CoreMask({"w": torch.tensor([True, False, True, False])})
        >>> b = CoreMask({"w": torch.tensor([True, True, False, False])})
        >>> (a & b)["w"].tolist(), (a - b).count(), a.jaccard(b)
        ([True, False, False, False], 1, 0.3333333333333333)
    """

    __slots__ = ("_planes", "_provenance")

    def __init__(
        self, tensors: Mapping[str, torch.Tensor | PackedBits], *, provenance: Provenance | None = None
    ) -> None:
        planes = {
            str(name): value if isinstance(value, PackedBits) else PackedBits.from_bool(value)
            for name, value in tensors.items()
        }
        if not planes:
            raise InputError("A CoreMask needs at least one tensor, got none: name -> boolean tensor.")
        self._planes = planes
        self._provenance = provenance or Provenance()

    @classmethod
    def from_scores(
        cls,
        scores: Mapping[str, torch.Tensor],
        *,
        fraction: float,
        which: str = "top",
        seed: int = 0,
        granularity: str = "weights",
        heads: Sequence[Group] | None = None,
        provenance: Provenance | None = None,
    ) -> CoreMask:
        """Select int(fraction * numel) weights of every tensor by score, or as large a share of rows, heads or layers.

        Args:
            scores: Parameter name -> scores of any shape, such as `ImportanceScores`.
            fraction: Share of each tensor, strictly between 0 and 1. A short vector may get none.
            which: "top" (largest scores), "bottom" (smallest, for `weight_change`) or "random".
            seed: Seed of "random".
            granularity: "weights"; "rows" (outputs) or "columns" (inputs) of every matrix by the sum of their scores, of
                vectors single entries; "heads" or "layers" of the whole model by their mean score.
            heads: For "heads": `hf_langcore.heads.attention_heads(model)`.
            provenance: Where the scores come from; taken from `scores.provenance` where it has one.

        Raises:
            InputError: `fraction`, `which`, `granularity` or `heads` is wrong.
            NonFiniteError: The scores contain NaN.
        """
        fraction, which, granularity = check_fraction(fraction), check_which(which), check_granularity(granularity)
        source = provenance or getattr(scores, "provenance", None) or Provenance()
        planes = select_groups(
            scores,
            granularity=granularity,
            fraction=fraction,
            which=which,
            seed=seed,
            transposed=source.transposed,
            heads=heads,
        )
        selected = source.selected(which=which, fraction=fraction, seed=seed, granularity=granularity)
        return cls(planes, provenance=selected)

    @property
    def provenance(self) -> Provenance:
        """How this mask was made."""
        return self._provenance

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.packed(name).to_tensor()

    def __iter__(self) -> Iterator[str]:
        return iter(self._planes)

    def __len__(self) -> int:
        return len(self._planes)

    def __contains__(self, name: object) -> bool:
        return name in self._planes

    def packed(self, name: str) -> PackedBits:
        """The packed bits of one tensor, without unpacking them.

        Raises:
            KeyError: The mask does not cover `name`.
        """
        return self._planes[name]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter name -> shape."""
        return {name: plane.shape for name, plane in self._planes.items()}

    def numel(self) -> int:
        """Number of weights that the mask speaks about."""
        return sum(plane.size for plane in self._planes.values())

    def count(self, name: str | None = None) -> int:
        """Number of core weights, in one tensor or in all."""
        planes = self._planes.values() if name is None else [self.packed(name)]
        return sum(plane.count() for plane in planes)

    def density(self, name: str | None = None) -> float:
        """Share of the weights that are core, in one tensor or in all."""
        size = self.numel() if name is None else self.packed(name).size
        return self.count(name) / size if size else 0.0

    def jaccard(self, other: CoreMask) -> float:
        """Size of the intersection over size of the union; 1.0 for two empty masks."""
        union = (self | other).count()
        return (self & other).count() / union if union else 1.0

    def dimensions(self, *, limit: int | None = None) -> list[Dimension]:
        """Rows and columns in which the mask concentrates, and single weights of vectors, strongest first.

        Args:
            limit: At most so many.
        """
        return concentrated(self._planes.items(), transposed=self.provenance.transposed)[:limit]

    def __and__(self, other: CoreMask) -> CoreMask:
        return _combined(self, other, "&", PackedBits.__and__)

    def __or__(self, other: CoreMask) -> CoreMask:
        if not isinstance(other, CoreMask):
            return NotImplemented
        return _combined(_widened(self, other), _widened(other, self), "|", PackedBits.__or__)

    def __xor__(self, other: CoreMask) -> CoreMask:
        return _combined(self, other, "^", PackedBits.__xor__)

    def __sub__(self, other: CoreMask) -> CoreMask:
        return _combined(self, other, "-", PackedBits.__sub__)

    def __invert__(self) -> CoreMask:
        return self.complement()

    def complement(self) -> CoreMask:
        """Every weight of the covered tensors that is not in this mask."""
        planes = {name: ~plane for name, plane in self._planes.items()}
        return CoreMask(planes, provenance=self.provenance.combined("complement"))

    def random_like(self, *, seed: int = 0) -> CoreMask:
        """A random mask with as many weights in each tensor as this one: the control.

        Of a mask of whole rows, columns or layers these are drawn as a whole; of any other mask single weights, also of
        one of heads: `compute_core_mask(model, method="random", granularity="heads", ...)` draws those.
        """
        source = self.provenance
        planes, granularity = random_groups(
            self._planes, granularity=source.granularity, transposed=source.transposed, seed=seed
        )
        words = f"random {granularity} of equal size" if granularity else "random of equal size"
        drawn = replace(source.combined(f"{words}, seed {seed}"), granularity=granularity)
        return CoreMask(planes, provenance=drawn)

    def restricted_to(self, names: set[str]) -> CoreMask:
        """The part of the mask that covers `names`."""
        planes = {name: plane for name, plane in self._planes.items() if name in names}
        return CoreMask(planes, provenance=self.provenance)

    def digest(self) -> str:
        """Hex sha256 of names, shapes and bits: the identity of the mask, however it is stored."""
        return storage.digest_of(self._planes)

    def save_pretrained(self, save_directory: str | Path, *, overwrite: bool = False) -> None:
        """Write `core_mask.safetensors` and `core_mask_config.json` into a folder, all or nothing.

        Args:
            save_directory: Folder; made if it is missing. Other files in it are left alone.
            overwrite: Replace another mask that is there already.

        Raises:
            ArtifactExistsError: The folder holds a different mask and `overwrite` is False, or is a file.
        """
        storage.save(self._planes, self.provenance, Path(save_directory), digest=self.digest(), overwrite=overwrite)

    @classmethod
    def from_pretrained(cls, pretrained_path: str | Path) -> CoreMask:
        """Load a mask from a folder.

        Raises:
            InputError: There is no such folder or no mask in it.
            CoreMaskFormatError: The files are damaged, altered or of a newer format.
        """
        planes, provenance = storage.load(Path(pretrained_path))
        return cls(planes, provenance=provenance)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoreMask) and self.shapes() == other.shapes() and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __deepcopy__(self, memo: dict[int, Any]) -> CoreMask:
        return self  # immutable: a copy would only cost memory

    def __repr__(self) -> str:
        return (
            f"CoreMask({self.provenance.summary()}: {self.count():,} of {self.numel():,} weights "
            f"({100 * self.density():.3g} %) in {len(self)} tensors)"
        )


def _combined(
    mine: CoreMask, other: CoreMask, operator: str, operation: Callable[[PackedBits, PackedBits], PackedBits]
) -> CoreMask:
    if not isinstance(other, CoreMask):
        return NotImplemented
    _require_same_shapes(mine.shapes(), other.shapes())
    planes = {name: operation(mine.packed(name), other.packed(name)) for name in mine}
    return CoreMask(planes, provenance=mine.provenance.combined(operator, other.provenance))


def _widened(core_mask: CoreMask, other: CoreMask) -> CoreMask:
    """A mask with nothing chosen in the tensors that only `other` covers, where both are of one model."""
    if not core_mask.shapes().keys() & other.shapes().keys():
        return core_mask
    shapes = {name: shape for name, shape in other.shapes().items() if name not in core_mask}
    planes = {name: core_mask.packed(name) for name in core_mask} | fill(shapes, ())
    return CoreMask(planes, provenance=core_mask.provenance)


def _require_same_shapes(mine: Mapping[str, tuple[int, ...]], others: Mapping[str, tuple[int, ...]]) -> None:
    if mine == others:
        return
    wrong = sorted(name for name in mine.keys() | others.keys() if mine.get(name) != others.get(name))
    name = wrong[0]
    raise CoreMaskMismatchError(
        f"The two masks cover different tensors: {len(wrong)} differ, the first is {name!r} with shape "
        f"{mine.get(name)} here and {others.get(name)} there. Combine masks of one model, found with the same "
        "`include`; `restricted_to(names)` cuts a mask to some tensors."
    )
