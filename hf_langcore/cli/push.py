"""`langcore push`: put a mask, an adapter, a fine-tuned model or results on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_langcore.cli import loading


def push(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of a core mask, of an adapter or of a fine-tuned model, or a report (.json) of `langcore eval`."
        ),
    ],
    repo_id: Annotated[str, typer.Argument(help="OWNER/NAME, or NAME for your own; made if it is missing.")],
    base_model: Annotated[
        str | None, typer.Option(help="Repository of the base model, where it was loaded from a folder.")
    ] = None,
    base_revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the base model.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Report (.json) of `langcore perturb` or `langcore eval`, for a mask's card.")
    ] = None,
    core_mask: Annotated[
        str | None, typer.Option(help="With a report: folder or Hub id of the mask that was perturbed.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Repository of a data set whose text was used; can be repeated.")
    ] = None,
    figure: Annotated[
        list[str] | None,
        typer.Option(
            help="Picture for a mask's card, as FILE or FILE=CAPTION, such as those of `langcore report`. Repeatable."
        ),
    ] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="Of a mask; the base model's if not given.")
    ] = None,
    private: Annotated[bool | None, typer.Option("--private/--public", help="Of a repository that is made.")] = None,
    branch: Annotated[str | None, typer.Option(help="Branch to push to; made if it is missing.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    parent_commit: Annotated[
        str | None, typer.Option(help="Refuse if the branch is not at this commit any more.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="First line of the commit.")] = None,
    as_json: loading.AsJson = False,
) -> None:
    """Upload what a folder or a report holds, with its card, in one commit.

    Log in with `hf auth login`, or set HF_TOKEN.

    Examples:
    - `langcore push my-core me/my-core --results table.json --private`
    - `langcore push my-adapter me/my-adapter`
    - `langcore push table.json me/my-core --core-mask my-core --dataset facebook/flores`
    """
    from hf_langcore.hub.folders import Destination, push_anything

    to = Destination(
        repo_id=repo_id,
        private=private,
        revision=branch,
        create_pr=create_pr,
        parent_commit=parent_commit,
        commit_message=message,
    )
    with loading.only_json(as_json=as_json):
        pushed = push_anything(
            source,
            to,
            base_model=base_model,
            base_revision=base_revision,
            results=results,
            core_mask=core_mask,
            datasets=dataset or (),
            figures=_captioned(figure or []),
            license=license_,
        )
    loading.show(pushed.facts(), as_json=as_json, rendered=_said(pushed))


def _captioned(given: list[str]) -> dict[str | Path, str]:
    parted = [one.partition("=") for one in given]
    return {path: caption or Path(path).stem.replace("-", " ").replace("_", " ") for path, _, caption in parted}


def _said(pushed: Any) -> str:
    place = f"proposed as {pushed.pr_url}" if pushed.pr_url else f"{pushed.url}"
    return f"pushed {pushed.kind}: {place}\ncommit {pushed.commit}"
