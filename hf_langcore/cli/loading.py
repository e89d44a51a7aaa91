"""What several commands need: options, models, texts and output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.errors import CorpusError, InputError

MINI = "mini"
MINI_SENTENCES = 2000

Model = Annotated[str, typer.Argument(help="Folder or Hub id of a causal language model.")]
Data = Annotated[
    str,
    typer.Option(
        help="Texts: a folder with one file per language (en.txt, zh.jsonl, ...), or 'mini', the built-in corpus."
    ),
]
Languages = Annotated[
    str | None, typer.Option(help="Language codes, separated by commas, such as ar,es,ru. All if not given.")
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="At most so many tokens per language.")]
BlockSize = Annotated[int, typer.Option(min=3, help="Tokens per block, BOS included; at most the model's context.")]
BatchSize = Annotated[str, typer.Option(help="Blocks per batch: 'auto' or a number.")]
Dtype = Annotated[str, typer.Option(help="'auto' (as saved), float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="Such as cuda or cpu; the GPU if there is one.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the model on the Hub.")]
BaseCheck = Annotated[
    str, typer.Option(help="'error', 'warn' or 'off': what to do when the mask was found on other weights.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")]


def load_model(name: str, *, dtype: str, device: str | None, revision: str | None) -> tuple[Any, Any]:
    """A causal LM in eval mode and its tokenizer.

    Raises:
        InputError: transformers cannot load it; its own message is part of the text.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, revision=revision or "main")
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the model {name!r}: {error} Pass a folder written by save_pretrained (model and tokenizer), or a "
            "Hub id."
        ) from error
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval(), tokenizer


def load_corpora(data: str, languages: str | None, *, start: int = 0) -> dict[str, Any]:
    """Language -> texts, from a folder or from the mini corpus.

    Args:
        data: Folder, or "mini".
        languages: Comma-separated codes, or None for all.
        start: First sentence of the mini corpus, so that commands which measure use other sentences than those which
            search.
    """
    codes = [code.strip() for code in languages.split(",") if code.strip()] if languages is not None else None
    if codes == []:
        raise CorpusError("--languages is empty. Name codes such as ar,es,ru, or leave it out for all.")
    if data == MINI:
        from hf_langcore.data.mini import mini_corpora

        return dict(mini_corpora(codes, sentences=MINI_SENTENCES, start=start))
    from hf_langcore.data import corpora_from_folder

    return dict(corpora_from_folder(data, codes))


def number_or_auto(value: str) -> Any:
    """The value of --batch-size.

    Raises:
        typer.BadParameter: It is neither.
    """
    if value == "auto":
        return value
    if not value.isdigit() or int(value) < 1:
        raise typer.BadParameter(f"expected 'auto' or a whole number of at least 1, got {value!r}")
    return int(value)


def numbers(value: str, option: str) -> list[float]:
    """A comma-separated list of numbers.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return [float(part) for part in value.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{option}: expected numbers separated by commas, got {value!r}") from error


def show(value: Any, *, as_json: bool, rendered: Any) -> None:
    """Print `value` as JSON or `rendered` for people."""
    if as_json:
        print(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        from rich.console import Console

        Console(soft_wrap=False).print(rendered)


def write_report(report: Any, output: Path | None) -> None:
    """Write a PerplexityReport as JSON, or as Markdown where the name ends in .md."""
    if output is None:
        return
    from hf_langcore.files import replace_text

    replace_text(output, report.to_markdown() if output.suffix == ".md" else report.to_json())
