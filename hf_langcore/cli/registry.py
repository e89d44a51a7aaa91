"""`langcore registry`: what is known of a model, and whether it holds here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_langcore.cli import loading

if TYPE_CHECKING:
    from hf_langcore.registry import Entry

app = typer.Typer(
    help="Known critical coordinates of language models, with their sources, and whether they hold on your machine.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

OwnFile = Annotated[
    Path | None,
    typer.Option("--registry", help="File of your own coordinates; registry.json in $HF_LANGCORE_CACHE if not given."),
]


@app.command("list")
def list_(
    model_id: Annotated[str | None, typer.Argument(help="Hub id or bare name; all models if not given.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="super_weight, massive_activation, norm_weight, dimension or note.")
    ] = None,
    registry_file: OwnFile = None,
    as_json: loading.AsJson = False,
) -> None:
    """Show what is known: of one model every coordinate, without a model how many of each.

    Example: `langcore registry list meta-llama/Llama-2-13b-hf`
    """
    from hf_langcore import registry

    if model_id is None:
        found = [entry for entry in registry.entries(path=registry_file) if kind in {None, entry.kind}]
    else:
        found = registry.lookup(model_id, kind=kind, path=registry_file)  # type: ignore[arg-type]
    rendered: Any = _overview(found) if model_id is None else _coordinates(found, model_id)
    loading.show([entry.to_dict() for entry in found], as_json=as_json, rendered=rendered)


@app.command("verify")
def verify(
    model: loading.Model,
    data: loading.Data = loading.MINI,
    model_id: Annotated[
        str | None,
        typer.Option(help="What the model is called in the registry, where its folder is called otherwise."),
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind of entries.")] = None,
    controls: Annotated[int, typer.Option(min=0, help="Random controls of each edit.")] = 2,
    explodes_at: Annotated[
        float, typer.Option(help="Ratio of perplexities from which an edit makes it explode.")
    ] = 2.0,
    languages: loading.Languages = None,
    max_tokens: loading.MaxTokens = 4096,
    block_size: loading.BlockSize = 512,
    batch_size: loading.BatchSize = "auto",
    seed: Annotated[int | None, typer.Option(help="Of the controls, the intervals and the order of texts.")] = None,
    registry_file: OwnFile = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the results as JSON.")] = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Measure every known coordinate of a model and say whether it holds here.

    The model's files are not changed. An entry that does not hold is a result, not a failure: the exit code is 0.

    Example: `langcore registry verify mistralai/Mistral-7B-v0.1 --data texts --block-size 2048 --output verified.json`
    """
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    from hf_langcore import registry

    name = model_id or (str(Path(model).resolve()) if Path(model).is_dir() else model)
    entries = registry.lookup(name, kind=kind, path=registry_file) if kind else None  # type: ignore[arg-type]
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    found = registry.verify(
        lm,
        tokenizer,
        corpora,
        model_id=name,
        entries=entries,
        path=registry_file,
        block_size=block_size,
        batch_size=batch,
        max_tokens=max_tokens,
        seed=seed,
        controls=controls,
        explodes_at=explodes_at,
        progress=not quiet,
    )
    if output is not None:
        found.to_json(output)
    loading.show(found.to_dict(), as_json=as_json, rendered=found)


def _overview(found: list[Entry]) -> Any:
    from rich.table import Table

    models: dict[str, list[Entry]] = {}
    for entry in found:
        models.setdefault(entry.model_id, []).append(entry)
    kinds = ("super_weight", "norm_weight", "dimension", "massive_activation", "note")
    table = Table(title=f"{len(found)} entries on {len(models)} models", title_justify="left")
    table.add_column("model", no_wrap=True)
    for column in ("super weights", "norm weights", "rows", "activations", "notes", "your own"):
        table.add_column(column, justify="right")
    for model in sorted(models, key=str.casefold):
        own = [entry for entry in models[model] if entry.is_users]
        published = [entry for entry in models[model] if not entry.is_users]
        counts = [sum(entry.kind == kind for entry in published) for kind in kinds]
        table.add_row(model, *(str(count) if count else "-" for count in (*counts, len(own))))
    return table


def _coordinates(found: list[Entry], model_id: str) -> Any:
    from rich.table import Table
    from rich.text import Text

    if not found:
        return (
            f"Nothing is known of {model_id!r}. `langcore registry list` shows the models that something is known of."
        )
    table = Table(title=Text(model_id), title_justify="left")
    for column in ("coordinate", "operation", "expected", "perplexity", "status", "source"):
        table.add_column(column, overflow="fold")
    for entry in found:
        value = "" if entry.value is None else f" {entry.value:g}"
        place = entry.note or "-" if entry.kind == "note" else entry.coordinate()
        label = "your own" if entry.is_users else entry.status.replace("_", " ")
        operation = f"{entry.operation or '-'}{value}"
        table.add_row(Text(place), operation, entry.expected, _effect(entry), label, Text(entry.source))
    return table


def _effect(entry: Entry) -> str:
    effect = entry.effect
    if effect is None or effect.ratio is None:
        return "-"
    together = " jointly" if effect.jointly else ""
    if effect.base is None or effect.after is None:
        return f"x{effect.ratio:.4g}{together}"
    return f"{effect.base:.4g} -> {effect.after:.5g}{together}"
