"""`langcore retention`: what every way of fine-tuning learns, against what it loses."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading

RECORD, PICTURE = "retention.json", "retention.png"


def retention(
    model: loading.Model,
    data: Annotated[
        str,
        typer.Option(
            help="Folder with `train` and `test` folders of one file per language, or one such folder; or 'mini'."
        ),
    ] = loading.MINI,
    methods: Annotated[
        Path | None, typer.Option(help="YAML or JSON: name -> learning_rate(s), adapter (any PEFT config), frozen ...")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Some of the methods, separated by semicolons, as names may have commas.")
    ] = None,
    task: Annotated[str, typer.Option(help="'arithmetic', or the code of a language to be learned.")] = "arithmetic",
    seeds: Annotated[
        str, typer.Option(help="Separated by commas; the first one chooses the learning rates.")
    ] = "0,1,2",
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the runs; a later call goes on there.")
    ] = Path("retention-out"),
    languages: loading.Languages = None,
    core_languages: Annotated[
        str | None, typer.Option(help="Where the core is looked for; the paper's six if there are texts for them.")
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of each tensor that the core is.")] = 0.03,
    rows: Annotated[int, typer.Option(min=1, help="Rows of arithmetic to train on.")] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="How often each of them is trained.")] = 12,
    largest: Annotated[int, typer.Option(min=1, help="The largest number in them.")] = 19,
    test_rows: Annotated[int, typer.Option(min=1, help="Rows of arithmetic to measure on.")] = 128,
    blocks: Annotated[int, typer.Option(min=1, help="Blocks to train on where the task is a language.")] = 192,
    block_size: loading.BlockSize = 128,
    bf16: Annotated[bool, typer.Option("--bf16/--no-bf16", help="Train in mixed precision.")] = True,
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Fine-tune copies of a model with any methods of PEFT, full fine-tuning and a frozen core, on the same data; compare.

    Each method is tried at its learning rates with the first seed; the lowest one that gains nearly as much as the best on rows
    put aside for it is repeated with the other seeds. Finished runs are kept in the output folder: the same command goes on where it was stopped.

    Example: `langcore retention my-model --data texts --methods methods.yaml --task arithmetic --output out`
    """
    chosen_seeds, own = _whole_numbers(seeds), _own_methods(methods)
    loading.require_output(output, folder=True, overwrite=True)
    from dataclasses import replace

    from hf_langcore.recipes.bench.texts import load_texts
    from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
    from hf_langcore.recipes.lab.retention import run_on_bench
    from hf_langcore.recipes.protection.retention import BENCHMARK_SIZE

    size = replace(
        BENCHMARK_SIZE,
        sums=rows,
        sums_epochs=epochs,
        largest=largest,
        test_sums=test_rows,
        blocks=blocks,
        block_size=block_size,
    )
    settings = BenchSettings(
        tuple(loading.codes(core_languages) or ()) or None, fraction=fraction, block_size=block_size
    )
    texts = load_texts(data, loading.codes(languages))
    lm, tokenizer = loading.load_model(model, dtype="float32", device=device, revision=revision)
    bench = Bench(lm, tokenizer, texts, output=output, settings=settings)
    with loading.only_json(as_json=as_json):
        found = run_on_bench(
            bench,
            _chosen(own, lm, only),
            task=task,
            size=size,
            seeds=chosen_seeds,
            bf16=bf16,
            tell=None if quiet else lambda line: print(line, file=sys.stderr),
        )
    loading.show(_write(found, output), as_json=as_json, rendered=_rendered(found, output))


def _whole_numbers(value: str) -> list[int]:
    parts = loading.codes(value) or []
    if not parts or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"expected numbers separated by commas, got {value!r}", param_hint="--seeds")
    return [int(part) for part in parts]


def _own_methods(path: Path | None) -> Any:
    """The methods of a file, read before the model is loaded."""
    if path is None:
        return None
    from hf_langcore.recipes.protection.benchmark import read_methods

    return read_methods(path)


def _chosen(own: Any, model: Any, only: str | None) -> Any:
    from hf_langcore.recipes.protection.benchmark import benchmark_methods

    names = None if only is None else [name.strip() for name in only.split(";") if name.strip()]
    if own is None:
        return benchmark_methods(model, names)
    known = list(dict.fromkeys(one.curve for one in own))
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise typer.BadParameter(
            f"there is no method {unknown[0]!r}; there are {'; '.join(known)}", param_hint="--only"
        )
    return [one for one in own if names is None or one.curve in names]


def _write(found: Any, output: Path) -> dict[str, Any]:
    """Record and picture; returns what is printed for machines."""
    from hf_langcore.errors import InputError, MissingExtraError
    from hf_langcore.files import replace_json
    from hf_langcore.recipes.protection.retention_parts import draw_retention

    facts = found.to_dict()
    picture: str | None = str(output / PICTURE)
    try:
        draw_retention(found, output / PICTURE)
    except (MissingExtraError, InputError) as error:
        print(f"no picture: {error}", file=sys.stderr)
        picture = None
    replace_json(output / RECORD, facts)
    return {**facts, "record": str(output / RECORD), "picture": picture}


def _rendered(found: Any, output: Path) -> Any:
    from rich import box
    from rich.console import Group
    from rich.table import Table

    summaries = found.summaries()
    answers = any(one.exact_match is not None for one in summaries.values())
    made = Table(title=f"Acquisition against retention: {found.task}", title_justify="left", box=box.SIMPLE)
    made.add_column("method", overflow="fold", min_width=12)
    columns = ["rate", "trained", "gain, nats", *(["exact %", "digits %"] if answers else []), "kept ppl %", "core %"]
    for name in columns:
        made.add_column(name, justify="right", no_wrap=True)
    for curve, one in summaries.items():
        shares = [_with_half(part, 100, 0) for part in (one.exact_match, one.digit_match) if part is not None]
        figures = [f"{found.rate(curve):g}", f"{one.trained:,}", _with_half(one.gain, 1, 2), *shares]
        made.add_row(curve, *figures, _kept(one.forgotten), f"{100 * one.core_changed / max(one.core_size, 1):.0f}")
    return Group(
        made,
        f"gain: fall of the loss on the task. kept ppl: change of the kept languages' perplexity. core: share of its weights "
        f"that changed. ± is half of a 95 % interval over {len(found.seeds)} seeds.",
        f"{RECORD} and the picture are in {output}.",
    )


def _with_half(interval: Any, factor: float, places: int) -> str:
    half = factor * (interval.high - interval.mean)
    value = f"{factor * interval.mean:.{places}f}"
    return value if math.isnan(half) else f"{value} ±{half:.{places}f}"


def _kept(interval: Any) -> str:
    """As a change in per cent; intervals of logarithms are not even, so that the larger half is shown."""
    if not math.isfinite(interval.mean):
        return str(interval.mean)
    value = f"{100 * math.expm1(interval.mean):+.1f}"
    half = 100 * (math.expm1(interval.high) - math.expm1(interval.mean))
    return value if math.isnan(half) else f"{value} ±{half:.1f}"
