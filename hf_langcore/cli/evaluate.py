"""`langcore eval`: perplexity per language."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_langcore.cli import loading


def evaluate(
    model: loading.Model,
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    max_tokens: loading.MaxTokens = None,
    block_size: loading.BlockSize = 512,
    stride: Annotated[int | None, typer.Option(min=1, help="Tokens per further window; half a window.")] = None,
    batch_size: loading.BatchSize = "auto",
    output: loading.ReportFile = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Measure perplexity per language.

    Example: `langcore eval my-model --data texts/ --languages en,zh --max-tokens 20000`
    """
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.evaluation import evaluate_perplexity

    report = evaluate_perplexity(
        lm,
        tokenizer,
        corpora,
        block_size=block_size,
        stride=stride,
        batch_size=batch,
        max_tokens=max_tokens,
        progress=not quiet,
    )
    loading.write_report(report, output)
    loading.show(report.to_dict(), as_json=as_json, rendered=report)
