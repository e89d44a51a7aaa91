"""`langcore find`: find the core of a model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import InputError

_FINISHED = "importance-*.safetensors"
_INTERRUPTED = 130  # 128 + SIGINT, as shells count


def _fraction(value: float) -> float:
    if not 0 < value < 1:
        raise typer.BadParameter(f"must lie strictly between 0 and 1, got {value:g}")
    return value


def find(
    model: loading.Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the mask.")],
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    fraction: Annotated[float, typer.Option(help="Share of each tensor, between 0 and 1.", callback=_fraction)] = 0.01,
    method: Annotated[
        Literal["taylor", "taylor_abs", "fisher", "wanda", "magnitude", "random"],
        typer.Option(help="How weights are scored; magnitude and random read no texts."),
    ] = "taylor",
    which: Annotated[
        Literal["top", "bottom", "random"], typer.Option(help="The core, or one of the controls.")
    ] = "top",
    granularity: Annotated[
        Literal["weights", "rows", "columns", "heads", "layers"],
        typer.Option(
            help="What is chosen as a whole; the fraction is of rows or columns of a tensor, of all heads or layers."
        ),
    ] = "weights",
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
    - `langcore find my-model -o my-columns --method wanda --granularity columns --fraction 0.5 --data texts/`
    - `langcore find my-model -o my-core --data texts/ --languages ar,es,ru,zh,ko,vi --max-tokens 100000`
    """
    reads_texts = method not in {"magnitude", "random"}
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output, folder=True, overwrite=overwrite)
    state = _state_folder(output) if reads_texts else None
    corpora = loading.load_corpora(data, languages) if reads_texts else None
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.importance import compute_core_mask

    with _resumable(state):
        mask = compute_core_mask(
            lm,
            tokenizer,
            corpora,
            method=method,
            fraction=fraction,
            which=which,
            granularity=granularity,
            block_size=block_size,
            batch_size=batch,
            max_tokens=max_tokens,
            seed=seed,
            resume_dir=state,
            progress=not quiet,
        )
        mask.save_pretrained(output, overwrite=overwrite)
    if state is not None:
        _clean(state)
    facts = {"output": str(output), "digest": mask.digest(), "count": mask.count(), "density": mask.density()}
    loading.show(facts, as_json=as_json, rendered=f"{mask!r}\nsaved in {output}")


def _state_folder(output: Path) -> Path:
    """OUTPUT.partial beside the output, whatever the output is called: `-o .` is the folder one stands in."""
    place = output.resolve()
    if not place.name:
        raise InputError(f"--output {str(output)!r} has nothing beside it for the state of the search. Name a folder.")
    state = place.with_name(f"{place.name}.partial")
    loading.require_output(state, folder=True, overwrite=True)
    return state


@contextmanager
def _resumable(state: Path | None) -> Iterator[None]:
    """Say what there is to go on from, and that there is when the search is interrupted."""
    finished = len(list(state.glob(_FINISHED))) if state is not None else 0
    if finished:
        print(f"resuming: {finished} finished languages in {state}", file=sys.stderr)
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted" + ("; run the same command again to resume" if state else ""), file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def _clean(state: Path) -> None:
    """Remove what the search has kept, and nothing else that may lie in its folder."""
    for path in state.glob(_FINISHED):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it is not empty: somebody else's files
        state.rmdir()
