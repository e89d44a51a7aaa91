"""`langcore switching`: do generations stay in the language of their prompts?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading


def switching(
    model: loading.Model,
    prompts: Annotated[
        Path,
        typer.Option(help="Folder with one file of texts per language, or .jsonl lines with language and prompt."),
    ],
    languages: loading.Languages = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(help="Further checkpoints, folders or Hub ids separated by commas, on the same prompts."),
    ] = None,
    words: Annotated[int | None, typer.Option(min=1, help="First words of each text; all of it if not given.")] = None,
    max_prompts: Annotated[int | None, typer.Option(min=1, help="At most so many prompts per language.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Texts after each prompt.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens that the model writes, at most.")] = 64,
    temperature: Annotated[float, typer.Option(help="Temperature of the sampling.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Probability mass that is sampled from.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    ratio: Annotated[float, typer.Option(help="How many times likelier another language has to be.")] = 10.0,
    script_share: Annotated[
        float, typer.Option(help="Share of letters in other scripts that is no name any more.")
    ] = 0.7,
    batch_size: loading.BatchSize = "auto",
    output: loading.ReportFile = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Measure how often a model leaves the language of a prompt, by script and by language identifier.

    Examples:
    - `langcore switching my-model --prompts prompts.jsonl --languages de,zh -o switching.json`
    - `langcore switching base --prompts texts/ --words 8 --checkpoints run/checkpoint-500,run/checkpoint-1000`
    """
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    from hf_langcore.switching import Criteria, code_switching_over_checkpoints, code_switching_rate
    from hf_langcore.switching.prompts import read_prompts

    asked = read_prompts(prompts, loading.codes(languages), words=words, prompts=max_prompts)
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "samples": samples,
        "seed": seed,
        "criteria": Criteria(ratio=ratio, script_share=script_share),
        "batch_size": batch,
        "progress": not quiet,
    }
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    further = loading.codes(checkpoints) or []
    report: Any = (
        code_switching_over_checkpoints(
            {model: lm, **{one: one for one in further}}, asked, tokenizer=tokenizer, device=device, **options
        )
        if further
        else code_switching_rate(lm, tokenizer, asked, **options)
    )
    loading.write_report(report, output)
    loading.show(report.to_dict(), as_json=as_json, rendered=report)
