"""Little data, seen once, twice and five times: what is learned, what is learned by heart, and what the languages lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hf_langcore.data import Window, start_token
from hf_langcore.errors import InputError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.evaluation.language_score import exp_or_inf
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.paper.further import (
    FurtherTraining,
    fresh_copy,
    in_order,
    losses_of,
    pretrain_further,
    rate_for,
)
from hf_langcore.recipes.paper.further_texts import (
    block_size_for,
    can_generate,
    enough_blocks,
    own_blocks,
    trained_language,
)
from hf_langcore.recipes.paper.recovery_tables import others
from hf_langcore.report.parts import Cell, Curves, Part, Section, Spread, Table

REPEATED, FRESH = "the same text again", "new text each time"

_EPOCHS = (1, 2, 5)
_MEASURES = ("training", "test", "others")

_TEXT = (
    (
        "A copy of the model is pretrained further on little text in **{language}**: {samples:,} blocks of {block_size} tokens "
        "({source}), seen up to {epochs} times, in a new order each time. Beside it the control: equally many steps of the same "
        "size in which nothing comes twice. Both begin with the same first pass, so that they part only where the repetition "
        "begins."
    ),
    (
        "Where the loss on the training text falls and that on held-out text does not, the text is learned by heart. What the "
        "control loses in the other languages is what training on one language costs; only what the repeated text loses "
        "beyond that is the repetition's."
    ),
)


@dataclass(frozen=True, slots=True)
class _Plan:
    language: str
    epochs: tuple[int, ...]
    samples: int
    blocks: torch.Tensor  # `samples` of them are repeated; all of them are the control's
    source: str
    training: FurtherTraining

    @property
    def passes(self) -> dict[str, tuple[int, ...]]:
        """Epochs that each arm can be measured after."""
        return {
            REPEATED: self.epochs,
            FRESH: tuple(one for one in self.epochs if one * self.samples <= len(self.blocks)),
        }


def epochs(
    bench: Bench,
    *,
    language: str | None = None,
    samples: int | None = None,
    epochs: Sequence[int] = _EPOCHS,
    seeds: Sequence[int] = (0, 1, 2),
    block_size: int | None = None,
    batch_size: int = 8,
    learning_rate: float | None = None,
    bf16: bool = False,
) -> Section:
    """Train several epochs over little text, and equally long on new text; measure after each.

    Args:
        bench: The workbench.
        language: To train on; Chinese if None, or the first core language.
        samples: Blocks that are repeated; if None as many as leave the control enough new text. If the text has not enough
            for the control, all text is generated, and the section says so; where there is none, the control stops early.
        epochs: Numbers of passes after which is measured.
        seeds: Of order, and of which blocks are repeated.
        block_size: Tokens per block; the bench's if None (the published code has 512).
        batch_size: Blocks per step.
        learning_rate: 5e-5 as published if None, and 5e-4 for models of less than 100 million weights.
        bf16: Train in mixed precision; weights stay float32.

    Raises:
        InputError: A number is none, or there is not one batch of text.
    """
    _check(epochs, seeds)
    training = FurtherTraining(rate_for(bench.model, learning_rate), batch_size, bf16=bf16)
    size = block_size_for(bench, block_size)
    plan = _planned(bench, trained_language(bench, language), samples, tuple(sorted(set(epochs))), training, size)
    bench.progress.expect(len(seeds) * len(plan.passes) + 1)
    base = dict(bench.measure("base").nll)
    runs = {
        arm: [_kept_run(bench, plan, arm, seed) for seed in seeds] for arm, passes in plan.passes.items() if passes
    }
    words = {"language": plan.language, "samples": plan.samples, "block_size": size, "source": plan.source}
    return Section(
        name="epochs",
        title=f"What {', '.join(map(str, plan.epochs))} epochs over little text do",
        text=tuple(one.format(**words, epochs=plan.epochs[-1]) for one in _TEXT),
        parts=(_table(runs, plan, base), *_curves(runs, plan, base), _language_table(runs, plan, base)),
        facts={
            **bench.facts(),
            **words,
            "tokens_per_epoch": plan.samples * size,
            "epochs": list(plan.epochs),
            "seeds": list(seeds),
            "training": training.to_dict(),
        },
    )


def _check(epochs: Sequence[int], seeds: Sequence[int]) -> None:
    if not epochs or any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in epochs):
        raise InputError(f"epochs must be whole numbers from 1, such as {_EPOCHS}, got {epochs!r}.")
    if not seeds:
        raise InputError("seeds must name at least one seed, such as (0, 1, 2).")


def _planned(
    bench: Bench,
    language: str,
    samples: int | None,
    epochs: tuple[int, ...],
    training: FurtherTraining,
    block_size: int,
) -> _Plan:
    own = own_blocks(bench, language, block_size=block_size)
    count = training.down(len(own) // epochs[-1] if samples is None else samples)
    if count < training.batch_size:
        raise InputError(
            f"{count} samples: {len(own)} blocks of text in {language!r} and epochs={epochs} leave less than one batch of "
            f"{training.batch_size}. Give more text, or a smaller block_size or batch_size."
        )
    needed = count * epochs[-1] if can_generate(language) else min(len(own), count * epochs[-1])
    text = enough_blocks(bench, language, max(count, needed), block_size=block_size)
    return _Plan(language, epochs, count, text.blocks, text.source, training)


def _kept_run(bench: Bench, plan: _Plan, arm: str, seed: int) -> dict[str, dict[str, Any]]:
    """Epochs -> what was measured after them, with the model as it was under "0"."""
    settings = {
        "arm": arm,
        "seed": seed,
        "language": plan.language,
        "samples": plan.samples,
        "passes": list(plan.passes[arm]),
        "text": plan.source,
        "blocks": list(plan.blocks.shape),
        "training": plan.training.to_dict(),
    }
    found: dict[str, dict[str, Any]] = bench.kept("epochs", settings, lambda: _run(bench, plan, arm, seed))
    return found


def _run(bench: Bench, plan: _Plan, arm: str, seed: int) -> dict[str, dict[str, Any]]:
    every = in_order(len(plan.blocks), seed=seed)
    first, most = every[: plan.samples], plan.passes[arm][-1]
    if arm == FRESH:
        order = every[: plan.samples * most]
    else:
        again = [first[in_order(plan.samples, seed=seed + number)] for number in range(1, most)]
        order = torch.cat([first, *again])
    tasks = {"test": bench.task, "training": _seen(bench, plan.blocks[first], plan.language)}
    looks = pretrain_further(
        fresh_copy(bench),
        plan.blocks[order],
        replace(plan.training, seed=seed),
        look=lambda model: losses_of(model, tasks, batch_size=bench.settings.batch_size),
        look_at=[0, *(one * plan.samples for one in plan.passes[arm])],
    )
    return {str(samples // plan.samples): losses for samples, losses in looks.items()}


def _seen(bench: Bench, blocks: torch.Tensor, language: str) -> ScoringTask:
    """The blocks of the first pass, as they are trained on; as many tokens of them as are measured of other text."""
    limit = bench.settings.test_tokens
    most = len(blocks) if limit is None else max(1, min(len(blocks), limit // (blocks.shape[1] - 1)))
    windows = [Window(tuple(ids), 1) for ids in blocks[:most].tolist()]
    return ScoringTask({language: windows}, start_token(bench.tokenizer), {})


def _figure(run: Mapping[str, Mapping[str, Any]], measure: str, passes: int, language: str) -> float:
    losses = run[str(passes)]
    if measure == "others":
        return others(losses, language)
    return exp_or_inf(float(losses[measure][language]))


def _over_seeds(figures: Sequence[float]) -> Cell:
    if len(figures) == 1:
        return figures[0]
    return Spread(sum(figures) / len(figures), min(figures), max(figures))


def _titles(plan: _Plan, base: Mapping[str, float]) -> dict[str, str]:
    titles = {
        "training": f"{plan.language}, the text of the first pass",
        "test": f"{plan.language}, held-out text",
        "others": "other languages (geometric mean)",
    }
    return titles if len(base) > 1 else {name: titles[name] for name in _MEASURES[:2]}


def _table(runs: Mapping[str, list[dict[str, Any]]], plan: _Plan, base: Mapping[str, float]) -> Table:
    titles = _titles(plan, base)
    rows = [
        (
            f"{arm}, {passes} x {plan.samples:,} samples" if passes else f"before training ({arm})",
            *(_over_seeds([_figure(run, name, passes, plan.language) for run in found]) for name in titles),
        )
        for arm, found in runs.items()
        for passes in (0, *plan.passes[arm])
    ]
    return Table(
        name="epochs",
        title="Perplexity after each number of epochs, and after as many steps on new text",
        columns=("trained on", *titles.values()),
        rows=tuple(rows),
        note="Mean, smallest and largest over the seeds, which draw the blocks and their order.",
    )


def _curves(runs: Mapping[str, list[dict[str, Any]]], plan: _Plan, base: Mapping[str, float]) -> list[Part]:
    positions = (0, *plan.epochs)
    drawn: list[Part] = []
    for name, title in _titles(plan, base).items():
        lines = {
            arm: tuple(_mean(found, name, at, plan) if at in (0, *plan.passes[arm]) else None for at in positions)
            for arm, found in runs.items()
        }
        drawn.append(
            Curves(
                name=f"curve_{name}",
                title=title,
                x_label=f"steps, in passes over {plan.samples:,} samples",
                y_label="perplexity",
                x=tuple(map(float, positions)),
                lines=lines,
                y_scale="log",
            )
        )
    return drawn


def _mean(found: Sequence[dict[str, Any]], measure: str, passes: int, plan: _Plan) -> float:
    return sum(_figure(run, measure, passes, plan.language) for run in found) / len(found)


def _language_table(runs: Mapping[str, list[dict[str, Any]]], plan: _Plan, base: Mapping[str, float]) -> Table:
    columns = [(arm, passes) for arm in runs for passes in plan.passes[arm]]
    rows = tuple(
        (
            code,
            exp_or_inf(loss),
            *(
                _over_seeds([exp_or_inf(float(run[str(passes)]["test"][code])) for run in runs[arm]])
                for arm, passes in columns
            ),
        )
        for code, loss in base.items()
    )
    return Table(
        name="languages",
        title="Perplexity in every language",
        columns=("language", "before", *(f"{arm}, {passes} x" for arm, passes in columns)),
        rows=rows,
        log_bars=(f"{REPEATED}, {plan.epochs[-1]} x",),
    )
