"""`langcore replay`: let a model write general data for its own fine-tuning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import ArtifactExistsError


def replay(
    model: loading.Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the rows, JSON lines.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of all languages together.")] = 1000,
    data: Annotated[
        str | None,
        typer.Option(
            help="Texts whose first tokens begin the rows: a folder with one file per language, or 'mini'. Without it "
            "rows begin with nothing."
        ),
    ] = None,
    languages: loading.Languages = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Write what a user asks, and the answer, with the model's chat template.")
    ] = False,
    seed_tokens: Annotated[int, typer.Option(min=1, help="Tokens that are taken from each text.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens that the model writes, at most.")] = 256,
    temperature: Annotated[float, typer.Option(help="Temperature of the sampling.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Probability mass that is sampled from.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    batch_size: loading.BatchSize = "auto",
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder that keeps what was written for other calls too.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Let a model write general data, which `langcore sft --general` mixes into its fine-tuning.

    An interrupted run goes on at the next batch: its state lies in OUTPUT.partial until the file is written.

    Examples:
    - `langcore replay my-model --data texts/ --languages en,de,zh --rows 5000 -o replay.jsonl`
    - `langcore replay my-chat-model --chat --rows 5000 --temperature 0.8 -o replay.jsonl`
    """
    batch = loading.number_or_auto(batch_size)
    if languages is not None and data is None:
        raise typer.BadParameter("needs --data, the texts of the languages", param_hint="--languages")
    loading.require_output(output)
    if output.exists() and not overwrite:
        raise ArtifactExistsError(f"{str(output)!r} exists. Name a new file or pass --overwrite.")
    corpora = loading.load_corpora(data, languages) if data is not None else None
    from hf_langcore.files import replace_text
    from hf_langcore.replay import ReplaySettings, generate_replay

    settings = ReplaySettings(seed_tokens, max_new_tokens, temperature, top_p, seed, chat)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    state = output.with_name(f"{output.name}.partial")
    written = generate_replay(
        lm,
        tokenizer,
        corpora,
        rows=rows,
        settings=settings,
        batch_size=batch,
        cache_dir=cache_dir if cache_dir is not None else state,
        progress=not quiet,
    )
    replace_text(output, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written.rows))
    for folder in state.glob("replay-*"):
        shutil.rmtree(folder)
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()
    dropped = {language: dict(flaws) for language, flaws in written.dropped.items()}
    facts = {"output": str(output), "rows": len(written.rows), "generated": written.generated, "dropped": dropped}
    text = f"{len(written.rows):,} rows in {len(dropped)} languages, {written.generated:,} texts generated now; saved in {output}"
    for language, flaws in dropped.items():
        if flaws:
            text += f"\ndropped for {language}: " + ", ".join(f"{count} {flaw}" for flaw, count in flaws.items())
    loading.show(facts, as_json=as_json, rendered=text)
