"""`langcore merge`: the core of one checkpoint and the complement of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_langcore.cli import loading


def merge(
    core_from: Annotated[str, typer.Option(help="Folder or Hub id of the model whose core is kept.")],
    complement_from: Annotated[str, typer.Option(help="Folder or Hub id of the model whose other weights are kept.")],
    core_mask: Annotated[str, typer.Option(help="Folder or Hub id of a core mask.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the merged model.")],
    core_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of --core-from on the Hub.")] = None,
    complement_revision: Annotated[str | None, typer.Option(help="The same of --complement-from.")] = None,
    core_mask_revision: loading.MaskRevision = None,
    max_shard_size: Annotated[str, typer.Option(help="Largest size of one file of weights.")] = "5GB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
    base_check: loading.BaseCheck = "error",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run model code that lies beside the checkpoints.")
    ] = False,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Write a model with the core of one checkpoint and all other weights of another, bit for bit.

    Nothing is loaded as a whole, so that models far larger than the memory can be merged. Tokenizer and configs come
    from --complement-from.

    Examples:
    - `langcore merge --core-from base --complement-from tuned --core-mask my-core -o reverted`
    - `langcore merge --core-from tuned --complement-from base --core-mask my-core -o transplanted`
    """
    loading.require_output(output, folder=True, overwrite=overwrite)
    from hf_langcore.editing.region_merge import merge_regions
    from hf_langcore.masks import CoreMask

    mask = CoreMask.from_pretrained(core_mask, revision=core_mask_revision)
    merge_regions(
        core_from,
        complement_from,
        mask,
        output,
        core_revision=core_revision,
        complement_revision=complement_revision,
        base_check=base_check,
        max_shard_size=max_shard_size,
        overwrite=overwrite,
        trust_remote_code=trust_remote_code,
        progress=not quiet,
    )
    facts = {
        "output": str(output),
        "core_from": core_from,
        "complement_from": complement_from,
        "core_weights": mask.count(),
        "core_mask": mask.digest(),
    }
    text = f"saved in {output}: {mask.count():,} core weights of {core_from}, everything else of {complement_from}"
    loading.show(facts, as_json=as_json, rendered=text)
