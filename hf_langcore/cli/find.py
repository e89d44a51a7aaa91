"""`langcore find`: find the core of a model."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import ArtifactExistsError


def find(
    model: loading.Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the mask.")],
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    fraction: Annotated[float, typer.Option(help="Share of each tensor, between 0 and 1.")] = 0.01,
    method: Annotated[str, typer.Option(help="'taylor', 'magnitude' or 'random'.")] = "taylor",
    which: Annotated[str, typer.Option(help="'top', 'bottom' or 'random'.")] = "top",
    max_tokens: loading.MaxTokens = None,
    block_size: loading.BlockSize = 512,
    batch_size: loading.BatchSize = "auto",
    seed: Annotated[int | None, typer.Option(help="Shuffles documents, or seeds random choices.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a mask that is there.")] = False,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Find the core of a model and save it as a mask.

    An interrupted search goes on at the next language: its state lies in OUTPUT.partial until the mask is saved.

    Examples:
    - `langcore find my-model -o my-core --fraction 0.03`
    - `langcore find my-model -o my-core --data texts/ --languages ar,es,ru,zh,ko,vi --max-tokens 100000`
    """
    if output.exists() and not overwrite and (not output.is_dir() or any(output.iterdir())):
        raise ArtifactExistsError(f"{str(output)!r} exists and is not empty. Name a new folder or pass --overwrite.")
    corpora = loading.load_corpora(data, languages) if method == "taylor" else None
    batch = loading.number_or_auto(batch_size)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.importance import compute_core_mask

    state = output.with_name(f"{output.name}.partial")
    finished = len(list(state.glob("importance-*.safetensors"))) if state.is_dir() else 0
    if finished:
        print(f"resuming: {finished} finished languages in {state}", file=sys.stderr)
    mask = compute_core_mask(
        lm,
        tokenizer,
        corpora,
        method=method,  # type: ignore[arg-type]
        fraction=fraction,
        which=which,  # type: ignore[arg-type]
        block_size=block_size,
        batch_size=batch,
        max_tokens=max_tokens,
        seed=seed,
        resume_dir=state if corpora else None,
        progress=not quiet,
    )
    mask.save_pretrained(output, overwrite=overwrite)
    shutil.rmtree(state, ignore_errors=True)
    facts = {"output": str(output), "digest": mask.digest(), "count": mask.count(), "density": mask.density()}
    loading.show(facts, as_json=as_json, rendered=f"{mask!r}\nsaved in {output}")
