"""Lossless compression with a language model: `compress` and `decompress`, of bytes, texts and files of any size."""

from __future__ import annotations

import hashlib
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from torch import nn
from tqdm.auto import tqdm

from hf_langcore.compression import container
from hf_langcore.compression.arithmetic import Way
from hf_langcore.compression.blocks import BlockCoder
from hf_langcore.compression.header import BYTES, TEXT, checked_way, require_whole, same_threads, way_for
from hf_langcore.compression.identity import machine_facts, model_digest, tokenizer_digest, usable_vocabulary
from hf_langcore.compression.streams import opened, read_blocks, write_to
from hf_langcore.data import DEFAULT_BLOCK_SIZE
from hf_langcore.errors import InputError

DEFAULT_STREAMS = 64
DEFAULT_BLOCK_BYTES = 1 << 18

_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Sizes:
    """What went in and what came out, in bytes.

    Attributes:
        original: Bytes of the original.
        compressed: Bytes of the compressed data, header and checksums included.
    """

    original: int
    compressed: int


def compress(
    model: nn.Module,
    tokenizer: Any,
    data: bytes | str,
    *,
    context: int = DEFAULT_BLOCK_SIZE,
    chunk: int | None = None,
    streams: int = DEFAULT_STREAMS,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
    bos_token_id: int | None = None,
    progress: bool = False,
) -> bytes:
    """Compress bytes or text, losslessly, by arithmetic coding with the model's next-token probabilities.

    The text is cut into rows that are coded side by side, one token of each per forward pass. Whatever the tokenizer does not give
    back exactly is kept as bytes, so that any input comes back identical.

    Args:
        model: A causal LM, as it is now (adapters and open edits count).
        tokenizer: Its tokenizer, with `decode`.
        data: Any bytes, or any text.
        context: Positions that the model looks at, the start token included; at most the model's context. Longer rows go on with the
            last half of it.
        chunk: Most tokens of a row; `context - 1` if None, so that no row outgrows the context. Longer rows compress better and take
            longer.
        streams: Most rows side by side: more are faster and need more memory.
        block_bytes: Bytes of the input that are taken together; rows do not reach beyond.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        progress: Show a progress bar.

    Returns:
        The compressed data. Only the same model, computing in the same way, can decompress it: same device kind, dtype, number of
        threads, and versions of torch and transformers. `decompress` refuses rather than give wrong text.

    Raises:
        InputError: An option is out of range.
        NonFiniteError: The model gives NaN or infinite logits.

    Example:
        >>> blob = compress(model, tokenizer, "A text.")  # doctest: +SKIP
        >>> decompress(model, tokenizer, blob)  # doctest: +SKIP
        'A text.'
    """
    kind = TEXT if isinstance(data, str) else BYTES
    whole = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    target = io.BytesIO()
    way = way_for(model, tokenizer, context, chunk, streams, bos_token_id)
    _compress(model, tokenizer, io.BytesIO(whole), target, way, block_bytes=block_bytes, kind=kind, progress=progress)
    return target.getvalue()


def decompress(
    model: nn.Module, tokenizer: Any, blob: bytes, *, max_bytes: int | None = _MOST_BYTES, progress: bool = False
) -> bytes | str:
    """The reverse of `compress`.

    Args:
        model: The model that compressed it.
        tokenizer: Its tokenizer.
        blob: What `compress` returned.
        max_bytes: Refuse to make more than this; None for no limit.
        progress: Show a progress bar.

    Returns:
        Text where text was compressed, else bytes.

    Raises:
        InputError: The data is damaged, was made with another model or tokenizer, or is larger than `max_bytes`.
    """
    target = io.BytesIO()
    kind = _decompress(model, tokenizer, io.BytesIO(bytes(blob)), target, max_bytes=max_bytes, progress=progress)
    data = target.getvalue()
    if kind == BYTES:
        return data
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise container.damaged("it should hold text and holds other bytes") from error


