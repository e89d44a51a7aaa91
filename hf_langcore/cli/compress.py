"""`langcore compress`, `langcore decompress`, and `langcore compression`, which measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import ArtifactExistsError

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
Chunk = Annotated[
    int | None, typer.Option(min=1, help="Most tokens of a row; as many as the context holds if not given.")
]
Streams = Annotated[int, typer.Option(min=1, max=256, help="Most rows side by side.")]


def compress(
    model: loading.Model,
    file: Annotated[Path, typer.Argument(help="Any file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the compressed data.")],
    context: Annotated[int, typer.Option(min=3, help="Positions the model looks at; at most its context.")] = 512,
    chunk: Chunk = None,
    streams: Streams = 64,
    overwrite: Overwrite = False,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Compress a file losslessly with a model's next-token probabilities.

    Only the same model on the same kind of machine can decompress it. What the tokenizer does not give back is kept as bytes.

    Example: `langcore compress my-model book.txt -o book.lc`
    """
    _require_new(output, overwrite=overwrite)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.compression import compress_file

    sizes = compress_file(
        lm, tokenizer, file, output, context=context, chunk=chunk, streams=streams, progress=not quiet
    )
    facts = {"output": str(output), "original": sizes.original, "compressed": sizes.compressed}
    share = f", {100 * sizes.compressed / sizes.original:.1f} %" if sizes.original else ""
    text = f"{sizes.original:,} bytes -> {sizes.compressed:,}{share}; saved in {output}"
    loading.show(facts, as_json=as_json, rendered=text)


def decompress(
    model: loading.Model,
    file: Annotated[Path, typer.Argument(help="File that `langcore compress` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the original.")],
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Refuse to write more than this.")] = None,
    overwrite: Overwrite = False,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Give back the file that was compressed, byte for byte; refuse damaged data and other models.

    Example: `langcore decompress my-model book.lc -o book.txt`
    """
    _require_new(output, overwrite=overwrite)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.compression import decompress_file

    decompress_file(lm, tokenizer, file, output, max_bytes=max_bytes, progress=not quiet)
    size = output.stat().st_size
    facts = {"output": str(output), "original": size}
    loading.show(facts, as_json=as_json, rendered=f"{size:,} bytes, as they were compressed; saved in {output}")


def compression(
    model: loading.Model,
    data: loading.Data = loading.MINI,
    languages: loading.Languages = None,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Whole documents up to so many bytes per language.")
    ] = None,
    block_size: loading.BlockSize = 512,
    stride: Annotated[int | None, typer.Option(min=1, help="Tokens per further window; half a window.")] = None,
    batch_size: loading.BatchSize = "auto",
    round_trip: Annotated[
        bool, typer.Option("--round-trip", help="Also compress and decompress the texts really. Slow.")
    ] = False,
    chunk: Chunk = None,
    streams: Streams = 64,
    output: loading.ReportFile = None,
    dtype: loading.Dtype = "auto",
    device: loading.Device = None,
    revision: loading.Revision = None,
    as_json: loading.AsJson = False,
    quiet: loading.Quiet = False,
) -> None:
    """Measure bits per byte per language, beside gzip, zstd and xz.

    Example: `langcore compression my-model --data texts/ --languages en,zh --max-bytes 100000`
    """
    batch = loading.number_or_auto(batch_size)
    loading.require_output(output)
    corpora = loading.load_corpora(data, languages, start=loading.MINI_SENTENCES)
    lm, tokenizer = loading.load_model(model, dtype=dtype, device=device, revision=revision)
    from hf_langcore.compression import evaluate_compression

    report = evaluate_compression(
        lm,
        tokenizer,
        corpora,
        block_size=block_size,
        stride=stride,
        batch_size=batch,
        max_bytes=max_bytes,
        round_trip=round_trip,
        chunk=chunk,
        streams=streams,
        progress=not quiet,
    )
    loading.write_report(report, output)
    loading.show(report.to_dict(), as_json=as_json, rendered=report)


def _require_new(output: Path, *, overwrite: bool) -> None:
    loading.require_output(output)
    if output.exists() and not overwrite:
        raise ArtifactExistsError(f"{str(output)!r} exists. Name a new file or pass --overwrite.")
