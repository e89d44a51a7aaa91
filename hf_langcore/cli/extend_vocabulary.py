"""`langcore extend-vocabulary`: tokens of a language of its own, and rows for them in the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hf_langcore.cli import loading

_SHOWN = 20


def extend_vocabulary(
    model: loading.Model,
    language: Annotated[str, typer.Option(help="Code of the language that the tokens are for: the name of its file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for model and tokenizer.")],
    data: loading.Data = loading.MINI,
    num_tokens: Annotated[int, typer.Option(min=1, help="How many tokens to learn.")] = 500,
    initialisation: Annotated[
        Literal["mean_of_pieces", "mean", "normal", "zero"],
        typer.Option(help="What the rows of new tokens begin with."),
    ] = "mean_of_pieces",
    min_frequency: Annotated[int, typer.Option(min=1, help="Times that a token has to occur in the texts.")] = 2,
    pad_to_multiple_of: Annotated[int | None, typer.Option(min=1, help="Fill the rows up to a multiple.")] = None,
    languages: loading.Languages = None,
    seed: Annotated[int, typer.Option(help="Of --initialisation normal.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
) -> None:
    """Learn tokens of one language, give the model rows for them, and save both.

    Nothing is trained: pretrain the saved model further on the language before you use it. --languages names those whose
    length in tokens is shown beside it; all of --data if not given.

    Example: `langcore extend-vocabulary my-model --data texts/ --language zh --num-tokens 500 -o extended`
    """
    loading.require_output(output, folder=True, overwrite=overwrite)
    measured = loading.load_corpora(data, languages)
    texts = measured[language] if language in measured else loading.load_corpora(data, language)[language]
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.editing.conversion import CONFIG, MODEL_WEIGHTS
    from hf_langcore.files import new_folder
    from hf_langcore.vocabulary import extend_vocabulary as extend

    with loading.only_json(as_json=as_json):
        _, extended, done = extend(
            lm,
            tokenizer,
            texts,
            num_tokens=num_tokens,
            initialisation=initialisation,
            min_frequency=min_frequency,
            pad_to_multiple_of=pad_to_multiple_of,
            measure_on={language: texts, **measured},
            seed=seed,
        )
        with new_folder(output, overwrite=overwrite, last=CONFIG, stale=MODEL_WEIGHTS) as staging:
            lm.save_pretrained(staging)
            extended.save_pretrained(staging)
    facts = {"output": str(output), "language": language, **done.to_dict(), "tokens_per_byte": done.tokens_per_byte}
    said = [extended.decode([done.first_id + place]) for place in range(len(done.tokens))]
    loading.show(facts, as_json=as_json, rendered=_rendered(done, said, output))


def _rendered(done: Any, said: list[str], output: Path) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Tokens per byte", title_justify="left")
    for column in ("language", "before", "after", "change"):
        table.add_column(column, justify="left" if column == "language" else "right")
    for code, (before, after) in done.tokens_per_byte.items():
        table.add_row(code, f"{before:.3f}", f"{after:.3f}", f"{100 * (after / before - 1):+.1f} %")
    whole = [one.strip() for one in said if "\ufffd" not in one and one.strip()]
    lines = [
        f"{len(done.tokens):,} new tokens from id {done.first_id}, {done.rows_before:,} -> {done.rows_after:,} rows; saved in {output}",
        f"the first whole ones: {' '.join(whole[:_SHOWN])}",
        "Nothing was trained: pretrain the model further on this language before you use it.",
    ]
    return Group(table, *(Text(line) for line in lines))
