"""`langcore pull`: fetch a core mask from the Hub, or list those for a model and choose one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import InputError

if TYPE_CHECKING:
    from hf_langcore.hub.search import MaskListing


def pull(
    repo_id: Annotated[str | None, typer.Argument(help="OWNER/NAME of a core mask.")] = None,
    base: Annotated[
        str | None, typer.Option(help="List the masks for this model (OWNER/NAME) instead, and choose one.")
    ] = None,
    choose: Annotated[
        int | None, typer.Option(min=1, help="With --base: pull the mask of this number without asking.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the mask; the last part of its name if not given."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the mask.")] = None,
    author: Annotated[str | None, typer.Option(help="With --base: only masks of this user or organisation.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="With --base: list at most so many.")] = 20,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a mask that is there.")] = False,
    as_json: loading.AsJson = False,
) -> None:
    """Download a core mask, check it, and save it in a folder.

    Examples:
    - `langcore pull me/my-core -o my-core`
    - `langcore pull --base meta-llama/Llama-2-7b-hf`
    - `langcore pull --base meta-llama/Llama-2-7b-hf --choose 1 -o my-core`
    """
    if (repo_id is None) == (base is None):
        raise typer.BadParameter("name a repository, or a model with --base; one of the two", param_hint="REPO_ID")
    if repo_id is not None and "@" in repo_id:
        raise typer.BadParameter("has no '@': name a branch, tag or commit with --revision", param_hint="REPO_ID")
    if base is None and choose is not None:
        raise typer.BadParameter("belongs to --base", param_hint="--choose")
    if base is not None:
        found = _listed(base, author, limit)
        chosen = _chosen(found, choose, as_json=as_json)
        if chosen is None:
            loading.show([_facts(one) for one in found], as_json=as_json, rendered=_after(found, base))
            return
        repo_id, revision = chosen.repo_id, revision or chosen.revision
    assert repo_id is not None  # noqa: S101 one of the two
    _save(repo_id, revision, output or Path(repo_id.rsplit("/", 1)[-1]), overwrite=overwrite, as_json=as_json)


def _listed(base: str, author: str | None, limit: int) -> list[MaskListing]:
    from hf_langcore.hub.search import list_core_masks

    return list_core_masks(base, author=author, limit=limit)


def _chosen(found: list[MaskListing], choose: int | None, *, as_json: bool) -> MaskListing | None:
    """The mask of the given number, or the one that somebody at a terminal names; None to list only."""
    if choose is not None:
        if choose > len(found):
            raise InputError(f"--choose {choose}: there are {len(found)} masks. Leave --choose out to see them.")
        return found[choose - 1]
    if as_json or not found or not _is_terminal():
        return None
    loading.show(None, as_json=False, rendered=_table(found))
    answer = typer.prompt("Number of the mask to pull, or Enter for none", default="", show_default=False).strip()
    if not answer:
        return None
    if not answer.isdecimal() or not 1 <= int(answer) <= len(found):
        raise InputError(f"{answer!r} is none of the numbers 1 to {len(found)}.")
    return found[int(answer) - 1]


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _save(repo_id: str, revision: str | None, output: Path, *, overwrite: bool, as_json: bool) -> None:
    from hf_langcore.masks import CoreMask

    with loading.only_json(as_json=as_json):
        mask = CoreMask.from_pretrained(repo_id, revision=revision)
        mask.save_pretrained(output, overwrite=overwrite)
    source, origin = mask.provenance, mask.origin
    facts = {
        "output": str(output),
        "repo_id": repo_id,
        "revision": origin.revision if origin else None,
        "digest": mask.digest(),
        "base_model": source.base_model,
        "base_revision": source.base_revision,
        "count": mask.count(),
        "numel": mask.numel(),
    }
    at = f" at {source.base_revision}" if source.base_revision else ""
    text = f"saved in {output}: {mask!r}\nfrom {origin}\nfound on {source.base_model}{at}"
    loading.show(facts, as_json=as_json, rendered=text)


def _facts(one: MaskListing) -> dict[str, Any]:
    return {**asdict(one), "updated": one.updated.isoformat() if one.updated else None}


def _after(found: list[MaskListing], base: str) -> Any:
    """What is printed when nothing is pulled."""
    if not found:
        return (
            f"No core mask for {base} has been published (searched for the tag core-mask and base_model {base}). Find one with "
            "`langcore find` and share it with `langcore push`."
        )
    from rich.console import Group

    return Group(
        _table(found), f"Pull one: langcore pull --base {base} --choose 1, or langcore pull {found[0].repo_id}"
    )


def _table(found: list[MaskListing]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    title = f"core masks for {found[0].base_model}"
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("", "repository", "method", "share", "languages", "base", "pulls"):
        justify: Any = "right" if column in {"", "share", "pulls"} else "left"
        is_long = column in {"repository", "languages"}
        table.add_column(
            column, justify=justify, no_wrap=not is_long, overflow="fold", min_width=9 if is_long else None
        )
    for number, one in enumerate(found, start=1):
        table.add_row(
            str(number),
            f"{one.repo_id}{' (gated)' if one.gated else ''}{' (private)' if one.private else ''}",
            one.method or "?",
            f"{100 * one.fraction:g} %" if one.fraction is not None else "?",
            " ".join(one.languages) or "?",
            (one.base_revision or "?")[:7],
            f"{one.downloads:,}",
        )
    return table
