"""`langcore knowledge`: cloze facts and minimal pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_langcore.cli import loading


def knowledge(
    model: loading.Model,
    languages: loading.Languages = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Your own facts and minimal pairs: a JSON file, or a folder with one file per language."),
    ] = None,
    batch_size: loading.BatchSize = "auto",
    output: loading.ReportFile = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Ask a model for facts, and which of two sentences is grammatical, in eight languages.

    Example: `langcore knowledge my-model --languages en,zh -o knowledge.json`
    """
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    from hf_langcore.knowledge import evaluate_knowledge, load_knowledge

    sets = load_knowledge(data, loading.codes(languages))
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    report = evaluate_knowledge(lm, tokenizer, data=sets, batch_size=batch, progress=not quiet)
    loading.write_report(report, output)
    loading.show(report.to_dict(), as_json=as_json, rendered=report)