def compress_file(
    model: nn.Module,
    tokenizer: Any,
    source: str | Path | BinaryIO,
    target: str | Path | BinaryIO,
    *,
    context: int = DEFAULT_BLOCK_SIZE,
    chunk: int | None = None,
    streams: int = DEFAULT_STREAMS,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
    bos_token_id: int | None = None,
    progress: bool = False,
) -> Sizes:
    """Compress a file block by block, never holding more than a block of it.

    Args:
        model: A causal LM, as it is now.
        tokenizer: Its tokenizer, with `decode`.
        source: Path, or a file opened for reading bytes.
        target: Path, which is replaced in one step when everything is written, or a file opened for writing bytes.
        context: As in `compress`, like all that follow.
        chunk: Most tokens of a row.
        streams: Most rows side by side.
        block_bytes: Bytes that are taken together, and held.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        progress: Show a progress bar.

    Raises:
        InputError: An option is out of range, or there is no such file.
    """
    way = way_for(model, tokenizer, context, chunk, streams, bos_token_id)
    sizes: list[Sizes] = []
    with opened(source) as file_in:

        def write(file: BinaryIO) -> None:
            made = _compress(model, tokenizer, file_in, file, way, block_bytes=block_bytes, progress=progress)
            sizes.append(made)

        write_to(target, write)
    return sizes[0]


def decompress_file(
    model: nn.Module,
    tokenizer: Any,
    source: str | Path | BinaryIO,
    target: str | Path | BinaryIO,
    *,
    max_bytes: int | None = None,
    progress: bool = False,
) -> None:
    """The reverse of `compress_file`, block by block.

    A path appears only when all of it has proven right. A file object has got each block as soon as that one had; should a
    later one be damaged, an error says so.

    Raises:
        InputError: As in `decompress`, or there is no such file.
    """
    with opened(source) as file_in:

        def write(file: BinaryIO) -> None:
            _decompress(model, tokenizer, file_in, file, max_bytes=max_bytes, progress=progress)

        write_to(target, write)


def _compress(
    model: nn.Module,
    tokenizer: Any,
    source: BinaryIO,
    target: BinaryIO,
    way: Way,
    *,
    block_bytes: int,
    progress: bool,
    kind: str = BYTES,
) -> Sizes:
    require_whole("block_bytes", block_bytes, 16, container.LARGEST_BLOCK)
    digest, original = hashlib.sha256(), 0
    header = {
        "kind": kind,
        "model": model_digest(model),
        "tokenizer": tokenizer_digest(tokenizer),
        "way": asdict(way),
        "facts": machine_facts(model),
    }
    written = container.write_header(target, header)
    with tqdm(unit="tok", desc="compress", disable=not progress) as bar:
        coder = BlockCoder(model, tokenizer, way, usable_vocabulary(model), bar.update)
        for data in read_blocks(source, block_bytes):
            digest.update(data)
            original += len(data)
            written += container.write_block(target, coder.encode(data))
    written += container.write_end(target, container.End(original, digest.digest()))
    return Sizes(original, written)


def _decompress(
    model: nn.Module, tokenizer: Any, source: BinaryIO, target: BinaryIO, *, max_bytes: int | None, progress: bool
) -> str:
    """Decompress into `target`; returns the kind of data."""
    header = container.read_header(source)
    way = checked_way(header, model, tokenizer)
    digest, size = hashlib.sha256(), 0
    with same_threads(header["facts"]), tqdm(unit="tok", desc="decompress", disable=not progress) as bar:
        coder = BlockCoder(model, tokenizer, way, usable_vocabulary(model), bar.update)
        while isinstance(part := container.read_part(source), bytes):
            data = coder.decode(part)
            digest.update(data)
            size += len(data)
            if max_bytes is not None and size > max_bytes:
                raise InputError(
                    f"The data decompresses to more than max_bytes={max_bytes:,} bytes. Pass a larger limit if that is expected."
                )
            target.write(data)
    if (size, digest.digest()) != (part.size, part.sha256):
        raise container.damaged("the checksum of the whole is another")
    return str(header["kind"])
