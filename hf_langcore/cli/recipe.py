"""`langcore recipe`: the experiments of the paper, the talk and the language lab, one by one or all, resumable."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading

GROUPS = ("paper", "lab")


def recipe(
    name: Annotated[
        str | None, typer.Argument(help="Name of an experiment; 'paper' or 'lab' for all of a kind.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Folder or Hub id of a causal language model.")] = None,
    data: Annotated[
        str,
        typer.Option(
            help="Folder with `train` and `test` folders of one file per language, or one such folder; or 'mini'."
        ),
    ] = loading.MINI,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the run; a later call goes on there.")
    ] = Path("recipe-out"),
    languages: loading.Languages = None,
    core_languages: Annotated[
        str | None, typer.Option(help="Where the core is looked for; the paper's six if there are texts for them.")
    ] = None,
    fraction: Annotated[float, typer.Option(help="Share of each tensor that the core is.")] = 0.03,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A size: samples=0,200,400 or, with 'paper' and 'lab', recovery.samples=0,200. Repeatable."
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="With 'paper' and 'lab': these experiments only, separated by commas.")
    ] = None,
    treebanks: Annotated[
        Path | None, typer.Option(help="Folder of CoNLL-U files, one per language, for experiments on syntax.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Folder or Hub id of an encoder that is probed beside the model.")
    ] = None,
    block_size: loading.BlockSize = 128,
    core_tokens: Annotated[int | None, typer.Option(min=3, help="Tokens per language for the importance.")] = None,
    test_tokens: Annotated[int, typer.Option(min=2, help="Scored tokens per language and condition.")] = 1024,
    batch_size: loading.BatchSize = "auto",
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    dtype: loading.Dtype = "float32",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Run an experiment on a model and texts of yours; without a name, list them.

    What has been measured is kept in the output folder: the same command goes on where it was stopped. The report is made
    with `langcore report OUTPUT`.

    Example: `langcore recipe paper --model my-model --data texts --output out --set recovery.samples=0,500,1000`
    """
    from hf_langcore.recipes.bench.catalogue import RECIPES

    if name is None:
        listed = {one.name: {"title": one.title, "sizes": one.sizes()} for one in RECIPES.values()}
        loading.show(listed, as_json=as_json, rendered=_list())
        return
    if model is None:
        raise typer.BadParameter("name the model", param_hint="--model")
    chosen = _chosen(name, only)
    sizes = _sizes(name, set_ or [])
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output, folder=True, overwrite=True)
    from hf_langcore.probing.treebanks import load_treebanks
    from hf_langcore.recipes.bench.progress import Progress
    from hf_langcore.recipes.bench.runner import run_recipes
    from hf_langcore.recipes.bench.texts import load_texts
    from hf_langcore.recipes.bench.workbench import Bench, BenchSettings

    texts = load_texts(data, loading.codes(languages))
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    settings = BenchSettings(
        core_languages=tuple(loading.codes(core_languages) or ()) or None,
        fraction=fraction,
        block_size=block_size,
        core_tokens=core_tokens,
        test_tokens=test_tokens,
        batch_size=batch,
        seed=seed,
    )
    progress = Progress({one: RECIPES[one].cost for one in chosen}, is_shown=not quiet)
    bench = Bench(
        *(lm, tokenizer, texts),
        output=output,
        settings=settings,
        progress=progress,
        treebanks=None if treebanks is None else load_treebanks(treebanks),
        encoder=None if encoder is None else loading.load_encoder(encoder, device=device),
    )
    with loading.only_json(as_json=as_json):
        run = run_recipes(bench, sizes=sizes, only=chosen, tell=lambda line: print(line, file=sys.stderr))
    found = {"output": str(output), "sections": [one.to_dict() for one in run.sections], "failed": dict(run.failed)}
    loading.show(found, as_json=as_json, rendered=_rendered(run, output))
    if run.failed:
        raise typer.Exit(1)


def _chosen(name: str, only: str | None) -> list[str]:
    from hf_langcore.recipes.bench.catalogue import RECIPES

    if only is not None and name not in GROUPS:
        raise typer.BadParameter(f"goes with {' and '.join(GROUPS)} only", param_hint="--only")
    members = [one.name for one in RECIPES.values() if one.group == name]
    names = (loading.codes(only) or members) if name in GROUPS else [name]
    known = members if name in GROUPS else list(RECIPES)
    for one in names:
        if one not in known:
            raise typer.BadParameter(f"there is no recipe {one!r}; there are {', '.join(known)}, {', '.join(GROUPS)}")
    return names


def _sizes(name: str, given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The values of --set, each of the type that the size has in the recipe."""
    from hf_langcore.recipes.bench.catalogue import RECIPES, checked_sizes

    sizes: dict[str, dict[str, Any]] = {}
    for one in given:
        key, equals, value = one.partition("=")
        recipe_name, dot, size = key.partition(".") if name in GROUPS else (name, ".", key)
        if not equals or not dot or recipe_name not in RECIPES:
            wanted = "recipe.size=value" if name in GROUPS else "size=value"
            raise typer.BadParameter(f"expected {wanted}, got {one!r}", param_hint="--set")
        known = RECIPES[recipe_name].sizes()
        checked_sizes(RECIPES[recipe_name], {size: value})
        sizes.setdefault(recipe_name, {})[size] = _parsed(value, known[size], one)
    return sizes


def _parsed(value: str, default: Any, given: str) -> Any:
    """A value of the kind that the default is of; a list for a tuple, with its first entry's kind."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[value.lower()]
        if isinstance(default, tuple):
            parts = [part.strip() for part in value.split(",") if part.strip()]
            return tuple(_parsed(part, default[0] if default else "", given) for part in parts)
        if isinstance(default, int):
            return int(value)
        return float(value) if isinstance(default, float) else _number_or_word(value)
    except (ValueError, KeyError) as error:
        raise typer.BadParameter(f"{given!r} is no value like {default!r}", param_hint="--set") from error


def _number_or_word(value: str) -> Any:
    """A value of a size that has none by default; several are separated by commas."""
    if "," in value:
        return tuple(_number_or_word(part.strip()) for part in value.split(",") if part.strip())
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return None if value.lower() == "none" else value


def _list() -> Any:
    from rich.table import Table

    from hf_langcore.recipes.bench.catalogue import RECIPES

    table = Table(title="Experiments", title_justify="left")
    for column in ("name", "question", "sizes (--set)"):
        table.add_column(column)
    for one in RECIPES.values():
        table.add_row(one.name, one.title, ", ".join(one.sizes()))
    return table


def _rendered(run: Any, output: Path) -> Any:
    from rich.console import Group

    from hf_langcore.report.console import render_section

    lines = [f"{name} was not run: {reason}" for name, reason in run.failed.items()]
    if run.sections:
        count = f"{len(run.sections)} of {len(run.sections) + len(run.failed)} experiments are in {output}"
        lines.append(f"{count}; `langcore report {output} --output {output}-report` makes a page of them.")
    return Group(*(render_section(one) for one in run.sections), *lines)
