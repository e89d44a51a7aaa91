"""`langcore probe`: what each layer says about relations and parts of speech, within and across languages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hf_langcore.cli import loading


def probe(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of an encoder (BERT) or a decoder (Llama).")],
    treebanks: Annotated[Path, typer.Option(help="Folder of CoNLL-U files, one per language: de.conllu, zh.conllu.")],
    train: Annotated[
        str | None,
        typer.Option(help="Languages to train on, together, separated by commas.", callback=loading._languages),
    ] = None,
    languages: loading.Languages = None,
    task: Annotated[
        Literal["relation", "upos"], typer.Option(help="Relation between two words, or part of speech.")
    ] = "relation",
    transfer: Annotated[
        bool,
        typer.Option("--transfer", help="Train on each language by itself and test on every one; without --train."),
    ] = False,
    shots: Annotated[
        str | None,
        typer.Option(help="Tag with so many sentences of each target, such as 0,10,100; with --task upos."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers such as 0,3,6 (0: embeddings); all if not given. One with --shots.")
    ] = None,
    pooling: Annotated[
        Literal["mean", "first", "last"], typer.Option(help="How a word's tokens become one vector.")
    ] = "mean",
    max_sentences: Annotated[int | None, typer.Option(min=2, help="At most so many sentences per language.")] = None,
    max_items: Annotated[int, typer.Option(min=1, help="Training items of one probe.")] = 4000,
    seeds: Annotated[int, typer.Option(min=1, help="How many splits and draws.")] = 3,
    control: Annotated[
        bool, typer.Option("--control", help="Also measure random labels of word types; twice the time.")
    ] = False,
    center: Annotated[
        bool, typer.Option("--center", help="Take each language's mean vector off its vectors first.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Sentences per forward pass.")] = 16,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write everything as .json.")] = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Train a linear probe on each layer in some languages and test it in others.

    Example: `langcore probe my-model --treebanks ud_pud/ --train en,de --task upos --output probes.json`
    """
    sources, numbers = loading.codes(train), loading.whole_numbers(layers, "--layers")
    counts = loading.whole_numbers(shots, "--shots")
    _require_fitting(sources, transfer=transfer, shots=counts, task=task, layers=numbers, control=control)
    loading.require_output(output)
    from hf_langcore.probing.runs import choose_languages
    from hf_langcore.probing.treebanks import load_treebanks

    targets = loading.codes(languages)
    sentences = load_treebanks(treebanks, None if targets is None else [*(sources or []), *targets])
    choose_languages(sentences, sources or [])
    network, tokenizer = loading.load_text_model(model, dtype=dtype, device=device, revision=revision)
    common = {
        "pooling": pooling,
        "max_sentences": max_sentences,
        "batch_size": batch_size,
        "seeds": range(seeds),
        "max_items": max_items,
        "center": center,
        "progress": not quiet,
    }
    if counts is not None:
        found = _tag(network, tokenizer, sentences, sources, targets, counts, numbers, common)
    else:
        found = _probe(
            network,
            tokenizer,
            sentences,
            sources,
            targets,
            {**common, "layers": numbers, "task": task, "control": control},
        )
    if output is not None:
        from hf_langcore.files import replace_json

        replace_json(output, found.to_dict())
    loading.show(found.to_dict(), as_json=as_json, rendered=found)


def _probe(
    model: Any,
    tokenizer: Any,
    sentences: dict[str, Any],
    sources: list[str] | None,
    targets: list[str] | None,
    options: dict[str, Any],
) -> Any:
    from hf_langcore.probing import probe_layers, transfer_matrix

    if sources is None:
        return transfer_matrix(model, tokenizer, sentences, languages=targets, **options)
    return probe_layers(model, tokenizer, sentences, train_languages=sources, test_languages=targets, **options)


def _tag(
    model: Any,
    tokenizer: Any,
    sentences: dict[str, Any],
    sources: list[str] | None,
    targets: list[str] | None,
    shots: list[int],
    layers: list[int] | None,
    options: dict[str, Any],
) -> Any:
    from hf_langcore.probing import tag_few_shot

    return tag_few_shot(
        model,
        tokenizer,
        sentences,
        train_languages=sources or [],
        target_languages=targets,
        shots=shots,
        layer=layers[0] if layers else None,
        **options,
    )


def _require_fitting(
    sources: list[str] | None,
    *,
    transfer: bool,
    shots: list[int] | None,
    task: str,
    layers: list[int] | None,
    control: bool,
) -> None:
    """Refuse options that contradict each other."""
    if transfer == (sources is not None):
        raise typer.BadParameter(
            "name the languages to train on, such as en,de, or pass --transfer", param_hint="--train"
        )
    if shots is not None and (transfer or task != "upos" or control or (layers is not None and len(layers) != 1)):
        raise typer.BadParameter(
            "tagging goes with --train and --task upos, at most one of --layers, and without --transfer and --control",
            param_hint="--shots",
        )
