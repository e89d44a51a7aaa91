"""`langcore perturb` and `langcore scale`: damage a model, look at every language, and restore it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Also write the table as .json or .md.")]


def perturb(
    model: loading.Model,
    core_mask: Annotated[Path, typer.Argument(help="Folder of a core mask.")],
    region: Annotated[
        str, typer.Option(help="core, complement or random (of equal size); several separated by commas.")
    ] = "core,random",
    how: Annotated[str, typer.Option(help="zero, noise, shuffle, mean, reinit or scale.")] = "zero",
    factor: Annotated[float | None, typer.Option(help="For --how scale.")] = None,
    seed: Annotated[int, typer.Option(help="Of random regions and of noise.")] = 0,
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    max_tokens: loading.MaxTokens = None,
    block_size: loading.BlockSize = 512,
    batch_size: loading.BatchSize = "auto",
    output: Output = None,
    base_check: loading.BaseCheck = "error",
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Perturb regions of a model one after the other and show perplexity per language.

    The model's files are not changed.

    Example: `langcore perturb my-model my-core --region core,complement,random --how noise`
    """
    from hf_langcore.masks import CoreMask

    mask = CoreMask.from_pretrained(core_mask)
    regions = {name: _region(mask, name, seed) for name in region.split(",")}
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    batch = loading.number_or_auto(batch_size)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.evaluation import prepare_scoring
    from hf_langcore.recipes.regions import compare_regions

    task = prepare_scoring(lm, tokenizer, corpora, block_size=block_size, max_tokens=max_tokens)
    report = compare_regions(
        lm,
        task,
        regions,
        how=how,  # type: ignore[arg-type]
        factor=factor,
        seed=seed,
        batch_size=batch,
        base_check=base_check,  # type: ignore[arg-type]
        progress=not quiet,
    )
    loading.write_report(report, output)
    loading.show(report.to_dict(), as_json=as_json, rendered=report)


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
    output: Output = None,
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
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    batch = loading.number_or_auto(batch_size)
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
    facts = {**sweep.report.to_dict(), "generations": sweep.generations}
    loading.show(facts, as_json=as_json, rendered=_with_generations(sweep))


def _region(mask: Any, name: str, seed: int) -> Any:
    regions = {
        "core": lambda: mask,
        "complement": mask.complement,
        "random": lambda: mask.random_like(seed=seed),
    }
    if name not in regions:
        raise typer.BadParameter(f"--region: expected core, complement or random, got {name!r}")
    return regions[name]()


def _with_generations(sweep: Any) -> Any:
    from rich.console import Group
    from rich.table import Table

    if not sweep.generations:
        return sweep.report
    table = Table(title="Generations", title_justify="left")
    table.add_column("condition")
    table.add_column("text")
    for name, text in sweep.generations.items():
        table.add_row(name, text)
    return Group(sweep.report, table)
