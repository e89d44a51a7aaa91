"""`langcore inspect`: what a mask is and where it concentrates."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_langcore.cli import loading

if TYPE_CHECKING:
    from hf_langcore.masks import CoreMask


def inspect(
    core_mask: loading.MaskSource,
    limit: Annotated[int, typer.Option(min=0, help="So many dimensions.")] = 10,
    revision: loading.MaskRevision = None,
    as_json: loading.AsJson = False,
) -> None:
    """Show what a mask is, how it was made, and the rows and columns in which it concentrates.

    Example: `langcore inspect my-core --limit 20`
    """
    from hf_langcore.masks import CoreMask

    mask = CoreMask.from_pretrained(core_mask, revision=revision)
    provenance = mask.provenance.to_dict()
    provenance.pop("base_fingerprint", None)
    facts = {
        "digest": mask.digest(),
        "count": mask.count(),
        "numel": mask.numel(),
        "density": mask.density(),
        "tensors": len(mask),
        "provenance": provenance,
        "dimensions": [asdict(one) for one in mask.dimensions(limit=limit)],
    }
    loading.show(facts, as_json=as_json, rendered=_tables(mask, limit))


def _tables(mask: CoreMask, limit: int) -> Any:
    from rich.console import Group
    from rich.table import Table

    source = mask.provenance
    facts = Table(show_header=False, box=None, title=f"{mask!r}", title_justify="left", title_style="bold")
    facts.add_row("digest", mask.digest())
    facts.add_row("base model", str(source.base_model))
    facts.add_row("revision", str(source.base_revision))
    facts.add_row("tokens", ", ".join(f"{language} {count:,}" for language, count in source.tokens.items()) or "none")
    dimensions = Table(title="where it concentrates", title_justify="left")
    for column in ("parameter", "axis", "index", "in the core"):
        dimensions.add_column(column, justify="left" if column == "parameter" else "right")
    for one in mask.dimensions(limit=limit):
        dimensions.add_row(one.parameter, str(one.axis), str(one.index), f"{one.count} of {one.size}")
    return Group(facts, _by_role(mask), dimensions)


def _by_role(mask: CoreMask) -> Any:
    """Density by the last part of the names: which kinds of weights hold the core."""
    from rich.table import Table

    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name in mask:
        role = ".".join(part for part in name.split(".")[-3:] if not part.isdigit())
        counts[role][0] += mask.count(name)
        counts[role][1] += mask.packed(name).size
    table = Table(title="by kind of weight", title_justify="left")
    for column in ("weight", "core", "of", "share"):
        table.add_column(column, justify="left" if column == "weight" else "right")
    for role, (count, size) in counts.items():
        table.add_row(role, f"{count:,}", f"{size:,}", f"{100 * count / size:.2f} %")
    return table
