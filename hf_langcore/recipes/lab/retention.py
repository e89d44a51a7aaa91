"""Acquisition against retention: every way of fine-tuning on the same data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.protection.benchmark import benchmark_methods, methods_to_dict
from hf_langcore.recipes.protection.methods import Method
from hf_langcore.recipes.protection.retention import (
    ARITHMETIC,
    BENCHMARK_SIZE,
    Retention,
    retention_task,
    run_retention,
)
from hf_langcore.recipes.protection.retention_parts import rate_table, retention_points, retention_table
from hf_langcore.recipes.protection.shields import ShieldSize, compute_shields
from hf_langcore.recipes.protection.tasks import ProtectionSize
from hf_langcore.report.parts import Section

_TEXT = (
    (
        "Copies of the model are fine-tuned on the same data in {count} ways, of which {adapters} are methods of PEFT; the masked adapter "
        "(CORE_REGION) and the frozen core keep off the core. {task} Meanwhile nothing is done for the {kept} kept languages besides."
    ),
    (
        "Each method is tried at every learning rate listed, with seed {seed}; the lowest rate with at least 95 % of the largest gain on "
        "rows that are neither trained on nor reported is taken, and repeated with the other seeds. So methods are compared where each "
        "learns about all that it can, and none at a rate that destroys the model for a hundredth of a nat. One that would keep more at "
        "a smaller rate is shown where it learns more; the table of all rates has both."
    ),
    (
        "Methods that can be merged are measured merged, the others (prefix tuning, prompt tuning, p-tuning) with their virtual tokens in "
        "front of every text, which is how they would be used: without the adapter their base is what it was."
    ),
)
_SUMS = (
    "The task is {rows} additions and subtractions of numbers up to {largest}, {epochs} times each; measured are {test} other problems: "
    "the loss of the right answers, the share of generated answers that are right, and the mean share of right digits. Before "
    "training {exact:.1f} % of the answers and {digits:.1f} % of the digits are right."
)
_LANGUAGE = "The task is {blocks} blocks of {block_size} tokens in {language}."


def retention(
    bench: Bench,
    *,
    task: str = ARITHMETIC,
    only: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    rows: int = BENCHMARK_SIZE.sums,
    epochs: int = BENCHMARK_SIZE.sums_epochs,
    largest: int = BENCHMARK_SIZE.largest,
    test_rows: int = BENCHMARK_SIZE.test_sums,
    blocks: int = BENCHMARK_SIZE.blocks,
    bf16: bool = True,
) -> Section:
    """Fine-tune under every method; compare what each learned with what it lost.

    Args:
        bench: The workbench.
        task: "arithmetic", or the code of a language.
        only: Some of the methods that come with the benchmark; all if None. Others are for `langcore retention`.
        seeds: Of data order, adapters and random masks; the first one chooses the learning rates.
        rows: Rows of arithmetic to train on.
        epochs: How often each of them is trained.
        largest: The largest number in them.
        test_rows: Rows of arithmetic to measure on.
        blocks: Blocks to train on where the task is a language.
        bf16: Train in mixed precision; weights stay float32.

    Raises:
        InputError: There is no such task, or there are too few problems.
        ConfigurationError: A method is none, or cannot be applied to the model.
    """
    chosen = benchmark_methods(bench.model, only)
    size = replace(
        BENCHMARK_SIZE,
        sums=rows,
        sums_epochs=epochs,
        largest=largest,
        test_sums=test_rows,
        blocks=blocks,
        block_size=bench.settings.block_size,
    )
    found = run_on_bench(bench, chosen, task=task, size=size, seeds=seeds, bf16=bf16)
    return Section(
        name="retention",
        title="What is learned against what is kept, method by method",
        text=_text(found),
        parts=(retention_table(found), retention_points(found), rate_table(found)),
        facts={
            **bench.facts(),
            "task": task,
            "size": asdict(size),
            "seeds": list(seeds),
            "bf16": bf16,
            "methods": methods_to_dict(chosen),
        },
    )


def run_on_bench(
    bench: Bench,
    methods: Sequence[Method],
    *,
    task: str = ARITHMETIC,
    size: ProtectionSize = BENCHMARK_SIZE,
    seeds: Sequence[int] = (0, 1, 2),
    bf16: bool = True,
    tell: Callable[[str], object] | None = None,
) -> Retention:
    """The benchmark with any methods; finished runs are kept in the bench's folder.

    Args:
        bench: Model, texts and folder.
        methods: Every method at every learning rate.
        task: "arithmetic", or the code of a language.
        size: How much to train and to measure.
        seeds: Of data order, adapters and random masks; the first one chooses the learning rates.
        bf16: Train in mixed precision; weights stay float32.
        tell: Receives one line per run.

    Raises:
        InputError: There is no such task, or there are too few problems.
        ConfigurationError: An adapter cannot be applied to the model.
    """
    train, test = dict(bench.texts.train), dict(bench.texts.test)
    what = retention_task(bench.tokenizer, task, train, test, size=size)
    shields = compute_shields(
        bench.model,
        bench.tokenizer,
        train,
        what.source,
        with_columns=any(one.frozen in {"columns", "random columns"} for one in methods),
        with_importance=any(one.weighted for one in methods),
        size=_shield_size(bench),
        resume_dir=bench.output / "kept",
        progress=bench.progress.is_shown,
    )
    bench.progress.expect(len(methods) + (len(seeds) - 1) * len({one.curve or one.name for one in methods}))

    def told(line: str) -> None:
        bench.progress.step()
        if tell is not None:
            tell(line)

    return run_retention(
        bench.model,
        bench.tokenizer,
        what,
        shields,
        methods,
        output=bench.output / "retention",
        seeds=seeds,
        bf16=bf16,
        tell=told,
    )


def _shield_size(bench: Bench) -> ShieldSize:
    settings = bench.settings
    size = ShieldSize(settings.fraction, core_languages=bench.core_languages, block_size=settings.block_size)
    if settings.core_tokens is None:
        return size
    return replace(size, core_blocks=max(1, settings.core_tokens // settings.block_size))


def _text(found: Retention) -> tuple[str, ...]:
    run = found.runs[0]
    size, before = run.settings["task"], run.target_before
    if before.exact_match is None:
        task = _LANGUAGE.format(blocks=size["blocks"], block_size=size["block_size"], language=found.task)
    else:
        task = _SUMS.format(
            rows=size["sums"],
            largest=size["largest"],
            epochs=size["sums_epochs"],
            test=size["test_sums"],
            exact=100 * before.exact_match,
            digits=100 * (before.digit_match or 0.0),
        )
    words = {
        "count": len(found.chosen),
        "adapters": len({one.curve or one.name for one in found.methods if one.adapter is not None}),
        "kept": len(run.kept_before),
        "seed": found.seeds[0],
        "task": task,
    }
    return tuple(paragraph.format(**words) for paragraph in _TEXT)
