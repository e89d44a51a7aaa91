"""`langcore echo`: whether a model says its input again instead of answering."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hf_langcore.cli import loading


def echo(
    model: loading.Model,
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    inputs: Annotated[int, typer.Option(min=1, help="At most so many inputs per language.")] = 64,
    column: Annotated[str, typer.Option(help="Column of the inputs; `text` where there is only one.")] = "source",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="At most so many tokens are written.")] = 64,
    threshold: Annotated[float, typer.Option(help="Share of an output that has to be input.")] = 0.8,
    batch_size: Annotated[int, typer.Option(min=1, help="Inputs per batch.")] = 16,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
) -> None:
    """Measure how many outputs repeat their inputs, by language.

    Texts are those that `langcore eval` reads; of pairs the source is the input.

    Example: `langcore echo my-t5 --data pairs/ --languages de,fr`
    """
    from itertools import islice

    from hf_langcore.data import read_texts
    from hf_langcore.evaluation import evaluate_echo

    corpora = loading.load_corpora(data, languages)
    texts = {
        code: list(islice(read_texts(code, source, text_column=_column(source, column)), inputs))
        for code, source in corpora.items()
    }
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    options = {"max_new_tokens": max_new_tokens, "batch_size": batch_size, "threshold": threshold}
    reports = {code: evaluate_echo(lm, tokenizer, found, **options) for code, found in texts.items()}  # type: ignore[arg-type]
    values = {code: one.to_dict() for code, one in reports.items()}
    loading.show(values, as_json=as_json, rendered=_rendered(values))


def _column(source: Any, column: str) -> str:
    """Lines of text have no columns, and the built-in texts neither."""
    return column if str(source).endswith((".jsonl", ".parquet")) else "text"


def _rendered(values: dict[str, dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title="Outputs that repeat their inputs", title_justify="left", header_style="bold")
    table.add_column("language")
    for name in ("outputs", "copies", "echoes", "share", "mean overlap"):
        table.add_column(name, justify="right")
    for code, one in values.items():
        overlap = "-" if one["mean_overlap"] is None else f"{one['mean_overlap']:.2f}"
        counts = (str(one[name]) for name in ("outputs", "copies", "echoes"))
        table.add_row(code, *counts, f"{100 * one['rate']:.0f} %", overlap)
    return table
