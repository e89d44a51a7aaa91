"""`langcore report`: what experiments found, as one page and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_langcore.cli import loading


def report(
    source: Annotated[
        Path, typer.Argument(help="Folder of a run of `langcore recipe`, or a report.json or its folder.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for index.html, report.json and figures/.")],
    title: Annotated[str | None, typer.Option(help="Of the page; the report's own if not given.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is there.")] = False,
    as_json: loading.AsJson = False,
) -> None:
    """Make one page, with everything in it, and PNG figures out of what experiments found.

    Example: `langcore report my-run --output my-report`
    """
    loading.require_output(output, folder=True, overwrite=overwrite)
    from hf_langcore.recipes.bench.catalogue import RECIPES
    from hf_langcore.report.writing import read_report, write_report

    read = read_report(source, order=list(RECIPES))
    written = write_report(read.sections, output, title=title or read.title, facts=read.facts, overwrite=overwrite)
    facts = written.facts()
    megabytes = facts["bytes"] / 1e6
    names = ", ".join(section.name for section in read.sections)
    loading.show(
        {**facts, "sections": [section.name for section in read.sections]},
        as_json=as_json,
        rendered=f"{written.page}: {len(read.sections)} sections ({names}), {len(written.figures)} figures, {megabytes:.1f} MB",
    )
