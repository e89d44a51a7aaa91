"""`langcore demo`: the main job on the built-in corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_langcore.cli import loading


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the mask and the results.")] = Path(
        "demo-out"
    ),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
    quiet: loading.Quiet = False,
) -> None:
    """Train a tiny model, find its core, damage it, scan it, fine-tune it, and compare. No network is needed.

    Example: `langcore demo -o demo-out`
    """
    loading.require_output(output, folder=True, overwrite=overwrite)
    from rich.console import Console

    from hf_langcore.recipes.demo import run_demo

    run_demo(output, overwrite=overwrite, tell=Console().print, progress=not quiet)
