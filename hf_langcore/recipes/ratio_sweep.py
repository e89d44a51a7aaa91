"""How much general data is enough: one run per ratio, and what each acquires and retains."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers.trainer_utils import SaveStrategy

from hf_langcore.data import Corpora
from hf_langcore.errors import ConfigurationError, CorpusError, InputError
from hf_langcore.evaluation import PerplexityReport, evaluate_perplexity
from hf_langcore.files import replace_json
from hf_langcore.training.job import make_trainer, task_rows
from hf_langcore.training.parsing import RunArguments

SWEEP_FILE = "sweep.json"
FORMAT = "hf_langcore.ratio_sweep"
FORMAT_VERSION = 1

# These differ between the runs, or say nothing about what is learned.
_NOT_COMPARED = {
    "output_dir",
    "logging_dir",
    "general_data_ratio",
    "run_name",
    "disable_tqdm",
    "resume_from_checkpoint",
}


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """A model of the sweep.

    Attributes:
        ratio: Times as much general data as task data; None for the base, which is not trained.
        task_loss: Loss on task rows that no run trained on, in nats per token.
        perplexity: Language -> perplexity of texts that no run trained on.
        task_rows: Task rows that were trained.
        general_rows: General rows that were trained.
        core_weights: Core weights that were frozen, of which none has changed; None where none were.
    """

    ratio: float | None
    task_loss: float
    perplexity: Mapping[str, float]
    task_rows: int = 0
    general_rows: int = 0
    core_weights: int | None = None

    @property
    def mean_perplexity(self) -> float:
        """Geometric mean over the languages."""
        return math.exp(sum(map(math.log, self.perplexity.values())) / len(self.perplexity))

    @property
    def name(self) -> str:
        """Of its row in a table."""
        return "base" if self.ratio is None else f"{self.ratio:g}"


@dataclass(frozen=True, slots=True)
class RatioSweep:
    """The result of `ratio_sweep`.

    Attributes:
        base: The model before training.
        points: One for each ratio, in the order in which they were asked for.
    """

    base: SweepPoint
    points: tuple[SweepPoint, ...]

    def rows(self) -> list[tuple[str, ...]]:
        """Lines of a table: ratio, general rows, task loss, mean perplexity and its change, in per cent of the base's."""
        before = self.base.mean_perplexity
        return [
            (
                point.name,
                f"{point.general_rows:,}",
                f"{point.task_loss:.3f}",
                f"{point.mean_perplexity:.2f}",
                "" if point.ratio is None else f"{100 * (point.mean_perplexity / before - 1):+.1f} %",
            )
            for point in (self.base, *self.points)
        ]


def ratio_sweep(
    arguments: RunArguments,
    ratios: Sequence[float],
    corpora: Corpora,
    *,
    make_adapter: Callable[[RunArguments], Any] | None = None,
    eval_share: float = 0.1,
    max_tokens: int | None = None,
    overwrite: bool = False,
    tell: Callable[[str], object] = print,
    progress: bool = True,
) -> RatioSweep:
    """Train once for each ratio of general data, each time from the base and with the same seed, and measure both sides.

    Acquisition is the loss on task rows that are not trained on: those that the arguments name, or a part of the task
    rows that is drawn by the seed. Retention is perplexity per language. `sweep.json` in the output folder is written
    after each run, so that an interrupted sweep goes on where it was. The models themselves are not kept.

    Args:
        arguments: A run, as `parse_run` returns it; its `general_data_ratio` is replaced.
        ratios: Times as much general data as task data.
        corpora: Texts per language that tell what is left of each.
        make_adapter: Makes the adapter of a run, from arguments that it may change; none if None.
        eval_share: The part of the task rows that is held out, where no other rows are named.
        max_tokens: At most so many scored tokens per language.
        overwrite: Replace a sweep with other settings.
        tell: Called with a line for each model.
        progress: Show progress bars.

    Raises:
        ConfigurationError: The ratios need general data, the folder holds another sweep, or there are several processes.
        CorpusError: There are too few task rows to hold some out.
        InputError: A ratio is negative, not finite or given twice.
    """
    _check(arguments, ratios, eval_share)
    rows, held_out = _split(arguments, eval_share)
    settings = _settings(arguments, rows, held_out, corpora, max_tokens)
    record = _Record.open(Path(arguments.training.output_dir) / SWEEP_FILE, settings, overwrite=overwrite)
    job = _Job(arguments, rows, held_out, corpora, make_adapter, max_tokens, progress)
    for ratio in (None, *ratios):
        known = record.points.get(ratio)
        if known is None:
            known = record.points[ratio] = job.run(ratio)
            record.write()
        tell(f"ratio {known.name}: task loss {known.task_loss:.3f}, mean perplexity {known.mean_perplexity:.2f}")
    return RatioSweep(record.points[None], tuple(record.points[ratio] for ratio in ratios))


