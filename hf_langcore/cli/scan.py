"""`langcore scan`: the dimensions and single weights whose edit alone makes perplexity explode."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading

_KINDS = ("norm", "row", "column", "weight")
_SOURCES = ("activations", "gradients", "weights")


def scan(
    model: loading.Model,
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    core_mask: Annotated[
        str | None, typer.Option(help="Folder or Hub id of a core mask: where it concentrates is looked at, too.")
    ] = None,
    kind: Annotated[str, typer.Option(help="norm, row, column, weight; several separated by commas.")] = ",".join(
        _KINDS
    ),
    source: Annotated[
        str,
        typer.Option(help="Who proposes candidates: activations, gradients, weights; several separated by commas."),
    ] = ",".join(_SOURCES),
    factor: Annotated[str, typer.Option(help="Factors for norm dimensions, separated by commas.")] = "0,10",
    candidates: Annotated[
        str, typer.Option(help="At most so many are edited; 'all' is every norm dimension and all that is proposed.")
    ] = "512",
    min_ratio: Annotated[float, typer.Option(help="The least perplexity ratio that counts as critical.")] = 2.0,
    max_tokens: loading.MaxTokens = 512,
    block_size: loading.BlockSize = 512,
    batch_size: loading.BatchSize = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write everything as .json.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Also draw the map, layers by residual dimensions, as .png.")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register", help="Keep what was found in your own registry, for `langcore registry`.")
    ] = False,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    core_mask_revision: loading.MaskRevision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Find critical dimensions by editing, measuring and restoring candidates, beside matched random controls.

    The model's files are not changed.

    Example: `langcore scan my-model --data texts/ --kind norm,weight --output scan.json`
    """
    kinds, sources = _some_of(kind, _KINDS, "--kind"), _some_of(source, _SOURCES, "--source")
    factors, limit = loading.numbers(factor, "--factor"), _limit(candidates)
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    loading.require_output(figure)
    from hf_langcore.masks import CoreMask

    mask = None if core_mask is None else CoreMask.from_pretrained(core_mask, revision=core_mask_revision)
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    pinned = None if mask is None else loading.pinned_revision(model, mask)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision or pinned)
    from hf_langcore.scanning import find_critical_dimensions

    begin = time.perf_counter()
    found = find_critical_dimensions(
        lm,
        tokenizer,
        corpora,
        kinds=kinds,
        sources=sources,
        core_mask=mask,
        factors=factors,
        candidates=limit,
        min_ratio=min_ratio,
        block_size=block_size,
        batch_size=batch,
        max_tokens=max_tokens,
        progress=not quiet,
    )
    seconds = time.perf_counter() - begin
    if output is not None:
        found.to_json(output)
    if figure is not None:
        _draw(found, figure)
    if register:
        _register(found, lm)
    loading.show(found.to_dict(), as_json=as_json, rendered=_with_time(found, seconds))


def _draw(found: Any, path: Path) -> None:
    from hf_langcore.errors import InputError
    from hf_langcore.recipes.paper.scan_parts import critical_parts
    from hf_langcore.report import Matrix, draw

    maps = [part for part in critical_parts(found.to_dict()) if isinstance(part, Matrix)]
    if not maps:
        raise InputError("Nothing was measured that writes or reads a residual dimension, so there is no map to draw.")
    draw(maps[0], path)


def _register(found: Any, model: Any) -> None:
    """Keep a scan in the user's own registry."""
    from hf_langcore.registry import register_scan

    kept = register_scan(found, model)
    hint = (
        f"; `langcore registry list {kept[0].model_id}` shows them" if kept else ", since nothing was found critical"
    )
    print(f"registered {len(kept)} coordinates{hint}", file=sys.stderr)


def _with_time(found: Any, seconds: float) -> Any:
    from rich.console import Group

    settings = found.settings
    line = (
        f"{settings['edits']:,} edits of candidates on {settings['screening_tokens']:,} tokens, the strongest on "
        f"{settings['tokens']:,}; {settings['forward_passes']:,} passes over a text, {settings['shortened_passes']:,} of them "
        f"shortened; {seconds:.0f} s"
    )
    return Group(found, line, *(f"Note: {note}." for note in settings["notes"]))


def _some_of(value: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names or not set(names) <= set(known):
        raise typer.BadParameter(f"expected some of {', '.join(known)}, got {value!r}", param_hint=option)
    return names


def _limit(value: str) -> int | None:
    if value == "all":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise typer.BadParameter(
            f"expected 'all' or a whole number of at least 1, got {value!r}", param_hint="--candidates"
        )
    return int(value)
