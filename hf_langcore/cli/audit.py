"""`langcore audit`: noise in training rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import InputError


def audit(
    data: Annotated[
        str, typer.Argument(help="Rows: a file, a folder of save_to_disk, or repo:config:split on the Hub.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Base model: its perplexity scores each row, its template decides what fits.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer with the chat template that the model will be trained with.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for report, clean copy and removed rows.")
    ] = None,
    checks: Annotated[str | None, typer.Option(help="Names of checks, separated by commas; all if not given.")] = None,
    skip: Annotated[str | None, typer.Option(help="Checks to leave out, separated by commas.")] = None,
    languages: loading.Languages = None,
    language_column: Annotated[str | None, typer.Option(help="Column that declares each row's language.")] = None,
    similarity: Annotated[float, typer.Option(help="Similarity from which rows are near duplicates.")] = 0.7,
    outlier_z: Annotated[float, typer.Option(help="Robust z-score of the loss from which a row is an outlier.")] = 5.0,
    max_length: Annotated[int | None, typer.Option(min=2, help="Tokens after which training cuts a row.")] = None,
    block_size: loading.BlockSize = 512,
    batch_size: loading.BatchSize = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Find noise in training rows and leave it out of a copy.

    Repetitions, non-words, wrong languages, broken encoding, pieces of other chat templates, duplicates, and rows
    that the base model finds far too hard or too easy. Nothing is changed in place.

    Example: `langcore audit data.jsonl --model my-model --output audited`
    """
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output, folder=True, overwrite=overwrite)
    from hf_langcore.auditing import audit_rows, write_audit
    from hf_langcore.data.sources import load_rows

    with loading.only_json(as_json=as_json):  # datasets shows bars while it reads
        rows = load_rows(data)
        lm, words = _model(model, tokenizer, dtype=dtype, device=device, revision=revision)
        report = audit_rows(
            rows,
            tokenizer=words,
            model=lm,
            checks=_checks(checks, skip, has_model=lm is not None),
            languages=_names(languages),
            language_column=language_column,
            similarity=similarity,
            outlier_z=(-outlier_z, outlier_z),
            max_length=max_length,
            block_size=block_size,
            batch_size=batch,
            progress=not quiet,
        )
        if output is not None:
            write_audit(output, report, rows, source=data)
    loading.show(report.to_dict(), as_json=as_json, rendered=report)
    if output is not None and not as_json:
        print(f"report.json, report.md, clean.jsonl and flagged.jsonl are in {output}")


def _model(
    model: str | None, tokenizer: str | None, *, dtype: str, device: str | None, revision: str | None
) -> tuple[Any, Any]:
    """The model and the tokenizer that were named; None for what was not."""
    lm, own = (None, None)
    if model is not None:
        lm, own = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    return lm, own if tokenizer is None else _tokenizer(tokenizer)


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot load the tokenizer {name!r}: {error} Pass a folder or a Hub id.") from error


def _checks(checks: str | None, skip: str | None, *, has_model: bool) -> list[str] | None:
    """The checks of --checks without those of --skip; None for all that are possible.

    Raises:
        typer.BadParameter: A name is unknown, or none is left.
    """
    from hf_langcore.auditing import CHECKS

    unknown = sorted({*(_names(checks) or ()), *(_names(skip) or ())} - set(CHECKS))
    if unknown:
        raise typer.BadParameter(f"unknown checks {', '.join(unknown)}; expected names out of {', '.join(CHECKS)}")
    if checks is None and skip is None:
        return None
    possible = [name for name in CHECKS if has_model or name != "perplexity"]
    left = [name for name in _names(checks) or possible if name not in (_names(skip) or ())]
    if not left:
        raise typer.BadParameter("no check is left", param_hint="--checks")
    return left


def _names(value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]
