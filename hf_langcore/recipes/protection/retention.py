"""The retention benchmark: any way of fine-tuning, each at the learning rate that suits it, on the same data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hf_langcore.data import Corpora
from hf_langcore.errors import InputError
from hf_langcore.recipes.protection.benchmark import methods_to_dict
from hf_langcore.recipes.protection.methods import Method
from hf_langcore.recipes.protection.record import ProtectionRun, as_json_values
from hf_langcore.recipes.protection.report import Summary, summarise
from hf_langcore.recipes.protection.runs import run_protection
from hf_langcore.recipes.protection.shields import Shields
from hf_langcore.recipes.protection.tasks import ProtectionSize, ProtectionTask, arithmetic_task, language_task

ARITHMETIC = "arithmetic"
_NEARLY = 0.95  # of the largest gain

BENCHMARK_SIZE = ProtectionSize(
    sums=256, largest=19, sums_epochs=12, test_sums=128, choice_sums=64, blocks=192, target_blocks=24
)
"""Sums of numbers up to 19, because a model of a few million parameters can learn some of them within 200 steps."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What every method learned and lost.

    Attributes:
        task: What was learned.
        methods: Every method at every learning rate.
        chosen: Curve -> name of the method at the learning rate that was chosen on the first seed.
        runs: All runs: every rate with the first seed, the chosen ones with all.
        seeds: The first of them chose the rates.
    """

    task: str
    methods: tuple[Method, ...]
    chosen: dict[str, str]
    runs: tuple[ProtectionRun, ...]
    seeds: tuple[int, ...]

    def summaries(self) -> dict[str, Summary]:
        """Curve -> what the chosen learning rate gave, over all seeds."""
        own = [method for method in self.methods if method.name in self.chosen.values()]
        found = {one.method: one for one in summarise(self.runs, own)}
        return {curve: found[name] for curve, name in self.chosen.items()}

    def all_summaries(self) -> list[Summary]:
        """Every method at every learning rate."""
        return summarise(self.runs, self.methods)

    def rate(self, curve: str) -> float:
        """The learning rate that was chosen."""
        return next(method.learning_rate for method in self.methods if method.name == self.chosen[curve])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, with words for figures that are not finite."""
        rows = {curve: {"learning_rate": self.rate(curve), **asdict(one)} for curve, one in self.summaries().items()}
        values = {
            "task": self.task,
            "seeds": self.seeds,
            "methods": methods_to_dict(self.methods),
            "chosen": rows,
            "runs": [asdict(run) for run in self.runs],
        }
        plain: dict[str, Any] = as_json_values(values)
        return plain


def run_retention(
    model: nn.Module,
    tokenizer: Any,
    task: ProtectionTask,
    shields: Shields,
    methods: Sequence[Method],
    *,
    output: str | Path,
    seeds: Sequence[int] = (0, 1, 2),
    bf16: bool = True,
    tell: Callable[[str], None] = print,
) -> Retention:
    """Try every learning rate with the first seed, take each method's best, and repeat it with the other seeds.

    The best rate of a method is the lowest one with at least 95 % of the largest gain on the task's choice rows, which are
    neither trained on nor reported: methods are compared where each learns about all that it can. Methods of the same `curve` are rates of one method.

    Args:
        model: A causal LM in float32; it is left as it is.
        tokenizer: Its tokenizer.
        task: What is learned, and what is to be kept.
        shields: The core, and what else methods freeze.
        methods: Every method at every learning rate.
        output: Folder of the runs; finished ones are read from there.
        seeds: Of data order, adapters and random masks.
        bf16: Train in mixed precision; weights stay float32.
        tell: Receives one line per run.

    Raises:
        InputError: There is no seed, or one twice, or no method.
        ConfigurationError: An adapter cannot be applied to the model.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise InputError(f"Give seeds, each once, such as (0, 1, 2); got {tuple(seeds)!r}.")

    def run(chosen: Sequence[Method], own: Sequence[int]) -> list[ProtectionRun]:
        return run_protection(
            model, tokenizer, [(task, shields)], chosen, output=output, seeds=own, bf16=bf16, tell=tell
        )

    sweep = run(methods, seeds[:1])
    chosen = choose_rates(methods, sweep)
    best = [method for method in methods if method.name in chosen.values()]
    others = run(best, seeds[1:]) if len(seeds) > 1 else []
    return Retention(task.name, tuple(methods), chosen, (*sweep, *others), tuple(seeds))


def choose_rates(methods: Sequence[Method], runs: Sequence[ProtectionRun]) -> dict[str, str]:
    """Curve -> name of the method at the lowest learning rate that gains nearly as much as the best on the choice rows.

    Nearly: 95 % of it. A rate that is three times as high and gains a hundredth of a nat more may destroy the model.

    Args:
        methods: Every method at every learning rate.
        runs: One of each, of one seed.
    """
    gains = {run.method: run.choice_gain for run in runs}
    curves: dict[str, list[Method]] = {}
    for method in methods:
        curves.setdefault(method.curve or method.name, []).append(method)
    chosen = {}
    for curve, own in curves.items():
        best = max(gains[method.name] for method in own)
        enough = [method for method in own if gains[method.name] >= best - (1 - _NEARLY) * abs(best)]
        chosen[curve] = min(enough or own, key=lambda method: method.learning_rate).name
    return chosen


def retention_task(
    tokenizer: Any, name: str, train: Corpora, test: Corpora, *, size: ProtectionSize = BENCHMARK_SIZE
) -> ProtectionTask:
    """The task "arithmetic", or that of learning a language.

    Args:
        tokenizer: The model's tokenizer.
        name: "arithmetic", or the code of a language that there are texts for.
        train: Text of all languages.
        test: Held-out text of the same languages.
        size: How much to train and to measure.

    Raises:
        InputError: There is no such task, or no language is left to be kept.
    """
    if name == ARITHMETIC:
        return arithmetic_task(tokenizer, train, test, size=size)
    if name not in test or len(test) < 2:  # noqa: PLR2004 one to learn, one to keep
        raise InputError(
            f"The task is {ARITHMETIC!r} or one of at least two languages that there are texts for, here {', '.join(test)}; got {name!r}."
        )
    return language_task(tokenizer, name, train, test, size=size)
