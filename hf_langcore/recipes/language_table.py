"""The paper's table: many languages, several fractions; top, bottom, random and magnitude regions zeroed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hf_langcore.data import Corpora
from hf_langcore.evaluation import PerplexityReport, prepare_scoring
from hf_langcore.importance import compute_importance
from hf_langcore.recipes.regions import compare_regions, harm_ratio, paper_regions

PAPER_LANGUAGES = ("ar", "es", "ru", "zh", "ko", "vi")


@dataclass(frozen=True, slots=True)
class FractionTable:
    """What zeroing regions of one size does.

    Attributes:
        fraction: Share of each tensor.
        report: Conditions "base", "top", "bottom", "magnitude" and "random 0", "random 1", ...
        harm: Language -> rise in loss under "top" / mean rise under the random regions.
    """

    fraction: float
    report: PerplexityReport
    harm: dict[str, float]

    @property
    def random_names(self) -> list[str]:
        """The random conditions."""
        return [name for name in self.report.conditions if name.startswith("random")]


def language_table(
    model: nn.Module,
    tokenizer: Any,
    core_corpora: Corpora,
    test_corpora: Corpora,
    *,
    fractions: Sequence[float] = (0.01, 0.03, 0.05),
    random_seeds: int = 5,
    block_size: int = 512,
    core_tokens: int | None = None,
    test_tokens: int | None = None,
    resume_dir: str | Path | None = None,
    progress: bool = True,
) -> list[FractionTable]:
    """Find the core in some languages, then zero regions and measure in all.

    Args:
        model: A causal LM.
        tokenizer: Its tokenizer.
        core_corpora: Texts of the languages in which the core is looked for; the paper has ar, es, ru, zh, ko, vi.
        test_corpora: Other texts, of all languages to be measured.
        fractions: Sizes of the regions.
        random_seeds: Number of random regions per size.
        block_size: Tokens per block and window.
        core_tokens: At most so many tokens per language for the importance.
        test_tokens: At most so many scored tokens per language.
        resume_dir: Folder that keeps finished languages and conditions, so that a killed run goes on where it was.
        progress: Show progress bars.
    """
    kept = None if resume_dir is None else Path(resume_dir)
    scores = compute_importance(
        model,
        tokenizer,
        core_corpora,
        block_size=block_size,
        max_tokens=core_tokens,
        resume_dir=kept,
        progress=progress,
    )
    magnitude = compute_importance(model, method="magnitude")
    task = prepare_scoring(model, tokenizer, test_corpora, block_size=block_size, max_tokens=test_tokens)
    tables = []
    for fraction in fractions:
        regions = paper_regions(scores, fraction, magnitude=magnitude, random_seeds=random_seeds)
        report = compare_regions(model, task, regions, resume_dir=kept, progress=progress)
        controls = [name for name in regions if name.startswith("random")]
        tables.append(FractionTable(fraction, report, harm_ratio(report, "top", controls)))
    return tables


def to_markdown(table: FractionTable, *, names: Mapping[str, str] | None = None) -> str:
    """One fraction as a Markdown table; random regions as mean and range over their seeds.

    Args:
        table: The figures.
        names: Language code -> name, for the first column.
    """
    report, randoms = table.report, table.random_names
    header = ["language", "base nll", "base", "top", "bottom", "random (mean)", "random (range)", "magnitude", "harm"]
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    for language in report.languages:
        controls = [report.conditions[name][language].perplexity for name in randoms]
        cells = [
            (names or {}).get(language, language),
            f"{report.conditions['base'][language].nll:.3f}",
            *(f"{report.conditions[name][language].perplexity:.1f}" for name in ("base", "top", "bottom")),
            f"{_geometric(controls):.1f}",
            f"{min(controls):.1f} to {max(controls):.1f}",
            f"{report.conditions['magnitude'][language].perplexity:.1f}",
            f"{table.harm[language]:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    means = [f"{report.mean(name):.1f}" for name in ("base", "top", "bottom")]
    controls = [report.mean(name) for name in randoms]
    spread = f"{min(controls):.1f} to {max(controls):.1f}"
    magnitude = f"{report.mean('magnitude'):.1f}"
    lines.append(f"| **mean** | | {' | '.join(means)} | {_geometric(controls):.1f} | {spread} | {magnitude} | |")
    return "\n".join(lines) + "\n"


def _geometric(values: Sequence[float]) -> float:
    return math.exp(sum(math.log(value) for value in values) / len(values))
