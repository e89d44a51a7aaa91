"""`langcore perturb`: damage regions of a model, look at every language, and restore them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from hf_langcore.cli import loading

_REGIONS = ("core", "complement", "random")


def perturb(
    model: loading.Model,
    core_mask: loading.MaskSource,
    region: Annotated[
        str, typer.Option(help="core, complement or random (of equal size); several separated by commas.")
    ] = "core,random",
    how: Annotated[
        Literal["zero", "noise", "shuffle", "mean", "reinit", "scale"],
        typer.Option(help="What happens to the weights of a region."),
    ] = "zero",
    factor: Annotated[float | None, typer.Option(help="For --how scale.")] = None,
    seed: Annotated[int, typer.Option(help="Of random regions and of noise.")] = 0,
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    max_tokens: loading.MaxTokens = None,
    block_size: loading.BlockSize = 512,
    batch_size: loading.BatchSize = "auto",
    output: loading.ReportFile = None,
    base_check: loading.BaseCheck = "error",
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    core_mask_revision: loading.MaskRevision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Perturb regions of a model one after the other and show perplexity per language.

    The model's files are not changed.

    Example: `langcore perturb my-model my-core --region core,complement,random --how noise`
    """
    names = _checked_regions(region)
    if (how == "scale") != (factor is not None):
        raise typer.BadParameter("--factor goes with --how scale, and only with it", param_hint="--factor")
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    from hf_langcore.masks import CoreMask

    mask = CoreMask.from_pretrained(core_mask, revision=core_mask_revision)
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    lm, tokenizer = loading.load_model(
        model, dtype=dtype, device=device, revision=revision or loading.pinned_revision(model, mask)
    )
    from hf_langcore.evaluation import prepare_scoring
    from hf_langcore.recipes.regions import compare_regions

    task = prepare_scoring(lm, tokenizer, corpora, block_size=block_size, max_tokens=max_tokens)
    report = compare_regions(
        lm,
        task,
        {name: _region(mask, name, seed) for name in names},
        how=how,
        factor=factor,
        seed=seed,
        batch_size=batch,
        base_check=base_check,
        progress=not quiet,
    )
    loading.write_report(report, output)
    loading.show(report.to_dict(), as_json=as_json, rendered=report)


def _checked_regions(region: str) -> list[str]:
    names = [name.strip() for name in region.split(",")]
    for name in names:
        if name not in _REGIONS:
            raise typer.BadParameter(f"expected {', '.join(_REGIONS)}, got {name!r}", param_hint="--region")
    return names


def _region(mask: Any, name: str, seed: int) -> Any:
    if name == "random":
        return mask.random_like(seed=seed)
    return mask.complement() if name == "complement" else mask
