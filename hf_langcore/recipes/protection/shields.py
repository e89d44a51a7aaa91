"""What is frozen, and how strongly anchors pull: computed once for each task and shared by all runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from hf_langcore.data import Corpora
from hf_langcore.errors import InputError
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.recipes.language_table import PAPER_LANGUAGES

Frozen = Literal["core", "random", "magnitude", "columns", "random columns"]


@dataclass(frozen=True, slots=True)
class ShieldSize:
    """How much is frozen and how much text decides it.

    Attributes:
        fraction: Share of each tensor in the core, and in the random and the magnitude mask.
        column_fraction: Share of the columns of each matrix.
        core_languages: Languages that the core is looked for in.
        block_size: Tokens per block.
        core_blocks: Blocks per core language.
        column_blocks: Blocks per kept language that columns are chosen by; about 500 in all, as published.
        fisher_blocks: Blocks per kept language that the Fisher importance is computed from, one a batch.
    """

    fraction: float = 0.03
    column_fraction: float = 0.5
    core_languages: tuple[str, ...] = PAPER_LANGUAGES
    block_size: int = 128
    core_blocks: int = 96
    column_blocks: int = 17
    fisher_blocks: int = 4


@dataclass(frozen=True, slots=True)
class Shields:
    """Masks and importance for one task.

    Attributes:
        scores: Of the core.
        magnitude: Mask of the largest weights.
        columns: Mask of whole columns; None where no method freezes any.
        importance: Fisher importance on the languages that are to be kept; None where no anchor is weighted by it.
        size: How they were made.
    """

    scores: ImportanceScores
    magnitude: CoreMask
    columns: CoreMask | None
    importance: ImportanceScores | None
    size: ShieldSize

    def mask(self, frozen: Frozen, *, seed: int) -> CoreMask:
        """The weights that are frozen.

        Args:
            frozen: "core"; "random" and "magnitude" of equal size; "columns" by Wanda score on the kept languages, or
                "random columns", as many.
            seed: Of the random ones.

        Raises:
            InputError: `frozen` is none of these, or columns were not computed.
        """
        if frozen not in get_args(Frozen):
            raise InputError(f"frozen must be one of {list(get_args(Frozen))}, got {frozen!r}.")
        if frozen == "magnitude":
            return self.magnitude
        if frozen in {"columns", "random columns"} and self.columns is None:
            raise InputError(
                "These shields were computed without columns. Compute them: compute_shields(with_columns=True)."
            )
        if frozen == "columns" and self.columns is not None:
            return self.columns
        if frozen == "random columns" and self.columns is not None:
            wanted = {name: self.columns[name].float() for name in self.columns}
            return CoreMask.from_scores(
                wanted,
                fraction=self.size.column_fraction,
                which="random",
                seed=seed,
                granularity="columns",
                provenance=self.columns.provenance,
            )
        which = "top" if frozen == "core" else "random"
        return CoreMask.from_scores(self.scores, fraction=self.size.fraction, which=which, seed=seed)


def compute_shields(
    model: nn.Module,
    tokenizer: Any,
    train: Corpora,
    source: Corpora,
    *,
    with_columns: bool = True,
    with_importance: bool = True,
    size: ShieldSize | None = None,
    resume_dir: str | Path | None = None,
    progress: bool = True,
) -> Shields:
    """Find everything that methods freeze or weight by.

    Args:
        model: A causal LM.
        tokenizer: Its tokenizer.
        train: Text that has the core languages.
        source: Text of the languages that are to be kept.
        with_columns: Also find whole columns; left out where no method freezes any.
        with_importance: Also compute the Fisher importance; left out where no anchor is weighted by it.
        size: How much.
        resume_dir: Folder that keeps finished languages.
        progress: Show progress bars.
    """
    size = size or ShieldSize()

    def importance(corpora: Corpora, method: Any, blocks: int, *, batch_size: int) -> ImportanceScores:
        return compute_importance(
            model,
            tokenizer,
            corpora,
            method=method,
            block_size=size.block_size,
            batch_size=batch_size,
            max_tokens=blocks * size.block_size,
            resume_dir=resume_dir,
            progress=progress,
        )

    columns = None
    if with_columns:
        wanda = importance(source, "wanda", size.column_blocks, batch_size=8)
        columns = CoreMask.from_scores(wanda, fraction=size.column_fraction, granularity="columns")
    core_corpora = {language: train[language] for language in size.core_languages}
    return Shields(
        scores=importance(core_corpora, "taylor", size.core_blocks, batch_size=8),
        magnitude=CoreMask.from_scores(compute_importance(model, method="magnitude"), fraction=size.fraction),
        columns=columns,
        importance=importance(source, "fisher", size.fisher_blocks, batch_size=1) if with_importance else None,
        size=size,
    )
