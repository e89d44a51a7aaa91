"""CoreMask: which weights are core, as an immutable mapping with set algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hf_langcore.errors import CoreMaskMismatchError, InputError
from hf_langcore.masks import storage
from hf_langcore.masks.bits import PackedBits
from hf_langcore.masks.dimensions import Dimension, concentrated
from hf_langcore.masks.groups import Group, check_granularity, fill, random_groups, select_groups
from hf_langcore.masks.origin import HubOrigin
from hf_langcore.masks.planes import Computed, Planes
from hf_langcore.masks.provenance import Provenance
from hf_langcore.masks.selection import check_fraction, check_which

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


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

    __slots__ = ("_origin", "_planes", "_provenance")

    def __init__(
        self, tensors: Mapping[str, torch.Tensor | PackedBits], *, provenance: Provenance | None = None
    ) -> None:
        planes = Planes.of(tensors)
        if not planes:
            raise InputError("A CoreMask needs at least one tensor, got none: name -> boolean tensor.")
        self._planes = planes
        self._provenance = provenance or Provenance()
        self._origin: HubOrigin | None = None

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

    @property
    def origin(self) -> HubOrigin | None:
        """The repository and commit that it was loaded from or pushed to last; None for a mask that is not on the Hub.

        Not part of a mask's identity: equal masks may lie in several places.
        """
        return self._origin

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._planes.tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._planes)

    def __len__(self) -> int:
        return len(self._planes)

    def __contains__(self, name: object) -> bool:
        return name in self._planes

    def packed(self, name: str) -> PackedBits:
        """The packed bits of one tensor, decoded unless somebody holds them already.

        Raises:
            KeyError: The mask does not cover `name`.
        """
        return self._planes[name]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameter name -> shape."""
        return self._planes.shapes()

    def numel(self) -> int:
        """Number of weights that the mask speaks about."""
        return sum(map(self._planes.size, self._planes))

    def count(self, name: str | None = None) -> int:
        """Number of core weights, in one tensor or in all."""
        return sum(map(self._planes.count, self._planes if name is None else [name]))

    def density(self, name: str | None = None) -> float:
        """Share of the weights that are core, in one tensor or in all."""
        size = self.numel() if name is None else self._planes.size(name)
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
        planes = Computed(self, lambda name: ~self.packed(name))
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
        return CoreMask(self._planes.restricted_to(names), provenance=self.provenance)

    def with_provenance(self, provenance: Provenance) -> CoreMask:
        """The same bits with another provenance."""
        return CoreMask(self._planes, provenance=provenance)

    def with_origin(self, origin: HubOrigin | None) -> CoreMask:
        """The same mask, said to lie elsewhere on the Hub."""
        moved = self.with_provenance(self.provenance)
        moved._origin = origin  # noqa: SLF001 one of its own
        return moved

    def digest(self) -> str:
        """Hex sha256 of names, shapes and bits: the identity of the mask, however it is stored."""
        return self._planes.digest()

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
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: bool | str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> CoreMask:
        """Load a mask from a folder or from a repository on the Hub.

        Args:
            pretrained_model_name_or_path: A folder, or "owner/name" of a repository. A folder of that name comes first.
            revision: Branch, tag or 40-hex commit of the repository.
            subfolder: Folder in the repository or folder that holds the mask.
            token: Access token; None uses the stored one.
            cache_dir: Folder of the cache; None is huggingface_hub's.
            local_files_only: Do not ask the Hub; as HF_HUB_OFFLINE does.
            force_download: Download again what is in the cache.

        Raises:
            InputError: There is no such folder or no mask in it, or a revision is given for a folder.
            CoreMaskFormatError: The files are damaged, altered or of a newer format.
            HubError: The repository cannot be read: missing, private, gated, not reachable.
        """
        from hf_langcore.hub.fetch import Repository
        from hf_langcore.hub.sharing import open_mask

        asked = Repository(
            str(pretrained_model_name_or_path),
            revision=revision,
            subfolder=subfolder,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        (planes, provenance), origin = open_mask(asked, storage.load)
        return cls(planes, provenance=provenance).with_origin(origin)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        base_model: str | None = None,
        base_revision: str | None = None,
        results: Any = None,
        license: str | None = None,  # noqa: A002 the card's word
        datasets: Sequence[str] = (),
        figures: Mapping[str | Path, str] | None = None,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        parent_commit: str | None = None,
        token: bool | str | None = None,
    ) -> CommitInfo:
        """Upload the mask with its card, and with results where some are given, in one commit.

        The mask is pinned to its base model's repository and commit. Where the provenance does not know the commit it is
        found by comparing the mask's fingerprint with the model's files in the cache; without these it is the newest one,
        with a warning. A model whose cached files have other weights is refused.

        Args:
            repo_id: "owner/name", or "name" for your own; made if it is missing. A mask that is there is replaced, what you
                wrote into its card stays.
            base_model: Repository of the base model, where the mask was found on a copy in a folder.
            base_revision: Branch, tag or commit of the base model that the mask was found on.
            results: A PerplexityReport, or an EvalResults, of the model and of perturbed ones; added to
                `eval/results.json`, which keeps the others that are there.
            license: Of the mask, such as "apache-2.0"; None takes the base model's.
            datasets: Repositories of the data sets whose text was used, for the card.
            figures: Pictures for the card: local file -> caption, such as those of `langcore report`.
            commit_message: First line of the commit.
            commit_description: Further lines.
            private: Of a repository that is made; None is the account's default.
            revision: Branch to push to; made if it is missing.
            create_pr: Open a pull request instead, also in somebody else's repository.
            parent_commit: Refuse if the branch is not at this commit any more.
            token: Access token; None uses the stored one.

        Returns:
            The commit: `.oid` is its sha, `.pr_url` the pull request.

        Raises:
            InputError: The base model is no repository, or `repo_id` is none or the base model's own.
            CoreMaskMismatchError: The named revision has other weights.
            HubConflictError: `parent_commit` is not the newest commit any more.
            HubError: The Hub refused or could not be reached; nothing was changed there.

        Example:
            >>> core_mask.push_to_hub("me/my-core", private=True).oid  # doctest: +SKIP
            '3f1c...'
        """
        from hf_langcore.hub.sharing import push_mask

        pushed, self._origin = push_mask(
            self,
            repo_id,
            base_model=base_model,
            base_revision=base_revision,
            results=results,
            license=license,
            datasets=datasets,
            figures=figures or {},
            commit_message=commit_message,
            commit_description=commit_description,
            private=private,
            revision=revision,
            create_pr=create_pr,
            parent_commit=parent_commit,
            token=token,
        )
        return pushed

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
    planes = Computed(mine, lambda name: operation(mine.packed(name), other.packed(name)))
    return CoreMask(planes, provenance=mine.provenance.combined(operator, other.provenance))


def _widened(core_mask: CoreMask, other: CoreMask) -> CoreMask:
    """A mask with nothing chosen in the tensors that only `other` covers, where both are of one model."""
    if not core_mask.shapes().keys() & other.shapes().keys():
        return core_mask
    shapes = {name: shape for name, shape in other.shapes().items() if name not in core_mask}
    planes = Computed(
        [*core_mask, *shapes],
        lambda name: core_mask.packed(name) if name in core_mask else fill({name: shapes[name]}, ())[name],
    )
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
