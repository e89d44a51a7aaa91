"""`langcore align`: do languages arrange their syntactic relations alike, by layer?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hf_langcore.cli import loading


def align(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of an encoder (BERT) or a decoder (Llama).")],
    treebanks: Annotated[Path, typer.Option(help="Folder of CoNLL-U files, one per language: de.conllu, zh.conllu.")],
    languages: loading.Languages = None,
    layers: Annotated[str | None, typer.Option(help="Layers such as 0,3,6 (0: embeddings); all if not given.")] = None,
    max_sentences: Annotated[int, typer.Option(min=2, help="At most so many sentences per language.")] = 300,
    min_count: Annotated[
        int, typer.Option(min=2, help="Relations that a language has more seldom are left out.")
    ] = 10,
    draws: Annotated[int, typer.Option(min=8, help="Bootstrap draws over sentences.")] = 100,
    seeds: Annotated[int, typer.Option(min=0, help="Subsamples of the transport distance; 0 leaves it out.")] = 3,
    distance: Annotated[
        Literal["cosine", "euclidean"], typer.Option(help="Between the prototypes of two relations.")
    ] = "cosine",
    pooling: Annotated[
        Literal["mean", "first", "last"], typer.Option(help="How a word's tokens become one vector.")
    ] = "mean",
    batch_size: Annotated[int, typer.Option(min=1, help="Sentences per forward pass.")] = 16,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write everything as .json.")] = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Compare the relations of languages: likeness of their distances, rotation onto each other, transport distance.

    Example: `langcore align my-model --treebanks ud_pud/ --languages en,de,zh --output alignment.json`
    """
    numbers = loading.whole_numbers(layers, "--layers")
    loading.require_output(output)
    from hf_langcore.probing.alignment import AlignmentSettings, align_relations
    from hf_langcore.probing.treebanks import load_treebanks

    sentences = load_treebanks(treebanks, loading.codes(languages))
    settings = AlignmentSettings(
        max_sentences=max_sentences,
        min_count=min_count,
        draws=draws,
        seeds=seeds,
        distance=distance,
        pooling=pooling,
    )
    network, tokenizer = loading.load_text_model(model, dtype=dtype, device=device, revision=revision)
    found = align_relations(
        network,
        tokenizer,
        sentences,
        layers=numbers,
        settings=settings,
        batch_size=batch_size,
        progress=not quiet,
    )
    if output is not None:
        from hf_langcore.files import replace_json

        replace_json(output, found.to_dict())
    loading.show(found.to_dict(), as_json=as_json, rendered=found)
