"""`langcore import` and `langcore export`: masks in the formats of other projects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import InputError


def import_(
    source: Annotated[Path, typer.Argument(help="File or folder that somebody else wrote.")],
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the model that it was made for.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the core mask.")],
    format_: Annotated[
        Literal["auto", "lape", "shira", "sparse_diff", "tensors"],
        typer.Option("--format", help="What it is; 'auto' looks at the content."),
    ] = "auto",
    language: Annotated[
        str | None, typer.Option(help="lape: number or code of one language; all if not given.")
    ] = None,
    languages: Annotated[
        str | None, typer.Option(help="lape: codes in the order of the file, such as en,zh,fr,es,vi,id,ja.")
    ] = None,
    parts: Annotated[
        Literal["both", "rows", "columns"],
        typer.Option(help="lape: rows of the inputs, columns of the output, or both."),
    ] = "both",
    weights: Annotated[
        bool,
        typer.Option(help="Load the model's weights, so that the mask is pinned to them; else its config is enough."),
    ] = True,
    revision: loading.Revision = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another mask that is there.")] = False,
    as_json: loading.AsJson = False,
) -> None:
    """Make a core mask out of neuron lists, a SHiRA adapter, sparse differences or boolean tensors.

    No code of a file is run, and files that ask for more than data are refused.

    Examples:
    - `langcore import LLaMA-2-7B.neuron.pth meta-llama/Llama-2-7b-hf -o zh --languages en,zh,fr,es,vi,id,ja --language zh`
    - `langcore import my-shira-adapter my-model -o trained`
    - `langcore import masks.safetensors my-model -o core --no-weights`
    """
    loading.require_output(output, folder=True, overwrite=True)
    from hf_langcore.exchange import import_core_mask

    codes = [code.strip() for code in languages.split(",")] if languages is not None else None
    chosen = int(language) if language is not None and language.isdecimal() else language
    mask = import_core_mask(
        source,
        _model(model, revision, weights=weights),
        format=None if format_ == "auto" else format_,
        language=chosen,
        languages=codes,
        parts=("rows", "columns") if parts == "both" else (parts,),
    )
    mask.save_pretrained(output, overwrite=overwrite)
    facts = {
        "output": str(output),
        "source": str(source),
        "operation": mask.provenance.operation,
        "count": mask.count(),
        "numel": mask.numel(),
        "tensors": len(mask),
        "digest": mask.digest(),
    }
    loading.show(facts, as_json=as_json, rendered=f"saved in {output}: {mask!r}")


def export(
    core_mask: Annotated[Path, typer.Argument(help="Folder of a core mask.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    format_: Annotated[
        Literal["tensors", "quantizer", "mergekit"],
        typer.Option("--format", help="Boolean safetensors, ignore lists (JSON) or a merge configuration (YAML)."),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(help="Share of core weights from which a module or tensor counts; any core weight if not given."),
    ] = None,
    core_from: Annotated[
        str | None, typer.Option(help="mergekit: model whose core is kept; the mask's base model if not given.")
    ] = None,
    complement_from: Annotated[str | None, typer.Option(help="mergekit: model of which all else is taken.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: loading.AsJson = False,
) -> None:
    """Write a core mask for other projects: as boolean tensors, for quantisers or for mergekit.

    Quantisers and mergekit know whole modules and tensors only, so that less than the mask is left; the docs say what.

    Examples:
    - `langcore export my-core --format tensors -o core.safetensors`
    - `langcore export my-core --format quantizer --threshold 0.2 -o ignore.json`
    - `langcore export my-core --format mergekit --complement-from my-tuned --threshold 0.2 -o merge.yaml`
    """
    from hf_langcore.exchange import export_core_mask
    from hf_langcore.masks import CoreMask

    mask = CoreMask.from_pretrained(core_mask)
    export_core_mask(
        mask,
        output,
        format=format_,
        threshold=threshold,
        core_from=core_from,
        complement_from=complement_from,
        overwrite=overwrite,
    )
    facts = {
        "output": str(output),
        "format": format_,
        "bytes": output.stat().st_size,
        "core_weights": mask.count(),
        "core_mask": mask.digest(),
    }
    loading.show(facts, as_json=as_json, rendered=f"wrote {output}: {facts['bytes']:,} bytes, {mask!r}")


def _model(name: str, revision: str | None, *, weights: bool) -> Any:
    """The model, or one without values that has its names and shapes."""
    import torch
    from transformers import AutoConfig, logging

    from hf_langcore.auto import auto_class_of

    logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    try:
        config = AutoConfig.from_pretrained(name, revision=revision or "main")
        if weights:
            return auto_class_of(config).from_pretrained(name, dtype="auto", revision=revision or "main")
        with torch.device("meta"):
            return auto_class_of(config).from_config(config)
    except (OSError, ValueError) as error:
        raise InputError(
            f"Cannot load the model {name!r}: {error} Pass a folder written by save_pretrained, or a Hub id."
        ) from error