@dataclass(frozen=True, slots=True)
class _Job:
    """What all runs share."""

    arguments: RunArguments
    rows: Any
    held_out: Any
    corpora: Corpora
    make_adapter: Callable[[RunArguments], Any] | None
    max_tokens: int | None
    progress: bool

    def run(self, ratio: float | None) -> SweepPoint:
        """Train with a ratio and measure; without one, measure the base."""
        arguments = self._arguments(ratio)
        adapter = self.make_adapter(arguments) if self.make_adapter is not None else None
        trainer = make_trainer(arguments, peft_config=adapter, rows=self.rows, eval_rows=self.held_out)
        if ratio is not None:
            trainer.train()
        loss = float(trainer.evaluate()["eval_loss"])
        report = self._perplexity(trainer)
        consumed = trainer.consumed_mixture() if ratio is not None else ()
        core = trainer.protection.core_mask if ratio is not None and trainer.protection.freeze is not None else None
        return SweepPoint(
            ratio=ratio,
            task_loss=loss,
            perplexity=report.perplexity,
            task_rows=sum(one.task_rows for one in consumed) if consumed else _trained_rows(trainer, len(self.rows)),
            general_rows=sum(one.general_rows for one in consumed),
            core_weights=None if core is None else core.count(),
        )

    def _arguments(self, ratio: float | None) -> RunArguments:
        training = copy.copy(self.arguments.training)
        training.general_data_ratio = ratio or 0.0
        training.output_dir = str(Path(training.output_dir) / f"ratio-{ratio or 0:g}")
        training.save_strategy = SaveStrategy.NO
        training.load_best_model_at_end = False
        return replace(self.arguments, training=training)

    def _perplexity(self, trainer: Any) -> PerplexityReport:
        model = trainer.accelerator.unwrap_model(trainer.model)
        was_training = model.training
        try:
            return evaluate_perplexity(
                model.eval(),
                trainer.processing_class,
                self.corpora,
                max_tokens=self.max_tokens,
                on_nonfinite="inf",
                progress=self.progress,
            )
        finally:
            model.train(was_training)


@dataclass(frozen=True, slots=True)
class _Record:
    """`sweep.json`: the settings, and what is known already."""

    path: Path
    settings: dict[str, Any]
    points: dict[float | None, SweepPoint]

    @classmethod
    def open(cls, path: Path, settings: dict[str, Any], *, overwrite: bool) -> _Record:
        if not path.is_file():
            return cls(path, settings, {})
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            points = {one["ratio"]: SweepPoint(**_from_json(one)) for one in found["points"]}
            before = found["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{str(path)!r} is no record of a sweep, or is damaged ({type(error).__name__}: {error}). Move it away, or "
                "name another folder."
            ) from error
        differing = [name for name in settings if before.get(name) != settings[name]]
        if not differing:
            return cls(path, settings, points)
        if overwrite:
            return cls(path, settings, {})
        raise ConfigurationError(
            f"{str(path)!r} is of a sweep with other settings: {differing[0]} was {before.get(differing[0])!r} and is "
            f"{settings[differing[0]]!r} now. Name another folder, or overwrite it (--overwrite)."
        )

    def write(self) -> None:
        points = [_to_json(asdict(point)) for point in self.points.values()]
        head = {"format": FORMAT, "format_version": FORMAT_VERSION, "settings": self.settings}
        replace_json(self.path, {**head, "points": points})


def _to_json(point: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity, which a destroyed model's perplexity is."""
    figures = {name: value if math.isfinite(value) else str(value) for name, value in point["perplexity"].items()}
    return {**point, "perplexity": figures}


def _from_json(point: dict[str, Any]) -> dict[str, Any]:
    return {**point, "perplexity": {name: float(value) for name, value in point["perplexity"].items()}}


def _check(arguments: RunArguments, ratios: Sequence[float], eval_share: float) -> None:
    if (
        not ratios
        or len(set(ratios)) < len(ratios)
        or not all(math.isfinite(ratio) and ratio >= 0 for ratio in ratios)
    ):
        raise InputError(f"A sweep takes different ratios from 0 upwards, such as 0, 1, 5, 10; got {list(ratios)}.")
    if not 0 < eval_share < 1:
        raise InputError(f"eval_share must lie strictly between 0 and 1, got {eval_share!r}.")
    training = arguments.training
    if any(ratios) and not training.general_dataset and not getattr(training, "self_replay_rows", 0):
        raise ConfigurationError("Ratios above 0 need general data. Name it with --general (general_dataset).")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(
            "A sweep measures in one process. Run it without accelerate, or train single ratios in several processes with "
            "`langcore sft --ratio`."
        )


def _split(arguments: RunArguments, eval_share: float) -> tuple[Any, Any]:
    """The task rows to train on, and others of the task."""
    rows, held_out = task_rows(arguments)
    if held_out is not None:
        return rows, held_out
    if not isinstance(rows, Dataset) or len(rows) < 2:  # noqa: PLR2004 one for each side
        raise CorpusError(
            "The task rows stream or are too few to hold some of them out. Name other rows of the task with --eval-dataset."
        )
    parts = rows.train_test_split(test_size=max(1, round(eval_share * len(rows))), seed=arguments.training.seed)
    return parts["train"], parts["test"]


def _settings(
    arguments: RunArguments, rows: Any, held_out: Any, corpora: Corpora, max_tokens: int | None
) -> dict[str, Any]:
    """Everything that must be the same for points of one sweep, as JSON values."""
    training = {name: value for name, value in arguments.training.to_dict().items() if name not in _NOT_COMPARED}
    sizes = {"task_rows": _size(rows), "held_out_rows": _size(held_out)}
    texts = {"languages": list(corpora), "max_tokens": max_tokens}
    whole = {**asdict(arguments.script), **asdict(arguments.model), **training, **sizes, **texts}
    made: dict[str, Any] = json.loads(json.dumps(whole, default=str))
    return made


def _size(rows: Any) -> int | None:
    return len(rows) if hasattr(rows, "__len__") else None


def _trained_rows(trainer: Any, rows: int) -> int:
    """Rows that a run without a mixture has trained; the last batch of an epoch may be smaller."""
    state, args = trainer.state, trainer.args
    in_steps = state.global_step * args.train_batch_size * args.gradient_accumulation_steps
    return int(min(in_steps, rows * math.ceil(state.epoch or 0)))
