"""The page on what is learned against what is kept: how it was measured, what it says, tables and figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_langcore.files import replace_text
from hf_langcore.recipes.protection.figure import draw_protection
from hf_langcore.recipes.protection.methods import standard_methods
from hf_langcore.recipes.protection.record import ProtectionRun
from hf_langcore.recipes.protection.report import below, curves_of, pairs_to_markdown, summarise, to_markdown
from hf_langcore.recipes.protection.shields import ShieldSize
from hf_langcore.recipes.protection.tasks import ProtectionSize

MARKER = "# What is learned against what is kept"
TITLES = {"zh": "Chinese", "arithmetic": "Arithmetic"}

_SIZE, _SHIELDS = ProtectionSize(), ShieldSize()
_PAGE = f"""The same model, fine-tuned on two tasks under every protection, {{seeds}} seeds each (data, order, general sample, \
adapters and random masks). Made by

    make protection

({{runs}} runs, {{minutes:.0f}} minutes of training on shared CPU cores; AdamW, cosine schedule, clipped at 1.0, mixed \
precision, no weight decay; learning rate 0.0005 where none is named; every row is trained once).

- **Chinese**: {_SIZE.blocks} blocks of {_SIZE.block_size} tokens of Chinese news, {_SIZE.batch_size} a step; *target* is \
the change of the loss on held-out Chinese ({_SIZE.target_blocks} blocks), *kept languages* that of the geometric mean of \
the perplexities of the other 29.
- **Arithmetic**: {_SIZE.sums:,} additions and subtractions of numbers up to 99 ("37 + 45 =", " 82"), \
{_SIZE.sums_batch_size} a step, loss on the completions only; *target* is the change of the completions' loss on \
{_SIZE.test_sums} other problems, *exact* the share of them that are right, *kept languages* all 30.
- **Kept languages** are measured on {_SIZE.kept_blocks} blocks of {_SIZE.block_size} tokens of each, evenly over its \
held-out documents.
- **At the same gain**: the kept languages' perplexity against that of plain full fine-tuning which gains as much on the \
target with the learning rate that suits it (interpolated between its rates, from no training at all; rates that learn \
less and lose more than another are left out; beyond the largest gain its value). Below zero a method keeps more than a \
well chosen learning rate does.
- Masks cover the decoder layers, not embeddings. *Core*: `taylor` on {" ".join(_SHIELDS.core_languages)}, \
{_SHIELDS.core_blocks} blocks each, {100 * _SHIELDS.fraction:g} %. *Columns*: half of the columns of every matrix by Wanda \
score on about 500 blocks of the kept languages, as in source-shielded updates (arXiv 2512.04844). *Fisher*: \
{_SHIELDS.fisher_blocks} blocks of each kept language, one a batch. Where nothing is frozen the last column counts the core.
- **General data** are training texts of the kept languages (blocks of {_SIZE.block_size} tokens, \
{_SIZE.sums_general_block} beside arithmetic), 5 times as many tokens as the task's; these runs have more steps.

What follows from the figures stands in [training](training.md#what-helps).

Brackets hold 95 % intervals (Student's t over seeds, on logarithms). For comparison: on 7B models and another task, \
source-shielded updates are reported to lose 3.4 % on the source where full fine-tuning loses 20.3 %.

{{sections}}"""
_SECTION = """## {title}

![learned against kept]({figure})

{table}
One thing changed, within seeds:

{pairs}"""


def write_protection_page(path: Path, runs: Sequence[ProtectionRun]) -> None:
    """Fill a page below its marker, and draw one figure per task into a folder `figures` beside it.

    What stands above the marker is kept.

    Args:
        path: The page; made if it is missing.
        runs: All runs of all tasks.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    methods, sections = standard_methods(), []
    for task, title in TITLES.items():
        own = [run for run in runs if run.task == task]
        if own:
            summaries, figure = summarise(own, methods), Path("figures") / f"protection-{title.lower()}.png"
            draw_protection(curves_of(summaries, methods), path.parent / figure, title=f"{title}, means and intervals")
            parts = {"table": to_markdown(summaries), "pairs": pairs_to_markdown(own)}
            sections.append(_SECTION.format(title=title, figure=figure.as_posix(), **parts))
    minutes, seeds = sum(run.seconds for run in runs) / 60, len({run.seed for run in runs})
    part = _PAGE.format(seeds=seeds, runs=len(runs), minutes=minutes, sections="\n".join(sections))
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    replace_text(path, below(before, MARKER, part))
