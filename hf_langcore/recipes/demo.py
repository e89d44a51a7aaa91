"""The main job end to end on the built-in corpus: find, edit, scan, fine-tune, compare."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hf_langcore._version import __version__
from hf_langcore.data.mini import mini_corpora
from hf_langcore.errors import ArtifactExistsError
from hf_langcore.evaluation import PerplexityReport, prepare_scoring
from hf_langcore.files import replace_json, replace_text
from hf_langcore.importance import compute_importance
from hf_langcore.masks import CoreMask, ImportanceScores
from hf_langcore.recipes.language_table import PAPER_LANGUAGES
from hf_langcore.recipes.pretraining import TinyModel, pretrain
from hf_langcore.recipes.regions import compare_regions, harm_ratio, standard_regions
from hf_langcore.recipes.retention import FineTuning, Run, compare_fine_tuning
from hf_langcore.recipes.tables import harm_line, run_table
from hf_langcore.scanning import CriticalScan, find_critical_dimensions

FRACTION = 0.03

_TRAIN_SENTENCES = 4000
_TEST_SENTENCES = 160


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much the demo does; the defaults take a few minutes on two cores.

    Attributes:
        model: Shape and training of the tiny model.
        train_sentences: Sentences per language to train on.
        tokens: Scored tokens per language and condition.
        importance_tokens: Tokens per language for the importance.
        candidates: Dimensions that the scan edits.
        task_rows: Rows of the fine-tuning task.
        epochs: Passes over the task rows in each fine-tuning run.
    """

    model: TinyModel = field(default_factory=TinyModel)
    train_sentences: int = _TRAIN_SENTENCES
    tokens: int = 1024
    importance_tokens: int = 64 * 128
    candidates: int = 48
    task_rows: int = 320
    epochs: int = 2


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Everything that the demo found."""

    core_mask: CoreMask
    regions: PerplexityReport
    harm: dict[str, float]
    critical: CriticalScan
    runs: list[Run]
    retention: PerplexityReport
    seconds: dict[str, float]


def run_demo(
    output: str | Path,
    *,
    size: DemoSize | None = None,
    overwrite: bool = False,
    tell: Callable[[Any], None] = print,
    progress: bool = True,
) -> DemoResult:
    """Run the demo and write mask, tables and figures into a folder.

    Args:
        output: The folder.
        size: How much to do.
        overwrite: Replace an earlier demo in the folder.
        tell: Receives what there is to show: strings and rich renderables.
        progress: Show progress bars.

    Raises:
        ArtifactExistsError: The folder exists and is not empty.
    """
    size, folder = size or DemoSize(), Path(output)
    if folder.exists() and any(folder.iterdir()) and not overwrite:
        raise ArtifactExistsError(f"{str(folder)!r} exists and is not empty. Name a new folder or pass --overwrite.")
    clock = _Clock()
    with clock("train the tiny model"):
        model, tokenizer = _tiny_model(size, tell, progress=progress)
    held_out = mini_corpora(sentences=_TEST_SENTENCES, start=size.train_sentences)
    task = prepare_scoring(model, tokenizer, held_out, block_size=128, max_tokens=size.tokens)
    with clock("find the core"):
        scores = _importance(model, tokenizer, size, progress=progress)
    core_mask = CoreMask.from_scores(scores, fraction=FRACTION)
    tell(f"\n[bold]1. The core[/bold]: {core_mask!r}")
    with clock("language table"):
        regions = compare_regions(model, task, standard_regions(scores, FRACTION, random_seeds=1), progress=progress)
    tell(regions)
    harm = harm_ratio(regions, f"top {100 * FRACTION:g} %", [f"random {100 * FRACTION:g} %"])
    tell(harm_line(harm, fraction=FRACTION))
    with clock("critical dimensions"):
        critical = find_critical_dimensions(
            model, tokenizer, held_out, candidates=size.candidates, block_size=128, max_tokens=128, progress=progress
        )
    tell("\n[bold]2. Critical dimensions[/bold]: each candidate edited, measured and restored")
    tell(critical)
    with clock("fine-tune"):
        runs, retention = compare_fine_tuning(model, tokenizer, core_mask, task, _fine_tuning(size), progress=progress)
    tell("\n[bold]3. Fine-tuning[/bold] on small sums, and what it does to every language")
    tell(retention)
    tell(run_table(runs))
    result = DemoResult(core_mask, regions, harm, critical, runs, retention, clock.seconds)
    _write(folder, result)
    tell(
        f"\nMask, tables and numbers are in {folder}. " + ", ".join(f"{k} {v:.0f} s" for k, v in clock.seconds.items())
    )
    return result


class _Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - start, 1)


def _tiny_model(size: DemoSize, tell: Callable[[Any], None], *, progress: bool) -> tuple[Any, Any]:
    """The tiny model, trained once and then taken from the cache."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers import logging as transformers_logging

    recipe = json.dumps({"model": asdict(size.model), "sentences": size.train_sentences, "version": __version__})
    cache = Path(os.environ.get("HF_LANGCORE_CACHE", Path.home() / ".cache" / "hf_langcore"))
    folder = cache / f"tiny-llama-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    transformers_logging.disable_progress_bar()
    if not (folder / "config.json").is_file():
        tell("A tiny multilingual Llama is trained on the built-in corpus; later runs take it from the cache.")
        model, tokenizer = pretrain(mini_corpora(sentences=size.train_sentences), shape=size.model, progress=progress)
        _keep(model, tokenizer, folder)
    # From disk in both cases, so that the first run and the later ones start from the same object.
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def _keep(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save into the cache in one rename, so that a killed demo leaves no half model."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        arriving = Path(temporary) / "model"
        model.save_pretrained(arriving)
        tokenizer.save_pretrained(arriving)
        shutil.rmtree(folder, ignore_errors=True)
        arriving.rename(folder)


def _importance(model: nn.Module, tokenizer: Any, size: DemoSize, *, progress: bool) -> ImportanceScores:
    texts = mini_corpora(PAPER_LANGUAGES, sentences=size.train_sentences)
    return compute_importance(
        model, tokenizer, texts, block_size=128, max_tokens=size.importance_tokens, progress=progress
    )


def _fine_tuning(size: DemoSize) -> FineTuning:
    rows = _sums(size.task_rows + 64)
    general = [text for texts in mini_corpora(sentences=400, sentences_per_document=2).values() for text in texts]
    return FineTuning(rows[: size.task_rows], rows[size.task_rows :], general, epochs=size.epochs)


def _sums(count: int) -> list[dict[str, str]]:
    """Prompt and completion rows of additions, all different."""
    generator = random.Random(0)
    pairs = generator.sample([(a, b) for a in range(100) for b in range(100)], count)
    return [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a, b in pairs]


def _write(folder: Path, result: DemoResult) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result.core_mask.save_pretrained(folder / "core-mask", overwrite=True)
    replace_json(
        folder / "results.json",
        {
            "hf_langcore": __version__,
            "regions": result.regions.to_dict(),
            "harm_ratio": {language: str(ratio) for language, ratio in result.harm.items()},
            "critical_dimensions": [
                {**asdict(one), "perplexity": str(one.perplexity), "perplexity_ratio": str(one.perplexity_ratio)}
                for one in result.critical
            ],
            "runs": [asdict(run) for run in result.runs],
            "retention": result.retention.to_dict(),
            "seconds": result.seconds,
        },
    )
    replace_text(
        folder / "tables.md",
        f"# Regions\n\n{result.regions.to_markdown()}\n# After fine-tuning\n\n{result.retention.to_markdown()}",
    )
