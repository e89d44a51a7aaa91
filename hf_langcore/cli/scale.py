"""`langcore scale`: multiply one dimension, look at every language, and restore it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading


def scale(
    model: loading.Model,
    parameter: Annotated[str, typer.Argument(help="Parameter or module, such as model.layers.1.input_layernorm.")],
    index: Annotated[int, typer.Argument(min=0, help="Index of the dimension.")],
    factor: Annotated[str, typer.Option(help="Factors, separated by commas.")] = "0,1,4,10",
    axis: Annotated[int | None, typer.Option(min=0, help="For matrices: 0 = output, 1 = input.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Also show how the model goes on from here.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="For --prompt.")] = 20,
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    max_tokens: loading.MaxTokens = 2048,
    block_size: loading.BlockSize = 512,
    batch_size: loading.BatchSize = "auto",
    output: loading.ReportFile = None,
    figure: Annotated[Path | None, typer.Option(help="Also draw the dose curve as .png.")] = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Multiply one dimension by several factors and show perplexity per language.

    The model's files are not changed.

    Example: `langcore scale my-model model.layers.1.input_layernorm 2100 --factor 1,4,10 --prompt "Fudan University is"`
    """
    factors = loading.numbers(factor, "--factor")
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    loading.require_output(figure)
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.evaluation import prepare_scoring
    from hf_langcore.recipes.dimensions import scale_sweep

    task = prepare_scoring(lm, tokenizer, corpora, block_size=block_size, max_tokens=max_tokens)
    sweep = scale_sweep(
        lm,
        tokenizer,
        task,
        parameter,
        index,
        factors=factors,
        axis=axis,
        prompt=prompt,
        max_new_tokens=max_new_tokens,
        batch_size=batch,
        progress=not quiet,
    )
    loading.write_report(sweep.report, output)
    if figure is not None:
        _draw(sweep, factors, f"{parameter} {index}", figure)
    facts = {**sweep.report.to_dict(), "generations": sweep.generations}
    loading.show(facts, as_json=as_json, rendered=_with_generations(sweep))


def _draw(sweep: Any, factors: list[float], what: str, path: Path) -> None:
    from hf_langcore.recipes.dimensions import dose_curves
    from hf_langcore.report import draw

    reports = {factor: sweep.report[f"x{factor:g}"] for factor in sorted(set(factors))}
    draw(dose_curves(what, reports, sweep.report.languages[:6], level=sweep.report.mean("base")), path)


def _with_generations(sweep: Any) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    if not sweep.generations:
        return sweep.report
    table = Table(title="Generations", title_justify="left")
    table.add_column("condition")
    table.add_column("text")
    for name, text in sweep.generations.items():
        table.add_row(name, Text(text))  # no markup: a model may well write [/b]
    return Group(sweep.report, table)
