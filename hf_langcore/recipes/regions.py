"""What happens to every language when regions of the model are damaged: the paper's first experiment."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from torch import nn

from hf_langcore.binding import bind, weights_digest
from hf_langcore.editing import perturb
from hf_langcore.editing.edits import How
from hf_langcore.editing.handle import value_before_edits
from hf_langcore.evaluation import PerplexityReport, ScoringTask, score
from hf_langcore.masks import CoreMask, ImportanceScores

BASE = "base"


def compare_regions(
    model: nn.Module,
    task: ScoringTask,
    regions: Mapping[str, CoreMask],
    *,
    how: How = "zero",
    factor: float | None = None,
    seed: int = 0,
    batch_size: int | Literal["auto"] = "auto",
    resume_dir: str | Path | None = None,
    base_check: Literal["error", "warn", "off"] = "error",
    progress: bool = True,
) -> PerplexityReport:
    """Perplexity per language of the model as it is, and with each region perturbed and restored in turn.

    Args:
        model: A causal LM.
        task: Prepared texts, from `hf_langcore.evaluation.prepare_scoring`.
        regions: Name of the condition -> mask.
        how: As in `perturb`.
        factor: For `how="scale"`.
        seed: For noise, shuffles and new draws.
        batch_size: Windows per forward pass.
        resume_dir: Folder that keeps finished conditions; a second call with the same texts and masks skips them.
        base_check: As in `perturb`.
        progress: Show progress bars.

    Returns:
        A report whose first condition is "base".
    """
    # Wrong arguments are to be known before hours of scoring, not in between. They are the same for all regions, so that one
    # of them is edited; whether a mask belongs to the model is asked for each.
    for number, each in enumerate(regions.values()):
        if number:
            bind(model, each, base_check=base_check, value_of=partial(value_before_edits, model))
        else:
            perturb(model, each, how=how, factor=factor, seed=seed, base_check=base_check).restore()
    identity = weights_digest(model) if resume_dir is not None else None
    reports: dict[str, PerplexityReport] = {}
    conditions: dict[str, CoreMask | None] = {BASE: None, **regions}
    for name, region in conditions.items():
        path = _kept(resume_dir, task, region, {"how": how, "factor": factor, "seed": seed, "model": identity})
        if path is not None and path.is_file():
            reports[name] = PerplexityReport.from_json(path)
            continue
        if region is None:
            reports[name] = score(model, task, batch_size=batch_size, condition=name, progress=progress)
        else:
            with perturb(model, region, how=how, factor=factor, seed=seed, base_check=base_check):
                reports[name] = score(
                    model, task, batch_size=batch_size, condition=name, on_nonfinite="inf", progress=progress
                )
        if path is not None:
            reports[name].to_json(path)
    return PerplexityReport.compare(reports)


def paper_regions(
    scores: ImportanceScores,
    fraction: float,
    *,
    magnitude: ImportanceScores | None = None,
    random_seeds: int = 1,
) -> dict[str, CoreMask]:
    """The masks of one fraction that the paper compares: "top", "bottom", "magnitude" and "random 0", "random 1", ...

    Args:
        scores: Importance.
        fraction: Share of each tensor.
        magnitude: abs(weight), for the control that takes the largest weights; None leaves it out.
        random_seeds: Number of random masks.
    """
    regions = {which: CoreMask.from_scores(scores, fraction=fraction, which=which) for which in ("top", "bottom")}
    if magnitude is not None:
        regions["magnitude"] = CoreMask.from_scores(magnitude, fraction=fraction)
    for seed in range(random_seeds):
        regions[f"random {seed}"] = CoreMask.from_scores(scores, fraction=fraction, which="random", seed=seed)
    return regions


def standard_regions(scores: ImportanceScores, fraction: float, *, random_seeds: int = 1) -> dict[str, CoreMask]:
    """Top, bottom and random masks of one fraction, named for a table."""
    named = {}
    for name, region in paper_regions(scores, fraction, random_seeds=random_seeds).items():
        which, _, seed = name.partition(" ")
        suffix = f", seed {seed}" if seed and random_seeds > 1 else ""
        named[f"{which} {100 * fraction:g} %{suffix}"] = region
    return named


def harm_ratio(report: PerplexityReport, region: str, controls: list[str]) -> dict[str, float]:
    """Per language: how much more a region's loss rises than that of the controls, in nats per token.

    Returns:
        Language -> delta nll of `region` / mean delta nll of `controls`; infinite where the controls do no harm.
    """
    deltas = report.deltas()
    ratios = {}
    for language in report.languages:
        control = sum(deltas[name][language] for name in controls) / len(controls)
        ratios[language] = deltas[region][language] / control if control > 0 else math.inf
    return ratios


def _kept(
    folder: str | Path | None, task: ScoringTask, region: CoreMask | None, how: Mapping[str, Any]
) -> Path | None:
    if folder is None:
        return None
    identity = {**how, "text": task.settings["text_sha256"], "region": region.digest() if region else BASE}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return Path(folder) / f"perplexity-{digest[:24]}.json"
